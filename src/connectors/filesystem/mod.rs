//! A directory with one file per record: JSON documents, or raw bytes.

mod client;
mod config;
mod failure;
mod reader;
mod store;
mod values;
mod wire;

#[cfg(test)]
pub(super) mod tests;

use super::contract::{Abilities, Capture, Descriptor, Guarantee};

/// The connector's entry in the list.
pub const DESCRIPTOR: Descriptor = Descriptor {
    name: "filesystem",
    abilities: Abilities { capture: Some(Capture::Hint), apply: true, guarantee: Guarantee::Exact, exclusive: false },
    open: client::open,
};
