//! What cannot be captured or applied: it is shown, the rest goes on, and nothing is lost.

use super::process::{Process, typed, until};
use super::world::World;
use serde_json::{Value, json};

fn listed(world: &World, words: &str) -> Vec<Value> {
    let (exit, answer) = typed(world, words);
    assert_eq!(exit, 0, "{answer:#}");
    answer.as_array().unwrap().clone()
}

/// P8, P4
#[test]
fn a_value_that_is_none_of_its_type_becomes_a_dead_letter_and_the_rest_goes_on() {
    let world = World::new("");
    let node = Process::start(&world);
    let strange = "INSERT INTO notes VALUES (1, x'ff00')";
    world.db("a").execute(strange, []).unwrap();
    world.put("a", 2, "fine");
    until("the other row has arrived", || world.rows("b").contains_key(&2) && world.files().contains_key(&2));
    until("the letter is there", || listed(&world, "dead list").len() == 1);
    let letter = listed(&world, "dead list --dataset notes").remove(0);
    assert_eq!((&letter["stage"], &letter["platform"]), (&"capture".into(), &"a".into()), "{letter:#}");
    assert_eq!((&letter["key"], &letter["event"]), (&json!({"id": 1}), &json!({"id": 1, "text": "ff00"})));
    let id = letter["id"].as_str().unwrap();
    assert_eq!(typed(&world, &format!("dead show {}", &id[..12])).1, letter);

    // While it stands there nothing may overwrite it, whatever the others write.
    world.put("b", 1, "of b");
    until("it is parked", || listed(&world, "parked list --platform a").len() == 1);
    let stands: Vec<u8> = world.db("a").query_row("SELECT text FROM notes WHERE id = 1", [], |row| row.get(0)).unwrap();
    assert_eq!(stands, [0xff, 0]);

    world.put("a", 1, "put right");
    until("one outcome is everywhere", || {
        let [a, b, files] = world.all();
        a == b && b == files && a.contains_key(&1)
    });
    let conflicts = listed(&world, "conflicts list");
    assert_eq!(conflicts.len(), 1, "both were written beside each other: {conflicts:#?}");
    assert_eq!(typed(&world, &format!("dead retry {id}")).0, 0);
    until("the letter is settled", || listed(&world, "dead list").is_empty());
    assert!(listed(&world, "parked list").is_empty());
    node.kill();
    assert!(listed(&world, "dead list").is_empty());
}

/// sink-6: the key alone waits, and goes on when what blocks it is gone.
#[test]
fn a_row_that_a_constraint_refuses_is_parked_and_shown_and_goes_on_when_the_way_is_free() {
    let world = World::new("");
    world.db("b").execute_batch("CREATE UNIQUE INDEX one_text ON notes (text)").unwrap();
    let node = Process::start(&world);
    world.put("a", 1, "same");
    world.put("a", 2, "same");
    world.put("a", 3, "other");
    until("the others have arrived", || [1, 3].iter().all(|id| world.rows("b").contains_key(id)));
    until("the key is parked", || listed(&world, "parked list").len() == 1);
    let parked = listed(&world, "parked list --dataset notes --platform b").remove(0);
    assert_eq!((&parked["key"], &parked["code"]), (&json!({"id": 2}), &"constraint_violated".into()), "{parked:#}");
    assert!(parked["why"].as_str().unwrap().contains("UNIQUE") && parked["remedy"].is_string(), "{parked:#}");
    world.put("a", 1, "changed");
    until("the way is free", || world.rows("b")[&1] == "changed");
    assert_eq!(typed(&world, "parked retry").0, 0);
    until("it has arrived", || world.rows("b").get(&2).is_some_and(|text| text == "same"));
    until("nothing is parked", || listed(&world, "parked list").is_empty());
    node.kill();
}

/// sink-5, P4
#[test]
fn what_is_refused_for_too_long_becomes_a_dead_letter_with_its_value_and_can_be_taken_up_again() {
    let world = World::new("    dead-after-s: 1");
    world.db("b").execute_batch("CREATE UNIQUE INDEX one_text ON notes (text)").unwrap();
    let node = Process::start(&world);
    for (id, text) in [(1, "same"), (2, "same"), (3, "same")] {
        world.put("a", id, text);
    }
    until("two letters are there", || listed(&world, "dead list").len() == 2);
    assert!(listed(&world, "parked list").is_empty());
    let letters = listed(&world, "dead list");
    let of = |key: i64| letters.iter().find(|letter| letter["key"]["id"] == key);
    let blocked: Vec<i64> = (1..=3).filter(|key| of(*key).is_some()).collect();
    let (revived, given_up) = (of(blocked[0]).unwrap(), of(blocked[1]).unwrap());
    assert_eq!((&revived["stage"], &revived["event"]["value"]["text"]), (&"apply".into(), &"same".into()));
    let id = |letter: &Value| letter["id"].as_str().unwrap().to_owned();
    assert_eq!(typed(&world, &format!("dead discard {}", id(given_up))).0, 0);
    world.db("b").execute_batch("DROP INDEX one_text").unwrap();
    assert_eq!(typed(&world, &format!("dead retry {}", id(revived))).0, 0);
    until("it has arrived", || world.rows("b").contains_key(&blocked[0]));
    until("no letter is open", || listed(&world, "dead list").is_empty());
    assert!(!world.rows("b").contains_key(&blocked[1]), "it was given up");
    assert_eq!(typed(&world, &format!("dead retry {}", id(given_up))).0, 2, "it is gone for good");
    // A newer version of the key is a new event.
    world.put("a", blocked[1], "new");
    until("the new version has arrived", || world.rows("b").get(&blocked[1]).is_some_and(|text| text == "new"));
    node.kill();
}

/// agent-6
#[test]
fn a_file_that_is_no_document_is_parked_and_shown_until_it_is_put_right() {
    let world = World::new("");
    let node = Process::start(&world);
    std::fs::write(world.path("files/1.json"), "no document").unwrap();
    world.put_file(2, "fine");
    until("the other file has arrived", || world.rows("a").contains_key(&2));
    until("the file is parked", || listed(&world, "parked list").len() == 1);
    let parked = listed(&world, "parked list").remove(0);
    assert_eq!((&parked["key"], &parked["code"]), (&json!({"id": 1}), &"file_undecodable".into()), "{parked:#}");
    world.put_file(1, "a document");
    until("it has arrived", || world.rows("a").contains_key(&1));
    until("nothing is parked", || listed(&world, "parked list").is_empty());
    node.kill();
}
