//! What the log does in the background, on one thread: removing blocks nobody can read any more, and
//! compacting. All writes go through the writer, in small groups, so that appends pass between them.
//!
//! Compaction of a partition is one pass from the low watermark on: which offset of a key is the
//! newest is collected first, up to a bounded number of keys; then blocks are rewritten without what
//! is older. Memory is bounded by that number and the size of one group of blocks.

use super::block::pack_sparse;
use super::reading::open;
use super::store::{Change, Cleaned, Space, Store, blocks, encode, header, last_of, partition_key, store_error};
use super::topics::Topic;
use super::writer::{Answer, Job, answer, ended};
use super::{Core, TOMBSTONES_MS};
use crate::event::Offset;
use crate::runtime::error::Result;
use crate::topic::{Cleanup, Delivered, Raw};
use fjall::Snapshot;
use parking_lot::{Condvar, Mutex};
use std::collections::{BTreeSet, HashMap};

/// Keys one pass of compaction knows at most.
const KEYS: usize = 1 << 19;
/// Blocks below this size are joined by compaction, in bytes.
const BLOCK: usize = 128 << 10;
/// Index entries one group of removals holds at most.
const REMOVALS: usize = 256;
/// What one group of blocks to rewrite may take in memory, in bytes.
const READ: usize = 8 << 20;
/// A partition with fewer new messages is not compacted.
const FEWEST: u64 = 4096;

/// Something to do in the background.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Chore {
    /// Remove what is left of the topic with this id.
    Purge(u32),
    /// Remove the blocks below the low watermark.
    Sweep(String, u32),
    Compact(String, u32),
}

/// What is to be done; each chore at most once.
pub(super) struct Chores {
    due: Mutex<(BTreeSet<Chore>, bool)>,
    rung: Condvar,
    /// Held during a pass of compaction.
    compacting: Mutex<()>,
}

impl Chores {
    pub(super) fn new() -> Self {
        Chores { due: Mutex::default(), rung: Condvar::new(), compacting: Mutex::new(()) }
    }

    pub(super) fn purge(&self, id: u32) {
        self.add(Chore::Purge(id));
    }

    pub(super) fn sweep(&self, topic: &Topic, index: u32) {
        self.add(Chore::Sweep(topic.spec.topic.to_string(), index));
    }

    /// Compacts when the messages since the last pass are half of what that one left.
    pub(super) fn after_append(&self, topic: &Topic, index: u32, high: Offset) {
        let Some(part) = topic.part(index).ok().filter(|_| topic.spec.cleanup == Cleanup::Compact) else { return };
        let cleaned = *part.cleaned.lock();
        if high - cleaned.to >= FEWEST.max(cleaned.kept / 2) {
            self.add(Chore::Compact(topic.spec.topic.to_string(), index));
        }
    }

    /// Takes up what the last process left undone.
    pub(super) fn after_start(&self, core: &Core) -> Result<()> {
        core.topics.removed.iter().for_each(|id| self.purge(*id));
        for topic in core.topics.all() {
            for index in 0..topic.spec.partitions {
                let bounds = topic.part(index)?.bounds();
                if bounds.low > 0 {
                    self.sweep(&topic, index);
                }
                self.after_append(&topic, index, bounds.high);
            }
        }
        Ok(())
    }

    fn add(&self, chore: Chore) {
        self.due.lock().0.insert(chore);
        self.rung.notify_one();
    }

    pub(super) fn close(&self) {
        self.due.lock().1 = true;
        self.rung.notify_all();
    }

    fn is_closed(&self) -> bool {
        self.due.lock().1
    }

    fn take(&self) -> Option<Chore> {
        let mut due = self.due.lock();
        loop {
            if due.1 {
                return None;
            }
            match due.0.pop_first() {
                Some(chore) => return Some(chore),
                None => self.rung.wait(&mut due),
            }
        }
    }
}

