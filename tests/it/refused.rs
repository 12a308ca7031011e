//! What is asked of the program and cannot be: an address that is taken, a node that is not there, records
//! that do not fit, a clock that is wrong. Each is told with its code and its remedy, and nothing is lost.

use super::process::{Process, program, typed, until, written};
use super::world::{World, document};
use driftless::runtime::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, UNIX_EPOCH};

fn told(words: &str, world: &World) -> (Option<i32>, String) {
    let answer = program().args(words.split(' ')).arg("--config").arg(written(world)).output().unwrap();
    (answer.status.code(), String::from_utf8(answer.stderr).unwrap())
}

fn parked(world: &World) -> Vec<Value> {
    typed(world, "parked list").1.as_array().unwrap().clone()
}

#[test]
fn a_second_node_on_the_same_address_is_told_and_writes_nothing() {
    let world = World::new("");
    let taken = std::net::TcpListener::bind(("127.0.0.1", world.port)).unwrap();
    world.put("a", 1, "x");
    let (exit, err) = told("run", &world);
    assert_eq!(exit, Some(3), "{err}");
    let address = format!("127.0.0.1:{}", world.port);
    for words in ["listen_failed: ", &address, "http: { listen: … }", "docs/errors/listen_failed.md"] {
        assert!(err.contains(words), "{words}: {err}");
    }
    assert!(world.rows("b").is_empty() && world.files().is_empty());
    drop(taken);
    let node = Process::start(&world);
    until("it arrives", || world.all().iter().all(|rows| rows.contains_key(&1)));
    node.kill();
}

#[test]
fn a_command_for_a_node_that_does_not_run_says_where_it_was_looked_for() {
    let world = World::new("");
    for words in ["status", "pause notes", "parked list", "deletes list"] {
        let (exit, err) = told(words, &world);
        assert_eq!(exit, Some(3), "{words}: {err}");
        let address = format!("127.0.0.1:{}", world.port);
        for part in ["node_unreachable: ", &address, "`driftless run`", "docs/errors/node_unreachable.md"] {
            assert!(err.contains(part), "{words}: {part}: {err}");
        }
    }
    let (exit, answer) = typed(&world, "status");
    assert_eq!((exit, &answer["error"]["code"]), (3, &"node_unreachable".into()));
}

/// P4: what does not fit waits alone, is told with the setting, and arrives when it fits.
#[test]
fn a_value_over_the_limit_of_a_platform_waits_alone_with_its_code_both_ways() {
    let mut world = World::new("");
    let wide = world.config.clone();
    world.config = wide.replace("/files }", "/files, file-bytes-max: 1000 }");
    assert_ne!(world.config, wide);
    let node = Process::start(&world);
    let large = "l".repeat(2000);
    world.put("a", 1, &large);
    world.put_file(2, &large);
    world.put("a", 3, "small");
    world.put_file(4, "small");
    until("the others arrive", || world.files().contains_key(&3) && world.rows("b").contains_key(&4));
    until("the large row is at the other database", || world.rows("b").get(&1) == Some(&large));
    until("both wait", || parked(&world).len() == 2);
    for letter in parked(&world) {
        assert_eq!((&letter["platform"], &letter["code"]), (&"files".into(), &"value_too_large".into()), "{letter:#}");
        let words = letter["remedy"].as_str().unwrap();
        assert!(words.contains("`file-bytes-max`") && letter["why"].to_string().contains("1000 bytes"), "{letter:#}");
    }
    assert!(!world.files().contains_key(&1) && world.files()[&2] == large && !world.rows("a").contains_key(&2));
    node.kill();
    world.config = wide;
    let node = Process::start(&world);
    until("all arrives", || world.all().iter().all(|rows| rows.len() == 4 && rows[&1] == large && rows[&2] == large));
    until("nothing waits", || parked(&world).is_empty());
    node.kill();
}

/// P4
#[test]
fn a_key_over_4_kib_becomes_a_dead_letter_and_one_a_platform_has_no_name_for_waits_there_alone() {
    let mut world = World::new("");
    world.config = world.config.replace("{ name: id, type: long }", "{ name: id, type: text }");
    for name in ["a", "b"] {
        world.db(name).execute_batch("DROP TABLE notes; CREATE TABLE notes (id TEXT PRIMARY KEY, text TEXT)").unwrap();
    }
    let node = Process::start(&world);
    let put = |id: &str| world.db("a").execute("INSERT INTO notes VALUES (?1, 'x')", [id]).unwrap();
    let count = |db: &str, id: &str| -> i64 {
        world.db(db).query_row("SELECT count(*) FROM notes WHERE id = ?1", [id], |row| row.get(0)).unwrap()
    };
    let (too_long, no_name) = ("t".repeat(4097), "n".repeat(300));
    put(&too_long);
    put(&no_name);
    put("fine");
    until("the fine one arrives", || world.path("files/fine.json").exists() && count("b", "fine") == 1);
    until("the other database has a name for it", || count("b", &no_name) == 1);
    until("it waits at the directory", || parked(&world).len() == 1);
    let waits = parked(&world).remove(0);
    assert_eq!((&waits["platform"], &waits["code"]), (&"files".into(), &"key_too_long".into()), "{waits:#}");
    until("the letter is there", || typed(&world, "dead list").1.as_array().unwrap().len() == 1);
    let letter = typed(&world, "dead list").1[0].clone();
    assert_eq!(letter["code"], "key_too_long", "{letter:#}");
    assert_eq!(letter["event"], json!({"id": too_long, "text": "x"}), "all of it is kept");
    // The remedy.
    world.db("a").execute("UPDATE notes SET id = 'short' WHERE id = ?1", [&too_long]).unwrap();
    until("it arrives", || count("b", "short") == 1 && world.path("files/short.json").exists());
    node.kill();
}

/// value-3: a time of the future counts as now, and one of the past still comes after what it changes.
#[test]
fn a_file_whose_clock_is_ten_minutes_off_loses_no_edit_to_it_and_wins_none_by_it() {
    let world = World::new("");
    let node = Process::start(&world);
    let stamped = |id: i64, text: &str, off_ms: i64| {
        let beside = world.path(&format!("{id}.new"));
        fs::write(&beside, document(id, text)).unwrap();
        let at = UNIX_EPOCH + Duration::from_millis(SystemClock.now_ms().saturating_add_signed(off_ms));
        fs::File::open(&beside).unwrap().set_modified(at).unwrap();
        fs::rename(beside, world.path(&format!("files/{id}.json"))).unwrap();
    };
    let everywhere = |id: i64, text: &str| {
        until(text, || world.all().iter().all(|rows| rows.get(&id).is_some_and(|found| found == text)));
    };
    for (id, off_ms) in [(1, 600_000), (2, -600_000)] {
        world.put("a", id, "first");
        everywhere(id, "first");
        stamped(id, "of the wrong clock", off_ms);
        everywhere(id, "of the wrong clock");
        world.put("a", id, "after it");
        everywhere(id, "after it");
    }
    assert!(typed(&world, "conflicts list").1.as_array().unwrap().is_empty(), "writes one after the other");
    node.kill();
}
