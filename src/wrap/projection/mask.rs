//! What stands on a platform instead of a field's value. A masked field is read-only there: what could
//! not have come from the mask is an edit, and is not carried (read-11).
//!
//! `hash` gives equal values equal hashes, so that masked rows can still be joined and counted. It is a
//! pseudonym and no secret: who can guess a value can hash it. Every hash ends in a check of itself, so
//! that a value typed over it is told from it; one hash copied over another is not.

use super::filter::{Literal, literal_of};
use crate::event::{Field, Fp, Type, Value};
use bytes::Bytes;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

/// What is sent instead of a field's value.
#[derive(Clone, PartialEq, Debug)]
pub enum Mask {
    /// A hash of the value.
    Hash,
    /// Nothing.
    Null,
    /// This value.
    Fixed(serde_json::Value),
}

impl Serialize for Mask {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Mask::Hash => "hash".serialize(serializer),
            Mask::Null => serializer.serialize_unit(),
            Mask::Fixed(value) => {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("fixed", value)?;
                map.end()
            }
        }
    }
}

/// A mask on a field of a type it fits.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Cover {
    Hash,
    Null,
    Fixed(Value),
}

/// Bytes of a hash, and of its check behind it.
const HASH_BYTES: usize = 16;
const CHECK_BYTES: usize = 4;

impl Mask {
    /// The mask on a field, or why it cannot be.
    pub(super) fn on(&self, field: &Field) -> Result<Cover, String> {
        let name = &field.name;
        match self {
            Mask::Null => Ok(Cover::Null),
            Mask::Hash if matches!(field.ty, Type::Text | Type::Bytes) => Ok(Cover::Hash),
            Mask::Hash => Err(format!("`{name}` cannot be masked by a hash: that needs a field of type text or bytes")),
            Mask::Fixed(value) => {
                let literal = match value {
                    serde_json::Value::Bool(b) => Some(Literal::Bool(*b)),
                    serde_json::Value::Number(n) => Some(Literal::Number(n.to_string())),
                    serde_json::Value::String(s) => Some(Literal::Text(s.clone())),
                    _ => None,
                };
                let value = literal.ok_or_else(|| "expected a text, a number, true or false".to_owned());
                let value = value.and_then(|literal| literal_of(&field.ty, &literal));
                value.map(Cover::Fixed).map_err(|why| format!("the fixed mask of `{name}`: {why}"))
            }
        }
    }
}

impl Cover {
    /// What stands instead of a value.
    pub(super) fn cover(&self, value: &Value) -> Value {
        match (self, value) {
            (Cover::Null, _) | (Cover::Hash, Value::Null) => Value::Null,
            (Cover::Fixed(fixed), _) => fixed.clone(),
            (Cover::Hash, Value::Bytes(_)) => Value::Bytes(Bytes::from(hash(value))),
            (Cover::Hash, _) => Value::text(&hex(&hash(value))),
        }
    }

    /// Whether the mask could have left this.
    pub(super) fn could_be(&self, here: &Value) -> bool {
        match (self, here) {
            (_, Value::Unchanged) | (Cover::Null | Cover::Hash, Value::Null) => true,
            (Cover::Null, _) => false,
            (Cover::Fixed(fixed), here) => fixed == here,
            (Cover::Hash, Value::Bytes(bytes)) => is_hash(bytes),
            (Cover::Hash, Value::Text(text)) => unhex(text.as_str()).is_some_and(|bytes| is_hash(&bytes)),
            (Cover::Hash, _) => false,
        }
    }
}

fn hash(value: &Value) -> Vec<u8> {
    let hash = Fp::of_bytes(&[b"driftless mask\0", &Fp::of_field(value).0[..]].concat()).0;
    [&hash[..], &check(&hash)].concat()
}

fn check(hash: &[u8]) -> [u8; CHECK_BYTES] {
    let [a, b, c, d, ..] = Fp::of_bytes(&[b"driftless mask check\0", hash].concat()).0;
    [a, b, c, d]
}

fn is_hash(bytes: &[u8]) -> bool {
    bytes.len() == HASH_BYTES + CHECK_BYTES
        && bytes.split_at_checked(HASH_BYTES).is_some_and(|(hash, end)| check(hash) == end)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Reads lower-case digits only: a hash is written in one way.
fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// read-11
    #[test]
    fn a_hash_is_the_same_for_equal_values_and_is_told_from_what_somebody_types() {
        let (mail, other) = (Value::text("ann@example.org"), Value::text("bob@example.org"));
        let covered = Cover::Hash.cover(&mail);
        assert_eq!(covered, Cover::Hash.cover(&mail));
        assert_ne!(covered, Cover::Hash.cover(&other));
        assert!(Cover::Hash.could_be(&covered) && Cover::Hash.could_be(&Value::Null));
        assert!(!Cover::Hash.could_be(&mail));
        let Value::Text(text) = &covered else { panic!("a text stays a text") };
        assert!(!Cover::Hash.could_be(&Value::text(&text.as_str().replace('a', "b").replace('0', "1"))));
        let raw = Value::Bytes(Bytes::from_static(b"secret"));
        assert!(Cover::Hash.could_be(&Cover::Hash.cover(&raw)) && !Cover::Hash.could_be(&raw));
    }

    /// Masked rows stand in stores for years: hashes may never change.
    #[test]
    fn hashes_are_frozen() {
        assert_eq!(Cover::Hash.cover(&Value::text("a")), Value::text(FROZEN));
    }

    const FROZEN: &str = "3523d2ff65ce77272c8f5009e134071a077eed6e";
}
