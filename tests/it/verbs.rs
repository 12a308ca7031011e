//! The program as it is typed: the demo, a running node and what can be asked of it.

use super::process::{Process, program, typed, until};
use super::world::World;
use serde_json::Value;

#[test]
fn the_demo_shows_a_conflict_and_ends_with_all_three_the_same() {
    let answer = program().args(["demo", "--json"]).output().unwrap();
    let told: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!((answer.status.code(), &told["same"]), (Some(0), &true.into()), "{told:#}");
    assert_eq!(told["conflict"]["rule"], "last-write-wins", "{told:#}");
    assert_eq!(told["steps"].as_array().unwrap().len(), 5);
}

#[test]
fn a_conflict_is_listed_with_all_inputs_while_the_node_runs_and_when_it_is_stopped() {
    let world = World::new("");
    let node = Process::start(&world);
    world.put("a", 1, "first");
    until("all hold the first", || world.all().iter().all(|rows| rows.get(&1).is_some_and(|t| t == "first")));
    world.put_both(1, "of a", "of b");
    until("all hold one outcome", || {
        let [a, b, files] = world.all();
        a == b && b == files && a[&1] != "first"
    });
    until("the conflict is listed", || typed(&world, "conflicts list").1.as_array().unwrap().len() == 1);
    let (exit, running) = typed(&world, "conflicts list");
    assert_eq!(exit, 0);
    let conflict = &running[0];
    let stands = world.rows("a")[&1].clone();
    assert_eq!(
        (&conflict["result"]["text"], &conflict["rule"]),
        (&stands.into(), &"last-write-wins".into()),
        "{conflict:#}"
    );
    let mut sides =
        [&conflict["head"]["value"]["text"], &conflict["proposal"]["value"]["text"]].map(|t| t.as_str().unwrap());
    sides.sort_unstable();
    assert_eq!(sides, ["of a", "of b"]);
    assert_eq!(conflict["ancestor"]["value"]["text"], "first", "{conflict:#}");
    let (exit, status) = typed(&world, "status");
    assert_eq!((exit, &status["datasets"]["notes"]["conflicts"]), (0, &1.into()), "{status:#}");
    node.kill();
    let (_, stopped) = typed(&world, "conflicts list");
    assert_eq!(stopped, running);
    let (_, shown) = typed(&world, &format!("conflicts show {}", conflict["id"].as_str().unwrap()));
    assert_eq!(&shown, conflict);
}

#[test]
fn a_node_tells_health_metrics_and_topics_and_stops_when_asked() {
    let world = World::new("");
    let mut node = Process::start(&world);
    world.put("a", 1, "x");
    until("the row has arrived", || world.all().iter().all(|rows| rows.contains_key(&1)));
    let (exit, doctor) = typed(&world, "doctor");
    assert_eq!((exit, &doctor["healthy"]), (0, &true.into()), "{doctor:#}");
    let get = |path: &str| {
        let url = format!("http://127.0.0.1:{}{path}", world.port);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let answer = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    };
    assert_eq!(get("/health/live").0, 200);
    until("the node is ready", || get("/health/ready").0 == 200);
    let (_, metrics) = get("/metrics");
    let line = "driftless_events_applied_total{dataset=\"notes\",platform=\"b\"} 1";
    assert!(metrics.lines().any(|l| l == line), "{metrics}");
    let (_, topics) = typed(&world, "topics");
    let names: Vec<&str> = topics.as_array().unwrap().iter().map(|t| t["topic"].as_str().unwrap()).collect();
    assert!(names.contains(&"driftless.notes.ledger.files") && names.contains(&"driftless.__control"), "{names:?}");
    let pid = rustix::process::Pid::from_child(&node.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(node.0.wait().unwrap().code(), Some(0));
    assert_eq!(typed(&world, "status").0, 3);
}

/// verb-9
#[test]
fn a_platform_that_is_removed_keeps_its_data_and_comes_back() {
    let world = World::new("");
    let node = Process::start(&world);
    world.put("a", 1, "x");
    until("the row has arrived", || world.all().iter().all(|rows| rows.contains_key(&1)));
    node.kill();
    let (exit, removed) = typed(&world, "remove --dataset notes --platform b");
    assert_eq!((exit, &removed["removed"][0]), (0, &"b".into()), "{removed:#}");
    let left = "SELECT count(*) FROM sqlite_master WHERE name LIKE '%driftless%'";
    assert_eq!(world.db("b").query_row(left, [], |row| row.get::<_, i64>(0)).unwrap(), 0);
    assert_eq!(world.rows("b")[&1], "x");
    world.put("b", 1, "edited while it was out");
    world.put("b", 2, "added while it was out");
    let node = Process::start(&world);
    until("the added row has arrived", || world.all().iter().all(|rows| rows.contains_key(&2)));
    until("the source's value is back", || world.all().iter().all(|rows| rows[&1] == "x"));
    node.kill();
}
