//! How far a loop has come: a few numbers it stores as it works and anybody may read at any time.
//! Telling progress costs an atomic store or two per batch and decides nothing.

use super::telemetry::{DatasetMeter, PlatformMeter};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How many parked keys are told by name.
const NAMED_MAX: usize = 1_000;

/// The progress of one loop, since the process began.
#[derive(Default)]
pub struct Progress {
    platform: Option<PlatformMeter>,
    dataset: Option<DatasetMeter>,
    offset: AtomicU64,
    position: AtomicU64,
    captured: AtomicU64,
    proposed: AtomicU64,
    settled: AtomicU64,
    conflicts: AtomicU64,
    applied: AtomicU64,
    skipped: AtomicU64,
    held: AtomicU64,
    held_since_ms: AtomicU64,
    parked: AtomicU64,
    dead: AtomicU64,
    captured_bytes: AtomicU64,
    applied_bytes: AtomicU64,
    newest_ms: AtomicU64,
    moved_ms: AtomicU64,
    named: Mutex<Vec<Parked>>,
    disappeared: Mutex<Option<Disappeared>>,
    copying: Mutex<BTreeMap<u16, FirstCopy>>,
}

/// How far a first copy is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct FirstCopy {
    /// Rows found since the process began.
    pub rows: u64,
    /// About how many there are, where the platform knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
}

/// A key that waits for a person.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Parked {
    /// Its bytes.
    #[serde(serialize_with = "printable")]
    pub key: Bytes,
    /// The error's code.
    pub code: &'static str,
    /// Why it was put aside.
    pub why: String,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// It waits for a person, however long; others become dead letters in time.
    pub lasting: bool,
}

/// Records that disappeared all at once, before anybody has looked (agent-7).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disappeared {
    /// How many.
    pub count: usize,
    /// Of how many.
    pub records: usize,
    /// Some of their keys.
    pub sample: Vec<Bytes>,
}

fn printable<S: serde::Serializer>(key: &Bytes, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&key.escape_ascii())
}

/// The numbers at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Counts {
    /// The next offset of the loop's input.
    pub offset: u64,
    /// The source's commit position up to which a reader has read.
    pub position: u64,
    /// Changes read from the platform, echoes included.
    pub captured: u64,
    /// Changes proposed.
    pub proposed: u64,
    /// Canonical versions that are known to count.
    pub settled: u64,
    /// Conflicts among them.
    pub conflicts: u64,
    /// Versions written or adopted.
    pub applied: u64,
    /// Versions the platform held already.
    pub skipped: u64,
    /// Versions that wait now, the parked ones included.
    pub held: u64,
    /// Milliseconds since 1970 since when some wait without a break; 0 if none does.
    pub held_since_ms: u64,
    /// Keys put aside now.
    pub parked: u64,
    /// Events that became dead letters.
    pub dead: u64,
    /// Size of the changes read.
    pub captured_bytes: u64,
    /// Size of the versions written.
    pub applied_bytes: u64,
    /// Milliseconds since 1970 of the source commit of the newest version finished; 0 if none.
    pub newest_ms: u64,
    /// Milliseconds since 1970 of the last step forward; 0 if none.
    pub moved_ms: u64,
}

impl Counts {
    /// Adds the numbers of another loop of the same platform.
    pub fn add(&mut self, other: &Counts) {
        let earliest = |a: u64, b: u64| if a == 0 || b == 0 { a.max(b) } else { a.min(b) };
        *self = Counts {
            offset: self.offset + other.offset,
            position: self.position.max(other.position),
            captured: self.captured + other.captured,
            proposed: self.proposed + other.proposed,
            settled: self.settled + other.settled,
            conflicts: self.conflicts + other.conflicts,
            applied: self.applied + other.applied,
            skipped: self.skipped + other.skipped,
            held: self.held + other.held,
            held_since_ms: earliest(self.held_since_ms, other.held_since_ms),
            parked: self.parked + other.parked,
            dead: self.dead + other.dead,
            captured_bytes: self.captured_bytes + other.captured_bytes,
            applied_bytes: self.applied_bytes + other.applied_bytes,
            newest_ms: self.newest_ms.max(other.newest_ms),
            moved_ms: self.moved_ms.max(other.moved_ms),
        };
    }
}

