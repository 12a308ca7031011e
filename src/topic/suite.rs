//! One behaviour suite for all logs: what `Log` promises, as functions that panic where it is broken.
//! `all` runs everything that needs no particular place; `durable` needs a log that can be reopened.
//!
//! It never sleeps and expects nothing at once that a log over the network shows later: it waits for
//! what must come, at most for `PATIENCE`.

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

/// Batches of one session land in order, without a gap, from offset 0 on.
pub async fn order_and_density(log: &Subject) {
    let name = topic(log, "order", 2, Cleanup::Keep).await;
    for index in 0..2 {
        let at = Partition::new(name.clone(), index);
        assert_eq!(bounds(log, &at).await, Bounds::default(), "a new partition is empty");
        assert_eq!(append(log, &at, numbered(0..3)).await, [0, 1, 2]);
        assert_eq!(append(log, &at, numbered(3..4)).await, [3]);
        let all = read(log, &at, 0, 4).await;
        assert_dense(&all, 0);
        assert_eq!(contents(&all), numbered(0..4));
        assert_eq!(bounds(log, &at).await, Bounds { low: 0, high: 4 });
    }
    let at = Partition::new(name, 0);
    assert_eq!(append(log, &at, Vec::new()).await, Vec::<Offset>::new(), "an empty batch is no message");
}

/// Many batches on their way at once land in the order in which they were given.
pub async fn batches_in_flight(log: &Subject) {
    let name = topic(log, "flight", 3, Cleanup::Keep).await;
    let session = ok("session", log.session().await);
    let given: Vec<_> = (0..300)
        .map(|n| {
            let at = Partition::new(name.clone(), n % 3);
            let n = n as usize / 3 * 5;
            session.append(&at, numbered(n..n + 5))
        })
        .collect();
    let answers = soon("300 appends", futures_util::future::join_all(given)).await;
    for (n, offsets) in answers.into_iter().enumerate() {
        let first = (n / 3 * 5) as u64;
        assert_eq!(ok("append", offsets), (first..first + 5).collect::<Vec<_>>());
    }
    for index in 0..3 {
        let all = read(log, &Partition::new(name.clone(), index), 0, 500).await;
        assert_dense(&all, 0);
        assert_eq!(contents(&all), numbered(0..500));
    }
}

/// Sessions do not disturb each other: each keeps its order, and together they are dense.
pub async fn sessions_interleave(log: &Subject) {
    let at = Partition::new(topic(log, "sessions", 1, Cleanup::Keep).await, 0);
    let mut given = Vec::new();
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(ok("session", log.session().await));
    }
    for n in 0..50 {
        for (s, session) in sessions.iter().enumerate() {
            given.push(session.append(&at, vec![message(&format!("s{s}"), &n.to_string())]));
        }
    }
    for answer in soon("appends", futures_util::future::join_all(given)).await {
        ok("append", answer);
    }
    let all = read(log, &at, 0, 200).await;
    assert_dense(&all, 0);
    let mut next: BTreeMap<Bytes, usize> = BTreeMap::new();
    for message in all {
        let expected = next.entry(message.key).or_default();
        assert_eq!(message.payload, Some(Bytes::from(expected.to_string())), "a session's order");
        *expected += 1;
    }
}

/// A reader starts where it is told, also inside a batch, and says what comes next.
pub async fn reading_from_the_middle(log: &Subject) {
    let at = Partition::new(topic(log, "middle", 1, Cleanup::Keep).await, 0);
    append(log, &at, numbered(0..10)).await;
    append(log, &at, numbered(10..20)).await;
    for from in [0, 1, 9, 10, 15, 19] {
        let mut reading = ok("read", log.read(&at, from).await);
        assert_eq!(reading.offset(), from);
        let rest = take(&mut *reading, 20 - from as usize).await;
        assert_dense(&rest, from);
        assert_eq!(contents(&rest), numbered(from as usize..20));
        assert_eq!(reading.offset(), 20);
    }
    let mut reading = ok("read", log.read(&at, 0).await);
    let three = ok("next", soon("next", reading.next(3)).await);
    assert!(three.len() <= 3, "a limit is a limit");
}

