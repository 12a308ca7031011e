//! The one thread that writes. It takes all jobs that wait, makes them one group of changes, syncs the
//! group, and only then shows it to readers and answers: batches of all partitions share the sync.
//!
//! The queue is bounded: who appends faster than the disk takes it waits in `append`. After a failed
//! write nothing is known about what the disk holds, so the log takes no further writes (reads go
//! on); a restart finds out.

use super::Core;
use super::block::{Packed, pack};
use super::store::{
    Change, Changes, Space, Store, StoredTopic, Watermarks, encode, group_key, partition_key, store_error, topic_key,
};
use super::topics::Topic;
use crate::event::Offset;
use crate::runtime::error::{Code, Error, Result};
use crate::topic::{Committed, Message, Partition, Raw, TopicSpec};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What may wait in the queue, in bytes of packed batches.
const QUEUE_BYTES: usize = 32 << 20;
/// How many jobs may wait in the queue.
const QUEUE_JOBS: usize = 16 << 10;
/// What one group may hold, in bytes of packed batches; one job always fits.
const GROUP_BYTES: usize = 8 << 20;

/// Where a job's outcome goes.
pub(super) type Answer<T> = oneshot::Sender<Result<T>>;
/// Where a job's outcome comes from.
pub(super) type Outcome<T> = oneshot::Receiver<Result<T>>;

/// Something to write.
pub(super) enum Job {
    Append(Arc<Topic>, u32, Packed, Answer<Vec<Offset>>),
    Create(TopicSpec, Answer<()>),
    Remove(String, Answer<()>),
    DeleteBelow(Arc<Topic>, u32, Offset, Answer<()>),
    /// Changes that hold only while the topic exists.
    Edit(Arc<Topic>, Vec<Change>, Answer<()>),
    /// Changes that concern no topic that exists.
    Purge(Vec<Change>, Answer<()>),
}

impl Job {
    /// Whether later jobs must see its effect, so that it ends its group.
    fn ends_group(&self) -> bool {
        matches!(self, Job::Create(..) | Job::Remove(..))
    }
}

/// An answer and its outcome.
pub(super) fn answer<T>() -> (Answer<T>, Outcome<T>) {
    oneshot::channel()
}

/// The error of a job whose writer is gone.
pub(super) fn ended() -> Error {
    Error::new(Code::AppendUnknown, "the log was closed before it answered; the write may or may not have landed")
}

/// Jobs on their way to the writer.
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    drained: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<(Job, usize)>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    pub(super) fn new() -> Self {
        Queue { waiting: Mutex::default(), filled: Condvar::new(), drained: Condvar::new() }
    }

    /// Adds a job of `bytes`; waits while the queue is full.
    pub(super) fn push(&self, job: Job, bytes: usize) -> Result<()> {
        let mut waiting = self.waiting.lock();
        while !waiting.closed && waiting.is_full(bytes) {
            self.drained.wait(&mut waiting);
        }
        if waiting.closed {
            return Err(ended());
        }
        waiting.bytes += bytes;
        waiting.jobs.push_back((job, bytes));
        self.filled.notify_one();
        Ok(())
    }

    /// Takes no further jobs; those that wait are still done.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.filled.notify_all();
        self.drained.notify_all();
    }

    /// Waits for jobs and takes a group of them; `None` when the queue is closed and empty.
    fn take(&self) -> Option<Vec<Job>> {
        let mut waiting = self.waiting.lock();
        while waiting.jobs.is_empty() {
            if waiting.closed {
                return None;
            }
            self.filled.wait(&mut waiting);
        }
        let (mut jobs, mut taken) = (Vec::new(), 0);
        while let Some((job, bytes)) = waiting.jobs.pop_front() {
            taken += bytes;
            let ends = job.ends_group();
            jobs.push(job);
            if ends || taken >= GROUP_BYTES {
                break;
            }
        }
        waiting.bytes -= taken;
        self.drained.notify_all();
        Some(jobs)
    }
}

impl Waiting {
    fn is_full(&self, bytes: usize) -> bool {
        self.jobs.len() >= QUEUE_JOBS || (self.bytes > 0 && self.bytes + bytes > QUEUE_BYTES)
    }
}

