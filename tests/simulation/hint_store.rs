//! HINT platforms in memory: object stores and a filesystem. Conditional writes may be answered,
//! go unanswered, land late (until the intent expires, by the store's clock) or never; hints are
//! lost, doubled and reordered; applications write behind the back. Each instance of an agent has a
//! `Handle` of its own, as each process has its own connection and its own stage folder.

use super::executor::{Rng, SimClock, yield_once};
use super::log_store::judge_overwrite;
use super::shared::{Count, Shared, trace};
use super::workload::{Tags, fp, tags};
use async_trait::async_trait;
use bytes::Bytes;
use driftless::connectors::contract::{self, CollectionNo, Content, Landed, Observed, Outcome, Owned, Page, Store};
use driftless::event::{Canonical, Fp, Intent, Key, Row, Token};
use driftless::runtime::clock::Clock;
use driftless::runtime::error::Result;
use driftless::topic::name::Topics;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};

/// What kind of store it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Variant {
    /// An object store whose token is new with every write, with versions kept: witness exact.
    Unique,
    /// An object store whose token follows from the content, so that it can come back (S3).
    /// With `versions` the witness is exact, else it sees the current object's metadata only.
    Content {
        /// Whether old versions are kept.
        versions: bool,
    },
    /// A filesystem: token from the content, stage folder as witness and fence, no expiry.
    Files,
}

#[derive(Clone)]
pub(crate) struct HintStore(Arc<Inner>);

struct Inner {
    index: usize,
    variant: Variant,
    set: bool,
    topics: Topics,
    shared: Arc<Shared>,
    clock: Arc<SimClock>,
    state: Mutex<State>,
}

struct State {
    rng: Rng,
    objects: BTreeMap<Key, Object>,
    /// Ids of the intents that took effect, for stores that can tell.
    landed: Vec<u64>,
    late: Vec<Write>,
    /// Per partition: writes of lower epochs have no effect (filesystem).
    fences: BTreeMap<u32, u64>,
    handles: Vec<Weak<Hints>>,
    writes: u64,
}

struct Object {
    row: Arc<Row>,
    fp: Fp,
    token: Token,
    time_ms: u64,
    /// The intent named in the metadata; none after an application's write.
    iid: Option<u64>,
}

/// A conditional write on its way.
#[derive(Clone)]
struct Write {
    key: Key,
    row: Option<Arc<Row>>,
    intent: Intent,
    epoch: u64,
}

#[derive(Default)]
struct Hints(Mutex<(Vec<Key>, Option<Waker>)>);

impl HintStore {
    pub(crate) fn new(
        index: usize,
        variant: Variant,
        set: bool,
        topics: Topics,
        shared: Arc<Shared>,
        clock: Arc<SimClock>,
        rng: Rng,
    ) -> Self {
        let state = State {
            rng,
            objects: BTreeMap::new(),
            landed: Vec::new(),
            late: Vec::new(),
            fences: BTreeMap::new(),
            handles: Vec::new(),
            writes: 0,
        };
        HintStore(Arc::new(Inner { index, variant, set, topics, shared, clock, state: Mutex::new(state) }))
    }

    /// The store as one instance of an agent sees it.
    pub(crate) fn handle(&self) -> Arc<dyn Store> {
        let hints = Arc::new(Hints::default());
        let mut state = self.0.state.lock();
        state.handles.retain(|h| h.strong_count() > 0);
        state.handles.push(Arc::downgrade(&hints));
        Arc::new(Handle { store: self.0.clone(), epochs: Mutex::default(), hints })
    }

    pub(crate) fn tags(&self, key: &Key) -> Tags {
        tags(self.0.state.lock().objects.get(key).map(|o| &*o.row))
    }

    /// An application's write behind everybody's back.
    pub(crate) fn app_write(&self, key: &Key, row: Option<Arc<Row>>) {
        let mut state = self.0.state.lock();
        self.0.put(&mut state, key, row, None);
        self.0.shared.active();
    }

