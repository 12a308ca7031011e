//! A directory as a store: read one key as one snapshot with its witness, write it under the
//! condition that nothing unseen stands there, fence older owners, list and hint.
//! Every call that touches files runs on a thread for blocking work. A call that was dropped still
//! ends; whoever looks at the same key meanwhile waits for it.

use super::client::present;
use super::config::Config;
use super::failure::too_large;
use super::reader::{Walk, Watch};
use super::values::Layout;
use super::wire::files::{Dir, Found, Stamp, token};
use super::wire::folders::Folders;
use super::wire::stage::{self, Entry, State, Step};
use crate::connectors::contract::{
    CollectionNo, Content, Displaced, Hints, Landed, Observed, Outcome, Owned, Page, Store,
};
use crate::event::{Canonical, Fp, Intent, Key, Row, Schema, Token};
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

/// How long a file may go on changing before the read is given up for now.
const UNQUIET_MAX_MS: u64 = 5_000;
/// How long the witness of a fenced owner's last writes is kept.
const WITNESS_MS: u64 = 7 * 24 * 3_600_000;
/// Locks for keys: reading with a witness and writing exclude each other per key.
const STRIPES: usize = 64;

/// A directory opened for one dataset. Cheap to clone.
#[derive(Clone)]
pub(super) struct Directory(Arc<Inner>);

struct Inner {
    config: Config,
    dataset: String,
    layouts: Arc<Vec<Layout>>,
    clock: SystemClock,
    stripes: Vec<Mutex<()>>,
    kept: Mutex<HashMap<Owned, VecDeque<Kept>>>,
    walks: Vec<Mutex<Option<Walk>>>,
    watch: Watch,
    hook: Mutex<Arc<dyn Fn(Step) -> Result<()> + Send + Sync>>,
}

/// An entry whose content is kept for writers that still have it open.
struct Kept {
    entry: Entry,
    until_ms: u64,
}

/// One look at a key.
enum Look {
    Seen(Observed),
    /// It is being written to; the state seen, and since when it is known to be so.
    Unquiet(Option<(Stamp, u64)>),
}

impl Directory {
    /// A directory that was prepared by `client`.
    pub(super) fn new(config: Config, dataset: &str, layouts: Vec<Layout>) -> Directory {
        let layouts = Arc::new(layouts);
        Directory(Arc::new(Inner {
            watch: Watch::new(config.root.clone(), layouts.clone()),
            walks: layouts.iter().map(|_| Mutex::new(None)).collect(),
            config,
            dataset: dataset.to_owned(),
            layouts,
            clock: SystemClock,
            stripes: (0..STRIPES).map(|_| Mutex::new(())).collect(),
            kept: Mutex::default(),
            hook: Mutex::new(Arc::new(|_| Ok(()))),
        }))
    }

    /// Calls `hook` at each step of a write from now on, so that tests can stop or disturb there.
    #[cfg(test)]
    pub(super) fn at_each_step(&self, hook: impl Fn(Step) -> Result<()> + Send + Sync + 'static) {
        *self.0.hook.lock() = Arc::new(hook);
    }

    async fn blocking<T: Send + 'static>(&self, work: impl FnOnce(&Inner) -> Result<T> + Send + 'static) -> Result<T> {
        let inner = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|e| Err(Error::new(Code::Unexpected, "work on the directory was cut off").caused_by(e)))
    }
}

impl Inner {
    fn root(&self) -> Result<Dir> {
        Dir::root(&self.config.root)
    }

    fn layout(&self, collection: CollectionNo) -> Result<&Layout> {
        let missing = || Error::new(Code::Unexpected, "no such collection").at("collection", collection);
        self.layouts.get(usize::from(collection)).ok_or_else(missing)
    }

    fn stripe(&self, path: &str) -> &Mutex<()> {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        let at = usize::try_from(hasher.finish() % STRIPES as u64).unwrap_or(0);
        self.stripes.get(at).unwrap_or(&self.stripes[0])
    }

    fn folders(&self, at: Owned) -> Result<Folders> {
        Ok(Folders::new(&self.dataset, &self.layout(at.collection)?.name, at.partition, at.epoch))
    }

