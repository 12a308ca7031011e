//! The log in Apache Kafka, for more than one process.
//!
//! An append is answered when all in-sync replicas have it (`session`): one idempotent producer for all
//! claims of the process, so batches land in order and at most once; after any failure it is dead, and
//! whoever wrote through it takes over again with a new one (claim-2). A reader fetches one partition without any group (`reading`). Topics are created with
//! settings under which nothing is lost, and existing ones are compared (`topics`, topic-6). A group's
//! members live in any process (`member`, claim-8, claim-9). It knows nothing of records or claims.
//!
//! Limits: times are the broker's, so they may fall between readers when leadership moves to a broker
//! whose clock is behind. A cluster forgets what a group committed when the group was empty for
//! `offsets.retention.minutes` (a week): its sinks then start again at the beginning.

mod client;
mod group;
mod member;
mod metadata;
mod reading;
mod serving;
mod session;
mod topics;

use super::{Bounds, Compression, Log, Membership, Partition, Raw, Reading, Session, TopicSpec};
use crate::event::Offset;
use crate::runtime::clock::Clock;
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use client::{Heard, REQUEST, blocking, config, failed, index, list, raw, refused};
use parking_lot::Mutex;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::consumer::{BaseConsumer, Consumer};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The largest message a topic takes, in bytes; larger payloads go in chunks.
pub const MESSAGE_BYTES_MAX: usize = 10 << 20;

/// How to reach a cluster.
#[derive(Clone, Default)]
pub struct KafkaSettings {
    /// `host:port`, separated by commas.
    pub brokers: String,
    /// Only topics whose names begin so are told by `topics`.
    pub prefix: String,
    /// How sessions compress; a topic with another compression is recompressed by the broker.
    pub compression: Compression,
    /// The node's name, if it has one: under it groups know it again after it was killed.
    pub instance: Option<String>,
    /// Settings for librdkafka under its own names: TLS, SASL, limits. What the guarantees rest on
    /// cannot be set here. `group.protocol: consumer` chooses Kafka's newer groups.
    pub librdkafka: BTreeMap<String, String>,
}

impl KafkaSettings {
    /// A topic that every node creates and no group works on.
    fn idle_topic(&self) -> String {
        format!("{}.__control", self.prefix)
    }
}

impl fmt::Debug for KafkaSettings {
    /// Without the values of librdkafka's settings: some are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.librdkafka.keys().collect();
        f.debug_struct("KafkaSettings").field("brokers", &self.brokers).field("librdkafka", &names).finish()
    }
}

/// The log in a Kafka cluster. Clones share it.
#[derive(Clone)]
pub struct KafkaLog(Arc<Inner>);

struct Inner {
    settings: KafkaSettings,
    clock: Arc<dyn Clock>,
    heard: Heard,
    /// Asks for metadata and offsets; never consumes.
    queries: BaseConsumer<Heard>,
    admin: AdminClient<Heard>,
    /// The producer that all claims of this process share (claim-2), while one of them uses it.
    session: Mutex<Weak<session::KafkaSession>>,
    /// How many partitions the topics have that were met already; frozen for a generation (topic-2).
    known: Mutex<BTreeMap<Arc<str>, u32>>,
}

impl KafkaLog {
    /// Connects. Fails with `config_invalid` if librdkafka refuses a setting, and with
    /// `log_unreachable` if no broker answers.
    pub async fn open(settings: KafkaSettings, clock: Arc<dyn Clock>) -> Result<Self> {
        blocking(move || {
            let heard = Heard::new(clock.clone());
            let doing = "no client of the Kafka cluster could be made";
            let config = config(&settings, &[], &[("group.protocol", "classic")]);
            let queries = config.create_with_context(heard.clone()).map_err(|e| failed(doing, e))?;
            let admin = config.create_with_context(heard.clone()).map_err(|e| failed(doing, e))?;
            let (session, known) = (Mutex::new(Weak::new()), Mutex::default());
            let log = KafkaLog(Arc::new(Inner { settings, clock, heard, queries, admin, session, known }));
            log.broker_count()?;
            Ok(log)
        })
        .await
    }

    fn broker_count(&self) -> Result<usize> {
        let answer = self.0.queries.fetch_metadata(Some("__none"), REQUEST);
        let text = format!("the Kafka cluster at {} did not answer", self.0.settings.brokers);
        answer.map(|m| m.brokers().len()).map_err(|e| self.explain(failed(&text, e)))
    }

    /// claim-2: one producer for all, so that a late record of an old claim stands before the next claim
    /// of this process. After a failure the next one to ask gets a new one.
    fn shared_session(&self) -> Result<Arc<session::KafkaSession>> {
        let mut shared = self.0.session.lock();
        if let Some(living) = shared.upgrade().filter(|session| !session.is_dead()) {
            return Ok(living);
        }
        let opened = Arc::new(session::KafkaSession::open(self.clone())?);
        *shared = Arc::downgrade(&opened);
        Ok(opened)
    }

