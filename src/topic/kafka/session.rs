//! Appending: one idempotent producer per session. Batches of a partition land in the order given and
//! at most once. A full queue waits, it is no failure. After the first failure the session is dead:
//! what is still queued is dropped, and later appends fail at once (claim-2).
//!
//! Each message carries a pointer to its batch; the thread that serves the producer counts the
//! deliveries there and answers once per batch, not once per message.

use super::{Code, Compression, Error, Heard, KafkaLog, MESSAGE_BYTES_MAX, Result, config, failed, index, refused};
use crate::event::Offset;
use crate::topic::{Appending, Delivered, Log, Message, Partition, Raw, Session};
use bytes::Bytes;
use futures_util::FutureExt;
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext, PurgeConfig};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the thread waits for deliveries before it looks around.
const TURN: Duration = Duration::from_millis(20);
/// What a message needs beside key and payload, in bytes, at most.
const OVERHEAD_BYTES: usize = 512;
/// How many messages a read-back asks for at once.
const READ_BACK_MAX: usize = 1000;

const TUNED: [(&str, &str); 7] = [
    // Long enough for a batch to be given, short beside the broker's answer.
    ("linger.ms", "0.3"),
    // claim-8: an append is either there soon, or given up.
    ("delivery.timeout.ms", "10000"),
    ("request.timeout.ms", "5000"),
    ("retry.backoff.ms", "20"),
    ("queue.buffering.max.messages", "500000"),
    ("queue.buffering.max.kbytes", "262144"),
    ("message.max.bytes", "10485760"),
];

/// The log model of protocol.md §3 rests on these.
const FIXED: [(&str, &str); 3] =
    [("enable.idempotence", "true"), ("acks", "all"), ("max.in.flight.requests.per.connection", "5")];

/// A batch on its way.
struct Batch {
    at: Partition,
    state: Mutex<Progress>,
}

struct Progress {
    expected: usize,
    /// In the order of the deliveries, which is that of the messages.
    offsets: Vec<Option<Offset>>,
    /// Messages that were acknowledged without an offset.
    sought: Vec<Message<Raw>>,
    /// Taken when the batch is answered.
    answer: Option<oneshot::Sender<Outcome>>,
}

enum Outcome {
    Landed(Vec<Offset>),
    /// Everything landed, but where is not known of all; not before `after`.
    Unplaced {
        offsets: Vec<Option<Offset>>,
        sought: Vec<Message<Raw>>,
        after: Option<Offset>,
    },
    Failed(Error),
}

impl Batch {
    fn fail(&self, error: Error) {
        if let Some(answer) = self.state.lock().answer.take() {
            // Nobody waits any more: nothing to tell.
            let _ = answer.send(Outcome::Failed(error.at("partition", &self.at)));
        }
    }

    /// Counts a message that landed; `ends` are the last known offsets of the session.
    fn landed(&self, offset: i64, content: impl FnOnce() -> Message<Raw>, ends: &Mutex<BTreeMap<Partition, Offset>>) {
        let mut state = self.state.lock();
        let offset = u64::try_from(offset).ok();
        if offset.is_none() {
            state.sought.push(content());
        }
        state.offsets.push(offset);
        if state.offsets.len() < state.expected {
            return;
        }
        let (offsets, sought) = (std::mem::take(&mut state.offsets), std::mem::take(&mut state.sought));
        let mut ends = ends.lock();
        let after = ends.get(&self.at).copied();
        if let Some(last) = offsets.iter().flatten().next_back() {
            ends.insert(self.at.clone(), *last);
        }
        drop(ends);
        if let Some(answer) = state.answer.take() {
            let all: Option<Vec<Offset>> = offsets.iter().copied().collect();
            let _ = answer.send(all.map_or(Outcome::Unplaced { offsets, sought, after }, Outcome::Landed));
        }
    }
}

