//! The same records as values of `apache_avro`, built by the names of their fields: the oracle that
//! the tests compare the hand-written bytes with.

#![expect(clippy::indexing_slicing, reason = "a test that is out of bounds has failed")]

use super::forms::Forms;
use crate::event::*;
use apache_avro::types::Value as Avro;
use bytes::Bytes;

fn long(number: u64) -> Avro {
    Avro::Long(number as i64)
}

fn null_or(value: Option<Avro>) -> Avro {
    match value {
        None => Avro::Union(0, Box::new(Avro::Null)),
        Some(value) => Avro::Union(1, Box::new(value)),
    }
}

fn record(fields: Vec<(&str, Avro)>) -> Avro {
    Avro::Record(fields.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
}

fn fixed(bytes: [u8; 16]) -> Avro {
    Avro::Fixed(16, bytes.to_vec())
}

fn symbol<T: PartialEq>(all: &[(T, &str)], value: &T) -> Avro {
    let at = all.iter().position(|(known, _)| known == value).unwrap();
    Avro::Enum(at as u32, all[at].1.to_string())
}

/// The Avro names of the fields of a record schema, as its text gives them.
fn names(json: &serde_json::Value) -> Vec<String> {
    json["fields"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap().to_string()).collect()
}

/// The definition of a nested record inside a field's or an item's type.
fn nested(json: &serde_json::Value) -> &serde_json::Value {
    match json {
        serde_json::Value::Array(branches) => nested(branches.last().unwrap()),
        json if json["type"] == "array" => nested(&json["items"]),
        json => json,
    }
}

fn value(ty: &Type, json: &serde_json::Value, value: &Value) -> Avro {
    match value {
        Value::Bool(b) => Avro::Boolean(*b),
        Value::Int(i) if matches!(ty, Type::Int(64)) => Avro::Long(*i),
        Value::Int(i) => Avro::Int(*i as i32),
        Value::Float32(x) => Avro::Float(*x),
        Value::Float64(x) => Avro::Double(*x),
        Value::Decimal(d) => Avro::String(d.to_string()),
        Value::Text(t) | Value::Json(t) => Avro::String(t.as_str().to_string()),
        Value::Bytes(b) => Avro::Bytes(b.to_vec()),
        Value::Uuid(u) => Avro::Uuid(uuid::Uuid::from_bytes(*u)),
        Value::Date(d) => Avro::Date(*d),
        Value::Time(t) => Avro::TimeMicros(*t),
        Value::TimeTz(t, offset) => record(vec![("time", Avro::TimeMicros(*t)), ("offset_s", Avro::Int(*offset))]),
        Value::Timestamp(t) if matches!(ty, Type::Timestamp { zone: true }) => Avro::TimestampMicros(*t),
        Value::Timestamp(t) => Avro::LocalTimestampMicros(*t),
        Value::Interval(i) => {
            record(vec![("months", Avro::Int(i.months)), ("days", Avro::Int(i.days)), ("micros", Avro::Long(i.micros))])
        }
        Value::Array(items) => {
            let Type::Array(item) = ty else { panic!("an array of {ty:?}") };
            let one = |v: &Value| null_or((!v.is_null()).then(|| self::value(item, json, v)));
            Avro::Array(items.iter().map(one).collect())
        }
        Value::Record(values) => {
            let Type::Record(fields) = ty else { panic!("a record of {ty:?}") };
            fields_of(fields, nested(json), values)
        }
        Value::Null | Value::Unchanged => panic!("{value:?} has no type"),
    }
}

fn fields_of(fields: &[Field], json: &serde_json::Value, values: &[Value]) -> Avro {
    let types = json["fields"].as_array().unwrap();
    let one = |((f, v), json): ((&Field, &Value), &serde_json::Value)| match (f.nullable, v) {
        (true, Value::Null) => null_or(None),
        (true, v) => null_or(Some(value(&f.ty, &json["type"], v))),
        (false, v) => value(&f.ty, &json["type"], v),
    };
    Avro::Record(names(json).into_iter().zip(fields.iter().zip(values).zip(types).map(one)).collect())
}

/// A full row.
pub(super) fn row(schema: &Schema, row: &Row) -> Avro {
    fields_of(&schema.fields, &super::schema::shape_json(schema, super::schema::Shape::Row), &row.0)
}

/// An image.
pub(super) fn image(schema: &Schema, image: &Row) -> Avro {
    let json = super::schema::shape_json(schema, super::schema::Shape::Image);
    let types = json["fields"].as_array().unwrap();
    let one = |((f, v), json): ((&Field, &Value), &serde_json::Value)| match v {
        Value::Null => Avro::Union(0, Box::new(Avro::Null)),
        Value::Unchanged => Avro::Union(1, Box::new(record(vec![]))),
        v => Avro::Union(2, Box::new(value(&f.ty, &json["type"], v))),
    };
    Avro::Record(names(&json).into_iter().zip(schema.fields.iter().zip(&image.0).zip(types).map(one)).collect())
}

/// A key.
pub(super) fn key(schema: &Schema, values: &[Value]) -> Avro {
    let json = super::schema::shape_json(schema, super::schema::Shape::Key);
    let fields: Vec<Field> = schema.key_fields().map(|f| Field { nullable: false, ..f.clone() }).collect();
    fields_of(&fields, &json, values)
}

fn dot(dot: Dot) -> Avro {
    record(vec![("actor", Avro::Long(dot.actor.0.into())), ("ctr", long(dot.ctr))])
}

fn vv(vv: &Vv) -> Avro {
    Avro::Array(vv.iter().map(dot).collect())
}

fn position(position: Position) -> Avro {
    record(vec![("commit", long(position.commit)), ("ordinal", long(position.ordinal))])
}

fn stamp(stamp: Stamp) -> Avro {
    record(vec![("epoch", long(stamp.epoch)), ("owner", fixed(stamp.owner.to_be_bytes()))])
}

fn token(token: &Option<Token>) -> Avro {
    null_or(token.as_ref().map(|token| Avro::Bytes(token.0.to_vec())))
}

fn intent(intent: &Intent) -> Avro {
    record(vec![
        ("iid", long(intent.iid)),
        ("seq", long(intent.seq)),
        ("vv", vv(&intent.vv)),
        ("fp", fixed(intent.fp.0)),
        ("ts", long(intent.ts.0)),
        ("tomb", Avro::Boolean(intent.tomb)),
        ("schema", Avro::Long(intent.schema.0.into())),
        ("expect", token(&intent.expect)),
        ("exp_ms", long(intent.exp_ms)),
    ])
}

fn entry(entry: &LedgerEntry) -> Avro {
    record(vec![
        ("seq", long(entry.seq)),
        ("vv", vv(&entry.vv)),
        ("fp", fixed(entry.fp.0)),
        ("ts", long(entry.ts.0)),
        ("tomb", Avro::Boolean(entry.tomb)),
        ("schema", Avro::Long(entry.schema.0.into())),
        ("token", token(&entry.token)),
        ("pend", null_or(entry.pend.as_deref().map(intent))),
    ])
}

/// A proposal whose rows have `schema`.
pub(super) fn proposal(p: &Proposal, schema: &Schema) -> Avro {
    let op = [(Op::Put, "put"), (Op::Delete, "delete"), (Op::Read, "read")];
    let txn = |txn: Txn| record(vec![("id", long(txn.id)), ("idx", Avro::Long(txn.idx.into()))]);
    record(vec![
        ("stamp", stamp(p.stamp)),
        ("key", Avro::Bytes(p.key.0.to_vec())),
        ("dot", dot(p.dot)),
        ("ctx", vv(&p.ctx)),
        ("base_seq", long(p.base_seq)),
        ("base_tomb", Avro::Boolean(p.base_tomb)),
        ("ts", long(p.ts.0)),
        ("op", symbol(&op, &p.op)),
        ("fp", fixed(p.fp.0)),
        ("fp_local", fixed(p.fp_local.0)),
        ("schema", Avro::Long(p.schema.0.into())),
        ("value", null_or(p.value.as_ref().map(|row| image(schema, row)))),
        ("before", null_or(p.before.as_ref().map(|row| image(schema, row)))),
        ("txn", null_or(p.txn.map(txn))),
        ("src_pos", position(p.src_pos)),
        ("rev", long(p.rev)),
        ("entry", null_or(p.entry.as_deref().map(entry))),
        ("ambiguous_base", Avro::Boolean(p.ambiguous_base)),
    ])
}

fn side(side: &Side, forms: &Forms) -> Avro {
    let enclosed = |row: &std::sync::Arc<Row>| {
        let bytes = forms.enclose(side.schema, row).unwrap();
        assert_eq!(&forms.disclose(&Bytes::from(bytes.clone())).unwrap(), &**row);
        Avro::Bytes(bytes)
    };
    record(vec![
        ("by", Avro::Long(side.by.0.into())),
        ("dot", null_or(side.dot.map(dot))),
        ("vv", vv(&side.vv)),
        ("seq", long(side.seq)),
        ("ts", long(side.ts.0)),
        ("fp", fixed(side.fp.0)),
        ("schema", Avro::Long(side.schema.0.into())),
        ("value", null_or(side.value.as_ref().map(enclosed))),
    ])
}

fn conflict(c: &Conflict, forms: &Forms) -> Avro {
    let loser = [(Loser::Head, "head"), (Loser::Proposal, "proposal"), (Loser::Neither, "neither")];
    record(vec![
        ("ancestor", null_or(c.ancestor.as_ref().map(|s| side(s, forms)))),
        ("head", side(&c.head, forms)),
        ("proposal", side(&c.proposal, forms)),
        ("loser", symbol(&loser, &c.loser)),
        ("rule", Avro::String(c.rule.to_string())),
        ("rules", long(c.rules)),
        ("ambiguous_base", Avro::Boolean(c.ambiguous_base)),
        ("earlier", long(c.earlier)),
        ("open", null_or(c.open.as_ref().map(|why| Avro::String(why.to_string())))),
    ])
}

fn asked(asked: &Asked) -> Avro {
    record(vec![
        ("command", fixed(asked.command.to_be_bytes())),
        ("by", Avro::String(asked.by.to_string())),
        ("why", Avro::String(asked.why.to_string())),
        ("conflict", null_or(asked.conflict.map(long))),
    ])
}

/// A version whose row has `schema`.
pub(super) fn canonical(c: &Canonical, schema: &Schema, forms: &Forms) -> Avro {
    let (o, src_pos) = match c.origin {
        Origin::Input(offset) => (Some(long(offset)), None),
        Origin::Source(at) => (None, Some(position(at))),
    };
    let effect = [("put", "put"), ("delete", "delete"), ("control", "control")];
    let op = if c.key.is_empty() {
        "control"
    } else if c.tomb {
        "delete"
    } else {
        "put"
    };
    let cause = [(Cause::FastForward, "fast_forward"), (Cause::Join, "join"), (Cause::Merge, "merge")];
    let join = |j: &Join| {
        let actor = Avro::Long(j.actor.0.into());
        record(vec![("actor", actor), ("ctr", long(j.ctr)), ("seq", long(j.seq)), ("fp_local", fixed(j.fp_local.0))])
    };
    record(vec![
        ("op", symbol(&effect, &op)),
        ("key", Avro::Bytes(c.key.0.to_vec())),
        ("seq", long(c.seq)),
        ("id", long(c.id)),
        ("prev", long(c.prev)),
        ("o", null_or(o)),
        ("src_pos", null_or(src_pos)),
        ("idx", Avro::Long(c.idx.into())),
        ("last", Avro::Boolean(c.last)),
        ("dot", dot(c.dot)),
        ("vv", vv(&c.vv)),
        ("ts", long(c.ts.0)),
        ("fp", fixed(c.fp.0)),
        ("tomb", Avro::Boolean(c.tomb)),
        ("schema", Avro::Long(c.schema.0.into())),
        ("after", null_or(c.after.as_ref().map(|after| row(schema, after)))),
        ("by", Avro::Long(c.by.0.into())),
        ("cause", symbol(&cause, &c.cause)),
        ("ack", Avro::Array(c.ack.iter().map(join).collect())),
        ("rctr", long(c.rctr)),
        ("conflicted", long(c.conflicted)),
        ("conflict", null_or(c.conflict.as_deref().map(|c| conflict(c, forms)))),
        ("asked", null_or(c.asked.as_deref().map(asked))),
        ("copy", Avro::Boolean(c.copy)),
    ])
}
