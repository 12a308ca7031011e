//! The typed log keeps the contract of the log below it; what cannot be coded is said, never lost.

use super::*;
use crate::event::avro::Kind;
use crate::event::avro::arbitrary::Gen;
use crate::event::{Canonical, Field, Row, Type, Value};
use crate::runtime::clock::SystemClock;
use crate::topic::memory::MemoryLog;
use crate::topic::registry::LogSchemas;
use crate::topic::{Cleanup, Compression};

const KEEP: [&str; 2] = ["p.orders", "p.orders.changes"];
const COMPACT: [&str; 3] = ["p.orders.state", "p.orders.conflicts", "p.orders.ledger.pg"];

async fn coded(log: &MemoryLog<Raw>) -> Coded {
    let schemas = LogSchemas::open(Arc::new(log.clone()), Arc::new(SystemClock), "p").await.unwrap();
    let coded = Coded::new(Arc::new(log.clone()), Arc::new(schemas));
    for (names, cleanup) in [(&KEEP[..], Cleanup::Keep), (&COMPACT[..], Cleanup::Compact)] {
        for &topic in names {
            let compression = Compression::None;
            coded.create(&TopicSpec { topic: topic.into(), partitions: 1, cleanup, compression }).await.unwrap();
        }
    }
    coded
}

fn memory() -> MemoryLog<Raw> {
    MemoryLog::new(Arc::new(SystemClock))
}

fn schema(fields: &[&str]) -> Schema {
    let field = |name: &&str| Field { name: (*name).into(), ty: Type::Int(64), nullable: true };
    Schema { id: SchemaId(0), name: "orders".into(), fields: fields.iter().map(field).collect(), key: vec![0] }
}

fn message(record: Record) -> Message<Typed> {
    crate::topic::message::message(Arc::new(record))
}

fn canonical(schema: &Arc<Schema>, values: &[i64]) -> Record {
    let mut canonical = Gen::new(7).canonical(std::slice::from_ref(schema));
    let row = Row(values.iter().map(|&n| Value::Int(n)).collect());
    let version: &mut Canonical = Arc::make_mut(&mut canonical);
    version.key = Key::of_row(&row, schema).unwrap();
    version.after = Some(Arc::new(row));
    Record::Canonical(canonical)
}

async fn append(coded: &Coded, topic: &str, messages: Vec<Message<Typed>>) -> Result<Vec<Offset>> {
    coded.session().await.unwrap().append(&Partition::new(topic, 0), messages).await
}

async fn read(coded: &Coded, topic: &str) -> Result<Vec<Delivered<Typed>>> {
    coded.read(&Partition::new(topic, 0), 0).await.unwrap().next(100).await
}

#[tokio::test]
async fn what_a_stage_appends_is_what_another_node_reads() {
    let log = memory();
    let writer = coded(&log).await;
    let schema = writer.prepare("p.orders", &schema(&["id", "n"])).await.unwrap();
    let mut random = Gen::new(11);
    let mut records: Vec<Record> =
        (0..Kind::ALL.len()).map(|kind| random.record(kind, std::slice::from_ref(&schema))).collect();
    records.push(canonical(&schema, &[1, 2]));
    for topic in KEEP.iter().chain(&COMPACT) {
        let messages: Vec<_> = records.iter().cloned().map(message).collect();
        append(&writer, topic, messages.clone()).await.unwrap();
        let read = read(&coded(&log).await, topic).await.unwrap();
        let read: Vec<_> = read.into_iter().map(|d| Message { key: d.key, payload: d.payload }).collect();
        assert_eq!(read, messages, "{topic}");
    }
}

/// topic-5
#[tokio::test]
async fn keys_on_the_wire_are_in_the_confluent_format() {
    let log = memory();
    let coded = coded(&log).await;
    let schema = coded.prepare("p.orders", &schema(&["id", "n"])).await.unwrap();
    let claim = Gen::new(1).record(0, std::slice::from_ref(&schema));
    let control = Gen::new(1).record(2, std::slice::from_ref(&schema));
    append(&coded, "p.orders", vec![message(canonical(&schema, &[1, 2])), message(control)]).await.unwrap();
    append(&coded, "p.orders.state", vec![message(claim.clone())]).await.unwrap();
    let raw = log.dump(&Partition::new("p.orders", 0));
    let key = raw[0].key.clone();
    assert_eq!((key[0], &key[5..]), (0, &b"\x02"[..]));
    let id = SchemaId(u32::from_be_bytes(key[1..5].try_into().unwrap()));
    assert!(coded.forms().text_of(id).unwrap().contains("driftless.key.orders"));
    assert!(raw[1].key.is_empty());
    assert_eq!(log.dump(&Partition::new("p.orders.state", 0))[0].key, message(claim.clone()).key);
}

