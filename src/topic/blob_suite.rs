//! What every log owes to large records: they come back whole and in their place, though no message holds
//! them (`super::blob`). Run on each log, like `super::suite`.

use super::codec::Coded;
use super::message::message;
use super::name::Topics;
use super::registry::LogSchemas;
use super::suite::{Subject, spec};
use super::{Cleanup, Delivered, Log, Message, Typed, blob};
use crate::event::{
    Ack, ActorId, Canonical, Cause, Dot, Field, Fp, Hlc, Key, Origin, Record, Row, Schema, SchemaId, Type, Value, Vv,
};
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::error::{Code, Result};
use std::sync::Arc;

/// A collection `id`, `text`, with records as large as wanted.
struct Letters {
    coded: Coded,
    topics: Topics,
    schema: Arc<Schema>,
}

async fn letters(log: &Subject, limits: blob::Limits) -> Letters {
    let prefix = format!("blobs-{:x}", SystemClock.fresh_id());
    let schemas = LogSchemas::open(log.clone(), Arc::new(SystemClock), &prefix).await.unwrap();
    let coded = Coded::limited(log.clone(), Arc::new(schemas), limits);
    let topics = Topics::new(&prefix, "letters", None, 1);
    // In earnest the chunks are compacted; here some are deleted, which Kafka refuses where it compacts.
    for at in [topics.dataset(0), topics.blobs(0)] {
        coded.create(&spec(&at.topic, 1, Cleanup::Keep)).await.unwrap();
    }
    let field = |name: &str, ty| Field { name: name.into(), ty, nullable: true };
    let fields = vec![field("id", Type::Int(64)), field("text", Type::Text)];
    let schema = Schema { id: SchemaId(0), name: "letters".into(), fields, key: vec![0] };
    let schema = coded.prepare(&topics.dataset(0).topic, &schema).await.unwrap();
    Letters { coded, topics, schema }
}

impl Letters {
    fn letter(&self, id: i64, text: &str) -> Message<Typed> {
        let row = Row(vec![Value::Int(id), Value::text(text)]);
        let actor = ActorId(65537);
        let version = Canonical {
            key: Key::of_row(&row, &self.schema).unwrap(),
            seq: id.unsigned_abs(),
            id: 1,
            prev: 0,
            origin: Origin::Input(0),
            idx: 0,
            last: true,
            dot: Dot { actor, ctr: 1 },
            vv: Vv::new(),
            ts: Hlc(1),
            fp: Fp([1; 16]),
            tomb: false,
            schema: self.schema.id,
            after: Some(Arc::new(row)),
            by: actor,
            cause: Cause::FastForward,
            ack: Ack::default(),
            rctr: 0,
            conflicted: 0,
            conflict: None,
            asked: None,
            copy: false,
        };
        let record = Record::Canonical(Arc::new(version));
        message(Arc::new(record))
    }

    async fn append(&self, messages: Vec<Message<Typed>>) -> Result<Vec<u64>> {
        self.coded.session().await?.append(&self.topics.dataset(0), messages).await
    }

    async fn read(&self, count: usize) -> Vec<Message<Typed>> {
        let mut reading = self.coded.read(&self.topics.dataset(0), 0).await.unwrap();
        let mut found: Vec<Delivered<Typed>> = Vec::new();
        while found.len() < count {
            found.extend(reading.next(count).await.unwrap());
        }
        found.into_iter().map(|d| Message { key: d.key, payload: d.payload }).collect()
    }
}

/// Text that no compression makes small.
fn noise(bytes: usize) -> String {
    let mut state = 7u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        char::from(b'!' + (state >> 26) as u8)
    };
    (0..bytes).map(|_| next()).collect()
}

/// Everything a log owes to large records.
pub async fn all(log: Subject) {
    order_is_kept(&log).await;
    real_sizes(&log).await;
    lost_chunks(&log).await;
}

/// Large and small in one session: each in its place, the large ones as references, and one content that
/// is written again is found though compaction may have left only its later chunks.
async fn order_is_kept(log: &Subject) {
    let limits = blob::Limits { inline: 1000, chunk: 400, payload: 5000 };
    let letters = letters(log, limits).await;
    let all: Vec<_> = [10, 3000, 20, 1500, 3000, 30]
        .iter()
        .zip(1..)
        .map(|(&size, id)| letters.letter(if size == 3000 { 2 } else { id }, &noise(size)))
        .collect();
    let session = letters.coded.session().await.unwrap();
    let at = letters.topics.dataset(0);
    // None is waited for before the next one is given, and some are never waited for.
    let given: Vec<_> = all.iter().map(|message| session.append(&at, vec![message.clone()])).collect();
    for (number, appending) in (0u64..).zip(given).filter(|(number, _)| number % 2 == 1) {
        assert_eq!(appending.await.unwrap(), [number]);
    }
    assert!(letters.read(all.len()).await == all, "each comes back in its place");
    let raw = log.read(&at, 0).await.unwrap().next(100).await.unwrap();
    assert!(raw.iter().all(|d| d.payload.as_ref().is_some_and(|p| p.len() <= limits.inline)), "no message is large");
    let chunks = log.bounds(&letters.topics.blobs(0)).await.unwrap().high;
    assert!(chunks >= 8 + 4 + 8, "{chunks} chunks");
    // The first copy of the content written twice is gone.
    log.delete_below(&letters.topics.blobs(0), 8).await.unwrap();
    assert!(letters.read(all.len()).await == all, "the later chunks serve both");
    let error = letters.append(vec![letters.letter(9, &noise(5000))]).await.unwrap_err();
    assert_eq!(error.code, Code::ValueTooLarge);
    assert!(error.doing.contains("5000 is the limit"), "{error}");
    assert_eq!(letters.append(vec![letters.letter(9, "small")]).await.unwrap(), [6], "the next session goes on");
}

/// The limits as they are: what stands in a message, and what takes three chunks.
async fn real_sizes(log: &Subject) {
    let limits = blob::Limits::default();
    let letters = letters(log, limits).await;
    let all = vec![letters.letter(1, &noise(limits.inline - 1000)), letters.letter(2, &noise(limits.inline + 1000))];
    letters.append(all.clone()).await.unwrap();
    assert!(letters.read(2).await == all);
    assert_eq!(log.bounds(&letters.topics.blobs(0)).await.unwrap().high, 3);
}

/// Chunks that somebody deleted are told, not waited for.
async fn lost_chunks(log: &Subject) {
    let letters = letters(log, blob::Limits { inline: 1000, chunk: 400, payload: 5000 }).await;
    letters.append(vec![letters.letter(1, &noise(2000))]).await.unwrap();
    log.delete_below(&letters.topics.blobs(0), 100).await.unwrap();
    let mut reading = letters.coded.read(&letters.topics.dataset(0), 0).await.unwrap();
    let error = reading.next(1).await.unwrap_err();
    assert_eq!(error.code, Code::HistoryLost, "{error:?}");
}
