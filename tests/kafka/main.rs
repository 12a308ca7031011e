//! The log in Kafka against a real broker: the behaviour suite that all logs pass, and what only a
//! server can do to us: dying in the middle, rebalancing, deleting, changed settings.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod doctor;
mod foreign;
mod members;
mod registry;
mod server;
mod stock;

use async_trait::async_trait;
use bytes::Bytes;
use driftless::event::Offset;
use driftless::runtime::clock::{Clock, SystemClock};
use driftless::runtime::error::{Code, Result};
use driftless::topic::kafka::{KafkaLog, KafkaSettings};
use driftless::topic::suite::{self, Subject};
use driftless::topic::{
    Assignment, Bounds, Cleanup, Committed, Compression, Log, Membership, Message, Partition, Raw, Reading, Session,
    TopicSpec,
};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use server::{Server, shared};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(90);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited too long: {what}"))
}

async fn open_with(server: &Server, settings: &[(&str, &str)]) -> KafkaLog {
    let librdkafka: BTreeMap<_, _> = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let settings = KafkaSettings { brokers: server.brokers(), librdkafka, ..KafkaSettings::default() };
    KafkaLog::open(settings, Arc::new(SystemClock)).await.unwrap()
}

async fn open(server: &Server) -> KafkaLog {
    open_with(server, &[]).await
}

fn admin(server: &Server) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", server.brokers()).create().unwrap()
}

async fn topic(log: &KafkaLog, name: &str, partitions: u32) -> Arc<str> {
    let name: Arc<str> = name.into();
    log.create(&suite::spec(&name, partitions, Cleanup::Keep)).await.unwrap();
    name
}

fn numbered(range: std::ops::Range<usize>) -> Vec<Message<Raw>> {
    range.map(|n| suite::message(&format!("k{n}"), &n.to_string())).collect()
}

/// Lets the cleaner work on a topic once this share of it is dirty: 0 is at once, 1 is never.
async fn clean(admin: &AdminClient<DefaultClientContext>, topic: &str, dirty: &str) {
    let settings = [
        ("cleanup.policy", "compact"),
        ("retention.ms", "-1"),
        ("message.timestamp.type", "LogAppendTime"),
        ("max.message.bytes", "10485760"),
        ("compression.type", "lz4"),
        ("segment.ms", "1"),
        ("delete.retention.ms", "0"),
        ("min.cleanable.dirty.ratio", dirty),
    ];
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic));
    let change = settings.into_iter().fold(change, |change, (name, value)| change.set(name, value));
    for answer in admin.alter_configs([&change], &AdminOptions::new()).await.unwrap() {
        answer.unwrap();
    }
}

/// The log, but compacted topics roll a segment with every append, because the cleaner never touches
/// the last segment.
struct Rolling(KafkaLog, AdminClient<DefaultClientContext>);

#[async_trait]
impl Log<Raw> for Rolling {
    async fn create(&self, spec: &TopicSpec) -> Result<()> {
        self.0.create(spec).await?;
        if spec.cleanup == Cleanup::Compact {
            clean(&self.1, &spec.topic, "1").await;
        }
        Ok(())
    }
    async fn topics(&self) -> Result<Vec<TopicSpec>> {
        self.0.topics().await
    }
    async fn remove(&self, topic: &str) -> Result<()> {
        self.0.remove(topic).await
    }
    async fn session(&self) -> Result<Arc<dyn Session<Raw>>> {
        self.0.session().await
    }
    async fn read(&self, at: &Partition, from: Offset) -> Result<Box<dyn Reading<Raw>>> {
        self.0.read(at, from).await
    }
    async fn bounds(&self, at: &Partition) -> Result<Bounds> {
        self.0.bounds(at).await
    }
    async fn offset_at(&self, at: &Partition, time_ms: u64) -> Result<Option<Offset>> {
        self.0.offset_at(at, time_ms).await
    }
    async fn delete_below(&self, at: &Partition, offset: Offset) -> Result<()> {
        self.0.delete_below(at, offset).await
    }
    async fn join(&self, group: &str, topics: &[Arc<str>]) -> Result<Box<dyn Membership>> {
        self.0.join(group, topics).await
    }
}

