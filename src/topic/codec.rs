//! A log of typed records over a log of bytes. Records are encoded before they are given to the log
//! and decoded as they are read; the contract of `Log` holds unchanged.
//!
//! `prepare` must have been called for a collection before its records are written; it is the only
//! place where writing may wait for the schema store. Reading finds schemas it does not know yet.
//!
//! Message keys: what a stage gives is what it reads again. On the wire the key of a message with a
//! record's data in `<c>` and `.changes` is in the Confluent wire format, too (topic-5).

mod session;

use super::blob::{self, Limits};
use super::registry::Schemas;
use super::{Bounds, Delivered, Log, Membership, Message, Partition, Raw, Reading, Session, TopicSpec, Typed};
use crate::event::avro::{self, Collection, Forms, Undecoded};
use crate::event::{Key, Offset, Record, Schema, SchemaId};
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::RwLock;
use session::CodedSession;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// Joins a log of bytes with typed records. Clones share everything.
#[derive(Clone)]
pub struct Coded {
    log: Arc<dyn Log<Raw>>,
    shared: Arc<Shared>,
}

struct Shared {
    schemas: Arc<dyn Schemas>,
    /// The current schema of each collection, by the name of its topic `<c>`.
    collections: RwLock<BTreeMap<Arc<str>, Arc<Collection>>>,
    /// What is too large for a message.
    limits: Limits,
}

impl Coded {
    /// Typed records in `log`, with their schemas in `schemas`.
    #[must_use]
    pub fn new(log: Arc<dyn Log<Raw>>, schemas: Arc<dyn Schemas>) -> Self {
        Self::limited(log, schemas, Limits::default())
    }

    /// The same with other limits than a broker's; for tests.
    #[must_use]
    pub fn limited(log: Arc<dyn Log<Raw>>, schemas: Arc<dyn Schemas>, limits: Limits) -> Self {
        Coded { log, shared: Arc::new(Shared { schemas, collections: RwLock::default(), limits }) }
    }

    /// Makes records of a collection with this schema writable, in `topic` (`<c>`) and all topics
    /// beside it. Returns the schema with its id. An earlier schema stays writable; a key of another
    /// form is refused, because the key is part of every message (topic-2).
    pub async fn prepare(&self, topic: &str, schema: &Schema) -> Result<Arc<Schema>> {
        let collection = self.shared.register(topic, schema).await?;
        let mut collections = self.shared.collections.write();
        if collections.get(topic).is_some_and(|current| current.key != collection.key) {
            let problem = "the key of the collection changed; keep it, or make a new dataset with the new key";
            return Err(Error::new(Code::SchemaUnsupported, problem).at("topic", topic));
        }
        collections.insert(topic.into(), collection.clone());
        Ok(collection.row.clone())
    }

    /// The schema of rows called `id`, from the schema store if it is not known yet.
    pub async fn schema(&self, id: SchemaId) -> Result<Arc<Schema>> {
        self.shared.schemas.find(id).await?;
        let problem = "the id belongs to no schema of rows that this release can read";
        self.forms().row(id).ok_or_else(|| Error::new(Code::RecordUndecodable, problem).at("schema", id.0))
    }

    /// The schema that records of `topic` (`<c>`) are written under; `None` before `prepare`.
    #[must_use]
    pub fn current(&self, topic: &str) -> Option<Arc<Schema>> {
        self.shared.collections.read().get(topic).map(|collection| collection.row.clone())
    }

    /// Appends a record of the collection with the topic `<c>`, as the log would hold it.
    pub fn encode(&self, topic: &str, record: &Record, out: &mut Vec<u8>) -> Result<()> {
        encode_one(record, &self.shared.collection_of(topic)?, self.forms(), out)
    }

    /// Reads what `encode` wrote in this process.
    pub fn decode(&self, bytes: &Bytes) -> Result<Record> {
        avro::decode(bytes, self.forms()).map_err(|undecoded| match undecoded {
            Undecoded::Broken(error) => error,
            Undecoded::UnknownSchema(id) => {
                let problem = "a record of this process names a schema that it does not know; this is a bug, report it";
                Error::new(Code::Unexpected, problem).at("schema", id.0)
            }
        })
    }

    fn forms(&self) -> &Arc<Forms> {
        self.shared.schemas.forms()
    }
}

impl Shared {
    /// Registers all that is needed to write records with this schema.
    async fn register(&self, topic: &str, schema: &Schema) -> Result<Arc<Collection>> {
        let mut ids = Vec::new();
        for wanted in avro::wanted(schema) {
            let subject = format!("{topic}-{}", wanted.name);
            ids.push(self.schemas.register(&subject, &wanted.text).await?);
        }
        // Last, so that the numbers of the others do not depend on it.
        self.schemas.register(&format!("{topic}-{}", blob::NAME), &blob::SCHEMA).await?;
        self.schemas.forms().collection(ids.first().copied().unwrap_or_default())
    }

