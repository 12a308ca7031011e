//! An agent and the versions of the dataset's schema (read-10). The store holds documents of all fields
//! there ever were: a dropped field that still stands in one is no edit. What is proposed is of the newest
//! version.

use super::{Agent, Owned};
use crate::event::lineage::{self, Lens};
use crate::event::{Canonical, Field, Fp, Row, Schema, SchemaId, Value};
use crate::runtime::error::{Code, Error, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// How rows are read and written.
#[derive(Debug, Default)]
pub(super) struct Schemas {
    /// The newest version.
    pub newest: SchemaId,
    /// How many fields the store's rows have.
    fields: usize,
    /// From each version to the store's rows; `None` if they are the same.
    up: HashMap<SchemaId, Option<Lens>>,
    /// From the store's rows to each version, if there are several.
    down: HashMap<SchemaId, Lens>,
}

impl Schemas {
    /// Reads the versions, and tells the store.
    pub(super) async fn read(agent: &Agent) -> Result<Self> {
        let steps = agent.lineages.steps(agent.collection).await?;
        let missing = || Error::new(Code::Unexpected, "a collection has no schema");
        let store: Arc<Schema> = Arc::new(lineage::union(&steps).ok_or_else(missing)?);
        let newest = steps.last().map(|step| step.schema.clone()).ok_or_else(missing)?;
        agent.store.know(agent.collection, &store).await?;
        let is_same = |s: &Schema| s.fields == store.fields;
        let up = |schema: &Arc<Schema>| (!is_same(schema)).then(|| Lens::new(schema, &store));
        Ok(Schemas {
            newest: newest.id,
            fields: store.fields.len(),
            up: steps.iter().map(|step| (step.schema.id, up(&step.schema))).collect(),
            down: if steps.len() > 1 {
                steps.iter().map(|step| (step.schema.id, Lens::new(&store, &step.schema))).collect()
            } else {
                HashMap::new()
            },
        })
    }

    /// Whether the store has rows of more fields than are known here.
    pub(super) fn is_behind(&self, row: &Row) -> bool {
        row.0.len() > self.fields
    }

    /// A version with its content as the store has it.
    pub(super) fn lifted(&self, version: &Arc<Canonical>) -> Result<Arc<Canonical>> {
        match (&version.after, self.up.get(&version.schema)) {
            (None, _) | (_, Some(None)) => Ok(version.clone()),
            (Some(row), Some(Some(lens))) => {
                let after = Some(Arc::new(lens.lift(row, &Value::Null)));
                Ok(Arc::new(Canonical { after, ..Canonical::clone(version) }))
            }
            (Some(_), None) => {
                let text = "a version is of a schema that the dataset never had";
                Err(Error::new(Code::ProposalsMissing, text).at("schema", version.schema.0))
            }
        }
    }

    /// Content of the store as a row of the newest version, with its fingerprint there; or of the version
    /// it was given in, as long as nobody has written a field here that came later (read-10).
    pub(super) fn proposed(&self, row: Option<Arc<Row>>, fp: Fp, given: SchemaId) -> (Option<Arc<Row>>, Fp, SchemaId) {
        let (Some(now), Some(content)) = (self.down.get(&self.newest), &row) else { return (row, fp, self.newest) };
        let has = |lens: &Lens, name: &str| lens.to.index_of(name).is_some();
        let still = |earlier: &&Lens| {
            let unwritten = |(i, f): (usize, &Field)| {
                let value = now.place(i).and_then(|at| content.get(at));
                has(earlier, &f.name) || value.is_none_or(Value::is_null)
            };
            earlier.to.fields.iter().all(|f| has(now, &f.name)) && now.to.fields.iter().enumerate().all(unwritten)
        };
        let lens = self.down.get(&given).filter(still).unwrap_or(now);
        (Some(Arc::new(lens.lift(content, &Value::Null))), lens.fp(content), lens.to.id)
    }
}

impl Owned<'_> {
    /// Before a version of a schema that has not been met.
    pub(super) async fn meet(&mut self, schema: SchemaId) -> Result<()> {
        if !self.schemas.up.contains_key(&schema) {
            self.schemas = Schemas::read(self.agent).await?;
        }
        Ok(())
    }
}
