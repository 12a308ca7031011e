//! The durable log between the stages. A log offers ordered, durable appends to one partition and
//! reading them; no atomicity over partitions and no fencing. Ownership is built from the order of
//! the records themselves (`claim`, protocol.md §3): **one append is the transaction**.
//!
//! Three implementations stand behind `Log`: `memory` (tests, simulation), `embedded` (the default)
//! and `kafka`. All pass `suite`. The payload is a type parameter: raw bytes for the embedded log
//! and Kafka, typed records for the stages; `codec` joins the two.

pub mod blob;
pub mod claim;
pub mod letters;
pub mod message;
pub mod name;
pub mod owner;

pub mod lineages;
pub mod memory;

pub mod embedded;

#[cfg(feature = "kafka")]
pub mod kafka;

mod single;

#[cfg(any(test, feature = "conformance"))]
#[allow(clippy::unwrap_used, reason = "a suite fails by panicking")]
pub mod blob_suite;
pub mod codec;
#[cfg(feature = "kafka")]
pub mod confluent;
pub mod registry;
#[cfg(any(test, feature = "conformance"))]
pub mod suite;

use crate::event::{Offset, Record};
use crate::runtime::error::Result;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::fmt;
use std::sync::Arc;

/// What a message can carry.
pub trait Payload: Clone + Send + Sync + 'static {}
impl<T: Clone + Send + Sync + 'static> Payload for T {}

/// Payload as the embedded log and Kafka store it.
pub type Raw = bytes::Bytes;

/// Payload as the stages see it.
pub type Typed = Arc<Record>;

/// A partition of a topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition {
    /// The topic's full name.
    pub topic: Arc<str>,
    /// From 0.
    pub index: u32,
}

impl Partition {
    /// Partition `index` of `topic`.
    #[must_use]
    pub fn new(topic: impl Into<Arc<str>>, index: u32) -> Self {
        Partition { topic: topic.into(), index }
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.index)
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a topic is cleaned up (topic-6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cleanup {
    /// Kept until `delete_below`.
    Keep,
    /// The newest message per key stays; a message without payload removes its key in time.
    Compact,
}

/// How messages are compressed in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4.
    #[default]
    Lz4,
    /// Zstandard at a level from 1 to 22.
    Zstd(i32),
}

/// A topic to create or to compare with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicSpec {
    /// Full name.
    pub topic: Arc<str>,
    /// Number of partitions; frozen for a generation (topic-2).
    pub partitions: u32,
    /// How it is cleaned up.
    pub cleanup: Cleanup,
    /// How it is compressed.
    pub compression: Compression,
}

/// A message to append. `payload: None` only removes a key from a compacted topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message<P> {
    /// The message key; empty for control records.
    pub key: Bytes,
    /// The content.
    pub payload: Option<P>,
}

/// A message at its place in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivered<P> {
    /// Its offset; dense but for compaction.
    pub offset: Offset,
    /// Milliseconds since 1970 at which the log took it; never falls within a partition.
    pub time_ms: u64,
    /// The message key.
    pub key: Bytes,
    /// The content; `None` if it removes its key.
    pub payload: Option<P>,
}

/// The offsets a partition holds: from `low` up to but without `high`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Bounds {
    /// The oldest offset that can still be read.
    pub low: Offset,
    /// The offset the next message will get.
    pub high: Offset,
}

/// What a consumer group has finished in a partition.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Committed {
    /// The next offset to read.
    pub offset: Offset,
    /// What the group wants to know again at its next start (claim-1: the link).
    pub metadata: Bytes,
}

/// The offsets of one appended batch, in its order; or the reason why its fate is unknown.
/// After an error the session is dead: take over again (claim-2).
pub type Appending = BoxFuture<'static, Result<Vec<Offset>>>;

