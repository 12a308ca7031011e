//! Platforms: files are the contract, folders are the implementations.

pub mod contract;

/// The connectors in this program.
pub const COMPILED: &[&contract::Descriptor] = &[];

/// The names of all connectors there are, compiled in or not.
pub const KNOWN: &[&str] = &["filesystem", "postgres", "sqlite"];
