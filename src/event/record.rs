//! Every record that stands in a topic of a dataset (topic-7). Fields only; no decision is made here.

use super::Offset;
use super::fingerprint::Fp;
use super::key::Key;
use super::ledger::LedgerEntry;
use super::position::{Copying, Link, Position, Txn};
use super::review::{Asked, Review};
use super::row::Row;
use super::rules::{ControlInput, Rules};
use super::schema::{Schema, SchemaId};
use super::truncate::Truncate;
use super::version::{ActorId, Ctr, Dot, Epoch, Hlc, PlatformNo, Seq, Vv};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Who owns a role in a partition, for how long: stamped on each record the owner writes (claims, §3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Stamp {
    /// The accepted claim's epoch.
    pub epoch: Epoch,
    /// The claim's owner: a fresh UUID per claim (claim-2).
    pub owner: u128,
}

/// What can be claimed in a partition (claim-10).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Reader or agent of a platform.
    Writer(PlatformNo),
    /// The partition's resolver.
    Resolver,
    /// Who creates topics and gives numbers (who-7).
    Control,
}

/// A bid for a role; accepted if its epoch is above the current one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// What is claimed.
    pub role: Role,
    /// As epoch and owner.
    pub stamp: Stamp,
}

/// What a change does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// Inserted or updated.
    Put,
    /// Deleted.
    Delete,
    /// Found there: a copy (who-4), a repair (verb-3), an edit no log showed (sink-8).
    Read,
}

/// What a platform says happened to a record: in `.changes`.
#[derive(Clone, PartialEq, Debug)]
pub struct Proposal {
    /// The writer's ownership of the partition.
    pub stamp: Stamp,
    /// The record.
    pub key: Key,
    /// Which change of which actor this is.
    pub dot: Dot,
    /// What the writer had in front of it.
    pub ctx: Vv,
    /// The canonical version the writer had in front of it; 0 if none.
    pub base_seq: Seq,
    /// Whether that version was a deletion.
    pub base_tomb: bool,
    /// Time of the write (value-3).
    pub ts: Hlc,
    /// What it does.
    pub op: Op,
    /// Fingerprint of the value, `Fp::ABSENT` for a deletion.
    pub fp: Fp,
    /// Fingerprint of the content as the writer's store holds it.
    pub fp_local: Fp,
    /// Schema of the value.
    pub schema: SchemaId,
    /// The value; `None` for a deletion.
    pub value: Option<Arc<Row>>,
    /// The value before, where the source knows it.
    pub before: Option<Arc<Row>>,
    /// Its place in a source transaction.
    pub txn: Option<Txn>,
    /// Where it was read at a LOG source.
    pub src_pos: Position,
    /// The agent's entry revision this proposal carries (HINT only, agent-2).
    pub rev: u64,
    /// The ledger entry the agent holds after this proposal (HINT only, agent-2).
    pub entry: Option<Box<LedgerEntry>>,
    /// The agent decided under an unknown witness (agent-9).
    pub ambiguous_base: bool,
}

/// Where the resolver took a canonical version from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// The offset of the input in `.changes` it settles.
    Input(Offset),
    /// Fused: the position at the source.
    Source(Position),
}

/// Why a canonical version came to be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cause {
    /// The writer had the head in front of it.
    FastForward,
    /// Equal content from two sides.
    Join,
    /// A conflict was settled.
    Merge,
}

/// The newest change of an actor that a version contains, and how its content looked there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Join {
    /// The actor.
    pub actor: ActorId,
    /// Its newest change contained.
    pub ctr: Ctr,
    /// The version that settled it.
    pub seq: Seq,
    /// Fingerprint of the content in the actor's store after that change.
    pub fp_local: Fp,
}

/// One entry per actor contained (correctness.md §2.2 `ack`).
pub type Ack = SmallVec<[Join; 2]>;

