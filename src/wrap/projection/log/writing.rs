//! What goes to a platform that shows a part: versions, projected, whatever version of the schema they are of.

use super::super::{Aside, Projection};
use super::Lens;
use crate::connectors::contract::{CollectionNo, Locked, Planned, Rows, Seen, Written};
use crate::event::lineage::Lens as Between;
use crate::event::{Canonical, Fp, Key, LedgerEntry, Position, Schema, SchemaId, Value};
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::Arc;

/// A writer that is given projected versions.
pub(super) fn projecting(inner: Box<dyn Rows>, lens: Lens) -> Box<dyn Rows> {
    Box::new(Projecting { inner, lens, versions: HashMap::new() })
}

/// By version of a collection's schema: to the one the projection was made for.
type Versions = HashMap<(CollectionNo, SchemaId), Between>;

struct Projecting {
    inner: Box<dyn Rows>,
    lens: Lens,
    versions: Versions,
}

fn projected(
    projection: &Projection,
    versions: &Versions,
    collection: CollectionNo,
    version: &Canonical,
) -> Result<Canonical> {
    let whole = projection.whole();
    let Some(row) = version.after.as_deref().filter(|_| version.schema != whole.id) else {
        return Ok(Canonical { schema: whole.id, ..projection.version(version) });
    };
    let between = versions.get(&(collection, version.schema)).ok_or_else(|| {
        let text = "the version has a schema that this platform's view was not made for; restart the node";
        Error::new(Code::SchemaUnsupported, text).at("schema", version.schema.0)
    })?;
    let row = Arc::new(between.lift(row, &Value::Null));
    Ok(projection.version(&Canonical { after: Some(row), conflict: None, schema: whole.id, ..version.clone() }))
}

#[async_trait]
impl Rows for Projecting {
    fn norm(&self, collection: CollectionNo, version: &Canonical) -> Result<Fp> {
        let Some(projection) = self.lens.of(collection) else { return self.inner.norm(collection, version) };
        self.inner.norm(collection, &projected(projection, &self.versions, collection, version)?)
    }

    /// read-10: a platform that shows a part keeps the form it was opened with, and rows of other versions of
    /// the schema are brought into it. A field that it should have too comes with the next start: nothing is
    /// written without it until then.
    async fn know(&mut self, collection: CollectionNo, versions: &[Arc<Schema>], add: &[Arc<str>]) -> Result<()> {
        let Some(projection) = self.lens.of(collection) else {
            return self.inner.know(collection, versions, add).await;
        };
        let ours = versions.iter().position(|version| version.id == projection.whole().id);
        let newer = versions.get(ours.map_or(versions.len(), |at| at + 1)..).unwrap_or_default();
        if let Some(field) = newer.iter().find_map(|version| projection.lacks(version)) {
            let text = format!(
                "the dataset has a new field `{field}`, which this platform's view shows; add the column here if it is not \
                 there, and restart the node"
            );
            return Err(Error::new(Code::SchemaUnsupported, text).at("collection", &projection.whole().name));
        }
        for version in versions.iter().filter(|version| version.id != projection.whole().id) {
            self.versions.insert((collection, version.id), Between::new(version, projection.whole()));
        }
        Ok(())
    }

    async fn ledger(&mut self, collection: CollectionNo, keys: &[Key]) -> Result<Vec<Option<LedgerEntry>>> {
        self.inner.ledger(collection, keys).await
    }

    async fn lock(&mut self, collection: CollectionNo, keys: &[Key]) -> Result<Box<dyn Locked + '_>> {
        let inner = self.inner.lock(collection, keys).await?;
        let Some(projection) = self.lens.of(collection) else { return Ok(inner) };
        let (versions, aside, keys) = (&self.versions, &*self.lens.aside, keys.to_vec());
        Ok(Box::new(Held { inner, projection, versions, aside, collection, keys }))
    }
}

struct Held<'a> {
    inner: Box<dyn Locked + 'a>,
    projection: &'a Projection,
    versions: &'a Versions,
    aside: &'a Aside,
    collection: CollectionNo,
    keys: Vec<Key>,
}

#[async_trait]
impl Locked for Held<'_> {
    /// who-2: what was put aside stands there for a person, and is not overwritten.
    fn seen(&self, index: usize) -> Seen {
        let seen = self.inner.seen(index);
        let Seen::Row { fp, ledger } = &seen else { return seen };
        let given = ledger.as_ref().is_some_and(|entry| entry.fp == *fp);
        let why = self.keys.get(index).filter(|_| !given).and_then(|key| self.aside.why(self.collection, key, *fp));
        why.map_or(seen, Seen::Unreadable)
    }

    fn position(&self) -> Position {
        self.inner.position()
    }

    async fn write(self: Box<Self>, plan: &[Planned]) -> Result<Vec<Written>> {
        let project = |planned: &Planned| {
            let version = projected(self.projection, self.versions, self.collection, &planned.version)?;
            Ok(Planned { version: Arc::new(version), ..planned.clone() })
        };
        let plan = plan.iter().map(project).collect::<Result<Vec<Planned>>>()?;
        self.inner.write(&plan).await
    }
}
