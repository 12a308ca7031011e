//! `conflict-resolution: custom` on real platforms: a rule of the user's own decides, asks a person, and is tried on what
//! was recorded before it is put in force.

use super::process::{Process, is_settled, program, typed, until, written};
use super::world::World;
use driftless::node::board::{State, Work};
use serde_json::Value;

const RULE: &str = "    conflict-resolution: custom
    custom:
      rule: |
        stood.value.text.startsWith('ask') || came.value.text.startsWith('ask')
          ? review(latest, 'somebody has to look')
          : (stood.platform == 'a' ? stood : came).with({'text': 'as a has it'})";

fn conflicts(world: &World, more: &str) -> Vec<Value> {
    typed(world, &format!("conflicts list{more}")).1.as_array().unwrap().clone()
}

/// Both are written while no node runs; whoever comes first, `b` wrote later.
fn edited_apart(world: &World, node: Process, id: i64, a: &str, b: &str) -> Process {
    until("it is quiet", || is_settled(world));
    node.kill();
    world.put("a", id, a);
    world.put("b", id, b);
    Process::start(world)
}

fn all_hold(world: &World, id: i64, text: &str) -> bool {
    world.all().iter().all(|rows| rows.get(&id).is_some_and(|found| found == text))
}

#[test]
fn a_rule_decides_asks_a_person_and_is_tried_before_it_is_put_in_force() {
    let world = World::new(RULE);
    let node = Process::start(&world);
    for id in [1, 2] {
        world.put("a", id, "first");
        until("it arrives", || all_hold(&world, id, "first"));
    }
    let node = edited_apart(&world, node, 1, "of a", "of b");
    until("the rule has decided", || all_hold(&world, 1, "as a has it"));
    let node = edited_apart(&world, node, 2, "ask a", "ask b");
    until("the later stands until somebody has looked", || all_hold(&world, 2, "ask b"));
    until("both are told of", || conflicts(&world, "").len() == 2);

    let (first, second) = (conflicts(&world, "")[0].clone(), conflicts(&world, "")[1].clone());
    let rule = first["rule"].as_str().unwrap();
    assert!(["custom: stood, changed", "custom: came, changed"].contains(&rule), "{rule}");
    assert_eq!((&first["open"], &first["rules"]), (&Value::Null, &1.into()));
    assert_eq!(second["open"], "somebody has to look", "{second}");
    let open = conflicts(&world, " --open");
    assert_eq!((open.len(), &open[0]["id"]), (1, &second["id"]));

    // Tried on what was recorded: by the rule itself nothing would be otherwise, by another one something would.
    let tried = typed(&world, "rules test notes").1;
    assert_eq!((&tried["tried"], &tried["changed"], &tried["open"]), (&2.into(), &0.into(), &1.into()), "{tried}");
    let tried = typed(&world, "rules test notes --rule latest").1;
    assert_eq!((&tried["changed"], &tried["open"]), (&1.into(), &0.into()), "{tried}");
    let other = &tried["conflicts"][0];
    assert_eq!((&other["id"], &other["would_result"]["text"]), (&first["id"], &"of b".into()));
    for (rule, why) in [("stood.value.txt==''?stood:came", "column 12"), ("latest.", "this is no CEL")] {
        let (exit, answer) = typed(&world, &format!("rules test notes --rule {rule}"));
        assert_eq!((exit, &answer["error"]["code"]), (2, &"config_invalid".into()), "{rule}: {answer}");
        assert!(answer["error"]["text"].as_str().unwrap().contains(why), "{answer}");
    }
    assert!(all_hold(&world, 1, "as a has it") && all_hold(&world, 2, "ask b"), "a trial changes nothing");

    // A person looks, and it is settled for good.
    let id = second["id"].as_str().unwrap();
    let pick = if second["head"]["value"]["text"] == "ask a" { "stood" } else { "came" };
    assert_eq!(typed(&world, &format!("conflicts decide {id} --pick {pick} --by ann --why looked")).0, 0);
    until("what she picked is everywhere", || all_hold(&world, 2, "ask a"));
    until("nothing is open", || conflicts(&world, " --open").is_empty());

    // The same without a node: the log is opened by the command itself.
    until("it is quiet", || is_settled(&world));
    node.kill();
    let tried = typed(&world, "rules test notes --rule latest").1;
    assert_eq!((&tried["tried"], &tried["changed"]), (&2.into(), &1.into()), "{tried}");
    let told = program().args(["rules", "test", "notes", "--config"]).arg(written(&world)).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.ends_with("2 conflicts tried: 0 would end otherwise, 1 would wait for a person\n"), "{told}");
}

/// A rule is checked against the fields the source has before a platform is touched.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_about_a_field_that_is_not_there_is_refused_before_anything_is_touched() {
    let mut world = World::new(&RULE.replace("came.value.text", "came.value.txt"));
    let fields = "        fields: [{ name: id, type: long }, { name: text, type: text }]\n";
    assert!(world.config.contains(fields));
    world.config = world.config.replace(fields, "");
    world.put("a", 1, "first");
    let node = world.start().await;
    let report = node.says("it stops", |report| !report.datasets["notes"].troubles.is_empty()).await;
    let trouble = &report.datasets["notes"].troubles[0];
    let State::Halted(found) = &trouble.state else { panic!("{trouble:?}") };
    assert_eq!((trouble.work, found.code), (Work::Prepare, "config_invalid"));
    let text = format!("{found:?}");
    assert!(text.contains("a record has no `txt` here; it has `id`, `text`") && text.contains("c.yaml:"), "{text}");
    assert!(world.rows("b").is_empty() && world.files().is_empty());
    node.node.stop().await;
}
