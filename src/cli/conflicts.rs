//! `driftless conflicts`: what was decided between concurrent edits, and why. Every conflict stands
//! there with all its inputs, the value that lost included.

use super::args::Common;
use super::client::{look, tell};
use super::exit::Exit;
use super::output::{Output, table};
use super::{Program, configuration, of_dataset};
use crate::config::Config;
use crate::node::decide::{Pick, Wish};
use crate::node::inspect::{self, ConflictInfo, DecidedInfo};
use crate::runtime::error::{Code, Error, Result};
use clap::Subcommand;
use serde_json::{Value, json};

/// What can be done with conflicts.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// List conflicts, oldest first
    List {
        /// Of this dataset only
        #[arg(long)]
        dataset: Option<String>,
        /// Only those that wait for a person to look
        #[arg(long)]
        open: bool,
    },
    /// Show one conflict with all its inputs
    Show {
        /// The conflict's id, as `list` shows it
        id: String,
    },
    /// Decide one yourself: the value you pick is settled as an edit of the record, everywhere
    Decide(Decide),
}

/// A decision.
#[derive(clap::Args, Debug)]
pub struct Decide {
    /// The conflict's id, as `list` shows it
    id: String,
    /// Which value shall stand
    #[arg(long, value_enum)]
    pick: Picked,
    /// Why, in your words
    #[arg(long, default_value = "")]
    why: String,
    /// Who decides
    #[arg(long, env = "USER", default_value = "somebody")]
    by: String,
}

/// The values of a conflict.
#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Picked {
    /// What stood
    Stood,
    /// What came
    Came,
    /// What both had changed
    Ancestor,
    /// Nothing: the record is deleted
    Deleted,
}

impl Verb {
    pub(super) fn run(&self, common: &Common, program: Program<'_>, output: &mut Output<'_>) -> Result<Exit> {
        let config = configuration(common, program)?;
        match self {
            Verb::List { dataset, open } => {
                let mut found = find(&config, of_dataset(&config, dataset.as_deref())?)?;
                found.retain(|conflict| !open || conflict.open.is_some());
                let rows: Vec<[String; 5]> = found.iter().map(row).collect();
                output.answer(&json!(found), &table(["ID", "KEY", "WINNER", "LOSER", "RULE"], &rows));
            }
            Verb::Show { id } => {
                let found = find(&config, None)?.into_iter().find(|conflict| conflict.id == *id);
                let Some(found) = found else {
                    let text = format!("there is no conflict `{id}`; `driftless conflicts list` shows which there are");
                    return Err(Error::new(Code::ConfigMissing, text));
                };
                output.answer(&json!(found), &told(&found));
            }
            Verb::Decide(decide) => {
                let answer: Value = tell(&config, &decide.path()?)?;
                output.answer(&answer, "decided; it reaches every platform as an edit\n");
            }
        }
        Ok(Exit::Done)
    }
}

impl Decide {
    /// Where the node is asked.
    fn path(&self) -> Result<String> {
        let pick = match self.pick {
            Picked::Stood => Pick::Stood,
            Picked::Came => Pick::Came,
            Picked::Ancestor => Pick::Ancestor,
            Picked::Deleted => Pick::Deleted,
        };
        let wish = Wish { id: self.id.clone(), pick, by: self.by.clone(), why: self.why.clone() };
        let query = serde_urlencoded::to_string(&wish).map_err(|error| {
            Error::new(Code::Unexpected, "a decision cannot be written as an address").caused_by(error)
        })?;
        Ok(format!("/api/v1/conflicts/decide?{query}"))
    }
}

fn find(config: &Config, dataset: Option<&str>) -> Result<Vec<ConflictInfo>> {
    let path = dataset.map_or_else(|| "/api/v1/conflicts".into(), |name| format!("/api/v1/conflicts?dataset={name}"));
    look(config, &path, |log, clock| async move { inspect::list_conflicts(&log, clock, config, dataset).await })
}

fn row(found: &ConflictInfo) -> [String; 5] {
    let loser = found.loser.clone().unwrap_or_else(|| "-".into());
    [found.id.clone(), found.key.to_string(), found.winner.clone(), loser, found.rule.clone()]
}

/// A conflict in words.
pub(super) fn told(found: &ConflictInfo) -> String {
    let side = |name: &str, side: &serde_json::Value| {
        let word = |what: &str| side[what].as_str().unwrap_or("?").to_owned();
        if side.is_null() {
            return format!("  {name:9} not known\n");
        }
        let value = if side["deleted"] == true { "deleted".into() } else { side["value"].to_string() };
        format!("  {name:9} {} at {} ms: {value}\n", word("platform"), side["written_ms"])
    };
    let decided = found.decided.as_ref().map_or_else(String::new, |decided| {
        let DecidedInfo { by, why, version, result, .. } = decided;
        format!("  later     {by} decided, version {version}: {result}; {why}\n")
    });
    let who = match &found.loser {
        Some(loser) => format!("{} wins, {loser} loses", found.winner),
        None => "both are kept".into(),
    };
    let open = found.open.as_ref().map_or_else(String::new, |why| format!("  open      {why}\n"));
    format!(
        "{} of {}: {}\n{}{}{}  decided   by {} (rules version {}): {who}\n  result    {}\n{open}{}",
        found.id,
        found.dataset,
        found.key,
        side("ancestor", &found.ancestor),
        side("stood", &found.head),
        side("came", &found.proposal),
        found.rule,
        found.rules,
        found.result,
        decided,
    )
}