#[tokio::test]
async fn removing_a_key_of_a_compacted_topic_passes_through() {
    let log = memory();
    let coded = coded(&log).await;
    coded.prepare("p.orders", &schema(&["id"])).await.unwrap();
    let gone = Message { key: Bytes::from_static(b"Sk"), payload: None };
    append(&coded, "p.orders.state", vec![gone.clone()]).await.unwrap();
    let read = read(&coded, "p.orders.state").await.unwrap();
    assert_eq!((&read[0].key, &read[0].payload), (&gone.key, &None));
}

/// read-10: the schema moves on, older versions are still written (restored heads) and read.
#[tokio::test]
async fn records_of_an_earlier_schema_are_written_under_it() {
    let log = memory();
    let coded = coded(&log).await;
    let old = coded.prepare("p.orders", &schema(&["id"])).await.unwrap();
    let new = coded.prepare("p.orders", &schema(&["id", "n"])).await.unwrap();
    assert_ne!(old.id, new.id);
    let records = [canonical(&old, &[1]), canonical(&new, &[1, 2])];
    append(&coded, "p.orders", records.iter().cloned().map(message).collect()).await.unwrap();
    let read: Vec<_> = read(&coded, "p.orders").await.unwrap().into_iter().map(|d| d.payload.unwrap()).collect();
    assert!(read.iter().map(|r| &**r).eq(&records));
    assert_eq!(coded.schema(old.id).await.unwrap(), old);
}

/// A head that an earlier release wrote can be written by this one, in all its kinds of records.
#[tokio::test]
async fn what_was_read_can_be_written_again_under_its_own_schema() {
    let log = memory();
    let coded = coded(&log).await;
    let texts: Vec<String> = avro::wanted(&schema(&["id"])).into_iter().map(|wanted| wanted.text).collect();
    let forms = Forms::default();
    for (index, text) in texts.iter().enumerate() {
        // Only the row and the canonical version are in the log.
        let id = match index {
            0 | 6 => coded.shared.schemas.register("s", text).await.unwrap(),
            index => SchemaId(1000 + index as u32),
        };
        forms.learn(id, text);
    }
    let id = forms.id_of(&texts[0]).unwrap();
    let record = canonical(&forms.row(id).unwrap(), &[1]);
    let mut payload = Vec::new();
    avro::encode(&record, &forms.collection(id).unwrap(), &forms, &mut payload).unwrap();
    let key = [&avro::header(SchemaId(9))[..], &data_key(&record).unwrap().0].concat().into();
    let raw = Log::<Raw>::session(&log).await.unwrap();
    let at = Partition::new("p.orders", 0);
    raw.append(&at, vec![Message { key, payload: Some(payload.into()) }]).await.unwrap();

    coded.prepare("p.orders", &schema(&["id", "n"])).await.unwrap();
    let read = read(&coded, "p.orders").await.unwrap().remove(0).payload.unwrap();
    assert_eq!(*read, record);
    append(&coded, "p.orders.conflicts", vec![Message { key: Bytes::new(), payload: Some(read) }]).await.unwrap();
}

/// topic-2
#[tokio::test]
async fn a_key_of_another_form_is_refused() {
    let coded = coded(&memory()).await;
    coded.prepare("p.orders", &schema(&["id", "n"])).await.unwrap();
    let error = coded.prepare("p.orders", &schema(&["number", "n"])).await.unwrap_err();
    assert_eq!(error.code, Code::SchemaUnsupported);
}

