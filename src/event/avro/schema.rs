//! Which Avro type stands for which type, and the texts of the schemas of a collection: its full
//! row, its image (a row whose fields may be unchanged, value-2), and its key.
//!
//! | type | Avro | |
//! |---|---|---|
//! | bool, int, float, text, bytes | the Avro type of that name | `driftless.bits` where Avro's is wider |
//! | decimal | string, `driftless-decimal` | exact; also `NaN`, `Infinity`, `-Infinity` |
//! | uuid | string, `uuid` | |
//! | date, time | `date`, `time-micros` | infinite dates: the least and greatest int |
//! | timestamp | `timestamp-micros`, `local-timestamp-micros` | infinite: the least and greatest long |
//! | time with zone, interval | the records `driftless.TimeTz`, `driftless.Interval` | |
//! | json | string, `driftless-json` | |
//! | array | array of `[null, item]` | |
//! | record | record | |
//! | nullable | `[null, T]`, in images every field `[null, driftless.Unchanged, T]` | |
//!
//! The reasons stand in `docs/decisions`. The texts carry all that `event::Schema` holds but its id,
//! in attributes that stock readers ignore; `parse` reads them back.

use crate::event::{Field, Schema, Type};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeSet;

/// The newest version of the row, image and key schemas; the one written here.
pub(super) const VERSION: u64 = 1;
/// Full name of what an unchanged field holds.
pub(super) const UNCHANGED: &str = "driftless.Unchanged";
/// Full name of a time with zone.
pub(super) const TIME_TZ: &str = "driftless.TimeTz";
/// Full name of an interval.
pub(super) const INTERVAL: &str = "driftless.Interval";

/// What a schema of a collection describes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Shape {
    /// A full row.
    Row,
    /// A row whose fields may be unchanged.
    Image,
    /// The key's fields.
    Key,
}

impl Shape {
    /// The namespace of the records of this shape.
    pub(super) const fn namespace(self) -> &'static str {
        match self {
            Shape::Row => "driftless.row",
            Shape::Image => "driftless.image",
            Shape::Key => "driftless.key",
        }
    }
}

/// The text of the full rows' schema.
pub(super) fn row_text(schema: &Schema) -> String {
    shape_json(schema, Shape::Row).to_string()
}

/// The schema of a collection in one of its shapes.
pub(super) fn shape_json(schema: &Schema, shape: Shape) -> Json {
    let mut writer = Writer { shape, records: BTreeSet::new(), defined: BTreeSet::new() };
    let name = writer.record_name(&avro_name(&schema.name));
    let mut out = Map::new();
    out.insert("type".into(), "record".into());
    out.insert("name".into(), name.as_str().into());
    out.insert("driftless.version".into(), VERSION.into());
    out.insert("driftless.collection".into(), (&*schema.name).into());
    let fields: Vec<&Field> = match shape {
        Shape::Key => schema.key_fields().collect(),
        Shape::Row | Shape::Image => {
            out.insert("driftless.key".into(), schema.key.iter().copied().collect());
            schema.fields.iter().collect()
        }
    };
    out.insert("fields".into(), writer.fields(&fields, shape, &name));
    Json::Object(out)
}

/// Writes one schema; Avro wants each named type defined once, at its first use.
struct Writer {
    shape: Shape,
    records: BTreeSet<String>,
    defined: BTreeSet<&'static str>,
}

impl Writer {
    fn fields(&mut self, fields: &[&Field], shape: Shape, within: &str) -> Json {
        let names = field_names(fields);
        let field = |(field, name): (&&Field, String)| {
            let ty = self.ty(&field.ty, &format!("{within}_{name}"));
            let mut out = Map::new();
            out.insert("name".into(), name.as_str().into());
            if name != *field.name {
                out.insert("driftless.name".into(), (&*field.name).into());
            }
            match shape {
                Shape::Key => out.insert("type".into(), ty),
                Shape::Row if !field.nullable => out.insert("type".into(), ty),
                Shape::Row => {
                    out.insert("type".into(), json!(["null", ty]));
                    out.insert("default".into(), Json::Null)
                }
                Shape::Image => {
                    if !field.nullable {
                        out.insert("driftless.nullable".into(), false.into());
                    }
                    let unchanged = self.once(UNCHANGED, || json!([]));
                    out.insert("type".into(), json!(["null", unchanged, ty]))
                }
            };
            Json::Object(out)
        };
        fields.iter().zip(names).map(field).collect()
    }

