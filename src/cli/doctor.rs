//! `driftless doctor`: connects everywhere and says what is wrong, or will be, and how to fix it.

use super::args::Common;
use super::exit::Exit;
use super::output::{Bar, Output, table};
use super::{Program, client, configuration, runtime};
use crate::config::{Config, readiness};
use crate::node::leftovers::{Leftover, list_leftovers};
use crate::node::{dataset, log};
use crate::runtime::clock::SystemClock;
use crate::runtime::error::{Code, Error, Result};
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
        let mut found = {
            let steps = config.datasets.iter().map(|dataset| dataset.platforms().count()).sum();
            let bar = output.bar(steps);
            runtime()?.block_on(look(&config, &bar))
        };
        // A log that cannot be opened has been told of.
        found.extend(leftovers(&config).unwrap_or_default());
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

/// verb-9: what is in the log and not in the configuration any more.
fn leftovers(config: &Config) -> Result<Vec<Found>> {
    let look =
        client::look(
            config,
            "/api/v1/leftovers",
            |log, clock| async move { list_leftovers(&log, clock, config).await },
        );
    let found = |Leftover { dataset, platforms, topics }: Leftover| {
        let places = if platforms.is_empty() { "the log".into() } else { platforms.join(", ") };
        let text = format!(
            "not in the configuration any more, but driftless has {} topics of it and may have left ledger, triggers or \
             markers on {places}: put its lines back for `driftless remove --dataset {dataset}`, then take them out again",
            topics.len()
        );
        Found { place: places, dataset, code: "leftover".into(), fatal: false, text }
    };
    Ok(look?.into_iter().map(found).collect())
}

fn row(found: &Found) -> [String; 5] {
    let weight = if found.fatal { "stops work" } else { "note" };
    [found.place.clone(), found.dataset.clone(), weight.into(), found.code.clone(), found.text.clone()]
}

/// The registry and the log, and the settings of the topics that exist.
async fn look_at_log(config: &Config) -> Vec<Found> {
    let found = |code: Code, fatal, text| {
        let (place, dataset) = ("log".into(), String::new());
        Found { place, dataset, code: code.as_str().into(), fatal, text }
    };
    let told = |error: Error| found(error.code, true, error.to_string());
    let mut all: Vec<Found> = log::check_registry(&config.log).await.err().map(told).into_iter().collect();
    let opened = match log::Opened::open(&config.log, Arc::new(SystemClock)).await {
        Ok(opened) => opened,
        // A node is running: it would tell itself what is wrong with its log.
        Err(error) if error.code == Code::LogLocked => {
            let text = "a node is running with it; ask it with `driftless status`";
            all.push(found(error.code, false, text.into()));
            return all;
        }
        Err(error) => {
            all.push(told(error));
            return all;
        }
    };
    for spec in dataset::all_specs(config) {
        let Err(error) = opened.raw.check(&spec).await else { continue };
        // What is no matter of one topic would be told of every one.
        let is_last = error.code != Code::TopicSettings;
        all.push(told(error));
        if is_last {
            break;
        }
    }
    all
}

async fn look(config: &Config, bar: &Bar) -> Vec<Found> {
    let mut all = look_at_log(config).await;
    let mut note = |place: &str, dataset: &str, code: &str, fatal: bool, text: String| {
        all.push(Found { place: place.into(), dataset: dataset.into(), code: code.into(), fatal, text });
    };
    for problem in readiness::check(config).err().map(|problems| problems.0).unwrap_or_default() {
        note("configuration", "", problem.code.as_str(), true, problem.to_string());
    }
    for configured in &config.datasets {
        let members = dataset::members(config, configured).unwrap_or_default();
        for name in configured.platforms() {
            let Some(platform) = config.platforms.get(name) else { continue };
            bar.step(&format!("{} on {name}", configured.name));
            let scope = dataset::known_scope(configured, name, &members).await;
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
