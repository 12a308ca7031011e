//! Platforms: files are the contract, folders are the implementations.

mod abilities;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
pub mod contract;
mod exclusive;
mod place;
mod told;

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

#[cfg(all(test, feature = "filesystem", feature = "postgres", feature = "sqlite"))]
mod tests {
    use super::{conformance, filesystem, postgres, sqlite};

    /// topic-4, value-1
    #[tokio::test(flavor = "multi_thread")]
    async fn conformance_of_keys_and_fingerprints_across_all_platforms() {
        let file = conformance::facts::<filesystem::tests::conformance::Shop>().await;
        assert!(file.len() > 5 && file.iter().all(|(_, fp, norm)| fp == norm), "{file:?}");
        assert_eq!(file, conformance::facts::<sqlite::tests::conformance::Shop>().await);
        assert_eq!(file, conformance::facts::<postgres::tests::conformance::Shop>().await);
    }
}
