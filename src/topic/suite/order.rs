//! Appends: order, density, and that everything comes back as it was given.

use super::*;

/// Batches of one session land in order, without a gap, from offset 0 on.
pub async fn order_and_density(log: &Subject) {
    let name = topic(log, "order", 2, Cleanup::Keep).await;
    for index in 0..2 {
        let at = Partition::new(name.clone(), index);
        assert_eq!(bounds(log, &at).await, Bounds::default(), "a new partition is empty");
        assert_eq!(append(log, &at, numbered(0..3)).await, [0, 1, 2]);
        assert_eq!(append(log, &at, numbered(3..4)).await, [3]);
        let all = read(log, &at, 0, 4).await;
        assert_dense(&all, 0);
        assert_eq!(contents(&all), numbered(0..4));
        assert_eq!(bounds(log, &at).await, Bounds { low: 0, high: 4 });
    }
    let at = Partition::new(name, 0);
    assert_eq!(append(log, &at, Vec::new()).await, Vec::<Offset>::new(), "an empty batch is no message");
}

/// Many batches on their way at once land in the order in which they were given.
pub async fn batches_in_flight(log: &Subject) {
    let name = topic(log, "flight", 3, Cleanup::Keep).await;
    let session = ok("session", log.session().await);
    let given: Vec<_> = (0..300)
        .map(|n| {
            let at = Partition::new(name.clone(), n % 3);
            let n = n as usize / 3 * 5;
            session.append(&at, numbered(n..n + 5))
        })
        .collect();
    let answers = soon("300 appends", futures_util::future::join_all(given)).await;
    for (n, offsets) in answers.into_iter().enumerate() {
        let first = (n / 3 * 5) as u64;
        assert_eq!(ok("append", offsets), (first..first + 5).collect::<Vec<_>>());
    }
    for index in 0..3 {
        let all = read(log, &Partition::new(name.clone(), index), 0, 500).await;
        assert_dense(&all, 0);
        assert_eq!(contents(&all), numbered(0..500));
    }
}

/// Sessions do not disturb each other: each keeps its order, and together they are dense.
pub async fn sessions_interleave(log: &Subject) {
    let at = Partition::new(topic(log, "sessions", 1, Cleanup::Keep).await, 0);
    let mut given = Vec::new();
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(ok("session", log.session().await));
    }
    for n in 0..50 {
        for (s, session) in sessions.iter().enumerate() {
            given.push(session.append(&at, vec![message(&format!("s{s}"), &n.to_string())]));
        }
    }
    for answer in soon("appends", futures_util::future::join_all(given)).await {
        ok("append", answer);
    }
    let all = read(log, &at, 0, 200).await;
    assert_dense(&all, 0);
    let mut next: BTreeMap<Bytes, usize> = BTreeMap::new();
    for message in all {
        let expected = next.entry(message.key).or_default();
        assert_eq!(message.payload, Some(Bytes::from(expected.to_string())), "a session's order");
        *expected += 1;
    }
}

/// An append whose future is dropped lands all the same.
pub async fn unawaited_append_lands(log: &Subject) {
    let at = Partition::new(topic(log, "unawaited", 1, Cleanup::Keep).await, 0);
    let session = ok("session", log.session().await);
    drop(session.append(&at, numbered(0..5)));
    assert_eq!(contents(&read(log, &at, 0, 5).await), numbered(0..5));
}

/// Large messages, empty keys, empty payloads and none: all come back as they were given.
pub async fn large_and_odd_messages(log: &Subject) {
    let at = Partition::new(topic(log, "odd", 1, Cleanup::Keep).await, 0);
    let noise = |n: usize| {
        (0..n).scan(7u32, |x, _| {
            *x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            Some((*x >> 24) as u8)
        })
    };
    let batch = vec![
        Message { key: Bytes::new(), payload: Some(Bytes::from_static(b"control")) },
        Message { key: Bytes::from_static(b"gone"), payload: None },
        Message { key: Bytes::from_static(b"empty"), payload: Some(Bytes::new()) },
        Message { key: Bytes::from_static(b"zeros"), payload: Some(Bytes::from(vec![0; 100_000])) },
        Message { key: Bytes::from_static(&[0, 255, 10]), payload: Some(noise(70_000).collect()) },
    ];
    append(log, &at, batch.clone()).await;
    let large = vec![Message { key: Bytes::from_static(b"large"), payload: Some(noise(5 << 20).collect()) }];
    append(log, &at, large.clone()).await;
    let all = read(log, &at, 0, 6).await;
    assert_dense(&all, 0);
    assert_eq!(contents(&all[..5]), batch);
    assert!(contents(&all[5..]) == large, "5 MiB come back");
}
