//! The canonical key of a record: the Avro encoding of its typed key fields, without any header.
//! Equal keys are equal bytes, so the bytes choose the partition (topic-2) and name the record
//! everywhere. How fields become these bytes stands in `event/avro`.

use super::avro;
use super::row::Row;
use super::schema::Schema;
use super::value::Value;
use crate::runtime::error::{Code, Error, Result};
use bytes::Bytes;
use smallvec::SmallVec;
use std::fmt;

/// How long a key may be.
pub const KEY_BYTES_MAX: usize = 4096;

/// Canonical key bytes. Empty for control records (topic-5).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(pub Bytes);

impl Key {
    /// Whether this is the empty key of control records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The key of these values, given in key order. Null, unchanged and values of another type are
    /// refused; `-0` is `0` and there is one NaN, so that equal keys are equal bytes (topic-4).
    pub fn encode(values: &[Value], schema: &Schema) -> Result<Key> {
        Key::of_values(values.iter(), schema)
    }

    fn of_values<'v>(values: impl ExactSizeIterator<Item = &'v Value>, schema: &Schema) -> Result<Key> {
        let bytes = avro::encode_key(schema, values)?;
        if bytes.len() > KEY_BYTES_MAX {
            let problem = format!("the key has {} bytes, a key may have {KEY_BYTES_MAX}; shorten it", bytes.len());
            return Err(Error::new(Code::KeyTooLong, problem).at("collection", &schema.name));
        }
        if bytes.is_empty() {
            let problem = "the collection has no key fields, or empty ones; every record needs a key of its own";
            return Err(Error::new(Code::ValueRefused, problem).at("collection", &schema.name));
        }
        // Exactly as long as it is: keys are kept and counted.
        Ok(Key(bytes.into_boxed_slice().into()))
    }

    /// The key of a row.
    pub fn of_row(row: &Row, schema: &Schema) -> Result<Key> {
        let values: SmallVec<[&Value; 4]> = schema.key.iter().filter_map(|&index| row.get(index)).collect();
        Key::of_values(values.iter().copied(), schema)
    }

    /// The values of this key, in key order.
    pub fn decode(&self, schema: &Schema) -> Result<Vec<Value>> {
        avro::decode_key(schema, self)
    }
}

impl From<&'static str> for Key {
    fn from(key: &'static str) -> Self {
        Key(Bytes::from_static(key.as_bytes()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Field, Type};

    /// topic-2: the bytes choose the partition, so they never change.
    #[test]
    fn keys_are_frozen() {
        let types = [Type::Int(64), Type::Text, Type::Uuid, Type::Bool];
        let field = |ty: &Type| Field { name: format!("{ty:?}").into(), ty: ty.clone(), nullable: false };
        let schema = Schema {
            id: Default::default(),
            name: "t".into(),
            fields: types.iter().map(field).collect(),
            key: vec![1, 0, 2, 3],
        };
        let values = [Value::text("ab"), Value::Int(-65), Value::Uuid([0x0a; 16]), Value::Bool(true)];
        let key = Key::encode(&values, &schema).unwrap();
        assert_eq!(&key.0[..], b"\x04ab\x81\x01\x480a0a0a0a-0a0a-0a0a-0a0a-0a0a0a0a0a0a\x01");
        assert_eq!(key.decode(&schema).unwrap(), values);
        let row = Row(vec![values[1].clone(), values[0].clone(), values[2].clone(), values[3].clone()]);
        assert_eq!(Key::of_row(&row, &schema).unwrap(), key);
    }
}
