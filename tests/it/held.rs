//! What people hold up and let go on: pauses, the first write, many deletes at once.

use super::process::{Process, typed, until};
use super::world::{Rows, World};
use serde_json::Value;
use std::fs;

fn status(world: &World) -> Value {
    typed(world, "status").1["datasets"]["notes"].clone()
}

fn all_hold(world: &World, rows: &[(i64, &str)]) -> bool {
    let rows: Rows = rows.iter().map(|(id, text)| (*id, (*text).to_owned())).collect();
    world.all().iter().all(|held| *held == rows)
}

/// who-7: what was said stands in the log.
#[test]
fn a_paused_dataset_captures_and_writes_nothing_over_a_restart_until_it_is_resumed() {
    let world = World::new("");
    let node = Process::start(&world);
    world.put("a", 1, "before");
    until("it has arrived", || all_hold(&world, &[(1, "before")]));
    assert_eq!(typed(&world, "pause notes").1["changed"], true);
    assert_eq!(typed(&world, "pause notes").1["changed"], false);
    node.kill();
    let node = Process::start(&world);
    world.put("a", 1, "while paused");
    world.put("b", 2, "while paused");
    until("both were captured", || status(&world)["unsettled"].as_u64() >= Some(2));
    assert_eq!((&world.rows("a")[&1], &world.rows("b")[&1]), (&"while paused".into(), &"before".into()));
    assert!(!world.rows("a").contains_key(&2));
    let (exit, told) = typed(&world, "status");
    let findings = told["datasets"]["notes"]["findings"].to_string();
    assert!(exit == 0 && findings.contains("driftless resume notes"), "{told:#}");
    assert_eq!(typed(&world, "resume notes").1["changed"], true);
    until("it has arrived", || all_hold(&world, &[(1, "while paused"), (2, "while paused")]));
    node.kill();
}

#[test]
fn a_collection_is_paused_alone_and_what_is_not_configured_is_refused() {
    let world = World::new("");
    let node = Process::start(&world);
    assert_eq!(typed(&world, "pause notes --collection others").0, 2);
    assert_eq!(typed(&world, "pause letters").0, 2);
    assert_eq!(typed(&world, "pause notes --collection notes").0, 0);
    world.put("a", 1, "x");
    until("it was captured", || status(&world)["unsettled"].as_u64() >= Some(1));
    assert!(!world.rows("b").contains_key(&1));
    assert_eq!(typed(&world, "resume notes").0, 0);
    until("it has arrived", || all_hold(&world, &[(1, "x")]));
    node.kill();
    assert_eq!(typed(&world, "pause notes").0, 3, "it is the node that is asked");
}

/// who-4
#[test]
fn a_dataset_that_asks_settles_copies_and_writes_to_no_store_until_it_is_resumed() {
    let world = World::new("    bootstrap: ask");
    for (db, id, text) in [("a", 1, "of a"), ("a", 2, "same"), ("b", 1, "of b"), ("b", 2, "same"), ("b", 3, "only b")] {
        world.put(db, id, text);
    }
    world.put_file(4, "only files");
    let before = world.all();
    let node = Process::start(&world);
    let asks = |platform: &str| status(&world)["asks"][platform].clone();
    until("all copies are settled", || {
        let told = status(&world);
        let asks = &told["asks"];
        // What each of them holds is known: `a` lacks what only `b` and what only the directory has.
        told["unsettled"] == 0 && asks["b"]["same"] == 2 && asks["files"]["missing"] == 3 && asks["a"]["missing"] == 2
    });
    assert_eq!(world.all(), before, "nothing was written");
    assert_eq!((&asks("b")["different"], &asks("b")["missing"]), (&1.into(), &1.into()), "{:#}", status(&world));
    assert_eq!((&asks("a")["missing"], &asks("a")["different"]), (&2.into(), &0.into()), "{:#}", status(&world));
    assert_eq!(typed(&world, "validate --bootstrap").1["notes"]["b"], asks("b"));
    assert_eq!(typed(&world, "resume notes").0, 0);
    let held = [(1, "of a"), (2, "same"), (3, "only b"), (4, "only files")];
    until("all hold the same", || all_hold(&world, &held));
    node.kill();
    let node = Process::start(&world);
    world.put("b", 5, "later");
    until("it asks only once", || world.all().iter().all(|rows| rows.contains_key(&5)));
    node.kill();
}

