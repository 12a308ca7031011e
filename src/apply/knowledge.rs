//! What the platform's reader knows, read from L when keys are DIRTY (sink-4): each record once, because what is
//! known of a key may stand anywhere in it. It lies in the bounded memory of the node's states.

use super::ReaderTopics;
use crate::event::{Key, Known, Offset, Position, Record, Validity};
use crate::ledger::pending::Pending;
use crate::runtime::error::Result;
use crate::state::{Memory, Plain, State};
use crate::topic::owner::Folded;
use crate::topic::{Delivered, Log, Partition, Typed};
use bytes::Bytes;
use std::sync::Arc;

/// How many records of L are taken between two looks at the memory.
const PAGE: Offset = 4_096;

/// The reader's durable knowledge.
pub struct Knowledge {
    marks: Folded,
    /// Opened when something waits for it.
    ledger: Option<Folded>,
    /// Everything up to here is published, and what is known of it is in L.
    pub through: Position,
    known: State<Known>,
}

impl Knowledge {
    /// Knows nothing yet.
    pub async fn open(log: &dyn Log<Typed>, reader: &ReaderTopics, memory: &Memory) -> Result<Self> {
        let marks = from_start(log, &reader.marks).await?;
        let known = State::new(memory.cold(Arc::new(Plain)));
        Ok(Knowledge { marks, ledger: None, through: Position::START, known })
    }

    /// RS of a key whose turn it is.
    #[must_use]
    pub fn known(&self, key: &Key) -> Option<&Known> {
        self.known.get(key)
    }

    /// Reads on to the end of L: checkpoints first, so that what they stand on is found behind them.
    pub async fn read_on(&mut self, log: &dyn Log<Typed>, reader: &ReaderTopics, pending: &Pending) -> Result<()> {
        let through = &mut self.through;
        let high = log.bounds(&reader.marks).await?.high;
        let mark = |delivered: &Delivered<Typed>| {
            if let Some(Record::ReaderMark(mark)) = delivered.payload.as_deref() {
                *through = mark.pos;
            }
        };
        self.marks.read_to(high, mark).await?;
        let met: Vec<Key> = pending.met(self.through).cloned().collect();
        if met.is_empty() {
            return Ok(());
        }
        let ledger = match self.ledger.take() {
            Some(ledger) => ledger,
            None => from_start(log, &reader.ledger).await?,
        };
        let (ledger, known) = (self.ledger.insert(ledger), &mut self.known);
        let high = log.bounds(&reader.ledger).await?.high;
        while ledger.offset() < high {
            let take = |delivered: &Delivered<Typed>| {
                if let Some(Record::Known(record)) = delivered.payload.as_deref() {
                    // A key that is kept must not hold the batch it was read with.
                    known.put(Key(Bytes::copy_from_slice(&record.key.0)), record.known.clone());
                }
            };
            ledger.read_to(high.min(ledger.offset() + PAGE), take).await?;
            known.fetch([])?;
        }
        known.fetch(&met)
    }

    /// Leaves its share of the memory to others while nothing waits for it.
    pub fn give_back(&mut self) -> Result<()> {
        self.known.give_back()
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
