//! The message key of every record. In compacted topics a *void* record with the key of a valid one
//! would compact the valid one away, so those keys also carry the number and the owner (claim-6).

use super::{Message, Typed};
use crate::event::{Key, Record, Role, Stamp};
use bytes::Bytes;

/// The tag of heads, in S.
pub const HEAD: u8 = b's';
/// The tag of what a reader knows, in L.
pub const KNOWN: u8 = b'k';
/// The tag of ledger entries, in L.
pub const LEDGER: u8 = b'l';

/// The message that carries a record.
#[must_use]
pub fn message(record: Typed) -> Message<Typed> {
    Message { key: key_of(&record), payload: Some(record) }
}

/// The message that removes the `number`-th record of `key` that `owner` wrote, from a compacted topic
/// where records have this `tag` (claim-6): only once a newer one is known to count.
#[must_use]
pub fn removal(tag: u8, key: &Key, number: u64, owner: u128) -> Message<Typed> {
    Message { key: keyed(tag, key, number, Stamp { epoch: 0, owner }), payload: None }
}

fn key_of(record: &Record) -> Bytes {
    match record {
        Record::Proposal(p) => p.key.0.clone(),
        Record::Canonical(c) => c.key.0.clone(),
        Record::Review(r) => r.key.0.clone(),
        Record::Control(_) | Record::Truncate(_) => Bytes::new(),
        Record::Claim(c) => numbered(b'c', role_number(c.role) << 48 | c.stamp.epoch, c.stamp),
        Record::State(s) => keyed(HEAD, &s.head.key, s.head.seq, s.stamp),
        Record::ResolverMark(m) => numbered(b'm', m.number, m.stamp),
        Record::Known(k) => keyed(KNOWN, &k.key, k.known.pos.commit, k.stamp),
        Record::ReaderMark(m) => numbered(b'r', m.number, m.stamp),
        Record::Ledger(l) => keyed(LEDGER, &l.key, l.rev, l.stamp),
        Record::AgentMark(m) => numbered(b'a', m.rev, m.stamp),
        // Two resolvers settle the same conflict in the same seq or one of them is void.
        Record::Conflict(c) => keyed(b'x', &Key::default(), c.seq, Stamp::default()),
        Record::Dead(d) => keyed(b'd', &d.key, d.offset.unwrap_or(d.pos.commit), Stamp::default()),
    }
}

fn role_number(role: Role) -> u64 {
    match role {
        Role::Control => 0,
        Role::Resolver => 1,
        Role::Writer(platform) => 2 + u64::from(platform.0),
    }
}

fn keyed(tag: u8, key: &Key, number: u64, stamp: Stamp) -> Bytes {
    let mut bytes = Vec::with_capacity(1 + key.0.len() + 24);
    bytes.push(tag);
    bytes.extend_from_slice(&key.0);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes.extend_from_slice(&stamp.owner.to_be_bytes());
    bytes.into()
}

fn numbered(tag: u8, number: u64, stamp: Stamp) -> Bytes {
    keyed(tag, &Key::default(), number, stamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::avro::Kind;
    use crate::event::avro::arbitrary::Gen;
    use crate::event::{KnownRecord, LedgerRecord};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn record(seed: u64, kind: usize) -> Record {
        let mut random = Gen::new(seed);
        let schema = [Arc::new(random.schema())];
        random.record(kind, &schema)
    }

    proptest! {
        /// claim-6: a void record may not compact a valid one of another owner away.
        #[test]
        fn in_compacted_topics_no_two_owners_share_a_key(seed in any::<u64>(), kind in 4..10usize) {
            let one = record(seed, kind);
            let mut other = one.clone();
            match &mut other {
                Record::State(r) => r.stamp.owner ^= 1,
                Record::ResolverMark(r) => r.stamp.owner ^= 1,
                Record::Known(r) => r.stamp.owner ^= 1,
                Record::ReaderMark(r) => r.stamp.owner ^= 1,
                Record::Ledger(r) => r.stamp.owner ^= 1,
                Record::AgentMark(r) => r.stamp.owner ^= 1,
                _ => unreachable!(),
            }
            prop_assert_ne!(key_of(&one), key_of(&other));
        }

        /// topic-7: a tag first, so that kinds never share a key.
        #[test]
        fn kinds_never_share_a_key(seed in any::<u64>(), a in 4..11usize, b in 4..11usize) {
            let (one, other) = (key_of(&record(seed, a)), key_of(&record(seed, b)));
            prop_assert_eq!(one.first() == other.first(), a == b);
            prop_assert_eq!(Kind::ALL.len(), 14);
        }
    }

    #[test]
    fn newer_numbers_of_one_record_have_keys_of_their_own() {
        let known = |commit| {
            let mut record = KnownRecord { stamp: Stamp::default(), key: "k".into(), known: Default::default() };
            record.known.pos.commit = commit;
            key_of(&Record::Known(Box::new(record)))
        };
        assert_ne!(known(1), known(2));
        let ledger = |rev| {
            let (stamp, canon) = Default::default();
            key_of(&Record::Ledger(Box::new(LedgerRecord {
                stamp,
                key: "k".into(),
                rev,
                entry: Default::default(),
                canon,
            })))
        };
        assert_ne!(ledger(1), ledger(2));
    }

    /// topic-5
    #[test]
    fn data_has_its_own_key_and_control_has_none() {
        let mut random = Gen::new(5);
        let schema = [Arc::new(random.schema())];
        let canonical = random.canonical(&schema);
        assert_eq!(key_of(&Record::Canonical(canonical.clone())), canonical.key.0);
        assert!(key_of(&random.record(2, &schema)).is_empty());
    }
}
