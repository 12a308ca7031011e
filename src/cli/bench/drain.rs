//! How fast rows of a database reach the dataset topic: as changes in its log, or as a first copy.

use super::figures::{Figure, figure};
use super::product::{Cost, Node};
use super::stage::{Held, NOWHERE, Stage, Wanted};
use crate::cli::output::Output;
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::error::{Code, Error, Result};

const WANTED: Wanted<'static> = Wanted { tables: &["w1"], destination: NOWHERE, one_way: true, more: "" };
/// Written after the restart: when it has arrived, the restarted node has read all before it.
const MARKER: &str = "update driftless_bench.w1 set i4 = 1 where id = 0";

/// Publication, slot and the reader's checkpoint exist; the rows are committed; the node starts.
pub(super) async fn drain(stage: &Stage<'_>, output: &mut Output<'_>) -> Result<Vec<Figure>> {
    stage.begin(WANTED).await?.kill();
    output.say(&format!("loading {} rows", stage.rows()));
    stage.source.load(stage.servers.thousands).await?;
    let begun_ms = SystemClock.now_ms();
    let mut node = stage.start(WANTED)?;
    output.say(&format!("draining; the node is process {}", node.pid()));
    let (took_s, cost) = until(stage, &mut node, stage.rows() + 1, begun_ms).await?;
    node.kill();
    let before = stage.held().await?;
    let mut node = stage.start(WANTED)?;
    stage.source.run(MARKER).await?;
    stage.holds(&mut node, before.versions + 1).await?;
    node.kill();
    let after = stage.held().await?;
    expect(before, Held { versions: stage.rows() + 1, keys: stage.rows() + 1 })?;
    let mut figures = rates(stage, took_s, cost);
    let again = (after.versions - before.versions).saturating_sub(1);
    figures.push(figure("new versions after kill -9 and restart", again as f64, "versions"));
    Ok(figures)
}

/// The rows are there before the node is started for the first time.
pub(super) async fn copy(stage: &Stage<'_>, output: &mut Output<'_>) -> Result<Vec<Figure>> {
    output.say(&format!("loading {} rows", stage.rows()));
    stage.source.load(stage.servers.thousands).await?;
    let begun_ms = SystemClock.now_ms();
    let mut node = stage.start(WANTED)?;
    output.say(&format!("copying; the node is process {}", node.pid()));
    let (took_s, cost) = until(stage, &mut node, stage.rows(), begun_ms).await?;
    node.kill();
    expect(stage.held().await?, Held { versions: stage.rows(), keys: stage.rows() })?;
    Ok(rates(stage, took_s, cost))
}

async fn until(stage: &Stage<'_>, node: &mut Node, records: u64, begun_ms: u64) -> Result<(f64, Cost)> {
    let ended_ms = stage.holds(node, records).await?;
    Ok(((ended_ms - begun_ms) as f64 / 1000.0, node.cost()))
}

/// From the start of the process to the last record.
fn rates(stage: &Stage<'_>, took_s: f64, cost: Cost) -> Vec<Figure> {
    let rows = stage.rows() as f64;
    vec![
        figure("rate, start of the node included", rows / took_s, "rows/s"),
        figure("CPU of the node per million rows", cost.cpu_s * 1e6 / rows, "s"),
        figure("peak memory of the node", cost.peak_mib, "MiB"),
    ]
}

fn expect(found: Held, wanted: Held) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    Err(Error::new(Code::Unexpected, format!("the dataset topic holds {found:?}; {wanted:?} were expected")))
}
