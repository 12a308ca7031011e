//! `driftless dead`: what could not be captured or applied, whole, with the reason. It stays there
//! until it is taken up again with success, or given up.

use super::args::Common;
use super::client::{look, tell};
use super::exit::Exit;
use super::output::{Output, table};
use super::{Program, configuration, of_dataset};
use crate::config::Config;
use crate::node::letters::{DeadInfo, list_dead};
use crate::runtime::error::{Code, Error, Result};
use clap::Subcommand;
use serde_json::{Value, json};

/// Letters of an id that are shown and enough to name it.
const ID_SHOWN: usize = 12;

/// What can be done with dead letters.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// List dead letters, oldest first
    List {
        /// Of this dataset only
        #[arg(long)]
        dataset: Option<String>,
    },
    /// Show one dead letter with all it holds
    Show {
        /// The letter's id, as `list` shows it, or its beginning
        id: String,
    },
    /// Have the running node take a dead letter up again
    Retry {
        /// The letter's id, or its beginning
        id: String,
    },
    /// Give a dead letter up, for good
    Discard {
        /// The letter's id, or its beginning
        id: String,
    },
}

impl Verb {
    pub(super) fn run(&self, common: &Common, program: Program<'_>, output: &mut Output<'_>) -> Result<Exit> {
        let config = configuration(common, program)?;
        match self {
            Verb::List { dataset } => {
                let found = find(&config, of_dataset(&config, dataset.as_deref())?)?;
                let rows: Vec<[String; 6]> = found.iter().map(row).collect();
                let headers = ["ID", "DATASET", "PLATFORM", "STAGE", "KEY", "WHY"];
                output.answer(&json!(found), &if rows.is_empty() { "none\n".into() } else { table(headers, &rows) });
            }
            Verb::Show { id } => {
                let found = find(&config, None)?.into_iter().find(|letter| letter.id.starts_with(id.as_str()));
                let Some(found) = found else {
                    let text = format!("there is no dead letter `{id}`; `driftless dead list` shows which there are");
                    return Err(Error::new(Code::ConfigMissing, text));
                };
                output.answer(&json!(found), &told(&found));
            }
            Verb::Retry { id } => {
                let answer: Value = tell(&config, &format!("/api/v1/dead/{id}/retry"))?;
                output.answer(&answer, "asked; it is gone from `driftless dead list` if it went well\n");
            }
            Verb::Discard { id } => {
                let answer: Value = tell(&config, &format!("/api/v1/dead/{id}/discard"))?;
                output.answer(&answer, "discarded\n");
            }
        }
        Ok(Exit::Done)
    }
}

fn find(config: &Config, dataset: Option<&str>) -> Result<Vec<DeadInfo>> {
    let path = dataset.map_or_else(|| "/api/v1/dead".into(), |name| format!("/api/v1/dead?dataset={name}"));
    look(config, &path, |log, clock| async move { list_dead(&log, clock, config, dataset).await })
}

fn row(letter: &DeadInfo) -> [String; 6] {
    let DeadInfo { id, dataset, platform, stage, key, why, .. } = letter.clone();
    [id.chars().take(ID_SHOWN).collect(), dataset, platform, stage, key.to_string(), why]
}

fn told(letter: &DeadInfo) -> String {
    let DeadInfo { id, dataset, collection, platform, stage, key, code, why, event, .. } = letter;
    format!(
        "{id}\n  {stage} on {platform}, {dataset}.{collection}: {key}\n  why    {why}\n  holds  {event}\n  see    \
         docs/errors/{code}.md\n"
    )
}
