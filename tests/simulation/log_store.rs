//! A LOG platform in memory: rows and ledger in one transaction, an ordered log of them, locks per
//! key that nobody waits for. Every call yields before each effect, so that crashes and other tasks
//! fall between any two; a commit may fail, or take effect and not answer. The store also judges: a
//! platform write must not hide what nobody saw, move a ledger back, or rest on a void version.

use super::evolving::{Forms, Told};
use super::executor::{Rng, SimClock, yield_once};
use super::shared::{Count, Shared, trace};
use super::workload::{Tags, fp, key_index, schema, tags};
use async_trait::async_trait;
use driftless::connectors::contract::{
    Act, BatchLimit, Change, CollectionNo, Copied, Locked, LogPlatform, Planned, ReadBatch, Reader, Rows, Seen,
    Snapshot, Transaction, Written,
};
use driftless::event::lineage::Lens;
use driftless::event::{Canonical, Fp, Key, LedgerEntry, Position, Row, Schema, SchemaId, Value};
use driftless::runtime::clock::Clock;
use driftless::runtime::error::{Code, Error, Result};
use driftless::topic::name::Topics;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};

/// Says whether a valid checkpoint at or beyond a position is durable (P2).
pub(crate) type Durable = Box<dyn Fn(Position) -> bool + Send + Sync>;

/// What a platform write must not do, whatever the store: I9.
pub(crate) fn judge_overwrite(shared: &Shared, set: bool, platform: usize, key: &Key, old: Tags, new: Tags) {
    let hidden = old & !new;
    let unpublished = hidden & !*shared.published.lock();
    if unpublished != 0 {
        shared.violation(format!(
            "I9: platform {platform} hid tags {unpublished:#b} of {key:?} that no valid proposal carries"
        ));
    }
    let kept = hidden & !shared.journal.lock().removed;
    if set && kept != 0 {
        shared.violation(format!("I9: platform {platform} hid tags {kept:#b} of {key:?} that nobody removed"));
    }
}

#[derive(Clone)]
pub(crate) struct LogStore(Arc<Inner>);

struct Inner {
    /// Index of the platform.
    index: usize,
    set: bool,
    topics: Topics,
    shared: Arc<Shared>,
    clock: Arc<SimClock>,
    durable: OnceLock<Durable>,
    state: Mutex<State>,
}

struct State {
    rng: Rng,
    rows: BTreeMap<Key, (Arc<Row>, Fp)>,
    ledger: BTreeMap<Key, LedgerEntry>,
    log: VecDeque<Transaction>,
    commit: u64,
    pruned: u64,
    locks: Vec<(Key, u64)>,
    lockers: u64,
    waiting: Vec<Waker>,
    forms: Forms,
}

/// What an application makes of a key.
type Edit = (Key, Option<Arc<Row>>);

/// The locker that stands for the application.
const APPLICATION: u64 = 0;

impl State {
    fn fp(&self, key: &Key) -> Fp {
        self.rows.get(key).map_or(Fp::ABSENT, |r| r.1)
    }

    fn image(&self, key: &Key) -> Option<Arc<Row>> {
        self.rows.get(key).map(|r| r.0.clone())
    }

    fn put(&mut self, key: &Key, row: Option<Arc<Row>>, fp: Fp) {
        match row {
            Some(row) => _ = self.rows.insert(key.clone(), (row, fp)),
            None => _ = self.rows.remove(key),
        }
    }

    fn edit(&mut self, (key, after): Edit) -> Change {
        let before = self.image(&key);
        let says = self.rng.chance(300).then_some(9);
        let after = self.forms.written(after, before.as_deref(), says);
        let fp = fp(after.as_deref());
        self.put(&key, after.clone(), fp);
        Change::Row { collection: 0, key, after, fp, before }
    }

    fn is_locked(&self, key: &Key) -> bool {
        self.locks.iter().any(|l| l.0 == *key)
    }

