//! `driftless bench`: measures the product on real servers. A node runs in a process of its own, so
//! that its CPU and memory are its alone; this process plays the applications and looks from outside:
//! into the log as any consumer, into the databases as any client. What is measured and how to read it
//! stands in `docs/guides/benchmarks.md`. All it makes has names of its own and is removed again.

mod application;
mod drain;
mod figures;
mod idle;
mod latency;
mod product;
mod sink;
mod stage;

use super::args::Common;
use super::exit::Exit;
use super::output::Output;
use super::{Program, runtime};
use crate::runtime::error::Result;
use figures::{Figure, medians, shown};
use serde_json::json;
use stage::Stage;
use std::path::PathBuf;

/// Measure the product on real servers
#[derive(clap::Subcommand, Debug)]
pub enum Verb {
    /// Committed rows of a database until they can be read in the dataset topic; then kill -9 and restart
    Drain(Servers),
    /// The first copy of a table until it can be read in the dataset topic
    Copy(Servers),
    /// From the log into a second database: inserts, then updates of the same rows
    Sink(sink::Sink),
    /// From commit to commit: single-row updates at a steady rate
    Latency(latency::Latency),
    /// What a node costs that has nothing to do
    Idle(Servers),
}

/// Where to measure. Every measurement empties what it uses there under names of its own.
#[derive(clap::Args, Debug)]
pub struct Servers {
    /// The database changes come from: postgres://user:password@host:port/database
    #[arg(long, value_name = "URL")]
    source: String,
    /// The database changes go to
    #[arg(long, value_name = "URL")]
    destination: Option<String>,
    /// Brokers of the log, host:port; without it the log is embedded
    #[arg(long, value_name = "BROKERS")]
    kafka: Option<String>,
    /// Where the node keeps its data; a temporary folder if absent
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// `memory-mb` of the node
    #[arg(long, value_name = "MEBIBYTES", default_value_t = crate::config::MEMORY_MB)]
    memory_mb: u32,
    /// How many rows, in thousands
    #[arg(long, value_name = "THOUSANDS", default_value_t = 1000)]
    thousands: u64,
    /// How often to measure; medians are told
    #[arg(long, value_name = "TIMES", default_value_t = 1)]
    runs: usize,
}

impl Verb {
    fn servers(&self) -> &Servers {
        match self {
            Verb::Drain(servers) | Verb::Copy(servers) | Verb::Idle(servers) => servers,
            Verb::Sink(sink) => &sink.servers,
            Verb::Latency(latency) => &latency.servers,
        }
    }

    pub(super) fn run(&self, _: &Common, program: Program<'_>, output: &mut Output<'_>) -> Result<Exit> {
        let runs = self.servers().runs.max(1);
        let mut measured = Vec::with_capacity(runs);
        for run in 1..=runs {
            let figures = runtime()?.block_on(self.once(program, output))?;
            if runs > 1 {
                output.say(&format!("run {run} of {runs}\n{}", shown(&figures)));
            }
            measured.push(figures);
        }
        let told = medians(&measured);
        output.answer(&json!({"runs": runs, "figures": told}), &shown(&told));
        Ok(Exit::Done)
    }

    async fn once(&self, program: Program<'_>, output: &mut Output<'_>) -> Result<Vec<Figure>> {
        let stage = Stage::make(self.servers(), program).await?;
        let measured = match self {
            Verb::Drain(_) => drain::drain(&stage, output).await,
            Verb::Copy(_) => drain::copy(&stage, output).await,
            Verb::Sink(sink) => sink.measure(&stage, output).await,
            Verb::Latency(latency) => latency.measure(&stage, output).await,
            Verb::Idle(_) => idle::idle(&stage, output).await,
        };
        stage.clear().await;
        measured
    }
}