    /// Tells every agent to look at `keys`; never lost.
    pub(crate) fn hint_all(&self, keys: &[Key]) {
        let state = self.0.state.lock();
        for key in keys {
            state.handles.iter().filter_map(Weak::upgrade).for_each(|h| h.push(key, None));
        }
    }

    /// How many unanswered writes are still on their way.
    pub(crate) fn late(&self) -> usize {
        self.0.state.lock().late.len()
    }

    /// Lets an unanswered write arrive, or drops it.
    pub(crate) fn settle_late(&self, index: usize, land: bool) {
        let mut state = self.0.state.lock();
        let write = state.late.swap_remove(index);
        if land {
            let outcome = self.0.apply(&mut state, &write);
            self.0.shared.count(Count::CasLate);
            trace!(self.0.shared, "  late write of {:?} arrives: {outcome:?}", write.key);
        }
    }
}

impl Hints {
    fn push(&self, key: &Key, at: Option<usize>) {
        let mut hints = self.0.lock();
        let at = at.unwrap_or(usize::MAX).min(hints.0.len());
        hints.0.insert(at, key.clone());
        if let Some(waker) = hints.1.take() {
            waker.wake();
        }
    }
}

impl Inner {
    fn fault(&self, permille: u32) -> bool {
        !self.shared.is_calm() && self.state.lock().rng.chance(permille)
    }

    fn put(&self, state: &mut State, key: &Key, row: Option<Arc<Row>>, iid: Option<u64>) -> Option<Token> {
        state.writes += 1;
        let token = row.map(|row| {
            let fp = fp(Some(&row));
            let token = Token(match self.variant {
                Variant::Unique => Bytes::copy_from_slice(&state.writes.to_be_bytes()),
                Variant::Content { .. } | Variant::Files => Bytes::copy_from_slice(&fp.0),
            });
            let object = Object { row, fp, token: token.clone(), time_ms: self.clock.now_ms(), iid };
            state.objects.insert(key.clone(), object);
            token
        });
        if token.is_none() {
            state.objects.remove(key);
        }
        self.tell(state, key);
        token
    }

    /// Hints are lost, doubled and out of order.
    fn tell(&self, state: &mut State, key: &Key) {
        let State { handles, rng, .. } = state;
        for hints in handles.iter().filter_map(Weak::upgrade) {
            if !self.shared.is_calm() && rng.chance(100) {
                self.shared.count(Count::HintsLost);
                continue;
            }
            for _ in 0..if rng.chance(100) { 2 } else { 1 } {
                hints.push(key, Some(rng.below(4)));
            }
        }
    }

    fn apply(&self, state: &mut State, write: &Write) -> Outcome {
        let intent = &write.intent;
        let files = self.variant == Variant::Files;
        if files && write.epoch < state.fences.get(&self.topics.of(&write.key)).copied().unwrap_or(0) {
            self.shared.count(Count::Fenced);
            return Outcome::Mismatch;
        }
        if !files && self.clock.now_ms() > intent.exp_ms {
            self.shared.count(Count::Expired);
            return Outcome::Mismatch;
        }
        let current = state.objects.get(&write.key);
        if current.map(|o| &o.token) != intent.expect.as_ref() {
            self.shared.count(Count::Mismatches);
            return Outcome::Mismatch;
        }
        let (old, new) = (tags(current.map(|o| &*o.row)), tags(write.row.as_deref()));
        judge_overwrite(&self.shared, self.set, self.index, &write.key, old, new);
        if fp(write.row.as_deref()) != intent.fp {
            self.shared.violation(format!("platform {}: an intent with a wrong fingerprint was written", self.index));
        }
        state.landed.push(intent.iid);
        self.shared.applied();
        Outcome::Done(self.put(state, &write.key, write.row.clone(), Some(intent.iid)))
    }

    fn witness(&self, state: &State, object: Option<&Object>, intent: &Intent) -> Landed {
        let landed = state.landed.contains(&intent.iid);
        match self.variant {
            Variant::Files if landed => Landed::Yes,
            // The stage folder shows it at once: an exchange is not sent and forgotten.
            Variant::Files => Landed::No,
            Variant::Content { versions: false } if object.is_some_and(|o| o.iid == Some(intent.iid)) => Landed::Yes,
            Variant::Content { versions: false } => Landed::Unknown,
            _ if landed => Landed::Yes,
            _ if self.clock.now_ms() > intent.exp_ms => Landed::No,
            _ => Landed::Unknown,
        }
    }
}

