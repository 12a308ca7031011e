//! The message keys of typed records (topic-7). In `<c>` and `.changes` it is the record's key, empty
//! for all else. In a compacted topic it must be unique per attempt, because a void record with the
//! key of a valid one would remove it (claim-6): a tag, the key, a number that grows, the owner.

use crate::event::{Key, Record, Stamp};
use bytes::Bytes;

/// The message key of a record.
#[must_use]
pub fn message_key(record: &Record) -> Bytes {
    match record {
        Record::Proposal(proposal) => proposal.key.0.clone(),
        Record::Canonical(canonical) => canonical.key.0.clone(),
        Record::Control(_) | Record::Truncate(_) => Bytes::new(),
        Record::Claim(claim) => tagged(b'C', None, &[claim.stamp.epoch], Some(claim.stamp)),
        Record::State(state) => tagged(b'S', Some(&state.head.key), &[state.head.seq], Some(state.stamp)),
        Record::ResolverMark(mark) => tagged(b'M', None, &[mark.number], Some(mark.stamp)),
        Record::Known(known) => {
            let pos = known.known.pos;
            tagged(b'K', Some(&known.key), &[pos.commit, pos.ordinal], Some(known.stamp))
        }
        Record::ReaderMark(mark) => tagged(b'P', None, &[mark.number], Some(mark.stamp)),
        Record::Ledger(ledger) => tagged(b'L', Some(&ledger.key), &[ledger.rev], Some(ledger.stamp)),
        // It has no number of its own, but no two different marks agree in all of these.
        Record::AgentMark(mark) => {
            tagged(b'A', None, &[mark.rev, mark.ctr, mark.cpos, mark.canon.offset], Some(mark.stamp))
        }
        // A projection of valid records only: duplicates are equal and collapse (resolve-4).
        Record::Conflict(canonical) => tagged(b'X', Some(&canonical.key), &[canonical.seq], None),
        Record::Dead(letter) => tagged(b'D', Some(&letter.key), &[letter.pos.commit, letter.pos.ordinal], None),
    }
}

fn tagged(tag: u8, key: Option<&Key>, numbers: &[u64], stamp: Option<Stamp>) -> Bytes {
    let mut out = Vec::with_capacity(64);
    out.push(tag);
    out.extend_from_slice(key.map_or(&[], |key| &key.0));
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
    if let Some(stamp) = stamp {
        out.extend_from_slice(&stamp.owner.to_be_bytes());
    }
    out.into()
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
            prop_assert_ne!(message_key(&one), message_key(&other));
        }

        /// topic-7: a tag first, so that kinds never share a key.
        #[test]
        fn kinds_never_share_a_key(seed in any::<u64>(), a in 4..11usize, b in 4..11usize) {
            let (one, other) = (message_key(&record(seed, a)), message_key(&record(seed, b)));
            prop_assert_eq!(one.first() == other.first(), a == b);
            prop_assert_eq!(Kind::ALL.len(), 13);
        }
    }

    #[test]
    fn newer_numbers_of_one_record_have_keys_of_their_own() {
        let known = |commit| {
            let mut record = KnownRecord { stamp: Stamp::default(), key: "k".into(), known: Default::default() };
            record.known.pos.commit = commit;
            message_key(&Record::Known(Box::new(record)))
        };
        assert_ne!(known(1), known(2));
        let ledger = |rev| {
            let (stamp, canon) = Default::default();
            message_key(&Record::Ledger(Box::new(LedgerRecord {
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
        assert_eq!(message_key(&Record::Canonical(canonical.clone())), canonical.key.0);
        assert!(message_key(&random.record(2, &schema)).is_empty());
    }
}
