//! Platforms: files are the contract, folders are the implementations.

pub mod contract;

#[cfg(feature = "sqlite")]
pub mod sqlite;

/// All connectors of this build; one line each.
pub const ALL: &[&contract::Descriptor] = &[
    #[cfg(feature = "sqlite")]
    &sqlite::DESCRIPTOR,
];
