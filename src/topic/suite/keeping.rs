//! What a log keeps: deletion, compaction, settings, removal, and a restart.

use super::*;

/// `delete_below` raises the low watermark, in the middle of a batch too; what is below is lost.
pub async fn delete_below(log: &Subject) {
    let at = Partition::new(topic(log, "delete", 1, Cleanup::Keep).await, 0);
    for n in 0..10 {
        append(log, &at, numbered(n * 10..n * 10 + 10)).await;
    }
    let mut early = ok("read", log.read(&at, 0).await);
    take(&mut *early, 5).await;
    ok("delete_below", log.delete_below(&at, 35).await);
    assert_eq!(bounds(log, &at).await, Bounds { low: 35, high: 100 });
    let mut lost = ok("read", log.read(&at, 34).await);
    fails("reading below the low watermark", Code::HistoryLost, soon("an error", lost.next(1)).await);
    let rest = read(log, &at, 35, 65).await;
    assert_dense(&rest, 35);
    assert_eq!(contents(&rest), numbered(35..100));
    ok("delete_below", log.delete_below(&at, 20).await);
    assert_eq!(bounds(log, &at).await.low, 35, "the low watermark never falls");
    ok("delete_below", log.delete_below(&at, 100).await);
    assert_eq!(bounds(log, &at).await, Bounds { low: 100, high: 100 });
    assert_eq!(append(log, &at, numbered(0..1)).await, [100], "offsets are never used again");
    assert_eq!(contents(&read(log, &at, 100, 1).await), numbered(0..1));
}

/// Compaction keeps the newest message of each key at its offset; no payload removes the key.
pub async fn compaction(log: &Subject, compact: &CompactNow) {
    let name = topic(log, "compact", 1, Cleanup::Compact).await;
    let at = Partition::new(name.clone(), 0);
    for round in 0..20 {
        let batch = (0..10).map(|k| message(&format!("k{k}"), &format!("{round}"))).collect();
        append(log, &at, batch).await;
    }
    append(log, &at, vec![Message { key: Bytes::from_static(b"k3"), payload: None }]).await;
    append(log, &at, vec![message("last", "")]).await;
    let before = read(log, &at, 0, 202).await;
    compact(&name).await;
    assert_eq!(bounds(log, &at).await.high, 202, "compaction moves no offset");
    let kept = read_to(log, &at, 201).await;
    let mut newest: BTreeMap<Bytes, Delivered<Raw>> = BTreeMap::new();
    before.into_iter().for_each(|d| drop(newest.insert(d.key.clone(), d)));
    newest.retain(|_, d| d.payload.is_some());
    let mut expected: Vec<_> = newest.into_values().collect();
    expected.sort_by_key(|d| d.offset);
    let kept: Vec<_> = kept.into_iter().filter(|d| d.payload.is_some()).collect();
    assert_eq!(kept, expected);
    assert_eq!(append(log, &at, numbered(0..1)).await, [202]);
    assert_eq!(contents(&read(log, &at, 202, 1).await), numbered(0..1));
}

/// Reads from the start until a message has the offset `last`.
async fn read_to(log: &Subject, at: &Partition, last: Offset) -> Vec<Delivered<Raw>> {
    let mut reading = ok("read", log.read(at, 0).await);
    let mut out: Vec<Delivered<Raw>> = Vec::new();
    while out.last().is_none_or(|d| d.offset < last) {
        out.extend(ok("next", soon("messages", reading.next(7)).await));
    }
    assert!(out.is_sorted_by(|a, b| a.offset < b.offset), "offsets rise");
    out
}

/// Creating a topic again is fine with the same settings only.
pub async fn topics_and_settings(log: &Subject) {
    let name = topic(log, "settings", 2, Cleanup::Keep).await;
    let same = spec(&name, 2, Cleanup::Keep);
    ok("create again", log.create(&same).await);
    fails("other partitions", Code::TopicSettings, log.create(&TopicSpec { partitions: 3, ..same.clone() }).await);
    fails(
        "other cleanup",
        Code::TopicSettings,
        log.create(&TopicSpec { cleanup: Cleanup::Compact, ..same.clone() }).await,
    );
    let topics = ok("topics", soon("topics", log.topics()).await);
    assert_eq!(topics.iter().filter(|t| t.topic == name).collect::<Vec<_>>(), [&same]);
}

