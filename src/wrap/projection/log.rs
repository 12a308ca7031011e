//! A LOG platform that shows a part of its collections. What its reader and its copies return is lifted,
//! what goes to its rows is projected; fingerprints are those of the projected rows throughout, so that
//! the ledger, the echo and the sink's decision compare what the store really holds (`fp_local`).

use super::{Aside, Projection, Projections, shown_key};
use crate::connectors::contract::{
    Act, BatchLimit, Change, CollectionNo, Copied, Locked, LogPlatform, Planned, ReadBatch, Reader, Rows, Seen,
    Snapshot, Written,
};
use crate::event::{Canonical, Fp, Key, LedgerEntry, Position, Row};
use crate::runtime::error::Result;
use async_trait::async_trait;
use std::sync::Arc;

/// The platform behind its projections; as it is, if it sees everything.
#[must_use]
pub fn platform(inner: Arc<dyn LogPlatform>, by_number: &Projections, aside: &Arc<Aside>) -> Arc<dyn LogPlatform> {
    if by_number.iter().all(Option::is_none) {
        return inner;
    }
    Arc::new(Platform { inner, lens: Lens { by_number: by_number.clone(), aside: aside.clone() } })
}

#[derive(Clone)]
struct Lens {
    by_number: Projections,
    aside: Arc<Aside>,
}

impl Lens {
    fn of(&self, collection: CollectionNo) -> Option<&Projection> {
        self.by_number.get(usize::from(collection)).and_then(Option::as_deref)
    }

    /// An image as it is carried, with its fingerprint; `None` if it is not, which is noted.
    fn lift(&self, collection: CollectionNo, key: &Key, here: &Row, fp: Fp) -> Option<(Arc<Row>, Fp)> {
        let projection = self.of(collection)?;
        match projection.lift(here) {
            Ok(whole) => {
                self.aside.forget(collection, key);
                let fp = projection.fp(here, fp, &whole);
                Some((Arc::new(whole), fp))
            }
            Err(why) => {
                self.aside.put(collection, key, shown_key(projection.schema(), key), fp, why);
                None
            }
        }
    }

    /// A change as it is carried. The place of one that is not is kept, because changes are counted
    /// (read-3): a ledger row that went moves nothing.
    fn change(&self, change: Change) -> Change {
        let nothing = |collection, key| Change::Ledger { collection, key, entry: None };
        match change {
            Change::Row { collection, key, after: Some(row), fp, .. } if self.of(collection).is_some() => {
                match self.lift(collection, &key, &row, fp) {
                    Some((after, fp)) => Change::Row { collection, key, after: Some(after), fp, before: None },
                    None => nothing(collection, key),
                }
            }
            Change::Observed { collection, key, image: Some(row), fp } if self.of(collection).is_some() => {
                match self.lift(collection, &key, &row, fp) {
                    Some((image, fp)) => Change::Observed { collection, key, image: Some(image), fp },
                    None => nothing(collection, key),
                }
            }
            Change::Row { collection, key, after: None, fp, .. } if self.of(collection).is_some() => {
                self.aside.forget(collection, &key);
                Change::Row { collection, key, after: None, fp, before: None }
            }
            other => other,
        }
    }
}

struct Platform {
    inner: Arc<dyn LogPlatform>,
    lens: Lens,
}

#[async_trait]
impl LogPlatform for Platform {
    async fn position(&self) -> Result<Position> {
        self.inner.position().await
    }

    async fn reader(&self, from: Position) -> Result<Box<dyn Reader>> {
        Ok(Box::new(Lifting { inner: self.inner.reader(from).await?, lens: self.lens.clone() }))
    }

    async fn snapshot(&self, collection: CollectionNo, after: Option<&Key>) -> Result<Box<dyn Snapshot>> {
        let inner = self.inner.snapshot(collection, after).await?;
        Ok(if self.lens.of(collection).is_some() {
            Box::new(Copying { inner, lens: self.lens.clone() })
        } else {
            inner
        })
    }

    async fn rows(&self) -> Result<Box<dyn Rows>> {
        Ok(Box::new(Projecting { inner: self.inner.rows().await?, lens: self.lens.clone() }))
    }
}

