//! What a node costs that has nothing to do: three datasets, nobody writes.

use super::figures::{Figure, figure};
use super::stage::{Stage, Wanted};
use crate::cli::output::Output;
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::error::{Code, Error, Result};

/// How long it is watched, in milliseconds.
const WATCHED_MS: u64 = 60_000;
/// How long it may settle before.
const SETTLE_MS: u64 = 5_000;

/// Three datasets between two databases, both writable.
pub(super) async fn idle(stage: &Stage<'_>, output: &mut Output<'_>) -> Result<Vec<Figure>> {
    stage.destination()?;
    let destination = stage.servers.destination.as_deref().unwrap_or_default();
    let wanted = Wanted { tables: &["w4", "w5", "w6"], destination, one_way: false, more: "" };
    let mut node = stage.start(wanted)?;
    output.say(&format!("watching for a minute; the node is process {}", node.pid()));
    SystemClock.sleep_until(SystemClock.now_ms() + SETTLE_MS).await;
    let (before, begun_ms) = (node.cost(), SystemClock.now_ms());
    SystemClock.sleep_until(begun_ms + WATCHED_MS).await;
    let (after, ended_ms) = (node.cost(), SystemClock.now_ms());
    node.must_live()?;
    let status = node.status().await;
    if status["healthy"] != true || status["datasets"].as_object().is_none_or(|all| all.len() < 3) {
        return Err(Error::new(Code::Unexpected, format!("the node is not well: {status}")));
    }
    let share = (after.cpu_s - before.cpu_s) * 1000.0 / (ended_ms - begun_ms) as f64;
    Ok(vec![
        figure("CPU of the node", share * 100.0, "% of a core"),
        figure("memory of the node", after.rss_mib, "MiB"),
        figure("peak memory of the node", after.peak_mib, "MiB"),
    ])
}
