//! `driftless remove`: takes a dataset, or one platform of it, out of driftless (verb-9). What
//! driftless made on the platforms goes, the data stays. The node must be stopped.

use super::args::Common;
use super::exit::Exit;
use super::output::{Bar, Output};
use super::{Program, configuration, runtime};
use crate::config::{self, Config};
use crate::connectors::contract::Finding;
use crate::node::{dataset, log::Opened, roster::Roster};
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::error::{Code, Error, Result};
use serde_json::json;
use std::sync::Arc;

/// Take out what driftless made on platforms; the data stays.
#[derive(clap::Args, Debug)]
pub struct Remove {
    /// The dataset
    #[arg(long)]
    dataset: String,
    /// Only this platform of it; all if left out
    #[arg(long)]
    platform: Option<String>,
    /// Also delete the dataset's topics, its history included; only for all platforms together
    #[arg(long, conflicts_with = "platform")]
    topics: bool,
}

impl Remove {
    pub(super) fn run(&self, common: &Common, program: Program<'_>, output: &mut Output<'_>) -> Result<Exit> {
        let config = configuration(common, program)?;
        let missing = |text: String| Error::new(Code::ConfigMissing, text);
        let found = config.dataset(&self.dataset);
        let configured =
            found.ok_or_else(|| missing(format!("there is no dataset `{}` in the configuration", self.dataset)))?;
        let mut names: Vec<&str> = configured.platforms().collect();
        if let Some(only) = &self.platform {
            names.retain(|name| name == only);
            if names.is_empty() {
                return Err(missing(format!("`{only}` is no platform of `{}`", self.dataset)));
            }
        }
        let left = {
            let bar = output.bar(names.len());
            runtime()?.block_on(self.remove(&config, configured, &names, &bar))?
        };
        let mut text = format!("removed from {}: {}\n", self.dataset, names.join(", "));
        for (platform, finding) in &left {
            text.push_str(&format!("{platform}: {}: {}\n", finding.code, finding.text));
        }
        let told: Vec<_> = left.iter().map(|(p, f)| json!({"platform": p, "code": f.code, "text": f.text})).collect();
        output.answer(&json!({"removed": names, "left": told}), &text);
        Ok(Exit::Done)
    }

    async fn remove(
        &self,
        config: &Config,
        configured: &config::Dataset,
        names: &[&str],
        bar: &Bar,
    ) -> Result<Vec<(String, Finding)>> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        // The open log is the proof that no node is at work.
        let log = Opened::open(&config.log, clock.clone()).await?;
        let mut roster = Roster::open(log.raw.clone(), clock, &log.prefix).await?;
        let topics = dataset::topics(&log.prefix, configured);
        let mut left = Vec::new();
        for name in names {
            bar.step(name);
            let Some(platform) = config.platforms.get(*name) else {
                return Err(Error::new(Code::ConfigMissing, "the platform is not defined").at("platform", name));
            };
            let scope = dataset::scope(configured, name);
            let findings = platform.connector()?.remove(&scope).await?;
            left.extend(findings.into_iter().map(|finding| ((*name).to_owned(), finding)));
            // who-7: it comes back as a new incarnation, which must not find the old one's ledger.
            roster.remove(&configured.name, name).await?;
            for topics in &topics {
                log.raw.remove(&topics.ledger(name, 0).topic).await?;
            }
        }
        if self.topics {
            for topics in &topics {
                for at in [topics.changes(0), topics.state(0), topics.conflicts(0), topics.dead(0), topics.dataset(0)] {
                    log.raw.remove(&at.topic).await?;
                }
            }
        }
        Ok(left)
    }
}
