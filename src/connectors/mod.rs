//! Platforms: files are the contract, folders are the implementations.

pub mod contract;

/// All connectors of this build; one line each.
pub const ALL: &[&contract::Descriptor] = &[];

/// The names of all connectors there are, compiled in or not.
pub const KNOWN: &[&str] = &["filesystem", "postgres", "sqlite"];