/// Returns when the cleaner has left one message per key.
async fn cleaned(log: KafkaLog, topic: String) {
    clean(&admin(shared()), &topic, "0").await;
    let at = Partition::new(topic, 0);
    let high = log.bounds(&at).await.unwrap().high;
    loop {
        let mut reading = log.read(&at, 0).await.unwrap();
        let mut keys: BTreeMap<Bytes, u32> = BTreeMap::new();
        while reading.offset() < high {
            for message in reading.next(1000).await.unwrap() {
                *keys.entry(message.key).or_default() += 1;
            }
        }
        if keys.values().all(|count| *count == 1) {
            return;
        }
        SystemClock.sleep_until(SystemClock.now_ms() + 200).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_of_all_logs_holds() {
    let log = open(shared()).await;
    let subject: Subject = Arc::new(Rolling(log.clone(), admin(shared())));
    let compact = move |topic: &str| Box::pin(cleaned(log.clone(), topic.to_owned())) as _;
    suite::all(subject.clone(), Box::new(compact)).await;
    driftless::topic::blob_suite::all(subject).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_there_for_the_next_process() {
    suite::durable(Box::new(|| Box::pin(async { Arc::new(open(shared()).await) as Subject }))).await;
}

/// claim-2: acknowledged means there, in order; after a failure a session takes nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_killed_in_the_middle_loses_nothing_it_acknowledged() {
    let server = Arc::new(Server::start());
    // Less than a start takes, so that appends do fail.
    let log = open_with(&server, &[("delivery.timeout.ms", "1500"), ("request.timeout.ms", "1000")]).await;
    let at = Partition::new(topic(&log, "killed", 1).await, 0);
    let mut acknowledged: BTreeMap<usize, Offset> = BTreeMap::new();
    let mut sent = 0;
    let mut killer = None;
    let (mut dead, mut survived) = (Vec::new(), false);
    let mut session = log.session().await.unwrap();
    while acknowledged.len() < 6000 || !survived {
        let was_killed = killer.as_ref().is_some_and(tokio::task::JoinHandle::is_finished);
        let batches: Vec<_> = (0..20)
            .map(|_| {
                sent += 10;
                (sent - 10, session.append(&at, numbered(sent - 10..sent)))
            })
            .collect();
        if acknowledged.len() > 2000 && killer.is_none() {
            let server = server.clone();
            killer = Some(tokio::task::spawn_blocking(move || server.kill_and_start_again()));
        }
        let mut failed = false;
        for (first, batch) in batches {
            match soon("an answer", batch).await {
                Ok(offsets) => acknowledged.extend((first..).zip(offsets)),
                Err(error) => {
                    assert_eq!(error.code, Code::AppendUnknown, "{error:?}");
                    failed = true;
                }
            }
        }
        survived |= was_killed && !failed;
        if failed {
            dead.push(std::mem::replace(&mut session, log.session().await.unwrap()));
        }
    }
    killer.unwrap().await.unwrap();
    assert!(!dead.is_empty(), "the broker's death was not felt");
    for session in &dead {
        let late = soon("a refusal", session.append(&at, numbered(0..1))).await;
        assert_eq!(late.unwrap_err().code, Code::AppendUnknown, "a session stays dead though the broker is back");
    }
    let high = log.bounds(&at).await.unwrap().high;
    let all = soon("everything", suite::read(&(Arc::new(log.clone()) as Subject), &at, 0, high as usize)).await;
    let number = |m: &driftless::topic::Delivered<Raw>| -> usize {
        std::str::from_utf8(m.payload.as_ref().unwrap()).unwrap().parse().unwrap()
    };
    for (sent, offset) in &acknowledged {
        assert_eq!(number(&all[*offset as usize]), *sent, "an acknowledged message at its offset");
    }
    let numbers: Vec<_> = all.iter().map(number).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "in order, and none twice");
}

/// What was given to a session lands although the session is gone; the future was not needed.
#[tokio::test(flavor = "multi_thread")]
async fn batches_of_a_session_that_was_dropped_still_land_in_order() {
    let log = open(shared()).await;
    let at = Partition::new(topic(&log, "dropped", 1).await, 0);
    let session = log.session().await.unwrap();
    (0..100).for_each(|n| drop(session.append(&at, numbered(n * 10..n * 10 + 10))));
    drop(session);
    let all = soon("late batches", suite::read(&(Arc::new(log) as Subject), &at, 0, 1000)).await;
    for (n, message) in all.iter().enumerate() {
        assert_eq!(message.payload, Some(Bytes::from(n.to_string())));
    }
}

/// A full queue is back-pressure, no failure (claim-2).
#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_only_takes_longer() {
    let log = open_with(shared(), &[("queue.buffering.max.messages", "50")]).await;
    let at = Partition::new(topic(&log, "full", 1).await, 0);
    let session = log.session().await.unwrap();
    let given: Vec<_> = (0..40).map(|n| session.append(&at, numbered(n * 100..n * 100 + 100))).collect();
    let offsets = soon("40 batches", futures_util::future::join_all(given)).await;
    let offsets: Vec<_> = offsets.into_iter().flat_map(|o| o.unwrap()).collect();
    assert_eq!(offsets, (0..4000).collect::<Vec<_>>());
    let all = suite::read(&(Arc::new(log) as Subject), &at, 0, 4000).await;
    assert!(all.iter().enumerate().all(|(n, m)| m.payload == Some(Bytes::from(n.to_string()))));
}

