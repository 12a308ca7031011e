//! `driftless run`: keeps the datasets the same until it is told to stop. It may be killed at any
//! time; the next start takes over from the log.

use super::args::{Common, LogFormat};
use super::copies::Copies;
use super::exit::Exit;
use super::output::Output;
use super::{Program, configuration, runtime};
use crate::config::{Config, readiness};
use crate::govern::Policy;
use crate::node::Node;
use crate::node::http::Server;
use crate::runtime::clock::SystemClock;
use crate::runtime::error::{Code, Error, Result};
use crate::runtime::telemetry::{Exporter, SYNC, logging};
use serde_json::json;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

/// Keep the datasets the same until stopped.
#[derive(clap::Args, Debug)]
pub struct Run {}

impl Run {
    pub(super) fn run(&self, common: &Common, program: Program<'_>, output: &mut Output<'_>) -> Result<Exit> {
        let config = configuration(common, program)?;
        readiness::check(&config)?;
        let bars = Copies::on_terminal(output.json() || common.log_format != LogFormat::Text);
        logging::start(common.log_format.into(), &common.log, bars.beside())?;
        let exporter = Exporter::install()?;
        runtime()?.block_on(until_stopped(Arc::new(config), program.policy, exporter, output, &bars))
    }
}

async fn until_stopped(
    config: Arc<Config>,
    policy: &'static dyn Policy,
    exporter: Exporter,
    output: &mut Output<'_>,
    bars: &Copies,
) -> Result<Exit> {
    let failed =
        |error| Error::new(Code::Unexpected, "the signals that stop a node cannot be watched").caused_by(error);
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let node = Node::start(config.clone(), policy, Arc::new(SystemClock)).await?;
    let server = Server::bind(config.http, node.view(), exporter).await?;
    let address = server.address().unwrap_or(config.http).to_string();
    let datasets: Vec<&str> = config.datasets.iter().map(|dataset| dataset.name.as_str()).collect();
    tracing::info!(target: SYNC, address, datasets = datasets.join(","), "running");
    let text = format!("running: {}; status at http://{address}/api/v1/status", datasets.join(", "));
    output.answer(&json!({"running": true, "datasets": datasets, "address": address}), &text);
    tokio::select! {
        () = server.serve() => {}
        never = bars.show(node.view(), &SystemClock) => match never {},
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    bars.clear();
    tracing::info!(target: SYNC, "stopping");
    node.stop().await;
    Ok(Exit::Done)
}
