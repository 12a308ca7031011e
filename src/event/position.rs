//! A place at a source, ordered within one reader. Connectors map their native positions onto it,
//! keeping the order; nobody else looks inside. And a place in D.

use super::Offset;
use super::key::Key;
use super::version::Seq;
use std::fmt;

/// Commit position and ordinal of the change within the commit, from 0. Field bug 6 (several rows
/// share one native position) is why the ordinal is part of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Where the transaction was committed.
    pub commit: u64,
    /// The change's number within it; counts all committed row changes, echoes too (read-3).
    pub ordinal: u64,
}

impl Position {
    /// Before everything.
    pub const START: Position = Position { commit: 0, ordinal: 0 };

    /// The position of change `ordinal` of the transaction committed at `commit`.
    #[must_use]
    pub const fn new(commit: u64, ordinal: u64) -> Self {
        Position { commit, ordinal }
    }

    /// Behind all changes of the transaction committed at `commit`.
    #[must_use]
    pub const fn end_of(commit: u64) -> Self {
        Position { commit, ordinal: u64::MAX }
    }
}

/// A place in D: the next offset to read, and the last valid version before it (claim-1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// The next offset to read.
    pub offset: Offset,
    /// The last valid sequence number before it.
    pub seq: Seq,
    /// Its id.
    pub id: u64,
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.commit, self.ordinal)
    }
}

/// How far the first copy of a collection is (who-6).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Copying {
    /// Not begun.
    #[default]
    Todo,
    /// Everything up to this key is published.
    Through(Key),
    /// Finished.
    Done,
}

/// A change's place in its source transaction (read-4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Txn {
    /// The transaction's id at the source.
    pub id: u64,
    /// Number of the change in it, from 0.
    pub idx: u32,
}