impl Progress {
    /// The progress of a loop that works for a platform.
    #[must_use]
    pub fn of_platform(meter: PlatformMeter) -> Self {
        Progress { platform: Some(meter), ..Progress::default() }
    }

    /// The progress of a loop that works for a dataset as a whole.
    #[must_use]
    pub fn of_dataset(meter: DatasetMeter) -> Self {
        Progress { dataset: Some(meter), ..Progress::default() }
    }

    /// A batch was read from the source up to a commit position, and so many of its changes proposed.
    pub fn captured(&self, changes: usize, proposals: usize, position: u64, now_ms: u64) {
        let (changes, proposals) = (wide(changes), wide(proposals));
        self.position.store(position, Relaxed);
        if changes + proposals > 0 {
            self.captured.fetch_add(changes, Relaxed);
            self.proposed.fetch_add(proposals, Relaxed);
            self.moved_ms.store(now_ms, Relaxed);
        }
        if let Some(meter) = self.platform.as_ref().filter(|_| changes > 0) {
            meter.captured(changes, 0);
        }
        if let Some(meter) = self.platform.as_ref().filter(|_| proposals > 0) {
            meter.proposed(proposals);
        }
    }

    /// Inputs up to `offset` are settled: so many new versions, so many of them by a conflict.
    pub fn settled(&self, versions: usize, conflicts: usize, offset: u64, now_ms: u64) {
        self.settled.fetch_add(wide(versions), Relaxed);
        self.conflicts.fetch_add(wide(conflicts), Relaxed);
        self.offset.store(offset, Relaxed);
        self.moved_ms.store(now_ms, Relaxed);
        if let Some(meter) = self.dataset.as_ref().filter(|_| conflicts > 0) {
            meter.conflicts(wide(conflicts));
        }
    }

    /// So large, in bytes, were the changes read.
    pub fn captured_bytes(&self, bytes: usize) {
        self.captured_bytes.fetch_add(wide(bytes), Relaxed);
        if let Some(meter) = self.platform.as_ref() {
            meter.captured_bytes(wide(bytes));
        }
    }

    /// So large, in bytes, was a version written.
    pub fn applied_bytes(&self, bytes: usize) {
        self.applied_bytes.fetch_add(wide(bytes), Relaxed);
        if let Some(meter) = self.platform.as_ref() {
            meter.applied_bytes(wide(bytes));
        }
    }

    /// Versions were written or adopted, others were there already.
    pub fn applied(&self, applied: u64, skipped: u64) {
        self.applied.fetch_add(applied, Relaxed);
        self.skipped.fetch_add(skipped, Relaxed);
        if let Some(meter) = self.platform.as_ref() {
            if applied > 0 {
                meter.applied(applied, 0);
            }
            if skipped > 0 {
                meter.skipped(skipped);
            }
        }
    }

    /// A version whose source commit was at `source_ms` was written.
    pub fn delivered(&self, source_ms: u64, now_ms: u64) {
        self.newest_ms.fetch_max(source_ms, Relaxed);
        if let Some(meter) = self.platform.as_ref() {
            meter.delivered(now_ms.saturating_sub(source_ms));
        }
    }

    /// Everything below `offset` is finished, and so many versions wait.
    pub fn finished(&self, offset: u64, held: usize, now_ms: u64) {
        // Who has never moved stands still since it began.
        if self.offset.swap(offset, Relaxed) != offset || self.moved_ms.load(Relaxed) == 0 {
            self.moved_ms.store(now_ms, Relaxed);
        }
        let before = self.held.swap(wide(held), Relaxed);
        match (before, held) {
            (_, 0) => self.held_since_ms.store(0, Relaxed),
            (0, _) => self.held_since_ms.store(now_ms, Relaxed),
            _ => {}
        }
    }

