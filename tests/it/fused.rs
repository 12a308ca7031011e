//! resolve-9: a dataset that one database alone writes, with the whole program.

use super::world::{Running, World};
use driftless::event::{Origin, Record};
use driftless::node::board::{State, Work};
use driftless::node::control::Part;
use driftless::topic::{Log, Partition};

const ONE_WAY: &str = "    direction: one-way";

/// Everything the partitions of a topic hold, in order.
async fn records(node: &Running<'_>, topic: &str) -> Vec<driftless::topic::Typed> {
    let log = node.node.view().log;
    let mut all = Vec::new();
    for index in 0..6 {
        let at = Partition::new(topic, index);
        let high = log.coded.bounds(&at).await.unwrap().high;
        let mut reading = log.coded.read(&at, 0).await.unwrap();
        while reading.offset() < high {
            all.extend(reading.next(1000).await.unwrap().into_iter().filter_map(|delivered| delivered.payload));
        }
    }
    all
}

/// read-12
#[tokio::test(flavor = "multi_thread")]
async fn a_single_writers_changes_arrive_without_a_proposal_and_a_restart_publishes_nothing() {
    let world = World::new(ONE_WAY);
    world.put("a", 1, "there before");
    let node = world.start().await;
    node.all_hold(&[(1, "there before")]).await;
    world.put("a", 2, "new");
    world.put("a", 1, "changed");
    world.put("a", 3, "to be gone");
    node.all_hold(&[(1, "changed"), (2, "new"), (3, "to be gone")]).await;
    world.db("a").execute("DELETE FROM notes WHERE id = 3", []).unwrap();
    node.all_hold(&[(1, "changed"), (2, "new")]).await;
    let report = node.quiet().await;
    let notes = &report.datasets["notes"];
    assert_eq!((notes.fused.as_deref(), notes.settled, notes.conflicts), (Some("a"), 5, 0), "{report:#?}");
    let versions = records(&node, "driftless.notes").await;
    let by_reader = |record: &driftless::topic::Typed| match &**record {
        Record::Canonical(version) => matches!(version.origin, Origin::Source(_)),
        _ => false,
    };
    assert!(versions.len() == 5 && versions.iter().all(by_reader), "{versions:#?}");
    let proposed = records(&node, "driftless.notes.changes").await;
    assert!(!proposed.iter().any(|record| matches!(&**record, Record::Proposal(_))));
    node.node.stop().await;
    for round in 0..3 {
        let node = world.start().await;
        let id = 10 + round;
        world.put("a", id, "after a restart");
        node.until("the new one has arrived", || world.all().iter().all(|rows| rows.contains_key(&id))).await;
        node.quiet().await;
        assert_eq!(node.versions().await, 6 + u64::try_from(round).unwrap());
        node.node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_that_began_with_one_writer_takes_no_second_one_and_nothing_is_written() {
    let mut world = World::new(ONE_WAY);
    world.put("a", 1, "one");
    let node = world.start().await;
    node.all_hold(&[(1, "one")]).await;
    node.quiet().await;
    node.node.stop().await;
    world.config = world.config.replace(ONE_WAY, "");
    let node = world.start().await;
    let before = sizes(&node).await;
    let report = node.says("the trouble", |report| !report.datasets["notes"].troubles.is_empty()).await;
    let trouble = &report.datasets["notes"].troubles[0];
    let State::Halted(why) = &trouble.state else { panic!("{report:#?}") };
    assert_eq!((trouble.work, why.code), (Work::Prepare, "mode_changed"));
    assert!(why.text.contains("`a` as its only writer") && why.text.contains("driftless remove"), "{why:?}");
    assert_eq!(sizes(&node).await, before);
    node.node.stop().await;
    world.config = world.config.replace("destinations: [b, files]", &format!("destinations: [b, files]\n{ONE_WAY}"));
    let node = world.start().await;
    world.put("a", 2, "two");
    node.all_hold(&[(1, "one"), (2, "two")]).await;
    node.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_that_began_with_several_writers_keeps_its_resolver_when_one_is_left() {
    let mut world = World::new("");
    let node = world.start().await;
    world.put("b", 1, "of b");
    node.all_hold(&[(1, "of b")]).await;
    node.quiet().await;
    node.node.stop().await;
    world.config = world.config.replace("destinations: [b, files]", &format!("destinations: [b, files]\n{ONE_WAY}"));
    let node = world.start().await;
    world.put("a", 2, "of a");
    node.all_hold(&[(1, "of b"), (2, "of a")]).await;
    let report = node.quiet().await;
    assert_eq!(report.datasets["notes"].fused, None);
    node.node.stop().await;
}

/// who-7: reading and settling are one step here, so a pause holds both.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_dataset_of_one_writer_publishes_nothing_over_a_restart_until_it_is_resumed() {
    let world = World::new(ONE_WAY);
    world.put("a", 1, "one");
    let node = world.start().await;
    node.all_hold(&[(1, "one")]).await;
    let all = part(None);
    assert!(node.node.view().pause(&all).await.unwrap());
    is_paused(&node).await;
    world.put("a", 2, "while paused");
    node.node.stop().await;
    let node = world.start().await;
    is_paused(&node).await;
    world.put("a", 1, "while paused");
    assert_eq!(node.versions().await, 1);
    assert!(node.node.view().resume(&all).await.unwrap());
    node.all_hold(&[(1, "while paused"), (2, "while paused")]).await;
    node.quiet().await;
    assert_eq!(node.versions().await, 3, "each change once");
    node.node.stop().await;
}

/// who-7, P2: the others go on, and what was held is read again, also by another life.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_collection_of_one_writer_is_passed_over_and_read_again_when_it_is_resumed() {
    let mut world = World::new(ONE_WAY);
    for db in ["a", "b"] {
        world.db(db).execute_batch("CREATE TABLE others (id INTEGER PRIMARY KEY, text TEXT)").unwrap();
    }
    world.config.push_str(
        "      - name: others
        key: id
        fields: [{ name: id, type: long }, { name: text, type: text }]
        on: { files: { path: 'others/{id}.json' } }
",
    );
    let other = |id: i64, text: &str| {
        let sql = "INSERT INTO others VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET text = ?2";
        world.db("a").execute(sql, rusqlite::params![id, text]).unwrap();
    };
    let others = || {
        let db = world.db("b");
        let mut query = db.prepare("SELECT id, text FROM others ORDER BY id").unwrap();
        let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        rows.collect::<Result<Vec<(i64, String)>, _>>().unwrap()
    };
    let node = world.start().await;
    world.put("a", 1, "one");
    other(1, "one");
    node.until("both arrive", || world.rows("b").contains_key(&1) && others().len() == 1).await;
    let notes = part(Some("notes"));
    assert!(node.node.view().pause(&notes).await.unwrap());
    node.node.stop().await;
    let mut node = world.start().await;
    let of_notes = async |node: &Running<'_>| records(node, "driftless.notes.notes").await.len();
    let before = of_notes(&node).await;
    for life in 0..3 {
        world.put("a", 1, &format!("held {life}"));
        world.put("a", 10 + life, "held");
        other(1, &format!("free {life}"));
        other(10 + life, "free");
        let free = format!("free {life}");
        node.until("the others go on", || {
            others().first().is_some_and(|(_, text)| *text == free) && others().iter().any(|(id, _)| *id == 10 + life)
        })
        .await;
        assert_eq!(of_notes(&node).await, before, "nothing of what is paused is published");
        node.node.stop().await;
        node = world.start().await;
    }
    assert_eq!(world.rows("b"), [(1, "one".to_owned())].into());
    assert!(node.node.view().resume(&notes).await.unwrap());
    node.all_hold(&[(1, "held 2"), (10, "held"), (11, "held"), (12, "held")]).await;
    assert_eq!(of_notes(&node).await, before + 6, "each change once");
    assert_eq!(records(&node, "driftless.notes.others").await.len(), 7, "and none of the others twice");
    node.node.stop().await;
}

fn part(collection: Option<&str>) -> Part {
    Part { dataset: "notes".into(), collection: collection.map(ToOwned::to_owned) }
}

/// Waits until the reader that settles waits.
async fn is_paused(node: &Running<'_>) {
    let posts = || node.node.view().board.posts();
    node.until("the reader waits", || {
        posts().iter().any(|post| post.work == Work::Fused && post.state() == State::Paused)
    })
    .await;
}

/// How much every topic holds.
async fn sizes(node: &Running<'_>) -> Vec<(String, u64)> {
    let log = node.node.view().log;
    let mut sizes = Vec::new();
    for spec in log.raw.topics().await.unwrap() {
        for index in 0..spec.partitions {
            let high = log.raw.bounds(&Partition::new(spec.topic.clone(), index)).await.unwrap().high;
            sizes.push((format!("{}[{index}]", spec.topic), high));
        }
    }
    sizes
}