/// A reader at the end waits, and an append wakes it.
pub async fn waiting_reader_wakes(log: &Subject) {
    let at = Partition::new(topic(log, "wake", 1, Cleanup::Keep).await, 0);
    let mut reading = ok("read", log.read(&at, 0).await);
    for round in 0..20 {
        let mut next = reading.next(10).boxed();
        assert!(futures_util::poll!(&mut next).is_pending(), "there is nothing to read yet");
        append(log, &at, numbered(round..round + 1)).await;
        let got = ok("next", soon("the reader to wake", next).await);
        assert_eq!(contents(&got), numbered(round..round + 1));
    }
}

/// Dropping `next` before it is done loses and repeats nothing.
pub async fn cancelled_next_loses_nothing(log: &Subject) {
    let at = Partition::new(topic(log, "cancel", 1, Cleanup::Keep).await, 0);
    let mut reading = ok("read", log.read(&at, 0).await);
    let mut got = Vec::new();
    for round in 0..50 {
        // Whether this one gets anything depends on the moment at which it is dropped.
        if let Some(Ok(early)) = reading.next(2).now_or_never() {
            got.extend(early);
        }
        let given = append(log, &at, numbered(round * 3..round * 3 + 3));
        tokio::select! {
            biased;
            early = reading.next(2) => got.extend(ok("next", early)),
            _ = given => {}
        }
    }
    let high = bounds(log, &at).await.high;
    // An append that lost the race was given to the log all the same.
    while (got.len() as u64) < high {
        got.extend(ok("next", soon("the rest", reading.next(1000)).await));
    }
    assert_dense(&got, 0);
}

/// An append whose future is dropped lands all the same.
pub async fn unawaited_append_lands(log: &Subject) {
    let at = Partition::new(topic(log, "unawaited", 1, Cleanup::Keep).await, 0);
    let session = ok("session", log.session().await);
    drop(session.append(&at, numbered(0..5)));
    assert_eq!(contents(&read(log, &at, 0, 5).await), numbered(0..5));
}

/// `offset_at` finds the first message taken at or after a time.
pub async fn search_by_time(log: &Subject) {
    let at = Partition::new(topic(log, "time", 1, Cleanup::Keep).await, 0);
    assert_eq!(ok("offset_at", log.offset_at(&at, 0).await), None, "nothing in an empty partition");
    for n in 0..30 {
        append(log, &at, numbered(n * 3..n * 3 + 3)).await;
    }
    let all = read(log, &at, 0, 90).await;
    for wanted in &all {
        let expected = all.iter().find(|d| d.time_ms >= wanted.time_ms).map(|d| d.offset);
        assert_eq!(ok("offset_at", log.offset_at(&at, wanted.time_ms).await), expected);
    }
    assert_eq!(ok("offset_at", log.offset_at(&at, 0).await), Some(0));
    let last_ms = all.last().map_or(0, |d| d.time_ms);
    assert_eq!(ok("offset_at", log.offset_at(&at, last_ms + 1).await), None);
    ok("delete_below", log.delete_below(&at, 40).await);
    assert_eq!(ok("offset_at", log.offset_at(&at, 0).await), Some(40), "what was deleted is not found");
}

/// `delete_below` raises the low watermark, in the middle of a batch too; what is below is lost.
pub async fn delete_below(log: &Subject) {
    let at = Partition::new(topic(log, "delete", 1, Cleanup::Keep).await, 0);
    for n in 0..10 {
        append(log, &at, numbered(n * 10..n * 10 + 10)).await;
    }
    let mut early = ok("read", log.read(&at, 0).await);
    take(&mut *early, 5).await;
    ok("delete_below", log.delete_below(&at, 35).await);
    assert_eq!(bounds(log, &at).await, Bounds { low: 35, high: 100 });
    let mut lost = ok("read", log.read(&at, 34).await);
    fails("reading below the low watermark", Code::HistoryLost, soon("an error", lost.next(1)).await);
    let rest = read(log, &at, 35, 65).await;
    assert_dense(&rest, 35);
    assert_eq!(contents(&rest), numbered(35..100));
    ok("delete_below", log.delete_below(&at, 20).await);
    assert_eq!(bounds(log, &at).await.low, 35, "the low watermark never falls");
    ok("delete_below", log.delete_below(&at, 100).await);
    assert_eq!(bounds(log, &at).await, Bounds { low: 100, high: 100 });
    assert_eq!(append(log, &at, numbered(0..1)).await, [100], "offsets are never used again");
    assert_eq!(contents(&read(log, &at, 100, 1).await), numbered(0..1));
}

