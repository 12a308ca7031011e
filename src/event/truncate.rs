//! What a source's `TRUNCATE` took away, as inputs of the resolver (read-9). Each input names its keys
//! and what the reader knew of each at that place in the log, so that only what the source had seen is
//! deleted for good. Fields only; no decision is made here.

use super::fingerprint::Fp;
use super::key::Key;
use super::position::{Position, Txn};
use super::record::Stamp;
use super::schema::SchemaId;
use super::version::{Dot, Hlc, Seq, Vv};

/// Some of the keys that a truncate took away in one partition: at most as many as make one group of
/// outputs (resolve-10).
#[derive(Clone, PartialEq, Debug)]
pub struct Truncate {
    /// The reader's ownership of the partition.
    pub stamp: Stamp,
    /// One change of the reader for all these keys, dense like those of proposals (resolve-5).
    pub dot: Dot,
    /// Time of the truncate (value-3).
    pub ts: Hlc,
    /// Schema of the rows that are gone.
    pub schema: SchemaId,
    /// Its place in its source transaction.
    pub txn: Txn,
    /// Where it was read.
    pub src_pos: Position,
    /// The keys, each once.
    pub gone: Vec<Gone>,
}

/// A key that is gone, and the version its row descended from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gone {
    /// The record.
    pub key: Key,
    /// What the row contained.
    pub ctx: Vv,
    /// The canonical version the source had; 0 if none.
    pub base_seq: Seq,
    /// Whether that version was a deletion.
    pub base_tomb: bool,
    /// Fingerprint of the row, as the source held it.
    pub fp: Fp,
}
