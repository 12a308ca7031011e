//! Fingerprints of logical records (value-1): equal content has equal fingerprints on every
//! platform, whatever the schema version, the order of fields or the wire format.
//!
//! A row's fingerprint is the hash of (name hash, value) of its fields that are not null, sorted by
//! name; nested records likewise. A long value stands there by its own hash, a short one by itself,
//! because hashing each field would cost more than all the rest. The encoding is frozen: ledgers and
//! logs hold fingerprints for years.

use super::decimal::Decimal;
use super::row::Row;
use super::schema::{Field, Schema, Type};
use super::value::Value;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// BLAKE3, 128 bits, of the canonical encoding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Fp(pub [u8; 16]);

/// The longest encoding that stands in a row by itself: a block of the hash function.
const INLINE_BYTES_MAX: usize = 64;
/// Stands in place of the length before a hash.
const HASHED: u8 = 0xff;
/// A name's hash in a row.
type Name = [u8; 8];

impl Fp {
    /// The fingerprint of "no record".
    pub const ABSENT: Fp = Fp([0; 16]);

    /// The fingerprint of a row under its schema. `NULL` counts as absent.
    #[must_use]
    pub fn of_row(schema: &Schema, row: &Row) -> Fp {
        CACHE.with_borrow_mut(|cache| cache.fp(&schema.fields, &row.0))
    }

    /// The fingerprint of one field's value, so that partial images can be compared field by field.
    /// Nested records count by the place of their fields here; `of_row` knows their names.
    #[must_use]
    pub fn of_field(value: &Value) -> Fp {
        let mut out = Vec::with_capacity(INLINE_BYTES_MAX);
        feed(&mut out, None, value);
        Fp::of_bytes(&out)
    }

    /// The fingerprint of raw bytes.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Fp {
        let hash = blake3::hash(bytes);
        let mut out = [0; 16];
        out.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
        Fp(out)
    }
}

/// What of a fingerprint depends on the fields alone.
struct Fingerprinter {
    /// The names it was made for, in the schema's order.
    names: Vec<Arc<str>>,
    /// Places of the fields, sorted by name, and their names' hashes.
    order: Vec<(usize, Name)>,
}

/// What a thread remembers from row to row.
struct Cache {
    /// The schemas last used, newest first.
    known: Vec<Fingerprinter>,
    /// Room for the encoding of a row.
    room: Vec<u8>,
}

/// How many schemas a thread remembers.
const CACHED_MAX: usize = 16;
/// How much room a thread keeps.
const ROOM_BYTES_MAX: usize = 1 << 20;

thread_local! {
    static CACHE: RefCell<Cache> = const { RefCell::new(Cache { known: Vec::new(), room: Vec::new() }) };
}

impl Cache {
    fn fp(&mut self, fields: &[Field], values: &[Value]) -> Fp {
        let at = self.known.iter().position(|known| known.is_for(fields)).unwrap_or_else(|| {
            self.known.truncate(CACHED_MAX - 1);
            self.known.push(Fingerprinter::new(fields));
            self.known.len() - 1
        });
        if let Some(front) = self.known.get_mut(..=at) {
            front.rotate_right(1);
        }
        self.room.clear();
        if let Some(known) = self.known.first() {
            put_fields(&mut self.room, &known.order, fields, values);
        }
        let fp = Fp::of_bytes(&self.room);
        if self.room.capacity() > ROOM_BYTES_MAX {
            self.room = Vec::new();
        }
        fp
    }
}

impl Fingerprinter {
    fn new(fields: &[Field]) -> Self {
        Fingerprinter { names: fields.iter().map(|field| field.name.clone()).collect(), order: sorted(fields) }
    }

    /// Mostly the same pointers: one schema, many rows.
    fn is_for(&self, fields: &[Field]) -> bool {
        let same = |(mine, field): (&Arc<str>, &Field)| Arc::ptr_eq(mine, &field.name) || *mine == field.name;
        self.names.len() == fields.len() && self.names.iter().zip(fields).all(same)
    }
}

/// The fields that are not null: the name's hash, then the value's length and encoding, or its hash.
fn put_fields(out: &mut Vec<u8>, order: &[(usize, Name)], fields: &[Field], values: &[Value]) {
    for &(at, name) in order {
        let (Some(field), Some(value)) = (fields.get(at), values.get(at)) else { continue };
        if value.is_null() {
            continue;
        }
        out.extend_from_slice(&name);
        let mark = out.len();
        out.push(HASHED);
        feed(out, Some(&field.ty), value);
        let encoding = out.get(mark + 1..).unwrap_or_default();
        match u8::try_from(encoding.len()) {
            Ok(len) if encoding.len() <= INLINE_BYTES_MAX => {
                if let Some(mark) = out.get_mut(mark) {
                    *mark = len;
                }
            }
            _ => {
                let hash = Fp::of_bytes(encoding);
                out.truncate(mark + 1);
                out.extend_from_slice(&hash.0);
            }
        }
    }
}

