//! What driftless is told to do. Files are read into located trees (`tree`, `load`), the trees into
//! types that cannot be wrong (`platform`, `dataset`, `log` …), and what only shows across them is
//! checked here. All problems of all files are reported together, each with file, line and path.
//!
//! Loading performs no I/O but reading the files and the secrets they name. Whether this version can
//! *run* what was loaded is asked separately, by `readiness`.

pub mod collection;
pub mod custom;
pub mod dataset;
pub mod errors;
pub mod load;
pub mod log;
pub mod merge;
pub mod platform;
pub mod readiness;
pub mod redact;
pub mod sync;

mod section;
mod tree;

#[cfg(test)]
pub(crate) mod tests;

pub use collection::{Collection, Mask};
pub use dataset::{Dataset, Part};
pub use errors::{At, Problem, Problems};
pub use load::{Machine, Surroundings};
pub use log::{Log, LogPlace};
pub use platform::{Access, Connectors, Platform};
pub use sync::{Bootstrap, ConflictResolution, Direction, Mode, OnLocalEdit, Schedule, SchemaChanges, Truncate};

use crate::govern::{self, Party, Policy};
use crate::runtime::error::Code;
use errors::Sink;
use indexmap::IndexMap;
use section::{Item, Section, check_name};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use sync::Defaults;

/// The whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether anything is to be synchronised at all.
    pub enabled: bool,
    /// Where that stands, or the first file.
    pub enabled_at: At,
    /// Where local files lie that are no platform's.
    pub data_dir: PathBuf,
    /// Memory for what is known of each key, in MiB; what goes beyond lies below `data_dir`.
    pub memory_mb: u32,
    /// The log.
    pub log: Log,
    /// Where the HTTP listener listens.
    pub http: SocketAddr,
    /// The platforms by name, in the order of the files.
    pub platforms: IndexMap<String, Platform>,
    /// The datasets in the order of the files.
    pub datasets: Vec<Dataset>,
    /// The files it was read from.
    pub files: Vec<String>,
}

/// The top-level keys that may stand once in all documents together.
const SINGLE: [&str; 5] = ["synchronization", "log", "http", "data-dir", "memory-mb"];

/// Memory for what is known of each key, in MiB, if nothing is said.
pub const MEMORY_MB: u32 = 64;

impl Config {
    /// Reads `files` together; each may hold several documents.
    ///
    /// # Errors
    /// All problems, in the order of files and lines.
    pub fn load(
        files: &[String],
        connectors: Connectors<'_>,
        policy: &dyn Policy,
        around: &dyn Surroundings,
    ) -> Result<Config, Problems> {
        let sink = Sink::default();
        let documents = load::documents(files, around, &sink);
        let section = |node| Item::root(node, &sink).section("a map of settings");
        let sections: Vec<Section<'_>> = documents.iter().filter_map(section).collect();
        let single = single_keys(&sections);
        let section = |key, what| single.get(key).and_then(|item: &Item<'_>| item.section(what));

        let synchronization = section("synchronization", "the settings of synchronization");
        let enabled_at = synchronization.as_ref().map(|section| section.line_of("enabled").clone());
        let enabled_at = enabled_at.unwrap_or_else(|| At::file(files.first().map_or("", String::as_str)));
        let defaults = synchronization.map(Defaults::read).unwrap_or_default();
        let data_dir = single.get("data-dir").and_then(|item| item.text("the path of a folder"));
        let data_dir = PathBuf::from(data_dir.unwrap_or_else(|| "driftless-data".into()));
        let memory_mb = single.get("memory-mb").and_then(|item| item.number(1, 1 << 20)).unwrap_or(MEMORY_MB);
        let log = section("log", "the settings of the log");
        let log = log.map_or_else(|| Log::plain(&data_dir), |section| Log::read(section, &data_dir));
        let http = section("http", "the settings of the HTTP listener").and_then(http);
        let http = http.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 7420)));
        let platforms = platforms(&sections, connectors);
        let datasets = datasets(&sections, &defaults);
        sections.into_iter().for_each(Section::finish);

        let (enabled, files) = (defaults.enabled, files.to_vec());
        let config = Config { enabled, enabled_at, data_dir, memory_mb, log, http, platforms, datasets, files };
        config.check(policy, &sink);
        sink.into_result().map(|()| config)
    }

    /// The dataset called `name`.
    #[must_use]
    pub fn dataset(&self, name: &str) -> Option<&Dataset> {
        self.datasets.iter().find(|d| d.name == name)
    }

    /// The effective configuration, secrets blanked out. Where there are none, loading it again gives
    /// the same configuration.
    #[must_use]
    pub fn shown(&self) -> Value {
        let platform = |p: &Platform| {
            let mut all = json!({"type": p.kind(), "access": p.access});
            let labels = serde_json::to_value(&p.labels).unwrap_or_default();
            for more in [&labels, p.settings.shown()] {
                for (key, value) in more.as_object().into_iter().flatten() {
                    all[key] = value.clone();
                }
            }
            (p.name.clone(), all)
        };
        json!({
            "data-dir": self.data_dir,
            "memory-mb": self.memory_mb,
            "http": {"listen": self.http.to_string()},
            "log": self.log.shown(),
            "synchronization": {"enabled": self.enabled},
            "platforms": self.platforms.values().map(platform).collect::<serde_json::Map<_, _>>(),
            "datasets": self.datasets,
        })
    }

    /// What only shows across platforms and datasets. Platforms that are not defined are left to
    /// `readiness` (who-1).
    fn check(&self, policy: &dyn Policy, sink: &Sink) {
        for dataset in &self.datasets {
            let lines = &dataset.lines;
            for platform in dataset.platforms().filter_map(|name| self.platforms.get(name)) {
                let part = dataset.part(platform);
                let key = if platform.name == dataset.source { "source" } else { "destinations" };
                let path = format!("{}.{key}", lines.path);
                if key == "destinations" && !part.receives {
                    let text =
                        format!("`{}` cannot be written: its connector or its `access` forbids it", platform.name);
                    sink.invalid(lines.of(key), &path, text);
                }
                if key == "source" && !part.proposes {
                    let text = format!("`{}` cannot be read: its connector or its `access` forbids it", platform.name);
                    sink.invalid(lines.of(key), &path, text);
                }
                check_guarantee(dataset, platform, sink);
                if part.receives {
                    let (from, to) = (Party { name: &dataset.name, labels: &dataset.labels }, platform.party());
                    if let Err(refusal) = govern::may_flow(policy, from, to) {
                        let govern::Reason { rule, text } = refusal.reason;
                        let text = format!("the policy forbids the flow to `{}` ({rule}): {text}", refusal.platform);
                        sink.report(Code::FlowForbidden, lines.of(key), &path, text);
                    }
                }
            }
        }
    }
}

