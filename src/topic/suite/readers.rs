//! Readers: where they start, how they wait, how they are cancelled.

use super::*;

/// A reader starts where it is told, also inside a batch, and says what comes next.
pub async fn reading_from_the_middle(log: &Subject) {
    let at = Partition::new(topic(log, "middle", 1, Cleanup::Keep).await, 0);
    append(log, &at, numbered(0..10)).await;
    append(log, &at, numbered(10..20)).await;
    for from in [0, 1, 9, 10, 15, 19] {
        let mut reading = ok("read", log.read(&at, from).await);
        assert_eq!(reading.offset(), from);
        let rest = take(&mut *reading, 20 - from as usize).await;
        assert_dense(&rest, from);
        assert_eq!(contents(&rest), numbered(from as usize..20));
        assert_eq!(reading.offset(), 20);
    }
    let mut reading = ok("read", log.read(&at, 0).await);
    let three = ok("next", soon("next", reading.next(3)).await);
    assert!(three.len() <= 3, "a limit is a limit");
}

/// A reader at the end waits, and an append wakes it.
pub async fn waiting_reader_wakes(log: &Subject) {
    let at = Partition::new(topic(log, "wake", 1, Cleanup::Keep).await, 0);
    let mut reading = ok("read", log.read(&at, 0).await);
    for round in 0..20 {
        let mut next = reading.next(10).boxed();
        assert!(futures_util::poll!(&mut next).is_pending(), "there is nothing to read yet");
        append(log, &at, numbered(round..round + 1)).await;
        let got = ok("next", soon("the reader to wake", next).await);
        assert_eq!(contents(&got), numbered(round..round + 1));
    }
}

/// Dropping `next` before it is done loses and repeats nothing.
pub async fn cancelled_next_loses_nothing(log: &Subject) {
    let at = Partition::new(topic(log, "cancel", 1, Cleanup::Keep).await, 0);
    let mut reading = ok("read", log.read(&at, 0).await);
    let mut got = Vec::new();
    for round in 0..50 {
        // Whether this one gets anything depends on the moment at which it is dropped.
        if let Some(Ok(early)) = reading.next(2).now_or_never() {
            got.extend(early);
        }
        let given = append(log, &at, numbered(round * 3..round * 3 + 3));
        tokio::select! {
            biased;
            early = reading.next(2) => got.extend(ok("next", early)),
            _ = given => {}
        }
    }
    let high = bounds(log, &at).await.high;
    // An append that lost the race was given to the log all the same.
    while (got.len() as u64) < high {
        got.extend(ok("next", soon("the rest", reading.next(1000)).await));
    }
    assert_dense(&got, 0);
}

/// `offset_at` finds the first message taken at or after a time.
pub async fn search_by_time(log: &Subject) {
    let at = Partition::new(topic(log, "time", 1, Cleanup::Keep).await, 0);
    assert_eq!(ok("offset_at", log.offset_at(&at, 0).await), None, "nothing in an empty partition");
    for n in 0..30 {
        append(log, &at, numbered(n * 3..n * 3 + 3)).await;
    }
    let all = read(log, &at, 0, 90).await;
    for wanted in &all {
        let expected = all.iter().find(|d| d.time_ms >= wanted.time_ms).map(|d| d.offset);
        assert_eq!(ok("offset_at", log.offset_at(&at, wanted.time_ms).await), expected);
    }
    assert_eq!(ok("offset_at", log.offset_at(&at, 0).await), Some(0));
    let last_ms = all.last().map_or(0, |d| d.time_ms);
    assert_eq!(ok("offset_at", log.offset_at(&at, last_ms + 1).await), None);
    ok("delete_below", log.delete_below(&at, 40).await);
    assert_eq!(ok("offset_at", log.offset_at(&at, 0).await), Some(40), "what was deleted is not found");
}
