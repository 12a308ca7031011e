//! State with an entry per key, in bounded memory. A `View` holds the entries at work; what it has
//! no room for is kept as bytes in a `Cold`, in memory first and on the disk when that is full too.
//! The log is the truth: a state is empty when its owner takes over and filled from the log, nothing
//! is synced, and what a crashed process left behind is removed.
//!
//! All states of a process share one budget. As long as it is not used up nothing is moved, and
//! looking up costs what a map costs. It bounds what states hold, not batches on their way.

mod cache;
mod heads;
mod keys;
mod plain;
pub mod view;

pub use heads::Heads;
pub use keys::Keys;
pub use plain::{Bare, Plain};
pub use view::Noted;

use crate::event::Key;
use crate::runtime::error::{Code, Error, Result};
use bytes::Bytes;
use cache::{Disk, Table};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use view::{View, Weigh};

/// What a stored entry costs beside its bytes.
const ENTRY: usize = 64;

/// How values become bytes. `decode(encode(x)) == x`.
pub trait Codec<V>: Send + Sync {
    /// Appends a value.
    ///
    /// # Errors
    /// If the value cannot be written under its schema.
    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<()>;

    /// Reads a value; it may share the buffer.
    ///
    /// # Errors
    /// If the bytes are damaged.
    fn decode(&self, bytes: Bytes) -> Result<V>;
}

/// The budget of all states of a process. Clones share it.
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

struct Shared {
    /// States shrink when they hold more than this together, in bytes.
    bytes_max: usize,
    used: AtomicUsize,
    states: AtomicUsize,
    /// How often a state had to hold less.
    short: AtomicUsize,
    disk: Option<Disk>,
}

impl Memory {
    /// A budget of `bytes`; what goes beyond lies in `dir`. What an earlier process left there is
    /// removed; nothing is made there before it is needed.
    ///
    /// # Errors
    /// `state_failed` if the directory cannot be used.
    pub fn open(bytes: usize, dir: &Path) -> Result<Memory> {
        // Three eighths, because states that wait keep what they hold for a while, and others still may have
        // their fair share: at worst twice as much. The rest is for the disk's buffers.
        Ok(Memory::new(bytes / 8 * 3, Some(Disk::open(dir, bytes / 8)?)))
    }

    /// No bound worth mentioning, and no disk.
    #[must_use]
    pub fn unbounded() -> Memory {
        Memory::new(usize::MAX, None)
    }

    /// Holds no more than `bytes` of values at work; what goes beyond stays in memory as bytes.
    #[must_use]
    pub fn without_disk(bytes: usize) -> Memory {
        Memory::new(bytes, None)
    }

    fn new(bytes_max: usize, disk: Option<Disk>) -> Memory {
        let (used, states, short) = Default::default();
        Memory(Arc::new(Shared { bytes_max, used, states, short, disk }))
    }

    /// A new, empty state.
    #[must_use]
    pub fn cold<V>(&self, codec: Arc<dyn Codec<V>>) -> Cold<V> {
        self.0.states.fetch_add(1, Relaxed);
        Cold {
            memory: self.clone(),
            codec,
            bytes: BTreeMap::new(),
            bytes_len: 0,
            table: None,
            told: 0,
            moved: false,
            short: 0,
        }
    }

    fn is_used_up(&self) -> bool {
        self.0.used.load(Relaxed) > self.0.bytes_max
    }

    /// What one of the states may always hold.
    fn fair(&self) -> usize {
        self.0.bytes_max / self.0.states.load(Relaxed).max(1)
    }
}

/// The entries of a state that its view has no room for.
pub struct Cold<V> {
    memory: Memory,
    codec: Arc<dyn Codec<V>>,
    /// As bytes in memory.
    bytes: BTreeMap<Box<[u8]>, Box<[u8]>>,
    bytes_len: usize,
    /// On the disk, older than those in memory.
    table: Option<Table>,
    /// What the budget knows of.
    told: usize,
    /// Since the last call of `give_back`: whether more or less was held, and how often states were short until then.
    moved: bool,
    short: usize,
}

impl<V> Drop for Cold<V> {
    fn drop(&mut self) {
        self.memory.0.states.fetch_sub(1, Relaxed);
        self.memory.0.used.fetch_sub(self.told, Relaxed);
    }
}