    /// The witness (correctness.md §3.5). No trace means that it was never sent: an entry is forgotten
    /// only when a later write of the same owner shows that its outcome is recorded.
    fn landed(&self, root: &Dir, at: Owned, iid: u64) -> Result<Landed> {
        let Some(mut entry) = self.folders(at)?.find(root, iid)? else { return Ok(Landed::No) };
        let state = entry.resolve(root, &|step| self.step(step))?;
        Ok(if state.landed() { Landed::Yes } else { Landed::No })
    }

    fn step(&self, step: Step) -> Result<()> {
        let hook = self.hook.lock().clone();
        hook(step)
    }

    /// Two equal looks with the witness between them: content, token and witness are one snapshot.
    fn look(
        &self,
        at: Owned,
        key: &Key,
        path: &str,
        intent: Option<u64>,
        settled: Option<(Stamp, u64)>,
    ) -> Result<Look> {
        let _alone = self.stripe(path).lock();
        let root = self.root()?;
        let first = root.look(path, self.config.file_bytes_max)?;
        let landed = match intent {
            Some(iid) => self.landed(&root, at, iid)?,
            None => Landed::Unknown,
        };
        let second = root.look(path, self.config.file_bytes_max)?;
        // Neighbours come and go: of an absent file only its absence is compared.
        let (state, stamp) = match (&first, &second) {
            (Found::Absent(_), Found::Absent(directory)) => (Stamp::default(), *directory),
            (Found::File(_, stamp) | Found::Odd(_, stamp), _) if first == second => (*stamp, *stamp),
            _ => return Ok(Look::Unquiet(None)),
        };
        let (now_ms, quiet_ms) = (self.clock.now_ms(), self.config.quiet_ms);
        let since_ms = settled.filter(|(seen, _)| *seen == state).map_or(now_ms, |s| s.1);
        // A time of the future says nothing; then only what was seen here counts.
        let since_ms = if stamp.modified_ms <= now_ms { since_ms.min(stamp.modified_ms) } else { since_ms };
        if now_ms < since_ms + quiet_ms {
            return Ok(Look::Unquiet(Some((state, since_ms)))); // agent-6
        }
        if let Found::Absent(_) = first {
            present(&root)?; // agent-7: nothing is absent in a directory that is not there.
        }
        Ok(Look::Seen(self.observed(at.collection, key, first, landed)?))
    }

    fn observed(&self, collection: CollectionNo, key: &Key, found: Found, landed: Landed) -> Result<Observed> {
        let token = found.token();
        Ok(match found {
            Found::Absent(_) => Observed { content: Content::Absent, fp: Fp::ABSENT, token, time_ms: 0, landed },
            Found::Odd(what, stamp) => Observed {
                fp: Fp::of_bytes(what.as_bytes()),
                token,
                content: Content::Undecodable(what),
                time_ms: stamp.modified_ms,
                landed,
            },
            Found::File(bytes, stamp) => {
                let (content, fp) = self.decoded(collection, key, &bytes)?;
                Observed { content, fp, token, time_ms: stamp.modified_ms, landed }
            }
        })
    }

    fn decoded(&self, collection: CollectionNo, key: &Key, bytes: &[u8]) -> Result<(Content, Fp)> {
        let layout = self.layout(collection)?;
        Ok(match layout.decode(key, bytes) {
            Ok(row) => {
                let fp = layout.fp(&row);
                (Content::Row(Arc::new(row)), fp)
            }
            Err(reason) => (Content::Undecodable(format!("file_undecodable: {reason}")), Fp::of_bytes(bytes)),
        })
    }

    fn cas(&self, at: Owned, path: &str, content: Option<&[u8]>, iid: u64, expect: Option<&Token>) -> Result<Outcome> {
        let _alone = self.stripe(path).lock();
        let root = self.root()?;
        present(&root)?;
        self.forget_kept(&root, at)?;
        let new = content.map(token);
        // Nothing to change: the condition alone is asked. An exchange could not be told from none.
        if new.as_ref() == expect {
            let holds = root.token_at(path)?.as_ref() == expect;
            return Ok(if holds { Outcome::Done(new) } else { Outcome::Mismatch });
        }
        let write = stage::Write { folder: &self.folders(at)?.own(), iid, path, content, expect };
        let entry = match stage::write(&root, &write, &|step| self.step(step)) {
            Ok(entry) => entry,
            Err(e) if matches!(e.code, Code::PathEscapes | Code::KeyTooLong) => {
                return Ok(Outcome::Refused(e.to_string()));
            }
            Err(e) => return Err(e),
        };
        let landed = entry.state.landed();
        if entry.state != State::Aside {
            self.keep(at, entry);
        }
        Ok(if landed { Outcome::Done(new) } else { Outcome::Mismatch })
    }

