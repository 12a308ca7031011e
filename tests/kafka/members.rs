//! Named members of a group: a node that comes back under its name, and one that leaves, are not waited
//! for. The session time-out here is longer than the tests' patience, so whoever waits for it fails.

use super::server::shared;
use super::{follow, soon};
use driftless::runtime::clock::SystemClock;
use driftless::runtime::error::Remedy;
use driftless::topic::kafka::{KafkaLog, KafkaSettings};
use driftless::topic::{Cleanup, Log, Membership, Message, Partition, Raw, suite};
use std::sync::Arc;

async fn node(name: Option<&str>) -> KafkaLog {
    let settings = KafkaSettings {
        brokers: shared().brokers(),
        prefix: "members".into(),
        instance: name.map(ToOwned::to_owned),
        librdkafka: ["session.timeout.ms", "max.poll.interval.ms"]
            .map(|name| (name.to_owned(), "300000".to_owned()))
            .into(),
        ..KafkaSettings::default()
    };
    let log = KafkaLog::open(settings, Arc::new(SystemClock)).await.unwrap();
    log.create(&suite::spec(&"members.__control".into(), 1, Cleanup::Compact)).await.unwrap();
    log
}

async fn until_it_has(member: &dyn Membership, mine: &mut Vec<Partition>, count: usize) {
    while mine.len() != count {
        follow(member, mine).await;
    }
}

/// claim-9: killed and started again, a node with a name has its partitions at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_comes_back_under_its_name_has_its_partitions_at_once() {
    let (old, new) = (node(Some("one")).await, node(Some("one")).await);
    let topics: [Arc<str>; 1] = ["members.back".into()];
    old.create(&suite::spec(&topics[0], 4, Cleanup::Keep)).await.unwrap();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    // It says nothing any more, as if it had been killed.
    let killed = old.join("members.back", &topics).await.unwrap();
    until_it_has(&*killed, &mut before, 4).await;
    let again = new.join("members.back", &topics).await.unwrap();
    until_it_has(&*again, &mut after, 4).await;
    assert!(after.iter().all(|at| again.holds(at)));
    drop(killed);
}

/// claim-9: a group that still knows the name would give it what it held last, which is nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_left_and_comes_back_under_its_name_has_its_partitions_again() {
    let log = node(Some("returns")).await;
    let topics: [Arc<str>; 1] = ["members.again".into()];
    log.create(&suite::spec(&topics[0], 4, Cleanup::Keep)).await.unwrap();
    for _ in 0..2 {
        let member = log.join("members.again", &topics).await.unwrap();
        let mut mine = Vec::new();
        // What it asked for when it stepped aside may come back too.
        while mine.iter().filter(|at: &&Partition| at.topic == topics[0]).count() != 4 {
            follow(&*member, &mut mine).await;
        }
        soon("leaving", member.leave()).await;
    }
}

/// claim-9: a member whose answers were lost with a broker is put out by its own next attempt, as by another node.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_put_out_by_its_own_name_is_told_so_and_may_join_anew() {
    let (one, other) = (node(Some("twice")).await, node(Some("twice")).await);
    let topics: [Arc<str>; 1] = ["members.twice".into()];
    one.create(&suite::spec(&topics[0], 4, Cleanup::Keep)).await.unwrap();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let first = one.join("members.twice", &topics).await.unwrap();
    until_it_has(&*first, &mut before, 4).await;
    let second = other.join("members.twice", &topics).await.unwrap();
    until_it_has(&*second, &mut after, 4).await;
    let told = soon("being put out", async {
        loop {
            if let Err(error) = first.next().await {
                break error;
            }
        }
    });
    let told = told.await;
    assert!(matches!(told.remedy(), Remedy::Retry { .. }) && told.to_string().contains("`node-id`"), "{told}");
}

async fn leaves_at_once(name: Option<&str>, topic: &str) {
    let (leaving, staying) = (node(name).await, node(name.map(|_| "stays")).await);
    let topics: [Arc<str>; 1] = [topic.into()];
    leaving.create(&suite::spec(&topics[0], 4, Cleanup::Keep)).await.unwrap();
    let (mut one, mut two) = (Vec::new(), Vec::new());
    let first = leaving.join(topic, &topics).await.unwrap();
    until_it_has(&*first, &mut one, 4).await;
    let second = staying.join(topic, &topics).await.unwrap();
    while one.len() != 2 || two.len() != 2 {
        tokio::select! {
            () = follow(&*first, &mut one) => {}
            () = follow(&*second, &mut two) => {}
        }
    }
    let ((), ()) = tokio::join!(soon("leaving", first.leave()), until_it_has(&*second, &mut two, 4));
    assert!(two.iter().all(|at| second.holds(at)));
    second.leave().await;
}

/// claim-9: draining ends with leaving, so that the others need not wait.
#[tokio::test(flavor = "multi_thread")]
async fn the_partitions_of_a_member_that_leaves_go_to_the_others_at_once() {
    leaves_at_once(None, "members.nameless").await;
    leaves_at_once(Some("leaves"), "members.named").await;
}

fn numbered(n: usize) -> Vec<Message<Raw>> {
    vec![suite::message("k", &n.to_string())]
}

/// claim-2: so the late record of an old claim stands before the next claim of the same process.
#[tokio::test(flavor = "multi_thread")]
async fn all_claims_of_a_process_write_through_one_producer_in_the_order_given() {
    let log = node(None).await;
    let topic: Arc<str> = "members.session".into();
    log.create(&suite::spec(&topic, 1, Cleanup::Keep)).await.unwrap();
    let at = Partition::new(topic, 0);
    let sessions = [log.session().await.unwrap(), log.session().await.unwrap()];
    let given: Vec<_> = (0..200).map(|n| sessions[n % 2].append(&at, numbered(n))).collect();
    for (n, appended) in (0u64..).zip(given) {
        assert_eq!(soon("an append", appended).await.unwrap(), [n], "one after the other");
    }
}
