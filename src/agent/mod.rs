//! HINT platforms: one agent per (platform, partition) observes and applies, because both move the
//! same ledger entry (protocol.md §7). Its ledger lies in L; a local write's proposal carries the
//! entry it leads to, so one append does both (agent-2). Nothing is written to the store before the
//! intent is durable *and* known to count (claim-4): an old owner must never write on.

pub mod breaker;
mod displaced;
mod held;
mod letters;
mod marks;
pub mod round;
mod schemas;
pub mod step;

use crate::connectors::contract::{self, CollectionNo, Store};
use crate::event::{ActorId, Ctr, Fp, Key, LedgerEntry, LedgerRecord, Link, Record, Role, Stamp, Validity};
use crate::govern::Allowed;
use crate::guard;
use crate::ledger::order::Order;
use crate::ledger::pending::{Park, Pending, Why};
use crate::runtime::clock::Clock;
use crate::runtime::error::Result;
use crate::runtime::orders::Orders;
use crate::runtime::progress::Progress;
use crate::state::{Keys, Memory, Noted, Plain, State};
use crate::topic::lineages::Lineages;
use crate::topic::message::{LEDGER, message, removal};
use crate::topic::owner::{Bid, Folded, Writer, claim};
use crate::topic::{Delivered, Log, Message, Partition, Session, Typed};
use breaker::Breaker;
use held::{Held, Ledger, Restored};
use schemas::Schemas;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What an agent needs to know before it owns anything.
pub struct Agent {
    /// The log.
    pub log: Arc<dyn Log<Typed>>,
    /// Time, and unique numbers.
    pub clock: Arc<dyn Clock>,
    /// The store.
    pub store: Arc<dyn Store>,
    /// Whose changes these are.
    pub me: ActorId,
    /// The collection.
    pub collection: CollectionNo,
    /// The versions its schema had.
    pub lineages: Arc<dyn Lineages>,
    /// The number of the partition.
    pub index: u32,
    /// Whether a key belongs to the partition.
    pub owns: Arc<dyn Fn(&Key) -> bool + Send + Sync>,
    /// C.
    pub changes: Partition,
    /// D.
    pub dataset: Partition,
    /// L of the platform.
    pub ledger: Partition,
    /// When it acts by itself.
    pub timing: Timing,
    /// How many keys are worked on together.
    pub batch_max: usize,
    /// Begin at the start of D again: a no-op wherever the platform is newer (verb-2).
    pub replay: bool,
    /// Who may write here (who-2).
    pub part: Part,
    /// Where what is known of keys is kept.
    pub memory: Memory,
    /// How long a refused version stays parked before it becomes a dead letter, in milliseconds.
    pub dead_after_ms: u64,
    /// What people ask of it.
    pub orders: Arc<Orders<Order>>,
    /// Asked before each write.
    pub allowed: Allowed,
    /// What is told of the work.
    pub progress: Arc<Progress>,
}

/// Keys looked at together when all are.
const PAGE: usize = 4_096;

/// What a platform does in its dataset (who-2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// Its changes are proposed. If not, they are left alone and block what would replace them.
    pub proposes: bool,
    /// Canonical versions are applied to it.
    pub receives: bool,
}

/// When an agent acts by itself; all in milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timing {
    /// Between full scans: hints may be lost.
    pub scan_every_ms: u64,
    /// Between marks.
    pub mark_every_ms: u64,
    /// How long a conditional write may take before the store refuses it.
    pub write_within_ms: u64,
    /// What is waited beyond that, for clocks that differ.
    pub margin_ms: u64,
}

/// An owned partition of a store.
pub struct Owned<'a> {
    agent: &'a Agent,
    stamp: Stamp,
    changes: Writer,
    ledger: Writer,
    schemas: Schemas,
    held: Ledger,
    /// What removes superseded records from L, once the newer ones are known to count (claim-6).
    superseded: Vec<Message<Typed>>,
    ctr: Ctr,
    rev: u64,
    /// D is read up to here.
    read: Link,
    pending: Pending,
    /// Keys whose content cannot be told, though no version waits for them (agent-6).
    odd: HashMap<Key, Park>,
    /// Keys with a write of unknown fate, and until when nothing is done to them (agent-8).
    quarantine: HashMap<Key, u64>,
    /// Intents whose one answer said "did not take effect".
    definite: HashSet<u64>,
    /// When a key was last seen present, in the store's milliseconds (value-3).
    present: State<u64>,
    breaker: Breaker,
    marked: (Link, u64),
    marked_ms: u64,
    scanned_ms: Option<u64>,
    /// The platform's content was never scanned to its end: what is found is a first copy (who-4).
    first_copy: bool,
}

