//! Where schemas and their ids are kept. `LogSchemas` keeps them in the log itself, in `__schemas`;
//! a Confluent-compatible registry can stand behind the same trait.
//!
//! An id in the log is 1 + the offset of the first record with that text (topic-8). Message keys are
//! unique per append, so that compaction removes nothing and the first record of a text stays the
//! first: two nodes that register one text at once end with one id.

use super::{Cleanup, Compression, Log, Message, Partition, Raw, TopicSpec};
use crate::event::avro::Forms;
use crate::event::{Offset, SchemaId};
use crate::runtime::clock::Clock;
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::Mutex;

/// A store of schemas.
#[async_trait]
pub trait Schemas: Send + Sync {
    /// The id of a schema's text, given now if it has none. `subject` is the name registries file it
    /// under; the same text has the same id whatever its subject. The result is in `forms`.
    async fn register(&self, subject: &str, text: &str) -> Result<SchemaId>;

    /// Finds the schema of an id and tells it to `forms`; fails if there is none.
    async fn find(&self, id: SchemaId) -> Result<()>;

    /// The schemas found so far.
    fn forms(&self) -> &Arc<Forms>;
}

/// Schemas in the log's own topic.
pub struct LogSchemas {
    log: Arc<dyn Log<Raw>>,
    clock: Arc<dyn Clock>,
    at: Partition,
    forms: Arc<Forms>,
    /// The next offset to read. Held while reading or appending, so that one registration runs at a time.
    next: Mutex<Offset>,
}

/// The topic of schemas (topic-6).
#[must_use]
pub fn topic(prefix: &str) -> TopicSpec {
    TopicSpec {
        topic: format!("{prefix}.__schemas").into(),
        partitions: 1,
        cleanup: Cleanup::Compact,
        compression: Compression::None,
    }
}

impl LogSchemas {
    /// Opens the schemas of the topics under `prefix`: creates their topic if it is missing and
    /// reads what is there.
    pub async fn open(log: Arc<dyn Log<Raw>>, clock: Arc<dyn Clock>, prefix: &str) -> Result<Self> {
        let spec = topic(prefix);
        log.create(&spec).await?;
        let at = Partition::new(spec.topic, 0);
        let schemas = LogSchemas { log, clock, at, forms: Arc::default(), next: Mutex::new(0) };
        let mut next = schemas.next.lock().await;
        schemas.read_on(&mut next).await?;
        drop(next);
        Ok(schemas)
    }

    /// Reads to the end of the topic.
    async fn read_on(&self, next: &mut Offset) -> Result<()> {
        let bounds = self.log.bounds(&self.at).await?;
        *next = (*next).max(bounds.low);
        if *next >= bounds.high {
            return Ok(());
        }
        let mut reading = self.log.read(&self.at, *next).await?;
        // The newest record is never compacted away, so the end is always reached.
        while *next < bounds.high {
            for message in reading.next(1000).await? {
                // What is no text was not written by driftless; it has an id that nobody uses.
                if let Some(text) = message.payload.as_deref().and_then(|text| std::str::from_utf8(text).ok()) {
                    self.forms.learn(id_at(message.offset)?, text);
                }
            }
            *next = reading.offset();
        }
        Ok(())
    }

    async fn append(&self, text: &str) -> Result<()> {
        let mut key = blake3::hash(text.as_bytes()).as_bytes().to_vec();
        key.extend_from_slice(&self.clock.fresh_id().to_be_bytes());
        let message = Message { key: key.into(), payload: Some(Bytes::copy_from_slice(text.as_bytes())) };
        self.log.session().await?.append(&self.at, vec![message]).await.map(|_| ())
    }
}

/// The id of the schema first written at `offset`.
fn id_at(offset: Offset) -> Result<SchemaId> {
    let id = u32::try_from(offset).ok().and_then(|offset| offset.checked_add(1));
    id.map(SchemaId).ok_or_else(|| Error::new(Code::LogCorrupt, "the topic of schemas has more records than ids"))
}

#[async_trait]
impl Schemas for LogSchemas {
    async fn register(&self, _subject: &str, text: &str) -> Result<SchemaId> {
        if let Some(id) = self.forms.id_of(text) {
            return Ok(id);
        }
        let mut next = self.next.lock().await;
        self.read_on(&mut next).await?;
        if let Some(id) = self.forms.id_of(text) {
            return Ok(id);
        }
        self.append(text).await?;
        self.read_on(&mut next).await?;
        let missing = || Error::new(Code::LogCorrupt, "a schema was written and acknowledged, but is not there");
        self.forms.id_of(text).ok_or_else(|| missing().at("topic", &self.at.topic))
    }

