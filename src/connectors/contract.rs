//! What a connector is. It reads, locks and writes; it never decides: what may be overwritten is
//! decided by the pure functions of `capture`, `apply` and `agent`, the same for all platforms.
//!
//! A platform is captured and written in one of two ways:
//!
//! * **LOG**: it has an ordered log of committed changes and can hold a ledger row beside a data row
//!   in one transaction. `Reader` gives the log, `Rows` locks and writes.
//! * **HINT**: events only say "look at this key again". `Store` reads one key with its token, and
//!   writes it under the condition that the token still holds; an agent owns both directions.
//!
//! Every call works on batches; waiting calls are cancel-safe.

pub use super::abilities::{Abilities, Capture, Descriptor, Guarantee};
pub use super::exclusive::{Exclusive, ExclusiveWriter};
pub use super::place::{Place, Scope};
pub use super::told::{BatchLimit, Finding, Page, Seen, Unreadable};
pub use crate::event::Landed;
pub use crate::event::lineage::Form;
use crate::event::{Canonical, Fp, Intent, Key, LedgerEntry, Position, Row, Schema, SchemaId, Seq, Token};
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use std::sync::Arc;

/// Number of a collection within its dataset, in the order of the configuration.
pub type CollectionNo = u16;

/// A committed row change, in the order of the log.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// A data row.
    Row {
        /// Its collection.
        collection: CollectionNo,
        /// Its key.
        key: Key,
        /// Its image; `None` for a deletion. May have unchanged fields (value-2).
        after: Option<Arc<Row>>,
        /// Fingerprint of the image as the store holds it; `Fp::ABSENT` for a deletion.
        fp: Fp,
        /// The image before, where the source gives it.
        before: Option<Arc<Row>>,
    },
    /// A row of the ledger that a sink keeps beside the data (read-1).
    Ledger {
        /// Its collection.
        collection: CollectionNo,
        /// The key it is about.
        key: Key,
        /// The row; `None` if it was removed.
        entry: Option<LedgerEntry>,
    },
    /// All rows of a collection are gone at once (read-9).
    Truncate(CollectionNo),
    /// An edit no log showed, put into the log by the sink (sink-8).
    Observed {
        /// Its collection.
        collection: CollectionNo,
        /// Its key.
        key: Key,
        /// What is there; `None` for nothing.
        image: Option<Arc<Row>>,
        /// Fingerprint of it.
        fp: Fp,
    },
    /// A change that cannot be told exactly: not published, kept as a dead letter (P8).
    Unreadable(Box<Unreadable>),
}

/// A committed transaction, whole.
#[derive(Clone, PartialEq, Debug)]
pub struct Transaction {
    /// Where it was committed; its changes are at ordinals 0, 1, … of it.
    pub commit: u64,
    /// Milliseconds since 1970 at which the source committed it.
    pub time_ms: u64,
    /// The ordinal of the first change here, above 0 if a long transaction comes in parts.
    pub first: u64,
    /// Its changes in order.
    pub changes: Vec<Change>,
    /// Forms that tables took in it, or had before they were met, in order.
    pub forms: Vec<Form>,
}

/// What a reader found.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ReadBatch {
    /// Transactions in commit order.
    pub transactions: Vec<Transaction>,
    /// Everything up to here was returned, now or before. Moves without transactions too.
    pub through: Position,
}

/// Reads a LOG platform's committed changes of one dataset.
#[async_trait]
pub trait Reader: Send {
    /// Waits for changes behind what was returned before; an empty batch is a heartbeat.
    async fn next(&mut self, limit: BatchLimit) -> Result<ReadBatch>;

    /// The source may discard its log up to here. Only ever called with a position whose checkpoint
    /// is durable and valid (P2, read-5).
    async fn release(&mut self, through: Position) -> Result<()>;
}

/// A row found by a first copy.
#[derive(Clone, PartialEq, Debug)]
pub struct Copied {
    /// Its collection.
    pub collection: CollectionNo,
    /// Its key.
    pub key: Key,
    /// The row.
    pub row: Arc<Row>,
    /// Fingerprint as the store holds it.
    pub fp: Fp,
    /// Milliseconds since 1970 of its last write, where the source knows it; else 0.
    pub time_ms: u64,
}

