//! A log that is lost, replaced or older than the platforms is noticed before anything is touched, and
//! what is left of datasets nobody configures any more is told.

use super::process::{Process, typed, until};
use super::world::World;
use serde_json::Value;
use std::fs;
use std::path::Path;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn stopped(world: &World) -> Vec<(String, String)> {
    let troubles = typed(world, "status").1["datasets"]["notes"]["troubles"].clone();
    let word = |trouble: &Value, what: &str| trouble[what].as_str().unwrap_or_default().to_owned();
    let halted = |trouble: &Value| word(trouble, "state") == "halted";
    let all = troubles.as_array().cloned().unwrap_or_default();
    let mut all: Vec<_> = all.iter().filter(|t| halted(t)).map(|t| (word(t, "platform"), word(t, "code"))).collect();
    all.sort();
    all
}

fn lost(platforms: &[&str]) -> Vec<(String, String)> {
    platforms.iter().map(|name| ((*name).to_owned(), "log_lost".to_owned())).collect()
}

#[test]
fn a_new_log_on_platforms_of_another_one_stops_before_anything_is_touched() {
    let world = World::new("");
    let node = Process::start(&world);
    for id in 1..=20 {
        world.put("a", id, "x");
    }
    until("all have arrived", || world.all().iter().all(|rows| rows.len() == 20));
    node.kill();
    fs::remove_dir_all(world.path("node")).unwrap();
    fs::remove_file(world.path("files/7.json")).unwrap();
    world.put("b", 8, "edited meanwhile");
    let before = world.all();
    let node = Process::start(&world);
    until("all stop", || stopped(&world) == lost(&["a", "b", "files"]));
    assert_eq!(world.all(), before);
    node.kill();
    // The remedy.
    assert_eq!(typed(&world, "remove --dataset notes").0, 0);
    let node = Process::start(&world);
    until("all hold the same", || {
        let [a, b, files] = world.all();
        a == b && b == files && a.len() == 20
    });
    assert!(stopped(&world).is_empty());
    node.kill();
}

#[test]
fn a_log_restored_from_an_older_copy_stops_the_platforms_that_know_more() {
    let world = World::new("");
    let node = Process::start(&world);
    world.put("a", 1, "old");
    until("it has arrived", || world.all().iter().all(|rows| rows.contains_key(&1)));
    node.kill();
    copy(&world.path("node"), &world.path("backup"));
    let node = Process::start(&world);
    for id in 2..=40 {
        world.put("a", id, "newer than the backup");
    }
    until("all have arrived", || world.all().iter().all(|rows| rows.len() == 40));
    node.kill();
    fs::remove_dir_all(world.path("node")).unwrap();
    fs::rename(world.path("backup"), world.path("node")).unwrap();
    let before = world.rows("b");
    let node = Process::start(&world);
    until("the databases stop", || lost(&["b"]).iter().all(|one| stopped(&world).contains(one)));
    assert_eq!(world.rows("b"), before);
    node.kill();
}

/// verb-9
#[test]
fn doctor_tells_what_is_left_of_a_dataset_that_is_not_configured_any_more() {
    let mut world = World::new("");
    let node = Process::start(&world);
    world.put("a", 1, "x");
    until("it has arrived", || world.all().iter().all(|rows| rows.contains_key(&1)));
    let findings = |world: &World| -> Vec<Value> {
        let told = typed(world, "doctor").1["findings"].as_array().unwrap().clone();
        told.into_iter().filter(|found| found["code"] == "leftover").collect()
    };
    assert!(findings(&world).is_empty());
    node.kill();
    assert!(findings(&world).is_empty());
    world.config = world.config.replace("name: notes\n    source", "name: letters\n    source");
    let found = findings(&world);
    assert_eq!((found.len(), &found[0]["dataset"]), (1, &"notes".into()), "{found:#?}");
    let text = found[0]["text"].as_str().unwrap();
    assert!(text.contains("a, b, files") && text.contains("driftless remove --dataset notes"), "{text}");
}

/// A directory has no fields of its own; `run` takes them from a database, and so does `doctor`.
#[test]
fn doctor_takes_the_fields_of_a_directory_from_a_database_as_run_does() {
    let mut world = World::new("");
    let fields = "        fields: [{ name: id, type: long }, { name: text, type: text }]\n";
    assert!(world.config.contains(fields), "{}", world.config);
    world.config = world.config.replace(fields, "");
    let (exit, told) = typed(&world, "doctor");
    assert_eq!((exit, &told["healthy"]), (0, &true.into()), "{told:#}");
    assert!(!world.path("files/.driftless").exists(), "nothing is made by looking");
    let node = Process::start(&world);
    world.put("a", 1, "x");
    until("it has arrived", || world.files().contains_key(&1));
    assert_eq!(typed(&world, "doctor").0, 0, "also while it runs");
    node.kill();
}
