//! A HINT store that shows a part of its collections: what is read is lifted, what is written is
//! projected. Content that is not carried is like content that cannot be understood: the agent leaves it
//! alone and says why (agent-6).

use super::{Aside, Projection, Projections};
use crate::connectors::contract::{CollectionNo, Content, Displaced, Hints, Observed, Outcome, Owned, Page, Store};
use crate::event::{Canonical, Fp, Intent, Key, Row, Schema};
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use std::sync::Arc;

/// The store behind its projections; as it is, if it sees everything.
#[must_use]
pub fn store(inner: Arc<dyn Store>, by_number: &Projections, aside: &Arc<Aside>) -> Arc<dyn Store> {
    if by_number.iter().all(Option::is_none) {
        return inner;
    }
    Arc::new(Projected { inner, by_number: by_number.clone(), aside: aside.clone() })
}

struct Projected {
    inner: Arc<dyn Store>,
    by_number: Projections,
    aside: Arc<Aside>,
}

impl Projected {
    fn of(&self, collection: CollectionNo) -> Option<&Projection> {
        self.by_number.get(usize::from(collection)).and_then(Option::as_deref)
    }

    fn lift(&self, collection: CollectionNo, key: &Key, content: Content, fp: Fp) -> Content {
        let (Some(projection), Content::Row(row)) = (self.of(collection), &content) else { return content };
        match projection.lift(row) {
            Ok(whole) => {
                self.aside.forget(collection, key);
                Content::Row(Arc::new(whole))
            }
            Err(why) => {
                self.aside.put(collection, key, fp, &why);
                Content::Undecodable(why)
            }
        }
    }
}

#[async_trait]
impl Store for Projected {
    fn norm(&self, collection: CollectionNo, version: &Canonical) -> Result<Fp> {
        match self.of(collection) {
            Some(projection) => match projection.version(version) {
                outside if outside.after.is_none() => Ok(Fp::ABSENT),
                version => self.inner.norm(collection, &version),
            },
            None => self.inner.norm(collection, version),
        }
    }

    /// read-10: a view is made for one version of the schema; another one needs another start.
    async fn know(&self, collection: CollectionNo, schema: &Arc<Schema>) -> Result<()> {
        let Some(projection) = self.of(collection) else { return self.inner.know(collection, schema).await };
        let names = |schema: &Schema| schema.fields.iter().map(|f| f.name.clone()).collect::<Vec<_>>();
        if names(schema) == names(projection.whole()) {
            return Ok(());
        }
        let text = "the dataset's fields have changed, and this platform's view was made for the earlier ones; restart \
                    the node. A directory with a view cannot follow a dropped field";
        Err(Error::new(Code::SchemaUnsupported, text).at("collection", &schema.name))
    }

    async fn read(&self, at: Owned, key: &Key, intent: Option<&Intent>) -> Result<Observed> {
        let seen = self.inner.read(at, key, intent).await?;
        if seen.content == Content::Absent {
            self.aside.forget(at.collection, key);
        }
        Ok(Observed { content: self.lift(at.collection, key, seen.content, seen.fp), ..seen })
    }

    async fn cas(&self, at: Owned, key: &Key, row: Option<&Row>, intent: &Intent) -> Result<Outcome> {
        match (self.of(at.collection), row) {
            (Some(projection), Some(row)) => {
                let projected = projection.row(row);
                self.inner.cas(at, key, projected.as_ref(), intent).await
            }
            _ => self.inner.cas(at, key, row, intent).await,
        }
    }

    async fn displaced(&self, at: Owned) -> Result<Vec<Displaced>> {
        let displaced = self.inner.displaced(at).await?;
        let lift = |found: Displaced| {
            let content = self.lift(at.collection, &found.key, found.content, found.fp);
            Displaced { content, ..found }
        };
        Ok(displaced.into_iter().map(lift).collect())
    }

    async fn settle(&self, at: Owned, displaced: &Displaced) -> Result<()> {
        self.inner.settle(at, displaced).await
    }

    async fn list(&self, collection: CollectionNo, after: Option<&Key>, limit: usize) -> Result<Page> {
        self.inner.list(collection, after, limit).await
    }

    async fn hints(&self, collection: CollectionNo) -> Result<Hints> {
        self.inner.hints(collection).await
    }

    async fn fence(&self, collection: CollectionNo, partition: u32, epoch: u64) -> Result<u64> {
        self.inner.fence(collection, partition, epoch).await
    }

    fn now_ms(&self) -> u64 {
        self.inner.now_ms()
    }

    async fn present(&self) -> Result<()> {
        self.inner.present().await
    }
}