/// Takes the next event of a member; hands over at once what is asked back.
async fn follow(member: &dyn Membership, mine: &mut Vec<Partition>) {
    match soon("an assignment", member.next()).await.unwrap() {
        Assignment::Assigned(more) => mine.extend(more),
        Assignment::Revoked(gone) => {
            assert!(gone.iter().all(|at| member.holds(at)), "ours until released");
            mine.retain(|at| !gone.contains(at));
            member.released(&gone).await.unwrap();
            assert!(!gone.iter().any(|at| member.holds(at)), "not ours after that");
        }
        Assignment::Lost(gone) => mine.retain(|at| !gone.contains(at)),
    }
}

async fn members_share(log: &KafkaLog, name: &str) {
    let name = topic(log, name, 4).await;
    let group = format!("{name}-group");
    let all: Vec<_> = (0..4).map(|n| Partition::new(name.clone(), n)).collect();
    let first = log.join(&group, std::slice::from_ref(&name)).await.unwrap();
    let (mut one, mut two) = (Vec::new(), Vec::new());
    while one.len() < 4 {
        follow(&*first, &mut one).await;
    }
    let link = Committed { offset: 5, metadata: Bytes::from_static(&[0, 1, 255]) };
    first.commit(&all[3], link.clone()).await.unwrap();
    let second = log.join(&group, std::slice::from_ref(&name)).await.unwrap();
    while one.len() != 2 || two.len() != 2 {
        tokio::select! {
            () = follow(&*first, &mut one) => {}
            () = follow(&*second, &mut two) => {}
        }
        assert!(!one.iter().any(|at| two.contains(at)), "never with both");
    }
    let mut both: Vec<_> = one.iter().chain(&two).cloned().collect();
    both.sort();
    assert_eq!(both, all);
    assert_eq!(second.committed(&all[3]).await.unwrap(), Some(link));
    drop(first);
    while two.len() < 4 {
        follow(&*second, &mut two).await;
    }
    assert!(all.iter().all(|at| second.holds(at)));
}

/// claim-9
#[tokio::test(flavor = "multi_thread")]
async fn two_members_share_a_group_and_the_second_takes_over() {
    members_share(&open(shared()).await, "classic").await;
}

/// claim-9, with the groups of Kafka 4.
#[tokio::test(flavor = "multi_thread")]
async fn two_members_share_a_group_of_the_newer_protocol() {
    members_share(&open_with(shared(), &[("group.protocol", "consumer")]).await, "newer").await;
}

/// claim-8: whoever does not ask any more does not hold, and is put out of the group.
#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_hangs_loses_its_partitions_to_the_other() {
    let settings = [("session.timeout.ms", "6000"), ("max.poll.interval.ms", "6000")];
    let log = open_with(shared(), &settings).await;
    let name = topic(&log, "hangs", 1).await;
    let at = Partition::new(name.clone(), 0);
    let (mut one, mut two) = (Vec::new(), Vec::new());
    let first = log.join("hangs-group", std::slice::from_ref(&name)).await.unwrap();
    follow(&*first, &mut one).await;
    assert_eq!(one, std::slice::from_ref(&at));
    assert!(first.holds(&at));
    let second = log.join("hangs-group", std::slice::from_ref(&name)).await.unwrap();
    while two.is_empty() {
        follow(&*second, &mut two).await;
    }
    assert_eq!(two, std::slice::from_ref(&at));
    assert!(second.holds(&at) && !first.holds(&at), "at most one holds it");
    let late = first.commit(&at, Committed { offset: 1, metadata: Bytes::new() }).await;
    assert_eq!(late.unwrap_err().code, Code::ClaimLost);
    assert_eq!(soon("the loss", first.next()).await.unwrap(), Assignment::Lost(vec![at]));
}

/// claim-8: a node whose threads are all at work is served all the same, or it would take its own partitions over
/// again and again for as long as there is much to do.
#[tokio::test(flavor = "current_thread")]
async fn a_member_whose_node_is_busy_holds_its_partitions() {
    let log = open(shared()).await;
    let name = topic(&log, "busy", 1).await;
    let at = Partition::new(name.clone(), 0);
    let member = log.join("busy-group", std::slice::from_ref(&name)).await.unwrap();
    let mut mine = Vec::new();
    while mine.is_empty() {
        follow(&*member, &mut mine).await;
    }
    let begun_ms = SystemClock.now_ms();
    while SystemClock.now_ms() < begun_ms + 3_000 {
        assert!(member.holds(&at), "lost after {} ms", SystemClock.now_ms() - begun_ms);
        std::thread::yield_now();
    }
}

