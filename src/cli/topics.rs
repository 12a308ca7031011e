//! `driftless topics`: the topics of the log, their partitions and what they hold.

use super::args::Common;
use super::client::look;
use super::exit::Exit;
use super::output::{Output, table};
use super::{Program, configuration};
use crate::node::inspect::{self, TopicInfo};
use crate::runtime::error::Result;
use serde_json::json;

/// List the topics of the log.
#[derive(clap::Args, Debug)]
pub struct Topics {}

impl Topics {
    pub(super) fn run(&self, common: &Common, program: Program<'_>, output: &mut Output<'_>) -> Result<Exit> {
        let config = configuration(common, program)?;
        let found = look(&config, "/api/v1/topics", |log, _| async move { inspect::list_topics(&log).await })?;
        let rows: Vec<[String; 4]> = found.iter().map(row).collect();
        output.answer(&json!(found), &table(["TOPIC", "PARTITIONS", "KEPT", "OFFSETS"], &rows));
        Ok(Exit::Done)
    }
}

fn row(info: &TopicInfo) -> [String; 4] {
    let offsets: Vec<String> = info.partitions.iter().map(|(low, high)| format!("{low}..{high}")).collect();
    let kept = if info.compacted { "newest per key" } else { "all" };
    [info.topic.clone(), info.partitions.len().to_string(), kept.into(), offsets.join(" ")]
}