fn sorted(fields: &[Field]) -> Vec<(usize, Name)> {
    let mut order: Vec<(usize, &Field)> = fields.iter().enumerate().collect();
    order.sort_by(|a, b| a.1.name.cmp(&b.1.name));
    let hash = |name: &str| {
        let Fp([a, b, c, d, e, f, g, h, ..]) = Fp::of_bytes(name.as_bytes());
        [a, b, c, d, e, f, g, h]
    };
    order.into_iter().map(|(at, field)| (at, hash(&field.name))).collect()
}

/// The canonical encoding: a tag per kind, fixed-width numbers, counted texts and lists. The type is
/// only needed for the names of nested fields.
fn feed(out: &mut Vec<u8>, ty: Option<&Type>, value: &Value) {
    match value {
        Value::Null => tagged(out, 0, &[]),
        Value::Unchanged => tagged(out, 1, &[]),
        Value::Bool(b) => tagged(out, 2, &[u8::from(*b)]),
        Value::Int(i) => tagged(out, 3, &i.to_be_bytes()),
        Value::Float32(x) => tagged(out, 4, &one_nan(f64::from(*x)).to_be_bytes()),
        Value::Float64(x) => tagged(out, 4, &one_nan(*x).to_be_bytes()),
        Value::Decimal(d) => counted(out, 5, &Decimal::canonical_bytes(d)),
        Value::Text(t) => counted(out, 6, t.as_bytes()),
        Value::Bytes(b) => counted(out, 7, b),
        Value::Uuid(u) => tagged(out, 8, u),
        Value::Date(d) => tagged(out, 9, &d.to_be_bytes()),
        Value::Time(t) => tagged(out, 10, &t.to_be_bytes()),
        Value::TimeTz(t, zone) => {
            tagged(out, 11, &t.to_be_bytes());
            out.extend_from_slice(&zone.to_be_bytes());
        }
        Value::Timestamp(t) => tagged(out, 12, &t.to_be_bytes()),
        Value::Interval(i) => {
            tagged(out, 13, &i.months.to_be_bytes());
            out.extend_from_slice(&i.days.to_be_bytes());
            out.extend_from_slice(&i.micros.to_be_bytes());
        }
        Value::Json(j) => counted(out, 14, j.as_bytes()),
        Value::Array(items) => {
            let item = match ty {
                Some(Type::Array(item)) => Some(&**item),
                _ => None,
            };
            count(out, 15, items.len());
            items.iter().for_each(|value| feed(out, item, value));
        }
        Value::Record(values) => match ty {
            Some(Type::Record(fields)) => feed_record(out, fields, values),
            _ => {
                count(out, 16, values.len());
                values.iter().for_each(|value| feed(out, None, value));
            }
        },
    }
}

/// A nested record, like a row: by name, without nulls.
fn feed_record(out: &mut Vec<u8>, fields: &[Field], values: &[Value]) {
    count(out, 17, values.iter().filter(|value| !value.is_null()).count());
    put_fields(out, &sorted(fields), fields, values);
}