    fn explain(&self, error: Error) -> Error {
        self.0.heard.explain(error)
    }

    /// Returns after `ms` milliseconds.
    async fn pause(&self, ms: u64) {
        self.0.clock.sleep_until(self.0.clock.now_ms() + ms).await;
    }

    /// Runs a query that blocks, then hears what the client has to tell.
    async fn query<T: Send + 'static>(&self, ask: impl FnOnce(&Self) -> Result<T> + Send + 'static) -> Result<T> {
        let log = self.clone();
        blocking(move || {
            let answer = ask(&log).map_err(|e| log.explain(e));
            while log.0.queries.poll(Duration::ZERO).is_some() {}
            answer
        })
        .await
    }

    /// Fails with `topic_missing` if a partition does not exist.
    async fn must_exist(&self, at: &Partition) -> Result<()> {
        let known = self.0.known.lock().get(&at.topic).copied();
        let count = match known {
            Some(count) => count,
            None => {
                let topic = at.topic.clone();
                self.query(move |log| log.shape(&topic)).await?.map_or(0, |shape| shape.partitions)
            }
        };
        if at.index < count {
            self.0.known.lock().insert(at.topic.clone(), count);
            return Ok(());
        }
        Err(Error::new(Code::TopicMissing, "the topic or partition does not exist").at("partition", at))
    }
}

#[async_trait]
impl Log<Raw> for KafkaLog {
    async fn create(&self, spec: &TopicSpec) -> Result<()> {
        self.create_topic(spec).await
    }

    async fn check(&self, spec: &TopicSpec) -> Result<()> {
        self.check_topic(spec).await
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>> {
        self.list_topics().await
    }

    async fn remove(&self, topic: &str) -> Result<()> {
        self.remove_topic(topic).await
    }

    async fn session(&self) -> Result<Arc<dyn Session<Raw>>> {
        let log = self.clone();
        blocking(move || Ok(log.shared_session()? as Arc<dyn Session<Raw>>)).await
    }

    async fn read(&self, at: &Partition, from: Offset) -> Result<Box<dyn Reading<Raw>>> {
        self.must_exist(at).await?;
        let (log, at) = (self.clone(), at.clone());
        blocking(move || Ok(Box::new(reading::KafkaReading::open(log, at, from)?) as Box<dyn Reading<Raw>>)).await
    }

    async fn bounds(&self, at: &Partition) -> Result<Bounds> {
        self.must_exist(at).await?;
        let at = at.clone();
        self.query(move |log| {
            let answer = log.0.queries.fetch_watermarks(&at.topic, index(&at), REQUEST);
            let (low, high) =
                answer.map_err(|e| failed("the offsets of a partition are not known", e).at("partition", &at))?;
            Ok(Bounds { low: u64::try_from(low).unwrap_or(0), high: u64::try_from(high).unwrap_or(0) })
        })
        .await
    }

    async fn offset_at(&self, at: &Partition, time_ms: u64) -> Result<Option<Offset>> {
        self.must_exist(at).await?;
        let at = at.clone();
        self.query(move |log| {
            let failed = |e| failed("the offset of a time is not known", e).at("partition", &at);
            let answer = log.0.queries.offsets_for_times(list([&at], raw(time_ms))?, REQUEST).map_err(failed)?;
            let Some(found) = answer.find_partition(&at.topic, index(&at)) else { return Ok(None) };
            found.error().map_err(failed)?;
            Ok(match found.offset() {
                rdkafka::Offset::Offset(offset) => u64::try_from(offset).ok(),
                _ => None,
            })
        })
        .await
    }

    async fn delete_below(&self, at: &Partition, offset: Offset) -> Result<()> {
        let bounds = self.bounds(at).await?;
        // Kafka refuses offsets past the end; the low watermark never falls.
        let offset = offset.min(bounds.high);
        if offset <= bounds.low {
            return Ok(());
        }
        let doing = "messages could not be deleted from the log";
        let list = list([at], raw(offset))?;
        let options = AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST));
        let answer = self.0.admin.delete_records(&list, &options);
        let answer = answer.await.map_err(|e| self.explain(failed(doing, e).at("partition", at)))?;
        match answer.find_partition(&at.topic, index(at)).map(|found| found.error()) {
            Some(Err(e)) => Err(failed(doing, e).at("partition", at)),
            _ => Ok(()),
        }
    }

    async fn join(&self, group: &str, topics: &[Arc<str>]) -> Result<Box<dyn Membership>> {
        let (log, group, topics) = (self.clone(), group.to_owned(), topics.to_vec());
        blocking(move || Ok(Box::new(member::KafkaMember::join(log, &group, &topics)?) as Box<dyn Membership>)).await
    }
}
