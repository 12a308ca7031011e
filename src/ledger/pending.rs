//! Versions that are read but not finished: the committed offset stays at the oldest of them, so
//! nothing is forgotten in a crash (sink-4). One per key: a newer version takes the older's place.

use crate::event::{Canonical, Fp, Key, Link, Offset, Position};
use std::collections::HashMap;
use std::sync::Arc;

/// Why a version waits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Why {
    /// The row's lock is taken.
    Busy,
    /// Something stands there that the version does not contain.
    Dirty {
        /// How it looked.
        seen: Fp,
        /// A position behind everything the store had committed when it was seen.
        at: Position,
    },
    /// The store refuses it.
    Parked(String),
}

struct Waiting {
    version: Arc<Canonical>,
    why: Why,
    /// Where it stands in D.
    offset: Offset,
    /// Whether it became DIRTY since the ledger topic was read from its start.
    new_dirty: bool,
}

/// The versions that wait.
#[derive(Default)]
pub struct Pending {
    waiting: HashMap<Key, Waiting>,
    /// Where versions of the batch at work stand in D.
    offsets: HashMap<Key, Offset>,
}

impl Pending {
    /// Notes where a version just read stands; an older version of its key need not be kept.
    pub fn take_over(&mut self, version: &Arc<Canonical>, offset: Offset) {
        self.offsets.insert(version.key.clone(), offset);
        if let Some(waiting) = self.waiting.get_mut(&version.key) {
            waiting.version = version.clone();
            waiting.offset = offset;
        }
    }

    /// Keeps a version waiting.
    pub fn hold(&mut self, version: Arc<Canonical>, why: Why) {
        let key = version.key.clone();
        let before = self.waiting.remove(&key);
        let offset = self.offsets.remove(&key).or(before.as_ref().map(|w| w.offset)).unwrap_or_default();
        // The same content seen again: the first sight counts, or its position would run ahead of
        // the reader for ever.
        let why = match (why, before.as_ref().map(|w| &w.why)) {
            (Why::Dirty { seen, .. }, Some(first @ Why::Dirty { seen: same, .. })) if seen == *same => first.clone(),
            (why, _) => why,
        };
        let known = before.is_some_and(|w| matches!(w.why, Why::Dirty { .. }) && !w.new_dirty);
        let new_dirty = matches!(why, Why::Dirty { .. }) && !known;
        self.waiting.insert(key, Waiting { version, why, offset, new_dirty });
    }

    /// What was seen of a key before counts no more.
    pub fn look_anew(&mut self, key: &Key) {
        if let Some(waiting) = self.waiting.get_mut(key) {
            waiting.why = Why::Busy;
        }
    }

    /// A version is finished.
    pub fn settle(&mut self, key: &Key) {
        self.waiting.remove(key);
        self.offsets.remove(key);
    }

    /// The link before the oldest version that waits.
    #[must_use]
    pub fn oldest(&self) -> Option<Link> {
        let oldest = self.waiting.values().min_by_key(|w| w.offset)?;
        Some(Link { offset: oldest.offset, seq: oldest.version.seq - 1, id: oldest.version.prev })
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether some are DIRTY.
    #[must_use]
    pub fn any_dirty(&self) -> bool {
        self.waiting.values().any(|w| matches!(w.why, Why::Dirty { .. }))
    }

    /// Whether some became DIRTY since `known_dirty`.
    #[must_use]
    pub fn has_new_dirty(&self) -> bool {
        self.waiting.values().any(|w| w.new_dirty)
    }

    /// Says that the ledger topic is being read for all that are DIRTY now.
    pub fn known_dirty(&mut self) {
        self.waiting.values_mut().for_each(|w| w.new_dirty = false);
    }

    /// Whether a key waits.
    #[must_use]
    pub fn contains(&self, key: &Key) -> bool {
        self.waiting.contains_key(key)
    }

    /// Why a key waits.
    #[must_use]
    pub fn why(&self, key: &Key) -> Option<&Why> {
        self.waiting.get(key).map(|w| &w.why)
    }

    /// The version that waits for a key.
    #[must_use]
    pub fn version(&self, key: &Key) -> Option<&Arc<Canonical>> {
        self.waiting.get(key).map(|w| &w.version)
    }

    /// The versions to try again: all that wait but those the store refuses.
    #[must_use]
    pub fn versions(&self) -> Vec<Arc<Canonical>> {
        let open = self.waiting.values().filter(|w| !matches!(w.why, Why::Parked(_)));
        open.map(|w| w.version.clone()).collect()
    }

    /// The keys the store refuses and why, in words.
    #[must_use]
    pub fn told(&self) -> Vec<(String, String)> {
        self.parked().map(|(version, why)| (format!("{:?}", version.key), why.to_owned())).collect()
    }

    /// The versions the store refuses, and why.
    pub fn parked(&self) -> impl Iterator<Item = (&Arc<Canonical>, &str)> {
        self.waiting.values().filter_map(|w| match &w.why {
            Why::Parked(why) => Some((&w.version, why.as_str())),
            Why::Busy | Why::Dirty { .. } => None,
        })
    }
}
