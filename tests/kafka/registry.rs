//! Schemas in a real Confluent-compatible registry (Apicurio): stock consumers read with its ids, what it
//! refuses is told in its own words, and a registry that is away is waited for.

use super::server::{Registry, shared};
use super::stock::everything_is_found;
use super::{open, soon};
use driftless::event::{Field, Schema, SchemaId, Type};
use driftless::runtime::error::{Code, Remedy};
use driftless::topic::codec::Coded;
use driftless::topic::confluent::RegistrySchemas;
use driftless::topic::registry::Schemas;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

fn schema(more: &[&str]) -> Schema {
    let field = |name: &&str| Field { name: (*name).into(), ty: Type::Int(64), nullable: *name != "id" };
    let names = [&["id"], more].concat();
    Schema { id: SchemaId(0), name: "orders".into(), fields: names.iter().map(field).collect(), key: vec![0] }
}

fn post(url: &str, body: &str) {
    let mut put = std::process::Command::new("curl");
    put.args(["-sf", "-X", "PUT", "-H", "Content-Type: application/vnd.schemaregistry.v1+json", "-d", body, url]);
    let done = put.output().unwrap();
    assert!(done.status.success(), "{url}: {}", String::from_utf8_lossy(&done.stdout));
}

/// topic-5 with a registry: its ids stand in the messages.
#[tokio::test(flavor = "multi_thread")]
async fn a_stock_consumer_reads_with_the_ids_of_the_registry() {
    let registry = Registry::start();
    let schemas = RegistrySchemas::new(&registry.url()).unwrap();
    schemas.check().await.unwrap();
    let log = Arc::new(open(shared()).await);
    let url = registry.url();
    everything_is_found(log.clone(), Arc::new(schemas), "registered", &["--registry", &url]).await;

    // Another node finds the same ids, by the text and by the id.
    let (one, two) = (RegistrySchemas::new(&url).unwrap(), RegistrySchemas::new(&url).unwrap());
    let coded = Coded::new(log.clone(), Arc::new(one));
    let orders = coded.prepare("registered.orders", &schema(&["n"])).await.unwrap();
    assert_eq!(*Coded::new(log, Arc::new(two)).schema(orders.id).await.unwrap(), *orders);
    let unknown = RegistrySchemas::new(&url).unwrap().find(SchemaId(999_999)).await.unwrap_err();
    assert_eq!(unknown.code, Code::RecordUndecodable, "{unknown:?}");

    // A change that the subject's compatibility forbids: the registry's own words, and the remedy.
    post(&format!("{url}/config/registered.strict-driftless.row.orders"), r#"{"compatibility": "FULL"}"#);
    let strict = Arc::new(RegistrySchemas::new(&url).unwrap());
    let (first, other) = (
        r#"{"type":"record","name":"t","fields":[]}"#,
        r#"{"type":"record","name":"t","fields":[{"name":"a","type":"int"}]}"#,
    );
    strict.register("registered.strict-driftless.row.orders", first).await.unwrap();
    let refused = strict.register("registered.strict-driftless.row.orders", other).await.unwrap_err();
    assert_eq!((refused.code, refused.remedy()), (Code::RegistryRefused, Remedy::Halt), "{refused:?}");
    assert!(refused.doing.contains("not compatible") && refused.doing.contains("NONE"), "{refused}");
    assert!(refused.to_string().contains("subject registered.strict-driftless.row.orders"), "{refused}");

    // Away: what is known stays usable, the rest is waited for.
    drop(registry);
    assert!(strict.register("registered.strict-driftless.row.orders", first).await.unwrap().0 > 0);
    let away = soon("an error", strict.register("registered.other", other)).await.unwrap_err();
    assert_eq!((away.code, away.remedy() == Remedy::Halt), (Code::RegistryUnreachable, false), "{away:?}");
    assert!(away.to_string().contains(&url), "{away}");
}

/// One answer for one request; returns the request's header lines.
fn answer_once(listener: &TcpListener, status: &str, body: &str) -> String {
    let (mut stream, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some((_, size)) = line.to_ascii_lowercase().split_once("content-length:") {
            length = size.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    reader.read_exact(&mut vec![0; length]).unwrap();
    let kind = "Content-Type: application/json\r\nConnection: close";
    write!(stream, "HTTP/1.1 {status}\r\n{kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    head
}

/// What the wire shows of user and password, and what each refusal is called.
#[tokio::test(flavor = "multi_thread")]
async fn user_and_password_are_sent_and_each_refusal_is_told() {
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let host = listener.local_addr().unwrap();
    let schemas = Arc::new(RegistrySchemas::new(&format!("http://me:p%40ss@{host}/api")).unwrap());
    let cases = [
        (
            "401 Unauthorized",
            r#"{"error_code": 40101, "message": "who are you"}"#,
            Code::RegistryRefused,
            "who are you",
        ),
        ("404 Not Found", "<html>", Code::RegistryRefused, "under this path"),
        ("503 Service Unavailable", "", Code::RegistryUnreachable, "does not answer"),
        (
            "500 Internal Server Error",
            r#"{"error_code": 50001, "message": "store"}"#,
            Code::RegistryUnreachable,
            "store",
        ),
    ];
    for (status, body, code, said) in cases {
        let served = listener.clone();
        let answer = tokio::task::spawn_blocking(move || answer_once(&served, status, body));
        let (outcome, head) = tokio::join!(soon("an answer", schemas.check()), answer);
        let (error, head) = (outcome.unwrap_err(), head.unwrap());
        assert!(head.starts_with("GET /api/schemas/ids/"), "{head}");
        assert!(head.to_ascii_lowercase().contains("authorization: basic bwu6cebzcw=="), "{head}");
        assert_eq!(error.code, code, "{status}: {error:?}");
        assert!(error.doing.contains(said) && !format!("{error:?}").contains("p@ss"), "{error:?}");
    }
}
