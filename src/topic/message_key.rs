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
        Record::Control(_) => Bytes::new(),
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