/// topic-3: what is deleted under a reader is an error, not a jump.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_whose_messages_are_deleted_learns_that_history_is_lost() {
    // A small look-ahead, so that the reader has not fetched everything before.
    let ahead =
        [("queued.min.messages", "1"), ("queued.max.messages.kbytes", "1"), ("fetch.message.max.bytes", "1000")];
    let log = open_with(shared(), &ahead).await;
    let at = Partition::new(topic(&log, "deleted", 1).await, 0);
    let session = log.session().await.unwrap();
    for n in 0..100 {
        session.append(&at, vec![suite::message(&n.to_string(), &"x".repeat(2000))]).await.unwrap();
    }
    let mut reading = log.read(&at, 0).await.unwrap();
    soon("the first", reading.next(1)).await.unwrap();
    log.delete_below(&at, 90).await.unwrap();
    let error = loop {
        match soon("an end", reading.next(10)).await {
            Ok(got) => assert!(got.iter().all(|d| d.offset < 90), "jumped over what was deleted"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code, Code::HistoryLost, "{error:?}");
    assert_eq!(soon("it again", reading.next(10)).await.unwrap_err().code, Code::HistoryLost, "it stays lost");
    let mut beyond = log.read(&at, 500).await.unwrap();
    assert_eq!(soon("an error", beyond.next(1)).await.unwrap_err().code, Code::HistoryLost, "the log ends before");
    log.delete_below(&at, 10_000).await.unwrap();
    assert_eq!(log.bounds(&at).await.unwrap(), Bounds { low: 100, high: 100 });
}

/// topic-6: a topic somebody changed, or made, is told with the command that repairs it.
#[tokio::test(flavor = "multi_thread")]
async fn other_settings_of_a_topic_are_named_with_their_repair() {
    let log = open(shared()).await;
    let name = topic(&log, "changed", 2).await;
    let spec = suite::spec(&name, 2, Cleanup::Keep);
    log.create(&spec).await.unwrap();
    // What is not named goes back to the broker's defaults.
    let change = AlterConfig::new(ResourceSpecifier::Topic(&name)).set("message.timestamp.type", "LogAppendTime");
    let change = change.set("compression.type", "lz4").set("max.message.bytes", "20000000");
    admin(shared()).alter_configs([&change], &AdminOptions::new()).await.unwrap();
    let error = log.create(&spec).await.unwrap_err();
    assert_eq!(error.code, Code::TopicSettings);
    assert!(error.doing.contains("retention.ms is 604800000, expected -1"), "{error}");
    assert!(error.doing.ends_with("--entity-name changed --add-config retention.ms=-1"), "{error}");

    let strange = NewTopic::new("strange", 2, TopicReplication::Fixed(1));
    admin(shared()).create_topics([&strange], &AdminOptions::new()).await.unwrap();
    let spec = TopicSpec { topic: "strange".into(), compression: Compression::Zstd(7), ..spec };
    let error = log.create(&spec).await.unwrap_err();
    for wanted in ["retention.ms=-1", "message.timestamp.type=LogAppendTime", "compression.zstd.level=7"] {
        assert!(error.doing.contains(wanted), "{wanted}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_compression_is_kept_with_its_topic() {
    for (n, compression) in
        [Compression::None, Compression::Lz4, Compression::Zstd(3), Compression::Zstd(19)].into_iter().enumerate()
    {
        let settings = KafkaSettings {
            brokers: shared().brokers(),
            compression,
            prefix: "codec".into(),
            ..KafkaSettings::default()
        };
        let log = KafkaLog::open(settings, Arc::new(SystemClock)).await.unwrap();
        let topic: Arc<str> = format!("codec-{n}").into();
        let spec = TopicSpec { compression, ..suite::spec(&topic, 1, Cleanup::Keep) };
        log.create(&spec).await.unwrap();
        log.create(&spec).await.unwrap();
        let at = Partition::new(topic.clone(), 0);
        let sent = vec![suite::message("k", &"text ".repeat(1000))];
        log.session().await.unwrap().append(&at, sent.clone()).await.unwrap();
        let log: Subject = Arc::new(log);
        assert_eq!(suite::read(&log, &at, 0, 1).await[0].payload, sent[0].payload);
        let all = log.topics().await.unwrap();
        assert!(all.contains(&spec) && all.iter().all(|t| t.topic.starts_with("codec")), "{all:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_not_there_is_told_with_its_address() {
    let librdkafka = [("socket.timeout.ms".to_owned(), "2000".to_owned())].into();
    let settings = KafkaSettings { brokers: "127.0.0.1:1".into(), librdkafka, ..KafkaSettings::default() };
    let Err(error) = soon("an error", KafkaLog::open(settings, Arc::new(SystemClock))).await else { panic!("opened") };
    assert_eq!(error.code, Code::LogUnreachable, "{error:?}");
    assert!(error.doing.contains("127.0.0.1:1"), "{error}");
}