/// agent-7
#[test]
fn many_files_that_disappear_at_once_are_deleted_only_after_a_person_has_confirmed_it() {
    let world = World::new("");
    {
        let db = world.db("a");
        for id in 0..200 {
            db.execute("INSERT INTO notes VALUES (?1, 'x')", [id]).unwrap();
        }
    }
    let node = Process::start(&world);
    until("all files are there", || world.files().len() == 200);
    let remove = || (0..190).for_each(|id| fs::remove_file(world.path(&format!("files/{id}.json"))).unwrap());
    let listed = || typed(&world, "deletes list").1;
    let gone = || listed()[0]["disappeared"].as_u64().unwrap_or(0);
    node.kill();
    remove();
    let node = Process::start(&world);
    until("they are shown", || gone() == 190);
    let told = listed()[0].clone();
    assert_eq!((&told["platform"], told["records"].as_u64() >= Some(190)), (&"files".into(), true), "{told:#}");
    assert!(told["sample"][0]["id"].is_i64(), "{told:#}");
    let (exit, report) = typed(&world, "status");
    let findings = report["datasets"]["notes"]["findings"].to_string();
    assert!(exit == 1 && findings.contains("driftless deletes confirm notes files"), "{findings}");
    let troubles = report["datasets"]["notes"]["troubles"].to_string();
    assert!(troubles.contains("mass_delete") && troubles.contains("docs/errors/mass_delete.md"), "{troubles}");
    assert_eq!(world.rows("a").len(), 200, "nothing was deleted elsewhere");

    // Not meant: they are brought back, and it goes on.
    (0..190).for_each(|id| world.put_file(id, "x"));
    assert_eq!(typed(&world, "deletes refuse notes files").0, 0);
    until("nothing is missing", || listed().as_array().unwrap().is_empty() && typed(&world, "status").0 == 0);
    assert_eq!(typed(&world, "deletes confirm notes files").0, 2, "there is nothing to confirm");

    // Meant.
    node.kill();
    remove();
    let node = Process::start(&world);
    until("all are shown", || gone() == 190);
    assert_eq!(typed(&world, "deletes confirm notes files").1["confirmed"], 190);
    until("they are deleted everywhere", || world.rows("a").len() == 10 && world.rows("b").len() == 10);
    node.kill();
}

/// agent-7: it is said once. The dataset is paused, so that nothing of it has happened when the node dies.
#[test]
fn deletes_that_were_confirmed_need_no_second_word_when_the_node_was_killed() {
    let world = World::new("");
    {
        let db = world.db("a");
        (0..200).for_each(|id| _ = db.execute("INSERT INTO notes VALUES (?1, 'x')", [id]).unwrap());
    }
    let node = Process::start(&world);
    until("all files are there", || world.files().len() == 200);
    node.kill();
    (0..190).for_each(|id| fs::remove_file(world.path(&format!("files/{id}.json"))).unwrap());
    let node = Process::start(&world);
    until("they are shown", || typed(&world, "deletes list").1[0]["disappeared"] == 190);
    assert_eq!(typed(&world, "pause notes").0, 0);
    assert_eq!(typed(&world, "deletes confirm notes files").1["confirmed"], 190);
    node.kill();
    let node = Process::start(&world);
    assert_eq!(world.rows("a").len(), 200, "it is paused");
    assert_eq!(typed(&world, "resume notes").0, 0);
    until("they are deleted everywhere", || world.rows("a").len() == 10 && world.rows("b").len() == 10);
    assert_eq!(typed(&world, "deletes list").1, serde_json::json!([]));
    node.kill();
}