/// Reads the rows a LOG platform already holds, as of one position (who-5).
#[async_trait]
pub trait Snapshot: Send {
    /// The snapshot stands before all changes behind this position, and behind all others.
    fn position(&self) -> Position;

    /// The next rows, in an order that can be resumed; `None` when there are no more.
    async fn next(&mut self, limit: BatchLimit) -> Result<Option<Vec<Copied>>>;

    /// Rows that stood among those returned last and cannot be told exactly (P8).
    fn unreadable(&mut self) -> Vec<Unreadable> {
        Vec::new()
    }

    /// About how many rows it returns in all, where that is known without counting them.
    fn expected(&self) -> Option<u64> {
        None
    }
}

/// What is to be done with a canonical version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Nothing: the platform is at or beyond it.
    Skip,
    /// The content is the same already: move the ledger only.
    Adopt,
    /// Write the content and the ledger.
    Write,
    /// Something unseen stands there: leave it, remember the version (sink-4).
    Dirty,
    /// The lock is taken: try again.
    Defer,
    /// Put an unlogged edit into the log (sink-8), leave it otherwise.
    Observe,
}

/// One decided version. If it is no deletion and has no content, the platform does not see the record:
/// its row goes, and its ledger row says `tomb: false` with no content (read-11).
#[derive(Clone, PartialEq, Debug)]
pub struct Planned {
    /// The version.
    pub version: Arc<Canonical>,
    /// The fingerprint its content has once read back from this store.
    pub fp: Fp,
    /// What is to be done.
    pub act: Act,
}

/// What became of a planned version.
#[derive(Clone, PartialEq, Debug)]
pub enum Written {
    /// As planned.
    Done,
    /// The row was not as locked (a race the lock could not exclude): nothing was changed (sink-2).
    Dirty,
    /// The store refuses the row: park it, with the reason.
    Refused(String),
}

/// Locks and writes rows of a LOG platform, one collection's partition at a time.
#[async_trait]
pub trait Rows: Send {
    /// The fingerprint the row will have once read back (norm, correctness.md §3.7), or the reason
    /// why this store can never hold it exactly (P8).
    fn norm(&self, collection: CollectionNo, version: &Canonical) -> Result<Fp>;

    /// The versions of the collection's schema in order, the newest last (read-10): versions and ledger
    /// rows may be of any of them. The platform is made able to hold the newest, as far as `add` names
    /// the fields it may be given; else `column_missing` with what to do. Columns that a version's schema
    /// does not have stay as they are when it is written.
    async fn know(&mut self, _collection: CollectionNo, versions: &[Arc<Schema>], _add: &[Arc<str>]) -> Result<()> {
        if versions.len() < 2 {
            return Ok(());
        }
        let text = "the schema of the dataset has changed, and this platform's connector cannot follow yet";
        Err(Error::new(Code::SchemaUnsupported, text))
    }

    /// Ledger rows without any lock (sink-1), in the order of `keys`.
    async fn ledger(&mut self, collection: CollectionNo, keys: &[Key]) -> Result<Vec<Option<LedgerEntry>>>;

    /// Opens a transaction and locks keys without waiting (sink-2).
    async fn lock(&mut self, collection: CollectionNo, keys: &[Key]) -> Result<Box<dyn Locked + '_>>;
}

/// Keys under lock. Dropping it gives them up and changes nothing.
#[async_trait]
pub trait Locked: Send {
    /// What stands there for the key at `index` of `keys`.
    fn seen(&self, index: usize) -> Seen;

    /// The fingerprint of the content at `index` under one of the schemas that `know` told of (read-10).
    fn seen_as(&self, index: usize, _schema: SchemaId) -> Fp {
        match self.seen(index) {
            Seen::Row { fp, .. } => fp,
            Seen::Busy | Seen::Unreadable(_) => Fp::ABSENT,
        }
    }

    /// Whether columns of a schema were dropped here, so that fingerprints under it cannot be made again.
    fn has_lost(&self, _schema: SchemaId) -> bool {
        false
    }

