//! The embedded log's keyspaces and keys, and what an error of the store means.
//!
//! - `index`: (topic id, partition, last offset of a block) → header of the block, with the content if
//!   it is small. The last offset comes first in a forward search, so one seek finds an offset's block.
//! - `content`: place → content of a large block. Places only grow, so the store never has to merge.
//! - `meta`: topics, low watermarks, how far compaction came, group commits.

use super::block::{Header, Packed};
use crate::event::Offset;
use crate::runtime::error::{Code, Error, Result};
use crate::topic::{Cleanup, Compression, Partition, TopicSpec};
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot, UserValue,
    config::{BlockSizePolicy, CompressionPolicy},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Contents up to this many bytes stay in the index.
const INLINE_LIMIT: usize = 2048;
/// What the store may keep in journals before it must write tables, in bytes.
const JOURNALS: u64 = 256 << 20;
/// What the store collects in memory per keyspace before it writes a table, in bytes.
const MEMTABLE: u64 = 16 << 20;

/// The store of the embedded log.
pub(super) struct Store {
    db: Database,
    pub index: Keyspace,
    content: Keyspace,
    pub meta: Keyspace,
    next_place: AtomicU64,
}

/// A topic as it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredTopic {
    /// Never used twice.
    pub id: u32,
    partitions: u32,
    compact: bool,
    compression: StoredCompression,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredCompression {
    None,
    Lz4,
    Zstd(i32),
}

impl StoredTopic {
    pub(super) fn new(id: u32, spec: &TopicSpec) -> Self {
        let compression = match spec.compression {
            Compression::None => StoredCompression::None,
            Compression::Lz4 => StoredCompression::Lz4,
            Compression::Zstd(level) => StoredCompression::Zstd(level),
        };
        StoredTopic { id, partitions: spec.partitions, compact: spec.cleanup == Cleanup::Compact, compression }
    }

    pub(super) fn spec(&self, topic: &str) -> TopicSpec {
        let compression = match self.compression {
            StoredCompression::None => Compression::None,
            StoredCompression::Lz4 => Compression::Lz4,
            StoredCompression::Zstd(level) => Compression::Zstd(level),
        };
        let cleanup = if self.compact { Cleanup::Compact } else { Cleanup::Keep };
        TopicSpec { topic: topic.into(), partitions: self.partitions, cleanup, compression }
    }
}

/// What is known about a partition besides its blocks.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Watermarks {
    /// Messages below are forgotten.
    pub low: Offset,
    /// The next offset when this was written: the blocks that showed it may be gone.
    pub high: Offset,
    /// Time of the last message when this was written.
    pub last_ms: u64,
}

/// How far compaction came.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Cleaned {
    /// All below was compacted.
    pub to: Offset,
    /// Number of messages that were left there.
    pub kept: u64,
    /// As in `Watermarks`.
    pub high: Offset,
    /// As in `Watermarks`.
    pub last_ms: u64,
}

/// One change of the store; a group of them is durable together or not at all.
pub(super) enum Change {
    Put(Space, Vec<u8>, Vec<u8>),
    Remove(Space, Vec<u8>),
}

/// Changes that become durable together. The store cannot order two changes of one key in a group, so
/// the last one replaces those before it.
#[derive(Default)]
pub(super) struct Changes(BTreeMap<(Space, Vec<u8>), Option<Vec<u8>>>);

