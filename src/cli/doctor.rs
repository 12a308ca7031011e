//! `driftless doctor`: connects everywhere and says what is wrong, or will be, and how to fix it.

use super::args::Common;
use super::exit::Exit;
use super::output::{Output, table};
use super::{Program, configuration, runtime};
use crate::config::{Config, readiness};
use crate::node::{dataset, log};
use crate::runtime::clock::SystemClock;
use crate::runtime::error::{Code, Result};
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;

/// Connect everywhere and say what is wrong, and how to fix it.
#[derive(clap::Args, Debug)]
pub struct Doctor {}

/// Something that was looked at.
#[derive(Serialize)]
struct Found {
    /// `log`, `configuration`, or the platform's name.
    place: String,
    dataset: String,
    code: String,
    fatal: bool,
    text: String,
}

impl Doctor {
    pub(super) fn run(&self, common: &Common, program: Program<'_>, output: &mut Output<'_>) -> Result<Exit> {
        let config = configuration(common, program)?;
        let found = runtime()?.block_on(look(&config));
        let healthy = !found.iter().any(|found| found.fatal);
        let rows: Vec<[String; 5]> = found.iter().map(row).collect();
        let mut text = table(["PLACE", "DATASET", "", "CODE", "FOUND"], &rows);
        if found.is_empty() {
            text = "nothing is wrong\n".into();
        }
        output.answer(&json!({"healthy": healthy, "findings": found}), &text);
        Ok(if healthy { Exit::Done } else { Exit::Failed })
    }
}

fn row(found: &Found) -> [String; 5] {
    let weight = if found.fatal { "stops work" } else { "note" };
    [found.place.clone(), found.dataset.clone(), weight.into(), found.code.clone(), found.text.clone()]
}

async fn look(config: &Config) -> Vec<Found> {
    let mut all = Vec::new();
    let mut note = |place: &str, dataset: &str, code: &str, fatal: bool, text: String| {
        all.push(Found { place: place.into(), dataset: dataset.into(), code: code.into(), fatal, text });
    };
    for problem in readiness::check(config).err().map(|problems| problems.0).unwrap_or_default() {
        note("configuration", "", problem.code.as_str(), true, problem.to_string());
    }
    if let Err(error) = log::check_registry(&config.log).await {
        note("log", "", error.code.as_str(), true, error.to_string());
    }
    match log::Opened::open(&config.log, Arc::new(SystemClock)).await {
        Ok(_) => {}
        // A node is running: it would tell itself what is wrong with its log.
        Err(error) if error.code == Code::LogLocked => {
            note(
                "log",
                "",
                error.code.as_str(),
                false,
                "a node is running with it; ask it with `driftless status`".into(),
            );
        }
        Err(error) => note("log", "", error.code.as_str(), true, error.to_string()),
    }
    for configured in &config.datasets {
        for name in configured.platforms() {
            let Some(platform) = config.platforms.get(name) else { continue };
            let scope = dataset::scope(configured, name);
            let checked = match platform.connector() {
                Ok(connector) => connector.check(Some(&scope)).await,
                Err(error) => Err(error),
            };
            match checked {
                Ok(findings) => {
                    for finding in findings {
                        note(name, &configured.name, finding.code, finding.fatal, finding.text);
                    }
                }
                Err(error) => note(name, &configured.name, error.code.as_str(), true, error.to_string()),
            }
        }
    }
    all
}
