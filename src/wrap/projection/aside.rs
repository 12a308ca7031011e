//! Rows of a platform that are not carried into the dataset: which, how they look, and why. Kept in
//! memory and shared by the platform's reader and its sinks: the reader finds them, a sink that meets one
//! parks its version with the reason and does not overwrite it (who-2). What was known is lost with the
//! process; then the sink puts such a row into the log again (sink-8), and the reader says why once more.

use crate::connectors::contract::CollectionNo;
use crate::event::{Fp, Key};
use crate::runtime::progress::Progress;
use crate::runtime::telemetry::SYNC;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

/// How many are remembered; a row that is forgotten is found again when it is in the way.
const ROWS_MAX: usize = 100_000;

/// The rows put aside on one platform.
#[derive(Default)]
pub struct Aside {
    rows: Mutex<HashMap<(CollectionNo, Key), Row>>,
    told: Mutex<Option<Arc<Progress>>>,
}

struct Row {
    fp: Fp,
    key: String,
    why: String,
}

impl Aside {
    /// Where it is told how many there are.
    pub fn tell(&self, progress: Arc<Progress>) {
        *self.told.lock() = Some(progress);
    }

    /// Puts a row aside.
    pub(super) fn put(&self, collection: CollectionNo, key: &Key, shown: String, fp: Fp, why: String) {
        let mut rows = self.rows.lock();
        let known = rows.get(&(collection, key.clone())).is_some_and(|row| row.fp == fp);
        if known {
            return;
        }
        tracing::warn!(target: SYNC, key = shown, why, "a change is not carried over; its row stays as it is");
        if rows.len() >= ROWS_MAX {
            rows.clear();
        }
        rows.insert((collection, key.clone()), Row { fp, key: shown, why });
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
            progress.put_aside(rows.values().map(|row| (row.key.clone(), row.why.clone())).collect());
        }
    }
}
