//! A record's key as canonical bytes: the Avro encoding of its typed fields, in key order (topic-2).

use crate::event::value::{Text, Value};
use crate::event::{Key, Type, decimal::Decimal};
use bytes::{Buf, Bytes};

/// The longest key (issue: bad input), in bytes.
pub(crate) const KEY_BYTES_MAX: usize = 4096;

/// The bytes of a key, or why a value cannot be part of one.
pub(crate) fn encode<'a>(fields: impl Iterator<Item = (&'a Type, &'a Value)>) -> Result<Key, String> {
    let mut out = Vec::with_capacity(16);
    for (ty, value) in fields {
        match (ty, value) {
            (Type::Bool, Value::Bool(b)) => out.push(u8::from(*b)),
            (Type::Int(_), Value::Int(i)) => long(&mut out, *i),
            (Type::Float(64), Value::Float64(x)) => out.extend((x + 0.0).to_le_bytes()),
            (Type::Float(32), Value::Float32(x)) => out.extend((x + 0.0).to_le_bytes()),
            (Type::Decimal, Value::Decimal(d)) => counted(&mut out, d.canonical().as_bytes()),
            (Type::Text, Value::Text(t)) => counted(&mut out, t.as_bytes()),
            (Type::Bytes, Value::Bytes(b)) => counted(&mut out, b),
            (Type::Uuid, Value::Uuid(u)) => {
                counted(&mut out, uuid::Uuid::from_bytes(*u).hyphenated().to_string().as_bytes());
            }
            (Type::Date, Value::Date(d)) => long(&mut out, i64::from(*d)),
            (Type::Time, Value::Time(t)) => long(&mut out, *t),
            (Type::Timestamp { .. }, Value::Timestamp(t)) => long(&mut out, *t),
            (ty, Value::Null) => return Err(format!("a key field of type {ty:?} is null")),
            (ty, _) => return Err(format!("a value of type {ty:?} cannot be part of a key")),
        }
    }
    if out.len() > KEY_BYTES_MAX { Err(TOO_LONG.into()) } else { Ok(Key(out.into())) }
}

/// Why a key over the limit is refused.
pub(crate) const TOO_LONG: &str = "the key is longer than 4096 bytes";

/// The values of a key; `None` if the bytes are no key of these types.
pub(crate) fn decode<'a>(types: impl Iterator<Item = &'a Type>, key: &Key) -> Option<Vec<Value>> {
    let mut rest = key.0.clone();
    let mut values = Vec::new();
    for ty in types {
        values.push(match ty {
            Type::Bool => Value::Bool(take(&mut rest, 1)?.first() == Some(&1)),
            Type::Int(_) => Value::Int(take_long(&mut rest)?),
            Type::Float(64) => Value::Float64(f64::from_le_bytes(take(&mut rest, 8)?.as_ref().try_into().ok()?)),
            Type::Float(32) => Value::Float32(f32::from_le_bytes(take(&mut rest, 4)?.as_ref().try_into().ok()?)),
            Type::Decimal => Value::Decimal(take_text(&mut rest)?.as_str().parse::<Decimal>().ok()?),
            Type::Text => Value::Text(take_text(&mut rest)?),
            Type::Bytes => Value::Bytes(take_counted(&mut rest)?),
            Type::Uuid => Value::Uuid(uuid::Uuid::parse_str(take_text(&mut rest)?.as_str()).ok()?.into_bytes()),
            Type::Date => Value::Date(i32::try_from(take_long(&mut rest)?).ok()?),
            Type::Time => Value::Time(take_long(&mut rest)?),
            Type::Timestamp { .. } => Value::Timestamp(take_long(&mut rest)?),
            _ => return None,
        });
    }
    rest.is_empty().then_some(values)
}

/// Zigzag and seven bits a byte.
fn long(out: &mut Vec<u8>, value: i64) {
    let mut rest = (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned();
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn counted(out: &mut Vec<u8>, bytes: &[u8]) {
    long(out, i64::try_from(bytes.len()).unwrap_or(i64::MAX));
    out.extend(bytes);
}

fn take(rest: &mut Bytes, count: usize) -> Option<Bytes> {
    (rest.len() >= count).then(|| rest.split_to(count))
}

fn take_long(rest: &mut Bytes) -> Option<i64> {
    let mut whole = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = rest.has_remaining().then(|| rest.get_u8())?;
        whole |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some((whole >> 1).cast_signed() ^ -(whole & 1).cast_signed());
        }
    }
    None
}

fn take_counted(rest: &mut Bytes) -> Option<Bytes> {
    let count = usize::try_from(take_long(rest)?).ok()?;
    take(rest, count)
}

fn take_text(rest: &mut Bytes) -> Option<Text> {
    Text::from_utf8(take_counted(rest)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_survive_their_bytes(i in any::<i64>(), t in ".*", b in any::<Vec<u8>>(), u in any::<[u8; 16]>(), d in any::<i32>(), f in any::<bool>()) {
            let types = [Type::Int(64), Type::Text, Type::Bytes, Type::Uuid, Type::Date, Type::Bool];
            let values = [Value::Int(i), Value::text(&t), Value::Bytes(b.into()), Value::Uuid(u), Value::Date(d), Value::Bool(f)];
            prop_assume!(values.len() < KEY_BYTES_MAX);
            let key = encode(types.iter().zip(&values)).unwrap();
            prop_assert_eq!(decode(types.iter(), &key).unwrap(), values.to_vec());
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in any::<Vec<u8>>()) {
            decode([Type::Text, Type::Int(64), Type::Float(64), Type::Decimal].iter(), &Key(bytes.into()));
        }
    }

    #[test]
    fn null_and_long_keys_are_refused() {
        assert!(encode([(&Type::Int(64), &Value::Null)].into_iter()).is_err());
        assert_eq!(encode([(&Type::Text, &Value::text(&"a".repeat(5000)))].into_iter()), Err(TOO_LONG.into()));
    }
}
