//! An exclusive destination that shows a part of its collections: versions are projected on their way.

use super::{Projection, Projections};
use crate::connectors::contract::{CollectionNo, Exclusive, ExclusiveWriter};
use crate::event::{Canonical, Link};
use crate::runtime::error::Result;
use async_trait::async_trait;
use std::sync::Arc;

/// The destination behind its projections; as it is, if it sees everything.
#[must_use]
pub fn exclusive(inner: Arc<dyn Exclusive>, by_number: &Projections) -> Arc<dyn Exclusive> {
    if by_number.iter().all(Option::is_none) {
        return inner;
    }
    Arc::new(Projected { inner, by_number: by_number.clone() })
}

struct Projected {
    inner: Arc<dyn Exclusive>,
    by_number: Projections,
}

#[async_trait]
impl Exclusive for Projected {
    async fn writer(&self, collection: CollectionNo, partition: u32) -> Result<Box<dyn ExclusiveWriter>> {
        let inner = self.inner.writer(collection, partition).await?;
        Ok(match self.by_number.get(usize::from(collection)).cloned().flatten() {
            Some(projection) => Box::new(Writer { inner, projection }),
            None => inner,
        })
    }
}

struct Writer {
    inner: Box<dyn ExclusiveWriter>,
    projection: Arc<Projection>,
}

#[async_trait]
impl ExclusiveWriter for Writer {
    async fn mark(&mut self) -> Result<Link> {
        self.inner.mark().await
    }

    async fn write(&mut self, versions: &[Arc<Canonical>], from: Link, to: Link) -> Result<bool> {
        let projected: Vec<_> = versions.iter().map(|version| Arc::new(self.projection.version(version))).collect();
        self.inner.write(&projected, from, to).await
    }
}
