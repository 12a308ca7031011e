//! Platforms: files are the contract, folders are the implementations.

pub mod contract;

#[cfg(feature = "postgres")]
pub mod postgres;
