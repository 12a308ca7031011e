//! `driftless config show`: the effective configuration, defaults filled in and secrets blanked out.

use super::Program;
use super::args::Common;
use super::exit::Exit;
use super::output::Output;
use crate::runtime::error::{Code, Error, Result};
use clap::Subcommand;

/// What can be done with the configuration.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Print the effective configuration, secrets blanked out
    Show,
}

impl Verb {
    pub(super) fn run(&self, common: &Common, program: Program<'_>, output: &mut Output<'_>) -> Result<Exit> {
        match self {
            Verb::Show => {
                let shown = program.configuration(common)?.shown();
                let text = serde_saphyr::to_string(&shown).map_err(|error| {
                    Error::new(Code::Unexpected, "the configuration cannot be written as YAML; try --json")
                        .caused_by(error)
                })?;
                output.answer(&shown, &text);
                Ok(Exit::Done)
            }
        }
    }
}
