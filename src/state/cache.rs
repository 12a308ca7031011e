//! The disk under the states that do not fit into memory: a folder of the process' own, made when it
//! is first needed and removed at the end. Nothing in it outlives the process, and nothing is synced
//! for its sake. Entries come in sorted batches and are written as tables at once, so that the store
//! holds next to nothing in memory.

use crate::event::Key;
use crate::runtime::error::{Code, Error, Result};
use bytes::Bytes;
use fjall::config::{BlockSizePolicy, CompressionPolicy, PartitioningPolicy};
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The file whose lock says that a folder's process is alive.
const LOCK: &str = "lock";

/// Where states go that memory has no room for.
pub(super) struct Disk {
    dir: PathBuf,
    buffer_bytes: usize,
    own: Mutex<Own>,
    tables: AtomicU64,
}

/// What this process has made there.
#[derive(Default)]
struct Own {
    /// Made anew after a failure.
    store: Option<Arc<Store>>,
    /// The process' folder, and its lock, held for as long as the folder is in use.
    folder: Option<(PathBuf, File)>,
}

struct Store {
    db: Database,
    dir: PathBuf,
}

impl Drop for Store {
    fn drop(&mut self) {
        // Names in a folder may go while files are open; the rest goes at the next start.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let Own { store, folder } = std::mem::take(&mut *self.own.lock());
        drop(store);
        let _ = folder.map(|(folder, _lock)| fs::remove_dir_all(folder));
    }
}

impl Disk {
    /// What lies below `dir` of processes that are gone is removed.
    pub(super) fn open(dir: &Path, buffer_bytes: usize) -> Result<Disk> {
        if dir.exists() {
            remove_abandoned(dir).map_err(|e| unusable(dir, e))?;
        }
        Ok(Disk { dir: dir.to_owned(), buffer_bytes, own: Mutex::default(), tables: AtomicU64::new(0) })
    }

    /// A new, empty table.
    pub(super) fn table(&self) -> Result<Table> {
        let number = self.tables.fetch_add(1, Relaxed);
        let mut own = self.own.lock();
        if let Some(Ok(table)) = own.store.as_ref().map(|store| store.table(number)) {
            return Ok(table);
        }
        // None yet, or it failed, because the disk was full perhaps: begin with a new one.
        own.store = None;
        let folder = match own.folder.take().filter(|(folder, _)| folder.exists()) {
            Some(folder) => own.folder.insert(folder),
            None => own.folder.insert(own_folder(&self.dir).map_err(|e| unusable(&self.dir, e))?),
        };
        let store = Store::open(folder.0.join(format!("store-{number}")), self.buffer_bytes)?;
        own.store.insert(store).table(number)
    }
}

/// One process at a time looks and makes, so that no folder is met before it is locked.
fn begin(dir: &Path) -> io::Result<File> {
    let begun = File::create(dir.join(LOCK))?;
    begun.lock()?;
    Ok(begun)
}

fn remove_abandoned(dir: &Path) -> io::Result<()> {
    let _begun = begin(dir)?;
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let alive = File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_err());
        if path.is_dir() && !alive {
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

fn own_folder(dir: &Path) -> io::Result<(PathBuf, File)> {
    fs::create_dir_all(dir)?;
    let _begun = begin(dir)?;
    let name = |n: u32| dir.join(format!("{}-{n}", std::process::id()));
    let own = (0..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0));
    fs::create_dir(&own)?;
    let lock = File::create(own.join(LOCK))?;
    lock.lock()?;
    Ok((own, lock))
}

impl Store {
    fn open(dir: PathBuf, buffer_bytes: usize) -> Result<Arc<Store>> {
        let buffer = u64::try_from(buffer_bytes).unwrap_or(u64::MAX);
        let db = Database::builder(&dir)
            .journal_compression(CompressionType::None)
            .max_journaling_size(64 << 20)
            .manual_journal_persist(true)
            .worker_threads(1)
            .max_cached_files(Some(64))
            .cache_size(buffer)
            .open();
        Ok(Arc::new(Store { db: db.map_err(|e| failed("a store for states could not be made", e))?, dir }))
    }

    fn table(self: &Arc<Store>, number: u64) -> Result<Table> {
        // Filters, because many keys that are looked up do not exist; small blocks, because keys are
        // looked up one by one. Filters and indexes in blocks too: whole ones of large tables do not stay
        // in the cache, and each look-up would read them again.
        let options = || {
            KeyspaceCreateOptions::default()
                .data_block_compression_policy(CompressionPolicy::all(CompressionType::None))
                .data_block_size_policy(BlockSizePolicy::all(4 << 10))
                .filter_block_partitioning_policy(PartitioningPolicy::all(true))
                .index_block_partitioning_policy(PartitioningPolicy::all(true))
                .max_memtable_size(1 << 20)
                .manual_journal_persist(true)
        };
        let made = self.db.keyspace(&number.to_string(), options);
        let keyspace = made.map_err(|e| failed("a table for a state could not be made", e))?;
        Ok(Table { keyspace, store: self.clone() })
    }
}

/// The entries of one state on the disk.
pub(super) struct Table {
    keyspace: Keyspace,
    store: Arc<Store>,
}

impl Drop for Table {
    fn drop(&mut self) {
        let _ = self.store.db.delete_keyspace(self.keyspace.clone());
    }
}

impl Table {
    /// Adds entries, each in the place of an earlier one of its key.
    pub(super) fn store(&self, entries: BTreeMap<Box<[u8]>, Box<[u8]>>) -> Result<()> {
        let store = || {
            let mut tables = self.keyspace.start_ingestion()?;
            for (key, value) in entries {
                tables.write(&*key, &*value)?;
            }
            tables.finish()
        };
        // On the caller's thread: it takes milliseconds, and a thread in its place would begin with a heap of its own.
        store().map_err(|e| failed("a state could not be written", e))
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let found = self.keyspace.get(key).map_err(|e| failed("a state could not be read", e))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// The first `limit` entries from a bound on, in order.
    pub(super) fn entries(&self, from: Bound<&[u8]>, limit: usize) -> Result<Vec<(Key, Bytes)>> {
        let found = self.keyspace.range::<&[u8], _>((from, Bound::Unbounded)).take(limit);
        let entry = |guard: fjall::Guard| {
            let (key, value) = guard.into_inner().map_err(|e| failed("a state could not be read", e))?;
            Ok((Key(Bytes::copy_from_slice(&key)), Bytes::copy_from_slice(&value)))
        };
        found.map(entry).collect()
    }
}

fn failed(doing: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let remedy = "make room on the disk of the data folder, or repair its rights; it is tried again, nothing is lost";
    Error::new(Code::StateFailed, format!("{doing}; {remedy}")).caused_by(error)
}

fn unusable(dir: &Path, error: io::Error) -> Error {
    failed("the folder for states is unusable", error).at("directory", dir.display())
}