impl<V: Weigh + Clone> Cold<V> {
    /// Makes room if memory is short, then brings the entries of `keys` into the view, where they stay
    /// until the next call.
    ///
    /// # Errors
    /// `state_failed` if the disk does not serve: the state is lost, take over again.
    pub fn fetch<'k>(&mut self, view: &mut View<V>, keys: impl IntoIterator<Item = &'k Key>) -> Result<()> {
        self.make_room(view)?;
        if self.bytes.is_empty() && self.table.is_none() {
            return Ok(());
        }
        keys.into_iter().try_for_each(|key| self.bring(view, key))
    }

    /// Brings the entry of a key into the view, where it stays until the next call of `make_room`.
    ///
    /// # Errors
    /// As `fetch`.
    pub fn bring(&self, view: &mut View<V>, key: &Key) -> Result<()> {
        if (self.bytes.is_empty() && self.table.is_none()) || view.holds(key) {
            return Ok(());
        }
        if let Some(value) = self.find(key)? {
            // A key read from a batch must not hold the batch.
            view.load(Key(Bytes::copy_from_slice(&key.0)), value);
        }
        Ok(())
    }

    /// Brings every entry into the view, whatever the budget, until the next call of `make_room`.
    ///
    /// # Errors
    /// As `fetch`.
    pub fn bring_all(&self, view: &mut View<V>) -> Result<()> {
        const PAGE: usize = 4_096;
        let mut after: Option<Key> = None;
        loop {
            let page = self.page(view, after.as_ref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            for (key, value) in page {
                if !view.holds(&key) {
                    view.load(key, value);
                }
            }
        }
    }

    /// Up to `limit` entries behind `after` in the order of their keys, wherever they are. A view is
    /// looked through whole, so pages should not be small.
    ///
    /// # Errors
    /// As `fetch`.
    pub fn page(&self, view: &View<V>, after: Option<&Key>, limit: usize) -> Result<Vec<(Key, V)>> {
        let from = after.map_or(Bound::Unbounded, |key| Bound::Excluded(&key.0[..]));
        let mut viewed: Vec<&Key> = view.iter().map(|(key, _)| key).collect();
        viewed.retain(|key| after.is_none_or(|after| *key > after));
        if viewed.len() > limit {
            viewed.select_nth_unstable(limit);
            viewed.truncate(limit);
        }
        // The newer place takes the older one's entry: the disk, then the bytes, then the view.
        let mut page: BTreeMap<Key, Option<Bytes>> = BTreeMap::new();
        if let Some(table) = &self.table {
            page.extend(table.entries(from, limit)?.into_iter().map(|(key, value)| (key, Some(value))));
        }
        let copied = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
        let stored = self.bytes.range::<[u8], _>((from, Bound::Unbounded)).take(limit);
        page.extend(stored.map(|(key, value)| (Key(copied(key)), Some(copied(value)))));
        page.extend(viewed.into_iter().map(|key| (key.clone(), None)));
        let value = |(key, stored): (Key, Option<Bytes>)| {
            let value = match stored.filter(|_| !view.holds(&key)) {
                Some(stored) => self.codec.decode(stored).map(Some),
                None => Ok(view.get(&key).cloned()),
            };
            value.map(|value| value.map(|value| (key, value))).transpose()
        };
        page.into_iter().take(limit).filter_map(value).collect()
    }

    fn find(&self, key: &Key) -> Result<Option<V>> {
        let bytes = match (self.bytes.get(&key.0[..]), &self.table) {
            (Some(bytes), _) => Some(Bytes::copy_from_slice(bytes)),
            (None, Some(table)) => table.get(&key.0)?,
            (None, None) => None,
        };
        bytes.map(|bytes| self.codec.decode(bytes)).transpose()
    }

    /// Tells the budget what is held, and holds less if it is used up and this state has more than
    /// its share.
    ///
    /// # Errors
    /// As `fetch`.
    pub fn make_room(&mut self, view: &mut View<V>) -> Result<()> {
        self.tell(view);
        // Two turns empty the view, two more the bytes made of it; no more leaves than has to.
        for _ in 0..4 {
            if !self.memory.is_used_up() || self.told <= self.memory.fair() {
                break;
            }
            self.memory.0.short.fetch_add(1, Relaxed);
            self.shrink(view)?;
        }
        Ok(())
    }

    /// Holds no more than its share if others were short of memory while this state did not change: to be
    /// called now and then by who may wait for long.
    ///
    /// # Errors
    /// As `fetch`.
    pub fn give_back(&mut self, view: &mut View<V>) -> Result<()> {
        self.tell(view);
        let short = self.memory.0.short.load(Relaxed);
        let asked = std::mem::replace(&mut self.short, short) != short;
        if std::mem::take(&mut self.moved) || !asked {
            return Ok(());
        }
        for _ in 0..4 {
            if self.told > self.memory.fair() {
                self.shrink(view)?;
            }
        }
        Ok(())
    }

    /// Whether there may be something to give back.
    #[must_use]
    pub fn is_over_share(&self, view: &View<V>) -> bool {
        let may_leave = self.memory.0.disk.is_some() || view.bytes() > 0;
        may_leave && self.told > self.memory.fair()
    }

    /// What is most leaves: entries at work become bytes, bytes go to the disk, in tables as large as may be.
    fn shrink(&mut self, view: &mut View<V>) -> Result<()> {
        let memory = self.memory.0.clone();
        match memory.disk.as_ref().filter(|_| self.bytes_len > view.bytes()) {
            Some(disk) => self.store(disk)?,
            None => self.keep(view.rotate())?,
        }
        self.tell(view);
        Ok(())
    }

    fn store(&mut self, disk: &Disk) -> Result<()> {
        let table = match self.table.take() {
            Some(table) => table,
            None => disk.table()?,
        };
        table.store(std::mem::take(&mut self.bytes))?;
        self.table = Some(table);
        self.bytes_len = 0;
        Ok(())
    }

    fn keep(&mut self, leaving: Vec<(Key, V)>) -> Result<()> {
        let mut bytes = Vec::new();
        for (key, value) in leaving {
            bytes.clear();
            self.codec.encode(&value, &mut bytes)?;
            self.bytes_len += ENTRY + key.0.len() + bytes.len();
            if let Some(before) = self.bytes.insert(key.0[..].into(), bytes[..].into()) {
                self.bytes_len -= ENTRY + key.0.len() + before.len();
            }
        }
        Ok(())
    }

    fn tell(&mut self, view: &View<V>) {
        let held = view.bytes() + self.bytes_len;
        let used = &self.memory.0.used;
        match held.checked_sub(self.told) {
            Some(0) => {}
            Some(more) => _ = used.fetch_add(more, Relaxed),
            None => _ = used.fetch_sub(self.told - held, Relaxed),
        }
        self.moved |= self.told != held;
        self.told = held;
    }
}

