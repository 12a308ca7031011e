//! The canonical key of a record: the Avro encoding of its typed key fields, without any header.
//! Equal keys are equal bytes, so the bytes choose the partition (topic-2) and name the record
//! everywhere. How fields become these bytes stands in `event/avro`.

use bytes::Bytes;
use std::fmt;

/// Canonical key bytes. Empty for control records (topic-5).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Key(pub Bytes);

impl Key {
    /// Whether this is the empty key of control records.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
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