impl Platform {
    /// The platform as `govern` sees it.
    #[must_use]
    pub fn party(&self) -> Party<'_> {
        Party { name: &self.name, labels: &self.labels }
    }
}

/// who-3: `exact` and `safe` ask for a least level; `exclusive` for destinations that nobody else writes,
/// of a kind that keeps its mark with its rows.
fn check_guarantee(dataset: &Dataset, platform: &Platform, sink: &Sink) {
    use crate::connectors::contract::Guarantee::{Exact, Exclusive, Safe};
    let (reached, part) = (platform.abilities().guarantee, dataset.part(platform));
    let name = &platform.name;
    let problem = match dataset.guarantee {
        Some(Exact) if reached != Exact => format!("`{name}` only reaches `{}`", dataset::guarantee_name(reached)),
        Some(Safe) if reached == Exclusive => format!("`{name}` only reaches `{}`", dataset::guarantee_name(reached)),
        Some(Exclusive) if part.guarantee == Exclusive && part.proposes => format!(
            "`exclusive` means that nobody else writes the destinations, and changes of `{name}` would be captured; \
             expected `direction: one-way`, or `access: write` on the platform"
        ),
        Some(Exclusive) if part.guarantee == Exclusive && !platform.abilities().exclusive => {
            format!("{} cannot be an exclusive destination: it keeps no mark with its rows", platform.kind())
        }
        Some(_) | None => return,
    };
    if part.receives {
        sink.invalid(dataset.lines.of("guarantee"), &format!("{}.guarantee", dataset.lines.path), problem);
    }
}

/// The keys that may stand once in all documents together.
fn single_keys<'a>(sections: &[Section<'a>]) -> BTreeMap<&'static str, Item<'a>> {
    let mut single: BTreeMap<&'static str, Item<'a>> = BTreeMap::new();
    for section in sections {
        for key in SINGLE {
            let Some(item) = section.item(key) else { continue };
            match single.get(key) {
                Some(earlier) => {
                    section.problem(key, format!("stands at {} already; expected once", earlier.node.at));
                }
                None => {
                    single.insert(key, item);
                }
            }
        }
    }
    single
}

fn http(section: Section<'_>) -> Option<SocketAddr> {
    let listen = section.item("listen").and_then(|item| {
        let text = item.text("an address such as 127.0.0.1:7420")?;
        let address = text.parse().ok();
        if address.is_none() {
            item.problem(format!("expected an address such as 127.0.0.1:7420, found {}", item.node.found()));
        }
        address
    });
    section.finish();
    listen
}

fn platforms(sections: &[Section<'_>], connectors: Connectors<'_>) -> IndexMap<String, Platform> {
    let mut platforms: IndexMap<String, Platform> = IndexMap::new();
    for all in sections.iter().filter_map(|s| s.item("platforms")).filter_map(|i| i.section("a map of platforms")) {
        let mut here = Vec::new();
        for (entry, item) in all.entries() {
            if let Err(why) = check_name(&entry.key, &format!("`{}`", entry.key.escape_debug()), "platform") {
                all.problem(&entry.key, why);
            }
            let Some(section) = item.section("the settings of a platform") else { continue };
            let Some(platform) = Platform::read(entry.key.clone(), section, connectors) else { continue };
            match platforms.get(&entry.key) {
                // A second one in the same map was reported as a key that stands twice.
                Some(_) if here.contains(&&entry.key) => {}
                Some(earlier) => {
                    all.problem(&entry.key, format!("is defined at {} already; expected once", earlier.at))
                }
                None => {
                    here.push(&entry.key);
                    platforms.insert(entry.key.clone(), platform);
                }
            }
        }
    }
    platforms
}

fn datasets(sections: &[Section<'_>], defaults: &Defaults) -> Vec<Dataset> {
    let mut datasets: Vec<Dataset> = Vec::new();
    let mut items = Vec::new();
    for section in sections {
        items.extend(section.item("dataset"));
        items.extend(section.item("datasets").and_then(|item| item.list("a list of datasets")).into_iter().flatten());
    }
    for item in items {
        let Some(dataset) = item.section("a dataset").and_then(|s| Dataset::read(s, defaults)) else { continue };
        match datasets.iter().find(|d| d.name == dataset.name) {
            Some(earlier) => {
                let text = format!("another dataset at {} is called `{}`", earlier.lines.of(""), dataset.name);
                item.problem(format!("{text}; expected different names"));
            }
            None => datasets.push(dataset),
        }
    }
    datasets
}
