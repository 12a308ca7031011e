//! Three real platforms in a temporary directory, and the applications that own them.

use super::process::Configured;
use driftless::config::{Config, Connectors, Surroundings};
use driftless::connectors;
use driftless::govern::AllowAll;
use driftless::node::Node;
use driftless::node::board::Report;
use driftless::node::inspect::ConflictInfo;
use driftless::runtime::clock::{Clock, SystemClock};
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long anything may take before a test gives up.
const WITHIN_MS: u64 = 60_000;

/// What a platform holds: text by key.
pub(crate) type Rows = BTreeMap<i64, String>;

/// Two databases and a directory.
pub(crate) struct World {
    pub folder: tempfile::TempDir,
    pub config: String,
    pub port: u16,
}

/// A configuration that is a text.
pub(crate) struct Given(pub String);

impl Surroundings for Given {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn read(&self, _: &Path) -> io::Result<String> {
        Ok(self.0.clone())
    }
}

impl Configured for World {
    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn config(&self) -> &str {
        &self.config
    }
}

impl World {
    /// Empty platforms, kept the same both ways; `more` stands in the dataset.
    pub(crate) fn new(more: &str) -> World {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        for name in ["a.db", "b.db"] {
            let make = "PRAGMA journal_mode = WAL; CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)";
            connect(&root.join(name)).execute_batch(make).unwrap();
        }
        fs::create_dir(root.join("files")).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let root = root.display();
        let config = format!(
            "data-dir: {root}/node
http: {{ listen: '127.0.0.1:{port}' }}
platforms:
  a: {{ type: sqlite, path: {root}/a.db }}
  b: {{ type: sqlite, path: {root}/b.db }}
  files: {{ type: filesystem, root: {root}/files }}
datasets:
  - name: notes
    source: a
    destinations: [b, files]
{more}
    collections:
      - name: notes
        key: id
        fields: [{{ name: id, type: long }}, {{ name: text, type: text }}]
        on: {{ files: {{ path: '{{id}}.json' }} }}
"
        );
        World { folder, config, port }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(name)
    }

    pub(crate) fn db(&self, name: &str) -> Connection {
        connect(&self.path(&format!("{name}.db")))
    }

    pub(crate) fn put(&self, db: &str, id: i64, text: &str) {
        let sql = "INSERT INTO notes VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET text = ?2";
        self.db(db).execute(sql, params![id, text]).unwrap();
    }

    /// Writes one key on both databases before either can hear of the other's.
    pub(crate) fn put_both(&self, id: i64, a: &str, b: &str) {
        let (one, two) = (self.db("a"), self.db("b"));
        for (db, text) in [(&one, a), (&two, b)] {
            db.execute_batch("BEGIN IMMEDIATE").unwrap();
            db.execute("INSERT OR REPLACE INTO notes VALUES (?1, ?2)", params![id, text]).unwrap();
        }
        one.execute_batch("COMMIT").unwrap();
        two.execute_batch("COMMIT").unwrap();
    }

    pub(crate) fn put_file(&self, id: i64, text: &str) {
        let beside = self.path(&format!("{id}.new"));
        fs::write(&beside, document(id, text)).unwrap();
        fs::rename(beside, self.path(&format!("files/{id}.json"))).unwrap();
    }

    pub(crate) fn rows(&self, db: &str) -> Rows {
        rows_of(&self.db(db))
    }

    pub(crate) fn files(&self) -> Rows {
        let mut found = Rows::new();
        for entry in fs::read_dir(self.path("files")).unwrap().flatten() {
            let document = entry.path().extension().is_some_and(|e| e == "json").then(|| fs::read(entry.path()).ok());
            let value: Option<Value> = document.flatten().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            if let Some(value) = value {
                found.insert(value["id"].as_i64().unwrap(), value["text"].as_str().unwrap().to_owned());
            }
        }
        found
    }

    /// What each of the three holds.
    pub(crate) fn all(&self) -> [Rows; 3] {
        [self.rows("a"), self.rows("b"), self.files()]
    }

