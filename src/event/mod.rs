//! The one vocabulary everybody shares: what stands in the records of the topics (topic-7).
//! Data only: what is done with a record is decided in `capture`, `resolve`, `apply` and `agent`.

pub mod decimal;
pub mod value;

pub mod row;
pub mod schema;

pub mod key;

pub mod json;

pub mod fingerprint;

pub mod position;
pub mod version;

pub mod ledger;
pub mod part;
pub mod record;

pub mod avro;

pub use fingerprint::Fp;
pub use key::Key;
pub use ledger::{Intent, Landed, LedgerEntry, Token};
pub use position::Position;
pub use record::{
    Ack, AgentMark, Bootstrap, Canonical, Cause, Claim, Conflict, Control, ControlInput, Copying, Join, Known,
    KnownRecord, LedgerRecord, Link, Loser, Op, Origin, Proposal, ReaderMark, Record, ResolverMark, Role, Rules, Side,
    Stamp, StateRecord, Txn, Validity,
};
pub use row::Row;
pub use schema::{Field, Schema, SchemaId, Type};
pub use value::{Text, Value};
pub use version::{ActorId, Ctr, Dot, Epoch, Hlc, Order, PlatformNo, Seq, Vv};

/// An offset in one partition of a topic, from 0.
pub type Offset = u64;
