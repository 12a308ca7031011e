//! Canonical versions go to LOG platforms under their ledger (protocol.md §6). A sink has no claim:
//! the ledger, read again under lock, is its only fence, so any number of sinks may run. Every
//! version ends with a fate; offsets follow effects (P4, P5).

mod commits;
pub mod decide;
pub mod exclusive;
pub mod knowledge;
mod letters;
mod schemas;

use crate::connectors::contract::{Act, CollectionNo, Locked, Planned, Rows, Seen, Written};
use crate::event::{ActorId, Canonical, Fp, Key, Link, Position, Record, SchemaId, Validity};
use crate::govern::Allowed;
use crate::guard;
use crate::ledger::order::Order;
use crate::ledger::pending::{Park, Pending, Why};
use crate::runtime::clock::Clock;
use crate::runtime::error::{Code, Remedy, Result};
use crate::runtime::orders::Orders;
use crate::runtime::progress::Progress;
use crate::state::Memory;
use crate::topic::lineages::Lineages;
use crate::topic::owner::Folded;
use crate::topic::{Delivered, Log, Membership, Partition, Typed};
use commits::{Commits, link_of};
use decide::{decide, end_dirty, same_log};
use knowledge::Knowledge;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What a sink needs to know.
pub struct Sink {
    /// The log.
    pub log: Arc<dyn Log<Typed>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The platform's actor, whose own writes come back acknowledged.
    pub me: ActorId,
    /// The collection.
    pub collection: CollectionNo,
    /// The versions its schema had.
    pub lineages: Arc<dyn Lineages>,
    /// D.
    pub dataset: Partition,
    /// Where the platform's reader writes; `None` if it has none.
    pub reader: Option<ReaderTopics>,
    /// Milliseconds between looks at what waits.
    pub retry_every_ms: u64,
    /// How many versions may wait before the partition does (sink-2, sink-4).
    pub pending_max: usize,
    /// How long a refused version stays parked before it becomes a dead letter (sink-5), in milliseconds.
    pub dead_after_ms: u64,
    /// What people ask of it.
    pub orders: Arc<Orders<Order>>,
    /// Asked before each write.
    pub allowed: Allowed,
    /// What its reader knows lies here.
    pub memory: Memory,
    /// What is told of the work.
    pub progress: Arc<Progress>,
}

/// Where a platform's reader writes what it knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReaderTopics {
    /// L of the sink's partition: RS.
    pub ledger: Partition,
    /// The first L: checkpoints (claim-9).
    pub marks: Partition,
}

/// How many versions ended how, since they were counted last.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fates {
    /// Written or adopted.
    pub applied: u64,
    /// The platform was at or beyond them.
    pub skipped: u64,
    /// Wait for the reader or for a lock.
    pub held: u64,
    /// The store refuses them.
    pub parked: u64,
}

/// A sink at work on its partition.
pub struct Applying<'a> {
    sink: &'a Sink,
    rows: Box<dyn Rows>,
    /// The schemas that `rows` was told of (read-10).
    schemas: HashSet<SchemaId>,
    pending: Pending,
    knowledge: Option<Knowledge>,
    /// Read up to here; the chain before it is known to be valid.
    read: Link,
    commits: Commits<'a>,
    retry_ms: u64,
    /// Counted since the last call of `take_fates`.
    fates: Fates,
}

