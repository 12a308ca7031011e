//! The versions that the schemas of a dataset have had (read-10): one order for all platforms, so that
//! two that change a table at once are one after the other. Where they are kept is the node's affair.

use super::message::message;
use super::{Message, Typed};
use crate::event::lineage::Step;
use crate::event::{ActorId, Control, ControlInput, Fp, Position, Record, Schema, SchemaId};
use crate::runtime::error::Result;
use async_trait::async_trait;
use std::sync::Arc;

/// The versions the schemas of a dataset have had. Durable, and the same for all of its platforms.
#[async_trait]
pub trait Lineages: Send + Sync {
    /// The versions of a collection's schema in order, the newest last; at least one.
    async fn steps(&self, collection: u16) -> Result<Vec<Step>>;

    /// A table's form without the columns that are left out of the dataset (read-11): they never become fields.
    fn listed(&self, _collection: u16, form: &Schema) -> Result<Schema> {
        Ok(form.clone())
    }

    /// Adds a version behind `newest`, and returns them all. Adds nothing if `newest` is not the newest
    /// any more: decide again on what is returned. Fails if the dataset's schema may not change.
    async fn add(
        &self,
        collection: u16,
        newest: SchemaId,
        schema: &Schema,
        by: ActorId,
        at: Position,
    ) -> Result<Vec<Step>>;
}

/// A schema as a control input. The command id is made of the schema, so that a second announcement is
/// void (claim-10).
#[must_use]
pub fn announcement(schema: &Arc<Schema>) -> Message<Typed> {
    let name = format!("schema {} {}", schema.id.0, schema.name);
    let command = u128::from_be_bytes(Fp::of_bytes(name.as_bytes()).0);
    let input = ControlInput { command, control: Control::Schema(schema.clone()) };
    message(Arc::new(Record::Control(Box::new(input))))
}