    /// The id under which references are written.
    fn blob_id(&self) -> Result<SchemaId> {
        let problem = "a large record was to be written before its collection was prepared; this is a bug, report it";
        self.schemas.forms().id_of(&blob::SCHEMA).ok_or_else(|| Error::new(Code::Unexpected, problem))
    }

    /// Makes the rows of a record that was read writable again, though another release wrote it: a
    /// restored head may have to be written under its own, earlier schema.
    async fn adopt(&self, topic: &str, id: SchemaId) -> Result<()> {
        if self.schemas.forms().collection(id).is_ok() {
            return Ok(());
        }
        self.schemas.find(id).await?;
        match self.schemas.forms().row(id) {
            Some(schema) => self.register(base_of(topic), &schema).await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// The current schema of the collection that a topic belongs to.
    fn collection_of(&self, topic: &str) -> Result<Arc<Collection>> {
        let collections = self.collections.read();
        let problem = "records were to be written to a topic whose schema was not prepared; this is a bug, report it";
        let found = collections.get(topic).or_else(|| collections.get(base_of(topic)));
        found.cloned().ok_or_else(|| Error::new(Code::Unexpected, problem).at("topic", topic))
    }

    fn encode(&self, at: &Partition, messages: Vec<Message<Typed>>) -> Result<Vec<Message<Raw>>> {
        let current = self.collection_of(&at.topic)?;
        let forms = self.schemas.forms();
        let mut bytes = Vec::with_capacity(messages.len() * 256);
        let mut spans: Vec<(Where, Option<Range<usize>>)> = Vec::with_capacity(messages.len());
        for Message { key, payload } in messages {
            let Some(record) = payload else {
                spans.push((Where::Given(key), None));
                continue;
            };
            let start = bytes.len();
            encode_one(&record, &current, forms, &mut bytes).map_err(|error| error.at("partition", at))?;
            let end = bytes.len();
            let key = if put_wire_key(&record, &current, &mut bytes) {
                Where::Behind(end..bytes.len())
            } else {
                Where::Given(key)
            };
            spans.push((key, Some(start..end)));
        }
        let bytes = Bytes::from(bytes);
        let message = |(key, span): (Where, Option<Range<usize>>)| {
            let key = match key {
                Where::Given(key) => key,
                Where::Behind(span) => bytes.slice(span),
            };
            Message { key, payload: span.map(|s| bytes.slice(s)) }
        };
        Ok(spans.into_iter().map(message).collect())
    }
}

/// Where the key of a message is.
enum Where {
    /// As it was given.
    Given(Bytes),
    /// In the batch's buffer, behind its record.
    Behind(Range<usize>),
}

/// Encodes under the record's own schema, which may be an earlier one than the current.
fn encode_one(record: &Record, current: &Arc<Collection>, forms: &Forms, out: &mut Vec<u8>) -> Result<()> {
    match avro::schema_of(record) {
        Some(id) if id != current.row.id => avro::encode(record, &*forms.collection(id)?, forms, out),
        _ => avro::encode(record, current, forms, out),
    }
}

/// The topic `<c>` of a topic beside it.
fn base_of(topic: &str) -> &str {
    let beside = [".changes", ".state", ".conflicts", ".dead", ".blobs"].iter().find_map(|end| topic.strip_suffix(end));
    beside.or_else(|| topic.rfind(".ledger.").and_then(|at| topic.get(..at))).unwrap_or(topic)
}

/// The key of a record whose message key is its data's key.
fn data_key(record: &Record) -> Option<&Key> {
    let key = match record {
        Record::Proposal(proposal) => &proposal.key,
        Record::Canonical(canonical) => &canonical.key,
        Record::Review(review) => &review.key,
        _ => return None,
    };
    (!key.is_empty()).then_some(key)
}

/// Appends the message key in the Confluent wire format, if the record has data in `<c>` and `.changes`.
fn put_wire_key(record: &Record, collection: &Collection, out: &mut Vec<u8>) -> bool {
    let key = data_key(record);
    if let Some(key) = key {
        out.extend_from_slice(&avro::header(collection.key));
        out.extend_from_slice(&key.0);
    }
    key.is_some()
}

struct CodedReading {
    log: Arc<dyn Log<Raw>>,
    reading: Box<dyn Reading<Raw>>,
    shared: Arc<Shared>,
    at: Partition,
    /// Read and not decoded yet.
    raw: VecDeque<Delivered<Raw>>,
    /// Decoded and not returned yet; kept here so that a dropped `next` loses nothing.
    ready: VecDeque<Delivered<Typed>>,
    /// The schema of the rows last read.
    adopted: Option<SchemaId>,
}

impl CodedReading {
    /// Decodes what was read, up to `limit` messages or the first that cannot be decoded.
    async fn decode(&mut self, limit: usize) -> Result<()> {
        while let Some(message) = self.raw.front().filter(|_| self.ready.len() < limit) {
            let reference = message.payload.as_ref().and_then(|p| blob::reference(p, self.shared.schemas.forms()));
            if let Some(reference) = reference {
                let whole = blob::load(&*self.log, base_of(&self.at.topic), &self.at, &reference).await;
                let whole = whole.map_err(|error| error.at("partition", &self.at).at("offset", message.offset))?;
                self.raw.iter_mut().take(1).for_each(|message| message.payload = Some(whole.clone()));
                continue;
            }
            match decode_one(message, self.shared.schemas.forms()) {
                Ok(decoded) => {
                    let schema = decoded.payload.as_deref().and_then(avro::schema_of);
                    if let Some(id) = schema.filter(|_| schema != self.adopted) {
                        self.shared.adopt(&self.at.topic, id).await?;
                        self.adopted = schema;
                    }
                    self.ready.push_back(decoded);
                    self.raw.pop_front();
                }
                Err(undecoded) => {
                    let offset = message.offset;
                    let failed = match undecoded {
                        Undecoded::UnknownSchema(id) => self.shared.schemas.find(id).await,
                        Undecoded::Broken(error) => Err(error),
                    };
                    failed.map_err(|error| {
                        error.at("topic", &self.at.topic).at("partition", self.at.index).at("offset", offset)
                    })?;
                }
            }
        }
        Ok(())
    }
}

fn decode_one(message: &Delivered<Raw>, forms: &Forms) -> std::result::Result<Delivered<Typed>, Undecoded> {
    let Delivered { offset, time_ms, ref key, ref payload } = *message;
    let Some(payload) = payload else {
        return Ok(Delivered { offset, time_ms, key: key.clone(), payload: None });
    };
    let record = avro::decode(payload, forms)?;
    let key = match data_key(&record) {
        None => key.clone(),
        Some(data) if key.get(avro::HEADER_BYTES..) == Some(&data.0) => data.0.clone(),
        Some(_) => {
            let problem = "the key of a message is not the key of the record in it; another program wrote it";
            return Err(Undecoded::Broken(Error::new(Code::RecordUndecodable, problem)));
        }
    };
    Ok(Delivered { offset, time_ms, key, payload: Some(Arc::new(record)) })
}

#[async_trait]
impl Reading<Typed> for CodedReading {
    async fn next(&mut self, limit: usize) -> Result<Vec<Delivered<Typed>>> {
        if self.raw.is_empty() && self.ready.is_empty() {
            self.raw.extend(self.reading.next(limit).await?);
        }
        let decoded = self.decode(limit).await;
        // What stands before a record that cannot be decoded is returned first.
        if self.ready.is_empty() {
            decoded?;
        }
        Ok(self.ready.drain(..limit.min(self.ready.len())).collect())
    }

    fn offset(&self) -> Offset {
        let ready = self.ready.front().map(|message| message.offset);
        ready.or_else(|| self.raw.front().map(|message| message.offset)).unwrap_or_else(|| self.reading.offset())
    }
}

#[async_trait]
impl Log<Typed> for Coded {
    async fn create(&self, spec: &TopicSpec) -> Result<()> {
        self.log.create(spec).await
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>> {
        self.log.topics().await
    }

    async fn remove(&self, topic: &str) -> Result<()> {
        self.log.remove(topic).await
    }

    async fn session(&self) -> Result<Arc<dyn Session<Typed>>> {
        let session = self.log.session().await?;
        Ok(Arc::new(CodedSession::new(session, self.shared.clone())))
    }

    async fn read(&self, at: &Partition, from: Offset) -> Result<Box<dyn Reading<Typed>>> {
        let reading = self.log.read(at, from).await?;
        Ok(Box::new(CodedReading {
            log: self.log.clone(),
            reading,
            shared: self.shared.clone(),
            at: at.clone(),
            raw: VecDeque::new(),
            ready: VecDeque::new(),
            adopted: None,
        }))
    }

    async fn bounds(&self, at: &Partition) -> Result<Bounds> {
        self.log.bounds(at).await
    }

    async fn offset_at(&self, at: &Partition, time_ms: u64) -> Result<Option<Offset>> {
        self.log.offset_at(at, time_ms).await
    }

    async fn delete_below(&self, at: &Partition, offset: Offset) -> Result<()> {
        self.log.delete_below(at, offset).await
    }

    async fn join(&self, group: &str, topics: &[Arc<str>]) -> Result<Box<dyn Membership>> {
        self.log.join(group, topics).await
    }
}

#[cfg(test)]
mod tests;
