//! Where the versions of schemas are kept (read-10): the texts in the schema store, their order in
//! `__control`, under the claim of its role, so that two platforms that change a table at once come one
//! after the other.

use super::log::Opened;
use super::project;
use super::roster::{Roster, Version};
use crate::config::Collection;
use crate::event::lineage::Step;
use crate::event::{ActorId, Position, Schema, SchemaId};
use crate::runtime::error::{Code, Error, Result};
use crate::topic::lineages::Lineages;
use async_trait::async_trait;
use std::sync::Arc;
use tokio::sync::Mutex;

/// The schemas of one dataset.
pub struct Kept {
    pub(super) log: Opened,
    pub(super) roster: Arc<Mutex<Roster>>,
    pub(super) dataset: String,
    /// By number: what is configured, and topic `<c>`.
    pub(super) collections: Vec<(Collection, Arc<str>)>,
    /// Whether the platforms' tables may change them.
    pub(super) may_change: bool,
}

impl Kept {
    fn place(&self, collection: u16) -> Result<&(Collection, Arc<str>)> {
        let missing = || Error::new(Code::Unexpected, format!("there is no collection {collection}"));
        self.collections.get(usize::from(collection)).ok_or_else(missing)
    }

    /// All of them can be written under from here on, the newest as the current one.
    async fn told(&self, collection: u16, versions: Vec<Version>) -> Result<Vec<Step>> {
        let mut steps = Vec::with_capacity(versions.len());
        for (id, by, at) in versions {
            let schema = self.log.coded.schema(id).await?;
            self.prepare(collection, &schema).await?;
            steps.push(Step { schema, by, at });
        }
        Ok(steps)
    }

    /// Makes a schema the one that is written under.
    pub(super) async fn prepare(&self, collection: u16, schema: &Schema) -> Result<SchemaId> {
        Ok(self.log.coded.prepare(&self.place(collection)?.1, schema).await?.id)
    }

    /// Makes a schema the newest version, whatever is now.
    ///
    /// # Errors
    /// As the log has them.
    pub(super) async fn set(&self, collection: u16, schema: &Schema, by: ActorId) -> Result<Vec<Step>> {
        let name = &self.place(collection)?.0.name;
        let id = self.prepare(collection, schema).await?;
        let mut roster = self.roster.lock().await;
        let mut versions = roster.schemas(&self.dataset, name).await?;
        while versions.last().is_none_or(|newest| newest.0 != id || newest.1 != by) {
            let newest = versions.last().map(|version| version.0);
            versions = roster.add_schema((&self.dataset, name), newest, (id, by, Position::START)).await?;
        }
        drop(roster);
        self.told(collection, versions).await
    }
}

#[async_trait]
impl Lineages for Kept {
    async fn steps(&self, collection: u16) -> Result<Vec<Step>> {
        let name = &self.place(collection)?.0.name;
        let versions = self.roster.lock().await.schemas(&self.dataset, name).await?;
        self.told(collection, versions).await
    }

    fn listed(&self, collection: u16, form: &Schema) -> Result<Schema> {
        project::listed(form.clone(), &self.place(collection)?.0)
    }

    async fn add(
        &self,
        collection: u16,
        newest: SchemaId,
        schema: &Schema,
        by: ActorId,
        at: Position,
    ) -> Result<Vec<Step>> {
        let name = &self.place(collection)?.0.name;
        if !self.may_change {
            let text = "the table has changed, and `schema-changes: stop` lets no change into the dataset; take it back, \
                        or set `schema-changes: evolve`";
            return Err(Error::new(Code::SchemaUnsupported, text).at("collection", name));
        }
        let id = self.prepare(collection, schema).await?;
        let mut roster = self.roster.lock().await;
        let versions = roster.add_schema((&self.dataset, name), Some(newest), (id, by, at)).await?;
        drop(roster);
        self.told(collection, versions).await
    }
}
