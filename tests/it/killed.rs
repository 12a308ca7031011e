//! SIGKILL at any time loses nothing (P10). Three writers note every write with a unique token and the
//! token it displaced; afterwards every write is there, was knowingly overwritten, or is a logged loser.

use super::journal::{self, Journal};
use super::process::{Process, comes_true, is_settled, logged, typed, until};
use super::world::{World, document};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde_json::Value;
use std::collections::HashSet;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

const KILLS: u64 = 10;
const KEYS: i64 = 5;
/// Writes of each writer between two kills.
const WRITES: u64 = 25;

struct Pace {
    stop: AtomicBool,
    written: [AtomicU64; 3],
}

impl Pace {
    fn waits(&self, writer: usize, allowed: &AtomicU64) -> bool {
        while self.written[writer].load(Relaxed) >= allowed.load(Relaxed) && !self.stop.load(Relaxed) {
            std::thread::yield_now();
        }
        !self.stop.load(Relaxed)
    }
}

fn key_of(count: u64, writer: u64) -> i64 {
    1 + i64::try_from((count * 7 + writer * 3) % u64::try_from(KEYS).unwrap()).unwrap()
}

/// Write and journal in one: what is displaced is read in the same transaction.
fn write_rows(world: &World, name: &str, writer: usize, pace: &Pace, allowed: &AtomicU64) -> Journal {
    let (mut journal, db) = (Journal::default(), world.db(name));
    while pace.waits(writer, allowed) {
        let count = pace.written[writer].load(Relaxed);
        let (id, token) = (key_of(count, writer as u64), format!("{name}-{count}"));
        db.execute_batch("BEGIN IMMEDIATE").unwrap();
        let displaced = db.query_row("SELECT text FROM notes WHERE id = ?1", [id], |row| row.get(0)).ok();
        let sql = "INSERT INTO notes VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET text = ?2";
        db.execute(sql, rusqlite::params![id, token]).unwrap();
        db.execute_batch("COMMIT").unwrap();
        journal.note(Some(token), displaced);
        pace.written[writer].fetch_add(1, Relaxed);
    }
    journal
}

/// Replaces documents by exchange, so that what was displaced is known for certain.
fn write_files(world: &World, writer: usize, pace: &Pace, allowed: &AtomicU64) -> Journal {
    let mut journal = Journal::default();
    let beside = world.path("exchange");
    while pace.waits(writer, allowed) {
        let count = pace.written[writer].load(Relaxed);
        let (id, token) = (key_of(count, writer as u64), format!("files-{count}"));
        let at = world.path(&format!("files/{id}.json"));
        let displaced = loop {
            fs::write(&beside, document(id, &token)).unwrap();
            if renameat_with(CWD, &beside, CWD, &at, RenameFlags::NOREPLACE).is_ok() {
                break None;
            }
            if renameat_with(CWD, &beside, CWD, &at, RenameFlags::EXCHANGE).is_ok() {
                let found: Value = serde_json::from_slice(&fs::read(&beside).unwrap()).unwrap();
                break found["text"].as_str().map(ToOwned::to_owned);
            }
        };
        journal.note(Some(token), displaced);
        pace.written[writer].fetch_add(1, Relaxed);
    }
    journal
}

#[test]
fn killed_ten_times_while_three_write_nothing_is_lost() {
    let world = World::new("");
    let pace = Pace { stop: AtomicBool::new(false), written: Default::default() };
    let allowed = AtomicU64::new(0);
    let mut node = Process::start(&world);
    let journals: Vec<Journal> = std::thread::scope(|scope| {
        let writers = [
            scope.spawn(|| write_rows(&world, "a", 0, &pace, &allowed)),
            scope.spawn(|| write_rows(&world, "b", 1, &pace, &allowed)),
            scope.spawn(|| write_files(&world, 2, &pace, &allowed)),
        ];
        for round in 1..=KILLS {
            allowed.store(round * WRITES, Relaxed);
            // In the middle of the round, each time somewhere else.
            let middle = (round - 1) * WRITES + 1 + round * 2;
            until("the writers are at it", || pace.written.iter().all(|w| w.load(Relaxed) >= middle));
            node.0.kill().unwrap();
            node.0.wait().unwrap();
            node = Process::start(&world);
        }
        until("the writers are done", || pace.written.iter().all(|w| w.load(Relaxed) >= KILLS * WRITES));
        pace.stop.store(true, Relaxed);
        writers.into_iter().map(|w| w.join().unwrap()).collect()
    });
    let same = || {
        let [a, b, files] = world.all();
        a == b && b == files
    };
    until_or("all hold the same", &world, || same() && is_settled(&world) && same());
    let (_, conflicts) = typed(&world, "conflicts list");
    let stands: HashSet<String> = world.rows("a").into_values().collect();
    let missing = journal::missing(&journals, &stands, &conflicts);
    assert!(missing.is_empty(), "neither there, nor overwritten, nor logged: {missing:?}");
    println!("{} writes, {} conflicts, {KILLS} kills", 3 * KILLS * WRITES, conflicts.as_array().unwrap().len());
}

fn until_or(what: &str, world: &World, there: impl FnMut() -> bool) {
    if !comes_true(60_000, there) {
        let log = logged(world);
        let tail: Vec<&str> = log.lines().rev().take(30).collect();
        panic!("{what}: {:#?}\n{:#}\n{}", world.all(), typed(world, "status").1, tail.join("\n"));
    }
}