/// A state whose owner needs no view apart.
pub struct State<V> {
    view: View<V>,
    cold: Cold<V>,
}

impl<V: Weigh + Clone> State<V> {
    /// An empty one.
    #[must_use]
    pub fn new(cold: Cold<V>) -> Self {
        State { view: View::default(), cold }
    }

    /// As `Cold::fetch`.
    ///
    /// # Errors
    /// As there.
    pub fn fetch<'k>(&mut self, keys: impl IntoIterator<Item = &'k Key>) -> Result<()> {
        self.cold.fetch(&mut self.view, keys)
    }

    /// As `Cold::give_back`.
    ///
    /// # Errors
    /// As `Cold::fetch`.
    pub fn give_back(&mut self) -> Result<()> {
        self.cold.give_back(&mut self.view)
    }

    /// As `Cold::is_over_share`.
    #[must_use]
    pub fn is_over_share(&self) -> bool {
        self.cold.is_over_share(&self.view)
    }

    /// As `View::get`: the value of a key that was fetched.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<&V> {
        self.view.get(key)
    }

    /// Whether a key that was fetched is in it.
    #[must_use]
    pub fn holds(&self, key: &Key) -> bool {
        self.view.holds(key)
    }

    /// Sets the value of a key.
    pub fn put(&mut self, key: Key, value: V) {
        self.view.put(key, value);
    }

    /// As `Cold::page`.
    ///
    /// # Errors
    /// As there.
    pub fn page(&self, after: Option<&Key>, limit: usize) -> Result<Vec<(Key, V)>> {
        self.cold.page(&self.view, after, limit)
    }
}

/// An entry that was stored here cannot be read.
fn damaged(what: &str) -> Error {
    Error::new(Code::Unexpected, format!("a stored state is unreadable: {what}; this is a bug, report it"))
}

#[cfg(test)]
mod tests;
