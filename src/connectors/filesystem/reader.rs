//! Which keys to look at: a listing in sorted order with bounded memory, and hints from the kernel.
//! Hints may be lost; then a rescan is asked for. Links are not followed.

use super::failure::failed_io;
use super::values::Layout;
use super::wire::files::Dir;
use super::wire::stage::HOME;
use crate::connectors::contract::{CollectionNo, Hints, Page};
use crate::event::Key;
use crate::runtime::clock::Clock;
use crate::runtime::error::{Code, Error, Result};
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use rustix::fs::FileType;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use unicode_normalization::UnicodeNormalization;

/// How many names of one directory are held in memory; a larger one is read several times.
const NAMES_MAX: usize = 32_768;
/// How many oddities a page tells.
const ODD_MAX: usize = 100;
/// How many keys wait to be asked for before a rescan is cheaper.
const HINTS_MAX: usize = 100_000;
/// How long after a directory has appeared it is listed: by then it is watched.
const SETTLE_MS: u64 = 500;
/// How often a rescan is asked for if the kernel gives no hints.
const BLIND_MS: u64 = 30_000;

/// A place in the tree of a collection.
pub(super) struct Walk {
    frames: Vec<Frame>,
    behind: Option<String>,
    odd: Vec<String>,
}

/// A directory on the way down.
struct Frame {
    path: String,
    depth: usize,
    names: VecDeque<(String, FileType)>,
    /// There are further names behind this one.
    more_behind: Option<String>,
}

impl Walk {
    /// Behind the file at `after`, or at the start.
    pub(super) fn behind(root: &Dir, layout: &Layout, after: Option<&str>) -> Result<Walk> {
        let mut walk = Walk { frames: Vec::new(), behind: after.map(str::to_owned), odd: Vec::new() };
        let names: Vec<&str> = after.map(|a| a.split('/').collect()).unwrap_or_default();
        let mut path = String::new();
        for depth in 0..names.len().max(1) {
            let frame = walk.enter(root, layout, &path, depth, names.get(depth).copied())?;
            walk.frames.push(frame);
            path = join(&path, names.get(depth).copied().unwrap_or_default());
        }
        Ok(walk)
    }

    /// The file returned last.
    pub(super) fn stands_behind(&self) -> Option<&str> {
        self.behind.as_deref()
    }

    /// The next keys.
    pub(super) fn page(&mut self, root: &Dir, layout: &Layout, limit: usize) -> Result<Page> {
        let mut keys = Vec::new();
        while keys.len() < limit {
            let Some(frame) = self.frames.last_mut() else { break };
            let Some((name, kind)) = frame.names.pop_front() else {
                let Some(done) = self.frames.pop() else { break };
                if let Some(last) = done.more_behind {
                    let next = self.enter(root, layout, &done.path, done.depth, Some(&last))?;
                    self.frames.push(next);
                }
                continue;
            };
            let (path, depth) = (join(&frame.path, &name), frame.depth + 1);
            let leaf = depth == layout.template.depth();
            let kind = if kind == FileType::Unknown { root.kind(&path)?.map_or(kind, |k| k.0) } else { kind };
            match (kind, leaf) {
                (FileType::Directory, false) => {
                    let child = self.enter(root, layout, &path, depth, None)?;
                    self.frames.push(child);
                }
                (FileType::RegularFile, true) => match layout.key(&path) {
                    Some(key) => {
                        keys.push(key);
                        self.behind = Some(path);
                    }
                    None => self.note(format!("{path}: its name belongs to no key of collection {}", layout.name)),
                },
                (FileType::Unknown, _) => {} // Gone meanwhile.
                (FileType::Symlink, _) => self.note(format!("path_escapes: {path}: symbolic links are not followed")),
                (kind, _) => {
                    self.note(format!("{path}: {kind:?} where a {} belongs", if leaf { "file" } else { "directory" }))
                }
            }
        }
        let last = self.frames.is_empty();
        Ok(Page { keys, odd: std::mem::take(&mut self.odd), last })
    }

    fn note(&mut self, odd: String) {
        match self.odd.len() {
            n if n < ODD_MAX => self.odd.push(odd),
            ODD_MAX => self.odd.push("… and more".into()),
            _ => {}
        }
    }