    /// The position behind the store's newest committed change, as its reader will report it; a
    /// reader that has passed it has seen everything these locks show.
    fn position(&self) -> Position;

    /// Carries out a plan and commits; answers in its order. An error means nothing was changed, or
    /// the outcome is unknown: begin again, the ledger will tell.
    async fn write(self: Box<Self>, plan: &[Planned]) -> Result<Vec<Written>>;
}

/// What a HINT store holds for a key.
#[derive(Clone, PartialEq, Debug)]
pub enum Content {
    /// Nothing.
    Absent,
    /// A record.
    Row(Arc<Row>),
    /// Something that is no record, and why; it must not be overwritten (agent-6).
    Undecodable(String),
}

/// One snapshot of a key: content, token and witness belong together (double collect).
#[derive(Clone, PartialEq, Debug)]
pub struct Observed {
    /// What is there.
    pub content: Content,
    /// Fingerprint of it; `Fp::ABSENT` for nothing, of the raw bytes if undecodable.
    pub fp: Fp,
    /// Its token; `None` for nothing.
    pub token: Option<Token>,
    /// Milliseconds since 1970 of its last write; 0 if unknown or absent.
    pub time_ms: u64,
    /// The fate of the intent that was asked about; `Unknown` if none was.
    pub landed: Landed,
}

/// The answer to one conditional write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It took effect; the token of the new content (`None` for a deletion).
    Done(Option<Token>),
    /// The condition did not hold: it did not and will not take effect.
    Mismatch,
    /// No answer: it may take effect until the intent expires.
    Unknown,
    /// The store refuses this content whatever its state; nothing was written.
    Refused(String),
}

/// A partition of a collection, as its owner knows it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Owned {
    /// The collection.
    pub collection: CollectionNo,
    /// The partition its keys fall into (topic-2).
    pub partition: u32,
    /// The epoch of the owner's claim (agent-1).
    pub epoch: u64,
}

/// Keys to look at again.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Hints {
    /// The keys, each once.
    pub keys: Vec<Key>,
    /// Hints were lost or cannot be told: list the collection again.
    pub rescan: bool,
}

/// Content of the application's that a conditional write moved aside without having seen it, and
/// that could not be put back because something newer stands there; or that a writer with an open
/// file changed afterwards. It is in no key's place and must not be lost: propose it with an empty
/// context (what its writer had seen is unknown), leave the ledger's entry as it is, then `settle`.
#[derive(Clone, PartialEq, Debug)]
pub struct Displaced {
    /// The write that moved it aside; with the collection and partition its name for `settle`.
    pub iid: u64,
    /// The key it belongs to.
    pub key: Key,
    /// What it is.
    pub content: Content,
    /// Fingerprint of it, of the raw bytes if undecodable.
    pub fp: Fp,
    /// Names exactly this content: a later change of it is reported again.
    pub token: Token,
    /// Milliseconds since 1970 of its last write.
    pub time_ms: u64,
}

/// A HINT store, seen by the one agent that owns a partition of it.
#[async_trait]
pub trait Store: Send + Sync {
    /// The fingerprint the content will have once read back, or why the store can never hold it.
    fn norm(&self, collection: CollectionNo, version: &Canonical) -> Result<Fp>;

    /// Rows are of this schema from here on, both ways (read-10): the newest version's fields and those of
    /// earlier ones, in the order they came, so that shorter rows are rows of an earlier time.
    async fn know(&self, _collection: CollectionNo, _schema: &Arc<Schema>) -> Result<()> {
        Ok(())
    }

    /// Reads a key, and asks for the fate of `intent` in the same snapshot. `at.partition` is where
    /// intents of the key are looked for.
    async fn read(&self, at: Owned, key: &Key, intent: Option<&Intent>) -> Result<Observed>;

    /// One conditional write: `row: None` deletes. One request, no retries (agent-8). Fails with
    /// `claim_lost` once a higher epoch than `at.epoch` has fenced the partition (agent-1).
    async fn cas(&self, at: Owned, key: &Key, row: Option<&Row>, intent: &Intent) -> Result<Outcome>;