impl Agent {
    /// claim-5: L first, then C under the same epoch; then older owners' writes are fenced off.
    pub async fn take_over(&self) -> Result<(Owned<'_>, Folded)> {
        let session = self.log.session().await?;
        let owner = self.clock.fresh_id();
        loop {
            if let Some(mut owned) = self.try_take_over(&session, owner).await? {
                if self.replay {
                    owned.read = Link::default();
                }
                let chain = Validity { tip: (owned.read.seq, owned.read.id), ..Validity::default() };
                let folded = Folded::open(&*self.log, &self.dataset, owned.read.offset, chain).await?;
                return Ok((owned, folded));
            }
        }
    }

    async fn try_take_over(&self, session: &Arc<dyn Session<Typed>>, owner: u128) -> Result<Option<Owned<'_>>> {
        let role = Role::Writer(self.me.platform());
        let mut restored = Restored::new(&self.memory);
        let mut folded = Folded::open(&*self.log, &self.ledger, 0, Validity::default()).await?;
        let bid = Bid { at: &self.ledger, role, owner, epoch: None };
        let stamp = claim(&*self.log, session, &mut folded, &bid, |d| restored.take_ledger(d)).await?;
        let Some(stamp) = stamp else { return Ok(None) };
        let ledger = Writer::sole(self.log.clone(), session.clone(), self.ledger.clone(), &folded);
        let (from, validity) = restored.mark.as_ref().map_or((0, Validity::default()), |mark| {
            let owners = [(role, mark.stamp)].into();
            (mark.cpos, Validity { owners, last: [(self.me, mark.ctr)].into(), ..Validity::default() })
        });
        let mut folded = Folded::open(&*self.log, &self.changes, from, validity).await?;
        let bid = Bid { at: &self.changes, role, owner, epoch: Some(stamp.epoch) };
        let me = self.me;
        let won = claim(&*self.log, session, &mut folded, &bid, |d| restored.take_change(me, d)).await?;
        restored.failed.take().map_or(Ok(()), Err)?;
        if won.is_none() {
            return Ok(None);
        }
        let changes = Writer::shared(self.log.clone(), session.clone(), self.changes.clone(), &folded);
        let fenced_ms = self.store.fence(self.collection, self.index, stamp.epoch).await?;
        let mut owned = self.owned(restored, stamp, changes, ledger, fenced_ms);
        owned.schemas = Schemas::read(self).await?;
        Ok(Some(owned))
    }

    fn owned(&self, restored: Restored, stamp: Stamp, changes: Writer, ledger: Writer, fenced_ms: u64) -> Owned<'_> {
        let margin_ms = self.timing.margin_ms;
        let wait = |(key, exp_ms): (Key, u64)| (key, fenced_ms.min(exp_ms + margin_ms));
        let quarantine = restored.unfinished.into_iter().map(wait).collect();
        Owned {
            agent: self,
            stamp,
            changes,
            ledger,
            schemas: Schemas::default(),
            held: restored.ledger,
            superseded: Vec::new(),
            ctr: restored.ctr,
            rev: restored.rev,
            read: restored.canon,
            pending: Pending::default(),
            odd: HashMap::new(),
            quarantine,
            definite: HashSet::new(),
            present: State::new(self.memory.cold(Arc::new(Plain))),
            breaker: Breaker::default(),
            marked: (restored.canon, 0),
            marked_ms: self.clock.now_ms(),
            scanned_ms: None,
            first_copy: restored.mark.is_none(),
        }
    }
}