impl Sink {
    /// Starts where the group left off, and returns the place to read D from (claim-1).
    ///
    /// Nothing is written before the platform's reader has fixed where it begins: the log behind that
    /// place must hold every ledger row, or the reader would not know what the rows contain
    /// (docs/decisions/0007).
    pub async fn start<'a>(
        &'a self,
        rows: Box<dyn Rows>,
        member: &'a dyn Membership,
    ) -> Result<(Applying<'a>, Folded)> {
        if let Some(reader) = self.reader.as_ref().filter(|_| guard!("reader-first", true)) {
            knowledge::first_mark(&*self.log, reader).await?;
        }
        let link = match member.committed(&self.dataset).await? {
            Some(committed) => link_of(&committed)?,
            None => Link::default(),
        };
        let chain = Validity { tip: (link.seq, link.id), ..Validity::default() };
        let folded = Folded::open(&*self.log, &self.dataset, link.offset, chain).await?;
        self.progress.finished(link.offset, 0, self.clock.now_ms());
        let mut applying = Applying {
            sink: self,
            rows,
            schemas: HashSet::new(),
            pending: Pending::default(),
            knowledge: None,
            read: link,
            commits: Commits::new(member, &self.dataset, link),
            retry_ms: 0,
            fates: Fates::default(),
        };
        applying.tell_schemas().await?;
        Ok((applying, folded))
    }
}

