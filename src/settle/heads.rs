//! What a resolver keeps per key beside its view of the heads: the heads that are not in memory, where
//! their newest records stand in S, and which of them S does not have yet.

use super::{Journal, Resolver};
use crate::event::{Canonical, Key, Record, ResolverMark, StateRecord};
use crate::guard;
use crate::resolve::PartState;
use crate::runtime::error::{Error, Result};
use crate::state::{Cold, Keys, Noted, Plain, State};
use crate::topic::message::{HEAD, message, removal};
use crate::topic::{Delivered, Typed};
use std::sync::Arc;

/// Heads written to S at a time.
const PAGE: usize = 4_096;

/// The heads of an owned partition.
pub(super) struct Heads {
    cold: Cold<Arc<Canonical>>,
    /// The newest record of each key in S.
    noted: State<Noted>,
    /// Keys of verified versions that are not in S yet, and of how many versions.
    behind: Keys,
    pub behind_len: usize,
}

impl Heads {
    pub(super) fn new(resolver: &Resolver) -> Self {
        Heads {
            cold: resolver.memory.cold(resolver.heads.clone()),
            noted: State::new(resolver.memory.cold(Arc::new(Plain))),
            behind: Keys::new(&resolver.memory),
            behind_len: 0,
        }
    }

    /// Brings the heads of `keys` into the view, where they stay until the next call.
    pub(super) fn fetch<'k>(&mut self, state: &mut PartState, keys: impl IntoIterator<Item = &'k Key>) -> Result<()> {
        self.cold.fetch(&mut state.heads, keys)
    }

    /// Brings the heads of all keys that these records touch into the view.
    pub(super) fn fetch_of<'k>(
        &mut self,
        state: &mut PartState,
        records: impl IntoIterator<Item = &'k Typed>,
    ) -> Result<()> {
        let keys = |record: &'k Typed| {
            let (one, gone) = match &**record {
                Record::Proposal(proposal) => (Some(&proposal.key), None),
                Record::Canonical(canonical) => (Some(&canonical.key), None),
                Record::Review(review) => (Some(&review.key), None),
                Record::Truncate(truncate) => (None, Some(&truncate.gone)),
                _ => (None, None),
            };
            one.into_iter().chain(gone.into_iter().flatten().map(|gone| &gone.key))
        };
        self.fetch(state, records.into_iter().flat_map(keys))
    }

    /// As `Cold::give_back`.
    pub(super) fn give_back(&mut self, state: &mut PartState) -> Result<()> {
        self.cold.give_back(&mut state.heads)?;
        self.noted.give_back()
    }

    /// As `Cold::is_over_share`.
    pub(super) fn is_over_share(&self, state: &PartState) -> bool {
        self.cold.is_over_share(&state.heads) || self.noted.is_over_share()
    }

    /// Notes that S does not have a verified version.
    pub(super) fn note_behind(&mut self, key: &Key) -> Result<()> {
        self.behind_len += 1;
        self.behind.add(key)
    }
}

/// What S says, record by record.
pub(super) struct Restoring {
    pub state: PartState,
    pub heads: Heads,
    pub mark: Option<ResolverMark>,
    /// The first failure; what comes behind it is not taken.
    pub failed: Option<Error>,
}

impl Restoring {
    /// Takes a valid record of S.
    pub(super) fn take(&mut self, delivered: &Delivered<Typed>) {
        if self.failed.is_none() {
            self.failed = self.try_take(delivered).err();
        }
    }

    fn try_take(&mut self, delivered: &Delivered<Typed>) -> Result<()> {
        match delivered.payload.as_deref() {
            Some(Record::State(head)) => {
                let key = &head.head.key;
                self.heads.fetch(&mut self.state, [key])?;
                self.state.restore_head(head);
                self.heads.noted.fetch([])?;
                self.heads.noted.put(key.clone(), Noted::new(head.head.seq, head.stamp));
            }
            Some(Record::ResolverMark(found)) if self.mark.as_ref().is_none_or(|m| m.number < found.number) => {
                self.mark = Some((**found).clone());
            }
            _ => {}
        }
        Ok(())
    }
}

impl Journal<'_> {
    /// Up to `limit` heads behind `after` in the order of their keys, what is in flight included: for who
    /// has to go through all of them, in steps.
    ///
    /// # Errors
    /// As `Cold::fetch`.
    pub fn heads(&self, after: Option<&Key>, limit: usize) -> Result<Vec<(Key, Arc<Canonical>)>> {
        self.heads.cold.page(&self.state.heads, after, limit)
    }

    /// resolve-4: heads first, the mark once they are known to count; what they supersede goes.
    pub(super) async fn project(&mut self) -> Result<()> {
        self.state.link.offset = self.dataset.verified();
        let mut after: Option<Key> = None;
        loop {
            let keys = self.heads.behind.page(after.as_ref(), PAGE)?;
            let Some(last) = keys.last() else { break };
            after = Some(last.clone());
            self.project_page(keys).await?;
        }
        self.heads.behind = Keys::new(&self.resolver.memory);
        self.heads.behind_len = 0;
        self.number += 1;
        let mark = Record::ResolverMark(Box::new(self.state.mark(self.stamp, self.number)));
        self.projected.send(vec![message(Arc::new(mark))]);
        self.projected.settle_all().await
    }

    async fn project_page(&mut self, keys: Vec<Key>) -> Result<()> {
        self.heads.fetch(&mut self.state, &keys)?;
        self.heads.noted.fetch(&keys)?;
        let (mut entries, mut removals) = (Vec::with_capacity(keys.len()), Vec::new());
        for key in keys {
            let Some(head) = self.state.heads.get(&key).cloned() else { continue };
            let noted = Noted::new(head.seq, self.stamp);
            if let Some(older) = self.heads.noted.get(&key).filter(|older| **older != noted) {
                removals.push(removal(HEAD, &key, older.number, older.owner));
            }
            self.heads.noted.put(key, noted);
            entries.push(message(Arc::new(Record::State(Box::new(StateRecord { stamp: self.stamp, head })))));
        }
        self.projected.send(entries);
        if guard!("mark-after-acks", true) {
            self.projected.settle_all().await?;
        }
        // claim-6: what they supersede goes only now.
        self.projected.send(removals);
        Ok(())
    }
}