    fn keep(&self, at: Owned, entry: Entry) {
        let until_ms = self.clock.now_ms() + self.config.grace_ms;
        self.kept.lock().entry(at).or_default().push_back(Kept { entry, until_ms });
    }

    /// Looks again at contents whose time is over. Only called when the owner sends a new write: the
    /// intent of that is valid in the log, hence so are the outcomes it recorded before.
    fn forget_kept(&self, root: &Dir, at: Owned) -> Result<()> {
        let now_ms = self.clock.now_ms();
        loop {
            let due = {
                let mut kept = self.kept.lock();
                let queue = kept.entry(at).or_default();
                if queue.front().is_none_or(|k| k.until_ms > now_ms) {
                    return Ok(());
                }
                queue.pop_front()
            };
            let Some(Kept { mut entry, .. }) = due else { return Ok(()) };
            if Entry::find(root, &entry.folder, entry.iid)?.as_ref() != Some(&entry) {
                continue; // Not ours any more.
            }
            let own = entry.folder == self.folders(at)?.own(); // The witness of an older owner is still needed.
            entry.finish(root, own)?;
        }
    }

    /// agent-1: older stage folders are renamed, so that an exchange out of them finds nothing; then
    /// what landed is looked at, and what was left half done is finished.
    fn fence(&self, at: Owned) -> Result<()> {
        let root = self.root()?;
        present(&root)?;
        self.folders(at)?.fence(&root)?.iter().try_for_each(|folder| self.recover(&root, at, folder))
    }

    fn recover(&self, root: &Dir, at: Owned, folder: &str) -> Result<()> {
        let (entries, unsent) = Entry::all(root, folder)?;
        unsent.iter().try_for_each(|content| root.remove(content))?;
        let mut left = false;
        for mut entry in entries {
            let path = entry.read(root)?.map(|n| n.path).unwrap_or_default();
            let _alone = self.stripe(&path).lock();
            entry.resolve(root, &|step| self.step(step))?;
            left = true;
            let written_ms = root.kind(&entry.note())?.map(|(_, s)| s.modified_ms);
            if written_ms.is_some_and(|t| t + WITNESS_MS < self.clock.now_ms()) {
                entry.finish(root, true)?;
            } else if matches!(entry.state, State::Done | State::Back) {
                self.keep(at, entry);
            }
        }
        root.sync(folder)?;
        if left { Ok(()) } else { root.remove_dir(folder) }
    }

    fn displaced(&self, at: Owned) -> Result<Vec<Displaced>> {
        let root = self.root()?;
        let mut found = Vec::new();
        for entry in self.folders(at)?.waiting(&root)? {
            let Some(note) = entry.read(&root)? else { continue };
            let Some(key) = self.layout(at.collection)?.key(&note.path) else { continue };
            let look = root.look(&entry.content(), self.config.file_bytes_max)?;
            let seen = self.observed(at.collection, &key, look, Landed::Unknown)?;
            let quiet = seen.time_ms + self.config.quiet_ms <= self.clock.now_ms();
            if let (Some(token), true) = (seen.token, quiet) {
                let (content, fp, time_ms) = (seen.content, seen.fp, seen.time_ms);
                found.push(Displaced { iid: entry.iid, key, content, fp, token, time_ms });
            }
        }
        Ok(found)
    }

    fn settle(&self, at: Owned, iid: u64, reported: &Token) -> Result<()> {
        let root = self.root()?;
        let Some(entry) = self.folders(at)?.find(&root, iid)? else { return Ok(()) };
        let is_waiting = matches!(entry.state, State::Aside | State::Late);
        if is_waiting && root.look(&entry.content(), self.config.file_bytes_max)?.token().as_ref() == Some(reported) {
            root.remove(&entry.content())?; // The note stays: it is the witness.
            root.sync(&entry.folder)?;
        }
        Ok(())
    }
}

#[async_trait]
impl Store for Directory {
    fn norm(&self, collection: CollectionNo, version: &Canonical) -> Result<Fp> {
        let layout = self.0.layout(collection)?;
        layout.path(&version.key)?;
        version.after.as_ref().map_or(Ok(Fp::ABSENT), |row| layout.norm(&version.key, row))
    }

