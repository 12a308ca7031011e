//! A person decides a conflict (verb-6): the value that lost is brought back as an edit of one who saw what the
//! conflict came to, and reaches every platform.

use super::process::{Process, typed, until};
use super::world::World;
use serde_json::Value;

fn conflicts(world: &World) -> Vec<Value> {
    typed(world, "conflicts list").1.as_array().unwrap().clone()
}

fn all_hold(world: &World, text: &str) -> bool {
    world.all().iter().all(|rows| rows.get(&1).is_some_and(|found| found == text))
}

/// verb-6
#[test]
fn what_lost_is_brought_back_everywhere_and_a_second_person_is_told_who_decided() {
    let world = World::new("");
    let node = Process::start(&world);
    world.put("a", 1, "first");
    until("it arrives", || all_hold(&world, "first"));
    node.kill();
    // Both while nobody looks: whoever wrote later wins.
    world.put("a", 1, "of a");
    world.put("b", 1, "of b");
    let node = Process::start(&world);
    until("a conflict is settled", || conflicts(&world).len() == 1);
    let id = conflicts(&world)[0]["id"].as_str().unwrap().to_owned();
    let result = conflicts(&world)[0]["result"]["text"].as_str().unwrap().to_owned();
    until("it is settled everywhere", || all_hold(&world, &result));
    let lost = if result == "of a" { "of b" } else { "of a" };
    let stood = conflicts(&world)[0]["head"]["value"]["text"] == lost;
    let (lost_is, won_is) = if stood { ("stood", "came") } else { ("came", "stood") };

    let decide =
        |id: &str, pick: &str| typed(&world, &format!("conflicts decide {id} --pick {pick} --by ann --why asked"));
    let (exit, answer) = decide(&id, lost_is);
    assert_eq!((exit, &answer["decided"]), (0, &Value::from(id.as_str())), "{answer}");
    until("all hold what had lost", || all_hold(&world, lost));
    until("the conflict says who decided", || conflicts(&world)[0]["decided"]["by"] == "ann");
    let told = conflicts(&world)[0].clone();
    assert_eq!((&told["decided"]["why"], &told["decided"]["result"]["text"]), (&"asked".into(), &lost.into()));

    // The same again is the same decision; another one is refused, and nothing changes.
    assert_eq!(decide(&id, lost_is).0, 0);
    let (exit, answer) = decide(&id, won_is);
    assert_eq!((exit, &answer["error"]["code"]), (2, &"conflict_decided".into()), "{answer}");
    assert!(answer["error"]["text"].as_str().unwrap().contains("ann"), "{answer}");
    for unknown in ["notes.notes.0.4711", "notes.notes.99.1", "other.notes.0.1", "nonsense"] {
        let (exit, answer) = decide(unknown, "came");
        assert_eq!((exit, &answer["error"]["code"]), (2, &"config_missing".into()), "{unknown}: {answer}");
    }
    // What is written later stands on the decision: no conflict comes of it.
    world.put("b", 1, "later");
    until("a later edit arrives", || all_hold(&world, "later"));
    assert_eq!(conflicts(&world).len(), 1);
    node.kill();
}
