//! The directory as a platform: what it must be able to do, how it is prepared, how it is left.
//! Everything of ours lies in `.driftless` below the root; the records' files stay when it goes.

use super::config::Config;
use super::failure::failed;
use super::store::Directory;
use super::values::Layout;
use super::wire::files::{Dir, Found};
use super::wire::stage::{Entry, HOME, State};
use crate::connectors::contract::{Connector, Finding, Opened, Place, Scope};
use crate::event::Schema;
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use rustix::fs::FileType;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Its presence tells the directory from an empty mount point (agent-7).
const MARKER: &str = ".driftless/marker";
const MARKER_TEXT: &str = "This file tells driftless that the directory is mounted. Do not remove it.\n";
/// Where the home is made before it takes its place.
const UNFINISHED: &str = ".driftless-new";
/// Where it is tried out what the file system can do: behind this a number of its own, because
/// `doctor` and a node may try at the same time.
const PROBE: &str = ".driftless/probe";
/// The same while there is no home yet: it must come whole, with its marker.
const PROBE_OUTSIDE: &str = ".driftless-probe";
/// How far the file system's clock may be from ours.
const CLOCK_MAX_MS: u64 = 2_000;

/// Checks the settings and makes the platform; no I/O.
pub(super) fn open(settings: serde_json::Value, platform: &str) -> Result<Box<dyn Connector>> {
    Ok(Box::new(Platform { config: Config::checked(settings, platform)? }))
}

/// A configured directory.
struct Platform {
    config: Config,
}

/// Fails if the marker is not there.
pub(super) fn present(root: &Dir) -> Result<()> {
    match root.kind(MARKER)? {
        Some((FileType::RegularFile, _)) => Ok(()),
        _ => Err(Error::new(
            Code::MarkerMissing,
            "the directory has lost its marker: is it mounted? If it was emptied on purpose, remove the platform and add it again",
        )
        .at("path", MARKER)),
    }
}

fn layouts(scope: &Scope) -> Result<Vec<Layout>> {
    scope.collections.iter().map(Layout::new).collect()
}

/// Whether the file system can exchange two files, tells case apart, and what time it thinks it is.
struct Probe {
    exchanges: std::result::Result<(), String>,
    tells_case: bool,
    clock_off_ms: u64,
}

fn probe(root: &Dir, below: &str) -> Result<Probe> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let folder = format!("{below}-{}-{}", std::process::id(), COUNT.fetch_add(1, Relaxed));
    root.make_dirs(&folder)?;
    let file = |name: &str| format!("{folder}/{name}");
    let (one, two, moved, upper) = (file("one"), file("two"), file("three"), file("ONE"));
    [&one, &two, &moved].into_iter().try_for_each(|f| root.remove(f))?;
    root.create(&one, b"1", None)?;
    root.create(&two, b"2", None)?;
    let now_ms = SystemClock.now_ms();
    let clock_off_ms = root.kind(&one)?.map_or(0, |(_, stamp)| stamp.modified_ms.abs_diff(now_ms));
    let tells_case = root.kind(&upper)?.is_none();
    let before = (root.token_at(&one)?, root.token_at(&two)?);
    let exchanged = root.exchange(&one, &two).and_then(|()| root.put(&one, &moved));
    let after = (root.token_at(&moved)?, root.token_at(&two)?);
    let exchanges = match exchanged {
        Err(e) => Err(format!("{}", std::io::Error::from(e))),
        Ok(()) if (after.1, after.0) == before => Ok(()),
        Ok(()) => Err("it says it did, and did not".into()),
    };
    [&one, &two, &moved].into_iter().try_for_each(|f| root.remove(f))?;
    root.remove_dir(&folder)?;
    Ok(Probe { exchanges, tells_case, clock_off_ms })
}

