//! PostgreSQL 14 to 18: changes from its log, rows and ledger in one transaction. See README.md.

use super::contract::{Abilities, Capture, Descriptor, Guarantee};

mod client;
mod config;
mod failure;
mod position;
mod reader;
mod rows;
mod snapshot;
mod values;
mod wire;

#[cfg(test)]
pub(super) mod tests;

/// This connector's entry in the list.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "postgres",
    abilities: Abilities { capture: Some(Capture::Log), apply: true, guarantee: Guarantee::Exact, exclusive: true },
    open: client::platform::open,
};