/// The thread's life. What fails is taken up again at the next start, or with the next occasion.
pub(super) fn run(core: &Core) {
    while let Some(chore) = core.chores.take() {
        let done = match &chore {
            Chore::Purge(id) => purge(core, *id),
            Chore::Sweep(topic, index) => core.topics.find(topic).map_or(Ok(()), |t| sweep(core, &t, *index)),
            Chore::Compact(topic, index) => core.topics.find(topic).map_or(Ok(()), |t| {
                let before_ms = core.clock.now_ms().saturating_sub(TOMBSTONES_MS);
                compact(core, &t, *index, before_ms)
            }),
        };
        if let Err(error) = done
            && !core.chores.is_closed()
        {
            tracing::warn!(%error, "a background task of the embedded log failed");
        }
    }
}

/// Gives a job to the writer and waits.
fn write(core: &Core, make: impl FnOnce(Answer<()>) -> Job) -> Result<()> {
    let (answer, outcome) = answer();
    core.queue.push(make(answer), 0)?;
    outcome.blocking_recv().unwrap_or_else(|_| Err(ended()))
}

/// Removes the blocks of a topic that was removed, what groups committed there, and the note of it.
fn purge(core: &Core, id: u32) -> Result<()> {
    let view = core.store.view();
    let prefix = id.to_be_bytes();
    let mut changes = Vec::new();
    let removed = crate::topic::Partition::new(format!("removed topic {id}"), 0);
    for guard in fjall::Readable::prefix(&view, &core.store.index, prefix) {
        let (key, entry) = guard.into_inner().map_err(|e| store_error("a removed topic could not be read", e))?;
        changes.extend(Store::unblock(&key, &header(&removed, &key, &entry)?));
        if changes.len() >= REMOVALS {
            write(core, |answer| Job::Purge(std::mem::take(&mut changes), answer))?;
        }
    }
    for kind in [b"g", b"l", b"c"] {
        for guard in fjall::Readable::prefix(&view, &core.store.meta, [kind.as_slice(), &prefix].concat()) {
            let key = guard.key().map_err(|e| store_error("a removed topic could not be read", e))?;
            changes.push(Change::Remove(Space::Meta, key.to_vec()));
        }
    }
    changes.push(Change::Remove(Space::Meta, [b"x".as_slice(), &prefix].concat()));
    write(core, |answer| Job::Purge(changes, answer))
}

/// Removes the blocks of a partition that lie wholly below its low watermark.
fn sweep(core: &Core, topic: &std::sync::Arc<Topic>, index: u32) -> Result<()> {
    let low = topic.part(index)?.bounds().low;
    let view = core.store.view();
    let at = topic.partition(index);
    let mut changes = Vec::new();
    for entry in blocks(&core.store, &view, topic.id, index, 0) {
        let (key, entry) = entry?;
        if last_of(&key) >= low {
            break;
        }
        changes.extend(Store::unblock(&key, &header(&at, &key, &entry)?));
        if changes.len() >= REMOVALS {
            let full = std::mem::take(&mut changes);
            write(core, |answer| Job::Edit(topic.clone(), full, answer))?;
        }
    }
    if changes.is_empty() { Ok(()) } else { write(core, |answer| Job::Edit(topic.clone(), changes, answer)) }
}

/// Which message of each key is the newest.
struct Newest {
    offsets: HashMap<[u8; 16], Offset>,
    /// The map knows everything below.
    to: Offset,
}

/// Compacts a partition up to what it holds now; passes until everything is clean.
pub(super) fn compact(core: &Core, topic: &std::sync::Arc<Topic>, index: u32, tombstones_before_ms: u64) -> Result<()> {
    let _one = core.chores.compacting.lock();
    let part = topic.part(index)?;
    let high = part.bounds().high;
    loop {
        let from = part.cleaned.lock().to;
        let view = core.store.view();
        let newest = newest(core, topic, index, &view, from..high)?;
        let mut pass =
            Pass { core, topic, index, newest: &newest, tombstones_before_ms, kept: 0, waiting: Waiting::default() };
        pass.run(&view)?;
        let tail = *part.tail.lock();
        let cleaned = Cleaned { to: newest.to, kept: pass.kept, high: tail.next, last_ms: tail.last_ms };
        let key = partition_key(b"c", topic.id, index);
        let change = Change::Put(Space::Meta, key, encode(&cleaned)?);
        write(core, |answer| Job::Edit(topic.clone(), vec![change], answer))?;
        *part.cleaned.lock() = cleaned;
        if newest.to >= high || core.chores.is_closed() {
            return Ok(());
        }
    }
}