fn refused(probe: &Probe) -> Option<Error> {
    if let Err(reason) = &probe.exchanges {
        let text = format!(
            "the file system cannot exchange two files ({reason}), so that an edit could be overwritten unseen: use ext4, xfs, btrfs or tmpfs"
        );
        return Some(Error::new(Code::ConfigUnsupported, text));
    }
    (!probe.tells_case).then(|| {
        Error::new(Code::KeyCollision, "the file system does not tell upper from lower case, so that two keys could have one file: use one that does")
    })
}

impl Platform {
    fn prepare(&self, scope: &Scope, first: bool) -> Result<Directory> {
        let layouts = layouts(scope)?;
        let root = Dir::root(&self.config.root)?;
        // A home without its marker is not taken for a new one (agent-7).
        if first && root.kind(HOME)?.is_none() {
            // It comes whole or not at all: one without its marker would never be opened again.
            let (text, marker) = (MARKER_TEXT.as_bytes(), format!("{UNFINISHED}/marker"));
            root.make_dirs(UNFINISHED)?;
            root.remove(&marker)?;
            root.create(&marker, text, None)?;
            root.sync(UNFINISHED)?;
            match root.put(UNFINISHED, HOME) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => root.sync("")?,
                Err(e) => return Err(failed(e, "make the directory for driftless' own files", HOME)),
            }
        }
        present(&root)?;
        match refused(&probe(&root, PROBE)?) {
            None => Ok(Directory::new(self.config.clone(), &scope.dataset, layouts)),
            Some(error) => Err(error.at("root", self.config.root.display())),
        }
    }

    fn findings(&self, scope: Option<&Scope>) -> Result<Vec<Finding>> {
        let finding = |error: &Error, fatal| Finding { code: error.code.as_str(), fatal, text: error.to_string() };
        let mut found = Vec::new();
        for place in scope.map(|s| s.collections.as_slice()).unwrap_or_default() {
            found.extend(Layout::new(place).err().map(|e| finding(&e, true)));
        }
        let root = match Dir::root(&self.config.root) {
            Ok(root) => root,
            Err(e) => return Ok(vec![finding(&e, true)]),
        };
        let is_new = root.kind(HOME)?.is_none();
        if !is_new {
            found.extend(present(&root).err().map(|e| finding(&e, true)));
        }
        let probe = match probe(&root, if is_new { PROBE_OUTSIDE } else { PROBE }) {
            Ok(probe) => probe,
            Err(e) => {
                found.push(finding(&e, true));
                return Ok(found);
            }
        };
        found.extend(refused(&probe).map(|e| finding(&e, true)));
        if probe.clock_off_ms > CLOCK_MAX_MS {
            let text = format!(
                "the file system's clock is {} ms away from this machine's: times of edits are wrong by as much, those of the \
                 future are taken as now; set both by NTP",
                probe.clock_off_ms
            );
            found.push(Finding { code: Code::ClockSuspect.as_str(), fatal: false, text });
        }
        Ok(found)
    }

    /// Ties the dataset to a log: a directory keeps no ledger of its own that would show another one.
    fn bind(&self, dataset: &str, log: u128) -> Result<()> {
        let root = Dir::root(&self.config.root)?;
        let (file, text) = (log_file(dataset), format!("{log:032x}\n"));
        match root.look(&file, 1024)? {
            Found::Absent(_) => {
                root.create(&file, text.as_bytes(), None)?;
                root.sync(HOME)
            }
            Found::File(known, _) if *known == *text.as_bytes() => Ok(()),
            _ => {
                let what = "the directory was kept the same by another log: that log was lost, replaced or restored. Bring it \
                            back, or run `driftless remove` for the dataset and start again: all platforms are then compared \
                            anew";
                Err(Error::new(Code::LogLost, what).at("root", self.config.root.display()).at("file", file))
            }
        }
    }

    /// Removes what can be shown to hold nothing of the application's.
    fn clear(&self, dataset: &str) -> Result<Vec<Finding>> {
        let root = Dir::root(&self.config.root)?;
        let mut left = Vec::new();
        for below in [format!("{HOME}/stage"), format!("{HOME}/old")] {
            for folder in subfolders(&root, &below)? {
                let of_dataset =
                    folder.strip_prefix(&format!("{below}/")).is_some_and(|n| n.starts_with(&format!("{dataset}.")));
                if !of_dataset {
                    continue;
                }
                left.extend(clear_folder(&root, &folder)?);
            }
        }
        if left.is_empty() {
            root.remove(&log_file(dataset))?;
        }
        let others =
            subfolders(&root, &format!("{HOME}/stage"))?.len() + subfolders(&root, &format!("{HOME}/old"))?.len();
        let tied = subfolders(&root, HOME)?.iter().filter(|name| name.starts_with(&log_file(""))).count();
        if left.is_empty() && others + tied == 0 {
            // What an interrupted trial left.
            for folder in subfolders(&root, HOME)?.iter().filter(|folder| folder.starts_with(PROBE)) {
                subfolders(&root, folder)?.iter().try_for_each(|file| root.remove(file))?;
                root.remove_dir(folder)?;
            }
            for folder in ["stage", "old"] {
                root.remove_dir(&format!("{HOME}/{folder}"))?;
            }
            root.remove(MARKER)?;
            root.remove_dir(HOME)?;
        }
        Ok(left)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Platform) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let platform = Platform { config: self.config.clone() };
        let done = tokio::task::spawn_blocking(move || work(&platform)).await;
        done.unwrap_or_else(|e| Err(Error::new(Code::Unexpected, "work on the directory was cut off").caused_by(e)))
    }
}