impl Applying<'_> {
    /// Whether so much waits that nothing more may be read.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.pending.len() >= self.sink.pending_max
    }

    /// When what waits is looked at again, or what is finished is committed, in milliseconds since 1970.
    #[must_use]
    pub fn due_ms(&self) -> u64 {
        let retry_ms = if self.pending.any_open() { self.retry_ms } else { self.pending.again_ms() };
        retry_ms.min(self.commits.due_ms(self.finished()))
    }

    /// Up to where everything is finished: the oldest version that waits (sink-4, sink-7).
    fn finished(&self) -> Link {
        self.pending.oldest().filter(|_| guard!("sink-7", true)).unwrap_or(self.read)
    }

    /// What became of versions since the last call.
    pub fn take_fates(&mut self) -> Fates {
        Fates { held: self.pending.len() as u64, ..std::mem::take(&mut self.fates) }
    }

    /// Applies a batch of D. Of several versions of a key only the newest is written.
    pub async fn apply(&mut self, batch: Vec<(Delivered<Typed>, bool)>) -> Result<()> {
        let (mut newest, mut places) = (Vec::with_capacity(batch.len()), HashMap::with_capacity(batch.len()));
        for (delivered, valid) in batch {
            let valid = valid || !guard!("claim-void", true);
            self.read.offset = delivered.offset + 1;
            let Some(Record::Canonical(version)) = delivered.payload.as_deref().filter(|_| valid) else { continue };
            self.read = Link { offset: delivered.offset + 1, seq: version.seq, id: version.id };
            self.pending.take_over(version, delivered.offset);
            self.fates.skipped += u64::from(replace(&mut newest, &mut places, version));
        }
        self.work(newest, false).await
    }

    /// Looks again at what waits: deferred keys, and DIRTY keys the reader has caught up with.
    pub async fn retry(&mut self) -> Result<()> {
        let now_ms = self.sink.clock.now_ms();
        self.bury(now_ms).await?;
        if let (Some(reader), true) = (&self.sink.reader, self.pending.any_dirty()) {
            let knowledge = match self.knowledge.take() {
                Some(knowledge) => knowledge,
                None => Knowledge::open(&*self.sink.log, reader, &self.sink.memory).await?,
            };
            let knowledge = self.knowledge.insert(knowledge);
            knowledge.read_on(&*self.sink.log, reader, &self.pending).await?;
        } else if let Some(knowledge) = &mut self.knowledge {
            knowledge.give_back()?;
        }
        self.meet_known().await?;
        let through = self.knowledge.as_ref().map(|knowledge| knowledge.through);
        self.work(self.pending.versions(now_ms, through), true).await?;
        // However many wait, most of the time is for what comes next.
        let (ended_ms, pause_ms) = (self.sink.clock.now_ms(), self.sink.retry_every_ms);
        self.retry_ms = ended_ms + pause_ms.max(4 * ended_ms.saturating_sub(now_ms));
        Ok(())
    }

    /// One transaction of the store: lock, decide, write, commit.
    async fn work(&mut self, versions: Vec<Arc<Canonical>>, again: bool) -> Result<()> {
        self.meet(versions.iter().map(|version| version.schema)).await?;
        let versions = self.without_replays(versions).await?;
        let mut prepared = Vec::with_capacity(versions.len());
        for version in versions {
            match self.rows.norm(self.sink.collection, &version) {
                Ok(fp) => prepared.push((version, fp)),
                Err(error) if error.remedy() == Remedy::Park => {
                    self.park(&version, error.code.as_str(), error.to_string(), false);
                }
                Err(error) => return Err(error),
            }
        }
        if prepared.is_empty() {
            return Ok(());
        }
        (self.sink.allowed)()?;
        // Locks are taken in key order, so that two writers never wait for each other (sink-2).
        prepared.sort_by(|a, b| a.0.key.cmp(&b.0.key));
        let keys: Vec<Key> = prepared.iter().map(|(version, _)| version.key.clone()).collect();
        let locked = self.rows.lock(self.sink.collection, &keys).await?;
        let at = locked.position();
        let plan: Vec<(Planned, Content)> = {
            let judge = Judge { sink: self.sink, pending: &self.pending, knowledge: self.knowledge.as_ref(), again };
            let plan = |(index, (version, fp))| judge.plan(version, fp, &*locked, index);
            prepared.into_iter().enumerate().map(plan).collect()
        };
        let (planned, contents): (Vec<Planned>, Vec<Content>) = plan.into_iter().unzip();
        let written = locked.write(&planned).await?;
        for ((planned, content), written) in planned.into_iter().zip(contents).zip(written) {
            match content {
                Ok(content) => self.settle(planned, content, written, at),
                // P8: what nobody can tell is overwritten by nobody.
                Err(why) => self.park(&planned.version, Code::ValueRefused.as_str(), why, true),
            }
        }
        Ok(())
    }

    /// sink-1: what the ledger says is done is dropped before any lock is taken.
    async fn without_replays(&mut self, versions: Vec<Arc<Canonical>>) -> Result<Vec<Arc<Canonical>>> {
        if versions.is_empty() {
            return Ok(versions);
        }
        let keys: Vec<Key> = versions.iter().map(|v| v.key.clone()).collect();
        let ledger = self.rows.ledger(self.sink.collection, &keys).await?;
        self.meet(ledger.iter().flatten().map(|entry| entry.schema)).await?;
        let mut open = Vec::with_capacity(versions.len());
        for (version, entry) in versions.into_iter().zip(ledger) {
            match entry.filter(|entry| guard!("sink-1", entry.seq >= version.seq)) {
                Some(entry) => {
                    same_log(&version, &entry)?;
                    self.pending.settle(&version.key);
                    self.fates.skipped += 1;
                }
                None => open.push(version),
            }
        }
        Ok(open)
    }

    /// The fate of one version.
    fn settle(&mut self, planned: Planned, content: Fp, written: Written, at: Position) {
        let Planned { version, act, .. } = planned;
        match (act, written) {
            (_, Written::Refused(why)) => self.park(&version, Code::ConstraintViolated.as_str(), why, false),
            (Act::Skip, Written::Done) => {
                self.pending.settle(&version.key);
                self.fates.skipped += 1;
            }
            (Act::Adopt | Act::Write, Written::Done) => {
                if act == Act::Write {
                    self.sink.progress.applied_bytes(version.size());
                }
                self.pending.settle(&version.key);
                self.fates.applied += 1;
                self.sink.progress.delivered(version.ts.ms(), self.sink.clock.now_ms());
            }
            // The row moved under the lock: everything is open again.
            (Act::Adopt | Act::Write, Written::Dirty) | (Act::Defer, _) => self.hold(version, Why::Busy),
            // The edit stands in the log behind everything seen here: not before the reader has met it.
            (Act::Observe, Written::Done) => {
                self.pending.look_anew(&version.key);
                self.hold(version, Why::Dirty { seen: content, at: Position::new(at.commit + 1, 0) });
            }
            (Act::Dirty | Act::Observe | Act::Skip, Written::Done | Written::Dirty) => {
                self.hold(version, Why::Dirty { seen: content, at })
            }
        }
    }

    fn hold(&mut self, version: Arc<Canonical>, why: Why) {
        self.pending.hold(version, why);
        let now_ms = self.sink.clock.now_ms();
        if self.retry_ms <= now_ms {
            self.retry_ms = now_ms + self.sink.retry_every_ms;
        }
    }

    fn park(&mut self, version: &Arc<Canonical>, code: &'static str, why: String, lasting: bool) {
        self.fates.parked += 1;
        let park = Park::new(code, why, lasting, self.sink.clock.now_ms());
        self.pending.hold(version.clone(), Why::Parked(park));
    }

    /// Tells what is finished, and begins to record it now and then.
    pub fn commit(&mut self) {
        let (link, now_ms) = (self.finished(), self.sink.clock.now_ms());
        if now_ms >= self.commits.due_ms(link) {
            self.commits.begin(link, now_ms);
        }
        let fates = self.take_fates();
        self.sink.progress.applied(fates.applied, fates.skipped);
        self.sink.progress.finished(link.offset, self.pending.len(), now_ms);
        self.sink.progress.parked_are(self.pending.parked().map(letters::told));
    }

    /// Waits for the commit under way; for ever if there is none. Cancel-safe.
    pub async fn committed(&mut self) -> Result<()> {
        self.commits.done().await
    }

    /// Records what is finished before another sink goes on with it (claim-9: draining).
    pub async fn hand_over(&mut self) -> Result<()> {
        self.commits.complete(self.finished(), self.sink.clock.now_ms()).await
    }
}

