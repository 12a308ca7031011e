//! A destination that nobody else writes: rows, and a mark per partition, in one transaction (who-3). A
//! commit may fail, or take effect and not answer. The store also judges: no version is applied twice,
//! none that is void, no mark goes back, and no sink goes on behind a write that changed nothing: what it
//! commits would let the log forget versions that were never written.

use super::executor::{Rng, yield_once};
use super::shared::{Count, Shared, trace};
use super::workload::{Tags, tags};
use async_trait::async_trait;
use driftless::connectors::contract::{CollectionNo, Exclusive, ExclusiveWriter};
use driftless::event::{Canonical, Key, Link, Row, Seq};
use driftless::runtime::error::{Code, Error, Result};
use driftless::topic::name::Topics;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Clone)]
pub(crate) struct ExclusiveStore(Arc<Inner>);

struct Inner {
    index: usize,
    topics: Topics,
    shared: Arc<Shared>,
    state: Mutex<State>,
}

struct State {
    rng: Rng,
    rows: BTreeMap<Key, Arc<Row>>,
    marks: Vec<Link>,
    /// The newest version applied to each key.
    applied: BTreeMap<Key, Seq>,
}

impl ExclusiveStore {
    pub(crate) fn new(index: usize, topics: Topics, shared: Arc<Shared>, rng: Rng) -> Self {
        let marks = vec![Link::default(); topics.partitions as usize];
        let state = State { rng, rows: BTreeMap::new(), marks, applied: BTreeMap::new() };
        ExclusiveStore(Arc::new(Inner { index, topics, shared, state: Mutex::new(state) }))
    }

    pub(crate) fn tags(&self, key: &Key) -> Tags {
        tags(self.0.state.lock().rows.get(key).map(|row| &**row))
    }
}

#[async_trait]
impl Exclusive for ExclusiveStore {
    async fn writer(&self, _collection: CollectionNo, partition: u32) -> Result<Box<dyn ExclusiveWriter>> {
        yield_once().await;
        Ok(Box::new(Writer { store: self.0.clone(), partition: partition as usize, known: Link::default() }))
    }
}

struct Writer {
    store: Arc<Inner>,
    partition: usize,
    /// Where this writer has read the mark, or left it.
    known: Link,
}

impl Inner {
    fn fault(&self) -> bool {
        !self.shared.is_calm() && self.state.lock().rng.chance(30)
    }

    fn lost(&self, count: Count) -> Error {
        self.shared.count(count);
        Error::new(Code::SourceUnreachable, "the store did not answer while committing")
    }
}

/// Whether the mark is moved in a transaction of its own: only ever in a mutant.
fn mark_apart() -> bool {
    #[cfg(feature = "mutants")]
    return driftless::runtime::guard::is_out("exclusive-mark");
    #[cfg(not(feature = "mutants"))]
    false
}

#[async_trait]
impl ExclusiveWriter for Writer {
    async fn mark(&mut self) -> Result<Link> {
        yield_once().await;
        self.known = self.store.state.lock().marks[self.partition];
        Ok(self.known)
    }

    async fn write(&mut self, versions: &[Arc<Canonical>], from: Link, to: Link) -> Result<bool> {
        if from != self.known {
            let text = format!("who-3: platform {} is written behind a batch it did not take", self.store.index);
            self.store.shared.violation(text);
        }
        yield_once().await;
        if self.store.fault() {
            return Err(self.store.lost(Count::CommitFailed));
        }
        if self.store.state.lock().marks[self.partition] != from {
            return Ok(false);
        }
        self.put(versions);
        if mark_apart() {
            yield_once().await;
            if self.store.fault() {
                return Err(self.store.lost(Count::CommitFailed));
            }
        }
        self.advance(to);
        self.known = to;
        yield_once().await;
        if self.store.fault() {
            return Err(self.store.lost(Count::CommitUnknown));
        }
        Ok(true)
    }
}

impl Writer {
    fn put(&self, versions: &[Arc<Canonical>]) {
        let (shared, index) = (&self.store.shared, self.store.index);
        let mut state = self.store.state.lock();
        for version in versions {
            let (key, seq) = (&version.key, version.seq);
            trace!(shared, "  platform {index}: {key:?} seq {seq}, exclusively");
            let valid = shared.valid.lock()[self.store.topics.of(key) as usize].get(seq as usize - 1).copied();
            if valid != Some(version.id) {
                shared.violation(format!("claim-4: platform {index} was given void version {seq} of {key:?}"));
            }
            let before = state.applied.insert(key.clone(), seq).unwrap_or(0);
            if seq <= before {
                shared.violation(format!("who-3: platform {index} applied {key:?} {before} and then {seq}"));
            }
            match &version.after {
                Some(row) => _ = state.rows.insert(key.clone(), row.clone()),
                None => _ = state.rows.remove(key),
            }
        }
        shared.applied();
    }

    fn advance(&self, to: Link) {
        let mark = &mut self.store.state.lock().marks[self.partition];
        if to.offset <= mark.offset || to.seq <= mark.seq {
            let text = format!("who-3: the mark of platform {} went from {mark:?} to {to:?}", self.store.index);
            self.store.shared.violation(text);
        }
        *mark = to;
    }
}
