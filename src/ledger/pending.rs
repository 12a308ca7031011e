//! Versions that are read but not finished: the committed offset stays at the oldest of them, so
//! nothing is forgotten in a crash (sink-4). One per key: a newer version takes the older's place.

use crate::event::{Canonical, Fp, Key, Link, Offset, Position};
use crate::guard;
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
    /// It cannot go in.
    Parked(Park),
}

/// Why a key is put aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Park {
    /// The error's code.
    pub code: &'static str,
    /// The reason, for people.
    pub why: String,
    /// Content stands there that must not be overwritten: it waits for a person, however long.
    pub lasting: bool,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// When it is tried again.
    pub again_ms: u64,
}

/// The first and the longest pause between two tries of a parked key, in milliseconds.
const AGAIN_MS: (u64, u64) = (1_000, 60_000);

impl Park {
    /// Put aside now.
    #[must_use]
    pub fn new(code: &'static str, why: impl Into<String>, lasting: bool, now_ms: u64) -> Self {
        Park { code, why: why.into(), lasting, since_ms: now_ms, again_ms: now_ms + AGAIN_MS.0 }
    }

    /// Put aside again: the pauses double.
    #[must_use]
    pub fn again(self, before: &Park) -> Self {
        let lasts_ms = self.since_ms.saturating_sub(before.since_ms);
        let again_ms = self.since_ms + lasts_ms.clamp(AGAIN_MS.0, AGAIN_MS.1);
        Park { since_ms: before.since_ms, again_ms, ..self }
    }
}

struct Waiting {
    version: Arc<Canonical>,
    why: Why,
    /// Where it stands in D.
    offset: Offset,
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
            (Why::Parked(park), Some(Why::Parked(before))) => Why::Parked(park.again(before)),
            (why, _) => why,
        };
        self.waiting.insert(key, Waiting { version, why, offset });
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

    /// The DIRTY keys of which the reader, who has passed everything up to `through`, has met what they wait for.
    pub fn met(&self, through: Position) -> impl Iterator<Item = &Key> {
        self.waiting.iter().filter(move |(_, w)| w.is_met(through)).map(|(key, _)| key)
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

    /// The versions to try again: parked ones when it is time, DIRTY ones when the reader has met what they wait
    /// for (sink-4), all of them if there is no reader.
    #[must_use]
    pub fn versions(&self, now_ms: u64, through: Option<Position>) -> Vec<Arc<Canonical>> {
        let due = |w: &&Waiting| match &w.why {
            Why::Busy => true,
            Why::Dirty { .. } => through.is_none_or(|through| w.is_met(through)),
            Why::Parked(park) => park.again_ms <= now_ms,
        };
        self.waiting.values().filter(due).map(|w| w.version.clone()).collect()
    }

    /// Whether some wait that are not parked.
    #[must_use]
    pub fn any_open(&self) -> bool {
        self.waiting.values().any(|w| w.parked().is_none())
    }

    /// When the next parked version is tried again.
    #[must_use]
    pub fn again_ms(&self) -> u64 {
        self.parked().map(|(_, park)| park.again_ms).min().unwrap_or(u64::MAX)
    }

    /// All parked versions are to be tried at once.
    pub fn hurry(&mut self) {
        self.waiting.values_mut().for_each(|w| {
            if let Why::Parked(park) = &mut w.why {
                park.again_ms = 0;
            }
        });
    }

    /// The versions parked since before `since_ms` that do not wait for a person, with their places in D.
    #[must_use]
    pub fn expired(&self, since_ms: u64) -> Vec<(Arc<Canonical>, Offset, Park)> {
        let expired = |w: &Waiting| {
            let park = w.parked().filter(|park| !park.lasting && park.since_ms < since_ms)?;
            Some((w.version.clone(), w.offset, park.clone()))
        };
        self.waiting.values().filter_map(expired).collect()
    }

    /// The parked versions, and why.
    pub fn parked(&self) -> impl Iterator<Item = (&Arc<Canonical>, &Park)> {
        self.waiting.values().filter_map(|w| Some((&w.version, w.parked()?)))
    }
}

impl Waiting {
    /// Whether it is DIRTY for something the reader has passed.
    fn is_met(&self, through: Position) -> bool {
        matches!(self.why, Why::Dirty { at, .. } if !guard!("sink-4", at > through))
    }

    fn parked(&self) -> Option<&Park> {
        match &self.why {
            Why::Parked(park) => Some(park),
            Why::Busy | Why::Dirty { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parked_key_is_tried_again_with_doubling_pauses_up_to_a_minute() {
        let first = Park::new("value_refused", "why", false, 10_000);
        assert_eq!(first.again_ms, 11_000);
        let later = |at_ms| Park::new("value_refused", "why", false, at_ms).again(&first);
        assert_eq!((later(11_000).again_ms, later(13_000).again_ms), (12_000, 16_000));
        assert_eq!((later(500_000).again_ms, later(500_000).since_ms), (560_000, 10_000));
    }

    /// sink-4: until then looking again could decide nothing, and ten thousand that wait would keep the platform busy.
    #[test]
    fn a_dirty_version_is_tried_again_only_when_the_reader_has_passed_its_place() {
        let mut pending = Pending::default();
        let dirty = |at| Why::Dirty { seen: Fp::ABSENT, at: Position::end_of(at) };
        for (key, why) in [("early", dirty(10)), ("late", dirty(20)), ("busy", Why::Busy)] {
            pending.hold(Arc::new(Canonical { key: key.into(), ..Canonical::blank() }), why);
        }
        let due = |pending: &Pending, through| {
            let mut keys: Vec<_> = pending.versions(0, through).iter().map(|v| v.key.clone()).collect();
            keys.sort();
            keys
        };
        let at = |commit| Some(Position::end_of(commit));
        assert_eq!(due(&pending, at(9)), ["busy".into()]);
        assert_eq!(due(&pending, at(10)), ["busy".into(), "early".into()]);
        assert_eq!(due(&pending, None).len(), 3, "nobody reads there, so nothing says when");
        assert_eq!(pending.met(Position::end_of(9)).count(), 0);
        assert!(pending.met(Position::end_of(10)).eq([&"early".into()]));
    }
}
