//! A platform: what kind it is, whether it is read and written, and its connector's own settings,
//! which only the connector understands.

use super::errors::{At, alternatives, suggestion};
use super::redact::Settings;
use super::section::Section;
use crate::connectors::contract::{Abilities, Connector, Descriptor};
use crate::govern::Labels;
use crate::runtime::error::{Code, Error, Result};
use serde::Serialize;
use std::fmt;

/// What driftless may do on a platform.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Capture its changes only.
    Read,
    /// Apply changes only.
    Write,
    /// Both.
    #[default]
    Both,
}

const ACCESSES: [(&str, Access); 3] = [("read", Access::Read), ("write", Access::Write), ("both", Access::Both)];

/// The connectors a configuration may name.
#[derive(Clone, Copy)]
pub struct Connectors<'a> {
    /// Those in this program.
    pub compiled: &'a [&'a Descriptor],
    /// The names of all that exist, whether compiled in or not.
    pub known: &'a [&'a str],
}

/// A configured platform.
#[derive(Clone)]
pub struct Platform {
    /// Its name.
    pub name: String,
    /// Where it is configured.
    pub at: At,
    /// What it may be used for.
    pub access: Access,
    /// Its governance labels.
    pub labels: Labels,
    /// What its connector is told.
    pub settings: Settings,
    descriptor: Descriptor,
}

impl Platform {
    /// The `type`: its connector's name.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        self.descriptor.name
    }

    /// What its connector can do.
    #[must_use]
    pub const fn abilities(&self) -> Abilities {
        self.descriptor.abilities
    }

    /// Makes its connector; performs no I/O.
    ///
    /// # Errors
    /// As the connector finds them in the settings.
    pub fn connector(&self) -> Result<Box<dyn Connector>> {
        (self.descriptor.open)(self.settings.open().clone(), &self.name)
    }

    /// Whether its changes can and may be captured.
    #[must_use]
    pub fn captures(&self) -> bool {
        self.abilities().capture.is_some() && self.access != Access::Write
    }

    /// Whether changes can and may be applied to it.
    #[must_use]
    pub fn applies(&self) -> bool {
        self.abilities().apply && self.access != Access::Read
    }

    pub(super) fn read(name: String, section: Section<'_>, connectors: Connectors<'_>) -> Option<Self> {
        let kind = section.required("type", "the kind of platform");
        let kind = kind.and_then(|item| item.text("the kind of platform").map(|kind| (kind, item.node.found())));
        let access = section.or("access", Access::default(), |item| item.choice(&ACCESSES));
        let labels = section.labels();
        let settings = section.rest();
        let descriptor = find(kind?, &section, connectors)?;
        let at = section.at.clone();
        let platform = Platform { name, at, access, labels, settings, descriptor };
        platform.check(&section);
        Some(platform)
    }

    /// Lets the connector look at its settings, and access at its abilities.
    fn check(&self, section: &Section<'_>) {
        if let Err(error) = self.connector() {
            let mut text = error.doing.clone();
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            // These two name a key and nothing else; other causes may quote values.
            if let Some(cause) = cause.filter(|c| c.starts_with("unknown field") || c.starts_with("missing field")) {
                text = format!("{text}; {cause}");
            }
            match blamed(&error, &text, self.kind()) {
                Some(setting) => section.problem_of(error.code, &setting, self.settings.cleaned(&text)),
                None => section.report(error.code, self.settings.cleaned(&text)),
            }
        }
        let Abilities { capture, apply, .. } = self.abilities();
        if self.access == Access::Read && capture.is_none() {
            section.problem("access", format!("`read` is not possible: {} cannot tell of its changes", self.kind()));
        }
        if self.access == Access::Write && !apply {
            section.problem("access", format!("`write` is not possible: {} cannot be written", self.kind()));
        }
    }
}

impl fmt::Debug for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {:?}", self.name, self.kind(), self.settings)
    }
}

/// The setting a connector's error is about: named in `at`, or the text begins with it, or it is the
/// field that serde does not know or misses.
fn blamed(error: &Error, text: &str, kind: &str) -> Option<String> {
    if let Some((_, setting)) = error.at.iter().find(|(what, _)| *what == "setting") {
        return Some(setting.clone());
    }
    let field = ["unknown field `", "missing field `"].iter().find_map(|what| text.split_once(what));
    if let Some((field, _)) = field.and_then(|(_, rest)| rest.split_once('`')) {
        return Some(field.into());
    }
    let is_key = |word: &&str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    // Some begin with the connector's own name instead.
    text.split_once(": ").map(|(word, _)| word).filter(is_key).filter(|word| *word != kind).map(str::to_owned)
}

fn find((kind, shown): (String, String), section: &Section<'_>, connectors: Connectors<'_>) -> Option<Descriptor> {
    let compiled = connectors.compiled.iter().find(|d| d.name == kind);
    if compiled.is_none() {
        let here = alternatives(connectors.compiled.iter().map(|d| d.name));
        if connectors.known.contains(&kind.as_str()) {
            let text = format!(
                "the connector `{kind}` exists but was not compiled in; build with `--features {kind}`; in this program: {here}"
            );
            section.problem_of(Code::ConfigUnsupported, "type", text);
        } else {
            let guess = suggestion(&kind, connectors.compiled.iter().map(|d| d.name));
            section.problem("type", format!("unknown connector {shown}{guess}; expected {here}"));
        }
    }
    compiled.map(|d| **d)
}