    pub(crate) fn loaded(&self) -> Config {
        let connectors = Connectors { compiled: connectors::ALL, known: connectors::KNOWN };
        Config::load(&["c.yaml".into()], connectors, &AllowAll, &Given(self.config.clone())).unwrap()
    }

    pub(crate) async fn start(&self) -> Running<'_> {
        let node = Node::start(Arc::new(self.loaded()), &AllowAll, Arc::new(SystemClock)).await.unwrap();
        self.running(node)
    }

    /// A node that was started elsewhere.
    pub(crate) fn running(&self, node: Node) -> Running<'_> {
        Running { world: self, node }
    }
}

pub(crate) fn document(id: i64, text: &str) -> String {
    json!({"id": id, "text": text}).to_string()
}

pub(crate) fn connect(path: &Path) -> Connection {
    let db = Connection::open(path).unwrap();
    db.busy_timeout(Duration::from_secs(20)).unwrap();
    db
}

pub(crate) fn rows_of(db: &Connection) -> Rows {
    let mut query = db.prepare("SELECT id, text FROM notes").unwrap();
    query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
}

/// A node of this process on the three platforms.
pub(crate) struct Running<'a> {
    pub world: &'a World,
    pub node: Node,
}

impl Running<'_> {
    pub(crate) async fn report(&self) -> Report {
        self.node.view().report().await.unwrap()
    }

    /// Waits until all three hold `wanted`.
    pub(crate) async fn all_hold(&self, wanted: &[(i64, &str)]) -> u64 {
        let wanted: Rows = wanted.iter().map(|(id, text)| (*id, (*text).to_owned())).collect();
        self.until("all hold the same", || self.world.all().iter().all(|rows| *rows == wanted)).await
    }

    /// Waits for a condition, and returns after how many milliseconds it held; with what the node says
    /// of itself if it never does.
    pub(crate) async fn until(&self, what: &str, there: impl Fn() -> bool) -> u64 {
        let begun_ms = SystemClock.now_ms();
        while !there() {
            if SystemClock.now_ms() > begun_ms + WITHIN_MS {
                let report = serde_json::to_string_pretty(&self.report().await).unwrap();
                let conflicts = serde_json::to_string_pretty(&self.conflicts().await).unwrap();
                panic!("{what}: not within {WITHIN_MS} ms\n{:#?}\n{report}\n{conflicts}", self.world.all());
            }
            SystemClock.sleep_until(SystemClock.now_ms() + 1).await;
        }
        SystemClock.now_ms() - begun_ms
    }

    /// Waits until the node says something of itself.
    pub(crate) async fn says(&self, what: &str, there: impl Fn(&Report) -> bool) -> Report {
        let begun_ms = SystemClock.now_ms();
        loop {
            let report = self.report().await;
            if there(&report) {
                return report;
            }
            assert!(SystemClock.now_ms() < begun_ms + WITHIN_MS, "{what}: {report:#?}");
            SystemClock.sleep_until(SystemClock.now_ms() + 5).await;
        }
    }

    /// Waits until everything is settled and applied everywhere.
    pub(crate) async fn quiet(&self) -> Report {
        self.says("quiet", |report| {
            let notes = &report.datasets["notes"];
            let done = |p: &driftless::node::board::PlatformReport| p.lag_events == 0 && p.counts.held == 0;
            report.healthy && notes.unsettled == 0 && notes.platforms.len() == 3 && notes.platforms.values().all(done)
        })
        .await
    }

    /// How many versions stand in the dataset's topic.
    pub(crate) async fn versions(&self) -> u64 {
        let log = self.node.view().log;
        let mut versions = 0;
        for spec in log.raw.topics().await.unwrap().iter().filter(|spec| &*spec.topic == "driftless.notes") {
            for index in 0..spec.partitions {
                let at = driftless::topic::Partition::new(spec.topic.clone(), index);
                versions += log.raw.bounds(&at).await.unwrap().high;
            }
        }
        versions
    }

    pub(crate) async fn conflicts(&self) -> Vec<ConflictInfo> {
        self.node.view().conflicts(None).await.unwrap()
    }
}
