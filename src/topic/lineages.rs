//! The versions that the schemas of a dataset have had (read-10): one order for all platforms, so that
//! two that change a table at once are one after the other. Where they are kept is the node's affair.

use crate::event::lineage::Step;
use crate::event::{ActorId, Position, Schema, SchemaId};
use crate::runtime::error::Result;
use async_trait::async_trait;

/// The versions the schemas of a dataset have had. Durable, and the same for all of its platforms.
#[async_trait]
pub trait Lineages: Send + Sync {
    /// The versions of a collection's schema in order, the newest last; at least one.
    async fn steps(&self, collection: u16) -> Result<Vec<Step>>;

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
