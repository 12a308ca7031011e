//! Reading a partition: blocks from a view of the store, their messages without copying. A reader at
//! the end waits for the writer to show more; nothing polls. Reads of blocks run on the caller's
//! thread: they mostly come from memory.

use super::block::{Cursor, HEADER, Header, corrupt};
use super::store::{block_from, blocks, header, last_of};
use super::topics::{Seen, Topic};
use super::{Core, EmbeddedLog};
use crate::event::Offset;
use crate::runtime::error::{Code, Error, Result};
use crate::topic::{Cleanup, Delivered, Partition, Raw, Reading};
use async_trait::async_trait;
use fjall::Snapshot;
use std::sync::Arc;
use tokio::sync::watch;

/// What one call of `next` reads at most, in bytes of payload.
const AT_ONCE: usize = 4 << 20;

/// A reader of one partition.
pub(super) struct EmbeddedReading {
    log: EmbeddedLog,
    topic: Arc<Topic>,
    at: Partition,
    next: Offset,
    /// The block that was begun.
    cursor: Option<Cursor>,
    seen: Option<watch::Receiver<Seen>>,
}

impl EmbeddedReading {
    pub(super) fn new(log: EmbeddedLog, topic: Arc<Topic>, at: Partition, next: Offset) -> Self {
        let seen = topic.part(at.index).ok().map(|part| part.seen.subscribe());
        EmbeddedReading { log, topic, at, next, cursor: None, seen }
    }

    /// What is there from `next` on; nothing if there is nothing yet.
    fn collect(&mut self, seen: Seen, limit: usize) -> Result<Vec<Delivered<Raw>>> {
        let mut out = Vec::new();
        let mut bytes = self.drain(&mut out, limit, 0)?;
        if self.next >= seen.bounds.high || out.len() >= limit {
            return Ok(out);
        }
        let view = self.log.core().store.view();
        for entry in blocks(&self.log.core().store, &view, self.topic.id, self.at.index, self.next) {
            let opened = entry.and_then(|(key, entry)| self.open(&view, &key, &entry));
            match opened {
                Ok(cursor) => self.cursor = Some(cursor),
                // What was read before is delivered first; the next call meets the error again.
                Err(_) if !out.is_empty() => return Ok(out),
                Err(error) => return Err(error),
            }
            bytes = self.drain(&mut out, limit, bytes)?;
            if out.len() >= limit || bytes >= AT_ONCE {
                break;
            }
        }
        if out.is_empty() && self.topic.spec.cleanup == Cleanup::Keep {
            return Err(self.missing(seen.bounds.high));
        }
        Ok(out)
    }

    fn open(&self, view: &Snapshot, key: &[u8], entry: &[u8]) -> Result<Cursor> {
        let header = header(&self.at, key, entry)?;
        if self.topic.spec.cleanup == Cleanup::Keep && header.base > self.next {
            return Err(self.missing(header.base));
        }
        open(self.log.core(), view, &self.at, key, &header, entry)
    }

    /// Offsets are dense in a topic that keeps everything: a gap is damage, unless it was deleted just now.
    fn missing(&self, until: Offset) -> Error {
        let low = self.topic.part(self.at.index).map_or(0, |part| part.bounds().low);
        if self.next < low { self.lost() } else { corrupt(&self.at, self.next, &gap(until)) }
    }

    fn lost(&self) -> Error {
        let text = "the messages wanted were deleted from the log; copy the dataset anew";
        Error::new(Code::HistoryLost, text).at("partition", &self.at).at("offset", self.next)
    }

    /// Takes messages of the block that was begun; adds their sizes to `bytes`.
    fn drain(&mut self, out: &mut Vec<Delivered<Raw>>, limit: usize, mut bytes: usize) -> Result<usize> {
        let Some(cursor) = &mut self.cursor else { return Ok(bytes) };
        while out.len() < limit {
            let message = match cursor.next() {
                Ok(message) => message,
                Err(_) if !out.is_empty() => None,
                Err(error) => return Err(error),
            };
            let Some(message) = message else {
                self.cursor = None;
                break;
            };
            if message.offset < self.next {
                continue;
            }
            self.next = message.offset + 1;
            bytes += message.key.len() + message.payload.as_ref().map_or(0, Raw::len);
            out.push(message);
        }
        Ok(bytes)
    }
}

fn gap(until: Offset) -> String {
    format!("the messages from here up to offset {until} are missing")
}

/// Checks and unpacks a block.
pub(super) fn open(
    core: &Core,
    view: &Snapshot,
    at: &Partition,
    key: &[u8],
    header: &Header,
    entry: &[u8],
) -> Result<Cursor> {
    if header.is_inline() {
        return header.open(at, key, entry.get(HEADER..).unwrap_or_default());
    }
    let content = core.store.content(view, header)?;
    let content = content.ok_or_else(|| corrupt(at, header.base, "the content of a stored batch is missing"))?;
    header.open(at, key, &content)
}

#[async_trait]
impl Reading<Raw> for EmbeddedReading {
    async fn next(&mut self, limit: usize) -> Result<Vec<Delivered<Raw>>> {
        let gone = || Error::new(Code::TopicMissing, "the topic was removed");
        loop {
            // Marked as seen before the look at the store: what comes later wakes the reader.
            let seen = self.seen.as_mut().map(|seen| *seen.borrow_and_update()).filter(|seen| !seen.removed);
            let seen = seen.ok_or_else(|| gone().at("partition", &self.at))?;
            if self.next < seen.bounds.low {
                return Err(self.lost());
            }
            let out = self.collect(seen, limit.max(1))?;
            if !out.is_empty() {
                return Ok(out);
            }
            if let Some(seen) = &mut self.seen {
                seen.changed().await.map_err(|_| gone().at("partition", &self.at))?;
            }
        }
    }

    fn offset(&self) -> Offset {
        self.next
    }
}

/// The first offset whose message was taken at or after `time_ms`. Times never fall, so the blocks can
/// be searched by halves.
pub(super) fn offset_at(core: &Core, topic: &Topic, at: &Partition, time_ms: u64) -> Result<Option<Offset>> {
    let bounds = topic.part(at.index)?.bounds();
    let view = core.store.view();
    let (mut from, mut to) = (bounds.low, bounds.high);
    let mut found = None;
    while from < to {
        let middle = from + (to - from) / 2;
        let Some((key, entry)) = block_from(&core.store, &view, topic.id, at.index, middle)? else {
            to = middle;
            continue;
        };
        let header = header(at, &key, &entry)?;
        if header.last_ms < time_ms {
            from = last_of(&key) + 1;
        } else {
            to = middle.min(header.base);
            found = Some((key, entry, header));
        }
    }
    let Some((key, entry, header)) = found else { return Ok(None) };
    let mut cursor = open(core, &view, at, &key, &header, &entry)?;
    while let Some(message) = cursor.next()? {
        if message.time_ms >= time_ms && message.offset >= bounds.low {
            return Ok(Some(message.offset));
        }
    }
    Ok(None)
}
