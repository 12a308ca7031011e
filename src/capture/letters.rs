//! Changes and rows that cannot be told exactly. Nobody may publish a bent value (P8), and one such row
//! must not stop the others: it becomes a dead letter, whole, which is durable before the position
//! that passes it (P1, P4). What the reader knows of the key stays as it was, so that the write that
//! puts the row right is proposed on top of what was published last.

use super::Capture;
use crate::connectors::contract::{Change, Transaction, Unreadable};
use crate::event::{DeadLetter, Position};
use crate::runtime::error::Result;
use crate::runtime::telemetry::SYNC;
use crate::topic::Partition;
use crate::topic::letters::send_letters;

/// Letters that are not durable yet.
#[derive(Default)]
pub struct Letters(Vec<(Partition, DeadLetter)>);

impl Capture {
    /// C of a record, beside which its dead letters lie.
    fn changes_of(&self, found: &Unreadable) -> Option<Partition> {
        let lane = match &found.key {
            Some(key) => self.lanes.get((self.lane_of)(found.collection, key)),
            None => self.lanes.iter().find(|lane| lane.collection == found.collection),
        };
        lane.map(|lane| lane.changes.clone())
    }
}

impl Letters {
    /// Takes note of what a transaction holds that cannot be told.
    pub fn keep_all(&mut self, capture: &Capture, transaction: &Transaction) {
        for (ordinal, change) in (transaction.first..).zip(&transaction.changes) {
            if let Change::Unreadable(found) = change
                && !found.replaced
            {
                self.keep(capture, found, Position::new(transaction.commit, ordinal));
            }
        }
    }

    /// Takes note of a change or row that cannot be told, found at `at`.
    pub fn keep(&mut self, capture: &Capture, found: &Unreadable, at: Position) {
        let Unreadable { key, code, why, native, .. } = found;
        let Some(changes) = capture.changes_of(found) else { return };
        self.0.push((changes, DeadLetter::captured(capture.me, key.clone(), at, code, why, native)));
        capture.progress.died(1);
        tracing::warn!(target: SYNC, platform = %capture.me, code, why, "a change cannot be told: a dead letter");
    }

    /// Makes the letters durable.
    pub async fn send(&mut self, capture: &Capture) -> Result<()> {
        for (changes, letter) in std::mem::take(&mut self.0) {
            send_letters(&*capture.log, &changes, vec![letter]).await?;
        }
        Ok(())
    }
}