    /// The keys put aside now.
    pub fn parked_are(&self, parked: impl Iterator<Item = Parked>) {
        let mut parked = parked;
        let named: Vec<Parked> = parked.by_ref().take(NAMED_MAX).collect();
        let count = wide(named.len() + parked.count());
        let before = self.parked.swap(count, Relaxed);
        if let Some(meter) = self.platform.as_ref().filter(|_| count > before) {
            meter.parked(count - before);
        }
        if before > 0 || count > 0 {
            *self.named.lock() = named;
        }
    }

    /// Events became dead letters.
    pub fn died(&self, events: usize) {
        self.dead.fetch_add(wide(events), Relaxed);
        if let Some(meter) = self.platform.as_ref() {
            meter.dead_lettered(wide(events));
        }
    }

    /// How far behind the loop is, for the metrics.
    pub fn lag(&self, events: u64, now_ms: u64) {
        if let Some(meter) = self.platform.as_ref() {
            let newest_ms = self.newest_ms.load(Relaxed);
            let behind = events > 0 && newest_ms > 0;
            meter.lag(events, if behind { now_ms.saturating_sub(newest_ms) } else { 0 });
        }
    }

    /// The numbers now.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts {
            offset: self.offset.load(Relaxed),
            position: self.position.load(Relaxed),
            captured: self.captured.load(Relaxed),
            proposed: self.proposed.load(Relaxed),
            settled: self.settled.load(Relaxed),
            conflicts: self.conflicts.load(Relaxed),
            applied: self.applied.load(Relaxed),
            skipped: self.skipped.load(Relaxed),
            held: self.held.load(Relaxed),
            held_since_ms: self.held_since_ms.load(Relaxed),
            parked: self.parked.load(Relaxed),
            dead: self.dead.load(Relaxed),
            captured_bytes: self.captured_bytes.load(Relaxed),
            applied_bytes: self.applied_bytes.load(Relaxed),
            newest_ms: self.newest_ms.load(Relaxed),
            moved_ms: self.moved_ms.load(Relaxed),
        }
    }

    /// So many records have disappeared that a person must look; `None` if not.
    pub fn disappeared(&self, what: Option<Disappeared>) {
        *self.disappeared.lock() = what;
    }

    /// The records that a person must look at.
    #[must_use]
    pub fn has_disappeared(&self) -> Option<Disappeared> {
        self.disappeared.lock().clone()
    }

    /// A first copy of a collection, by its number, is under way, and will find about so many rows.
    pub fn copies(&self, collection: u16, expected: Option<u64>) {
        self.copying.lock().entry(collection).or_default().expected = expected;
    }

    /// It found so many rows more.
    pub fn copied(&self, collection: u16, rows: usize) {
        self.copying.lock().entry(collection).or_default().rows += wide(rows);
    }

    /// The first copy of a collection is finished.
    pub fn copied_all(&self, collection: u16) {
        self.copying.lock().remove(&collection);
    }

    /// The first copies under way, by collection.
    #[must_use]
    pub fn copying(&self) -> BTreeMap<u16, FirstCopy> {
        self.copying.lock().clone()
    }

    /// Some of the parked keys.
    #[must_use]
    pub fn parked(&self) -> Vec<Parked> {
        self.named.lock().clone()
    }
}

fn wide(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_timed_from_the_first_that_waits_until_none_does() {
        let progress = Progress::default();
        let parked = Parked { key: "k".into(), code: "x", why: "refused".into(), since_ms: 200, lasting: false };
        progress.finished(5, 1, 100);
        progress.finished(5, 2, 200);
        progress.parked_are([parked.clone()].into_iter());
        let counts = progress.counts();
        assert_eq!((counts.offset, counts.held, counts.held_since_ms, counts.parked), (5, 2, 100, 1));
        assert_eq!((counts.moved_ms, progress.parked()), (100, vec![parked]));
        progress.finished(7, 0, 300);
        progress.parked_are(std::iter::empty());
        let counts = progress.counts();
        assert_eq!((counts.held_since_ms, counts.parked, counts.moved_ms), (0, 0, 300));
        assert!(progress.parked().is_empty());
    }
}
