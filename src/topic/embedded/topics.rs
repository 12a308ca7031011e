//! The topics of the embedded log as they are in memory. Only the writer changes them, after the
//! change is durable; readers wait on a partition's state.

use super::store::{
    Cleaned, Store, StoredTopic, Watermarks, block_key, header, load, parse, partition_key, store_error,
};
use crate::event::Offset;
use crate::runtime::error::{Code, Error, Result};
use crate::topic::{Bounds, Partition, TopicSpec};
use parking_lot::{Mutex, RwLock};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::watch;

/// All topics by name.
pub(super) struct Topics {
    by_name: RwLock<BTreeMap<Arc<str>, Arc<Topic>>>,
    next_id: AtomicU32,
    /// Ids of removed topics whose blocks are still there.
    pub removed: Vec<u32>,
}

/// A topic.
pub(super) struct Topic {
    pub spec: TopicSpec,
    pub id: u32,
    parts: Vec<Part>,
}

/// A partition.
pub(super) struct Part {
    /// What readers see.
    pub seen: watch::Sender<Seen>,
    /// What the writer gives out next; ahead of `seen` while a group is on its way to the disk.
    pub tail: Mutex<Tail>,
    /// How far compaction came.
    pub cleaned: Mutex<Cleaned>,
}

/// What readers see of a partition.
#[derive(Clone, Copy, Default)]
pub(super) struct Seen {
    pub bounds: Bounds,
    pub removed: bool,
}

/// The end of a partition.
#[derive(Clone, Copy, Default)]
pub(super) struct Tail {
    pub next: Offset,
    pub last_ms: u64,
}

impl Topic {
    /// A topic without messages.
    pub(super) fn empty(spec: TopicSpec, id: u32) -> Self {
        let parts = (0..spec.partitions).map(|_| Part::new(Watermarks::default(), Cleaned::default())).collect();
        Topic { spec, id, parts }
    }

    /// One of its partitions.
    pub(super) fn part(&self, index: u32) -> Result<&Part> {
        self.parts.get(index as usize).ok_or_else(|| missing().at("partition", self.partition(index)))
    }

    pub(super) fn partition(&self, index: u32) -> Partition {
        Partition::new(self.spec.topic.clone(), index)
    }

    /// Tells all readers that the topic is gone.
    pub(super) fn mark_removed(&self) {
        self.parts.iter().for_each(|part| part.seen.send_modify(|seen| seen.removed = true));
    }

    pub(super) fn is_removed(&self) -> bool {
        self.parts.iter().any(|part| part.seen.borrow().removed)
    }
}

impl Part {
    fn new(marks: Watermarks, cleaned: Cleaned) -> Self {
        let high = marks.high.max(cleaned.high);
        let tail = Tail { next: high, last_ms: marks.last_ms.max(cleaned.last_ms) };
        let seen = Seen { bounds: Bounds { low: marks.low, high }, removed: false };
        Part { seen: watch::Sender::new(seen), tail: Mutex::new(tail), cleaned: Mutex::new(cleaned) }
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.seen.borrow().bounds
    }
}

impl Topics {
    /// Reads the topics of a store.
    pub(super) fn load(store: &Store) -> Result<Self> {
        let failed = |e| store_error("the topics could not be read", e);
        let mut by_name = BTreeMap::new();
        for guard in store.meta.prefix(b"t") {
            let (key, value) = guard.into_inner().map_err(failed)?;
            let stored: StoredTopic = parse(&value)?;
            let name = String::from_utf8_lossy(key.get(1..).unwrap_or_default()).into_owned();
            let topic = load_topic(store, stored.spec(&name), stored.id)?;
            by_name.insert(topic.spec.topic.clone(), Arc::new(topic));
        }
        let mut removed = Vec::new();
        for guard in store.meta.prefix(b"x") {
            let key = guard.key().map_err(failed)?;
            removed.extend(key.get(1..5).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes));
        }
        let next_id = load::<u32>(store, b"next-id")?.unwrap_or(1);
        Ok(Topics { by_name: RwLock::new(by_name), next_id: AtomicU32::new(next_id), removed })
    }

    pub(super) fn find(&self, topic: &str) -> Result<Arc<Topic>> {
        self.by_name.read().get(topic).cloned().ok_or_else(|| missing().at("topic", topic))
    }

    pub(super) fn find_partition(&self, at: &Partition) -> Result<Arc<Topic>> {
        let topic = self.find(&at.topic)?;
        topic.part(at.index)?;
        Ok(topic)
    }

    pub(super) fn specs(&self) -> Vec<TopicSpec> {
        self.by_name.read().values().map(|t| t.spec.clone()).collect()
    }

    pub(super) fn all(&self) -> Vec<Arc<Topic>> {
        self.by_name.read().values().cloned().collect()
    }

    /// An id no topic has had before.
    pub(super) fn fresh_id(&self) -> u32 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn insert(&self, topic: Arc<Topic>) {
        self.by_name.write().insert(topic.spec.topic.clone(), topic);
    }

    pub(super) fn forget(&self, topic: &str) {
        self.by_name.write().remove(topic);
    }
}

fn load_topic(store: &Store, spec: TopicSpec, id: u32) -> Result<Topic> {
    let mut parts = Vec::new();
    for index in 0..spec.partitions {
        let at = Partition::new(spec.topic.clone(), index);
        let mut marks: Watermarks = load(store, &partition_key(b"l", id, index))?.unwrap_or_default();
        let cleaned: Cleaned = load(store, &partition_key(b"c", id, index))?.unwrap_or_default();
        let last = store.index.range(block_key(id, index, 0)..=block_key(id, index, Offset::MAX)).next_back();
        if let Some(guard) = last {
            let (key, entry) = guard.into_inner().map_err(|e| store_error("the last batch could not be read", e))?;
            marks.high = marks.high.max(super::store::last_of(&key) + 1);
            marks.last_ms = marks.last_ms.max(header(&at, &key, &entry)?.last_ms);
        }
        parts.push(Part::new(marks, cleaned));
    }
    Ok(Topic { spec, id, parts })
}

fn missing() -> Error {
    Error::new(Code::TopicMissing, "the topic or partition does not exist")
}