fn tagged(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

fn count(out: &mut Vec<u8>, tag: u8, len: usize) {
    tagged(out, tag, &(len as u64).to_be_bytes());
}

/// Short texts are counted in one byte.
fn counted(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    match u8::try_from(bytes.len()) {
        Ok(len) if len < u8::MAX => tagged(out, tag, &[len]),
        _ => {
            tagged(out, tag, &[u8::MAX]);
            out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(bytes);
}

/// `-0` is `0`, and there is one NaN.
fn one_nan(x: f64) -> u64 {
    if x.is_nan() {
        f64::NAN.to_bits()
    } else if x == 0.0 {
        0
    } else {
        x.to_bits()
    }
}

impl fmt::Debug for Fp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Fp::ABSENT {
            return write!(f, "absent");
        }
        self.0.iter().take(4).try_for_each(|b| write!(f, "{b:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::SchemaId;
    use crate::event::avro::arbitrary::Gen;
    use proptest::prelude::*;

    fn schema(fields: Vec<Field>) -> Schema {
        Schema { id: SchemaId(0), name: "t".into(), fields, key: vec![0] }
    }

    fn field(name: &str, ty: Type) -> Field {
        Field { name: name.into(), ty, nullable: true }
    }

    proptest! {
        /// value-1
        #[test]
        fn the_order_of_fields_does_not_matter(seed in any::<u64>(), turn in 0usize..5) {
            let mut random = Gen::new(seed);
            let one = random.schema();
            let row = random.row(&one);
            let mut fields: Vec<(Field, Value)> = one.fields.iter().cloned().zip(row.0.iter().cloned()).collect();
            fields.rotate_left(turn % one.fields.len());
            fields.reverse();
            let (fields, values) = fields.into_iter().unzip();
            prop_assert_eq!(Fp::of_row(&schema(fields), &Row(values)), Fp::of_row(&one, &row));
        }

        /// value-1
        #[test]
        fn a_null_field_is_an_absent_field(seed in any::<u64>(), at in 0usize..5) {
            let mut random = Gen::new(seed);
            let one = random.schema();
            let row = random.row(&one);
            let (mut more, mut values) = (one.clone(), row.0.clone());
            let at = at % (values.len() + 1);
            more.fields.insert(at, field("a field nobody else has", Type::Text));
            values.insert(at, Value::Null);
            prop_assert_eq!(Fp::of_row(&more, &Row(values)), Fp::of_row(&one, &row));
        }

        #[test]
        fn another_value_is_another_fingerprint(seed in any::<u64>()) {
            let mut random = Gen::new(seed);
            let schema = random.schema();
            let (a, b) = (random.row(&schema), random.row(&schema));
            let same = seen(&a.0) == seen(&b.0);
            prop_assert_eq!(Fp::of_row(&schema, &a) == Fp::of_row(&schema, &b), same);
            for (a, b) in a.0.iter().zip(&b.0) {
                let same = seen(std::slice::from_ref(a)) == seen(std::slice::from_ref(b));
                prop_assert_eq!(Fp::of_field(a) == Fp::of_field(b), same);
            }
        }

        #[test]
        fn texts_of_any_length_are_told_apart(len in 0usize..600, other in 0usize..600) {
            let text = |len: usize| Fp::of_field(&Value::text(&"x".repeat(len)));
            prop_assert_eq!(text(len) == text(other), len == other);
        }
    }

    /// How values look to a fingerprint: there is one zero and one NaN.
    fn seen(values: &[Value]) -> String {
        format!("{values:?}").replace("-0.0", "0.0")
    }

    /// value-1
    #[test]
    fn zero_has_no_sign_and_there_is_one_nan() {
        let fp = |x: f64| Fp::of_field(&Value::Float64(x));
        assert_eq!(fp(0.0), fp(-0.0));
        assert_eq!(fp(f64::NAN), fp(f64::from_bits(f64::NAN.to_bits() | 1 << 63 | 77)));
        assert_ne!(fp(f64::INFINITY), fp(f64::NEG_INFINITY));
        assert_eq!(fp(1.5), Fp::of_field(&Value::Float32(1.5)));
    }

    /// value-1
    #[test]
    fn decimals_have_no_trailing_zeros() {
        let fp = |text: &str| Fp::of_field(&Value::Decimal(text.parse().unwrap()));
        assert_eq!(fp("1.50"), fp("1.5"));
        assert_eq!(fp("1e3"), fp("1000.0"));
        assert_ne!(fp("1.5"), fp("1.05"));
        assert_ne!(fp("NaN"), fp("Infinity"));
    }

    /// value-1, for nested records.
    #[test]
    fn nested_fields_count_by_name() {
        let nested = |names: [&str; 2], values: [Value; 2]| {
            let ty = Type::Record(names.map(|name| field(name, Type::Int(64))).to_vec());
            let ty = Type::Array(Box::new(ty));
            let row = Row(vec![Value::Array(vec![Value::Record(values.to_vec())])]);
            Fp::of_row(&schema(vec![field("items", ty)]), &row)
        };
        let one = nested(["a", "b"], [Value::Int(1), Value::Int(2)]);
        assert_eq!(one, nested(["b", "a"], [Value::Int(2), Value::Int(1)]));
        assert_ne!(one, nested(["a", "b"], [Value::Int(2), Value::Int(1)]));
        assert_eq!(nested(["a", "b"], [Value::Int(1), Value::Null]), nested(["a", "c"], [Value::Int(1), Value::Null]),);
    }

    /// The cache must not confuse schemas of one length, nor forget beyond its size.
    #[test]
    fn many_schemas_on_one_thread_are_told_apart() {
        let fp = |n: usize| {
            let fields = vec![field(&format!("f{n}"), Type::Int(64))];
            Fp::of_row(&schema(fields), &Row(vec![Value::Int(1)]))
        };
        let first: Vec<Fp> = (0..40).map(fp).collect();
        let again: Vec<Fp> = (0..40).rev().map(fp).collect();
        assert!(first.iter().eq(again.iter().rev()));
        assert_eq!(first.iter().collect::<std::collections::BTreeSet<_>>().len(), 40);
    }

    /// Ledgers and logs hold fingerprints for years: these may never change.
    #[test]
    fn fingerprints_are_frozen() {
        let hex = |fp: Fp| fp.0.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let row = Row(vec![Value::Int(7), Value::text("a text that is longer than a short one"), Value::Null]);
        let fields = vec![field("id", Type::Int(64)), field("name", Type::Text), field("gone", Type::Bool)];
        assert_eq!(hex(Fp::of_field(&Value::Int(7))), "b5604341d20a59283ec14aa3512925cf");
        assert_eq!(hex(Fp::of_row(&schema(fields), &row)), "8ac16f7132c45df5a8cc69039831375c");
    }
}