    /// Content moved aside unseen that waits to be proposed. Asked for after `fence`, and after each
    /// `Mismatch` or now and then.
    async fn displaced(&self, _at: Owned) -> Result<Vec<Displaced>> {
        Ok(Vec::new())
    }

    /// A displaced content is durable in the log; it may be forgotten.
    async fn settle(&self, _at: Owned, _displaced: &Displaced) -> Result<()> {
        Ok(())
    }

    /// Lists keys behind `after` in the store's own order, up to `limit`.
    async fn list(&self, collection: CollectionNo, after: Option<&Key>, limit: usize) -> Result<Page>;

    /// Waits for keys to look at again. Hints may be lost, doubled and out of order.
    async fn hints(&self, collection: CollectionNo) -> Result<Hints>;

    /// Makes sure that no write of an owner with a lower epoch can take effect from the returned time
    /// on, in the store's milliseconds since 1970; `u64::MAX` if only the expiry of each intent
    /// makes sure of that (agent-1).
    async fn fence(&self, collection: CollectionNo, partition: u32, epoch: u64) -> Result<u64>;

    /// The store's clock in milliseconds since 1970, or the machine's.
    fn now_ms(&self) -> u64;

    /// An error if the store looks as if it were not there: a missing marker, an unmounted folder (agent-7).
    async fn present(&self) -> Result<()>;
}

/// Both directions of an opened platform for one dataset.
pub enum Opened {
    /// A LOG platform.
    Log(Box<dyn LogPlatform>),
    /// A HINT platform.
    Hint(Arc<dyn Store>),
}

/// A LOG platform opened for one dataset. Each call opens a connection of its own.
#[async_trait]
pub trait LogPlatform: Send + Sync {
    /// Where the log stands now: a reader from here sees every later change.
    async fn position(&self) -> Result<Position>;

    /// Reads the log behind `from`; fails with `source_identity` if this is not the source the
    /// position came from (read-6).
    async fn reader(&self, from: Position) -> Result<Box<dyn Reader>>;

    /// A snapshot of what is there now, in key order, from behind `after` on if a first copy goes on.
    async fn snapshot(&self, collection: CollectionNo, after: Option<&Key>) -> Result<Box<dyn Snapshot>>;

    /// A writer.
    async fn rows(&self) -> Result<Box<dyn Rows>>;

    /// The keys with the highest numbers in the ledger: no log this platform belongs to ends before them.
    async fn ledger_tops(&self, _collection: CollectionNo, _limit: usize) -> Result<Vec<(Key, Seq)>> {
        Ok(Vec::new())
    }
}

/// A configured platform.
#[async_trait]
pub trait Connector: Send + Sync {
    /// What is wrong, or will be: rights, versions, settings, clocks.
    async fn check(&self, scope: Option<&Scope>) -> Result<Vec<Finding>>;

    /// Whether readers tell the forms of tables at their places; else a start takes them as they are.
    fn tells_forms(&self) -> bool {
        false
    }

    /// The schema of a collection as the platform has it; `None` if it is not there (yet).
    async fn schema(&self, place: &Place) -> Result<Option<Schema>>;

    /// Prepares what capture and apply need (ledger, triggers, marker) and opens both directions. Idempotent.
    async fn open(&self, scope: &Scope) -> Result<Opened>;

    /// Opens a platform of which the log already knows something: what proves that its data are there
    /// (a marker) must be found and is never made anew (agent-7).
    async fn reopen(&self, scope: &Scope) -> Result<Opened> {
        self.open(scope).await
    }

    /// Opens a destination that nobody else writes (who-3); if `Abilities::exclusive` says so.
    async fn exclusive(&self, _scope: &Scope) -> Result<Arc<dyn Exclusive>> {
        Err(super::exclusive::unsupported())
    }

    /// Ties the dataset here to a log by its name; fails with `log_lost` if it is tied to another one.
    async fn bind(&self, _scope: &Scope, _log: u128) -> Result<()> {
        Ok(())
    }

    /// Removes what was made when it was opened; the data stays (verb-9).
    async fn remove(&self, scope: &Scope) -> Result<Vec<Finding>>;
}
