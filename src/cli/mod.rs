//! The shell's side: parses what was typed, carries out the verb, tells the error, ends with the
//! right number. A verb is one file with its arguments and its `run`.

pub mod args;
pub mod bench;
pub mod client;
pub mod config;
pub mod conflicts;
pub mod copies;
pub mod dead;
pub mod deletes;
#[cfg(feature = "demo")]
pub mod demo;
pub mod doctor;
pub mod exit;
pub mod output;
pub mod parked;
pub mod pause;
pub mod remove;
pub mod rules;
pub mod run;
pub mod status;
pub mod topics;
pub mod validate;

use crate::config::{Config, Connectors, Machine, Problems, Surroundings};
use crate::connectors;
use crate::govern::{AllowAll, Policy};
use crate::runtime::error::{Code, Error, Result};
use args::{Args, Common, Verb};
use clap::Parser;
use exit::Exit;
use output::Output;
use serde_json::json;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

/// What verbs work with besides their arguments.
#[derive(Clone, Copy)]
pub struct Program<'a> {
    /// The connectors there are.
    pub connectors: Connectors<'a>,
    /// What may flow where.
    pub policy: &'static dyn Policy,
    /// Environment and files.
    pub around: &'a dyn Surroundings,
}

impl Program<'_> {
    /// Reads the configuration that was named.
    ///
    /// # Errors
    /// All its problems.
    pub fn configuration(&self, common: &Common) -> std::result::Result<Config, Problems> {
        Config::load(&common.config, self.connectors, self.policy, self.around)
    }
}

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let connectors = Connectors { compiled: connectors::ALL, known: connectors::KNOWN };
    let program = Program { connectors, policy: &AllowAll, around: &Machine };
    run(std::env::args_os(), program, &mut std::io::stdout().lock(), &mut std::io::stderr()).into()
}

/// Carries out what was typed.
pub fn run(
    typed: impl IntoIterator<Item = OsString>,
    program: Program<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Exit {
    let args = match Args::try_parse_from(typed) {
        Ok(args) => args,
        Err(error) => {
            // Help and version are answers; everything else is a mistake.
            let to: &mut dyn Write = if error.use_stderr() { err } else { out };
            drop(write!(to, "{error}"));
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let mut output = Output::new(args.common.json, out, err);
    carry_out(&args, program, &mut output).unwrap_or_else(|error| tell(&error, &mut output))
}

fn carry_out(args: &Args, program: Program<'_>, output: &mut Output<'_>) -> Result<Exit> {
    let common = &args.common;
    match &args.verb {
        Verb::Validate(verb) => Ok(verb.run(common, program, output)),
        Verb::Config(verb) => verb.run(common, program, output),
        Verb::Run(verb) => verb.run(common, program, output),
        #[cfg(feature = "demo")]
        Verb::Demo(verb) => verb.run(common, program, output),
        Verb::Status(verb) => verb.run(common, program, output),
        Verb::Doctor(verb) => verb.run(common, program, output),
        Verb::Topics(verb) => verb.run(common, program, output),
        Verb::Conflicts(verb) => verb.run(common, program, output),
        Verb::Rules(verb) => verb.run(common, program, output),
        Verb::Pause(verb) => verb.run(common, program, output, true),
        Verb::Resume(verb) => verb.run(common, program, output, false),
        Verb::Deletes(verb) => verb.run(common, program, output),
        Verb::Dead(verb) => verb.run(common, program, output),
        Verb::Parked(verb) => verb.run(common, program, output),
        Verb::Remove(verb) => verb.run(common, program, output),
        Verb::Bench(verb) => verb.run(common, program, output),
    }
}

/// The configuration that was named, its problems told as one error.
///
/// # Errors
/// If there are any.
pub fn configuration(common: &Common, program: Program<'_>) -> Result<Config> {
    program.configuration(common).map_err(Error::from)
}

/// The dataset that was named, if it is in the configuration.
///
/// # Errors
/// If it is not.
pub fn of_dataset<'n>(config: &Config, name: Option<&'n str>) -> Result<Option<&'n str>> {
    match name.filter(|name| config.dataset(name).is_none()) {
        Some(name) => {
            let text = format!("there is no dataset `{name}` in the configuration");
            Err(Error::new(Code::ConfigMissing, text))
        }
        None => Ok(name),
    }
}

/// The tasks of a verb run here.
///
/// # Errors
/// If the system gives no threads.
pub fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Code::Unexpected, "the system gave no threads to work with").caused_by(error))
}

/// Tells an error and how the program ends with it.
fn tell(error: &Error, output: &mut Output<'_>) -> Exit {
    let places: serde_json::Map<_, _> = error.at.iter().map(|(k, v)| ((*k).into(), v.as_str().into())).collect();
    let told = json!({"error": {"code": error.code.as_str(), "text": error.doing, "at": places}});
    if output.json() {
        output.answer(&told, "");
    }
    let mut text = format!("error: {error}");
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        text.push_str(&format!("\n  because: {source}"));
        cause = source.source();
    }
    // A configuration's problems say what to do themselves.
    if !matches!(error.code, Code::ConfigInvalid | Code::ConfigMissing | Code::ConfigUnsupported) {
        text.push_str(&format!("\n  see docs/errors/{}.md", error.code.as_str()));
    }
    output.say(&text);
    Exit::of(error.code)
}

#[cfg(test)]
mod tests;