    async fn know(&self, collection: CollectionNo, schema: &Arc<Schema>) -> Result<()> {
        self.0.layout(collection)?.know(schema)
    }

    async fn read(&self, at: Owned, key: &Key, intent: Option<&Intent>) -> Result<Observed> {
        let path = self.0.layout(at.collection)?.path(key)?;
        let iid = intent.map(|i| i.iid);
        let began_ms = self.0.clock.now_ms();
        let mut settled: Option<(Stamp, u64)> = None;
        loop {
            let (wanted, file, since) = (key.clone(), path.clone(), settled);
            let look = self.blocking(move |inner| inner.look(at, &wanted, &file, iid, since)).await?;
            let now_ms = self.0.clock.now_ms();
            settled = match look {
                Look::Seen(observed) => return Ok(observed),
                Look::Unquiet(state) => state,
            };
            if now_ms > began_ms + UNQUIET_MAX_MS {
                return Err(Error::new(Code::StoreBusy, "a file is being written to all the time").at("path", path));
            }
            let ready_ms = settled.map_or(now_ms + 20, |(_, since_ms)| since_ms + self.0.config.quiet_ms);
            self.0.clock.sleep_until(ready_ms).await;
        }
    }

    async fn cas(&self, at: Owned, key: &Key, row: Option<&Row>, intent: &Intent) -> Result<Outcome> {
        if self.0.clock.now_ms() > intent.exp_ms {
            return Ok(Outcome::Mismatch); // Not sent.
        }
        let layout = self.0.layout(at.collection)?;
        let prepared = layout.path(key).and_then(|path| Ok((path, row.map(|row| layout.encode(row)).transpose()?)));
        let (path, content) = match prepared {
            Ok(prepared) => prepared,
            Err(e) => return Ok(Outcome::Refused(e.to_string())),
        };
        if content.as_ref().is_some_and(|c| c.len() as u64 > self.0.config.file_bytes_max) {
            return Ok(Outcome::Refused(too_large(self.0.config.file_bytes_max)));
        }
        let (iid, expect) = (intent.iid, intent.expect.clone());
        self.blocking(move |inner| inner.cas(at, &path, content.as_deref(), iid, expect.as_ref())).await
    }

    async fn displaced(&self, at: Owned) -> Result<Vec<Displaced>> {
        self.blocking(move |inner| inner.displaced(at)).await
    }

    async fn settle(&self, at: Owned, displaced: &Displaced) -> Result<()> {
        let (iid, token) = (displaced.iid, displaced.token.clone());
        self.blocking(move |inner| inner.settle(at, iid, &token)).await
    }

    async fn list(&self, collection: CollectionNo, after: Option<&Key>, limit: usize) -> Result<Page> {
        let after = after.map(|key| self.0.layout(collection)?.path(key)).transpose()?;
        self.blocking(move |inner| {
            let root = inner.root()?;
            present(&root)?;
            let layout = inner.layout(collection)?;
            let mut kept = match inner.walks.get(usize::from(collection)) {
                Some(walk) => walk.lock(),
                None => return Ok(Page::default()),
            };
            // The place in the tree is kept between pages; a listing from elsewhere finds its own.
            let mut walk = match kept.take() {
                Some(walk) if after.is_some() && walk.stands_behind() == after.as_deref() => walk,
                _ => Walk::behind(&root, layout, after.as_deref())?,
            };
            let page = walk.page(&root, layout, limit.max(1))?;
            present(&root)?; // agent-7: it may have been unmounted meanwhile.
            *kept = Some(walk).filter(|_| !page.last);
            Ok(page)
        })
        .await
    }

    async fn hints(&self, collection: CollectionNo) -> Result<Hints> {
        self.0.watch.hints(collection, &self.0.clock).await
    }

    async fn fence(&self, collection: CollectionNo, partition: u32, epoch: u64) -> Result<u64> {
        self.blocking(move |inner| inner.fence(Owned { collection, partition, epoch })).await?;
        Ok(self.now_ms())
    }

    fn now_ms(&self) -> u64 {
        self.0.clock.now_ms()
    }

    async fn present(&self) -> Result<()> {
        self.blocking(|inner| present(&inner.root()?)).await
    }
}
