//! Fingerprints of logical records (value-1): equal content has equal fingerprints on every
//! platform, whatever the schema version, the order of fields or the wire format.
//!
//! A row's fingerprint is the hash of (name hash, field fingerprint) of its fields that are not
//! null, sorted by name; nested records likewise. A field's fingerprint holds a short value itself
//! and hashes a long one. The encoding is frozen: ledgers and logs hold fingerprints for years.

use super::decimal::Decimal;
use super::row::Row;
use super::schema::{Field, Schema, Type};
use super::value::Value;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// BLAKE3, 128 bits, of the canonical encoding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Fp(pub [u8; 16]);

/// An encoding on its way to a hash; seldom longer.
type Encoding = SmallVec<[u8; 512]>;

/// The longest encoding a field's fingerprint holds itself.
const INLINE_BYTES_MAX: usize = 15;
/// Set in the first byte of fingerprints that are hashes; lengths stay below it.
const HASHED: u8 = 0x80;

impl Fp {
    /// The fingerprint of "no record".
    pub const ABSENT: Fp = Fp([0; 16]);

    /// The fingerprint of a row under its schema. `NULL` counts as absent.
    #[must_use]
    pub fn of_row(schema: &Schema, row: &Row) -> Fp {
        CACHE.with_borrow_mut(|cache| cached(cache, &schema.fields).of_values(&schema.fields, &row.0))
    }

    /// The fingerprint of one field's value, so that partial images can be compared field by field.
    /// Nested records count by the place of their fields here; `of_row` knows their names.
    #[must_use]
    pub fn of_field(value: &Value) -> Fp {
        let mut out = Encoding::new();
        feed(&mut out, None, value);
        Fp::short(&out)
    }

    /// The fingerprint of raw bytes.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Fp {
        let hash = blake3::hash(bytes);
        let mut out = [0; 16];
        out.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
        Fp(out)
    }

    /// A field's fingerprint: its length and its encoding if that fits, else the hash, marked. Most
    /// fields are short, and hashing each would cost more than all the rest.
    fn short(encoding: &[u8]) -> Fp {
        let mut out = Fp::of_short(encoding).unwrap_or_else(|| Fp::of_bytes(encoding));
        if encoding.len() > INLINE_BYTES_MAX {
            let [first, ..] = &mut out.0;
            *first |= HASHED;
        }
        out
    }

    fn of_short(encoding: &[u8]) -> Option<Fp> {
        let len = u8::try_from(encoding.len()).ok().filter(|&len| usize::from(len) <= INLINE_BYTES_MAX)?;
        let mut out = [0; 16];
        let [first, rest @ ..] = &mut out;
        *first = len;
        rest.iter_mut().zip(encoding).for_each(|(to, from)| *to = *from);
        Some(Fp(out))
    }
}

/// What of a fingerprint depends on the fields alone.
struct Fingerprinter {
    /// The names it was made for, in the schema's order.
    names: Vec<Arc<str>>,
    /// Places of the fields, sorted by name, and their names' hashes.
    order: Vec<(usize, Fp)>,
}

/// How many schemas a thread remembers.
const CACHED_MAX: usize = 16;

thread_local! {
    static CACHE: RefCell<Vec<Fingerprinter>> = const { RefCell::new(Vec::new()) };
}

/// The fingerprinter of these fields, moved to the front.
fn cached<'c>(cache: &'c mut Vec<Fingerprinter>, fields: &[Field]) -> &'c Fingerprinter {
    let at = cache.iter().position(|known| known.is_for(fields)).unwrap_or_else(|| {
        cache.truncate(CACHED_MAX - 1);
        cache.push(Fingerprinter::new(fields));
        cache.len() - 1
    });
    if let Some(front) = cache.get_mut(..=at) {
        front.rotate_right(1);
    }
    &cache[0]
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

    fn of_values(&self, fields: &[Field], values: &[Value]) -> Fp {
        let mut whole = Encoding::new();
        let mut one = Encoding::new();
        for &(at, name) in &self.order {
            let (Some(field), Some(value)) = (fields.get(at), values.get(at)) else { continue };
            if value.is_null() {
                continue;
            }
            one.clear();
            feed(&mut one, Some(&field.ty), value);
            whole.extend_from_slice(&name.0);
            whole.extend_from_slice(&Fp::short(&one).0);
        }
        Fp::of_bytes(&whole)
    }
}

fn sorted(fields: &[Field]) -> Vec<(usize, Fp)> {
    let mut order: Vec<(usize, &Field)> = fields.iter().enumerate().collect();
    order.sort_by(|a, b| a.1.name.cmp(&b.1.name));
    order.into_iter().map(|(at, field)| (at, Fp::of_bytes(field.name.as_bytes()))).collect()
}

/// The canonical encoding: a tag per kind, fixed-width numbers, counted texts and lists. The type is
/// only needed for the names of nested fields.
fn feed(out: &mut Encoding, ty: Option<&Type>, value: &Value) {
    match value {
        Value::Null => tagged(out, 0, &[]),
        Value::Unchanged => tagged(out, 1, &[]),
        Value::Bool(b) => tagged(out, 2, &[u8::from(*b)]),
        Value::Int(i) => tagged(out, 3, &i.to_be_bytes()),
        Value::Float32(x) => tagged(out, 4, &one_nan(f64::from(*x)).to_be_bytes()),
        Value::Float64(x) => tagged(out, 4, &one_nan(*x).to_be_bytes()),
        Value::Decimal(d) => counted(out, 5, Decimal::canonical(d).as_bytes()),
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
fn feed_record(out: &mut Encoding, fields: &[Field], values: &[Value]) {
    let present = |&(at, _): &(usize, Fp)| values.get(at).is_some_and(|value| !value.is_null());
    let order: Vec<(usize, Fp)> = sorted(fields).into_iter().filter(present).collect();
    count(out, 17, order.len());
    for (at, name) in order {
        if let (Some(field), Some(value)) = (fields.get(at), values.get(at)) {
            out.extend_from_slice(&name.0);
            feed(out, Some(&field.ty), value);
        }
    }
}

fn tagged(out: &mut Encoding, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

fn count(out: &mut Encoding, tag: u8, len: usize) {
    tagged(out, tag, &(len as u64).to_be_bytes());
}

/// Short texts are counted in one byte, so that they fit into a field's fingerprint.
fn counted(out: &mut Encoding, tag: u8, bytes: &[u8]) {
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
