//! Platforms whose disk is full: the whole program over the file layer. What cannot be written is told
//! and waits, the others go on, and with room again everything arrives.

use crate::layer::Layer;
use rusqlite::{Connection, params};
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const ROWS: i64 = 60;

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_driftless"))
}

struct Node(Child);

impl Node {
    fn start(config: &Path, environment: Vec<(&'static str, OsString)>) -> Node {
        let log = File::options().create(true).append(true).open(config.with_extension("log")).unwrap();
        let mut run = program();
        run.args(["run", "--config"]).arg(config).envs(environment).stdout(Stdio::piped()).stderr(log);
        let mut child = run.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("running: notes"), "{line}");
        Node(child)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn ids(path: &Path) -> BTreeSet<i64> {
    let db = Connection::open(path).unwrap();
    db.busy_timeout(Duration::from_secs(20)).unwrap();
    let mut query = db.prepare("SELECT id FROM notes").unwrap();
    query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn files(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().flatten().filter(|e| e.path().extension().is_some_and(|e| e == "json")).count()
}

fn until(what: &str, config: &Path, mut there: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !there() {
        let log = || fs::read_to_string(config.with_extension("log")).unwrap();
        assert!(begun.elapsed() < Duration::from_secs(90), "{what}: not within 90 s\n{}", log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What has stopped for good, by platform and code.
fn halted(config: &Path) -> BTreeSet<(String, String)> {
    let answer = program().args(["status", "--json", "--config"]).arg(config).output().unwrap();
    let told: Value = serde_json::from_slice(&answer.stdout).unwrap();
    let troubles = told["datasets"]["notes"]["troubles"].as_array().cloned().unwrap_or_default();
    let word = |trouble: &Value, what: &str| trouble[what].as_str().unwrap_or_default().to_owned();
    troubles.iter().filter(|t| t["state"] == "halted").map(|t| (word(t, "platform"), word(t, "code"))).collect()
}

fn prepared(root: &Path, layer: &Layer) -> (PathBuf, PathBuf, PathBuf, PathBuf) {
    let (a, b, folder) = (root.join("a.db"), layer.dir.join("b.db"), layer.dir.join("files"));
    for path in [&a, &b] {
        let make = "PRAGMA journal_mode = WAL; CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)";
        Connection::open(path).unwrap().execute_batch(make).unwrap();
    }
    fs::create_dir(&folder).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let text = format!(
        "data-dir: {}\nhttp: {{ listen: '127.0.0.1:{port}' }}\nplatforms:\n  a: {{ type: sqlite, path: {} }}\n  \
         b: {{ type: sqlite, path: {} }}\n  files: {{ type: filesystem, root: {} }}\ndatasets:\n  - name: notes\n    \
         source: a\n    destinations: [b, files]\n    collections:\n      - name: notes\n        key: id\n        \
         fields: [{{ name: id, type: long }}, {{ name: text, type: text }}]\n        on: {{ files: {{ path: '{{id}}.json' }} }}\n",
        root.join("node").display(),
        a.display(),
        b.display(),
        folder.display()
    );
    let config = root.join("driftless.yaml");
    fs::write(&config, text).unwrap();
    (config, a, b, folder)
}

#[test]
fn a_platform_whose_disk_is_full_stops_with_its_code_and_gets_everything_when_there_is_room() {
    let root = tempfile::tempdir().unwrap();
    let layer = Layer::build(root.path());
    let (config, a, b, folder) = prepared(&root.path().canonicalize().unwrap(), &layer);
    let mut environment = layer.environment();
    environment.push(("POWERLOSS_FULL", "1500000".into()));
    let node = Node::start(&config, environment);
    let db = Connection::open(&a).unwrap();
    db.busy_timeout(Duration::from_secs(20)).unwrap();
    for id in 0..ROWS {
        db.execute("INSERT INTO notes VALUES (?1, ?2)", params![id, "x".repeat(40_000)]).unwrap();
    }
    let full = |platform: &str| (platform.to_owned(), "disk_full".to_owned());
    until("both say that their disk is full", &config, || {
        let halted = halted(&config);
        halted.contains(&full("b")) && halted.contains(&full("files"))
    });
    let halted = halted(&config);
    assert!(halted.iter().all(|(platform, code)| platform != "a" && code == "disk_full"), "{halted:?}");
    assert!(ids(&b).len() < ROWS as usize || files(&folder) < ROWS as usize, "the disk was never full");
    drop(node);
    // With room again nothing is missing, and what came back from there did no harm at the source.
    let node = Node::start(&config, Vec::new());
    let all: BTreeSet<i64> = (0..ROWS).collect();
    until("everything arrives", &config, || ids(&b) == all && files(&folder) == ROWS as usize);
    assert_eq!(ids(&a), all);
    drop(node);
}
