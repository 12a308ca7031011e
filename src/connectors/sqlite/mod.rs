//! SQLite files: captured by triggers that write a change table in the application's transaction,
//! written with a ledger row beside each data row in one transaction. Class LOG, guarantee *Exact*.
//! What it does not do (see README.md): notice what escapes triggers, change the schema of a table.

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

use super::contract::{Abilities, Capture, Descriptor, Guarantee};

/// SQLite's entry in the list of connectors.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "sqlite",
    abilities: Abilities { capture: Some(Capture::Log), apply: true, guarantee: Guarantee::Exact, exclusive: true },
    open: client::open,
};