impl Changes {
    pub(super) fn add(&mut self, change: Change) {
        match change {
            Change::Put(space, key, value) => self.0.insert((space, key), Some(value)),
            Change::Remove(space, key) => self.0.insert((space, key), None),
        };
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Space {
    Index,
    Content,
    Meta,
}

impl Store {
    /// Opens the store in `dir` or creates it there. The caller holds the lock.
    pub(super) fn open(dir: &Path) -> Result<Store> {
        let place = dir.join("log");
        if !place.exists() {
            create(dir, &place).map_err(|e| e.at("directory", dir.display()))?;
        }
        // Without these the store would begin anew, in silence.
        let has = |name| place.join(name).exists();
        if !has("version") || !has("keyspaces") {
            return Err(damaged("files of the log are missing").at("directory", place.display()));
        }
        super::journal::check(&place)?;
        Self::open_keyspaces(&place, false).map_err(|e| e.at("directory", place.display()))
    }

    fn open_keyspaces(place: &Path, is_new: bool) -> Result<Store> {
        // The store asserts what it expects of its files, so damage can show itself as a panic.
        let opened = std::panic::catch_unwind(|| Self::try_open(place, is_new));
        opened.unwrap_or_else(|_| Err(damaged("the log's files contradict each other")))
    }

    fn try_open(place: &Path, is_new: bool) -> Result<Store> {
        let failed = |e| store_error("the log could not be opened", e);
        let db = Database::builder(place)
            .journal_compression(CompressionType::None)
            .max_journaling_size(JOURNALS)
            .worker_threads(2)
            .cache_size(8 << 20)
            .open()
            .map_err(failed)?;
        if !is_new && !["index", "content", "meta"].iter().all(|name| db.keyspace_exists(name)) {
            return Err(damaged("parts of the log are missing"));
        }
        // Blocks are compressed already, and read whole.
        let options = |block_size: u32| {
            KeyspaceCreateOptions::default()
                .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
                .data_block_size_policy(BlockSizePolicy::all(block_size))
                .max_memtable_size(MEMTABLE)
                .expect_point_read_hits(true)
        };
        let index = db.keyspace("index", || options(16 << 10)).map_err(failed)?;
        let content = db.keyspace("content", || options(64 << 10)).map_err(failed)?;
        let meta = db.keyspace("meta", || options(4 << 10).max_memtable_size(4 << 20)).map_err(failed)?;
        let last = content.last_key_value().map(fjall::Guard::key).transpose().map_err(failed)?;
        let next_place = last.map_or(0, |key| number(&key, 0) + 1);
        Ok(Store { db, index, content, meta, next_place: AtomicU64::new(next_place) })
    }

    /// A view that does not change.
    pub(super) fn view(&self) -> Snapshot {
        self.db.snapshot()
    }

    /// Syncs a group of changes; when it returns they are durable and readers see them.
    pub(super) fn commit(&self, group: Changes) -> Result<()> {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncAll));
        for ((space, key), value) in group.0 {
            match value {
                Some(value) => batch.insert(self.space(space), key, value),
                None => batch.remove(self.space(space), key),
            }
        }
        batch.commit().map_err(|e| store_error("a write to the log failed", e))
    }

    fn space(&self, space: Space) -> &Keyspace {
        match space {
            Space::Index => &self.index,
            Space::Content => &self.content,
            Space::Meta => &self.meta,
        }
    }

    /// The changes that store a block whose last message has the offset `last`.
    pub(super) fn block(
        &self,
        id: u32,
        index: u32,
        packed: Packed,
        base: Offset,
        last: Offset,
        ms: (u64, u64),
    ) -> Vec<Change> {
        let key = block_key(id, index, last);
        if packed.stored.len() <= INLINE_LIMIT {
            let header = Header::new(&packed, base, ms, None);
            return vec![Change::Put(Space::Index, key.clone(), header.encode(&key, &packed.stored))];
        }
        let place = self.next_place.fetch_add(1, Ordering::Relaxed);
        let header = Header::new(&packed, base, ms, Some(place));
        let entry = header.encode(&key, &packed.stored);
        vec![Change::Put(Space::Index, key, entry), Change::Put(Space::Content, place_key(place), packed.stored)]
    }

    /// The changes that remove a block.
    pub(super) fn unblock(key: &[u8], header: &Header) -> Vec<Change> {
        let mut changes = vec![Change::Remove(Space::Index, key.to_vec())];
        if !header.is_inline() {
            changes.push(Change::Remove(Space::Content, place_key(header.place)));
        }
        changes
    }

    /// The content of a block which is not inline.
    pub(super) fn content(&self, view: &Snapshot, header: &Header) -> Result<Option<UserValue>> {
        view.get(&self.content, place_key(header.place)).map_err(|e| store_error("a batch could not be read", e))
    }
}

/// Creates the store under another name and renames it when it is complete and synced, so that a crash
/// leaves either none or a whole one.
fn create(dir: &Path, place: &Path) -> Result<()> {
    let failed = |e| io_error("the log could not be created", e);
    let unfinished = dir.join("log.new");
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(failed)?;
    }
    drop(Store::open_keyspaces(&unfinished, true)?);
    sync_directories(&unfinished).map_err(failed)?;
    std::fs::rename(&unfinished, place).map_err(failed)?;
    std::fs::File::open(dir).and_then(|d| d.sync_all()).map_err(failed)
}

/// Syncs the directory, and all below it: a name that is not durable is no file.
fn sync_directories(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_directories(&entry.path())?;
        }
    }
    std::fs::File::open(dir)?.sync_all()
}

/// Key of a block in `index`.
pub(super) fn block_key(id: u32, index: u32, last: Offset) -> Vec<u8> {
    let mut key = partition_key(&[], id, index);
    key.extend_from_slice(&last.to_be_bytes());
    key
}