    fn ty(&mut self, ty: &Type, within: &str) -> Json {
        match ty {
            Type::Bool => "boolean".into(),
            Type::Int(bits) if *bits <= 32 => number("int", *bits, 32),
            Type::Int(bits) => number("long", *bits, 64),
            Type::Float(bits) if *bits <= 32 => number("float", *bits, 32),
            Type::Float(bits) => number("double", *bits, 64),
            Type::Decimal => json!({"type": "string", "logicalType": "driftless-decimal"}),
            Type::Text => "string".into(),
            Type::Bytes => "bytes".into(),
            Type::Uuid => json!({"type": "string", "logicalType": "uuid"}),
            Type::Date => json!({"type": "int", "logicalType": "date"}),
            Type::Time => json!({"type": "long", "logicalType": "time-micros"}),
            Type::TimeTz => self.once(TIME_TZ, || {
                json!([
                    {"name": "time", "type": {"type": "long", "logicalType": "time-micros"}},
                    {"name": "offset_s", "type": "int", "doc": "seconds east of UTC"},
                ])
            }),
            Type::Timestamp { zone: true } => json!({"type": "long", "logicalType": "timestamp-micros"}),
            Type::Timestamp { zone: false } => json!({"type": "long", "logicalType": "local-timestamp-micros"}),
            Type::Interval => self.once(INTERVAL, || {
                json!([
                    {"name": "months", "type": "int"},
                    {"name": "days", "type": "int"},
                    {"name": "micros", "type": "long"},
                ])
            }),
            Type::Json => json!({"type": "string", "logicalType": "driftless-json"}),
            Type::Array(item) => json!({"type": "array", "items": ["null", self.ty(item, within)]}),
            Type::Record(fields) => {
                let name = self.record_name(within);
                let fields: Vec<&Field> = fields.iter().collect();
                json!({"type": "record", "name": name, "fields": self.fields(&fields, Shape::Row, &name)})
            }
        }
    }

    /// A record of ours: its definition at its first use, its name later.
    fn once(&mut self, name: &'static str, fields: impl FnOnce() -> Json) -> Json {
        match self.defined.insert(name) {
            true => json!({"type": "record", "name": name, "fields": fields()}),
            false => name.into(),
        }
    }

    /// A name no record of this schema has yet, in the namespace of the shape.
    fn record_name(&mut self, wanted: &str) -> String {
        let space = self.shape.namespace();
        let wanted = wanted.strip_prefix(space).map_or(wanted, |rest| rest.trim_start_matches('.'));
        let name = unique(wanted, |name| !self.records.contains(name));
        self.records.insert(name.clone());
        format!("{space}.{name}")
    }
}

/// An Avro number, with its bits where they are not the ones Avro means.
fn number(name: &str, bits: u8, usual: u8) -> Json {
    if bits == usual { name.into() } else { json!({"type": name, "driftless.bits": bits}) }
}

/// Avro names of fields: the fields' own where Avro allows them, others bent so that none clash.
fn field_names(fields: &[&Field]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut names: Vec<Option<String>> = Vec::with_capacity(fields.len());
    for field in fields {
        let own = avro_name(&field.name);
        names.push((own == *field.name && taken.insert(own.clone())).then_some(own));
    }
    let bent = |(field, name): (&&Field, Option<String>)| {
        name.unwrap_or_else(|| {
            let name = unique(&avro_name(&field.name), |name| !taken.contains(name));
            taken.insert(name.clone());
            name
        })
    };
    fields.iter().zip(names).map(bent).collect()
}

/// `wanted`, or the first of `wanted_2`, `wanted_3`, … that is free.
fn unique(wanted: &str, free: impl Fn(&str) -> bool) -> String {
    if free(wanted) {
        return wanted.to_string();
    }
    (2u64..).map(|n| format!("{wanted}_{n}")).find(|name| free(name)).unwrap_or_default()
}

/// The nearest name Avro allows: letters, digits and `_`, no digit in front.
fn avro_name(name: &str) -> String {
    let mut out: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if out.chars().next().is_none_or(|c| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    out
}
