//! How fast rows of a database reach the dataset topic: as changes in its log, or as a first copy.

use super::figures::{Figure, figure};
use super::product::Node;
use super::stage::{BEGUN, Held, MARKER, NOWHERE, Stage, Wanted};
use crate::cli::output::Output;
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::error::{Code, Error, Result};

const WANTED: Wanted<'static> = Wanted { tables: &["w1"], destination: NOWHERE, one_way: true, more: "" };

/// Publication, slot and the reader's checkpoint exist; the rows are committed; the node starts.
pub(super) async fn drain(stage: &Stage<'_>, output: &mut Output<'_>) -> Result<Vec<Figure>> {
    stage.begin(WANTED).await?.kill();
    output.say(&format!("loading {} rows", stage.rows()));
    stage.source.load(stage.servers.thousands).await?;
    let begun_ms = SystemClock.now_ms();
    let mut node = stage.start(WANTED)?;
    output.say(&format!("draining; the node is process {}", node.pid()));
    let mut figures = rates(stage, &mut node, BEGUN, begun_ms).await?;
    node.kill();
    let before = stage.held().await?;
    let mut node = stage.start(WANTED)?;
    stage.source.run(MARKER).await?;
    stage.holds(&mut node, before.versions + 1).await?;
    node.kill();
    let after = stage.held().await?;
    expect(before, Held { versions: stage.rows() + BEGUN, keys: stage.rows() + 1 })?;
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
    let figures = rates(stage, &mut node, 0, begun_ms).await?;
    node.kill();
    expect(stage.held().await?, Held { versions: stage.rows(), keys: stage.rows() })?;
    Ok(figures)
}

/// Waits for all rows behind the `before` records that are there already; from the start of the process, and
/// from the first row seen.
async fn rates(stage: &Stage<'_>, node: &mut Node, before: u64, begun_ms: u64) -> Result<Vec<Figure>> {
    let first_ms = stage.holds(node, before + 1).await?;
    let last_ms = stage.holds(node, before + stage.rows()).await?;
    let (cost, rows) = (node.cost(), stage.rows() as f64);
    let rate = |from_ms: u64| rows * 1000.0 / (last_ms - from_ms).max(1) as f64;
    Ok(vec![
        figure("rate, start of the node included", rate(begun_ms), "rows/s"),
        figure("rate from the first row on", rate(first_ms), "rows/s"),
        figure("CPU of the node per million rows", cost.cpu_s * 1e6 / rows, "s"),
        figure("peak memory of the node", cost.peak_mib, "MiB"),
    ])
}

fn expect(found: Held, wanted: Held) -> Result<()> {
    if found == wanted {
        return Ok(());
    }
    Err(Error::new(Code::Unexpected, format!("the dataset topic holds {found:?}; {wanted:?} were expected")))
}