impl Owned<'_> {
    /// The partition as the store knows its owner.
    fn place(&self) -> contract::Owned {
        let Agent { collection, index, .. } = *self.agent;
        contract::Owned { collection, partition: index, epoch: self.stamp.epoch }
    }

    /// Takes hints: the keys of the partition in them, and whether everything must be listed again.
    pub fn hinted(&mut self, hints: contract::Hints) -> Vec<Key> {
        self.scanned_ms = self.scanned_ms.filter(|_| !hints.rescan);
        hints.keys.into_iter().filter(|key| (self.agent.owns)(key)).collect()
    }

    /// Takes a batch of D; the keys in it are to be worked on.
    pub async fn receive(&mut self, batch: Vec<(Delivered<Typed>, bool)>) -> Result<Vec<Key>> {
        let mut keys = Vec::with_capacity(batch.len());
        for (delivered, valid) in batch {
            let valid = valid || !guard!("claim-void", true);
            self.read.offset = delivered.offset + 1;
            let Some(Record::Canonical(version)) = delivered.payload.as_deref().filter(|_| valid) else { continue };
            self.meet(version.schema).await?;
            let version = self.schemas.lifted(version)?;
            self.read = Link { offset: delivered.offset + 1, seq: version.seq, id: version.id };
            self.pending.take_over(&version, delivered.offset);
            keys.push(version.key.clone());
            self.pending.hold(version, Why::Busy);
        }
        Ok(keys)
    }

    /// The keys whose quarantine is over.
    pub fn released(&mut self) -> Vec<Key> {
        let now_ms = self.agent.store.now_ms();
        let mut keys: Vec<Key> =
            self.quarantine.iter().filter(|(_, until)| **until < now_ms).map(|(key, _)| key.clone()).collect();
        keys.extend(self.parked_due());
        keys
    }

    /// When something is due by itself, in milliseconds since 1970.
    #[must_use]
    pub fn due_ms(&self) -> u64 {
        // The store's clock decides when a quarantine is over; it may differ from ours.
        let (now_ms, store_ms) = (self.agent.clock.now_ms(), self.agent.store.now_ms());
        let released =
            self.quarantine.values().min().map_or(u64::MAX, |until| now_ms + (until + 1).saturating_sub(store_ms));
        let timing = self.agent.timing;
        let moved = (self.canon(), self.rev) != self.marked;
        let mark = if moved { self.marked_ms + timing.mark_every_ms } else { u64::MAX };
        released.min(self.scan_due_ms()).min(mark).min(self.pending.again_ms())
    }

    /// When the next scan is due; at once after a takeover (agent-4).
    #[must_use]
    pub fn scan_due_ms(&self) -> u64 {
        self.scanned_ms.map_or(0, |at| at.saturating_add(self.agent.timing.scan_every_ms))
    }

    /// Lists the store and works on every key of the partition, present or expected (agent-4).
    pub async fn scan(&mut self) -> Result<()> {
        self.scanned_ms = Some(self.agent.clock.now_ms());
        if !guard!("agent-4", true) {
            return Ok(());
        }
        // What was asked while nobody was at work here.
        self.obey().await?;
        self.agent.store.present().await?;
        let mut found = Keys::new(&self.agent.memory);
        let mut after: Option<Key> = None;
        loop {
            let page = self.agent.store.list(self.agent.collection, after.as_ref(), self.agent.batch_max).await?;
            after = page.keys.last().cloned().or(after);
            page.keys.iter().filter(|key| (self.agent.owns)(key)).try_for_each(|key| found.add(key))?;
            if page.last {
                break;
            }
        }
        self.expect(&mut found)?;
        self.propose_displaced().await?;
        let mut after: Option<Key> = None;
        loop {
            let keys = found.page(after.as_ref(), PAGE)?;
            let Some(last) = keys.last() else { break };
            after = Some(last.clone());
            let (number, count) = (self.agent.collection, keys.len());
            self.work(keys).await?;
            if self.first_copy {
                self.agent.progress.copied(number, count);
            }
        }
        if self.first_copy {
            self.first_copy = false;
            self.agent.progress.copied_all(self.agent.collection);
            self.write_mark().await?;
        }
        Ok(())
    }

    /// Adds what should be there to what was found. Fails if too much of it is missing (agent-7).
    fn expect(&mut self, found: &mut Keys) -> Result<()> {
        let (mut expected, mut missing, mut after) = (0, Vec::new(), None::<Key>);
        let mut absent = Keys::new(&self.agent.memory);
        loop {
            let page = self.held.page(after.as_ref(), PAGE)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            found.fetch(page.iter().map(|(key, _)| key))?;
            for (key, held) in &page {
                // An entry may hold a first write that never landed: nothing was there that could disappear.
                let was_there = held.entry.fp != Fp::ABSENT;
                let is_found = found.has(key);
                expected += usize::from(was_there);
                missing.extend((was_there && !is_found).then(|| key.clone()));
                if !is_found {
                    absent.add(key)?;
                }
            }
        }
        self.believable(&missing.iter().collect::<Vec<_>>(), expected, false)?;
        let mut after: Option<Key> = None;
        loop {
            let keys = absent.page(after.as_ref(), PAGE)?;
            let Some(last) = keys.last() else { return Ok(()) };
            after = Some(last.clone());
            keys.iter().try_for_each(|key| found.add(key))?;
        }
    }

    /// The next revision of a key's entry, as a record of L; the entry is held from now on.
    fn record(&mut self, key: Key, entry: LedgerEntry) -> Result<Message<Typed>> {
        self.rev += 1;
        let older = self.held.get(&key).and_then(|held| held.noted);
        self.superseded.extend(older.map(|older| removal(LEDGER, &key, older.number, older.owner)));
        let noted = Some(Noted::new(self.rev, self.stamp));
        let held = Held { entry: entry.clone(), rev: self.rev, in_changes: false, noted };
        self.held.put(key.clone(), held)?;
        let record = LedgerRecord { stamp: self.stamp, key, rev: self.rev, entry, canon: self.canon() };
        Ok(message(Arc::new(Record::Ledger(Box::new(record)))))
    }

    /// Writes L and knows that it counts when this returns (claim-4); then removes what it supersedes.
    async fn write_ledger(&mut self, records: Vec<Message<Typed>>) -> Result<()> {
        let removals = std::mem::take(&mut self.superseded);
        self.ledger.send(records);
        self.ledger.settle_all().await?;
        self.ledger.send(removals);
        Ok(())
    }
}
