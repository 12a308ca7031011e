//! What others put into our topics: it is told with its place, it stops whoever meets it, and nothing
//! before or behind it is lost.

use super::server::shared;
use super::{open, soon};
use bytes::Bytes;
use driftless::event::avro::Kind;
use driftless::event::{Claim, PlatformNo, Record, Role, Schema, SchemaId, Stamp};
use driftless::runtime::clock::SystemClock;
use driftless::runtime::error::{Code, Remedy};
use driftless::topic::codec::Coded;
use driftless::topic::message::message;
use driftless::topic::registry::{LogSchemas, Schemas};
use driftless::topic::{Cleanup, Log, Message, Partition, Raw, Typed, suite};
use std::sync::Arc;

fn claim(epoch: u64) -> Message<Typed> {
    let record = Record::Claim(Claim { role: Role::Writer(PlatformNo(1)), stamp: Stamp { epoch, owner: 7 } });
    message(Arc::new(record))
}

/// A message under the schema `id`.
fn under(id: SchemaId) -> Bytes {
    [&[0][..], &id.0.to_be_bytes(), &[1, 2, 3]].concat().into()
}

async fn meets(name: &str, payload: Bytes, code: Code, said: &str) {
    let log: Arc<dyn Log<Raw>> = Arc::new(open(shared()).await);
    let schemas = LogSchemas::open(log.clone(), Arc::new(SystemClock), "foreign").await.unwrap();
    let coded = Coded::new(log.clone(), Arc::new(schemas));
    let topic: Arc<str> = format!("foreign.{name}").into();
    log.create(&suite::spec(&topic, 1, Cleanup::Keep)).await.unwrap();
    let fields =
        vec![driftless::event::Field { name: "id".into(), ty: driftless::event::Type::Int(64), nullable: false }];
    let schema = Schema { id: SchemaId(0), name: "foreign".into(), fields, key: vec![0] };
    coded.prepare(&topic, &schema).await.unwrap();
    let at = Partition::new(topic, 0);
    let session = coded.session().await.unwrap();
    session.append(&at, vec![claim(1)]).await.unwrap();
    let foreign = Message { key: Bytes::from_static(b"k"), payload: Some(payload) };
    log.session().await.unwrap().append(&at, vec![foreign]).await.unwrap();
    session.append(&at, vec![claim(2)]).await.unwrap();

    let mut reading = coded.read(&at, 0).await.unwrap();
    let before = soon("what stands before", reading.next(10)).await.unwrap();
    assert!(before.len() == 1 && before[0].payload == claim(1).payload, "{name}: what stands before is read");
    for _ in 0..2 {
        let error = soon("an error", reading.next(10)).await.unwrap_err();
        assert_eq!((error.code, error.remedy()), (code, Remedy::Halt), "{name}: {error:?}");
        let text = error.to_string();
        assert!(text.contains(said), "{name}: {text}");
        assert!(text.contains(&format!("topic foreign.{name}; partition 0; offset 1")), "{name}: {text}");
        assert_eq!(reading.offset(), 1, "{name}: it is not passed over");
    }
    let behind = soon("what stands behind", coded.read(&at, 2).await.unwrap().next(10)).await.unwrap();
    assert_eq!(behind[0].payload, claim(2).payload, "{name}: what stands behind is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undecodable_event_is_told_with_its_place_and_stops_the_reader() {
    meets("text", Bytes::from_static(b"hello"), Code::RecordUndecodable, "").await;
    meets("unknown", under(SchemaId(4_000)), Code::RecordUndecodable, "no schema has the id 4000").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_newer_version_asks_for_a_newer_release() {
    let log: Arc<dyn Log<Raw>> = Arc::new(open(shared()).await);
    let schemas = LogSchemas::open(log, Arc::new(SystemClock), "foreign").await.unwrap();
    let newer = format!(r#"{{"type":"record","name":"{}","driftless.version":2,"fields":[]}}"#, Kind::Claim.name());
    let id = schemas.register("foreign", &newer).await.unwrap();
    meets("newer", under(id), Code::RecordNewer, "newer").await;
}