/// What stands there, or why nobody can tell.
type Content = std::result::Result<Fp, String>;

/// Decides with everything a sink knows.
struct Judge<'a> {
    sink: &'a Sink,
    pending: &'a Pending,
    knowledge: Option<&'a Knowledge>,
    again: bool,
}

impl Judge<'_> {
    /// The plan for a version, and the content it was decided on.
    fn plan(&self, version: Arc<Canonical>, fp: Fp, locked: &dyn Locked, index: usize) -> (Planned, Content) {
        let seen = locked.seen(index);
        let content = match &seen {
            Seen::Row { fp, .. } => Ok(*fp),
            Seen::Busy => Ok(Fp::ABSENT),
            Seen::Unreadable(why) => Err(why.clone()),
        };
        // read-10: each fingerprint counts under its own schema.
        let under = |schema: SchemaId| {
            let schema = if guard!("read-10-seen", true) { schema } else { version.schema };
            locked.seen_as(index, schema)
        };
        let mut act = decide(self.sink.me, &version, fp, &seen, under);
        if let (Act::Dirty, true, Ok(content)) = (act, self.again, &content) {
            act = self.end_dirty(&version, *content, locked, index);
        }
        (Planned { version, fp, act }, content)
    }

    /// sink-4: only once the reader's durable position has passed the place at which this very
    /// content was seen.
    fn end_dirty(&self, version: &Canonical, content: Fp, locked: &dyn Locked, index: usize) -> Act {
        let Some(Why::Dirty { seen, at }) = self.pending.why(&version.key) else { return Act::Dirty };
        let Some(knowledge) = self.knowledge else { return Act::Dirty };
        let passed = knowledge.through >= *at && *seen == content;
        if guard!("sink-4", !passed) {
            return Act::Dirty;
        }
        let known = knowledge.known(&version.key);
        // Behind a dropped column content cannot be compared: what the reader has passed is what it knows.
        let content = known.map_or(content, |known| {
            if locked.has_lost(known.schema) { known.fp } else { locked.seen_as(index, known.schema) }
        });
        end_dirty(self.sink.me, version, content, known)
    }
}

/// Keeps only the newest version per key; returns whether one was replaced.
fn replace(newest: &mut Vec<Arc<Canonical>>, places: &mut HashMap<Key, usize>, version: &Arc<Canonical>) -> bool {
    let older = places.get(&version.key).and_then(|place| newest.get_mut(*place));
    if let Some(older) = older {
        *older = version.clone();
        return true;
    }
    places.insert(version.key.clone(), newest.len());
    newest.push(version.clone());
    false
}