/// An idempotent producer session: batches to one partition land in the order they were given, at
/// most once. An append with an unknown outcome may land later or never, and later batches of the
/// same session may land without it.
pub trait Session<P: Payload>: Send + Sync {
    /// Gives a batch to the log and returns at once. The future need not be polled for the batch to
    /// land; it resolves when the batch is durable. Batches may be in flight together.
    fn append(&self, at: &Partition, messages: Vec<Message<P>>) -> Appending;
}

/// Reads one partition from an offset on, without any group.
#[async_trait]
pub trait Reading<P: Payload>: Send {
    /// Waits for at least one message and returns up to `limit` of them in order. Cancel-safe.
    /// Fails with `history_lost` if the messages wanted were deleted.
    async fn next(&mut self, limit: usize) -> Result<Vec<Delivered<P>>>;

    /// The offset that comes next.
    fn offset(&self) -> Offset;
}

/// A log.
#[async_trait]
pub trait Log<P: Payload>: Send + Sync {
    /// Creates a topic; fails with `topic_settings` if it exists with other settings.
    async fn create(&self, spec: &TopicSpec) -> Result<()>;

    /// Fails with `topic_settings` if a topic exists with other settings; makes nothing. Where nobody else can
    /// change a topic there is nothing to find.
    async fn check(&self, _spec: &TopicSpec) -> Result<()> {
        Ok(())
    }

    /// The topics that exist, by name.
    async fn topics(&self) -> Result<Vec<TopicSpec>>;

    /// Deletes a topic with everything in it. Deleting one that does not exist is no error.
    async fn remove(&self, topic: &str) -> Result<()>;

    /// Opens a producer session. Sessions of one process may share what carries them (claim-2): when it
    /// fails, all of them are dead.
    async fn session(&self) -> Result<Arc<dyn Session<P>>>;

    /// Reads a partition from `from` on; an offset below the low watermark fails at the first `next`.
    async fn read(&self, at: &Partition, from: Offset) -> Result<Box<dyn Reading<P>>>;

    /// The offsets a partition holds.
    async fn bounds(&self, at: &Partition) -> Result<Bounds>;

    /// The first offset whose message was taken at or after `time_ms`; `None` if there is none.
    async fn offset_at(&self, at: &Partition, time_ms: u64) -> Result<Option<Offset>>;

    /// Forgets all messages below `offset`.
    async fn delete_below(&self, at: &Partition, offset: Offset) -> Result<()>;

    /// Joins a consumer group over topics.
    async fn join(&self, group: &str, topics: &[Arc<str>]) -> Result<Box<dyn Membership>>;
}

/// What a group tells its member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Assignment {
    /// These partitions are mine from now on; told once with none if the group has none for me.
    Assigned(Vec<Partition>),
    /// Hand these over: finish, commit, then call `Membership::released`.
    Revoked(Vec<Partition>),
    /// These are somebody else's already: drop them, write nothing (claim-9).
    Lost(Vec<Partition>),
}

/// One member of a consumer group.
#[async_trait]
pub trait Membership: Send + Sync {
    /// Waits for the next change of the assignment. Must be called again and again: it is also the
    /// sign of life (claim-8). Partitions of a topic nobody asked for may be among them: there is nothing to do
    /// for those but to release them when they are asked back.
    async fn next(&self) -> Result<Assignment>;

    /// Says that revoked partitions were handed over.
    async fn released(&self, partitions: &[Partition]) -> Result<()>;

    /// Whether a partition is assigned right now (claim-8).
    fn holds(&self, at: &Partition) -> bool;

    /// What the group has finished in a partition; `None` if nothing yet.
    async fn committed(&self, at: &Partition) -> Result<Option<Committed>>;

    /// Records what is finished: after its effects (P5).
    async fn commit(&self, at: &Partition, committed: Committed) -> Result<()>;

    /// Leaves the group and returns once it knows, so that others take over at once. Dropping a member
    /// leaves too, but nobody can wait for that.
    async fn leave(&self) {}
}