/// Packs a batch and gives it to the writer.
pub(super) fn append(
    core: &Core,
    topic: Arc<Topic>,
    at: &Partition,
    messages: &[Message<Raw>],
) -> Result<Outcome<Vec<Offset>>> {
    let packed = pack(messages, topic.spec.compression).map_err(|e| e.at("partition", at))?;
    let bytes = packed.stored.len();
    let (answer, outcome) = answer();
    core.queue.push(Job::Append(topic, at.index, packed, answer), bytes)?;
    Ok(outcome)
}

/// Closes the queue when the writer ends, however it ends: nobody may wait for it in vain.
struct CloseOnExit<'a>(&'a Core);

impl Drop for CloseOnExit<'_> {
    fn drop(&mut self) {
        self.0.queue.close();
        self.0.queue.waiting.lock().jobs.clear();
    }
}

/// The writer's life.
pub(super) fn run(core: &Core) {
    let _close = CloseOnExit(core);
    let mut broken: Option<(Code, String)> = None;
    while let Some(jobs) = core.queue.take() {
        let mut group = Group::new(core);
        jobs.into_iter().for_each(|job| group.stage(job, broken.as_ref()));
        if let Err(error) = group.finish()
            && broken.is_none()
        {
            tracing::error!(%error, "the embedded log takes no further writes");
            broken = Some((error.code, error.doing));
        }
    }
}

/// What a change does to the memory once it is durable.
type Effect = Box<dyn FnOnce(&Core) + Send>;
/// What happens when a group's fate is known.
type Done = Box<dyn FnOnce(&Core, Result<()>) + Send>;
/// What a staged job will answer and do.
type Staged<T> = Result<(T, Effect)>;

/// A group of jobs that become durable together.
struct Group<'a> {
    core: &'a Core,
    changes: Changes,
    done: Vec<Done>,
    now_ms: u64,
}

impl<'a> Group<'a> {
    fn new(core: &'a Core) -> Self {
        Group { core, changes: Changes::default(), done: Vec::new(), now_ms: core.clock.now_ms() }
    }

    fn stage(&mut self, job: Job, broken: Option<&(Code, String)>) {
        let ready = broken.map_or(Ok(()), |(code, why)| Err(refused(*code, why)));
        match job {
            Job::Append(topic, index, packed, answer) => {
                let staged = ready.and_then(|()| self.append(topic, index, packed));
                self.keep(staged, answer);
            }
            Job::Create(spec, answer) => {
                let staged = ready.and_then(|()| self.create(spec));
                self.keep(staged, answer);
            }
            Job::Remove(topic, answer) => {
                let staged = ready.and_then(|()| self.remove(&topic));
                self.keep(staged, answer);
            }
            Job::DeleteBelow(topic, index, offset, answer) => {
                let staged = ready.and_then(|()| self.delete_below(topic, index, offset));
                self.keep(staged, answer);
            }
            Job::Edit(topic, changes, answer) => {
                let staged = ready.and_then(|()| exists(&topic)).and_then(|()| self.edit(changes));
                self.keep(staged, answer);
            }
            Job::Purge(changes, answer) => {
                let staged = ready.and_then(|()| self.edit(changes));
                self.keep(staged, answer);
            }
        }
    }

