//! The reader of a dataset that one platform writes. Some of its lives begin while people hold the
//! collection: nothing is published then, and nothing is lost.

use super::product::Env;
use driftless::capture::Capture;
use driftless::connectors::contract::BatchLimit;
use driftless::flow;
use driftless::fused::Fused;
use driftless::runtime::error::Result;
use driftless::settle::Projection;
use futures_util::{FutureExt, select_biased};

/// How long people hold it.
const HELD_FOR_MS: u64 = 300;

/// Runs one life of it.
pub(crate) async fn run(env: &Env, reader: Capture, limit: BatchLimit) -> Result<()> {
    let parts = (0..env.topics.partitions).map(|index| env.topics.parts(index)).collect();
    let projection = Projection { versions_max: 4, every_ms: 500 };
    let mut fused = Fused { reader, parts, projection, held: Vec::new() };
    if env.instance % 4 == 1 {
        fused.held = vec![0];
        let resumed = env.clock.sleep_until(env.clock.now_ms() + HELD_FOR_MS);
        select_biased! {
            ended = flow::fused(&fused, limit, &env.stop).fuse() => return ended,
            () = resumed.fuse() => {}
        }
        fused.held.clear();
    }
    flow::fused(&fused, limit, &env.stop).await
}
