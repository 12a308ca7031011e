//! The log in one data directory, for one process: what driftless uses when no Kafka is configured.
//!
//! An append is answered when it is synced to the disk; batches of all partitions that wait at the
//! same time share one sync (`writer`). Batches are stored as blocks (`block`) in an LSM store
//! (`store`), read without copying (`reading`), deleted and compacted in the background (`chores`).
//! Damaged files are reported with their place. It does not replicate, and a group's members must
//! live in this process.

mod block;
mod chores;
mod journal;
mod reading;
mod store;
mod topics;
mod writer;

use super::single::Groups;
use super::{
    Appending, Assignment, Bounds, Cleanup, Committed, Log, Membership, Message, Partition, Raw, Reading, Session,
    TopicSpec,
};
use crate::event::Offset;
use crate::runtime::clock::Clock;
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use chores::Chores;
use futures_util::FutureExt;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use store::{Store, io_error};
use topics::Topics;
use writer::{Job, Queue};

/// How long a message without payload stays in a compacted topic, in milliseconds: a reader that
/// takes longer than this for one pass may miss that a key was removed.
const TOMBSTONES_MS: u64 = 24 * 60 * 60 * 1000;

/// The embedded log. Clones share it; it closes when the last clone, session, reader and member is gone.
#[derive(Clone)]
pub struct EmbeddedLog(Arc<Running>);

/// What the threads of the log share.
struct Core {
    clock: Arc<dyn Clock>,
    topics: Topics,
    queue: Queue,
    chores: Chores,
    groups: Groups,
    store: Store,
    /// Last: another process may open the log once the store is closed.
    _lock: File,
}

/// The log and its threads, which end when this is dropped.
struct Running {
    core: Arc<Core>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.core.chores.close();
        self.core.queue.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the embedded log ended by a panic");
            }
        }
    }
}

impl EmbeddedLog {
    /// Opens the log in `dir`, or creates it there. Fails with `log_locked` if it is open already.
    pub fn open(dir: &Path, clock: Arc<dyn Clock>) -> Result<Self> {
        let lock = lock(dir)?;
        let store = Store::open(dir)?;
        let topics = Topics::load(&store)?;
        let (queue, chores, groups) = (Queue::new(), Chores::new(), Groups::default());
        let core = Arc::new(Core { clock, topics, queue, chores, groups, store, _lock: lock });
        let mut running = Running { core: core.clone(), threads: Vec::new() };
        for (name, work) in [("log-writer", writer::run as fn(&Core)), ("log-chores", chores::run)] {
            let core = core.clone();
            let thread = std::thread::Builder::new().name(name.into()).spawn(move || work(&core));
            running.threads.push(thread.map_err(|e| io_error("a thread of the log could not be started", e))?);
        }
        core.chores.after_start(&core)?;
        Ok(EmbeddedLog(Arc::new(running)))
    }

    /// Compacts a topic now. Messages without payload that were taken before `tombstones_before_ms`
    /// go too. Blocks the thread.
    pub fn compact(&self, topic: &str, tombstones_before_ms: u64) -> Result<()> {
        let topic = self.core().topics.find(topic)?;
        if topic.spec.cleanup == Cleanup::Compact {
            for index in 0..topic.spec.partitions {
                chores::compact(self.core(), &topic, index, tombstones_before_ms)?;
            }
        }
        Ok(())
    }

    fn core(&self) -> &Core {
        &self.0.core
    }

    async fn do_job<T>(&self, make: impl FnOnce(writer::Answer<T>) -> Job) -> Result<T> {
        let (answer, outcome) = writer::answer();
        self.core().queue.push(make(answer), 0)?;
        outcome.await.unwrap_or_else(|_| Err(writer::ended()))
    }
}

/// Takes the lock of the directory. It is held as long as the file is open, and falls with the process.
fn lock(dir: &Path) -> Result<File> {
    let failed = |e| io_error("the log's directory could not be prepared", e).at("directory", dir.display());
    std::fs::create_dir_all(dir).map_err(failed)?;
    let path = dir.join("log.lock");
    let mut options = File::options();
    let mut file = options.read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::Error(e)) => return Err(failed(e)),
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            file.read_to_string(&mut owner).map_err(failed)?;
            let text = format!(
                "another process, {}, has the log open; stop it, or use another directory. Several nodes can share \
                 a log only in Kafka (`log: {{ type: kafka }}`)",
                owner.trim()
            );
            return Err(Error::new(Code::LogLocked, text).at("directory", dir.display()));
        }
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
    writeln!(file, "{}", std::process::id()).map_err(failed)?;
    for parent in dir.canonicalize().map_err(failed)?.ancestors().take(2) {
        File::open(parent).and_then(|d| d.sync_all()).map_err(failed)?;
    }
    Ok(file)
}