struct Lifting {
    inner: Box<dyn Reader>,
    lens: Lens,
}

#[async_trait]
impl Reader for Lifting {
    async fn next(&mut self, limit: BatchLimit) -> Result<ReadBatch> {
        let mut batch = self.inner.next(limit).await?;
        for transaction in &mut batch.transactions {
            let changes = std::mem::take(&mut transaction.changes);
            transaction.changes = changes.into_iter().map(|change| self.lens.change(change)).collect();
        }
        Ok(batch)
    }

    async fn release(&mut self, through: Position) -> Result<()> {
        self.inner.release(through).await
    }
}

struct Copying {
    inner: Box<dyn Snapshot>,
    lens: Lens,
}

#[async_trait]
impl Snapshot for Copying {
    fn position(&self) -> Position {
        self.inner.position()
    }

    async fn next(&mut self, limit: BatchLimit) -> Result<Option<Vec<Copied>>> {
        let Some(rows) = self.inner.next(limit).await? else { return Ok(None) };
        let lift = |copied: Copied| {
            let (row, fp) = self.lens.lift(copied.collection, &copied.key, &copied.row, copied.fp)?;
            Some(Copied { row, fp, ..copied })
        };
        Ok(Some(rows.into_iter().filter_map(lift).collect()))
    }
}

struct Projecting {
    inner: Box<dyn Rows>,
    lens: Lens,
}

#[async_trait]
impl Rows for Projecting {
    fn norm(&self, collection: CollectionNo, version: &Canonical) -> Result<Fp> {
        match self.lens.of(collection) {
            Some(projection) => self.inner.norm(collection, &projection.version(version)),
            None => self.inner.norm(collection, version),
        }
    }

    async fn ledger(&mut self, collection: CollectionNo, keys: &[Key]) -> Result<Vec<Option<LedgerEntry>>> {
        self.inner.ledger(collection, keys).await
    }

    async fn lock(&mut self, collection: CollectionNo, keys: &[Key]) -> Result<Box<dyn Locked + '_>> {
        let inner = self.inner.lock(collection, keys).await?;
        let Some(projection) = self.lens.of(collection) else { return Ok(inner) };
        let keys = keys.to_vec();
        Ok(Box::new(Held { inner, projection, aside: &self.lens.aside, collection, keys }))
    }
}

struct Held<'a> {
    inner: Box<dyn Locked + 'a>,
    projection: &'a Projection,
    aside: &'a Aside,
    collection: CollectionNo,
    keys: Vec<Key>,
}

impl Held<'_> {
    /// Why the content in a version's way was put aside, if it was.
    fn put_aside(&self, planned: &Planned) -> Option<String> {
        let index = self.keys.iter().position(|key| *key == planned.version.key)?;
        match self.inner.seen(index) {
            Seen::Row { fp, .. } => self.aside.why(self.collection, &planned.version.key, fp),
            Seen::Busy => None,
        }
    }
}

#[async_trait]
impl Locked for Held<'_> {
    fn seen(&self, index: usize) -> Seen {
        self.inner.seen(index)
    }

    fn position(&self) -> Position {
        self.inner.position()
    }

    async fn write(self: Box<Self>, plan: &[Planned]) -> Result<Vec<Written>> {
        // who-2: what was put aside is waited for by name, not only as something unseen.
        let in_the_way: Vec<Option<String>> = plan
            .iter()
            .map(|planned| match planned.act {
                Act::Dirty | Act::Observe => self.put_aside(planned),
                Act::Skip | Act::Adopt | Act::Write | Act::Defer => None,
            })
            .collect();
        let project = |(planned, why): (&Planned, &Option<String>)| Planned {
            version: Arc::new(self.projection.version(&planned.version)),
            fp: planned.fp,
            act: if why.is_some() { Act::Dirty } else { planned.act },
        };
        let projected: Vec<Planned> = plan.iter().zip(&in_the_way).map(project).collect();
        let written = self.inner.write(&projected).await?;
        let fate = |(written, why): (Written, Option<String>)| why.map_or(written, Written::Refused);
        Ok(written.into_iter().zip(in_the_way).map(fate).collect())
    }
}
