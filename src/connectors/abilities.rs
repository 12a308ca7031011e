//! What a connector can do, and how it is listed. Parts of the contract that say nothing of data.

use super::contract::Connector;
use crate::runtime::error::Result;

/// How a platform tells of changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Capture {
    /// An ordered log of committed changes.
    Log,
    /// Hints and listings.
    Hint,
}

/// What a connector can do; the same for all platforms of its type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Abilities {
    /// How it captures; `None` if it cannot.
    pub capture: Option<Capture>,
    /// Whether it can be written to under the protocol.
    pub apply: bool,
    /// What it guarantees (who-3).
    pub guarantee: Guarantee,
    /// Whether it can be a destination that nobody else writes (`Connector::exclusive`).
    pub exclusive: bool,
}

/// The guarantee level of a platform (who-3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Guarantee {
    /// Row and ledger in one transaction, or a conditional write with a witness.
    Exact,
    /// A conditional write without a witness.
    Safe,
    /// A destination nobody else writes.
    Exclusive,
}

/// A connector's entry in the list.
#[derive(Clone, Copy)]
pub struct Descriptor {
    /// Folder, feature, configuration `type` and metric label.
    pub name: &'static str,
    /// What it can do.
    pub abilities: Abilities,
    /// Checks a configuration and makes the connector; performs no I/O.
    pub open: fn(settings: serde_json::Value, platform: &str) -> Result<Box<dyn Connector>>,
}
