//! A node of this process: what arrives where, and what stays put.

use super::world::{Running, World};
use driftless::event::{Origin, Record};
use driftless::node::board::{State, Work};
use driftless::runtime::clock::{Clock, SystemClock};
use driftless::topic::{Log, Partition};
use serde_json::json;
use std::fs;

#[tokio::test(flavor = "multi_thread")]
async fn a_change_on_any_of_three_platforms_arrives_on_the_others() {
    let world = World::new("");
    let node = world.start().await;
    world.put("a", 1, "from a");
    node.all_hold(&[(1, "from a")]).await;
    world.put("b", 2, "from b");
    node.all_hold(&[(1, "from a"), (2, "from b")]).await;
    world.put_file(3, "from a file");
    node.all_hold(&[(1, "from a"), (2, "from b"), (3, "from a file")]).await;
    world.put_file(1, "edited in a file");
    world.put("b", 3, "edited in b");
    node.all_hold(&[(1, "edited in a file"), (2, "from b"), (3, "edited in b")]).await;
    fs::remove_file(world.path("files/2.json")).unwrap();
    node.all_hold(&[(1, "edited in a file"), (3, "edited in b")]).await;
    world.db("a").execute("DELETE FROM notes WHERE id = 1", []).unwrap();
    node.all_hold(&[(3, "edited in b")]).await;
    let report = node.quiet().await;
    assert_eq!(report.datasets["notes"].conflicts, 0, "{report:#?}");
    assert_eq!(node.versions().await, 7, "no echo became a version");
    node.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commit_to_commit_takes_milliseconds() {
    let world = World::new("");
    let node = world.start().await;
    world.put("a", 0, "warm");
    node.all_hold(&[(0, "warm")]).await;
    let (writer, reader) = (world.db("a"), world.db("b"));
    let mut took_ms = Vec::new();
    for id in 1..=100 {
        writer.execute("INSERT INTO notes VALUES (?1, 'x')", [id]).unwrap();
        let begun_ms = SystemClock.now_ms();
        let there =
            || reader.query_row("SELECT count(*) FROM notes WHERE id = ?1", [id], |row| row.get::<_, bool>(0)).unwrap();
        while !there() {
            assert!(SystemClock.now_ms() < begun_ms + 20_000, "{:#?}", node.report().await);
            SystemClock.sleep_until(SystemClock.now_ms() + 1).await;
        }
        took_ms.push(SystemClock.now_ms() - begun_ms);
    }
    took_ms.sort_unstable();
    where_time_goes(&node).await;
    println!("commit to commit, one writer: p50 {} ms, p90 {} ms, max {} ms", took_ms[50], took_ms[90], took_ms[99]);
    assert!(took_ms[50] < 250, "{took_ms:?}");
    node.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_makes_no_new_versions() {
    let world = World::new("");
    let node = world.start().await;
    world.put("a", 1, "one");
    world.put("b", 2, "two");
    world.put_file(3, "three");
    let held = [(1, "one"), (2, "two"), (3, "three")];
    node.all_hold(&held).await;
    node.quiet().await;
    let before = node.versions().await;
    node.node.stop().await;
    for round in 0..3 {
        let node = world.start().await;
        let id = 10 + round;
        world.put("b", id, "after a restart");
        node.until("the new one has arrived", || world.all().iter().all(|rows| rows.contains_key(&id))).await;
        node.quiet().await;
        assert_eq!(node.versions().await, before + 1 + u64::try_from(round).unwrap());
        node.node.stop().await;
    }
    assert!(world.all().iter().all(|rows| held.iter().all(|(id, text)| rows[id] == *text)));
}

/// who-4
#[tokio::test(flavor = "multi_thread")]
async fn at_the_first_meeting_the_source_wins_and_the_other_value_is_logged() {
    let world = World::new("");
    for (db, id, text) in
        [("b", 1, "of b"), ("b", 2, "same"), ("b", 3, "only in b"), ("a", 1, "of a"), ("a", 2, "same")]
    {
        world.put(db, id, text);
    }
    world.put_file(1, "of the files");
    world.put_file(4, "only in files");
    let node = world.start().await;
    node.all_hold(&[(1, "of a"), (2, "same"), (3, "only in b"), (4, "only in files")]).await;
    node.quiet().await;
    let conflicts = node.conflicts().await;
    let mut lost: Vec<String> = Vec::new();
    for conflict in &conflicts {
        assert_eq!(
            (conflict.rule.as_str(), &conflict.key),
            ("bootstrap: source-wins", &json!({"id": 1})),
            "{conflict:#?}"
        );
        let side = if conflict.loser.as_deref() == conflict.head["platform"].as_str() {
            &conflict.head
        } else {
            &conflict.proposal
        };
        lost.push(side["value"]["text"].as_str().unwrap().to_owned());
    }
    lost.sort();
    assert_eq!(lost, ["of b", "of the files"], "{conflicts:#?}");
    node.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_cannot_be_opened_stops_alone() {
    let world = World::new("");
    world.db("b").execute_batch("DROP TABLE notes").unwrap();
    let node = world.start().await;
    world.put("a", 1, "here");
    node.until("the file is there", || world.files().contains_key(&1)).await;
    world.put_file(2, "and back");
    node.until("the row is there", || world.rows("a").contains_key(&2)).await;
    let report = node.says("the trouble", |report| !report.datasets["notes"].troubles.is_empty()).await;
    let trouble = &report.datasets["notes"].troubles[0];
    let State::Halted(why) = &trouble.state else { panic!("{report:#?}") };
    assert_eq!((&*trouble.platform, trouble.work, why.code), ("b", Work::Open, "table_missing"));
    assert!(!report.healthy && why.text.contains("notes"), "{why:?}");
    node.node.stop().await;
}

/// who-2
#[tokio::test(flavor = "multi_thread")]
async fn in_a_one_way_dataset_only_the_source_writes_and_edits_elsewhere_stay() {
    let world = World::new("    direction: one-way");
    world.put("a", 1, "from the source");
    let node = world.start().await;
    node.all_hold(&[(1, "from the source")]).await;
    world.put("b", 2, "written in b");
    world.put_file(3, "written in a file");
    world.put("b", 1, "edited in b");
    world.put_file(1, "edited in a file");
    world.put("a", 4, "new at the source");
    node.until("the source's row has arrived", || world.all().iter().all(|rows| rows.contains_key(&4))).await;
    world.put("a", 1, "changed at the source");
    let report = node.says("both wait", |report| {
        let notes = &report.datasets["notes"];
        ["b", "files"].iter().all(|name| notes.platforms[*name].counts.held == 1)
    });
    let report = report.await;
    assert_eq!(report.datasets["notes"].platforms["files"].counts.parked, 1, "{report:#?}");
    let rows = |pairs: &[(i64, &str)]| pairs.iter().map(|(id, text)| (*id, (*text).to_owned())).collect();
    assert_eq!(world.rows("a"), rows(&[(1, "changed at the source"), (4, "new at the source")]));
    assert_eq!(world.rows("b"), rows(&[(1, "edited in b"), (2, "written in b"), (4, "new at the source")]));
    assert_eq!(world.files(), rows(&[(1, "edited in a file"), (3, "written in a file"), (4, "new at the source")]));
    node.node.stop().await;
}

/// Prints how long proposals and versions took on their way, by the log's own times.
async fn where_time_goes(node: &Running<'_>) {
    let log = node.node.view().log;
    let (mut proposed_ms, mut settled_ms) = (Vec::new(), Vec::new());
    for index in 0..6 {
        let mut changes = std::collections::HashMap::new();
        for (topic, taken) in [("driftless.notes.changes", &mut proposed_ms), ("driftless.notes", &mut settled_ms)] {
            let at = Partition::new(topic, index);
            let high = log.coded.bounds(&at).await.unwrap().high;
            let mut reading = log.coded.read(&at, 0).await.unwrap();
            while reading.offset() < high {
                for delivered in reading.next(1000).await.unwrap() {
                    match delivered.payload.as_deref() {
                        Some(Record::Proposal(p)) => {
                            changes.insert(delivered.offset, delivered.time_ms);
                            taken.push(delivered.time_ms.saturating_sub(p.ts.ms()));
                        }
                        Some(Record::Canonical(c)) => {
                            let Origin::Input(offset) = c.origin else { continue };
                            taken.push(delivered.time_ms - changes[&offset]);
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    for (what, all) in [("commit to proposal", &mut proposed_ms), ("proposal to version", &mut settled_ms)] {
        all.sort_unstable();
        println!("{what}: p50 {} ms, p90 {} ms", all[all.len() / 2], all[all.len() * 9 / 10]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_copy_is_told_while_it_is_under_way_and_not_after() {
    const ROWS: i64 = 50_000;
    for settles in ["", "    direction: one-way"] {
        let world = World::new(settles);
        let fill = format!("WITH RECURSIVE n(id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < {ROWS})");
        world.db("a").execute_batch(&format!("{fill} INSERT INTO notes SELECT id, 'x' FROM n")).unwrap();
        let node = world.start().await;
        let place = ("notes".to_owned(), "a".to_owned(), "notes".to_owned());
        let found = || node.node.view().copies().get(&place).map(|copy| copy.rows);
        node.until("rows were found", || found() > Some(0)).await;
        let report = node.says("it is in the status", |report| {
            report.datasets["notes"]
                .platforms
                .get("a")
                .is_some_and(|a| a.copying.get("notes").is_some_and(|copy| copy.rows > 0))
        });
        assert!(report.await.datasets["notes"].platforms["a"].copying["notes"].rows <= ROWS.unsigned_abs());
        node.until("all were found", || found().is_none()).await;
        assert!(node.report().await.datasets["notes"].platforms["a"].copying.is_empty());
        node.node.stop().await;
    }
}
