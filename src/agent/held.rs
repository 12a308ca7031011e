//! The ledger of an agent's partition: the entry of each key, restored from L and from the agent's own
//! proposals in C.

use crate::event::{ActorId, AgentMark, Ctr, Key, LedgerEntry, Link, Record};
use crate::guard;
use crate::runtime::error::{Error, Result};
use crate::state::view::Weigh;
use crate::state::{Bare, Keys, Memory, Noted, Plain, State};
use crate::topic::{Delivered, Typed};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;

/// A key's ledger entry and where its newest revision stands.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Held {
    pub entry: LedgerEntry,
    pub rev: u64,
    /// The newest revision is carried by a proposal in C, not by a record in L.
    pub in_changes: bool,
    /// Its newest record in L.
    pub noted: Option<Noted>,
}

impl Weigh for Held {
    fn weight(&self) -> usize {
        let token = self.entry.token.as_ref().map_or(0, |token| token.0.len());
        token + self.entry.pend.as_ref().map_or(0, |intent| size_of_val(&**intent) + 64)
    }
}

impl Bare for Held {
    fn put(&self, out: &mut Vec<u8>) {
        self.rev.put(out);
        self.in_changes.put(out);
        self.noted.put(out);
        self.entry.put(out);
    }

    fn take(bytes: &mut Bytes) -> Option<Self> {
        let (rev, in_changes, noted) = (Bare::take(bytes)?, Bare::take(bytes)?, Bare::take(bytes)?);
        Some(Held { entry: Bare::take(bytes)?, rev, in_changes, noted })
    }
}

/// The entries of a partition.
pub(super) struct Ledger {
    state: State<Held>,
    /// How many are no tombstones.
    pub live: usize,
    /// Keys whose newest revision is or was in C, since the last mark.
    pub carried: Keys,
}

impl Ledger {
    pub(super) fn new(memory: &Memory) -> Self {
        Ledger { state: State::new(memory.cold(Arc::new(Plain))), live: 0, carried: Keys::new(memory) }
    }

    /// Brings the entries of `keys` into memory, where they stay until the next call.
    pub(super) fn fetch<'k>(&mut self, keys: impl IntoIterator<Item = &'k Key>) -> Result<()> {
        self.state.fetch(keys)
    }

    /// The entry of a key that was fetched.
    pub(super) fn get(&self, key: &Key) -> Option<&Held> {
        self.state.get(key)
    }

    /// Sets the entry of a key that was fetched.
    pub(super) fn put(&mut self, key: Key, held: Held) -> Result<()> {
        self.live -= usize::from(self.get(&key).is_some_and(|before| !before.entry.tomb));
        self.live += usize::from(!held.entry.tomb);
        if held.in_changes {
            self.carried.add(&key)?;
        }
        self.state.put(key, held);
        Ok(())
    }

    /// As `Cold::page`.
    pub(super) fn page(&self, after: Option<&Key>, limit: usize) -> Result<Vec<(Key, Held)>> {
        self.state.page(after, limit)
    }
}

/// What L and C say, record by record.
pub(super) struct Restored {
    pub ledger: Ledger,
    /// Keys with an unfinished write, and until when the store may take it.
    pub unfinished: HashMap<Key, u64>,
    pub mark: Option<AgentMark>,
    pub canon: Link,
    pub ctr: Ctr,
    pub rev: u64,
    /// The first failure; what comes behind it is not taken.
    pub failed: Option<Error>,
}

impl Restored {
    pub(super) fn new(memory: &Memory) -> Self {
        Restored {
            ledger: Ledger::new(memory),
            unfinished: HashMap::new(),
            mark: None,
            canon: Link::default(),
            ctr: 0,
            rev: 0,
            failed: None,
        }
    }

    /// Takes a valid record of L: of each key the highest revision counts.
    pub(super) fn take_ledger(&mut self, delivered: &Delivered<Typed>) {
        match delivered.payload.as_deref() {
            Some(Record::Ledger(record)) => {
                self.canon = newer(self.canon, record.canon);
                let noted = Some(Noted::new(record.rev, record.stamp));
                self.take(&record.key, &record.entry, record.rev, noted);
            }
            Some(Record::AgentMark(mark)) => {
                self.rev = self.rev.max(mark.rev);
                self.ctr = self.ctr.max(mark.ctr);
                self.canon = newer(self.canon, mark.canon);
                self.mark = Some((**mark).clone());
            }
            _ => {}
        }
    }

    /// Takes a valid proposal of mine: it carries the entry it led to (agent-2).
    pub(super) fn take_change(&mut self, me: ActorId, delivered: &Delivered<Typed>) {
        let Some(Record::Proposal(proposal)) = delivered.payload.as_deref() else { return };
        if proposal.dot.actor != me || !guard!("agent-2", true) {
            return;
        }
        self.ctr = self.ctr.max(proposal.dot.ctr);
        self.rev = self.rev.max(proposal.rev);
        if let Some(entry) = &proposal.entry {
            self.take(&proposal.key, entry, proposal.rev, None);
        }
    }

    /// Takes a revision; one that only a proposal carries has no place in L.
    fn take(&mut self, key: &Key, entry: &LedgerEntry, rev: u64, noted: Option<Noted>) {
        self.rev = self.rev.max(rev);
        if self.failed.is_none() {
            self.failed = self.try_take(key, entry, rev, noted).err();
        }
    }

    fn try_take(&mut self, key: &Key, entry: &LedgerEntry, rev: u64, noted: Option<Noted>) -> Result<()> {
        self.ledger.fetch([key])?;
        let before = self.ledger.get(key);
        if before.is_some_and(|before| before.rev >= rev) {
            return Ok(());
        }
        let in_changes = noted.is_none();
        let noted = noted.or(before.and_then(|before| before.noted));
        match &entry.pend {
            Some(intent) => _ = self.unfinished.insert(key.clone(), intent.exp_ms),
            None => _ = self.unfinished.remove(key),
        }
        self.ledger.put(key.clone(), Held { entry: entry.clone(), rev, in_changes, noted })
    }
}

fn newer(a: Link, b: Link) -> Link {
    if b.offset > a.offset { b } else { a }
}
