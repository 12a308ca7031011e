//! Fingerprints of logical records (value-1): equal content has equal fingerprints on every
//! platform, whatever the schema version, the order of fields or the wire format.

use super::decimal::Decimal;
use super::row::Row;
use super::schema::{Field, Schema};
use super::value::Value;
use std::fmt;

/// BLAKE3, 128 bits, of the canonical encoding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Fp(pub [u8; 16]);

impl Fp {
    /// The fingerprint of "no record".
    pub const ABSENT: Fp = Fp([0; 16]);

    /// The fingerprint of a row under its schema. `NULL` counts as absent.
    #[must_use]
    pub fn of_row(schema: &Schema, row: &Row) -> Fp {
        let mut fields: Vec<(&Field, &Value)> =
            schema.fields.iter().zip(&row.0).filter(|(_, v)| !v.is_null()).collect();
        fields.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        let mut whole = blake3::Hasher::new();
        for (field, value) in fields {
            whole.update(&Fp::of_bytes(field.name.as_bytes()).0);
            whole.update(&Fp::of_field(value).0);
        }
        Fp::finish(&whole)
    }

    /// The fingerprint of one field's value, so that partial images can be compared field by field.
    #[must_use]
    pub fn of_field(value: &Value) -> Fp {
        let mut hasher = blake3::Hasher::new();
        feed(&mut hasher, value);
        Fp::finish(&hasher)
    }

    /// The fingerprint of raw bytes.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Fp {
        let mut hasher = blake3::Hasher::new();
        hasher.update(bytes);
        Fp::finish(&hasher)
    }

    fn finish(hasher: &blake3::Hasher) -> Fp {
        let mut out = [0; 16];
        hasher.finalize_xof().fill(&mut out);
        Fp(out)
    }
}

/// The canonical encoding: a tag per kind, fixed-width numbers, counted texts and lists.
fn feed(hasher: &mut blake3::Hasher, value: &Value) {
    let mut tagged = |tag: u8, bytes: &[u8]| {
        hasher.update(&[tag]);
        hasher.update(bytes);
    };
    match value {
        Value::Null => tagged(0, &[]),
        Value::Unchanged => tagged(1, &[]),
        Value::Bool(b) => tagged(2, &[u8::from(*b)]),
        Value::Int(i) => tagged(3, &i.to_be_bytes()),
        Value::Float32(x) => tagged(4, &one_nan(f64::from(*x)).to_be_bytes()),
        Value::Float64(x) => tagged(4, &one_nan(*x).to_be_bytes()),
        Value::Decimal(d) => counted(hasher, 5, Decimal::canonical(d).as_bytes()),
        Value::Text(t) => counted(hasher, 6, t.as_bytes()),
        Value::Bytes(b) => counted(hasher, 7, b),
        Value::Uuid(u) => tagged(8, u),
        Value::Date(d) => tagged(9, &d.to_be_bytes()),
        Value::Time(t) => tagged(10, &t.to_be_bytes()),
        Value::TimeTz(t, zone) => {
            tagged(11, &t.to_be_bytes());
            hasher.update(&zone.to_be_bytes());
        }
        Value::Timestamp(t) => tagged(12, &t.to_be_bytes()),
        Value::Interval(i) => {
            tagged(13, &i.months.to_be_bytes());
            hasher.update(&i.days.to_be_bytes());
            hasher.update(&i.micros.to_be_bytes());
        }
        Value::Json(j) => counted(hasher, 14, j.as_bytes()),
        Value::Array(items) => list(hasher, 15, items),
        Value::Record(items) => list(hasher, 16, items),
    }
}

fn counted(hasher: &mut blake3::Hasher, tag: u8, bytes: &[u8]) {
    hasher.update(&[tag]);
    hasher.update(&(bytes.len() as u64).to_be_bytes());
    hasher.update(bytes);
}

fn list(hasher: &mut blake3::Hasher, tag: u8, items: &[Value]) {
    hasher.update(&[tag]);
    hasher.update(&(items.len() as u64).to_be_bytes());
    items.iter().for_each(|item| feed(hasher, item));
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