/// One side of a conflict, with its full value.
#[derive(Clone, PartialEq, Debug)]
pub struct Side {
    /// Who wrote it.
    pub by: ActorId,
    /// The dot of a proposal, or `None` for a head.
    pub dot: Option<Dot>,
    /// What it contained or had seen.
    pub vv: Vv,
    /// Its sequence number; 0 for a proposal.
    pub seq: Seq,
    /// Its time.
    pub ts: Hlc,
    /// Its fingerprint.
    pub fp: Fp,
    /// Its schema.
    pub schema: SchemaId,
    /// Its value; `None` for a deletion.
    pub value: Option<Arc<Row>>,
}

/// Which side of a conflict lost.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Loser {
    /// The version that stood.
    Head,
    /// The version that came.
    Proposal,
    /// Neither: both are contained in the result.
    Neither,
}

/// A conflict with all its inputs and its outcome (resolve-7); its id is (generation, partition, seq).
#[derive(Clone, PartialEq, Debug)]
pub struct Conflict {
    /// The value both started from; `None` if it could not be found.
    pub ancestor: Option<Side>,
    /// What stood.
    pub head: Side,
    /// What came.
    pub proposal: Side,
    /// Who lost.
    pub loser: Loser,
    /// The rule that decided, and its version.
    pub rule: Arc<str>,
    /// Version of the rules in force.
    pub rules: u64,
    /// The writer's base was in doubt (agent-9).
    pub ambiguous_base: bool,
    /// The version that settled the conflict of this record before; 0 if there was none.
    pub earlier: Seq,
    /// Why a person shall look at it: what stands is provisional. `None` if it is settled for good.
    pub open: Option<Arc<str>>,
}

/// What the dataset is from here on: in `<c>`, the journal of the resolver.
#[derive(Clone, PartialEq, Debug)]
pub struct Canonical {
    /// The record; empty for control records.
    pub key: Key,
    /// Dense number in the partition.
    pub seq: Seq,
    /// This append attempt, unique (§3 validity).
    pub id: u64,
    /// The `id` of the version before; 0 for the first.
    pub prev: u64,
    /// The input it settles.
    pub origin: Origin,
    /// Its number in the outputs of that input.
    pub idx: u32,
    /// Whether it is the last of them.
    pub last: bool,
    /// The dot it settles.
    pub dot: Dot,
    /// What it contains.
    pub vv: Vv,
    /// Its time.
    pub ts: Hlc,
    /// Fingerprint of the value.
    pub fp: Fp,
    /// Whether it is a deletion.
    pub tomb: bool,
    /// Schema of the value.
    pub schema: SchemaId,
    /// The value; `None` for a deletion.
    pub after: Option<Arc<Row>>,
    /// Whose value it is.
    pub by: ActorId,
    /// Why it came to be.
    pub cause: Cause,
    /// The newest change of each actor it contains.
    pub ack: Ack,
    /// The resolver's counter after this version.
    pub rctr: Ctr,
    /// The newest version of the record that settled a conflict, this one included; 0 if none did.
    pub conflicted: Seq,
    /// The conflict this version settles.
    pub conflict: Option<Box<Conflict>>,
    /// Who asked for this version through driftless; `None` for what happened on a platform.
    pub asked: Option<Box<Asked>>,
    /// A verbatim copy for upsert consumers (claim-7).
    pub copy: bool,
}

/// What a reader knows of a key at its place in the log (read-2): RS.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Known {
    /// What the row contains.
    pub vv: Vv,
    /// The canonical version it descends from.
    pub base_seq: Seq,
    /// Whether that was a deletion.
    pub base_tomb: bool,
    /// How the row looks, under `schema`.
    pub fp: Fp,
    /// The schema in force there (read-10).
    pub schema: SchemaId,
    /// Its time.
    pub ts: Hlc,
    /// Where in the log this became so.
    pub pos: Position,
}

/// RS of a key, in L.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KnownRecord {
    /// The reader's ownership.
    pub stamp: Stamp,
    /// The record.
    pub key: Key,
    /// What is known of it.
    pub known: Known,
}

