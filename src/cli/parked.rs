//! `driftless parked`: keys that wait on the running node, why, and what ends it.

use super::args::Common;
use super::client::{ask, tell};
use super::exit::Exit;
use super::output::{Output, table};
use super::{Program, configuration, of_dataset};
use crate::config::Config;
use crate::node::desk::ParkedInfo;
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::error::{Code, Error, Result};
use clap::Subcommand;
use serde_json::{Value, json};

/// Whose keys are meant.
#[derive(clap::Args, Debug)]
pub struct Whose {
    /// Of this dataset only
    #[arg(long)]
    dataset: Option<String>,
    /// Of this platform only
    #[arg(long)]
    platform: Option<String>,
}

/// What can be done with parked keys.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// List parked keys, oldest first
    List(Whose),
    /// Have the running node try them now
    Retry(Whose),
}

impl Verb {
    pub(super) fn run(&self, common: &Common, program: Program<'_>, output: &mut Output<'_>) -> Result<Exit> {
        let config = configuration(common, program)?;
        match self {
            Verb::List(whose) => {
                let found: Vec<ParkedInfo> = ask(&config, &whose.path("/api/v1/parked", &config)?)?;
                let now_ms = SystemClock.now_ms();
                let rows: Vec<[String; 6]> = found.iter().map(|parked| row(parked, now_ms)).collect();
                let headers = ["DATASET", "PLATFORM", "KEY", "FOR", "WHY", "WHAT TO DO"];
                output.answer(&json!(found), &if rows.is_empty() { "none\n".into() } else { table(headers, &rows) });
            }
            Verb::Retry(whose) => {
                let answer: Value = tell(&config, &whose.path("/api/v1/parked/retry", &config)?)?;
                output.answer(&answer, &format!("{} keys are tried again now\n", answer["retried"]));
            }
        }
        Ok(Exit::Done)
    }
}

impl Whose {
    fn path(&self, path: &str, config: &Config) -> Result<String> {
        of_dataset(config, self.dataset.as_deref())?;
        if let Some(name) = self.platform.as_ref().filter(|name| !config.platforms.contains_key(*name)) {
            return Err(Error::new(Code::ConfigMissing, format!("there is no platform `{name}` in the configuration")));
        }
        let given = [("dataset", &self.dataset), ("platform", &self.platform)];
        let query: Vec<String> =
            given.iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?))).collect();
        Ok(if query.is_empty() { path.into() } else { format!("{path}?{}", query.join("&")) })
    }
}

fn row(parked: &ParkedInfo, now_ms: u64) -> [String; 6] {
    let ParkedInfo { dataset, platform, key, why, since_ms, remedy, .. } = parked.clone();
    let lasts = format!("{} s", now_ms.saturating_sub(since_ms) / 1000);
    [dataset, platform, key.to_string(), lasts, why, remedy]
}
