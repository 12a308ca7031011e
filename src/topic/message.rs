//! The message key of every record. In compacted topics a *void* record with the key of a valid one
//! would compact the valid one away, so those keys also carry the number and the owner (claim-6).

use super::{Message, Typed};
use crate::event::{Key, Record, Role, Stamp};
use bytes::Bytes;
use std::collections::HashMap;

/// The message that carries a record.
#[must_use]
pub fn message(record: Typed) -> Message<Typed> {
    Message { key: key_of(&record), payload: Some(record) }
}

/// The newest message of each record in a compacted topic, so that an older one can be removed once
/// the newer is known to count (claim-6).
#[derive(Default)]
pub struct Newest(HashMap<Bytes, Bytes>);

impl Newest {
    /// Notes that `newer` is the newest message of `record`; returns the message that removes the
    /// one before.
    pub fn replace(&mut self, record: Bytes, newer: &Bytes) -> Option<Message<Typed>> {
        let older = self.0.insert(record, newer.clone()).filter(|older| older != newer)?;
        Some(Message { key: older, payload: None })
    }
}

fn key_of(record: &Record) -> Bytes {
    match record {
        Record::Proposal(p) => p.key.0.clone(),
        Record::Canonical(c) => c.key.0.clone(),
        Record::Control(_) | Record::Truncate(_) => Bytes::new(),
        Record::Claim(c) => numbered(b'c', role_number(c.role) << 48 | c.stamp.epoch, c.stamp),
        Record::State(s) => keyed(b's', &s.head.key, s.head.seq, s.stamp),
        Record::ResolverMark(m) => numbered(b'm', m.number, m.stamp),
        Record::Known(k) => keyed(b'k', &k.key, k.known.pos.commit, k.stamp),
        Record::ReaderMark(m) => numbered(b'r', m.number, m.stamp),
        Record::Ledger(l) => keyed(b'l', &l.key, l.rev, l.stamp),
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
