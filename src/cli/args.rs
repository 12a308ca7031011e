//! What can be typed. Each verb's own arguments stand in the verb's file; a new verb is a file, a
//! variant here and a line in `run`.

use super::bench;
#[cfg(feature = "demo")]
use super::demo;
use super::{config, conflicts, dead, deletes, doctor, parked, pause, remove, rules, run, status, topics, validate};
use crate::runtime::telemetry::Format;
use clap::{Parser, Subcommand, ValueEnum};

/// Keeps datasets the same on every platform that holds them.
#[derive(Parser, Debug)]
#[command(name = "driftless", version, arg_required_else_help = true)]
pub struct Args {
    /// What every verb takes.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What every verb takes.
#[derive(clap::Args, Debug)]
pub struct Common {
    /// A configuration file; several are read together
    #[arg(long, short, global = true, value_name = "FILE", default_value = "driftless.yaml", env = "DRIFTLESS_CONFIG")]
    pub config: Vec<String>,
    /// Answer in JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// How log lines look
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text", env = "DRIFTLESS_LOG_FORMAT")]
    pub log_format: LogFormat,
    /// What is logged: a level, or levels by target such as sync=debug,performance=off
    #[arg(long, global = true, value_name = "FILTER", default_value = "info", env = "DRIFTLESS_LOG")]
    pub log: String,
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum LogFormat {
    /// Readable lines
    Text,
    /// JSON objects
    Json,
}

impl From<LogFormat> for Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        }
    }
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Check the configuration without connecting anywhere
    Validate(validate::Validate),
    /// Keep the datasets the same until stopped
    Run(run::Run),
    /// Show the main job on this machine: two databases and a directory
    #[cfg(feature = "demo")]
    Demo(demo::Demo),
    /// Ask the running node how it is
    Status(status::Status),
    /// Connect everywhere and say what is wrong, and how to fix it
    Doctor(doctor::Doctor),
    /// List the topics of the log
    Topics(topics::Topics),
    /// Look at conflicts and how they were settled
    #[command(subcommand)]
    Conflicts(conflicts::Verb),
    /// Try rules of your own before they are put in force
    #[command(subcommand)]
    Rules(rules::Verb),
    /// Let a dataset or a collection wait
    Pause(pause::Pause),
    /// Let it go on
    Resume(pause::Pause),
    /// Confirm or refuse that many records were deleted at once
    #[command(subcommand)]
    Deletes(deletes::Verb),
    /// Look at what could not be captured or applied, and take it up again or give it up
    #[command(subcommand)]
    Dead(dead::Verb),
    /// Look at keys that wait, and why
    #[command(subcommand)]
    Parked(parked::Verb),
    /// Take out what driftless made on platforms; the data stays
    Remove(remove::Remove),
    /// Measure the product on real servers
    #[command(subcommand)]
    Bench(bench::Verb),
    /// Work with the configuration
    #[command(subcommand)]
    Config(config::Verb),
}