/// A removed topic is gone with all it held; one of the same name begins at 0.
pub async fn removal(log: &Subject) {
    let name = topic(log, "remove", 1, Cleanup::Keep).await;
    let at = Partition::new(name.clone(), 0);
    append(log, &at, numbered(0..10)).await;
    ok("remove", soon("remove", log.remove(&name)).await);
    ok("remove again", soon("remove", log.remove(&name)).await);
    assert!(ok("topics", log.topics().await).iter().all(|t| t.topic != name));
    let other = spec(&name, 2, Cleanup::Compact);
    ok("create anew", soon("create", log.create(&other)).await);
    assert_eq!(bounds(log, &at).await, Bounds::default());
    assert_eq!(append(log, &at, numbered(5..6)).await, [0]);
    assert_eq!(contents(&read(log, &at, 0, 1).await), numbered(5..6));
}

/// For logs in this process: a reader that waits learns that its topic is gone, and what a group
/// committed is gone with it.
pub async fn removal_is_seen_at_once(log: &Subject) {
    let name = topic(log, "removed", 1, Cleanup::Keep).await;
    let at = Partition::new(name.clone(), 0);
    let member = ok("join", log.join("removal", std::slice::from_ref(&name)).await);
    ok("commit", member.commit(&at, Committed { offset: 1, metadata: Bytes::new() }).await);
    let mut reading = ok("read", log.read(&at, 0).await);
    let mut next = reading.next(1);
    assert!(futures_util::poll!(&mut next).is_pending());
    ok("remove", log.remove(&name).await);
    fails("reading on", Code::TopicMissing, soon("an error", next).await);
    ok("create anew", log.create(&spec(&name, 1, Cleanup::Keep)).await);
    assert_eq!(ok("committed", member.committed(&at).await), None);
}

/// What does not exist is an error that says so.
pub async fn missing_topics(log: &Subject) {
    let name = topic(log, "exists", 1, Cleanup::Keep).await;
    for at in [Partition::new(fresh("never"), 0), Partition::new(name, 7)] {
        fails("bounds", Code::TopicMissing, soon("bounds", log.bounds(&at)).await);
        let session = ok("session", log.session().await);
        fails("append", Code::TopicMissing, soon("append", session.append(&at, numbered(0..1))).await);
        match soon("read", log.read(&at, 0)).await {
            Err(error) => assert_eq!(error.code, Code::TopicMissing),
            Ok(mut reading) => fails("next", Code::TopicMissing, soon("next", reading.next(1)).await),
        }
    }
}

/// What was acknowledged is there after the log was closed and opened again.
pub async fn durable(reopen: Reopen) {
    let log = reopen().await;
    let keep = topic(&log, "durable", 2, Cleanup::Keep).await;
    let at = Partition::new(keep.clone(), 1);
    let removed = topic(&log, "removed", 1, Cleanup::Keep).await;
    append(&log, &Partition::new(removed.clone(), 0), numbered(0..100)).await;
    append(&log, &at, numbered(0..50)).await;
    let member = ok("join", log.join("durable-group", std::slice::from_ref(&keep)).await);
    let done = Committed { offset: 20, metadata: Bytes::from_static(b"link") };
    ok("commit", member.commit(&at, done.clone()).await);
    ok("remove", log.remove(&removed).await);
    drop((member, log));

    let log = reopen().await;
    assert!(ok("topics", log.topics().await).contains(&spec(&keep, 2, Cleanup::Keep)));
    assert!(ok("topics", log.topics().await).iter().all(|t| t.topic != removed));
    assert_eq!(bounds(&log, &at).await, Bounds { low: 0, high: 50 });
    let all = read(&log, &at, 0, 50).await;
    assert_dense(&all, 0);
    assert_eq!(contents(&all), numbered(0..50));
    let member = ok("join", log.join("durable-group", std::slice::from_ref(&keep)).await);
    assert_eq!(ok("committed", member.committed(&at).await), Some(done));
    assert_eq!(append(&log, &at, numbered(50..60)).await[0], 50, "offsets go on");
    ok("delete_below", log.delete_below(&at, 60).await);
    drop((member, log));

    let log = reopen().await;
    assert_eq!(bounds(&log, &at).await, Bounds { low: 60, high: 60 });
    let mut lost = ok("read", log.read(&at, 59).await);
    fails("reading what was deleted", Code::HistoryLost, soon("an error", lost.next(1)).await);
    assert_eq!(append(&log, &at, numbered(0..1)).await, [60], "also when everything was deleted");
    let again = read(&log, &at, 60, 1).await;
    assert!(again[0].time_ms >= all[49].time_ms, "times never fall, over a restart too");
}
