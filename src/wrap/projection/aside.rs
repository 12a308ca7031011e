//! Rows of a platform that are not carried into the dataset: which, how they look, and why. Kept in
//! memory and shared by the platform's reader and its sinks: the reader finds them, a sink that meets one
//! parks its version with the reason and does not overwrite it (who-2). What was known is lost with the
//! process; then the sink puts such a row into the log again (sink-8), and the reader says why once more.

use crate::connectors::contract::CollectionNo;
use crate::event::{Fp, Key};
use crate::runtime::clock::Clock;
use crate::runtime::error::Code;
use crate::runtime::progress::{Parked, Progress};
use crate::runtime::telemetry::SYNC;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// How many are remembered; a row that is forgotten is found again when it is in the way.
const ROWS_MAX: usize = 100_000;

/// The rows put aside on one platform.
pub struct Aside {
    clock: Arc<dyn Clock>,
    rows: Mutex<HashMap<(CollectionNo, Key), Row>>,
    told: Mutex<Option<Arc<Progress>>>,
}

struct Row {
    fp: Fp,
    why: String,
    since_ms: u64,
}

impl Aside {
    /// None yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Aside { clock, rows: Mutex::default(), told: Mutex::default() }
    }

    /// Where it is told how many there are.
    pub fn tell(&self, progress: Arc<Progress>) {
        *self.told.lock() = Some(progress);
    }

    /// Puts a row aside.
    pub(super) fn put(&self, collection: CollectionNo, key: &Key, fp: Fp, why: &str) {
        let mut rows = self.rows.lock();
        if rows.get(&(collection, key.clone())).is_some_and(|row| row.fp == fp) {
            return;
        }
        tracing::warn!(target: SYNC, ?key, why, "a change is not carried over; its row stays as it is");
        if rows.len() >= ROWS_MAX {
            rows.clear();
        }
        let row = Row { fp, why: why.to_owned(), since_ms: self.clock.now_ms() };
        rows.insert((collection, key.clone()), row);
        self.say(&rows);
    }

    /// The key holds something else now.
    pub(super) fn forget(&self, collection: CollectionNo, key: &Key) {
        let mut rows = self.rows.lock();
        if !rows.is_empty() && rows.remove(&(collection, key.clone())).is_some() {
            self.say(&rows);
        }
    }

    /// Why the content of a key was put aside, if it was.
    pub(super) fn why(&self, collection: CollectionNo, key: &Key, content: Fp) -> Option<String> {
        let rows = self.rows.lock();
        rows.get(&(collection, key.clone())).filter(|row| row.fp == content).map(|row| row.why.clone())
    }

    fn say(&self, rows: &HashMap<(CollectionNo, Key), Row>) {
        if let Some(progress) = &*self.told.lock() {
            progress.parked_are(rows.iter().map(|((_, key), row)| Parked {
                key: key.0.clone(),
                code: CODE.as_str(),
                why: row.why.clone(),
                since_ms: row.since_ms,
                // Only the row itself can be put right.
                lasting: true,
            }));
        }
    }
}

/// Under which code such rows are told.
pub(super) const CODE: Code = Code::ValueRefused;
