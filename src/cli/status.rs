//! `driftless status`: how the running node is.

use super::args::Common;
use super::client::ask;
use super::exit::Exit;
use super::output::{Output, table};
use super::{Program, configuration};
use crate::runtime::error::Result;
use serde_json::Value;

/// Ask the running node how it is.
#[derive(clap::Args, Debug)]
pub struct Status {}

impl Status {
    pub(super) fn run(&self, common: &Common, program: Program<'_>, output: &mut Output<'_>) -> Result<Exit> {
        let config = configuration(common, program)?;
        let report: Value = ask(&config, "/api/v1/status")?;
        output.answer(&report, &told(&report));
        Ok(if report["healthy"] == true { Exit::Done } else { Exit::Failed })
    }
}

fn told(report: &Value) -> String {
    let mut rows: Vec<[String; 10]> = Vec::new();
    let mut notes = String::new();
    for (name, dataset) in report["datasets"].as_object().into_iter().flatten() {
        for (platform, told) in dataset["platforms"].as_object().into_iter().flatten() {
            for (collection, copy) in told["copying"].as_object().into_iter().flatten() {
                let of = copy["expected"].as_u64().map_or(String::new(), |rows| format!(" of about {rows}"));
                let so_far = format!("{}{of} rows so far", copy["rows"]);
                notes.push_str(&format!("{name}: first copy of `{collection}` from {platform}: {so_far}\n"));
            }
            let count = |what: &str| told["counts"][what].to_string();
            rows.push([
                name.clone(),
                platform.clone(),
                told["guarantee"].as_str().filter(|level| !level.is_empty()).unwrap_or("-").to_owned(),
                told["lag_events"].to_string(),
                format!("{:.1}", told["lag_ms"].as_f64().unwrap_or(0.0) / 1000.0),
                count("captured"),
                count("proposed"),
                count("applied"),
                count("held"),
                count("parked"),
            ]);
        }
        let (settled, conflicts, unsettled) = (&dataset["settled"], &dataset["conflicts"], &dataset["unsettled"]);
        notes.push_str(&match dataset["fused"].as_str() {
            Some(writer) => {
                format!("{name}: {settled} settled; fused: `{writer}` alone writes it, and settles itself\n")
            }
            None => format!("{name}: {settled} settled, {conflicts} conflicts, {unsettled} to settle\n"),
        });
        for trouble in dataset["troubles"].as_array().into_iter().flatten() {
            let word = |what: &str| trouble[what].as_str().unwrap_or_default();
            let at = [word("platform"), word("work"), word("partition")].join(" ");
            notes.push_str(&format!(
                "{name}: {}: {}: {}\n  see {}\n",
                at.trim(),
                word("state"),
                word("text"),
                word("advice")
            ));
        }
        for finding in dataset["findings"].as_array().into_iter().flatten() {
            notes.push_str(&format!("{name}: {}\n", finding.as_str().unwrap_or_default()));
        }
    }
    let headers =
        ["DATASET", "PLATFORM", "GUARANTEE", "LAG", "LAG S", "CAPTURED", "PROPOSED", "APPLIED", "HELD", "PARKED"];
    format!("{}{notes}", table(headers, &rows))
}