    fn append(&mut self, time_ms: u64, changes: Vec<Change>) {
        self.commit += 1;
        if !changes.is_empty() {
            self.log.push_back(Transaction { commit: self.commit, time_ms, first: 0, changes, forms: Vec::new() });
        }
        self.waiting.drain(..).for_each(Waker::wake);
    }

    fn position(&self) -> Position {
        if self.commit == 0 { Position::START } else { Position::end_of(self.commit) }
    }
}

impl LogStore {
    pub(crate) fn new(
        index: usize,
        set: bool,
        topics: Topics,
        shared: Arc<Shared>,
        clock: Arc<SimClock>,
        rng: Rng,
    ) -> Self {
        let state = State {
            rng,
            rows: BTreeMap::new(),
            ledger: BTreeMap::new(),
            log: VecDeque::new(),
            commit: 0,
            pruned: 0,
            locks: Vec::new(),
            lockers: APPLICATION,
            waiting: Vec::new(),
            forms: Forms::default(),
        };
        let durable = OnceLock::new();
        LogStore(Arc::new(Inner { index, set, topics, shared, clock, durable, state: Mutex::new(state) }))
    }

    /// Gives the store the means to check that it may discard its log.
    pub(crate) fn judge_release(&self, durable: Durable) {
        _ = self.0.durable.set(durable);
    }

    pub(crate) fn tags(&self, key: &Key) -> Tags {
        tags(self.0.state.lock().image(key).as_deref())
    }

    /// Whether there is a row; it may hold no tags after a merge.
    pub(crate) fn holds(&self, key: &Key) -> bool {
        self.0.state.lock().rows.contains_key(key)
    }

    /// Whether the application could write now. An absent row cannot be locked (sink-2).
    pub(crate) fn can_write(&self, key: &Key) -> bool {
        let state = self.0.state.lock();
        !state.is_locked(key) || !state.rows.contains_key(key)
    }

    /// An application's transaction; without `logged` no reader ever sees it (sink-8).
    pub(crate) fn app_write(&self, key: &Key, row: Option<Arc<Row>>, logged: bool) {
        let mut state = self.0.state.lock();
        let change = state.edit((key.clone(), row));
        if logged {
            state.append(self.0.clock.now_ms(), vec![change]);
        }
        self.0.shared.active();
    }

    /// An application's transaction that leaves the value as it was: the log's image leaves it out. Only of
    /// what the dataset knows already: the log of a row that was never copied cannot be filled.
    pub(crate) fn app_touch(&self, key: &Key) -> bool {
        let mut state = self.0.state.lock();
        let known = |row: &Arc<Row>| tags(Some(row)) & !*self.0.shared.published.lock() == 0;
        let Some(row) = state.image(key).filter(|row| known(row) && !state.is_locked(key)) else { return false };
        let touched = Row(row.0.iter().take(1).cloned().chain([Value::Unchanged]).collect());
        let fp = fp(Some(&touched));
        let change = Change::Row { collection: 0, key: key.clone(), after: Some(Arc::new(touched)), fp, before: None };
        state.append(self.0.clock.now_ms(), vec![change]);
        self.0.shared.active();
        true
    }

    /// Whether any row is locked: then the table cannot be truncated.
    pub(crate) fn is_locked(&self) -> bool {
        !self.0.state.lock().locks.is_empty()
    }

    /// A transaction that empties the table, between two other edits.
    pub(crate) fn app_truncate(&self, before: Option<Edit>, after: Option<Edit>) {
        let mut state = self.0.state.lock();
        let mut changes: Vec<Change> = before.into_iter().map(|edit| state.edit(edit)).collect();
        state.rows.clear();
        changes.push(Change::Truncate(0));
        changes.extend(after.into_iter().map(|edit| state.edit(edit)));
        state.append(self.0.clock.now_ms(), changes);
        self.0.shared.active();
    }

    /// A transaction that touches nothing of the dataset.
    pub(crate) fn foreign_commit(&self) {
        self.0.state.lock().append(0, Vec::new());
    }

    /// An application changes the table; false while somebody works on it.
    pub(crate) fn app_alter(&self) -> bool {
        let state = &mut *self.0.state.lock();
        let free = state.locks.is_empty();
        if free {
            state.forms.alter(state.commit, &mut state.rows);
        }
        free
    }