#[async_trait]
impl Log<Raw> for EmbeddedLog {
    async fn create(&self, spec: &TopicSpec) -> Result<()> {
        self.do_job(|answer| Job::Create(spec.clone(), answer)).await
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>> {
        Ok(self.core().topics.specs())
    }

    async fn remove(&self, topic: &str) -> Result<()> {
        self.do_job(|answer| Job::Remove(topic.to_string(), answer)).await
    }

    async fn session(&self) -> Result<Arc<dyn Session<Raw>>> {
        Ok(Arc::new(EmbeddedSession(self.clone())))
    }

    async fn read(&self, at: &Partition, from: Offset) -> Result<Box<dyn Reading<Raw>>> {
        let topic = self.core().topics.find_partition(at)?;
        Ok(Box::new(reading::EmbeddedReading::new(self.clone(), topic, at.clone(), from)))
    }

    async fn bounds(&self, at: &Partition) -> Result<Bounds> {
        let topic = self.core().topics.find_partition(at)?;
        Ok(topic.part(at.index)?.bounds())
    }

    async fn offset_at(&self, at: &Partition, time_ms: u64) -> Result<Option<Offset>> {
        let topic = self.core().topics.find_partition(at)?;
        reading::offset_at(self.core(), &topic, at, time_ms)
    }

    async fn delete_below(&self, at: &Partition, offset: Offset) -> Result<()> {
        let topic = self.core().topics.find_partition(at)?;
        self.do_job(|answer| Job::DeleteBelow(topic, at.index, offset, answer)).await
    }

    async fn join(&self, group: &str, topics: &[Arc<str>]) -> Result<Box<dyn Membership>> {
        let mut all = Vec::new();
        for name in topics {
            let count = self.core().topics.find(name).map_or(0, |t| t.spec.partitions);
            all.push((name.clone(), (0..count).map(|i| Partition::new(name.clone(), i)).collect()));
        }
        let member = self.core().groups.join(group, all);
        Ok(Box::new(EmbeddedMember { log: self.clone(), group: group.to_string(), member }))
    }
}

/// Sessions need no state: the writer's queue is first in, first out, and nothing is sent twice.
struct EmbeddedSession(EmbeddedLog);

impl Session<Raw> for EmbeddedSession {
    fn append(&self, at: &Partition, messages: Vec<Message<Raw>>) -> Appending {
        let core = self.0.core();
        let given = core.topics.find_partition(at).and_then(|topic| writer::append(core, topic, at, &messages));
        match given {
            Err(error) => async move { Err(error) }.boxed(),
            Ok(outcome) => async move { outcome.await.unwrap_or_else(|_| Err(writer::ended())) }.boxed(),
        }
    }
}

struct EmbeddedMember {
    log: EmbeddedLog,
    group: String,
    member: super::single::Member,
}

#[async_trait]
impl Membership for EmbeddedMember {
    async fn next(&self) -> Result<Assignment> {
        Ok(self.member.next().await)
    }

    async fn released(&self, _partitions: &[Partition]) -> Result<()> {
        Ok(())
    }

    fn holds(&self, at: &Partition) -> bool {
        self.member.holds(at)
    }

    async fn committed(&self, at: &Partition) -> Result<Option<Committed>> {
        let core = self.log.core();
        let topic = core.topics.find_partition(at)?;
        writer::committed(&core.store, &topic, at.index, &self.group)
    }

    async fn commit(&self, at: &Partition, committed: Committed) -> Result<()> {
        let topic = self.log.core().topics.find_partition(at)?;
        let change = writer::commit_change(&topic, at.index, &self.group, &committed);
        self.log.do_job(|answer| Job::Edit(topic, vec![change], answer)).await
    }
}

#[cfg(test)]
mod tests;
