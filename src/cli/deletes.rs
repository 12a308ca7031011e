//! `driftless deletes`: so many records disappeared from a platform at once that nothing was published
//! (agent-7). A person looks, and says whether they were meant.

use super::args::Common;
use super::client::{ask, tell};
use super::exit::Exit;
use super::output::{Output, table};
use super::{Program, configuration, of_dataset};
use crate::node::desk::DeletesInfo;
use crate::runtime::error::Result;
use clap::Subcommand;
use serde_json::{Value, json};

/// What can be done about records that disappeared.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// List where records have disappeared, with some of their keys
    List,
    /// They were deleted on purpose, as many as are shown: delete them everywhere
    Confirm(Place),
    /// They were not meant and are back: look again
    Refuse(Place),
}

/// Where.
#[derive(clap::Args, Debug)]
pub struct Place {
    /// The dataset
    dataset: String,
    /// The platform
    platform: String,
}

impl Verb {
    pub(super) fn run(&self, common: &Common, program: Program<'_>, output: &mut Output<'_>) -> Result<Exit> {
        let config = configuration(common, program)?;
        let (verb, place) = match self {
            Verb::List => {
                let found: Vec<DeletesInfo> = ask(&config, "/api/v1/deletes")?;
                let rows: Vec<[String; 5]> = found.iter().map(row).collect();
                let headers = ["DATASET", "PLATFORM", "DISAPPEARED", "OF", "FOR EXAMPLE"];
                output.answer(&json!(found), &if rows.is_empty() { "none\n".into() } else { table(headers, &rows) });
                return Ok(Exit::Done);
            }
            Verb::Confirm(place) => ("confirm", place),
            Verb::Refuse(place) => ("refuse", place),
        };
        let Place { dataset, platform } = place;
        of_dataset(&config, Some(dataset))?;
        let answer: Value = tell(&config, &format!("/api/v1/deletes/{verb}?dataset={dataset}&platform={platform}"))?;
        let text = match self {
            Verb::Confirm(_) => format!("{} records are deleted everywhere\n", answer["confirmed"]),
            _ => "it looks again\n".into(),
        };
        output.answer(&answer, &text);
        Ok(Exit::Done)
    }
}

fn row(told: &DeletesInfo) -> [String; 5] {
    let DeletesInfo { dataset, platform, disappeared, records, sample } = told.clone();
    [dataset, platform, disappeared.to_string(), records.to_string(), Value::from(sample).to_string()]
}