struct Handle {
    store: Arc<Inner>,
    /// Per partition: the epoch of its stage folder (filesystem).
    epochs: Mutex<BTreeMap<u32, u64>>,
    hints: Arc<Hints>,
}

#[async_trait]
impl Store for Handle {
    fn norm(&self, _collection: CollectionNo, version: &Canonical) -> Result<Fp> {
        Ok(version.fp)
    }

    async fn read(&self, _at: Owned, key: &Key, intent: Option<&Intent>) -> Result<Observed> {
        yield_once().await;
        let state = self.store.state.lock();
        let object = state.objects.get(key);
        Ok(Observed {
            content: object.map_or(Content::Absent, |o| Content::Row(o.row.clone())),
            fp: object.map_or(Fp::ABSENT, |o| o.fp),
            token: object.map(|o| o.token.clone()),
            time_ms: object.map_or(0, |o| o.time_ms),
            landed: intent.map_or(Landed::Unknown, |i| self.store.witness(&state, object, i)),
        })
    }

    async fn cas(&self, _at: Owned, key: &Key, row: Option<&Row>, intent: &Intent) -> Result<Outcome> {
        let store = &self.store;
        // The path of the stage folder is fixed when the write begins (agent-1).
        let epoch = self.epochs.lock().get(&store.topics.of(key)).copied().unwrap_or(0);
        let write = Write { key: key.clone(), row: row.cloned().map(Arc::new), intent: intent.clone(), epoch };
        yield_once().await;
        if store.variant != Variant::Files {
            if store.fault(60) {
                store.shared.count(Count::CasUnknown);
                store.state.lock().late.push(write);
                return Ok(Outcome::Unknown);
            }
            if store.fault(30) {
                store.shared.count(Count::CasNever);
                return Ok(Outcome::Unknown);
            }
        }
        let outcome = store.apply(&mut store.state.lock(), &write);
        trace!(store.shared, "  platform {}: write of {key:?} seq {}: {outcome:?}", store.index, intent.seq);
        yield_once().await;
        if store.fault(40) {
            store.shared.count(Count::CasUnknown);
            return Ok(Outcome::Unknown);
        }
        Ok(outcome)
    }

    async fn list(&self, _collection: CollectionNo, after: Option<&Key>, limit: usize) -> Result<Page> {
        yield_once().await;
        let mut state = self.store.state.lock();
        let limit = limit.clamp(1, 1 + state.rng.below(4));
        let mut keys: Vec<Key> = state.objects.keys().filter(|k| after.is_none_or(|a| *k > a)).cloned().collect();
        let last = keys.len() <= limit;
        keys.truncate(limit);
        Ok(Page { keys, odd: Vec::new(), last })
    }

    async fn hints(&self, _collection: CollectionNo) -> Result<contract::Hints> {
        poll_fn(|context| {
            let mut hints = self.hints.0.lock();
            if hints.0.is_empty() {
                hints.1 = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(contract::Hints { keys: std::mem::take(&mut hints.0), rescan: false }))
        })
        .await
    }

    async fn fence(&self, _collection: CollectionNo, partition: u32, epoch: u64) -> Result<u64> {
        yield_once().await;
        self.epochs.lock().insert(partition, epoch);
        if self.store.variant == Variant::Files {
            let mut state = self.store.state.lock();
            let fence = state.fences.entry(partition).or_default();
            *fence = (*fence).max(epoch);
        }
        // An object store has no fence but the expiry of each intent, which its next owner waits for.
        Ok(if self.store.variant == Variant::Files { self.store.clock.now_ms() } else { u64::MAX })
    }

    fn now_ms(&self) -> u64 {
        self.store.clock.now_ms()
    }

