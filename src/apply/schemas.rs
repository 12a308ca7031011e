//! A sink and the versions of the dataset's schema: the platform is told of each before anything of it
//! is handled (read-10).

use super::{Applying, Sink};
use crate::event::{SchemaId, lineage};
use crate::guard;
use crate::runtime::error::{Code, Error, Result};

impl Applying<'_> {
    /// The platform learns of the versions of the schema (read-10).
    pub(super) async fn tell_schemas(&mut self) -> Result<()> {
        let Sink { collection, lineages, me, .. } = self.sink;
        let steps = lineages.steps(*collection).await?;
        let add = lineage::given_by_others(&steps, *me);
        let versions: Vec<_> = steps.into_iter().map(|step| step.schema).collect();
        self.rows.know(*collection, &versions, &add).await?;
        self.schemas.extend(versions.iter().map(|schema| schema.id));
        Ok(())
    }

    /// What the reader knows may be of a schema that no version has used yet: its own table's newest. Content
    /// that is compared under another one never looks as it is known, and the key would wait for ever (sink-4).
    pub(super) async fn meet_known(&mut self) -> Result<()> {
        let known = self
            .knowledge
            .iter()
            .flat_map(|knowledge| self.pending.met(knowledge.through).filter_map(|key| knowledge.known(key)));
        let schemas: Vec<SchemaId> = known.map(|known| known.schema).filter(|id| *id != SchemaId::default()).collect();
        if guard!("read-10-known", true) { self.meet(schemas.into_iter()).await } else { Ok(()) }
    }

    /// Before anything of a schema is handled that has not been met.
    pub(super) async fn meet(&mut self, schemas: impl Iterator<Item = SchemaId>) -> Result<()> {
        let new = schemas.filter(|id| !self.schemas.contains(id)).max();
        if let Some(id) = new {
            self.tell_schemas().await?;
            if !self.schemas.contains(&id) {
                let text = "a version or a row of the ledger is of a schema that the dataset never had";
                return Err(Error::new(Code::ProposalsMissing, text).at("schema", id.0));
            }
        }
        Ok(())
    }
}