/// Hears the deliveries.
struct Deliveries {
    heard: Heard,
    dead: AtomicBool,
    /// The last offset known to be ours, per partition.
    ends: Mutex<BTreeMap<Partition, Offset>>,
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        self.heard.error(error, reason);
    }

    fn log(&self, level: RDKafkaLogLevel, fac: &str, text: &str) {
        self.heard.log(level, fac, text);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Arc<Batch>;

    fn delivery(&self, result: &DeliveryResult<'_>, batch: Arc<Batch>) {
        let content = |m: &rdkafka::message::BorrowedMessage<'_>| Message {
            key: Bytes::copy_from_slice(m.key().unwrap_or_default()),
            payload: m.payload().map(Bytes::copy_from_slice),
        };
        match result {
            Ok(message) => batch.landed(message.offset(), || content(message), &self.ends),
            Err((error, _)) => {
                self.dead.store(true, Ordering::Release);
                batch.fail(undelivered(error));
            }
        }
    }
}

/// What it means that a message was not delivered: its fate is unknown, unless the cluster's refusal
/// is one that a person must end.
fn undelivered(error: &KafkaError) -> Error {
    let doing = "the append failed";
    match error.rdkafka_error_code().map(|code| refused(doing, code)) {
        Some(told) if matches!(told.code, Code::TopicMissing | Code::LogFailed) && is_final(error) => told,
        _ => unknown(error.to_string()),
    }
    .caused_by(error.clone())
}

fn is_final(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as K;
    let finals = [
        K::UnknownTopic,
        K::UnknownPartition,
        K::UnknownTopicOrPartition,
        K::TopicAuthorizationFailed,
        K::ClusterAuthorizationFailed,
    ];
    error.rdkafka_error_code().is_some_and(|code| finals.contains(&code))
}

fn unknown(why: impl std::fmt::Display) -> Error {
    Error::new(Code::AppendUnknown, format!("the append may or may not have landed: {why}"))
}

/// A batch of which not all messages are with the producer yet.
struct Job {
    batch: Arc<Batch>,
    messages: Vec<Message<Raw>>,
    next: usize,
}

/// What the session and its thread share.
struct Shared {
    producer: BaseProducer<Deliveries>,
    /// Batches the producer's queue had no room for, oldest first. Its lock also keeps batches apart.
    backlog: Mutex<VecDeque<Job>>,
    closed: AtomicBool,
}

impl Shared {
    fn is_dead(&self) -> bool {
        self.producer.context().dead.load(Ordering::Acquire)
    }

    /// Gives the producer as much of a batch as it takes; whether that was everything.
    fn send(&self, job: &mut Job) -> bool {
        let Job { batch, messages, next } = job;
        for message in messages.iter().skip(*next) {
            let record = BaseRecord {
                topic: &batch.at.topic,
                partition: Some(index(&batch.at)),
                payload: message.payload.as_deref(),
                key: Some(&*message.key),
                timestamp: None,
                headers: None,
                delivery_opaque: batch.clone(),
            };
            match self.producer.send(record) {
                Ok(()) => *next += 1,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => return false,
                Err((error, _)) => {
                    self.producer.context().dead.store(true, Ordering::Release);
                    batch.fail(undelivered(&error));
                    return true;
                }
            }
        }
        true
    }

    fn give(&self, mut job: Job) {
        let mut backlog = self.backlog.lock();
        if self.is_dead() {
            job.batch.fail(unknown("an earlier append of this session failed"));
        } else if !backlog.is_empty() || !self.send(&mut job) {
            backlog.push_back(job);
        }
    }

    /// Serves the producer until the session is closed and nothing is on its way any more.
    fn run(&self) {
        loop {
            self.producer.poll(TURN);
            let mut backlog = self.backlog.lock();
            if self.is_dead() {
                // claim-2: what was not sent must not land behind the failure; what is in flight may.
                backlog.drain(..).for_each(|job| job.batch.fail(unknown("an earlier append of this session failed")));
                self.producer.purge(PurgeConfig::default().queue().inflight());
            }
            while let Some(job) = backlog.front_mut() {
                if !self.send(job) {
                    break;
                }
                backlog.pop_front();
            }
            if self.closed.load(Ordering::Acquire) && backlog.is_empty() && self.producer.in_flight_count() == 0 {
                return;
            }
        }
    }
}

/// A producer session.
pub(super) struct KafkaSession {
    log: KafkaLog,
    shared: Arc<Shared>,
    message_bytes_max: usize,
}