/// The last offset of a block, from its key.
pub(super) fn last_of(key: &[u8]) -> Offset {
    number(key, 8)
}

fn place_key(place: u64) -> Vec<u8> {
    place.to_be_bytes().to_vec()
}

/// `prefix`, topic id, partition.
pub(super) fn partition_key(prefix: &[u8], id: u32, index: u32) -> Vec<u8> {
    let mut key = prefix.to_vec();
    key.extend_from_slice(&id.to_be_bytes());
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// Key of a topic in `meta`.
pub(super) fn topic_key(topic: &str) -> Vec<u8> {
    [b"t", topic.as_bytes()].concat()
}

/// Key of what a group committed, in `meta`.
pub(super) fn group_key(id: u32, index: u32, group: &str) -> Vec<u8> {
    let mut key = partition_key(b"g", id, index);
    key.extend_from_slice(group.as_bytes());
    key
}

fn number(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_be_bytes)
}

/// An entry of `meta`, if it is there.
pub(super) fn load<T: for<'a> Deserialize<'a>>(store: &Store, key: &[u8]) -> Result<Option<T>> {
    let value = store.meta.get(key).map_err(|e| store_error("the log's own records could not be read", e))?;
    value.map(|value| parse(&value)).transpose()
}

/// Reads a value of `meta`.
pub(super) fn parse<T: for<'a> Deserialize<'a>>(value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|e| damaged("one of the log's own records is unreadable").caused_by(e))
}

/// Writes a value of `meta`.
pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::new(Code::Unexpected, "a record could not be encoded").caused_by(e))
}

fn damaged(what: &str) -> Error {
    Error::new(Code::LogCorrupt, format!("{what}; restore the log's directory from a copy"))
}

/// The first block of a partition whose last offset is at least `from`.
pub(super) fn block_from(
    store: &Store,
    view: &Snapshot,
    id: u32,
    index: u32,
    from: Offset,
) -> Result<Option<(Vec<u8>, UserValue)>> {
    blocks(store, view, id, index, from).next().transpose()
}

/// The index entries of a partition from the block on that holds `from`.
pub(super) fn blocks(
    store: &Store,
    view: &Snapshot,
    id: u32,
    index: u32,
    from: Offset,
) -> impl Iterator<Item = Result<(Vec<u8>, UserValue)>> + use<> {
    let range = block_key(id, index, from)..=block_key(id, index, Offset::MAX);
    view.range(&store.index, range).map(|guard| match guard.into_inner() {
        Ok((key, value)) => Ok((key.to_vec(), value)),
        Err(e) => Err(store_error("the log's index could not be read", e)),
    })
}

/// The header of an index entry.
pub(super) fn header(at: &Partition, key: &[u8], entry: &[u8]) -> Result<Header> {
    Header::decode(entry).ok_or_else(|| super::block::corrupt(at, last_of(key), "an index entry is unreadable"))
}

/// What an error of the store means.
pub(super) fn store_error(doing: &str, error: fjall::Error) -> Error {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(current) = cause {
        if let Some(io) = current.downcast_ref::<io::Error>() {
            return io_kind(doing, io.kind()).caused_by(error);
        }
        cause = current.source();
    }
    let code = match error {
        fjall::Error::Locked => Code::LogLocked,
        fjall::Error::Poisoned => Code::DiskFull,
        _ => Code::LogCorrupt,
    };
    advise(code, doing).caused_by(error)
}

/// What an error of the file system means.
pub(super) fn io_error(doing: &str, error: io::Error) -> Error {
    io_kind(doing, error.kind()).caused_by(error)
}

fn io_kind(doing: &str, kind: io::ErrorKind) -> Error {
    use io::ErrorKind::{InvalidData, NotFound, QuotaExceeded, StorageFull, UnexpectedEof};
    let code = match kind {
        StorageFull | QuotaExceeded => Code::DiskFull,
        UnexpectedEof | InvalidData | NotFound => Code::LogCorrupt,
        _ => Code::LogFailed,
    };
    advise(code, doing)
}

fn advise(code: Code, doing: &str) -> Error {
    let remedy = match code {
        Code::DiskFull => "the disk is full or failing: free space, then start again",
        Code::LogCorrupt => "its files are damaged: restore the log's directory from a copy",
        Code::LogLocked => "another process has it open",
        _ => "the disk or the rights on the log's directory are the reason; repair them, then start again",
    };
    Error::new(code, format!("{doing}; {remedy}"))
}
