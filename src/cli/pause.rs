//! `driftless pause` and `driftless resume`: a dataset or a collection waits, on every node and over
//! restarts, until it is resumed. Nothing is settled and nothing is written. Databases' changes go on being
//! captured meanwhile, so that their logs do not grow; but where one database alone writes the dataset,
//! capturing and settling are one step (resolve-9), so its log keeps them.

use super::args::Common;
use super::client::tell;
use super::exit::Exit;
use super::output::Output;
use super::{Program, configuration, of_dataset};
use crate::runtime::error::Result;
use serde_json::Value;

/// What is to wait, or to go on.
#[derive(clap::Args, Debug)]
pub struct Pause {
    /// The dataset
    dataset: String,
    /// Only this collection of it
    #[arg(long)]
    collection: Option<String>,
}

impl Pause {
    pub(super) fn run(
        &self,
        common: &Common,
        program: Program<'_>,
        output: &mut Output<'_>,
        pause: bool,
    ) -> Result<Exit> {
        let config = configuration(common, program)?;
        of_dataset(&config, Some(&self.dataset))?;
        let verb = if pause { "pause" } else { "resume" };
        let mut path = format!("/api/v1/{verb}?dataset={}", self.dataset);
        if let Some(collection) = &self.collection {
            path.push_str(&format!("&collection={collection}"));
        }
        let answer: Value = tell(&config, &path)?;
        let text = match (pause, answer["changed"] == true) {
            (true, true) => "paused",
            (true, false) => "paused already",
            (false, true) => "resumed",
            (false, false) => "was not paused; what had stopped for good begins anew",
        };
        output.answer(&answer, text);
        Ok(Exit::Done)
    }
}