/// Compaction keeps the newest message of each key at its offset; no payload removes the key.
pub async fn compaction(log: &Subject, compact: &CompactNow) {
    let name = topic(log, "compact", 1, Cleanup::Compact).await;
    let at = Partition::new(name.clone(), 0);
    for round in 0..20 {
        let batch = (0..10).map(|k| message(&format!("k{k}"), &format!("{round}"))).collect();
        append(log, &at, batch).await;
    }
    append(log, &at, vec![Message { key: Bytes::from_static(b"k3"), payload: None }]).await;
    append(log, &at, vec![message("last", "")]).await;
    let before = read(log, &at, 0, 202).await;
    compact(&name).await;
    assert_eq!(bounds(log, &at).await.high, 202, "compaction moves no offset");
    let kept = read_to(log, &at, 201).await;
    let mut newest: BTreeMap<Bytes, Delivered<Raw>> = BTreeMap::new();
    before.into_iter().for_each(|d| drop(newest.insert(d.key.clone(), d)));
    newest.retain(|_, d| d.payload.is_some());
    let mut expected: Vec<_> = newest.into_values().collect();
    expected.sort_by_key(|d| d.offset);
    let kept: Vec<_> = kept.into_iter().filter(|d| d.payload.is_some()).collect();
    assert_eq!(kept, expected);
    assert_eq!(append(log, &at, numbered(0..1)).await, [202]);
    assert_eq!(contents(&read(log, &at, 202, 1).await), numbered(0..1));
}

/// Reads from the start until a message has the offset `last`.
async fn read_to(log: &Subject, at: &Partition, last: Offset) -> Vec<Delivered<Raw>> {
    let mut reading = ok("read", log.read(at, 0).await);
    let mut out: Vec<Delivered<Raw>> = Vec::new();
    while out.last().is_none_or(|d| d.offset < last) {
        out.extend(ok("next", soon("messages", reading.next(7)).await));
    }
    assert!(out.is_sorted_by(|a, b| a.offset < b.offset), "offsets rise");
    out
}

/// Creating a topic again is fine with the same settings only.
pub async fn topics_and_settings(log: &Subject) {
    let name = topic(log, "settings", 2, Cleanup::Keep).await;
    let same = spec(&name, 2, Cleanup::Keep);
    ok("create again", log.create(&same).await);
    fails("other partitions", Code::TopicSettings, log.create(&TopicSpec { partitions: 3, ..same.clone() }).await);
    fails(
        "other cleanup",
        Code::TopicSettings,
        log.create(&TopicSpec { cleanup: Cleanup::Compact, ..same.clone() }).await,
    );
    let topics = ok("topics", soon("topics", log.topics()).await);
    assert_eq!(topics.iter().filter(|t| t.topic == name).collect::<Vec<_>>(), [&same]);
}

/// A removed topic is gone with all it held; one of the same name begins at 0.
pub async fn removal(log: &Subject) {
    let name = topic(log, "remove", 1, Cleanup::Keep).await;
    let at = Partition::new(name.clone(), 0);
    append(log, &at, numbered(0..10)).await;
    ok("remove", soon("remove", log.remove(&name)).await);
    ok("remove again", soon("remove", log.remove(&name)).await);
    assert!(ok("topics", log.topics().await).iter().all(|t| t.topic != name));
    let other = spec(&name, 2, Cleanup::Compact);
    ok("create anew", soon("create", log.create(&other)).await);
    assert_eq!(bounds(log, &at).await, Bounds::default());
    assert_eq!(append(log, &at, numbered(5..6)).await, [0]);
    assert_eq!(contents(&read(log, &at, 0, 1).await), numbered(5..6));
}

