//! What the platform's reader knows, read from L while keys are DIRTY (sink-4). Only the keys that
//! wait are kept. Its position is followed all the time, as it says whose turn it is; what it knows is
//! read only for those, from the start of L again when new ones are among them, because what is known of
//! them may stand anywhere in it.

use super::ReaderTopics;
use crate::event::{Key, Known, Position, Record, Validity};
use crate::ledger::pending::Pending;
use crate::runtime::error::Result;
use crate::topic::owner::Folded;
use crate::topic::{Delivered, Log, Partition, Typed};
use std::collections::HashMap;

/// The reader's durable knowledge.
pub struct Knowledge {
    marks: Folded,
    ledger: Option<Folded>,
    /// Everything up to here is published, and what is known of it is in L.
    pub through: Position,
    /// RS of the keys that wait.
    pub known: HashMap<Key, Known>,
}

impl Knowledge {
    /// Knows nothing yet.
    pub async fn open(log: &dyn Log<Typed>, reader: &ReaderTopics) -> Result<Self> {
        let marks = from_start(log, &reader.marks).await?;
        Ok(Knowledge { marks, ledger: None, through: Position::START, known: HashMap::new() })
    }

    /// Reads on to the end of L: checkpoints first, so that what they stand on is found behind them.
    pub async fn read_on(&mut self, log: &dyn Log<Typed>, reader: &ReaderTopics, pending: &mut Pending) -> Result<()> {
        let through = &mut self.through;
        let high = log.bounds(&reader.marks).await?.high;
        let mark = |delivered: &Delivered<Typed>| {
            if let Some(Record::ReaderMark(mark)) = delivered.payload.as_deref() {
                *through = mark.pos;
            }
        };
        self.marks.read_to(high, mark).await?;
        if !pending.any_met(self.through) {
            return Ok(());
        }
        let ledger = match self.ledger.take() {
            Some(ledger) if !pending.any_new_met(self.through) => ledger,
            _ => from_start(log, &reader.ledger).await?,
        };
        let ledger = self.ledger.insert(ledger);
        pending.known_dirty();
        let known = &mut self.known;
        let high = log.bounds(&reader.ledger).await?.high;
        let take = |delivered: &Delivered<Typed>| match delivered.payload.as_deref() {
            Some(Record::Known(record)) if pending.contains(&record.key) => {
                known.insert(record.key.clone(), record.known.clone());
            }
            _ => {}
        };
        ledger.read_to(high, take).await
    }
}

async fn from_start(log: &dyn Log<Typed>, at: &Partition) -> Result<Folded> {
    let low = log.bounds(at).await?.low;
    Folded::open(log, at, low, Validity::default()).await
}

/// Waits until the reader has made its first checkpoint.
pub async fn first_mark(log: &dyn Log<Typed>, reader: &ReaderTopics) -> Result<()> {
    let mut marks = from_start(log, &reader.marks).await?;
    loop {
        let batch = marks.next(1000).await?;
        if batch.iter().any(|(d, valid)| *valid && matches!(d.payload.as_deref(), Some(Record::ReaderMark(_)))) {
            return Ok(());
        }
    }
}
