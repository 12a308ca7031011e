//! What `driftless doctor` finds in a broker: topics that somebody has changed since they were made.

use super::server::shared;
use super::{admin, open_with};
use driftless::config::{Config, Connectors, Surroundings};
use driftless::connectors;
use driftless::govern::AllowAll;
use driftless::node::dataset::all_specs;
use driftless::topic::Log;
use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use serde_json::Value;
use std::io;
use std::path::Path;
use std::process::Command;

/// The configuration's file.
struct OnDisk;

impl Surroundings for OnDisk {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }
}

/// Types `driftless doctor`: its exit code, and what it found in the log.
fn doctor(config: &Path) -> (i32, Vec<Value>) {
    let mut typed = Command::new(env!("CARGO_BIN_EXE_driftless"));
    let output = typed.args(["doctor", "--json", "--config"]).arg(config).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&output.stderr));
    });
    let mut found = told["findings"].as_array().unwrap().clone();
    found.retain(|found| found["place"] == "log");
    (output.status.code().unwrap(), found)
}

/// topic-3, topic-6: also while everything still runs, before the broker deletes what is needed.
#[tokio::test(flavor = "multi_thread")]
async fn doctor_names_topics_that_were_changed_with_their_repair() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    for name in ["a.db", "b.db"] {
        let make = "PRAGMA journal_mode = WAL; CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)";
        rusqlite::Connection::open(root.join(name)).unwrap().execute_batch(make).unwrap();
    }
    let (place, brokers) = (root.display(), shared().brokers());
    let text = format!(
        "data-dir: {place}/node
log: {{ type: kafka, brokers: '{brokers}', prefix: doctor }}
platforms:
  a: {{ type: sqlite, path: {place}/a.db }}
  b: {{ type: sqlite, path: {place}/b.db }}
datasets:
  - name: notes
    source: a
    destinations: [b]
    collections: [{{ name: notes, key: id, fields: [{{ name: id, type: long }}, {{ name: text, type: text }}] }}]
"
    );
    let path = root.join("driftless.yaml");
    std::fs::write(&path, text).unwrap();
    assert_eq!(doctor(&path), (0, vec![]), "there is nothing yet");

    let connectors = Connectors { compiled: connectors::ALL, known: connectors::KNOWN };
    let config = Config::load(&[path.display().to_string()], connectors, &AllowAll, &OnDisk).unwrap();
    let log = open_with(shared(), &[]).await;
    for spec in all_specs(&config) {
        log.create(&spec).await.unwrap();
    }
    assert_eq!(doctor(&path), (0, vec![]), "all is as it was made");

    // What is not named goes back to the broker's defaults.
    let changed = "doctor.notes.ledger.a";
    let change = AlterConfig::new(ResourceSpecifier::Topic(changed)).set("cleanup.policy", "compact");
    let change = change.set("message.timestamp.type", "LogAppendTime").set("compression.type", "lz4");
    let change = change.set("max.message.bytes", "20000000").set("retention.ms", "3600000");
    admin(shared()).alter_configs([&change], &AdminOptions::new()).await.unwrap();
    let (exit, found) = doctor(&path);
    assert!(exit == 1 && found.len() == 1, "{found:#?}");
    let (code, text) = (&found[0]["code"], found[0]["text"].as_str().unwrap());
    assert!(*code == "topic_settings" && found[0]["fatal"] == true, "{found:#?}");
    assert!(text.contains(changed) && text.contains("retention.ms is 3600000, expected -1"), "{text}");
    assert!(text.contains("kafka-configs.sh") && text.contains("--add-config retention.ms=-1"), "{text}");
}
