//! `driftless validate`: whether the configuration is right, without connecting anywhere. A document
//! may be right and not yet complete (it names platforms defined elsewhere); that is told too, and is
//! a failure only with `--ready`.

use super::args::Common;
use super::client::ask;
use super::exit::Exit;
use super::output::{Output, table};
use super::{Program, tell};
use crate::config::dataset::guarantee_name;
use crate::config::{Config, Dataset, Problems, readiness};
use crate::node::asks::{Meeting, Meetings};
use crate::runtime::error::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Check the configuration.
#[derive(clap::Args, Debug)]
pub struct Validate {
    /// Also fail if `run` would refuse the configuration
    #[arg(long)]
    ready: bool,
    /// Ask the running node, which has compared all platforms, what the first write would write
    /// (`bootstrap: ask`)
    #[arg(long)]
    bootstrap: bool,
}

impl Validate {
    pub(super) fn run(&self, common: &Common, program: Program<'_>, output: &mut Output<'_>) -> Exit {
        let config = match program.configuration(common) {
            Ok(config) => config,
            Err(problems) => {
                output.say(&problems.to_string());
                output.answer(&json!({"valid": false, "ready": false, "problems": listed(&problems)}), "");
                return Exit::Usage;
            }
        };
        if self.bootstrap {
            return meetings(&config, output).unwrap_or_else(|error| tell(&error, output));
        }
        let refusals = readiness::check(&config).err();
        let ready = refusals.is_none();
        let problems = refusals.as_ref().map_or_else(Vec::new, listed);
        let parts = parts(&config);
        let answer = json!({
            "valid": true,
            "ready": ready,
            "problems": problems,
            "datasets": parts.iter().map(Line::json).collect::<Vec<_>>(),
        });
        let rows: Vec<[String; 5]> = parts.into_iter().map(Line::row).collect();
        let mut text = format!("valid: {}\n", common.config.join(", "));
        if !rows.is_empty() {
            text.push_str(&table(["DATASET", "PLATFORM", "TYPE", "PART", "GUARANTEE"], &rows));
        }
        output.answer(&answer, &text);
        if let Some(refusals) = refusals {
            output.say(&format!("`run` would refuse this configuration:\n{refusals}"));
        }
        if self.ready && !ready { Exit::Usage } else { Exit::Done }
    }
}

/// What the first write would write, as the running node has counted it (who-4).
fn meetings(config: &Config, output: &mut Output<'_>) -> Result<Exit> {
    let found: BTreeMap<String, Meetings> = ask(config, "/api/v1/asks")?;
    let row = |dataset: &String, (platform, met): (&String, &Meeting)| {
        let counts = [met.same, met.missing, met.different].map(|count| count.to_string());
        let [same, missing, different] = counts;
        [dataset.clone(), platform.clone(), same, missing, different]
    };
    let rows: Vec<[String; 5]> =
        found.iter().flat_map(|(name, platforms)| platforms.iter().map(move |met| row(name, met))).collect();
    let text = match rows.is_empty() {
        true => "no dataset waits for its first write\n".into(),
        false => table(["DATASET", "PLATFORM", "SAME", "TO CREATE", "TO OVERWRITE"], &rows),
    };
    output.answer(&json!(found), &text);
    Ok(Exit::Done)
}

fn listed(problems: &Problems) -> Vec<Value> {
    let one = |p: &crate::config::Problem| json!({"file": p.at.file, "line": p.at.line, "path": p.path, "code": p.code.as_str(), "text": p.text});
    problems.0.iter().map(one).collect()
}

/// What one platform does in one dataset, in words.
struct Line {
    dataset: String,
    platform: String,
    kind: &'static str,
    part: &'static str,
    guarantee: &'static str,
}

impl Line {
    fn of(config: &Config, dataset: &Dataset, name: &str) -> Self {
        let (dataset_name, platform) = (dataset.name.clone(), name.to_owned());
        let Some(found) = config.platforms.get(name) else {
            return Line { dataset: dataset_name, platform, kind: "?", part: "not defined", guarantee: "?" };
        };
        let part = dataset.part(found);
        let words = match (part.proposes, part.receives) {
            (true, true) => "reads and writes",
            (true, false) => "reads",
            (false, true) => "writes",
            (false, false) => "nothing",
        };
        // Where nothing is written there is nothing to guarantee.
        let guarantee = if part.receives { guarantee_name(part.guarantee) } else { "-" };
        Line { dataset: dataset_name, platform, kind: found.kind(), part: words, guarantee }
    }

    fn json(&self) -> Value {
        json!({"dataset": self.dataset, "platform": self.platform, "type": self.kind, "part": self.part,
               "guarantee": self.guarantee})
    }

    fn row(self) -> [String; 5] {
        [self.dataset, self.platform, self.kind.into(), self.part.into(), self.guarantee.into()]
    }
}

fn parts(config: &Config) -> Vec<Line> {
    let of = |dataset| Dataset::platforms(dataset).map(|name| Line::of(config, dataset, name)).collect::<Vec<_>>();
    config.datasets.iter().flat_map(of).collect()
}