/// Names a key in the map; 128 bits make a collision as likely as never.
fn name(key: &[u8]) -> [u8; 16] {
    let mut name = [0; 16];
    let hash = blake3::hash(key);
    name.copy_from_slice(hash.as_bytes().first_chunk::<16>().unwrap_or(&[0; 16]));
    name
}

/// Collects the newest offset of each key in `range`, as far as the map may grow.
fn newest(core: &Core, topic: &Topic, index: u32, view: &Snapshot, range: std::ops::Range<Offset>) -> Result<Newest> {
    let at = topic.partition(index);
    let mut newest = Newest { offsets: HashMap::new(), to: range.end };
    for entry in blocks(&core.store, view, topic.id, index, range.start) {
        let (key, entry) = entry?;
        let header = header(&at, &key, &entry)?;
        // A block is taken whole; the first one always, or a pass could stand still.
        if header.base >= range.end {
            break;
        }
        if !newest.offsets.is_empty() && newest.offsets.len() + header.count as usize > KEYS {
            newest.to = header.base;
            break;
        }
        let mut cursor = open(core, view, &at, &key, &header, &entry)?;
        while let Some(message) = cursor.next()? {
            newest.offsets.insert(name(&message.key), message.offset);
        }
        newest.to = newest.to.max(last_of(&key) + 1);
    }
    Ok(newest)
}

/// Blocks read and not yet rewritten.
#[derive(Default)]
struct Waiting {
    old: Vec<Change>,
    blocks: usize,
    kept: Vec<Delivered<Raw>>,
    bytes: usize,
    /// Bytes of all messages read: those kept hold their blocks in memory.
    read: usize,
    dropped: bool,
}

/// One pass over a partition.
struct Pass<'a> {
    core: &'a Core,
    topic: &'a std::sync::Arc<Topic>,
    index: u32,
    newest: &'a Newest,
    tombstones_before_ms: u64,
    kept: u64,
    waiting: Waiting,
}

impl Pass<'_> {
    fn run(&mut self, view: &Snapshot) -> Result<()> {
        let at = self.topic.partition(self.index);
        let low = self.topic.part(self.index)?.bounds().low;
        for entry in blocks(&self.core.store, view, self.topic.id, self.index, low) {
            let (key, entry) = entry?;
            let header = header(&at, &key, &entry)?;
            if header.base >= self.newest.to {
                break;
            }
            let mut cursor = open(self.core, view, &at, &key, &header, &entry)?;
            while let Some(message) = cursor.next()? {
                self.take(message);
            }
            self.waiting.old.extend(Store::unblock(&key, &header));
            self.waiting.blocks += 1;
            let waiting = &self.waiting;
            if waiting.bytes >= BLOCK || waiting.read >= READ || waiting.old.len() >= REMOVALS {
                self.rewrite()?;
            }
        }
        self.rewrite()
    }

    fn take(&mut self, message: Delivered<Raw>) {
        let bytes = message.key.len() + message.payload.as_ref().map_or(0, Raw::len);
        self.waiting.read += bytes;
        let newest = self.newest.offsets.get(&name(&message.key)).copied().unwrap_or(message.offset);
        // Its key is gone once everything older is, which this pass sees to; readers had their time.
        let is_spent = message.payload.is_none() && message.time_ms < self.tombstones_before_ms;
        if message.offset < newest || is_spent {
            self.waiting.dropped = true;
            return;
        }
        self.kept += 1;
        self.waiting.bytes += bytes;
        self.waiting.kept.push(message);
    }

    /// Replaces the blocks read by one, if that changes anything.
    fn rewrite(&mut self) -> Result<()> {
        let Waiting { old: mut changes, blocks, kept, dropped, .. } = std::mem::take(&mut self.waiting);
        if !dropped && blocks <= 1 {
            return Ok(());
        }
        if let (Some(first), Some(last)) = (kept.first(), kept.last()) {
            let packed = pack_sparse(&kept, self.topic.spec.compression)?;
            let ms = (first.time_ms, last.time_ms);
            let block = self.core.store.block(self.topic.id, self.index, packed, first.offset, last.offset, ms);
            // After the removals: the new block may have the key of an old one.
            changes.extend(block);
        }
        write(self.core, |answer| Job::Edit(self.topic.clone(), changes, answer))
    }
}
