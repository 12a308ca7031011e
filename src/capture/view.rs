//! How the rows of a table are read as rows of the dataset (read-10). Pure.

use crate::event::lineage::Lens;
use crate::event::{Schema, SchemaId};
use std::collections::HashMap;
use std::sync::Arc;

/// A table's form, and what its rows are to the dataset (read-10).
#[derive(Clone, Debug)]
pub struct View {
    /// The form.
    pub form: Arc<Schema>,
    /// To the schema in force.
    pub now: Lens,
    /// To every version of the schema, by id: what a ledger row says counts under its own.
    pub all: HashMap<SchemaId, Lens>,
}

/// What a form means, for `Fold::transaction`: in the order of the transaction's `forms`.
pub type Views = [View];