    /// An application's transaction holds a row; false if it is locked or absent.
    pub(crate) fn app_hold(&self, key: &Key) -> bool {
        let mut state = self.0.state.lock();
        let free = !state.is_locked(key) && state.rows.contains_key(key);
        if free {
            state.locks.push((key.clone(), APPLICATION));
        }
        free
    }

    /// Ends what `app_hold` began.
    pub(crate) fn app_release(&self) {
        self.0.state.lock().locks.retain(|l| l.1 != APPLICATION);
    }
}

impl Inner {
    fn fault(&self, permille: u32) -> bool {
        !self.shared.is_calm() && self.state.lock().rng.chance(permille)
    }
}

fn unreachable(what: &str) -> Error {
    Error::new(Code::SourceUnreachable, format!("the store did not answer while {what}"))
}

#[async_trait]
impl LogPlatform for LogStore {
    async fn position(&self) -> Result<Position> {
        yield_once().await;
        Ok(self.0.state.lock().position())
    }

    async fn reader(&self, from: Position) -> Result<Box<dyn Reader>> {
        yield_once().await;
        // A position inside a transaction gives the whole transaction again, as real logs do.
        let done = if from.ordinal == u64::MAX { from.commit } else { from.commit.saturating_sub(1) };
        Ok(Box::new(LogReader { store: self.0.clone(), done, told: None }))
    }

    async fn snapshot(&self, _collection: CollectionNo, after: Option<&Key>) -> Result<Box<dyn Snapshot>> {
        yield_once().await;
        let state = self.0.state.lock();
        let rows = state.rows.iter().filter(|(k, _)| after.is_none_or(|a| *k > a));
        let opened = Lens::new(state.forms.own(), schema());
        let copied = |(key, (row, _)): (&Key, &(Arc<Row>, Fp))| Copied {
            collection: 0,
            key: key.clone(),
            row: Arc::new(opened.lift(row, &Value::Null)),
            fp: opened.fp(row),
            time_ms: 0,
        };
        Ok(Box::new(LogSnapshot { position: state.position(), rows: rows.map(copied).collect() }))
    }

    async fn rows(&self) -> Result<Box<dyn Rows>> {
        yield_once().await;
        Ok(Box::new(LogRows(self.0.clone(), Told::default())))
    }
}

struct LogSnapshot {
    position: Position,
    rows: VecDeque<Copied>,
}

#[async_trait]
impl Snapshot for LogSnapshot {
    fn position(&self) -> Position {
        self.position
    }

    async fn next(&mut self, limit: BatchLimit) -> Result<Option<Vec<Copied>>> {
        yield_once().await;
        let batch: Vec<_> = self.rows.drain(..self.rows.len().min(limit.rows_max.max(1))).collect();
        Ok((!batch.is_empty()).then_some(batch))
    }
}

struct LogReader {
    store: Arc<Inner>,
    /// Transactions up to this commit were returned.
    done: u64,
    told: Option<Arc<Schema>>,
}

#[async_trait]
impl Reader for LogReader {
    async fn next(&mut self, limit: BatchLimit) -> Result<ReadBatch> {
        // What is there already is often returned at once, between the chunks of a copy, too.
        let at_once = self.store.state.lock().rng.chance(500);
        if !at_once {
            yield_once().await;
        }
        poll_fn(|context| {
            let mut state = self.store.state.lock();
            if self.done < state.pruned {
                self.store.shared.count(Count::Pruned);
                let lost = Error::new(Code::SourceIdentity, "the source has discarded the log behind this position");
                return Poll::Ready(Err(lost));
            }
            if self.done == state.commit {
                if !state.waiting.last().is_some_and(|w| w.will_wake(context.waker())) {
                    state.waiting.push(context.waker().clone());
                }
                return Poll::Pending;
            }
            let max = (1 + state.rng.below(4)).min(limit.rows_max.max(1));
            let start = state.log.partition_point(|t| t.commit <= self.done);
            let told = |t: &Transaction| state.forms.told(t.clone(), &mut self.told);
            let transactions: Vec<_> = state.log.iter().skip(start).take(max).map(told).collect();
            self.done = match transactions.last() {
                Some(last) if start + transactions.len() < state.log.len() => last.commit,
                _ => state.commit,
            };
            Poll::Ready(Ok(ReadBatch { transactions, through: Position::end_of(self.done) }))
        })
        .await
    }

