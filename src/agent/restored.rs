//! What an agent finds of its platform in the log when it takes over: the ledger of each key, its marks,
//! and the entries its own proposals carry (agent-2).

use super::Held;
use crate::event::{ActorId, AgentMark, Ctr, Key, Link, Record};
use crate::guard;
use crate::topic::message::Newest;
use crate::topic::{Delivered, Typed};
use std::collections::HashMap;

/// What L and C say.
#[derive(Default)]
pub(super) struct Restored {
    pub(super) held: HashMap<Key, Held>,
    pub(super) newest: Newest,
    pub(super) mark: Option<AgentMark>,
    pub(super) canon: Link,
    pub(super) ctr: Ctr,
    pub(super) rev: u64,
}

impl Restored {
    /// Takes a valid record of L: of each key the highest revision counts.
    pub(super) fn take_ledger(&mut self, delivered: &Delivered<Typed>) {
        match delivered.payload.as_deref() {
            Some(Record::Ledger(record)) => {
                self.rev = self.rev.max(record.rev);
                self.canon = newer(self.canon, record.canon);
                let held = self.held.entry(record.key.clone()).or_default();
                if record.rev > held.rev {
                    *held = Held { entry: record.entry.clone(), rev: record.rev, in_changes: false };
                    self.newest.replace(record.key.0.clone(), &delivered.key);
                }
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
        let held = self.held.entry(proposal.key.clone()).or_default();
        if let Some(entry) = proposal.entry.as_ref().filter(|_| proposal.rev > held.rev) {
            *held = Held { entry: (**entry).clone(), rev: proposal.rev, in_changes: true };
        }
    }
}

fn newer(a: Link, b: Link) -> Link {
    if b.offset > a.offset { b } else { a }
}
