//! What a connector tells besides data, and how much of it at once.

use super::contract::{Change, CollectionNo};
use crate::event::{Fp, Key, LedgerEntry};
use crate::runtime::error::Error;

/// How much to return at most; at least one item is always returned, however large (field: a limit
/// must never block progress).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchLimit {
    /// Rows or changes.
    pub rows_max: usize,
    /// Bytes, as far as the connector can tell.
    pub bytes_max: usize,
}

impl Default for BatchLimit {
    fn default() -> Self {
        BatchLimit { rows_max: 1000, bytes_max: 4 << 20 }
    }
}

/// The next part of a listing.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Page {
    /// Keys present, in the store's own order: stable, not that of the keys' bytes.
    pub keys: Vec<Key>,
    /// Things found that belong to no key (undecodable names, links that lead out), for people.
    pub odd: Vec<String>,
    /// Whether this was the last page.
    pub last: bool,
}

/// Something of the platform's that its connector cannot tell exactly.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unreadable {
    /// Its collection.
    pub collection: CollectionNo,
    /// Its key, if that at least can be told.
    pub key: Option<Key>,
    /// The code of what is wrong.
    pub code: &'static str,
    /// What is wrong and where, for people.
    pub why: String,
    /// All of it, as the platform holds it.
    pub native: String,
    /// A later change of the same row follows, or what nobody could publish is gone: no loss.
    pub replaced: bool,
}

impl Unreadable {
    /// What an error says of it.
    #[must_use]
    pub fn new(collection: CollectionNo, key: Option<Key>, error: &Error, native: String) -> Self {
        Unreadable { collection, key, code: error.code.as_str(), why: error.to_string(), native, replaced: false }
    }
}

/// What stands in a LOG store for a key, under its lock.
#[derive(Clone, PartialEq, Debug)]
pub enum Seen {
    /// Locked by somebody else; not waited for (sink-2).
    Busy,
    /// Content that cannot be told exactly, and why: it must not be overwritten (P8).
    Unreadable(String),
    /// The content and its ledger row.
    Row {
        /// Fingerprint of the content under the ledger's schema, `Fp::ABSENT` if there is none.
        fp: Fp,
        /// The ledger row.
        ledger: Option<LedgerEntry>,
    },
}

/// Something `doctor` noticed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The error code it would become, or a short name.
    pub code: &'static str,
    /// Whether it stops the work.
    pub fatal: bool,
    /// What was found and what to do.
    pub text: String,
}

impl Change {
    /// Whose rows it is about.
    #[must_use]
    pub fn collection(&self) -> CollectionNo {
        match self {
            Change::Row { collection, .. }
            | Change::Ledger { collection, .. }
            | Change::Observed { collection, .. } => *collection,
            Change::Truncate(collection) => *collection,
            Change::Unreadable(found) => found.collection,
        }
    }

    /// About how large it is in bytes: its key and its content.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Change::Row { key, after, .. } | Change::Observed { key, image: after, .. } => {
                key.0.len() + after.as_ref().map_or(0, |row| row.size())
            }
            Change::Unreadable(found) => found.native.len(),
            _ => 0,
        }
    }
}