    async fn release(&mut self, through: Position) -> Result<()> {
        yield_once().await;
        if self.store.durable.get().is_some_and(|durable| !durable(through)) {
            let index = self.store.index;
            self.store
                .shared
                .violation(format!("P2: platform {index} was released to {through:?}, beyond any valid checkpoint"));
        }
        let mut state = self.store.state.lock();
        let whole = if through.ordinal == u64::MAX { through.commit } else { through.commit.saturating_sub(1) };
        state.pruned = state.pruned.max(whole.min(state.commit));
        let pruned = state.pruned;
        while state.log.front().is_some_and(|t| t.commit <= pruned) {
            state.log.pop_front();
        }
        Ok(())
    }
}

struct LogRows(Arc<Inner>, Told);

#[async_trait]
impl Rows for LogRows {
    fn norm(&self, _collection: CollectionNo, version: &Canonical) -> Result<Fp> {
        let state = self.0.state.lock();
        Ok(state.forms.norm(self.1.schema(version.schema), version.after.as_ref()))
    }

    async fn know(&mut self, _collection: CollectionNo, versions: &[Arc<Schema>], add: &[Arc<str>]) -> Result<()> {
        yield_once().await;
        let state = &mut *self.0.state.lock();
        if self.1.know(&state.forms, versions, add) {
            if !state.locks.is_empty() {
                return Err(unreachable("adding a column"));
            }
            state.forms.give(state.commit, &mut state.rows);
        }
        self.1.see(&state.forms);
        Ok(())
    }

    async fn ledger(&mut self, _collection: CollectionNo, keys: &[Key]) -> Result<Vec<Option<LedgerEntry>>> {
        yield_once().await;
        let state = self.0.state.lock();
        Ok(keys.iter().map(|k| state.ledger.get(k).cloned()).collect())
    }

    async fn lock(&mut self, _collection: CollectionNo, keys: &[Key]) -> Result<Box<dyn Locked + '_>> {
        yield_once().await;
        let mut state = self.0.state.lock();
        self.1.check(&state.forms)?;
        state.lockers += 1;
        let owner = state.lockers;
        let mut seen = Vec::with_capacity(keys.len());
        let images = keys.iter().map(|key| state.image(key)).collect();
        for key in keys {
            if state.is_locked(key) {
                self.0.shared.count(Count::Busy);
                seen.push((key.clone(), Seen::Busy));
            } else {
                state.locks.push((key.clone(), owner));
                let ledger = state.ledger.get(key).cloned();
                seen.push((key.clone(), Seen::Row { fp: state.fp(key), ledger }));
            }
        }
        let (told, own, position) = (self.1.clone(), state.forms.own().clone(), state.position());
        Ok(Box::new(LogLocked { store: self.0.clone(), owner, seen, images, told, own, position }))
    }
}

struct LogLocked {
    store: Arc<Inner>,
    owner: u64,
    seen: Vec<(Key, Seen)>,
    images: Vec<Option<Arc<Row>>>,
    told: Told,
    own: Arc<Schema>,
    position: Position,
}

impl Drop for LogLocked {
    fn drop(&mut self) {
        self.store.state.lock().locks.retain(|l| l.1 != self.owner);
    }
}

#[async_trait]
impl Locked for LogLocked {
    fn seen(&self, index: usize) -> Seen {
        self.seen[index].1.clone()
    }

    fn seen_as(&self, index: usize, schema: SchemaId) -> Fp {
        let lens = Lens::new(&self.own, self.told.schema(schema));
        self.images[index].as_ref().map_or(Fp::ABSENT, |row| lens.fp(row))
    }

