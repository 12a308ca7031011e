//! A destination that nobody else writes (who-3). It keeps no ledger: per partition one *mark* says up to
//! where versions were applied, and moves in the same transaction as the rows. So a version is applied
//! once, whatever dies, and two writers at once take turns.
//!
//! The price is what the mark cannot tell: an edit made there by somebody else is not noticed, and is
//! overwritten when its record changes next.

use super::contract::CollectionNo;
use crate::event::{Canonical, Link};
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use std::sync::Arc;

/// An opened destination.
#[async_trait]
pub trait Exclusive: Send + Sync {
    /// A writer of one partition, with a connection of its own. Fails if the place holds rows and no mark
    /// says that they were written here.
    async fn writer(&self, collection: CollectionNo, partition: u32) -> Result<Box<dyn ExclusiveWriter>>;
}

/// Writes one partition.
#[async_trait]
pub trait ExclusiveWriter: Send {
    /// Up to where versions were applied: the place behind the newest of them, and its link.
    async fn mark(&mut self) -> Result<Link>;

    /// Writes or deletes the row of each version, one version per key, and moves the mark from `from` to
    /// `to`, all in one transaction. False if the mark is not at `from`: somebody else has moved it, and
    /// nothing was changed. A row the store cannot hold exactly fails the whole call (P8).
    async fn write(&mut self, versions: &[Arc<Canonical>], from: Link, to: Link) -> Result<bool>;
}

pub(super) fn unsupported() -> Error {
    Error::new(Code::ConfigUnsupported, "this platform keeps no mark with its rows; leave `guarantee: exclusive` out")
}
