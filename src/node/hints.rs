//! One store, several agents: a store tells each hint once, and every partition has an agent of its
//! own. A pump takes the hints of a collection and gives each key to the agent that owns it.

use crate::connectors::contract::{CollectionNo, Displaced, Hints, Observed, Outcome, Owned, Page, Store};
use crate::event::{Canonical, Fp, Intent, Key, Row, Schema};
use crate::runtime::error::Result;
use crate::topic::name::Topics;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::Notify;

/// Hints by collection and partition.
pub(super) struct Fanout {
    store: Arc<dyn Store>,
    topics: Vec<Topics>,
    queues: Vec<Vec<Queue>>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<(HashSet<Key>, bool)>,
    news: Notify,
}

impl Fanout {
    pub(super) fn new(store: Arc<dyn Store>, topics: Vec<Topics>) -> Arc<Self> {
        let queues = topics.iter().map(|t| (0..t.partitions).map(|_| Queue::default()).collect()).collect();
        Arc::new(Fanout { store, topics, queues })
    }

    /// Takes the hints of a collection for as long as the store gives any.
    pub(super) async fn pump(&self, collection: CollectionNo) -> Result<Infallible> {
        loop {
            let hints = self.store.hints(collection).await?;
            self.deal(collection, hints);
        }
    }

    fn deal(&self, collection: CollectionNo, hints: Hints) {
        let at = usize::from(collection);
        let (Some(queues), Some(topics)) = (self.queues.get(at), self.topics.get(at)) else { return };
        for key in hints.keys {
            if let Some(queue) = queues.get(topics.of(&key) as usize) {
                queue.waiting.lock().0.insert(key);
                queue.news.notify_one();
            }
        }
        for queue in queues.iter().filter(|_| hints.rescan) {
            queue.waiting.lock().1 = true;
            queue.news.notify_one();
        }
    }

    /// The store as the agent of `partition` sees it.
    pub(super) fn part(self: &Arc<Self>, partition: u32) -> Arc<dyn Store> {
        Arc::new(Part { fanout: self.clone(), partition })
    }
}

struct Part {
    fanout: Arc<Fanout>,
    partition: u32,
}

impl Part {
    fn store(&self) -> &dyn Store {
        &*self.fanout.store
    }
}

#[async_trait]
impl Store for Part {
    fn norm(&self, collection: CollectionNo, version: &Canonical) -> Result<Fp> {
        self.store().norm(collection, version)
    }

    async fn know(&self, collection: CollectionNo, schema: &Arc<Schema>) -> Result<()> {
        self.store().know(collection, schema).await
    }

    async fn read(&self, at: Owned, key: &Key, intent: Option<&Intent>) -> Result<Observed> {
        self.store().read(at, key, intent).await
    }

    async fn cas(&self, at: Owned, key: &Key, row: Option<&Row>, intent: &Intent) -> Result<Outcome> {
        self.store().cas(at, key, row, intent).await
    }

    async fn displaced(&self, at: Owned) -> Result<Vec<Displaced>> {
        self.store().displaced(at).await
    }

    async fn settle(&self, at: Owned, displaced: &Displaced) -> Result<()> {
        self.store().settle(at, displaced).await
    }

    async fn list(&self, collection: CollectionNo, after: Option<&Key>, limit: usize) -> Result<Page> {
        self.store().list(collection, after, limit).await
    }

    /// Cancel-safe: what is taken is returned at once.
    async fn hints(&self, collection: CollectionNo) -> Result<Hints> {
        let queues = self.fanout.queues.get(usize::from(collection));
        let Some(queue) = queues.and_then(|queues| queues.get(self.partition as usize)) else {
            return std::future::pending().await;
        };
        loop {
            let (keys, rescan) = std::mem::take(&mut *queue.waiting.lock());
            if rescan || !keys.is_empty() {
                return Ok(Hints { keys: keys.into_iter().collect(), rescan });
            }
            queue.news.notified().await;
        }
    }

    async fn fence(&self, collection: CollectionNo, partition: u32, epoch: u64) -> Result<u64> {
        self.store().fence(collection, partition, epoch).await
    }

    fn now_ms(&self) -> u64 {
        self.store().now_ms()
    }

    async fn present(&self) -> Result<()> {
        self.store().present().await
    }
}
