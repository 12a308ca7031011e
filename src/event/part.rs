//! What a platform says of a record that it sees only a part of (read-11), and how what it does not say
//! is told from what it does not know.
//!
//! Such a platform's proposal leaves fields out as `Unchanged`, like an image that lacks large values
//! (value-2). But where it writes a record that is new to it, there is no version it changed: what it
//! does not see is then as the dataset has it, or nothing. A field it does see is never filled so.

use super::fingerprint::Fp;
use super::ledger::LedgerEntry;
use super::record::Proposal;
use super::row::Row;
use super::value::Value;

impl Fp {
    /// In place of the fingerprint of a record of which only a part, with this fingerprint, is seen. No
    /// record has it.
    #[must_use]
    pub fn of_part(self) -> Fp {
        Fp::of_bytes(&[b"part of a record\0", &self.0[..]].concat())
    }
}

impl Proposal {
    /// Whether its unchanged fields are those that its platform does not see.
    #[must_use]
    pub fn is_part(&self) -> bool {
        self.fp != self.fp_local && self.fp == self.fp_local.of_part()
    }
}

impl LedgerEntry {
    /// Whether the platform was last given that the record is outside its filter: it is no deletion, and
    /// there is no content. Cause `filtered`.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        !self.tomb && self.fp == Fp::ABSENT && self.seq > 0
    }
}

impl Row {
    /// This image with its unchanged fields taken from `base`, where it has them, and null elsewhere.
    #[must_use]
    pub fn completed_from(&self, base: Option<&Row>) -> Row {
        let complete = |(i, value): (usize, &Value)| match value {
            Value::Unchanged => base.and_then(|b| b.get(i)).cloned().unwrap_or(Value::Null),
            value => value.clone(),
        };
        Row(self.0.iter().enumerate().map(complete).collect())
    }
}
