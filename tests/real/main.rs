//! The real run: two Postgres servers and a directory, all written by applications of their own, on one
//! dataset through a real Apache Kafka. The program is killed again and again and the broker twice; nothing
//! is lost. The account uses only the applications' journals, the final data and the logged conflicts.
//! `MINUTES` and `KILLS` make it longer (`make soak`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and tells figures"
)]

mod files;
#[path = "../it/journal.rs"]
mod journal;
#[path = "../kafka/server.rs"]
#[allow(dead_code, reason = "the tests of the log use more of it")]
mod kafka;
mod nodes;
mod postgres;
#[path = "../it/process.rs"]
mod process;
mod schema;
mod truncate;

use driftless::runtime::clock::{Clock, SystemClock};
use files::Directory;
use process::{Configured, Process, comes_true, is_settled, logged, typed};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

/// Keys that all three write.
const SHARED: u64 = 8;
/// Writes a second of each Postgres, and of the directory.
const RATES: (u64, u64) = (50, 20);
/// How long anything may take.
const WITHIN_MS: u64 = 90_000;

/// The platforms, the broker and the configuration.
struct World {
    folder: tempfile::TempDir,
    config: String,
    kafka: kafka::Server,
    left: postgres::Server,
    right: postgres::Server,
    files: Directory,
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
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let (kafka, left, right) = std::thread::scope(|scope| {
            let kafka = scope.spawn(kafka::Server::start);
            let (left, right) = (scope.spawn(postgres::Server::start), scope.spawn(postgres::Server::start));
            (kafka.join().unwrap(), left.join().unwrap(), right.join().unwrap())
        });
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let root = folder.path().canonicalize().unwrap();
        let config = format!(
            "data-dir: {root}/node
http: {{ listen: '127.0.0.1:{port}' }}
log: {{ type: kafka, brokers: '{}' }}
platforms:
  left: {}
  right: {}
  files: {{ type: filesystem, root: {root}/files }}
datasets:
  - name: notes
    source: left
    destinations: [right, files]
    collections:
      - name: notes
        key: id
        fields: [{{ name: id, type: long }}, {{ name: text, type: text }}]
        on: {{ files: {{ path: '{{id}}.json' }} }}
",
            kafka.brokers(),
            left.platform(),
            right.platform(),
            root = root.display(),
        );
        let files = Directory::new(&root);
        World { folder, config, kafka, left, right, files }
    }

    fn all(&self) -> [BTreeMap<i64, String>; 3] {
        [self.left.rows(), self.right.rows(), self.files.rows()]
    }

    fn same(&self) -> bool {
        let [left, right, files] = self.all();
        left == right && right == files
    }

    /// Where the dataset's own topics end: more appears only if something is still going on.
    fn ends(&self) -> Vec<Value> {
        let (_, topics) = typed(self, "topics");
        let own = |t: &&Value| ["driftless.notes", "driftless.notes.changes"].contains(&t["topic"].as_str().unwrap());
        topics.as_array().unwrap().iter().filter(own).cloned().collect()
    }

    /// Waits for a condition; says what is known if it never comes.
    fn until(&self, what: &str, there: impl FnMut() -> bool) {
        if comes_true(WITHIN_MS, there) {
            return;
        }
        let log = logged(self);
        let tail: Vec<&str> = log.lines().rev().take(40).collect();
        let mut differ = String::new();
        let [left, right, files] = self.all();
        let keys: HashSet<_> = left.keys().chain(right.keys()).chain(files.keys()).collect();
        for id in keys {
            let held = [left.get(id), right.get(id), files.get(id)];
            if held.iter().any(|h| *h != held[0]) {
                writeln!(differ, "{id}: {held:?}").unwrap();
            }
        }
        panic!("{what}: not in time\n{differ}\n{:#}\n{}", typed(self, "status").1, tail.join("\n"));
    }

    /// Waits until what is written from now on arrives on the other side.
    fn flows(&self, what: &str) {
        let (left, right) = (self.left.newest_token(), self.right.newest_token());
        self.until(what, || self.right.newest_of("left") > left && self.left.newest_of("right") > right);
    }

    /// Waits until so many more writes were made on the left.
    fn goes_on(&self, writes: u64) {
        let enough = self.left.writes() + writes;
        self.until("the applications write", || self.left.writes() >= enough);
    }

    /// Kills the program in the middle of the work, each time somewhere else, and twice the broker; returns
    /// the program as it runs at the end.
    fn disturb(&self, kills: u64, round: u64) -> Process {
        let mut node = Process::start(self);
        for kill in 1..=kills {
            self.flows("writes flow both ways");
            self.goes_on(round + kill * 7 % 20);
            if [kills.div_ceil(3), (kills * 2).div_ceil(3)].contains(&kill) {
                self.kafka.kill_and_start_again();
                self.flows("writes flow again after the broker's restart");
            }
            node.kill();
            node = Process::start(self);
        }
        self.flows("writes flow after the last kill");
        node
    }
}