impl KafkaSession {
    /// Whether it takes nothing more.
    pub(super) fn is_dead(&self) -> bool {
        self.shared.is_dead()
    }

    /// Opens a session. Blocks shortly.
    pub(super) fn open(log: KafkaLog) -> Result<Self> {
        let config = producer_config(&log);
        let limit = config.get("message.max.bytes").and_then(|text| text.parse().ok()).unwrap_or(MESSAGE_BYTES_MAX);
        let context = Deliveries { heard: log.0.heard.clone(), dead: AtomicBool::new(false), ends: Mutex::default() };
        let producer =
            config.create_with_context(context).map_err(|e| failed("no producer of the log could be made", e))?;
        let shared = Arc::new(Shared { producer, backlog: Mutex::default(), closed: AtomicBool::new(false) });
        let served = shared.clone();
        let thread = std::thread::Builder::new().name("kafka-session".into()).spawn(move || served.run());
        thread.map_err(|e| Error::new(Code::LogFailed, "a thread of the log could not be started").caused_by(e))?;
        Ok(KafkaSession { log, shared, message_bytes_max: limit })
    }

    fn check(&self, at: &Partition, messages: &[Message<Raw>]) -> Result<()> {
        let bytes = |m: &Message<Raw>| m.key.len() + m.payload.as_ref().map_or(0, Bytes::len) + OVERHEAD_BYTES;
        match messages.iter().map(bytes).max().filter(|bytes| *bytes > self.message_bytes_max) {
            None => Ok(()),
            Some(bytes) => {
                let text = format!(
                    "a message of {bytes} bytes is over the limit of {}; make the record smaller where it was written, or raise \
                     message.max.bytes",
                    self.message_bytes_max
                );
                Err(Error::new(Code::ValueTooLarge, text).at("partition", at))
            }
        }
    }
}

fn producer_config(log: &KafkaLog) -> ClientConfig {
    let settings = &log.0.settings;
    let mut config = config(settings, &TUNED, &FIXED);
    let (codec, level) = match settings.compression {
        Compression::None => ("none", None),
        Compression::Lz4 => ("lz4", None),
        // librdkafka knows no levels above 12; the topic's own setting does.
        Compression::Zstd(level) => ("zstd", Some(level.min(12))),
    };
    for name in ["compression.codec", "compression.type"] {
        config.remove(name);
    }
    config.set("compression.type", codec);
    if let Some(level) = level {
        config.set("compression.level", level.to_string());
    }
    config
}

impl Drop for KafkaSession {
    /// What was given to the log still lands; the thread ends by itself.
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
    }
}

impl Session<Raw> for KafkaSession {
    fn append(&self, at: &Partition, messages: Vec<Message<Raw>>) -> Appending {
        if messages.is_empty() {
            return async { Ok(Vec::new()) }.boxed();
        }
        if let Err(error) = self.check(at, &messages) {
            return async { Err(error) }.boxed();
        }
        let (answer, outcome) = oneshot::channel();
        let expected = messages.len();
        let progress =
            Progress { expected, offsets: Vec::with_capacity(expected), sought: Vec::new(), answer: Some(answer) };
        let batch = Arc::new(Batch { at: at.clone(), state: Mutex::new(progress) });
        self.shared.give(Job { batch, messages, next: 0 });
        let (log, at) = (self.log.clone(), at.clone());
        async move {
            match outcome.await {
                Ok(Outcome::Landed(offsets)) => Ok(offsets),
                Ok(Outcome::Failed(error)) => Err(log.explain(error)),
                Ok(Outcome::Unplaced { offsets, sought, after }) => read_back(&log, &at, offsets, &sought, after).await,
                Err(_) => Err(unknown("the session ended").at("partition", at)),
            }
        }
        .boxed()
    }
}

/// claim-2: finds the offsets of messages that were acknowledged without one. Without an earlier
/// offset of the session there is no place to begin, and the fate counts as unknown.
async fn read_back(
    log: &KafkaLog,
    at: &Partition,
    offsets: Vec<Option<Offset>>,
    sought: &[Message<Raw>],
    after: Option<Offset>,
) -> Result<Vec<Offset>> {
    let no_place = || unknown("it was acknowledged without an offset").at("partition", at);
    let mut next = after.ok_or_else(no_place)? + 1;
    let high = log.bounds(at).await?.high;
    let mut reading = log.read(at, next).await?;
    let mut seen = Vec::new();
    while next < high {
        seen.extend(reading.next(READ_BACK_MAX).await?.into_iter().filter(|d| sought.iter().any(|m| is_same(m, d))));
        next = reading.offset();
    }
    place(&offsets, sought, &seen).ok_or_else(no_place)
}

