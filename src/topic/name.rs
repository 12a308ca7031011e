//! The topics of a collection (protocol.md §1) and which partition a key belongs to.

use super::Partition;
use crate::event::Key;
use std::sync::Arc;

/// Names a collection may not have, because topics are called so (topic-1).
pub const RESERVED: [&str; 6] = ["changes", "state", "conflicts", "ledger", "dead", "blobs"];

/// Whether a dataset, collection or platform may be called `name` (topic-1).
#[must_use]
pub fn is_valid(name: &str) -> bool {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len()) && name.chars().all(allowed) && !name.starts_with('-')
}

/// The topics of one collection.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topics {
    base: Arc<str>,
    /// Number of partitions of each, frozen (topic-2).
    pub partitions: u32,
}

impl Topics {
    /// The topics called `<prefix>.<dataset>`, or `<prefix>.<dataset>.<collection>`.
    #[must_use]
    pub fn new(prefix: &str, dataset: &str, collection: Option<&str>, partitions: u32) -> Self {
        let base = match collection {
            None => format!("{prefix}.{dataset}"),
            Some(collection) => format!("{prefix}.{dataset}.{collection}"),
        };
        Topics { base: base.into(), partitions }
    }

    /// D: canonical versions.
    #[must_use]
    pub fn dataset(&self, index: u32) -> Partition {
        Partition { topic: self.base.clone(), index }
    }

    /// C: proposals and control inputs.
    #[must_use]
    pub fn changes(&self, index: u32) -> Partition {
        self.named("changes", index)
    }

    /// S: heads and marks.
    #[must_use]
    pub fn state(&self, index: u32) -> Partition {
        self.named("state", index)
    }

    /// One record per conflict.
    #[must_use]
    pub fn conflicts(&self, index: u32) -> Partition {
        self.named("conflicts", index)
    }

    /// L: the ledger of a platform.
    #[must_use]
    pub fn ledger(&self, platform: &str, index: u32) -> Partition {
        self.named(&format!("ledger.{platform}"), index)
    }

    /// What could not be applied or captured.
    #[must_use]
    pub fn dead(&self, index: u32) -> Partition {
        self.named("dead", index)
    }

    /// The partitions with number `index`, all but the ledgers.
    #[must_use]
    pub fn parts(&self, index: u32) -> Parts {
        Parts {
            dataset: self.dataset(index),
            changes: self.changes(index),
            state: self.state(index),
            conflicts: self.conflicts(index),
        }
    }

    /// The partition of a key, the same in all topics of the collection (topic-2).
    #[must_use]
    pub fn of(&self, key: &Key) -> u32 {
        // One key, one partition: so its records keep their order (P6).
        (murmur2(&key.0) & 0x7fff_ffff) % self.partitions.max(1)
    }

    fn named(&self, what: &str, index: u32) -> Partition {
        Partition::new(format!("{}.{what}", self.base), index)
    }
}

/// The partitions of one number that a resolver works on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parts {
    /// D.
    pub dataset: Partition,
    /// C.
    pub changes: Partition,
    /// S.
    pub state: Partition,
    /// One record per conflict.
    pub conflicts: Partition,
}

/// The dead letters beside a partition of D or C.
#[must_use]
pub fn dead_beside(at: &Partition) -> Partition {
    let base = at.topic.strip_suffix(".changes").unwrap_or(&at.topic);
    Partition::new(format!("{base}.dead"), at.index)
}

/// Kafka's murmur2, so that stock producers and consumers agree on the partition.
fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h: u32 = 0x9747_b28c ^ u32::try_from(data.len()).unwrap_or(u32::MAX);
    let mut words = data.chunks_exact(4);
    for word in words.by_ref() {
        let mut k = word.iter().rev().fold(0u32, |k, &b| k << 8 | u32::from(b)).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        h ^= rest.iter().rev().fold(0u32, |k, &b| k << 8 | u32::from(b));
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// topic-2: the values Kafka's own tests state for its partitioner.
    #[test]
    fn murmur2_agrees_with_kafka() {
        let cases: [(&[u8], i32); 5] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"abc", 479_470_107),
        ];
        for (data, hash) in cases {
            assert_eq!(murmur2(data), hash as u32, "{}", data.escape_ascii());
        }
    }

    /// topic-1
    #[test]
    fn names_are_checked() {
        assert!(is_valid("platform-config") && is_valid("9"));
        assert!(!is_valid("-a") && !is_valid("") && !is_valid("A") && !is_valid("a_b") && !is_valid(&"a".repeat(64)));
    }
}
