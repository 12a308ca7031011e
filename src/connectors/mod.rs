//! Platforms: files are the contract, folders are the implementations.

pub mod contract;

#[cfg(feature = "filesystem")]
pub mod filesystem;
