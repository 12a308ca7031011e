//! Reading one partition: a consumer of its own, without a group, that fetches ahead. Messages come
//! as librdkafka's queue has them, copied once into a buffer per batch. Broken connections are waited
//! out; deleted messages are an error, never a silent jump.

use super::client::is_transient;
use super::{Code, Error, Heard, KafkaLog, Result, config, failed, list, raw};
use crate::event::Offset;
use crate::topic::{Delivered, Log, Partition, Raw, Reading};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How often the queue is looked at although nothing woke us, in milliseconds: other events than
/// messages share the queue and the wake-up.
const LOOK_MS: u64 = 250;
/// How many looks in a row must find nothing: one may have served such an event.
const LOOKS: usize = 3;
/// A batch ends when it holds this much.
const BATCH_BYTES: usize = 16 << 20;

const TUNED: [(&str, &str); 6] = [
    // The broker answers as soon as there is a byte: this is how often an idle reader asks again.
    ("fetch.wait.max.ms", "1000"),
    ("fetch.error.backoff.ms", "50"),
    // Behind by far, the queue empties faster than librdkafka's second of rest.
    ("fetch.queue.backoff.ms", "5"),
    // A node has one reader for each partition of each platform: what each holds ready is bounded tightly.
    ("queued.min.messages", "2000"),
    ("queued.max.messages.kbytes", "1024"),
    ("fetch.message.max.bytes", "262144"),
];

/// `group.id` is needed to assign, and names nothing: nothing is ever committed under it.
const FIXED: [(&str, &str); 7] = [
    ("group.id", "driftless-reader"),
    ("group.protocol", "classic"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "false"),
    // A jump over deleted messages must be told: history_lost.
    ("auto.offset.reset", "error"),
    ("isolation.level", "read_uncommitted"),
];

/// Reads one partition.
pub(super) struct KafkaReading {
    log: KafkaLog,
    at: Partition,
    next: Offset,
    /// The last time told: times never fall, though brokers' clocks may.
    time_ms: u64,
    /// Taken by `drop`.
    consumer: Option<BaseConsumer<Heard>>,
    filled: Arc<Notify>,
    /// The cluster has nothing at `next`.
    out_of_range: bool,
    /// Found behind messages that were returned first.
    failed: Option<Error>,
}

impl KafkaReading {
    /// Opens a reader. Blocks shortly.
    pub(super) fn open(log: KafkaLog, at: Partition, from: Offset) -> Result<Self> {
        let doing = "no reader of the log could be made";
        let config = config(&log.0.settings, &TUNED, &FIXED);
        let mut consumer: BaseConsumer<Heard> =
            config.create_with_context(log.0.heard.clone()).map_err(|e| failed(doing, e))?;
        let filled = Arc::new(Notify::new());
        let wake = filled.clone();
        consumer.set_nonempty_callback(move || wake.notify_one());
        consumer.assign(&list([&at], raw(from))?).map_err(|e| failed(doing, e).at("partition", &at))?;
        let consumer = Some(consumer);
        Ok(KafkaReading { log, at, next: from, time_ms: 0, consumer, filled, out_of_range: false, failed: None })
    }

    /// Takes up to `limit` messages of those that are here already.
    fn take(&mut self, limit: usize) -> Vec<Delivered<Raw>> {
        let Some(consumer) = &self.consumer else { return Vec::new() };
        let mut batch = Gathered::default();
        let mut misses = 0;
        while batch.places.len() < limit && batch.bytes.len() < BATCH_BYTES && misses < LOOKS {
            match consumer.poll(Duration::ZERO) {
                None => misses += 1,
                Some(Ok(message)) => {
                    if let Some(offset) = u64::try_from(message.offset()).ok().filter(|o| *o >= self.next) {
                        let told_ms = message.timestamp().to_millis().and_then(|ms| u64::try_from(ms).ok());
                        self.time_ms = self.time_ms.max(told_ms.unwrap_or(0));
                        batch.push(offset, self.time_ms, &message);
                        self.next = offset + 1;
                    }
                }
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                        self.out_of_range = true;
                        break;
                    }
                    Some(code) if is_passing(code) => tracing::debug!(%error, at = %self.at, "a reader waits"),
                    _ => {
                        self.failed = Some(told(error, &self.at));
                        break;
                    }
                },
            }
        }
        batch.delivered()
    }

    /// Tells why the cluster has nothing at `next`, or goes on there if it has by now.
    async fn explain_range(&mut self) -> Result<()> {
        let bounds = self.log.bounds(&self.at).await?;
        let lost = |text: String| Error::new(Code::HistoryLost, text).at("partition", &self.at).at("offset", self.next);
        if self.next < bounds.low {
            let text = "the messages wanted were deleted from the log";
            return Err(lost(format!("{text}; the oldest one is {}", bounds.low)));
        }
        if self.next > bounds.high {
            let text = "the log ends before the offset wanted: messages that were acknowledged are gone";
            return Err(lost(format!("{text}; the log ends at {}", bounds.high)));
        }
        if let Some(consumer) = &self.consumer {
            let place = list([&self.at], raw(self.next))?;
            consumer.assign(&place).map_err(|e| told(e, &self.at))?;
        }
        self.out_of_range = false;
        Ok(())
    }
}

fn told(error: KafkaError, at: &Partition) -> Error {
    failed("the log could not be read", error).at("partition", at)
}

/// A reader needs no group; what its nominal one meets is of no interest.
fn is_passing(code: RDKafkaErrorCode) -> bool {
    is_transient(code) || code == RDKafkaErrorCode::GroupAuthorizationFailed
}

/// Messages copied into one buffer.
#[derive(Default)]
struct Gathered {
    bytes: BytesMut,
    /// Offset, time, length of the key, length of the payload.
    places: Vec<(Offset, u64, usize, Option<usize>)>,
}

impl Gathered {
    fn push(&mut self, offset: Offset, time_ms: u64, message: &BorrowedMessage<'_>) {
        let key = message.key().unwrap_or_default();
        let payload = message.payload();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(payload.unwrap_or_default());
        self.places.push((offset, time_ms, key.len(), payload.map(<[u8]>::len)));
    }

    fn delivered(self) -> Vec<Delivered<Raw>> {
        let mut bytes = self.bytes.freeze();
        let mut cut = |length: usize| if length == 0 { Bytes::new() } else { bytes.split_to(length) };
        let places = self.places.into_iter();
        places
            .map(|(offset, time_ms, key, payload)| {
                let key = cut(key);
                Delivered { offset, time_ms, key, payload: payload.map(&mut cut) }
            })
            .collect()
    }
}

#[async_trait]
impl Reading<Raw> for KafkaReading {
    async fn next(&mut self, limit: usize) -> Result<Vec<Delivered<Raw>>> {
        loop {
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            if self.out_of_range {
                self.explain_range().await?;
            }
            let batch = self.take(limit.max(1));
            if !batch.is_empty() {
                return Ok(batch);
            }
            if self.failed.is_none() && !self.out_of_range {
                tokio::select! {
                    () = self.filled.notified() => {}
                    () = self.log.pause(LOOK_MS) => {}
                }
            }
        }
    }

    fn offset(&self) -> Offset {
        self.next
    }
}

impl Drop for KafkaReading {
    /// Closing a consumer waits for its threads: elsewhere.
    fn drop(&mut self) {
        let consumer = self.consumer.take();
        if let Err(error) = std::thread::Builder::new().name("kafka-close".into()).spawn(move || drop(consumer)) {
            tracing::warn!(%error, "a reader was closed in place, because no thread could be started");
        }
    }
}