    /// The names of a directory behind `after`, at most `NAMES_MAX` of them.
    fn enter(&mut self, root: &Dir, layout: &Layout, path: &str, depth: usize, after: Option<&str>) -> Result<Frame> {
        let mut frame = Frame { path: path.to_owned(), depth, names: VecDeque::new(), more_behind: None };
        if let Some(literal) = layout.template.literal(depth) {
            if after.is_none_or(|a| literal > a) && root.kind(&join(path, literal))?.is_some() {
                frame.names.push_back((literal.to_owned(), FileType::Unknown));
            }
            return Ok(frame);
        }
        let first_pass = after.is_none();
        let mut heap: BinaryHeap<(String, u8)> = BinaryHeap::new();
        let mut kinds: HashMap<String, FileType> = HashMap::new();
        let mut more = false;
        root.names(path, |bytes, kind| {
            let name = match std::str::from_utf8(bytes) {
                Ok(name) => name,
                Err(_) if first_pass => {
                    return self
                        .note(format!("{}: its name is not UTF-8", join(path, &bytes.escape_ascii().to_string())));
                }
                Err(_) => return,
            };
            if name == HOME || after.is_some_and(|a| name <= a) {
                return;
            }
            if !layout.template.admits(depth, name) {
                if first_pass {
                    self.note(format!(
                        "{}: its name belongs to no key of collection {}",
                        join(path, name),
                        layout.name
                    ));
                }
                return;
            }
            heap.push((name.to_owned(), 0));
            kinds.insert(name.to_owned(), kind);
            if heap.len() > NAMES_MAX {
                more = true;
                if let Some((largest, _)) = heap.pop() {
                    kinds.remove(&largest);
                }
            }
        })?;
        frame.names =
            heap.into_sorted_vec().into_iter().filter_map(|(n, _)| kinds.remove(&n).map(|k| (n, k))).collect();
        frame.more_behind = frame.names.back().filter(|_| more).map(|(name, _)| name.clone());
        self.note_alike(&frame);
        Ok(frame)
    }

