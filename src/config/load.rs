//! From files to trees: reads the files, then replaces `${NAME}`, `${NAME:-default}` and `file:path`
//! in every text. A resolved text is never resolved again, so a password may contain `${`.
//! `$${` stands for `${` itself. Relative paths count from the working directory, here as everywhere.

use super::errors::{At, Sink};
use super::redact::{HIDDEN, is_secret_name};
use super::tree::{self, Content, Node, Text};
use crate::runtime::error::Code;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What the loader may ask of its surroundings.
pub trait Surroundings {
    /// A variable of the environment; `None` if it is not set.
    fn variable(&self, name: &str) -> Option<String>;

    /// The text of a file.
    ///
    /// # Errors
    /// As the file system has them.
    fn read(&self, path: &Path) -> io::Result<String>;
}

/// The process's own environment and file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine;

impl Surroundings for Machine {
    fn variable(&self, name: &str) -> Option<String> {
        #[expect(clippy::disallowed_methods, reason = "configuration is where the environment is read")]
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        std::fs::read_to_string(path)
    }
}

/// The documents of all files, with everything resolved.
pub(super) fn documents(files: &[String], around: &dyn Surroundings, sink: &Sink) -> Vec<Node> {
    let mut documents = Vec::new();
    for file in files {
        match around.read(Path::new(file)) {
            Ok(text) => documents.extend(tree::parse(&Arc::from(file.as_str()), &text, sink)),
            Err(error) => sink.report(
                Code::ConfigMissing,
                &At::file(file),
                "",
                format!("the configuration cannot be read ({error}); name it with --config"),
            ),
        }
    }
    for document in &mut documents {
        resolve(document, "", around, sink);
    }
    documents
}

fn resolve(node: &mut Node, path: &str, around: &dyn Surroundings, sink: &Sink) {
    let Node { at, content } = node;
    match content {
        Content::Text(text) => match resolved(&text.value, around) {
            Ok(Some(new)) => *text = new,
            Ok(None) => {}
            Err(why) => sink.invalid(at, path, why),
        },
        Content::List(items) => {
            for (i, item) in items.iter_mut().enumerate() {
                resolve(item, &format!("{path}[{i}]"), around, sink);
            }
        }
        Content::Map(entries) => {
            for entry in entries {
                let dot = if path.is_empty() { "" } else { "." };
                resolve(&mut entry.node, &format!("{path}{dot}{}", entry.key), around, sink);
            }
        }
        Content::Null | Content::Bool(_) | Content::Int(_) | Content::Float(_) => {}
    }
}

fn resolved(text: &str, around: &dyn Surroundings) -> Result<Option<Text>, String> {
    if let Some(path) = text.strip_prefix("file:") {
        let secret = around
            .read(Path::new(path))
            .map_err(|error| format!("the file `{path}` named here cannot be read: {error}"))?;
        let value = secret.trim_end_matches(['\n', '\r']).to_owned();
        return Ok(Some(Text { value, shown: HIDDEN.into(), resolved: true }));
    }
    if text.contains("${") { substituted(text, around).map(Some) } else { Ok(None) }
}

fn substituted(text: &str, around: &dyn Surroundings) -> Result<Text, String> {
    let mut out = Text { value: String::new(), shown: String::new(), resolved: true };
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once("${") {
        if let Some(before) = before.strip_suffix('$') {
            out.value.push_str(&format!("{before}${{"));
            out.shown.push_str(&format!("{before}${{"));
            rest = behind;
            continue;
        }
        let (inside, after) = behind
            .split_once('}')
            .ok_or_else(|| "`${` without `}`: expected ${NAME}; write $${ for the characters themselves".to_owned())?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!("`${{{name}}}` names no variable: expected letters, digits and `_`"));
        }
        let value = around.variable(name).filter(|value| default.is_none() || !value.is_empty());
        let value = value.or_else(|| default.map(Into::into)).ok_or_else(|| {
            format!("the environment variable {name} is not set; set it, or give a default: ${{{name}:-default}}")
        })?;
        out.value.push_str(&format!("{before}{value}"));
        out.shown.push_str(&format!("{before}{}", if is_secret_name(name) { HIDDEN } else { &value }));
        rest = after;
    }
    out.value.push_str(rest);
    out.shown.push_str(rest);
    Ok(out)
}