    async fn find(&self, id: SchemaId) -> Result<()> {
        if self.forms.text_of(id).is_none() {
            let mut next = self.next.lock().await;
            self.read_on(&mut next).await?;
        }
        match self.forms.text_of(id) {
            Some(_) => Ok(()),
            None => Err(unknown(id).at("topic", &self.at.topic)),
        }
    }

    fn forms(&self) -> &Arc<Forms> {
        &self.forms
    }
}

/// The error for an id that no schema has.
pub(super) fn unknown(id: SchemaId) -> Error {
    let problem = format!(
        "no schema has the id {}; another program wrote the message, or it belongs to another log or registry",
        id.0
    );
    Error::new(Code::RecordUndecodable, problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clock::SystemClock;
    use crate::topic::memory::MemoryLog;

    fn log() -> MemoryLog<Raw> {
        MemoryLog::new(Arc::new(SystemClock))
    }

    async fn open(log: &MemoryLog<Raw>) -> LogSchemas {
        LogSchemas::open(Arc::new(log.clone()), Arc::new(SystemClock), "p").await.unwrap()
    }

    fn dump(log: &MemoryLog<Raw>) -> Vec<Bytes> {
        log.dump(&Partition::new("p.__schemas", 0)).into_iter().map(|message| message.key).collect()
    }

    /// topic-8
    #[tokio::test]
    async fn an_id_is_one_more_than_the_offset_of_the_first_record() {
        let log = log();
        let schemas = open(&log).await;
        assert_eq!(schemas.register("s", "\"int\"").await.unwrap(), SchemaId(1));
        assert_eq!(schemas.register("s", "\"long\"").await.unwrap(), SchemaId(2));
        assert_eq!(schemas.register("other", "\"int\"").await.unwrap(), SchemaId(1));
        assert_eq!(dump(&log).len(), 2);
    }

    #[tokio::test]
    async fn ids_are_the_same_after_a_restart_and_on_another_node() {
        let log = log();
        let first = open(&log).await;
        first.register("s", "\"int\"").await.unwrap();
        let second = open(&log).await;
        assert_eq!(second.register("s", "\"int\"").await.unwrap(), SchemaId(1));
        second.register("s", "\"long\"").await.unwrap();
        first.find(SchemaId(2)).await.unwrap();
        assert_eq!(first.forms().text_of(SchemaId(2)).as_deref(), Some("\"long\""));
        assert_eq!(first.register("s", "\"long\"").await.unwrap(), SchemaId(2));
    }

    /// topic-8: keys are unique, so compaction cannot take the first of two equal records away.
    #[tokio::test]
    async fn two_nodes_that_register_at_once_end_with_one_id() {
        let log = log();
        let (first, second) = (open(&log).await, open(&log).await);
        // The second has read to the end before the first appends: both append.
        second.append("\"int\"").await.unwrap();
        first.append("\"int\"").await.unwrap();
        let keys = dump(&log);
        assert!(keys.len() == 2 && keys[0] != keys[1]);
        log.compact("p.__schemas", |_| false);
        for schemas in [&first, &second, &open(&log).await] {
            assert_eq!(schemas.register("s", "\"int\"").await.unwrap(), SchemaId(1));
        }
        assert!(first.find(SchemaId(2)).await.is_ok(), "what was written under the second id stays readable");
    }

    #[tokio::test]
    async fn registering_one_text_many_times_at_once_writes_it_once() {
        let log = log();
        let schemas = open(&log).await;
        let all = (0..20).map(|n| schemas.register("s", if n % 2 == 0 { "\"int\"" } else { "\"long\"" }));
        let ids = futures_util::future::try_join_all(all).await.unwrap();
        assert!(ids.iter().step_by(2).all(|&id| id == ids[0]) && dump(&log).len() == 2);
    }

    #[tokio::test]
    async fn an_unknown_id_is_named() {
        let error = open(&log()).await.find(SchemaId(77)).await.unwrap_err();
        assert!(error.code == Code::RecordUndecodable && error.to_string().contains("77"), "{error}");
    }

    #[tokio::test]
    async fn a_lost_append_is_an_error_and_the_next_attempt_succeeds() {
        let log = MemoryLog::manual(Arc::new(SystemClock));
        let schemas = Arc::new(open(&log).await);
        let attempt = async {
            let (outcome, ()) = tokio::join!(schemas.register("s", "\"int\""), async {
                log.lose(log.flights()[0].number);
            });
            outcome
        };
        assert_eq!(attempt.await.unwrap_err().code, Code::AppendUnknown);
        let (outcome, ()) = tokio::join!(schemas.register("s", "\"int\""), async {
            log.land(log.flights()[0].number);
        });
        assert_eq!(outcome.unwrap(), SchemaId(1));
    }
}
