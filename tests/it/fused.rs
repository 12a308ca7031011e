//! resolve-9: a dataset that one database alone writes, with the whole program.

use super::world::{Running, World};
use driftless::event::{Origin, Record};
use driftless::node::board::{State, Work};
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
