//! How long a change takes from its commit in one database to its commit in the other, by the times
//! both servers note for their transactions. Every single update is counted.

use super::Servers;
use super::application::Application;
use super::figures::{Figure, figure, quantile};
use super::stage::{Stage, Wanted};
use crate::cli::output::Output;
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::error::{Code, Error, Result};
use std::collections::HashMap;
use tokio::task::JoinSet;

/// Rows of the table, each written in turn.
const ROWS: u64 = 1000;
const FILL: &str = "insert into driftless_bench.w4 select g, 0, repeat('x', 64) from generate_series(1, 1000) g";
/// The newest update of each row: number of the update, microseconds of its commit.
const SEEN: &str = "select id::int8, seq, (extract(epoch from pg_xact_commit_timestamp(xmin)) * 1000000)::int8
    from driftless_bench.w4 where seq > $1";
/// Sessions of each application, so that a slow commit does not slow the rate.
const SESSIONS: u64 = 4;

/// From commit to commit.
#[derive(clap::Args, Debug)]
pub struct Latency {
    #[command(flatten)]
    pub(super) servers: Servers,
    /// How many databases are written to: 1, or 2 that share the rate
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=2))]
    writers: u64,
    /// Updates per second, all writers together
    #[arg(long, default_value_t = 200)]
    rate: u64,
    /// For how many seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

impl Latency {
    pub(super) async fn measure(&self, stage: &Stage<'_>, output: &mut Output<'_>) -> Result<Vec<Figure>> {
        let destination = stage.destination()?;
        stage.source.run(FILL).await?;
        let url = stage.servers.destination.as_deref().unwrap_or_default();
        let wanted = Wanted { tables: &["w4"], destination: url, one_way: self.writers == 1, more: "" };
        let mut node = stage.start(wanted)?;
        let begun_ms = SystemClock.now_ms();
        while destination.number("select count(*) from driftless_bench.w4").await? < ROWS as i64 {
            node.must_live()?;
            if SystemClock.now_ms() > begun_ms + 60_000 {
                return Err(Error::new(Code::Unexpected, "the rows did not arrive within a minute"));
            }
            SystemClock.sleep_until(SystemClock.now_ms() + 100).await;
        }
        SystemClock.sleep_until(SystemClock.now_ms() + 2_000).await;
        let before = node.cost();
        output.say(&format!("{} updates/s for {} s; the node is process {}", self.rate, self.seconds, node.pid()));
        let (sent, got) = self.watch(stage, destination).await?;
        let cost = node.cost();
        node.must_live()?;
        let mut took: Vec<(f64, i64)> = Vec::new();
        for (update, committed) in &sent {
            took.extend(got.get(update).map(|arrived| ((arrived - committed) as f64 / 1000.0, *update)));
        }
        took.sort_by(|a, b| a.0.total_cmp(&b.0));
        let slowest = took.last().map_or(0, |(_, update)| *update);
        let took_ms: Vec<f64> = took.into_iter().map(|(ms, _)| ms).collect();
        Ok(vec![
            figure("p50", quantile(&took_ms, 0.5), "ms"),
            figure("p90", quantile(&took_ms, 0.9), "ms"),
            figure("p99", quantile(&took_ms, 0.99), "ms"),
            figure("most", quantile(&took_ms, 1.0), "ms"),
            figure("most, at this second of the run", slowest as f64 / self.rate.max(1) as f64, "s"),
            figure("updates seen in both databases", took_ms.len() as f64, "updates"),
            figure("updates committed", (self.rate * self.seconds) as f64, "updates"),
            figure("CPU of the node", cost.cpu_s - before.cpu_s, "s"),
            figure("peak memory of the node", cost.peak_mib, "MiB"),
        ])
    }

    /// Writes, and looks twice a second at what both hold: a row is written again only after longer.
    async fn watch(&self, stage: &Stage<'_>, destination: &Application) -> Result<(Times, Times)> {
        let mut writers = JoinSet::new();
        let urls = [Some(stage.servers.source.clone()), stage.servers.destination.clone()];
        let begin_ms = SystemClock.now_ms() + 500;
        for (writer, url) in (0..self.writers).zip(urls.into_iter().flatten()) {
            for session in 0..SESSIONS {
                let part = Part { begin_ms, first: writer + session * self.writers, step: self.writers * SESSIONS };
                let (url, rate, count) = (url.clone(), self.rate, self.rate * self.seconds);
                writers.spawn(async move { part.write(&url, rate, count).await });
            }
        }
        let (mut here, mut there) = (Times::new(), Times::new());
        let mut quiet = 0;
        while quiet < 4 {
            SystemClock.sleep_until(SystemClock.now_ms() + 500).await;
            look(&stage.source, &mut here).await?;
            look(destination, &mut there).await?;
            while let Some(ended) = writers.try_join_next() {
                ended.unwrap_or_else(|e| Err(Error::new(Code::Unexpected, "a writer was cut off").caused_by(e)))?;
            }
            quiet += u64::from(writers.is_empty());
        }
        // Of an update both sides know a time; the earlier one is its writer's.
        let (mut sent, mut got) = (Times::new(), Times::new());
        for (update, a) in here {
            let Some(b) = there.get(&update) else { continue };
            sent.insert(update, a.min(*b));
            got.insert(update, a.max(*b));
        }
        Ok((sent, got))
    }
}

/// When an update was committed, in microseconds.
type Times = HashMap<i64, i64>;

/// Notes every update not seen yet.
async fn look(at: &Application, times: &mut Times) -> Result<()> {
    for [_, update, micros] in at.numbers(SEEN, 0).await? {
        times.entry(update).or_insert(micros);
    }
    Ok(())
}

/// One session's share: the updates `first`, `first + step`, … counted from 0.
struct Part {
    begin_ms: u64,
    first: u64,
    step: u64,
}

impl Part {
    async fn write(&self, url: &str, rate: u64, count: u64) -> Result<()> {
        let application = Application::connect(url).await?;
        let mut update = self.first;
        while update < count {
            SystemClock.sleep_until(self.begin_ms + update * 1000 / rate.max(1)).await;
            let (row, number) = (update % ROWS + 1, update + 1);
            application.run(&format!("update driftless_bench.w4 set seq = {number} where id = {row}")).await?;
            update += self.step;
        }
        Ok(())
    }
}