    fn has_lost(&self, schema: SchemaId) -> bool {
        self.told.schema(schema).fields.len() > self.own.fields.len()
    }

    fn position(&self) -> Position {
        self.position
    }

    async fn write(self: Box<Self>, plan: &[Planned]) -> Result<Vec<Written>> {
        yield_once().await;
        if self.store.fault(20) {
            self.store.shared.count(Count::CommitFailed);
            return Err(unreachable("committing; nothing was changed"));
        }
        let written = self.commit(plan);
        yield_once().await;
        if self.store.fault(20) {
            self.store.shared.count(Count::CommitUnknown);
            return Err(unreachable("committing; the outcome is unknown"));
        }
        Ok(written)
    }
}

impl LogLocked {
    fn commit(&self, plan: &[Planned]) -> Vec<Written> {
        let mut state = self.store.state.lock();
        let mut changes = Vec::new();
        let written = plan.iter().map(|planned| self.carry_out(&mut state, planned, &mut changes)).collect();
        if !changes.is_empty() {
            state.append(self.store.clock.now_ms(), changes);
        }
        state.locks.retain(|l| l.1 != self.owner);
        written
    }

    fn carry_out(&self, state: &mut State, planned: &Planned, changes: &mut Vec<Change>) -> Written {
        let (shared, version) = (&self.store.shared, &planned.version);
        trace!(shared, "  platform {}: {:?} {:?} seq {}", self.store.index, planned.act, version.key, version.seq);
        match planned.act {
            Act::Skip | Act::Defer => return Written::Done,
            Act::Dirty => {
                shared.count(Count::Dirty);
                return Written::Done;
            }
            Act::Adopt | Act::Write | Act::Observe => {}
        }
        let key = &version.key;
        let Some((_, Seen::Row { fp: locked, .. })) = self.seen.iter().find(|s| s.0 == *key) else {
            shared.violation(format!("platform {} was written at {key:?} without a lock", self.store.index));
            return Written::Dirty;
        };
        let fp = state.fp(key);
        if planned.act == Act::Observe {
            shared.count(Count::Observed);
            shared.active();
            changes.push(Change::Observed { collection: 0, key: key.clone(), image: state.image(key), fp });
            return Written::Done;
        }
        if planned.act == Act::Write && fp != *locked {
            shared.count(Count::Dirty);
            return Written::Dirty;
        }
        self.judge(state, planned);
        let row = (planned.act == Act::Write).then(|| {
            let before = state.image(key);
            let of = self.told.schema(version.schema);
            let after = state.forms.applied(of, version.after.as_ref(), before.as_deref());
            let fp = super::workload::fp(after.as_deref());
            state.put(key, after.clone(), fp);
            Change::Row { collection: 0, key: key.clone(), after, fp, before }
        });
        let mut entry = entry_of(planned);
        if self.has_lost(version.schema) {
            // The ledger names the version that has just what is here.
            entry.schema = schema().id;
        }
        state.ledger.insert(key.clone(), entry.clone());
        shared.applied();
        let ledger = Change::Ledger { collection: 0, key: key.clone(), entry: Some(entry) };
        // The order within a transaction is the store's own business (read-3).
        if state.rng.chance(500) {
            changes.push(ledger);
            changes.extend(row);
        } else {
            changes.extend(row);
            changes.push(ledger);
        }
        Written::Done
    }

    fn judge(&self, state: &State, planned: &Planned) {
        let (shared, version, index) = (&self.store.shared, &planned.version, self.store.index);
        let key = &version.key;
        if planned.act == Act::Write {
            let (old, new) = (tags(state.image(key).as_deref()), tags(version.after.as_deref()));
            judge_overwrite(shared, self.store.set, index, key, old, new);
        }
        let partition = self.store.topics.of(key) as usize;
        let id = version.seq.checked_sub(1).and_then(|i| shared.valid.lock()[partition].get(i as usize).copied());
        if id != Some(version.id) {
            shared.violation(format!("claim-4: platform {index} was given void version {} of {key:?}", version.seq));
        }
        let seq = state.ledger.get(key).map_or(0, |l| l.seq);
        if version.seq <= seq {
            shared.violation(format!("I7: platform {index}, key {}: ledger {seq} -> {}", key_index(key), version.seq));
        }
        let lost = self.has_lost(version.schema);
        if planned.fp != version.fp && !lost || fp(version.after.as_deref()) != version.fp {
            shared.violation(format!("platform {index}: version {} of {key:?} has a wrong fingerprint", version.seq));
        }
    }
}

