//! One behaviour suite for all logs: what `Log` promises, as functions that panic where it is broken.
//! `all` runs everything that needs no particular place; `durable` needs a log that can be reopened.
//!
//! It never sleeps and expects nothing at once that a log over the network shows later: it waits for
//! what must come, at most for `PATIENCE`.

mod keeping;
mod members;
mod order;
mod readers;

use super::{
    Assignment, Bounds, Cleanup, Committed, Compression, Delivered, Log, Membership, Message, Partition, Raw, Reading,
    TopicSpec,
};
use crate::event::Offset;
use crate::runtime::error::{Code, Error};
use bytes::Bytes;
use futures_util::FutureExt;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use keeping::{
    compaction, delete_below, durable, missing_topics, removal, removal_is_seen_at_once, topics_and_settings,
};
pub use members::{groups, single_member};
pub use order::{
    batches_in_flight, large_and_odd_messages, order_and_density, sessions_interleave, unawaited_append_lands,
};
pub use readers::{cancelled_next_loses_nothing, reading_from_the_middle, search_by_time, waiting_reader_wakes};

/// The log under test.
pub type Subject = Arc<dyn Log<Raw>>;
/// Opens the log anew after the last one was dropped; everything must still be there.
pub type Reopen = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Subject> + Send>> + Send + Sync>;
/// Compacts a topic, messages without payload included, and returns when that is done.
pub type CompactNow = Box<dyn Fn(&str) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// How long the suite waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for `future`, but not for ever.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long: {what}"),
    }
}

fn ok<T>(what: &str, result: Result<T, Error>) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {error:?}"))
}

fn fails<T>(what: &str, code: Code, result: Result<T, Error>) {
    match result {
        Ok(_) => panic!("{what}: succeeded, {} was expected", code.as_str()),
        Err(error) => assert_eq!(error.code, code, "{what}: {error:?}"),
    }
}

/// A name no topic of this log has had before, so that a suite can run again on a living server.
fn fresh(what: &str) -> Arc<str> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("suite-{what}-{}-{number}", std::process::id()).into()
}

/// Settings of a topic for the suite.
#[must_use]
pub fn spec(topic: &Arc<str>, partitions: u32, cleanup: Cleanup) -> TopicSpec {
    TopicSpec { topic: topic.clone(), partitions, cleanup, compression: Compression::Lz4 }
}

async fn topic(log: &Subject, what: &str, partitions: u32, cleanup: Cleanup) -> Arc<str> {
    let name = fresh(what);
    ok("create", soon("create", log.create(&spec(&name, partitions, cleanup))).await);
    name
}

/// A message with a text payload.
#[must_use]
pub fn message(key: &str, payload: &str) -> Message<Raw> {
    Message { key: Bytes::copy_from_slice(key.as_bytes()), payload: Some(Bytes::copy_from_slice(payload.as_bytes())) }
}

fn numbered(range: std::ops::Range<usize>) -> Vec<Message<Raw>> {
    range.map(|n| message(&format!("k{n}"), &format!("v{n}"))).collect()
}

/// Appends in a session of its own and returns the offsets.
pub async fn append(log: &Subject, at: &Partition, messages: Vec<Message<Raw>>) -> Vec<Offset> {
    let session = ok("session", log.session().await);
    ok("append", soon("append", session.append(at, messages)).await)
}

/// Reads `count` messages from `from` on.
pub async fn read(log: &Subject, at: &Partition, from: Offset, count: usize) -> Vec<Delivered<Raw>> {
    let mut reading = ok("read", log.read(at, from).await);
    take(&mut *reading, count).await
}

async fn take(reading: &mut dyn Reading<Raw>, count: usize) -> Vec<Delivered<Raw>> {
    let mut out = Vec::new();
    while out.len() < count {
        let more = ok("next", soon("messages", reading.next(count - out.len())).await);
        assert!(!more.is_empty() && more.len() <= count - out.len(), "next returned {} messages", more.len());
        out.extend(more);
    }
    out
}

fn contents(delivered: &[Delivered<Raw>]) -> Vec<Message<Raw>> {
    delivered.iter().map(|d| Message { key: d.key.clone(), payload: d.payload.clone() }).collect()
}

fn assert_dense(delivered: &[Delivered<Raw>], from: Offset) {
    for (message, offset) in delivered.iter().zip(from..) {
        assert_eq!(message.offset, offset, "offsets are dense");
    }
    assert!(delivered.is_sorted_by_key(|d| d.time_ms), "times never fall");
}

async fn bounds(log: &Subject, at: &Partition) -> Bounds {
    ok("bounds", soon("bounds", log.bounds(at)).await)
}

/// Everything that holds for each log.
pub async fn all(log: Subject, compact: CompactNow) {
    order_and_density(&log).await;
    batches_in_flight(&log).await;
    sessions_interleave(&log).await;
    reading_from_the_middle(&log).await;
    waiting_reader_wakes(&log).await;
    cancelled_next_loses_nothing(&log).await;
    unawaited_append_lands(&log).await;
    search_by_time(&log).await;
    delete_below(&log).await;
    compaction(&log, &compact).await;
    topics_and_settings(&log).await;
    removal(&log).await;
    missing_topics(&log).await;
    large_and_odd_messages(&log).await;
    groups(&log).await;
}
