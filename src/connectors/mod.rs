//! Platforms: files are the contract, folders are the implementations.

pub mod contract;

#[cfg(feature = "filesystem")]
pub mod filesystem;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;

/// All connectors of this build; one line each.
pub const ALL: &[&contract::Descriptor] = &[
    #[cfg(feature = "filesystem")]
    &filesystem::DESCRIPTOR,
    #[cfg(feature = "postgres")]
    &postgres::DESCRIPTOR,
    #[cfg(feature = "sqlite")]
    &sqlite::DESCRIPTOR,
];

/// The names of all connectors there are, compiled in or not.
pub const KNOWN: &[&str] = &["filesystem", "postgres", "sqlite"];
