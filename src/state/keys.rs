//! Keys that something is known of, and nothing more.

use super::{Memory, Plain, State};
use crate::event::Key;
use crate::runtime::error::Result;
use bytes::Bytes;
use std::sync::Arc;

/// A set of keys, to which keys are added without knowing whether they are in it.
pub struct Keys(State<()>);

impl Keys {
    /// An empty one.
    #[must_use]
    pub fn new(memory: &Memory) -> Self {
        Keys(State::new(memory.cold(Arc::new(Plain))))
    }

    /// Adds a key. The set does not hold the batch the key was read with.
    ///
    /// # Errors
    /// As `Cold::fetch`.
    pub fn add(&mut self, key: &Key) -> Result<()> {
        self.0.fetch([])?;
        if !self.0.holds(key) {
            self.0.put(Key(Bytes::copy_from_slice(&key.0)), ());
        }
        Ok(())
    }

    /// As `Cold::fetch`, for `has`.
    ///
    /// # Errors
    /// As there.
    pub fn fetch<'k>(&mut self, keys: impl IntoIterator<Item = &'k Key>) -> Result<()> {
        self.0.fetch(keys)
    }

    /// Whether a key that was fetched is in it.
    #[must_use]
    pub fn has(&self, key: &Key) -> bool {
        self.0.holds(key)
    }

    /// Up to `limit` keys behind `after`, in order.
    ///
    /// # Errors
    /// As `Cold::fetch`.
    pub fn page(&self, after: Option<&Key>, limit: usize) -> Result<Vec<Key>> {
        Ok(self.0.page(after, limit)?.into_iter().map(|(key, ())| key).collect())
    }
}