/// A reader's checkpoint, in L of partition 0 (claim-9).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReaderMark {
    /// The reader's ownership.
    pub stamp: Stamp,
    /// Grows with every mark of this owner.
    pub number: u64,
    /// Everything up to here is published.
    pub pos: Position,
    /// Per partition: newest counter used.
    pub ctr: Vec<Ctr>,
    /// Per partition of C: behind my last contiguously acknowledged append.
    pub cpos: Vec<Offset>,
    /// Per partition: the newest position published.
    pub lastpos: Vec<Position>,
    /// Per collection: how far its first copy is.
    pub copied: Vec<Copying>,
}

/// An agent's ledger entry, in L (agent: `record`).
#[derive(Clone, PartialEq, Debug)]
pub struct LedgerRecord {
    /// The agent's ownership.
    pub stamp: Stamp,
    /// The record.
    pub key: Key,
    /// Grows with every record of this key's platform.
    pub rev: u64,
    /// The entry.
    pub entry: LedgerEntry,
    /// The oldest canonical record not settled, and the link before it (agent-10, claim-1).
    pub canon: Link,
}

/// An agent's mark, in L.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentMark {
    /// The agent's ownership.
    pub stamp: Stamp,
    /// Behind my last valid proposal in C.
    pub cpos: Offset,
    /// The newest counter used.
    pub ctr: Ctr,
    /// The newest revision used.
    pub rev: u64,
    /// Where to go on in D.
    pub canon: Link,
}

/// The head of a key, in S (resolve-4).
#[derive(Clone, PartialEq, Debug)]
pub struct StateRecord {
    /// The resolver's ownership.
    pub stamp: Stamp,
    /// The head.
    pub head: Arc<Canonical>,
}

/// What of a partition belongs to no key, in S (resolve-2).
#[derive(Clone, PartialEq, Debug)]
pub struct ResolverMark {
    /// The resolver's ownership.
    pub stamp: Stamp,
    /// Grows with every mark of the partition.
    pub number: u64,
    /// D is projected up to here.
    pub link: Link,
    /// C is absorbed up to here.
    pub c_off: Offset,
    /// Validity of C at `c_off`.
    pub changes: Validity,
    /// The resolver's counter.
    pub rctr: Ctr,
    /// The rules in force.
    pub rules: Rules,
    /// The schemas in use, newest last.
    pub schemas: Vec<Arc<Schema>>,
}

/// The fold every reader of a partition runs to tell records that count from void ones (§3).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Validity {
    /// The current owner of each role.
    pub owners: BTreeMap<Role, Stamp>,
    /// The newest counter of each actor.
    pub last: BTreeMap<ActorId, Ctr>,
    /// Command ids of control inputs taken.
    pub commands: BTreeMap<u128, ()>,
    /// The chain of D: last valid sequence number and id.
    pub tip: (Seq, u64),
}

/// A record of a dataset's topics.
#[derive(Clone, PartialEq, Debug)]
pub enum Record {
    /// C, S, L: a bid for a role.
    Claim(Claim),
    /// C: what a platform says happened.
    Proposal(Box<Proposal>),
    /// C: what is asked of the resolver.
    Control(Box<ControlInput>),
    /// C: what a source's truncate took away.
    Truncate(Box<Truncate>),
    /// C: what a person decided.
    Review(Box<Review>),
    /// D: what the dataset is.
    Canonical(Arc<Canonical>),
    /// S: the head of a key.
    State(Box<StateRecord>),
    /// S: the resolver's mark.
    ResolverMark(Box<ResolverMark>),
    /// L: what a reader knows of a key.
    Known(Box<KnownRecord>),
    /// L: a reader's checkpoint.
    ReaderMark(Box<ReaderMark>),
    /// L: an agent's ledger entry.
    Ledger(Box<LedgerRecord>),
    /// L: an agent's mark.
    AgentMark(Box<AgentMark>),
    /// conflicts: the version that settled a conflict.
    Conflict(Arc<Canonical>),
    /// dead: what could not be captured or applied.
    Dead(Box<super::dead::DeadLetter>),
}
