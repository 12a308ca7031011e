//! Speed and size in the log: a line per platform every minute in which something moved, and one at the
//! end with all of it.

use super::board::{Board, Work};
use crate::runtime::clock::Clock;
use crate::runtime::progress::Counts;
use crate::runtime::telemetry::PERFORMANCE;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Milliseconds between lines.
const EVERY_MS: u64 = 60_000;

/// By dataset and platform; an empty platform is the dataset as a whole.
type Totals = BTreeMap<(Arc<str>, Arc<str>), Counts>;

fn totals(board: &Board) -> Totals {
    let mut totals = Totals::new();
    for post in board.posts() {
        if matches!(post.work, Work::Capture | Work::Fused | Work::Apply | Work::Agent | Work::Resolve) {
            totals.entry((post.dataset.clone(), post.platform.clone())).or_default().add(&post.progress.counts());
        }
    }
    totals
}

/// Writes a line per platform that moved since `before`.
fn tell(now: &Totals, before: &Totals, span_ms: u64) {
    for ((dataset, platform), counts) in now {
        let was = before.get(&(dataset.clone(), platform.clone())).copied().unwrap_or_default();
        let (captured, applied) = (counts.captured - was.captured, counts.applied - was.applied);
        let settled = counts.settled - was.settled;
        if captured + applied + settled == 0 {
            continue;
        }
        let (dataset, platform) = (&**dataset, &**platform);
        let captured_bytes = counts.captured_bytes - was.captured_bytes;
        let applied_bytes = counts.applied_bytes - was.applied_bytes;
        tracing::info!(
            target: PERFORMANCE, dataset, platform, captured, captured_bytes, settled, applied, applied_bytes, span_ms,
            "moved"
        );
    }
}

/// Writes lines for ever.
pub(super) async fn report(board: &Board, clock: &dyn Clock) {
    let mut before = totals(board);
    loop {
        clock.sleep_until(clock.now_ms() + EVERY_MS).await;
        let now = totals(board);
        tell(&now, &before, EVERY_MS);
        before = now;
    }
}

/// Writes what moved in all.
pub(super) fn tell_all(board: &Board, span_ms: u64) {
    tell(&totals(board), &Totals::new(), span_ms);
}