#[tokio::test]
async fn a_record_that_cannot_be_encoded_stops_its_session_and_nothing_lands() {
    let log = memory();
    let coded = coded(&log).await;
    let schema = coded.prepare("p.orders", &schema(&["id", "n"])).await.unwrap();
    let Record::Canonical(mut bad) = canonical(&schema, &[1, 2]) else { panic!() };
    Arc::<Canonical>::make_mut(&mut bad).after = Some(Arc::new(Row(vec![Value::Int(1), Value::Unchanged])));
    let session = coded.session().await.unwrap();
    let at = Partition::new("p.orders", 0);
    let batch = vec![message(canonical(&schema, &[1, 2])), message(Record::Canonical(bad))];
    let error = session.append(&at, batch).await.unwrap_err();
    assert!(error.code == Code::ValueRefused && error.to_string().contains("p.orders[0]"), "{error}");
    let error = session.append(&at, vec![message(canonical(&schema, &[1, 2]))]).await.unwrap_err();
    assert_eq!(error.code, Code::AppendUnknown);
    assert!(log.dump(&at).is_empty());
}

#[tokio::test]
async fn a_topic_that_was_not_prepared_is_refused() {
    let coded = coded(&memory()).await;
    let schema = coded.prepare("p.other", &schema(&["id"])).await.unwrap();
    let error = append(&coded, "p.orders", vec![message(canonical(&schema, &[1]))]).await.unwrap_err();
    assert!(error.code == Code::Unexpected && error.to_string().contains("p.orders"), "{error}");
}

#[tokio::test]
async fn an_undecodable_record_is_named_after_those_before_it_were_returned() {
    let log = memory();
    let coded = coded(&log).await;
    let schema = coded.prepare("p.orders", &schema(&["id"])).await.unwrap();
    let at = Partition::new("p.orders", 0);
    append(&coded, "p.orders", vec![message(canonical(&schema, &[1]))]).await.unwrap();
    let raw = Log::<Raw>::session(&log).await.unwrap();
    let foreign = [&avro::header(SchemaId(4000))[..], b"?"].concat();
    let put = |payload: Vec<u8>| vec![Message { key: Bytes::new(), payload: Some(Bytes::from(payload)) }];
    raw.append(&at, put(foreign)).await.unwrap();
    let mut reading = coded.read(&at, 0).await.unwrap();
    assert_eq!(reading.next(100).await.unwrap().len(), 1);
    for _ in 0..2 {
        let error = reading.next(100).await.unwrap_err();
        assert_eq!(error.code, Code::RecordUndecodable);
        for part in ["4000", "topic p.orders", "partition 0", "offset 1"] {
            assert!(error.to_string().contains(part), "{part} in {error}");
        }
        assert_eq!(reading.offset(), 1);
    }
}

#[tokio::test]
async fn a_message_under_a_key_of_another_record_is_refused() {
    let log = memory();
    let coded = coded(&log).await;
    let schema = coded.prepare("p.orders", &schema(&["id"])).await.unwrap();
    append(&coded, "p.orders", vec![message(canonical(&schema, &[1]))]).await.unwrap();
    let at = Partition::new("p.orders", 0);
    let raw = log.dump(&at).remove(0);
    let bent = Message { key: Bytes::from_static(b"\0\0\0\0\x03\x04"), payload: raw.payload };
    Log::<Raw>::session(&log).await.unwrap().append(&at, vec![bent]).await.unwrap();
    let mut reading = coded.read(&at, 1).await.unwrap();
    assert_eq!(reading.next(9).await.unwrap_err().code, Code::RecordUndecodable);
}

#[tokio::test]
async fn batches_are_returned_up_to_the_limit_and_offsets_follow() {
    let coded = coded(&memory()).await;
    let schema = coded.prepare("p.orders", &schema(&["id"])).await.unwrap();
    append(&coded, "p.orders", (0..5).map(|n| message(canonical(&schema, &[n]))).collect()).await.unwrap();
    let mut reading = coded.read(&Partition::new("p.orders", 0), 0).await.unwrap();
    for (limit, offsets, next) in [(2, vec![0, 1], 2), (2, vec![2, 3], 4), (9, vec![4], 5)] {
        let read = reading.next(limit).await.unwrap();
        assert_eq!(read.iter().map(|d| d.offset).collect::<Vec<_>>(), offsets);
        assert_eq!(reading.offset(), next);
    }
}
