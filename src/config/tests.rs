//! What loads, what is refused and in which words.

mod examples;
mod refusals;
mod secrets;
mod sides;

use super::*;
use crate::connectors::contract::{
    Abilities, Capture, Connector, Descriptor, Finding, Guarantee, Opened, Place, Scope,
};
use crate::event::Schema;
use crate::govern::{AllowAll, Labels, Reason};
use crate::runtime::error::{Error, Result as Res};
use proptest::prelude::*;
use std::io;
use std::path::Path;

/// Checks settings in the ways real connectors do, and opens nothing.
fn open(settings: Value, _platform: &str) -> Res<Box<dyn Connector>> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[expect(dead_code, reason = "only its presence is asked for")]
        path: String,
    }
    let wrong = |text: &str| Error::new(Code::ConfigInvalid, text);
    match settings.get("path") {
        Some(Value::Number(_)) => return Err(wrong("expected a path").at("setting", "path")),
        Some(Value::Bool(_)) => return Err(wrong("path: expected an absolute path")),
        _ => {}
    }
    if let Some(told) = settings.get("tell").and_then(Value::as_str) {
        return Err(wrong(&format!("this is told: {told}")));
    }
    if let Some(strict) = settings.get("strict") {
        serde_json::from_value::<Strict>(strict.clone()).map_err(|e| wrong("not understood").caused_by(e))?;
    }
    Ok(Box::new(Nothing))
}

struct Nothing;

#[async_trait::async_trait]
impl Connector for Nothing {
    async fn check(&self, _: Option<&Scope>) -> Res<Vec<Finding>> {
        Ok(Vec::new())
    }

    async fn schema(&self, _: &Place) -> Res<Option<Schema>> {
        Ok(None)
    }

    async fn open(&self, _: &Scope) -> Res<Opened> {
        Err(Error::new(Code::Unexpected, "not in this test"))
    }

    async fn remove(&self, _: &Scope) -> Res<Vec<Finding>> {
        Ok(Vec::new())
    }
}

const fn descriptor(name: &'static str, capture: Option<Capture>, apply: bool, guarantee: Guarantee) -> Descriptor {
    let exclusive = !matches!(capture, Some(Capture::Hint));
    Descriptor { name, abilities: Abilities { capture, apply, guarantee, exclusive }, open }
}

static SQLITE: Descriptor = descriptor("sqlite", Some(Capture::Log), true, Guarantee::Exact);
static FILESYSTEM: Descriptor = descriptor("filesystem", Some(Capture::Hint), true, Guarantee::Safe);
static POSTGRES: Descriptor = descriptor("postgres", Some(Capture::Log), true, Guarantee::Exact);
static WEBHOOK: Descriptor = descriptor("webhook", None, true, Guarantee::Exclusive);

pub(crate) const CONNECTORS: Connectors<'_> = Connectors {
    compiled: &[&SQLITE, &FILESYSTEM, &POSTGRES, &WEBHOOK],
    known: &["sqlite", "filesystem", "postgres", "webhook", "mysql"],
};

/// Files and variables of a test.
#[derive(Default)]
pub(crate) struct Fake {
    files: BTreeMap<String, String>,
    variables: BTreeMap<String, String>,
}

impl Fake {
    pub(crate) fn with(file: &str, text: &str) -> Self {
        Fake::default().and(file, text)
    }

    fn and(mut self, file: &str, text: &str) -> Self {
        self.files.insert(file.into(), text.into());
        self
    }

    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    fn load(&self, files: &[&str]) -> Result<Config, Problems> {
        let files: Vec<String> = files.iter().map(|f| (*f).into()).collect();
        Config::load(&files, CONNECTORS, &AllowAll, self)
    }
}

impl Surroundings for Fake {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).cloned()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let text = path.to_str().and_then(|path| self.files.get(path));
        text.cloned().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such file"))
    }
}

fn load(text: &str) -> Result<Config, Problems> {
    Fake::with("c.yaml", text).load(&["c.yaml"])
}

fn problems(text: &str) -> String {
    load(text).map(|config| config.shown()).unwrap_err().to_string()
}

const TWO: &str = "platforms:\n  a: {type: sqlite}\n  b: {type: filesystem}\n";