    /// Answers a job that failed at once, and the others when the group's fate is known.
    fn keep<T: Send + 'static>(&mut self, staged: Staged<T>, answer: Answer<T>) {
        // A receiver that is gone does not want to know.
        match staged {
            Err(error) => drop(answer.send(Err(error))),
            Ok((value, effect)) => self.done.push(Box::new(move |core, fate| {
                if fate.is_ok() {
                    effect(core);
                }
                drop(answer.send(fate.map(|()| value)));
            })),
        }
    }

    fn append(&mut self, topic: Arc<Topic>, index: u32, packed: Packed) -> Staged<Vec<Offset>> {
        exists(&topic)?;
        let part = topic.part(index)?;
        if packed.count == 0 {
            return Ok((Vec::new(), Box::new(|_| ())));
        }
        let mut tail = part.tail.lock();
        let base = tail.next;
        tail.next += u64::from(packed.count);
        // The clock may step back; the log's time does not.
        tail.last_ms = tail.last_ms.max(self.now_ms);
        let (high, ms) = (tail.next, tail.last_ms);
        drop(tail);
        let changes = self.core.store.block(topic.id, index, packed, base, high - 1, (ms, ms));
        self.add(changes);
        let effect = move |core: &Core| {
            if let Ok(part) = topic.part(index) {
                part.seen.send_modify(|seen| seen.bounds.high = high);
                core.chores.after_append(&topic, index, high);
            }
        };
        Ok(((base..high).collect(), Box::new(effect)))
    }

    fn create(&mut self, spec: TopicSpec) -> Staged<()> {
        if let Ok(topic) = self.core.topics.find(&spec.topic) {
            let text = "the topic exists with other settings; use these, or remove it first";
            let error = Error::new(Code::TopicSettings, text).at("topic", &spec.topic);
            return if topic.spec == spec { Ok(((), Box::new(|_| ()))) } else { Err(error) };
        }
        if spec.partitions == 0 {
            let error = Error::new(Code::TopicSettings, "a topic needs at least one partition");
            return Err(error.at("topic", &spec.topic));
        }
        let id = self.core.topics.fresh_id();
        self.add(vec![
            Change::Put(Space::Meta, b"next-id".to_vec(), encode(&(id + 1))?),
            Change::Put(Space::Meta, topic_key(&spec.topic), encode(&StoredTopic::new(id, &spec))?),
        ]);
        let topic = Arc::new(Topic::empty(spec, id));
        Ok(((), Box::new(move |core| core.topics.insert(topic))))
    }

    fn remove(&mut self, name: &str) -> Staged<()> {
        let Ok(topic) = self.core.topics.find(name) else { return Ok(((), Box::new(|_| ()))) };
        // The blocks may be many: they are removed later, and the note makes sure of it.
        let note = [b"x".as_slice(), &topic.id.to_be_bytes()].concat();
        self.add(vec![Change::Put(Space::Meta, note, Vec::new()), Change::Remove(Space::Meta, topic_key(name))]);
        let effect = move |core: &Core| {
            core.topics.forget(&topic.spec.topic);
            topic.mark_removed();
            core.chores.purge(topic.id);
        };
        Ok(((), Box::new(effect)))
    }

    fn delete_below(&mut self, topic: Arc<Topic>, index: u32, offset: Offset) -> Staged<()> {
        exists(&topic)?;
        let part = topic.part(index)?;
        let bounds = part.bounds();
        let low = offset.min(bounds.high).max(bounds.low);
        let tail = *part.tail.lock();
        // The end is kept too: the blocks that showed it may be the ones that go.
        let marks = Watermarks { low, high: tail.next, last_ms: tail.last_ms };
        self.add(vec![Change::Put(Space::Meta, partition_key(b"l", topic.id, index), encode(&marks)?)]);
        let effect = move |core: &Core| {
            if let Ok(part) = topic.part(index) {
                part.seen.send_modify(|seen| seen.bounds.low = seen.bounds.low.max(low));
                core.chores.sweep(&topic, index);
            }
        };
        Ok(((), Box::new(effect)))
    }

    fn edit(&mut self, changes: Vec<Change>) -> Staged<()> {
        self.add(changes);
        Ok(((), Box::new(|_| ())))
    }

    fn add(&mut self, changes: Vec<Change>) {
        changes.into_iter().for_each(|change| self.changes.add(change));
    }

    /// Syncs the group, then answers.
    fn finish(self) -> Result<()> {
        let fate = self.core.store.commit(self.changes);
        for done in self.done {
            done(self.core, fate.as_ref().map(|()| ()).map_err(|e| refused(e.code, &e.doing)));
        }
        fate
    }
}

fn refused(code: Code, why: &str) -> Error {
    Error::new(code, format!("the log takes no writes until it is opened again, because {why}"))
}

fn exists(topic: &Topic) -> Result<()> {
    let error = || Error::new(Code::TopicMissing, "the topic was removed").at("topic", &topic.spec.topic);
    if topic.is_removed() { Err(error()) } else { Ok(()) }
}

/// What a group committed.
pub(super) fn committed(store: &Store, topic: &Topic, index: u32, group: &str) -> Result<Option<Committed>> {
    let value = store.meta.get(group_key(topic.id, index, group));
    let value = value.map_err(|e| store_error("what a group committed could not be read", e))?;
    Ok(value.and_then(|value| {
        let (offset, metadata) = value.split_at_checked(8)?;
        let offset = Offset::from_be_bytes(offset.try_into().ok()?);
        Some(Committed { offset, metadata: Bytes::copy_from_slice(metadata) })
    }))
}

/// The change that stores what a group committed.
pub(super) fn commit_change(topic: &Topic, index: u32, group: &str, committed: &Committed) -> Change {
    let value = [committed.offset.to_be_bytes().as_slice(), &committed.metadata].concat();
    Change::Put(Space::Meta, group_key(topic.id, index, group), value)
}
