//! The versions of the rows' schema, in memory: durable and the same for all, whatever crashes.

use super::executor::yield_once;
use super::workload::schema;
use async_trait::async_trait;
use driftless::event::lineage::Step;
use driftless::event::{ActorId, PlatformNo, Position, Schema, SchemaId};
use driftless::runtime::error::Result;
use driftless::topic::lineages::Lineages;
use parking_lot::Mutex;
use std::sync::Arc;

pub(crate) struct SimLineages(Mutex<Vec<Step>>);

impl SimLineages {
    pub(crate) fn new() -> Arc<Self> {
        let by = ActorId::new(PlatformNo(1), 1);
        Arc::new(SimLineages(Mutex::new(vec![Step { schema: schema().clone(), by, at: Position::START }])))
    }

    fn append(&self, newest: SchemaId, schema: &Schema, by: ActorId, at: Position) -> Vec<Step> {
        let mut steps = self.0.lock();
        if steps.last().is_some_and(|step| step.schema.id == newest) {
            let id = SchemaId(steps.iter().map(|step| step.schema.id.0).max().unwrap_or(0) + 1);
            // The same text has the same id, as in any registry.
            let same = steps.iter().find(|s| s.schema.fields == schema.fields).map(|s| s.schema.clone());
            let schema = same.unwrap_or_else(|| Arc::new(Schema { id, ..schema.clone() }));
            steps.push(Step { schema, by, at });
        }
        steps.clone()
    }
}

#[async_trait]
impl Lineages for SimLineages {
    async fn steps(&self, _collection: u16) -> Result<Vec<Step>> {
        yield_once().await;
        Ok(self.0.lock().clone())
    }

    async fn add(
        &self,
        _collection: u16,
        newest: SchemaId,
        schema: &Schema,
        by: ActorId,
        at: Position,
    ) -> Result<Vec<Step>> {
        yield_once().await;
        let told = self.append(newest, schema, by, at);
        yield_once().await;
        Ok(told)
    }
}