/// For logs in this process: a reader that waits learns that its topic is gone, and what a group
/// committed is gone with it.
pub async fn removal_is_seen_at_once(log: &Subject) {
    let name = topic(log, "removed", 1, Cleanup::Keep).await;
    let at = Partition::new(name.clone(), 0);
    let member = ok("join", log.join("removal", std::slice::from_ref(&name)).await);
    ok("commit", member.commit(&at, Committed { offset: 1, metadata: Bytes::new() }).await);
    let mut reading = ok("read", log.read(&at, 0).await);
    let mut next = reading.next(1);
    assert!(futures_util::poll!(&mut next).is_pending());
    ok("remove", log.remove(&name).await);
    fails("reading on", Code::TopicMissing, soon("an error", next).await);
    ok("create anew", log.create(&spec(&name, 1, Cleanup::Keep)).await);
    assert_eq!(ok("committed", member.committed(&at).await), None);
}

/// What does not exist is an error that says so.
pub async fn missing_topics(log: &Subject) {
    let name = topic(log, "exists", 1, Cleanup::Keep).await;
    for at in [Partition::new(fresh("never"), 0), Partition::new(name, 7)] {
        fails("bounds", Code::TopicMissing, soon("bounds", log.bounds(&at)).await);
        let session = ok("session", log.session().await);
        fails("append", Code::TopicMissing, soon("append", session.append(&at, numbered(0..1))).await);
        match soon("read", log.read(&at, 0)).await {
            Err(error) => assert_eq!(error.code, Code::TopicMissing),
            Ok(mut reading) => fails("next", Code::TopicMissing, soon("next", reading.next(1)).await),
        }
    }
}

/// Large messages, empty keys, empty payloads and none: all come back as they were given.
pub async fn large_and_odd_messages(log: &Subject) {
    let at = Partition::new(topic(log, "odd", 1, Cleanup::Keep).await, 0);
    let noise = |n: usize| {
        (0..n).scan(7u32, |x, _| {
            *x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((*x >> 24) as u8)
        })
    };
    let batch = vec![
        Message { key: Bytes::new(), payload: Some(Bytes::from_static(b"control")) },
        Message { key: Bytes::from_static(b"gone"), payload: None },
        Message { key: Bytes::from_static(b"empty"), payload: Some(Bytes::new()) },
        Message { key: Bytes::from_static(b"zeros"), payload: Some(Bytes::from(vec![0; 100_000])) },
        Message { key: Bytes::from_static(&[0, 255, 10]), payload: Some(noise(70_000).collect()) },
    ];
    append(log, &at, batch.clone()).await;
    let large = vec![Message { key: Bytes::from_static(b"large"), payload: Some(noise(5 << 20).collect()) }];
    append(log, &at, large.clone()).await;
    let all = read(log, &at, 0, 6).await;
    assert_dense(&all, 0);
    assert_eq!(contents(&all[..5]), batch);
    assert!(contents(&all[5..]) == large, "5 MiB come back");
}

/// A group assigns each partition to one member, and keeps what it committed.
pub async fn groups(log: &Subject) {
    let name = topic(log, "group", 2, Cleanup::Keep).await;
    let all = [Partition::new(name.clone(), 0), Partition::new(name.clone(), 1)];
    let group = fresh("members");
    let first = ok("join", log.join(&group, std::slice::from_ref(&name)).await);
    assert_eq!(assigned(&*first, 2).await, all);
    assert!(all.iter().all(|at| first.holds(at)));
    assert_eq!(ok("committed", first.committed(&all[0]).await), None);
    let done = Committed { offset: 7, metadata: Bytes::from_static(b"\x00link\xff") };
    ok("commit", soon("commit", first.commit(&all[0], done.clone())).await);
    let later = Committed { offset: 9, ..done };
    ok("commit", soon("commit", first.commit(&all[0], later.clone())).await);
    assert_eq!(ok("committed", first.committed(&all[0]).await), Some(later.clone()));
    assert_eq!(ok("committed", first.committed(&all[1]).await), None);
    let stranger = ok("join", log.join(&fresh("strangers"), std::slice::from_ref(&name)).await);
    assert_eq!(assigned(&*stranger, 2).await, all, "groups do not know each other");
    assert_eq!(ok("committed", stranger.committed(&all[0]).await), None);
    drop(first);
    let second = ok("join", log.join(&group, std::slice::from_ref(&name)).await);
    assert_eq!(assigned(&*second, 2).await, all, "who comes after takes everything over");
    assert_eq!(ok("committed", second.committed(&all[0]).await), Some(later));
}

