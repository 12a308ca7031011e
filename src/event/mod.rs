//! The one vocabulary everybody shares: what stands in the records of the topics (topic-7).
//! Data only: what is done with a record is decided in `capture`, `resolve`, `apply` and `agent`.

pub mod decimal;
pub mod value;

pub mod row;
pub mod schema;

pub mod lineage;

pub mod key;

pub mod json;

pub mod fingerprint;

pub mod position;
pub mod version;

pub mod ledger;
pub mod part;
pub mod record;
pub mod review;
pub mod rules;
pub mod truncate;

pub mod dead;

pub mod avro;

pub use dead::{DeadLetter, Fate, Stage};
pub use fingerprint::Fp;
pub use key::Key;
pub use ledger::{Intent, Landed, LedgerEntry, Token};
pub use position::{Copying, Link, Position, Txn};
pub use record::{
    Ack, AgentMark, Canonical, Cause, Claim, Conflict, Join, Known, KnownRecord, LedgerRecord, Loser, Op, Origin,
    Proposal, ReaderMark, Record, ResolverMark, Role, Side, Stamp, StateRecord, Validity,
};
pub use review::{Asked, Review};
pub use row::Row;
pub use rules::{Bootstrap, Control, ControlInput, Custom, Deletes, FieldRule, Merge, Otherwise, Resolution, Rules};
pub use schema::{Field, Schema, SchemaId, Type};
pub use truncate::{Gone, Truncate};
pub use value::{Text, Value};
pub use version::{ActorId, Ctr, Dot, Epoch, Hlc, Order, PlatformNo, Seq, Vv};

/// An offset in one partition of a topic, from 0.
pub type Offset = u64;

#[cfg(test)]
impl Canonical {
    /// A deletion of no record, for tests to fill in what they are about.
    pub(crate) fn blank() -> Self {
        Canonical {
            key: Key::default(),
            seq: 1,
            id: 1,
            prev: 0,
            origin: Origin::Input(0),
            idx: 0,
            last: true,
            dot: Dot { actor: ActorId::default(), ctr: 1 },
            vv: Vv::new(),
            ts: Hlc::default(),
            fp: Fp::ABSENT,
            tomb: true,
            schema: SchemaId(1),
            after: None,
            by: ActorId::default(),
            cause: Cause::FastForward,
            ack: Ack::new(),
            rctr: 0,
            conflicted: 0,
            conflict: None,
            asked: None,
            copy: false,
        }
    }
}
