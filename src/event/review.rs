//! What people ask for through driftless, as it stands in `.changes` and in the versions that came of it. Data only:
//! what becomes of it is decided in `resolve::review`.

use super::key::Key;
use super::row::Row;
use super::schema::SchemaId;
use super::version::{Hlc, Seq, Vv};
use std::sync::Arc;

/// Who asked for a version, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asked {
    /// The command; a second one with the same id is void (verb-6).
    pub command: u128,
    /// Who.
    pub by: Arc<str>,
    /// In their words.
    pub why: Arc<str>,
    /// The version whose conflict it decides.
    pub conflict: Option<Seq>,
}

/// What a person decided of a record, in `.changes`: an edit made on no platform, of one who had seen the version
/// `base_seq`. It gets a dot of the resolver (verb-6).
#[derive(Clone, PartialEq, Debug)]
pub struct Review {
    /// The record.
    pub key: Key,
    /// What the version contained that the person saw.
    pub ctx: Vv,
    /// That version.
    pub base_seq: Seq,
    /// When it was decided, above the time of that version.
    pub ts: Hlc,
    /// Schema of the value.
    pub schema: SchemaId,
    /// The record as it shall be; `None` for a deletion.
    pub value: Option<Arc<Row>>,
    /// Who decided.
    pub asked: Asked,
}