/// Waits until a member has `count` partitions.
async fn assigned(member: &dyn Membership, count: usize) -> Vec<Partition> {
    let mut mine = Vec::new();
    while mine.len() < count {
        match ok("next", soon("an assignment", member.next()).await) {
            Assignment::Assigned(more) => mine.extend(more),
            Assignment::Revoked(gone) => {
                mine.retain(|at| !gone.contains(at));
                ok("released", member.released(&gone).await);
            }
            Assignment::Lost(gone) => mine.retain(|at| !gone.contains(at)),
        }
    }
    mine.sort();
    mine
}

/// For logs whose groups live in one process: the first member has everything until it leaves.
pub async fn single_member(log: &Subject) {
    let name = topic(log, "single", 2, Cleanup::Keep).await;
    let group = fresh("single");
    let first = ok("join", log.join(&group, std::slice::from_ref(&name)).await);
    let second = ok("join", log.join(&group, std::slice::from_ref(&name)).await);
    let all = assigned(&*first, 2).await;
    let mut next = second.next();
    assert!(futures_util::poll!(&mut next).is_pending(), "the second member gets nothing");
    assert!(!all.iter().any(|at| second.holds(at)));
    assert!(futures_util::poll!(first.next()).is_pending(), "the first is told once");
    drop(first);
    assert_eq!(ok("next", soon("the hand-over", next).await), Assignment::Assigned(all.clone()));
    assert!(all.iter().all(|at| second.holds(at)));
}

/// What was acknowledged is there after the log was closed and opened again.
pub async fn durable(reopen: Reopen) {
    let log = reopen().await;
    let keep = topic(&log, "durable", 2, Cleanup::Keep).await;
    let at = Partition::new(keep.clone(), 1);
    let removed = topic(&log, "removed", 1, Cleanup::Keep).await;
    append(&log, &Partition::new(removed.clone(), 0), numbered(0..100)).await;
    append(&log, &at, numbered(0..50)).await;
    let member = ok("join", log.join("durable-group", std::slice::from_ref(&keep)).await);
    let done = Committed { offset: 20, metadata: Bytes::from_static(b"link") };
    ok("commit", member.commit(&at, done.clone()).await);
    ok("remove", log.remove(&removed).await);
    drop((member, log));

    let log = reopen().await;
    assert!(ok("topics", log.topics().await).contains(&spec(&keep, 2, Cleanup::Keep)));
    assert!(ok("topics", log.topics().await).iter().all(|t| t.topic != removed));
    assert_eq!(bounds(&log, &at).await, Bounds { low: 0, high: 50 });
    let all = read(&log, &at, 0, 50).await;
    assert_dense(&all, 0);
    assert_eq!(contents(&all), numbered(0..50));
    let member = ok("join", log.join("durable-group", std::slice::from_ref(&keep)).await);
    assert_eq!(ok("committed", member.committed(&at).await), Some(done));
    assert_eq!(append(&log, &at, numbered(50..60)).await[0], 50, "offsets go on");
    ok("delete_below", log.delete_below(&at, 60).await);
    drop((member, log));

    let log = reopen().await;
    assert_eq!(bounds(&log, &at).await, Bounds { low: 60, high: 60 });
    let mut lost = ok("read", log.read(&at, 59).await);
    fails("reading what was deleted", Code::HistoryLost, soon("an error", lost.next(1)).await);
    assert_eq!(append(&log, &at, numbered(0..1)).await, [60], "also when everything was deleted");
    let again = read(&log, &at, 60, 1).await;
    assert!(again[0].time_ms >= all[49].time_ms, "times never fall, over a restart too");
}
