//! A dataset larger than the memory it may take, and a process that keeps to it (decision 9).

use super::process::{Process, comes_true, is_settled, logged};
use super::world::World;
use rusqlite::params;
use std::fs;

/// Bytes of a row's text; no compressor makes less of it.
const TEXT_BYTES: usize = 4_000;
/// 160 MB of heads alone.
const ROWS: i64 = 40_000;
/// What a node holds at rest besides: its code, buffers of the log and of two databases, what was read last.
/// Without a bound on what is known of keys it is at 400 MB here.
const RESIDENT_MB_MAX: u64 = 300;
/// How long anything may take, in milliseconds.
const WITHIN_MS: u64 = 240_000;
/// The allocator gives back what is freed, so that what is held can be told from what was.
const ENVIRONMENT: [(&str, &str); 2] = [("MIMALLOC_PURGE_DELAY", "0"), ("MIMALLOC_ARENA_EAGER_COMMIT", "0")];

fn text(id: i64, round: u64) -> String {
    let mut seed = (id as u64) << 8 | round;
    let letter = |_| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'!' + (seed >> 57) as u8 % 90)
    };
    (0..TEXT_BYTES).map(letter).collect()
}

fn write(world: &World, db: &str, ids: impl Iterator<Item = i64>, round: u64) {
    let mut db = world.db(db);
    let all = db.transaction().unwrap();
    for id in ids {
        let sql = "INSERT INTO notes VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET text = ?2";
        all.prepare_cached(sql).unwrap().execute(params![id, text(id, round)]).unwrap();
    }
    all.commit().unwrap();
}

/// The memory a process has now, in MB.
fn resident_mb(process: &Process) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", process.0.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1_024
}

fn until(what: &str, world: &World, there: impl FnMut() -> bool) {
    assert!(comes_true(WITHIN_MS, there), "{what}: not in time\n{}", logged(world));
}

fn count(world: &World, db: &str) -> i64 {
    world.db(db).query_row("SELECT count(*) FROM notes", [], |row| row.get(0)).unwrap()
}

#[test]
fn a_dataset_larger_than_memory_is_kept_the_same_both_ways() {
    let mut world = World::new("");
    world.config = world.config.replace("data-dir:", "memory-mb: 4\ndata-dir:").replace("[b, files]", "[b]");
    world.config = world.config.replace("        on: { files: { path: '{id}.json' } }\n", "");
    write(&world, "a", 0..ROWS, 1);
    let process = Process::start_with(&world, &ENVIRONMENT);
    until("the first copy is there", &world, || count(&world, "b") == ROWS && is_settled(&world));
    // Changes of keys that left memory long ago, on either side.
    write(&world, "a", (0..ROWS).step_by(40), 2);
    write(&world, "b", (20..ROWS).step_by(40), 3);
    let same = |name: &str, id: i64, round: u64| {
        let sql = "SELECT text FROM notes WHERE id = ?1";
        world.db(name).query_row(sql, [id], |row| row.get::<_, String>(0)).unwrap() == text(id, round)
    };
    let ids = || (0..ROWS).step_by(40);
    until("both have each other's changes", &world, || {
        ids().all(|id| same("b", id, 2)) && ids().all(|id| same("a", id + 20, 3)) && is_settled(&world)
    });
    assert!((1..40).filter(|id| *id != 20).all(|id| same("b", id, 1)));
    let first = resident_mb(&process);
    process.kill();
    // A new process knows nothing and reads it from the log; what the old one left on the disk goes.
    let process = Process::start_with(&world, &ENVIRONMENT);
    write(&world, "b", 0..10, 4);
    until("it goes on", &world, || (0..10).all(|id| same("a", id, 4)) && is_settled(&world));
    let second = resident_mb(&process);
    println!("{first} MB and, after a restart, {second} MB");
    assert!(first.max(second) < RESIDENT_MB_MAX, "{first} MB, {second} MB\n{}", logged(&world));
    let folders = fs::read_dir(world.path("node/state")).unwrap().filter(|e| e.as_ref().unwrap().path().is_dir());
    assert_eq!(folders.count(), 1);
}
