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
/// How long the sink may take, in milliseconds.
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
        node.kill();
        let begun_ms = SystemClock.now_ms();
        let there = Wanted { destination: url, ..wanted };
        let mut node = stage.start(there)?;
        output.say(&format!("applying; the node is process {}", node.pid()));
        let (status, ended_ms) = arrived(&mut node, begun_ms).await?;
        let cost = node.cost();
        let proposed = status["datasets"]["bench-w1"]["platforms"]["b"]["counts"]["proposed"].as_u64().unwrap_or(0);
        node.kill();
        let (here, there) = (stage.source.number(SUM).await?, destination.number(SUM).await?);
        if here != there {
            return Err(Error::new(Code::Unexpected, "the two databases do not hold the same rows"));
        }
        let rows = destination.number("select count(*) from driftless_bench.w1").await?;
        let events = stage.rows() as f64 * 2.0;
        let mut figures = vec![
            figure(
                "rate over both halves, start of the node included",
                events * 1000.0 / (ended_ms - begun_ms) as f64,
                "rows/s",
            ),
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

/// Waits until the destination has everything and its own reader has passed it.
async fn arrived(node: &mut Node, begun_ms: u64) -> Result<(Value, u64)> {
    let mut still = (0, 0);
    loop {
        let status = node.status().await;
        let b = &status["datasets"]["bench-w1"]["platforms"]["b"];
        let done = b["lag_events"] == 0 && b["counts"]["applied"].as_u64().is_some_and(|applied| applied > 0);
        let now_ms = SystemClock.now_ms();
        // The reader passes its own sink's writes a moment later: until it has not moved for a second.
        let captured = b["counts"]["captured"].as_u64().unwrap_or(0);
        if !done {
            still = (captured, 0);
        } else if still.1 == 0 {
            still = (captured, now_ms);
        } else if captured != still.0 {
            still.0 = captured;
        } else if now_ms > still.1 + 2_000 {
            return Ok((status, still.1));
        }
        node.must_live()?;
        if now_ms > begun_ms + WITHIN_MS {
            return Err(Error::new(Code::Unexpected, format!("the destination did not get everything: {status}")));
        }
        SystemClock.sleep_until(now_ms + 100).await;
    }
}