fn is_same(message: &Message<Raw>, delivered: &Delivered<Raw>) -> bool {
    message.key == delivered.key && message.payload == delivered.payload
}

/// Fills in the missing offsets, if each message sought was seen exactly once and in order.
fn place(offsets: &[Option<Offset>], sought: &[Message<Raw>], seen: &[Delivered<Raw>]) -> Option<Vec<Offset>> {
    let mut found = sought.iter().map(|message| {
        let mut places = seen.iter().filter(|d| is_same(message, d)).map(|d| d.offset);
        places.next().filter(|_| places.next().is_none())
    });
    let all: Vec<Offset> =
        offsets.iter().map(|known| known.or_else(|| found.next().flatten())).collect::<Option<_>>()?;
    all.is_sorted_by(|a, b| a < b).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &'static str) -> Message<Raw> {
        Message { key: Bytes::from_static(b"k"), payload: Some(Bytes::from_static(text.as_bytes())) }
    }

    fn delivered(offset: Offset, text: &'static str) -> Delivered<Raw> {
        let Message { key, payload } = message(text);
        Delivered { offset, time_ms: 0, key, payload }
    }

    /// claim-2
    #[test]
    fn an_ack_without_offset_is_placed_only_where_there_is_no_doubt() {
        let sought = [message("b"), message("c")];
        let holes = [Some(4), None, None];
        let seen = [delivered(6, "b"), delivered(8, "c")];
        assert_eq!(place(&holes, &sought, &seen), Some(vec![4, 6, 8]));
        assert_eq!(place(&holes, &sought, &seen[..1]), None, "one is not there");
        let twice = [delivered(6, "b"), delivered(7, "b"), delivered(8, "c")];
        assert_eq!(place(&holes, &sought, &twice), None, "which one is ours?");
        assert_eq!(place(&holes, &sought, &[delivered(8, "b"), delivered(6, "c")]), None, "not our order");
    }

    #[tokio::test]
    async fn a_batch_is_answered_once_and_keeps_what_has_no_offset() {
        let ends = Mutex::default();
        let batch = |expected| {
            let (answer, outcome) = oneshot::channel();
            let state = Progress { expected, offsets: Vec::new(), sought: Vec::new(), answer: Some(answer) };
            (Batch { at: Partition::new("t", 0), state: Mutex::new(state) }, outcome)
        };
        let (first, outcome) = batch(2);
        first.landed(3, || message("a"), &ends);
        first.landed(4, || message("b"), &ends);
        assert!(matches!(outcome.await, Ok(Outcome::Landed(offsets)) if offsets == [3, 4]));
        let (second, outcome) = batch(2);
        second.landed(5, || message("c"), &ends);
        second.landed(-1001, || message("d"), &ends);
        match outcome.await {
            Ok(Outcome::Unplaced { offsets, sought, after }) => {
                assert_eq!((offsets, sought, after), (vec![Some(5), None], vec![message("d")], Some(4)));
            }
            _ => panic!("an ack without offset is no landing at a known place"),
        }
    }

    #[test]
    fn a_time_out_leaves_the_fate_unknown_and_a_missing_topic_does_not() {
        let code = |code| undelivered(&KafkaError::MessageProduction(code)).code;
        assert_eq!(code(RDKafkaErrorCode::MessageTimedOut), Code::AppendUnknown);
        assert_eq!(code(RDKafkaErrorCode::PurgeInflight), Code::AppendUnknown);
        assert_eq!(code(RDKafkaErrorCode::OutOfOrderSequenceNumber), Code::AppendUnknown);
        assert_eq!(code(RDKafkaErrorCode::UnknownPartition), Code::TopicMissing);
        assert_eq!(code(RDKafkaErrorCode::TopicAuthorizationFailed), Code::LogFailed);
    }
}