/// Which log keeps the dataset the same here.
fn log_file(dataset: &str) -> String {
    format!("{HOME}/log.{dataset}")
}

fn subfolders(root: &Dir, path: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    root.names(path, |name, _| found.push(format!("{path}/{}", String::from_utf8_lossy(name))))?;
    Ok(found)
}

fn clear_folder(root: &Dir, folder: &str) -> Result<Vec<Finding>> {
    let mut left = Vec::new();
    let (entries, unsent) = Entry::all(root, folder)?;
    unsent.iter().try_for_each(|content| root.remove(content))?;
    for mut entry in entries {
        entry.resolve(root, &|_| Ok(()))?;
        let note = entry.read(root)?;
        let untouched = note.as_ref().map_or(Ok(true), |note| entry.untouched(root, note))?;
        let reported = matches!(entry.state, State::Aside | State::Late) && root.kind(&entry.content())?.is_some();
        if untouched && !reported {
            entry.forget(root)?;
        } else {
            let path = note.map(|n| n.path).unwrap_or_default();
            let text = format!(
                "{} holds an edit of {path} that was never taken over: save it, then remove the file",
                entry.content()
            );
            left.push(Finding { code: "displaced", fatal: false, text });
        }
    }
    if left.is_empty() {
        root.remove_dir(folder)?;
    }
    Ok(left)
}

#[async_trait]
impl Connector for Platform {
    async fn check(&self, scope: Option<&Scope>) -> Result<Vec<Finding>> {
        let scope = scope.cloned();
        self.blocking(move |platform| platform.findings(scope.as_ref())).await
    }

    /// A directory has none: the configuration or another platform gives it.
    async fn schema(&self, _place: &Place) -> Result<Option<Schema>> {
        Ok(None)
    }

    async fn open(&self, scope: &Scope) -> Result<Opened> {
        let scope = scope.clone();
        self.blocking(move |platform| platform.prepare(&scope, true)).await.map(|store| Opened::Hint(Arc::new(store)))
    }

    async fn reopen(&self, scope: &Scope) -> Result<Opened> {
        let scope = scope.clone();
        self.blocking(move |platform| platform.prepare(&scope, false)).await.map(|store| Opened::Hint(Arc::new(store)))
    }

    async fn bind(&self, scope: &Scope, log: u128) -> Result<()> {
        let dataset = scope.dataset.clone();
        self.blocking(move |platform| platform.bind(&dataset, log)).await
    }

    async fn remove(&self, scope: &Scope) -> Result<Vec<Finding>> {
        let dataset = scope.dataset.clone();
        self.blocking(move |platform| platform.clear(&dataset)).await
    }
}
