//! How fast the log reaches a second database: all rows as inserts, then all as updates. Both are in
//! the log before the destination can be reached, so that the sink alone is measured.

use super::Servers;
use super::figures::{Figure, figure};
use super::product::Node;
use super::stage::{BEGUN, NOWHERE, Stage, Wanted};
use crate::cli::output::Output;
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::error::{Code, Error, Result};
use serde_json::Value;

const UPDATE: &str = "do $$ begin for k in 0..{rows} / 1000 - 1 loop
    update driftless_bench.w1 set i4 = i4 + 1, t1 = t1 || 'u' where id > k * 1000 and id <= (k + 1) * 1000;
    commit; end loop; end $$";
const SUM: &str =
    "select coalesce(sum(hashtextextended(w::text, 0)::numeric % 1000000007), 0)::int8 from driftless_bench.w1 w";
/// How long a platform may take, in milliseconds.
const WITHIN_MS: u64 = 900_000;

/// From the log into a second database.
#[derive(clap::Args, Debug)]
pub struct Sink {
    #[command(flatten)]
    pub(super) servers: Servers,
    /// The guarantee asked for
    #[arg(long, default_value = "exact", value_parser = ["exact", "exclusive"])]
    guarantee: String,
}

impl Sink {
    pub(super) async fn measure(&self, stage: &Stage<'_>, output: &mut Output<'_>) -> Result<Vec<Figure>> {
        let exact = self.guarantee == "exact";
        let more = if exact { "" } else { "    guarantee: exclusive\n" };
        let wanted = Wanted { tables: &["w1"], destination: NOWHERE, one_way: !exact, more };
        let destination = stage.destination()?;
        let url = stage.servers.destination.as_deref().unwrap_or(NOWHERE);
        let mut node = stage.begin(wanted).await?;
        output.say(&format!("loading {} rows, then updating them", stage.rows()));
        stage.source.load(stage.servers.thousands).await?;
        stage.source.run(&UPDATE.replace("{rows}", &stage.rows().to_string())).await?;
        stage.holds(&mut node, stage.rows() * 2 + BEGUN).await?;
        // What is still to do at the source would be done beside the sink that is measured.
        passed(&mut node, "a", 0).await?;
        node.kill();
        let begun_ms = SystemClock.now_ms();
        let there = Wanted { destination: url, ..wanted };
        let mut node = stage.start(there)?;
        output.say(&format!("applying; the node is process {}", node.pid()));
        let Passed { platform, first: (first, first_ms), ended_ms } = passed(&mut node, "b", 1).await?;
        let cost = node.cost();
        let proposed = platform["counts"]["proposed"].as_u64().unwrap_or(0);
        node.kill();
        let (here, there) = (stage.source.number(SUM).await?, destination.number(SUM).await?);
        if here != there {
            return Err(Error::new(Code::Unexpected, "the two databases do not hold the same rows"));
        }
        let rows = destination.number("select count(*) from driftless_bench.w1").await?;
        let events = stage.rows() as f64 * 2.0;
        let rate = |events: f64, from_ms: u64| events * 1000.0 / (ended_ms - from_ms).max(1) as f64;
        let mut figures = vec![
            figure("rate over both halves, start of the node included", rate(events, begun_ms), "rows/s"),
            figure("rate over both halves from the first batch on", rate(events - first as f64, first_ms), "rows/s"),
            figure("CPU of the node per million rows", cost.cpu_s * 1e6 / events, "s"),
            figure("peak memory of the node", cost.peak_mib, "MiB"),
            figure("rows at the destination", rows as f64, "rows"),
            figure("proposals of the destination's own reader", proposed as f64, "proposals"),
        ];
        if exact {
            let ledger = destination.number("select count(*) from driftless_bench_ledger.ledger").await?;
            figures.push(figure("rows of the ledger", ledger as f64, "rows"));
        }
        Ok(figures)
    }
}

/// A platform that is passed: how it is, how much was applied when the first batch was seen and when that was, and
/// when its reader moved last.
struct Passed {
    platform: Value,
    first: (u64, u64),
    ended_ms: u64,
}

/// Waits until a platform has everything, `applied` writes at least, and its own reader has passed them.
async fn passed(node: &mut Node, platform: &str, applied: u64) -> Result<Passed> {
    let begun_ms = SystemClock.now_ms();
    let (mut first, mut moved_ms, mut captured) = (None, begun_ms, 0);
    loop {
        let status = node.status().await;
        let of = &status["datasets"]["bench-w1"]["platforms"][platform];
        let count = |name: &str| of["counts"][name].as_u64().unwrap_or(0);
        let now_ms = SystemClock.now_ms();
        if count("applied") > 0 {
            first = first.or(Some((count("applied"), now_ms)));
        }
        // The reader passes its own sink's writes a moment later: until it has not moved for two seconds.
        let done = of.is_object() && of["lag_events"].as_u64().unwrap_or(0) == 0 && count("applied") >= applied;
        if !done || captured != count("captured") {
            (captured, moved_ms) = (count("captured"), now_ms);
        } else if now_ms > moved_ms + 2_000 {
            let first = first.unwrap_or((0, begun_ms));
            return Ok(Passed { platform: of.clone(), first, ended_ms: moved_ms });
        }
        node.must_live()?;
        if now_ms > begun_ms + WITHIN_MS {
            return Err(Error::new(Code::Unexpected, format!("`{platform}` did not get everything: {status}")));
        }
        SystemClock.sleep_until(now_ms + 100).await;
    }
}