    /// Names that another platform, or another file system, may take for the same (topic-4).
    fn note_alike(&mut self, frame: &Frame) {
        let mut seen: HashMap<String, &str> = HashMap::new();
        for (name, _) in &frame.names {
            let folded: String = name.nfc().flat_map(char::to_lowercase).collect();
            if let Some(other) = seen.insert(folded, name) {
                let odd = format!(
                    "key_collision: {} and {name} differ only in case or Unicode form",
                    join(&frame.path, other)
                );
                self.note(odd);
            }
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") }
}

/// The kernel's hints, for all collections of the directory.
pub(super) struct Watch {
    root: PathBuf,
    layouts: Arc<Vec<Layout>>,
    shared: Arc<Shared>,
    watcher: tokio::sync::Mutex<Option<RecommendedWatcher>>,
}

struct Shared {
    pending: Vec<Mutex<Pending>>,
    news: tokio::sync::Notify,
}

#[derive(Default)]
struct Pending {
    keys: HashSet<Key>,
    rescan: bool,
    /// Directories that have appeared, below the root, not listed yet.
    appeared: Vec<String>,
}

impl Watch {
    pub(super) fn new(root: PathBuf, layouts: Arc<Vec<Layout>>) -> Watch {
        let pending = layouts.iter().map(|_| Mutex::default()).collect();
        let shared = Arc::new(Shared { pending, news: tokio::sync::Notify::new() });
        Watch { root, layouts, shared, watcher: tokio::sync::Mutex::default() }
    }

    /// Waits for hints. Cancel-safe: what is taken is returned at once.
    pub(super) async fn hints(&self, collection: CollectionNo, clock: &dyn Clock) -> Result<Hints> {
        if self.start().await.is_err() {
            // Without a watch the periodic listing is all there is; `check` says so.
            clock.sleep_until(clock.now_ms() + BLIND_MS).await;
            return Ok(Hints { keys: Vec::new(), rescan: true });
        }
        let unknown = || Error::new(Code::Unexpected, "no such collection").at("collection", collection);
        let pending = self.shared.pending.get(usize::from(collection)).ok_or_else(unknown)?;
        loop {
            let news = self.shared.news.notified();
            tokio::pin!(news);
            news.as_mut().enable();
            let appeared = pending.lock().appeared.clone();
            if !appeared.is_empty() {
                clock.sleep_until(clock.now_ms() + SETTLE_MS).await;
                self.list_appeared(collection, appeared).await?;
            }
            {
                let mut pending = pending.lock();
                if pending.rescan || !pending.keys.is_empty() {
                    let rescan = std::mem::take(&mut pending.rescan);
                    return Ok(Hints { keys: pending.keys.drain().collect(), rescan });
                }
            }
            news.await;
        }
    }

    async fn start(&self) -> Result<()> {
        let mut watcher = self.watcher.lock().await;
        if watcher.is_some() {
            return Ok(());
        }
        let (root, layouts, shared) = (self.root.clone(), self.layouts.clone(), self.shared.clone());
        let started = tokio::task::spawn_blocking(move || watch(&root, layouts, shared)).await;
        let started =
            started.unwrap_or_else(|e| Err(Error::new(Code::Unexpected, "the watch was cut off").caused_by(e)))?;
        *watcher = Some(started);
        // What happened before the watch began is unknown.
        self.shared.pending.iter().for_each(|p| p.lock().rescan = true);
        Ok(())
    }

    /// Hints for files that came into new directories before these were watched.
    async fn list_appeared(&self, collection: CollectionNo, appeared: Vec<String>) -> Result<()> {
        let (root, layouts, shared) = (self.root.clone(), self.layouts.clone(), self.shared.clone());
        let work = move || -> Result<()> {
            let (Some(layout), Some(pending)) =
                (layouts.get(usize::from(collection)), shared.pending.get(usize::from(collection)))
            else {
                return Ok(());
            };
            let root = Dir::root(&root)?;
            let mut walk = Walk { frames: Vec::new(), behind: None, odd: Vec::new() };
            for path in &appeared {
                let frame = walk.enter(&root, layout, path, path.split('/').count(), None)?;
                walk.frames.push(frame);
            }
            let page = walk.page(&root, layout, HINTS_MAX)?;
            let mut pending = pending.lock();
            pending.rescan |= !page.last;
            pending.keys.extend(page.keys);
            pending.appeared.retain(|path| !appeared.contains(path));
            Ok(())
        };
        let done = tokio::task::spawn_blocking(work).await;
        done.unwrap_or_else(|e| Err(Error::new(Code::Unexpected, "listing was cut off").caused_by(e)))
    }
}

/// Begins to watch. The root is named as the kernel names it, so that events can be told apart.
fn watch(root: &Path, layouts: Arc<Vec<Layout>>, shared: Arc<Shared>) -> Result<RecommendedWatcher> {
    let real = root.canonicalize().map_err(|e| failed_io(&e, "watch the directory", &root.to_string_lossy()))?;
    let failed = |e: notify::Error| Error::new(Code::StoreBusy, "cannot watch the directory").caused_by(e);
    let base = real.clone();
    let on_event = move |event: notify::Result<Event>| {
        for (layout, pending) in layouts.iter().zip(&shared.pending) {
            take(layout, &mut pending.lock(), &base, event.as_ref().ok());
        }
        shared.news.notify_waiters();
    };
    let config = notify::Config::default().with_follow_symlinks(false);
    let mut watcher = RecommendedWatcher::new(on_event, config).map_err(failed)?;
    watcher.watch(&real, RecursiveMode::Recursive).map_err(failed)?;
    Ok(watcher)
}

/// Takes an event in; `None` stands for one that was lost.
fn take(layout: &Layout, pending: &mut Pending, base: &Path, event: Option<&Event>) {
    let Some(event) = event.filter(|e| !e.need_rescan()) else {
        pending.rescan = true;
        return;
    };
    if matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write)) {
        return;
    }
    for path in &event.paths {
        let Some(path) = path.strip_prefix(base).ok().and_then(Path::to_str) else { continue };
        if path.split('/').any(|name| name == HOME) {
            continue;
        }
        if let Some(key) = layout.key(path) {
            pending.keys.insert(key);
        } else if path.is_empty() || on_the_way(layout, path) {
            match event.kind {
                EventKind::Create(CreateKind::Folder) | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => {
                    pending.appeared.push(path.to_owned());
                }
                // Both ends were told one by one before.
                EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => {}
                // Its files went with it, without a word about each.
                EventKind::Modify(ModifyKind::Name(_)) => pending.rescan = true,
                EventKind::Remove(RemoveKind::Folder | RemoveKind::Other) if path.is_empty() => pending.rescan = true,
                _ => {}
            }
        }
    }
    if pending.keys.len() > HINTS_MAX {
        pending.keys.clear();
        pending.rescan = true;
    }
}

/// Whether keys' files may lie below `path`.
fn on_the_way(layout: &Layout, path: &str) -> bool {
    let mut names = path.split('/').enumerate();
    path.split('/').count() < layout.template.depth() && names.all(|(depth, name)| layout.template.admits(depth, name))
}