    async fn present(&self) -> Result<()> {
        yield_once().await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::{Stepped, Time, World};
    use crate::workload::{key, row};
    use driftless::event::{Hlc, SchemaId, Vv};
    use std::future::Future;

    fn run<T: 'static>(future: impl Future<Output = T> + 'static) -> T {
        let (out, mut world, mut rng) = (Arc::new(Mutex::new(None)), World::default(), Rng::new(1));
        let slot = out.clone();
        world.spawn(Box::pin(async move { *slot.lock() = Some(future.await) }));
        while world.step(&mut rng) != Stepped::Idle {}
        out.lock().take().expect("the future ended")
    }

    fn store(variant: Variant) -> (HintStore, Arc<Time>) {
        let shared = Arc::new(Shared::new(false, 1));
        shared.calm.store(true, std::sync::atomic::Ordering::Relaxed);
        let time = Time::new(1);
        let (topics, clock) = (Topics::new("sim", "d", None, 1), SimClock::new(time.clone(), 0));
        (HintStore::new(0, variant, true, topics, shared, clock, Rng::new(1)), time)
    }

    fn intent(iid: u64, tags: Tags, expect: Option<Token>, exp_ms: u64) -> Intent {
        let (vv, ts, fp) = (Vv::new(), Hlc::default(), fp(row(&key(0), tags).as_deref()));
        Intent { iid, seq: iid, vv, fp, ts, tomb: false, schema: SchemaId(1), expect, exp_ms }
    }

    const MINE: Owned = Owned { collection: 0, partition: 0, epoch: 1 };

    /// Writes `tags` under `intent` through `handle`.
    fn cas(handle: &Arc<dyn Store>, tags: Tags, intent: &Intent) -> Outcome {
        let (handle, row, intent) = (handle.clone(), row(&key(0), tags), intent.clone());
        run(async move { handle.cas(MINE, &key(0), row.as_deref(), &intent).await.unwrap() })
    }

    fn observe(handle: &Arc<dyn Store>, intent: &Intent) -> Observed {
        let (handle, intent) = (handle.clone(), intent.clone());
        run(async move { handle.read(MINE, &key(0), Some(&intent)).await.unwrap() })
    }

    #[test]
    fn a_conditional_write_needs_its_token_and_only_a_content_token_comes_back() {
        for (variant, comes_back) in [(Variant::Unique, false), (Variant::Content { versions: true }, true)] {
            let (store, time) = store(variant);
            let (handle, exp) = (store.handle(), time.now_ms() + 10);
            let first = intent(1, 1, None, exp);
            let Outcome::Done(token) = cas(&handle, 1, &first) else { panic!() };
            assert_eq!(cas(&handle, 2, &intent(2, 2, None, exp)), Outcome::Mismatch);
            store.app_write(&key(0), row(&key(0), 4));
            assert_eq!(observe(&handle, &first).landed, Landed::Yes);
            store.app_write(&key(0), row(&key(0), 1));
            assert_eq!(observe(&handle, &first).token == token, comes_back);
        }
    }

    #[test]
    fn an_object_store_refuses_after_the_expiry_and_then_the_witness_says_no() {
        let (store, time) = store(Variant::Unique);
        let handle = store.handle();
        let intent = intent(1, 1, None, time.now_ms() + 10);
        assert_eq!(observe(&handle, &intent).landed, Landed::Unknown);
        time.jump(11);
        assert_eq!(cas(&handle, 1, &intent), Outcome::Mismatch);
        assert_eq!(observe(&handle, &intent).landed, Landed::No);
    }

    #[test]
    fn a_filesystem_refuses_the_writes_of_an_owner_that_was_fenced() {
        let (store, time) = store(Variant::Files);
        let (old, new) = (store.handle(), store.handle());
        for (handle, epoch) in [(old.clone(), 1), (new.clone(), 2)] {
            run(async move { handle.fence(0, 0, epoch).await.unwrap() });
        }
        let intent = intent(1, 1, None, time.now_ms() + 10);
        assert_eq!(cas(&old, 1, &intent), Outcome::Mismatch);
        assert_eq!(cas(&new, 1, &intent), Outcome::Done(observe(&new, &intent).token));
    }
}
