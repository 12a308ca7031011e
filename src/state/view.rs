//! The part of a keyed state that is in memory: what a batch reads and changes. Pure, so that those
//! who decide may hold it; `state::Cold` keeps what there is no room for and brings it back.
//!
//! Whoever owns the state calls `Cold::fetch` with the keys of a batch first; from then on a key that
//! is not found here does not exist. Entries live in two generations: what is put goes into the young
//! one, and when memory is short the old one leaves. Bytes are counted as they are put, replaced ones
//! included, because a small value may hold the whole batch it was read with.

use crate::event::{Canonical, Key, Known, Row, Side, Stamp, Value};
use std::collections::HashMap;
use std::mem::size_of;
use std::sync::Arc;

/// What an entry costs beside its key's bytes and its value, in bytes: the map's slot and buffers.
const SLOT: usize = 96;

/// Something whose size in memory is known about.
pub trait Weigh {
    /// Bytes it takes, about.
    fn weight(&self) -> usize;
}

#[derive(Clone, Debug)]
struct Slot<V> {
    value: V,
    /// Not yet where it would be found again.
    dirty: bool,
}

/// The entries in memory.
#[derive(Clone, Debug)]
pub struct View<V> {
    young: HashMap<Key, Slot<V>>,
    old: HashMap<Key, Slot<V>>,
    young_bytes: usize,
    old_bytes: usize,
}

impl<V> Default for View<V> {
    fn default() -> Self {
        View { young: HashMap::new(), old: HashMap::new(), young_bytes: 0, old_bytes: 0 }
    }
}

impl<V> View<V> {
    /// The value of a key that was fetched.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key)).map(|slot| &slot.value)
    }

    /// Whether a key is in memory.
    #[must_use]
    pub fn holds(&self, key: &Key) -> bool {
        self.young.contains_key(key) || self.old.contains_key(key)
    }

    /// Bytes taken, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.young_bytes + self.old_bytes
    }

    /// Every entry in memory, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &V)> {
        let old = self.old.iter().filter(|(key, _)| !self.young.contains_key(*key));
        self.young.iter().chain(old).map(|(key, slot)| (key, &slot.value))
    }

    /// The old generation leaves and the young one becomes old: returns what was changed and would
    /// be lost.
    pub(super) fn rotate(&mut self) -> Vec<(Key, V)> {
        let leaving = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
        (self.old_bytes, self.young_bytes) = (self.young_bytes, 0);
        let lost = leaving.into_iter().filter(|(key, slot)| slot.dirty && !self.old.contains_key(key));
        lost.map(|(key, slot)| (key, slot.value)).collect()
    }
}

impl<V: Weigh> View<V> {
    /// Sets the value of a key.
    pub fn put(&mut self, key: Key, value: V) {
        self.insert(key, value, true);
    }

    /// Takes in what was stored elsewhere.
    pub(super) fn load(&mut self, key: Key, value: V) {
        self.insert(key, value, false);
    }

    fn insert(&mut self, key: Key, value: V, dirty: bool) {
        self.young_bytes += SLOT + size_of::<V>() + key.0.len() + value.weight();
        self.young.insert(key, Slot { value, dirty });
    }
}

/// Where the newest message of a record in a compacted topic stands, so that it can be removed once a
/// newer one is known to count (claim-6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Noted {
    /// Its number.
    pub number: u64,
    /// Whose it is.
    pub owner: u128,
}

impl Noted {
    /// The message with this number, written under this claim.
    #[must_use]
    pub fn new(number: u64, stamp: Stamp) -> Self {
        Noted { number, owner: stamp.owner }
    }
}

impl Weigh for Noted {
    fn weight(&self) -> usize {
        0
    }
}

impl Weigh for Known {
    fn weight(&self) -> usize {
        // A vector of many actors lies outside.
        self.vv.iter().count().saturating_sub(4) * 16
    }
}

impl Weigh for u64 {
    fn weight(&self) -> usize {
        0
    }
}

impl Weigh for Arc<Canonical> {
    fn weight(&self) -> usize {
        let conflict = self.conflict.as_ref().map_or(0, |conflict| {
            let ancestor = conflict.ancestor.as_ref().map_or(0, weight_of_side);
            size_of_val(&**conflict) + ancestor + weight_of_side(&conflict.head) + weight_of_side(&conflict.proposal)
        });
        size_of::<Canonical>() + self.after.as_deref().map_or(0, weight_of_row) + conflict
    }
}

fn weight_of_side(side: &Side) -> usize {
    side.value.as_deref().map_or(0, weight_of_row)
}

fn weight_of_row(row: &Row) -> usize {
    size_of::<Row>() + row.0.iter().map(weight_of_value).sum::<usize>()
}

fn weight_of_value(value: &Value) -> usize {
    let more = match value {
        Value::Text(text) | Value::Json(text) => text.as_bytes().len(),
        Value::Bytes(bytes) => bytes.len(),
        Value::Array(values) | Value::Record(values) => values.iter().map(weight_of_value).sum(),
        Value::Decimal(_) => 32,
        _ => 0,
    };
    size_of::<Value>() + more
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_changed_leaves_with_its_generation_unless_it_was_changed_again() {
        let mut view = View::default();
        view.put("a".into(), 1);
        view.put("b".into(), 2);
        view.load("c".into(), 3);
        assert!(view.rotate().is_empty());
        view.put("a".into(), 4);
        assert_eq!((view.get(&"a".into()), view.get(&"b".into())), (Some(&4), Some(&2)));
        assert_eq!(view.iter().count(), 3);
        assert_eq!(view.rotate(), [("b".into(), 2)], "c was not changed, a is younger");
        assert_eq!(view.rotate(), [("a".into(), 4)]);
        assert_eq!((view.bytes(), view.get(&"a".into())), (0, None));
    }
}