fn entry_of(planned: &Planned) -> LedgerEntry {
    let version = &planned.version;
    LedgerEntry {
        seq: version.seq,
        vv: version.vv.clone(),
        fp: planned.fp,
        ts: version.ts,
        tomb: version.tomb,
        schema: version.schema,
        token: None,
        pend: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::{Stepped, Time, World};
    use crate::workload::{key, row};
    use std::future::Future;

    /// Runs a future that only yields.
    fn run<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
        let (out, mut world, mut rng) = (Arc::new(Mutex::new(None)), World::default(), Rng::new(1));
        let slot = out.clone();
        world.spawn(Box::pin(async move { *slot.lock() = Some(future.await) }));
        while world.step(&mut rng) != Stepped::Idle {}
        out.lock().take().expect("the future ended")
    }

    fn store() -> (LogStore, Arc<Shared>) {
        let shared = Arc::new(Shared::new(false, 1));
        shared.calm.store(true, std::sync::atomic::Ordering::Relaxed);
        let topics = Topics::new("sim", "d", None, 1);
        let clock = SimClock::new(Time::new(1), 0);
        (LogStore::new(0, true, topics, shared.clone(), clock, Rng::new(1)), shared)
    }

    #[test]
    fn the_log_holds_logged_edits_in_order_and_no_other() {
        let (store, _) = store();
        store.app_write(&key(0), row(&key(0), 1), true);
        store.app_write(&key(0), row(&key(0), 2), false);
        store.app_write(&key(0), None, true);
        let transactions = run(async move {
            let mut reader = store.reader(Position::START).await.unwrap();
            let (mut all, end) = (Vec::new(), store.position().await.unwrap());
            loop {
                let batch = reader.next(BatchLimit::default()).await.unwrap();
                all.extend(batch.transactions);
                if batch.through == end {
                    return all;
                }
            }
        });
        let commits: Vec<_> = transactions.iter().map(|t| (t.commit, t.changes.len())).collect();
        assert_eq!(commits, [(1, 1), (2, 1)]);
        let Change::Row { before: Some(before), after: None, .. } = &transactions[1].changes[0] else { panic!() };
        assert_eq!(tags(Some(before)), 2);
    }

    #[test]
    fn a_reader_below_the_pruned_log_is_told_and_an_early_release_is_a_violation() {
        let (store, shared) = store();
        store.judge_release(Box::new(|_| false));
        store.app_write(&key(0), row(&key(0), 1), true);
        let lost = run(async move {
            let mut reader = store.reader(Position::START).await.unwrap();
            reader.release(Position::end_of(1)).await.unwrap();
            reader.next(BatchLimit::default()).await.unwrap_err()
        });
        assert_eq!(lost.code, Code::SourceIdentity);
        assert!(shared.first_violation().is_some_and(|v| v.starts_with("P2")));
    }

    #[test]
    fn a_lock_keeps_everybody_else_away_from_a_row_that_exists_until_it_is_dropped() {
        let (store, _) = store();
        store.app_write(&key(0), row(&key(0), 1), true);
        run(async move {
            let (mut one, mut two) = (store.rows().await.unwrap(), store.rows().await.unwrap());
            let keys = [key(0), key(1)];
            let locked = one.lock(0, &keys).await.unwrap();
            assert!(!store.can_write(&key(0)) && store.can_write(&key(1)));
            assert_eq!(two.lock(0, &keys).await.unwrap().seen(0), Seen::Busy);
            drop(locked);
            assert!(store.can_write(&key(0)));
            assert_ne!(two.lock(0, &keys).await.unwrap().seen(0), Seen::Busy);
        });
    }
}
