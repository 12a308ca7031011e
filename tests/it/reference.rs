//! The reference of the command line is made from the command line itself.

use clap::{Command, CommandFactory};
use driftless::cli::args::Args;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

fn describe(command: &Command, path: &str, out: &mut String) {
    let name = format!("{path}{}", command.get_name());
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    write!(out, "\n## `{name}`\n\n{about}\n").unwrap();
    let own =
        command.get_arguments().filter(|a| !a.is_hide_set() && !["help", "version"].contains(&a.get_id().as_str()));
    let own: Vec<_> = own.filter(|argument| path.is_empty() || !argument.is_global_set()).collect();
    if !own.is_empty() {
        out.push_str("\n| argument | meaning |\n|---|---|\n");
    }
    for argument in own {
        let value = argument.get_value_names().and_then(|names| names.first()).map(ToString::to_string);
        let value = value.filter(|_| argument.get_action().takes_values()).map(|name| format!(" {name}"));
        let shown = match argument.get_long() {
            Some(long) => format!("--{long}{}", value.unwrap_or_default()),
            None => value.unwrap_or_default().trim().to_owned(),
        };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        writeln!(out, "| `{shown}` | {} |", help.replace('|', "\\|")).unwrap();
    }
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        describe(verb, &format!("{name} "), out);
    }
}

#[test]
fn the_reference_of_the_command_line_is_what_the_program_says() {
    let mut text = String::from("# Command line\n\nMade from the program by `tests/it/reference.rs`; do not edit.\n\n");
    text.push_str("Exit codes: 0 done, 1 tried and failed, 2 the configuration or the command is wrong, 3 the surroundings are.\n");
    describe(&Args::command(), "", &mut text);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference/cli.md");
    if fs::read_to_string(&file).unwrap_or_default() != text {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        panic!("{} was out of date and is written anew; look at it and commit it", file.display());
    }
}
