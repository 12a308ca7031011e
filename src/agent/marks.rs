//! How far the owner of a partition is: a mark in L says from where its successor reads. It stands on
//! nothing that is not settled (agent-10), and what only C says of an entry is said in L before.

use super::{Owned, PAGE};
use crate::event::{AgentMark, Key, Link, Record};
use crate::guard;
use crate::runtime::error::Result;
use crate::state::Keys;
use crate::topic::message::message;
use std::sync::Arc;

impl Owned<'_> {
    /// The oldest canonical record not settled (agent-10).
    pub(super) fn canon(&self) -> Link {
        self.pending.oldest().filter(|_| guard!("agent-10", true)).unwrap_or(self.read)
    }

    /// Writes a mark if one is due. Nothing is in flight then (agent-10).
    pub async fn mark(&mut self) -> Result<()> {
        let now_ms = self.agent.clock.now_ms();
        self.bury(now_ms).await?;
        self.agent.progress.finished(self.canon().offset, self.pending.len(), now_ms);
        self.agent.progress.parked_are(self.parked());
        if (self.canon(), self.rev) == self.marked || now_ms < self.marked_ms + self.agent.timing.mark_every_ms {
            return Ok(());
        }
        self.write_mark().await
    }

    /// claim-9, draining: nothing is in flight between two rounds; a mark says how far this owner came.
    pub async fn hand_over(&mut self) -> Result<()> {
        if (self.canon(), self.rev) == self.marked { Ok(()) } else { self.write_mark().await }
    }

    pub(super) async fn write_mark(&mut self) -> Result<()> {
        self.marked_ms = self.agent.clock.now_ms();
        // Entries that only a proposal carries are said again in L, or moving cpos would lose them.
        let mut after: Option<Key> = None;
        loop {
            let keys = self.held.carried.page(after.as_ref(), PAGE)?;
            let Some(last) = keys.last() else { break };
            after = Some(last.clone());
            self.held.fetch(&keys)?;
            let mut records = Vec::new();
            for key in keys {
                let Some(held) = self.held.get(&key) else { continue };
                if guard!("agent-reassert", held.in_changes) {
                    let entry = held.entry.clone();
                    records.push(self.record(key, entry)?);
                }
            }
            self.write_ledger(records).await?;
        }
        self.held.carried = Keys::new(&self.agent.memory);
        let mark = AgentMark {
            stamp: self.stamp,
            cpos: self.changes.verified(),
            ctr: self.ctr,
            rev: self.rev,
            canon: self.canon(),
        };
        self.marked = (mark.canon, mark.rev);
        self.ledger.send(vec![message(Arc::new(Record::AgentMark(Box::new(mark))))]);
        self.ledger.settle_all().await
    }
}
