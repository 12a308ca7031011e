//! Where a dataset lies on a platform: what a connector is opened with.

use crate::event::Schema;
use std::sync::Arc;

/// Where a dataset lies on a platform, and what its records look like.
#[derive(Clone, PartialEq, Debug)]
pub struct Scope {
    /// The dataset's name.
    pub dataset: String,
    /// Its collections in order.
    pub collections: Vec<Place>,
}

/// One collection on one platform.
#[derive(Clone, PartialEq, Debug)]
pub struct Place {
    /// The collection's name.
    pub name: String,
    /// The connector's own words for where it lies (`on:`).
    pub on: serde_json::Value,
    /// Its schema, once known.
    pub schema: Option<Arc<Schema>>,
    /// How many partitions its topics have.
    pub partitions: u32,
}
