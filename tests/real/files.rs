//! A directory, and the application that owns it: documents are replaced by exchange, so that what was
//! displaced is known for certain, and noted in a journal file afterwards.

use super::journal::Journal;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The directory `files` with what lies beside it.
pub(crate) struct Directory {
    folder: PathBuf,
    pub stop: AtomicBool,
    pub writes: AtomicU64,
}

impl Directory {
    pub(crate) fn new(folder: &Path) -> Directory {
        fs::create_dir(folder.join("files")).unwrap();
        Directory { folder: folder.into(), stop: AtomicBool::new(false), writes: AtomicU64::new(0) }
    }

    /// Writes until it is told to stop, about that many documents a second.
    pub(crate) fn write(&self, shared: u64, own_from: u64, rate: u64) {
        let mut journal = fs::File::create(self.folder.join("journal")).unwrap();
        while !self.stop.load(Relaxed) {
            let count = self.writes.load(Relaxed);
            // Steps that share no factor with the sizes visit every key.
            let id = if count.is_multiple_of(2) { 1 + (count / 2 * 5) % shared } else { own_from + (count * 7) % 200 };
            let token = format!("files-{count}");
            let displaced = self.replace(id, &token);
            writeln!(journal, "{}", json!([token, displaced])).unwrap();
            self.writes.fetch_add(1, Relaxed);
            std::thread::sleep(Duration::from_millis(1000 / rate));
        }
    }

    fn replace(&self, id: u64, token: &str) -> Option<String> {
        let (beside, at) = (self.folder.join("exchange"), self.folder.join(format!("files/{id}.json")));
        loop {
            fs::write(&beside, json!({"id": id, "text": token}).to_string()).unwrap();
            if renameat_with(CWD, &beside, CWD, &at, RenameFlags::NOREPLACE).is_ok() {
                return None;
            }
            if renameat_with(CWD, &beside, CWD, &at, RenameFlags::EXCHANGE).is_ok() {
                let found: Value = serde_json::from_slice(&fs::read(&beside).unwrap()).unwrap();
                return found["text"].as_str().map(ToOwned::to_owned);
            }
        }
    }

    pub(crate) fn journal(&self) -> Journal {
        let mut journal = Journal::default();
        for line in fs::read_to_string(self.folder.join("journal")).unwrap().lines() {
            let (token, displaced) = serde_json::from_str(line).unwrap();
            journal.note(token, displaced);
        }
        journal
    }

    pub(crate) fn rows(&self) -> BTreeMap<i64, String> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(self.folder.join("files")).unwrap().flatten() {
            let document = entry.path().extension().is_some_and(|e| e == "json").then(|| fs::read(entry.path()).ok());
            let value: Option<Value> = document.flatten().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            if let Some(value) = value {
                found.insert(value["id"].as_i64().unwrap(), value["text"].as_str().unwrap().to_owned());
            }
        }
        found
    }
}
