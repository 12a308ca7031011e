//! `driftless rules`: what a rule of your own would make of the conflicts there were, before it is put in force.

use super::args::Common;
use super::client::look;
use super::exit::Exit;
use super::output::{Output, table};
use super::{Program, configuration, of_dataset};
use crate::node::rules::{Trial, TrialInfo, TriedInfo, try_rule};
use crate::runtime::error::{Code, Error, Result};
use clap::Subcommand;
use serde_json::json;
use std::path::PathBuf;

/// What can be done with rules.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Try a rule on the recorded conflicts: what would have ended otherwise. Nothing is changed
    Test(Test),
}

/// A trial.
#[derive(clap::Args, Debug)]
pub struct Test {
    /// The dataset whose conflicts it is tried on
    dataset: String,
    /// One of its collections; the first if left out
    #[arg(long)]
    collection: Option<String>,
    /// The rule, in CEL; the configured one if left out
    #[arg(long, conflicts_with = "file")]
    rule: Option<String>,
    /// A file with the rule
    #[arg(long)]
    file: Option<PathBuf>,
}

impl Verb {
    pub(super) fn run(&self, common: &Common, program: Program<'_>, output: &mut Output<'_>) -> Result<Exit> {
        let config = configuration(common, program)?;
        let Verb::Test(test) = self;
        of_dataset(&config, Some(&test.dataset))?;
        let trial = test.trial()?;
        let query = serde_urlencoded::to_string(&trial)
            .map_err(|error| Error::new(Code::Unexpected, "a rule cannot be written as an address").caused_by(error))?;
        let own = |log, clock| {
            let (config, trial) = (&config, &trial);
            async move { try_rule(&log, clock, config, trial).await }
        };
        let told = look(&config, &format!("/api/v1/rules/test?{query}"), own)?;
        output.answer(&json!(told), &shown(&told));
        Ok(Exit::Done)
    }
}

impl Test {
    fn trial(&self) -> Result<Trial> {
        let from_file = self.file.as_ref().map(|path| {
            std::fs::read_to_string(path).map_err(|error| {
                let text = format!("the rule in `{}` cannot be read", path.display());
                Error::new(Code::ConfigMissing, text).caused_by(error)
            })
        });
        let rule = self.rule.clone().or(from_file.transpose()?);
        Ok(Trial { dataset: self.dataset.clone(), collection: self.collection.clone(), rule })
    }
}

fn shown(told: &TrialInfo) -> String {
    let TrialInfo { tried, changed, open, left_out, conflicts } = told;
    let row = |tried: &TriedInfo| {
        [
            tried.id.clone(),
            tried.key.to_string(),
            tried.was.clone(),
            tried.would.clone(),
            tried.would_result.to_string(),
        ]
    };
    let rows: Vec<[String; 5]> = conflicts.iter().map(row).collect();
    let list = if rows.is_empty() { String::new() } else { table(["ID", "KEY", "WAS", "WOULD", "RESULT"], &rows) };
    let left = if *left_out > 0 { format!(", {left_out} of the first copy left out") } else { String::new() };
    format!("{list}{tried} conflicts tried: {changed} would end otherwise, {open} would wait for a person{left}\n")
}