fn setting(name: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "chooses how long the test runs")]
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}: a number is expected")))
}

/// G5, "the real input it ends with".
#[test]
fn killed_while_three_platforms_are_written_nothing_is_lost_through_kafka() {
    let kills = setting("KILLS").unwrap_or_else(|| if setting("MINUTES").is_some() { 20 } else { 5 });
    let round = setting("MINUTES").map_or(20, |minutes| minutes * 60 * RATES.0 / kills);
    let begun_ms = SystemClock.now_ms();
    let world = World::new();
    let node = std::thread::scope(|scope| {
        let writers =
            [world.left.writer("left", SHARED, 1000, RATES.0), world.right.writer("right", SHARED, 2000, RATES.0)];
        let files = scope.spawn(|| world.files.write(SHARED, 3000, RATES.1));
        // A panic must not leave the writer of files running, for the scope waits for it.
        let node = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.disturb(kills, round)));
        world.files.stop.store(true, Relaxed);
        files.join().unwrap();
        writers.into_iter().for_each(postgres::Writer::stop);
        node.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let stopped_ms = SystemClock.now_ms();
    world.until("all hold the same", || world.same() && is_settled(&world) && world.same());
    let (ends, still_ms) = (world.ends(), SystemClock.now_ms() + 3_000);
    world.until("three seconds pass", || SystemClock.now_ms() > still_ms);
    assert_eq!(world.ends(), ends, "an echo runs on");
    assert!(world.same() && is_settled(&world));
    settle(&world, kills, stopped_ms);
    println!("{} s in all", (SystemClock.now_ms() - begun_ms) / 1000);
    drop(node);
}

/// The account.
fn settle(world: &World, kills: u64, stopped_ms: u64) {
    let (_, conflicts) = typed(world, "conflicts list");
    let journals = [world.left.journal(), world.right.journal(), world.files.journal()];
    let stands: HashSet<String> = world.left.rows().into_values().collect();
    let missing = journal::missing(&journals, &stands, &conflicts);
    assert!(missing.is_empty(), "neither there, nor overwritten, nor logged: {missing:?}");
    let risen: Vec<&String> = stands.iter().filter(|t| journals.iter().any(|j| j.displaced.contains(*t))).collect();
    assert!(risen.is_empty(), "there again although they were overwritten: {risen:?}");
    let conflicts = conflicts.as_array().unwrap();
    assert!(!conflicts.is_empty(), "the applications never met");
    println!(
        "writes {:?}, {} displaced, {} conflicts with {} tokens lost and logged, {kills} kills, same after {} ms",
        journals.each_ref().map(|j| j.written.len()),
        journals.iter().map(|j| j.displaced.len()).sum::<usize>(),
        conflicts.len(),
        conflicts.iter().filter_map(journal::loser).count(),
        SystemClock.now_ms() - stopped_ms,
    );
}
