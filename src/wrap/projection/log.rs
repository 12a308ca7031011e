//! A LOG platform that shows a part of its collections. What its reader and its copies return is lifted,
//! what goes to its rows is projected; fingerprints are those of the projected rows throughout, so that
//! the ledger, the echo and the sink's decision compare what the store really holds (`fp_local`).

mod reading;
mod writing;

use super::aside::CODE;
use super::{Aside, Projection, Projections, shown_row};
use crate::connectors::contract::{Change, CollectionNo, LogPlatform, Reader, Rows, Snapshot, Unreadable};
use crate::event::lineage::Lens as Between;
use crate::event::{Fp, Key, Position, Row, Seq, Value};
use crate::runtime::error::Result;
use async_trait::async_trait;
use std::collections::HashMap;
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

    /// An image as it is carried, with its fingerprint; or what is said of one that is not.
    fn lift(
        &self,
        projection: &Projection,
        collection: CollectionNo,
        key: &Key,
        here: &Row,
        fp: Fp,
    ) -> Result<(Arc<Row>, Fp), Unreadable> {
        match projection.lift(here) {
            Ok(whole) => {
                self.aside.forget(collection, key);
                let fp = projection.fp(here, fp, &whole);
                Ok((Arc::new(whole), fp))
            }
            Err(why) => {
                self.aside.put(collection, key, fp, &why);
                let native = shown_row(projection.schema(), here);
                Err(Unreadable {
                    collection,
                    key: Some(key.clone()),
                    code: CODE.as_str(),
                    why,
                    native,
                    replaced: false,
                })
            }
        }
    }

    /// A change as it is carried; one that is not is kept as a dead letter in its place (P4).
    fn change(&self, change: Change, forms: &HashMap<CollectionNo, Between>) -> Change {
        let seen = |collection: CollectionNo, row: Arc<Row>, fp: Fp| match forms.get(&collection) {
            Some(form) => (Arc::new(form.lift(&row, &Value::Null)), form.fp(&row)),
            None => (row, fp),
        };
        let of = match &change {
            Change::Row { collection, .. } | Change::Observed { collection, .. } => self.of(*collection),
            Change::Ledger { .. } | Change::Truncate(_) | Change::Unreadable(_) => None,
        };
        let Some(projection) = of else { return change };
        match change {
            Change::Row { collection, key, after: Some(row), fp, .. } => {
                let (row, fp) = seen(collection, row, fp);
                match self.lift(projection, collection, &key, &row, fp) {
                    // What stood before is known by its version: this image has a part of it only.
                    Ok((after, fp)) => Change::Row { collection, key, after: Some(after), fp, before: None },
                    Err(unreadable) => Change::Unreadable(Box::new(unreadable)),
                }
            }
            Change::Row { collection, key, after: None, fp, .. } => {
                self.aside.forget(collection, &key);
                Change::Row { collection, key, after: None, fp, before: None }
            }
            Change::Observed { collection, key, image: Some(row), fp } => {
                let (row, fp) = seen(collection, row, fp);
                match self.lift(projection, collection, &key, &row, fp) {
                    Ok((image, fp)) => Change::Observed { collection, key, image: Some(image), fp },
                    Err(unreadable) => Change::Unreadable(Box::new(unreadable)),
                }
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
        Ok(reading::lifting(self.inner.reader(from).await?, self.lens.clone()))
    }

    async fn snapshot(&self, collection: CollectionNo, after: Option<&Key>) -> Result<Box<dyn Snapshot>> {
        let inner = self.inner.snapshot(collection, after).await?;
        Ok(if self.lens.of(collection).is_some() { reading::copying(inner, self.lens.clone()) } else { inner })
    }

    async fn rows(&self) -> Result<Box<dyn Rows>> {
        Ok(writing::projecting(self.inner.rows().await?, self.lens.clone()))
    }

    async fn ledger_tops(&self, collection: CollectionNo, limit: usize) -> Result<Vec<(Key, Seq)>> {
        self.inner.ledger_tops(collection, limit).await
    }
}
