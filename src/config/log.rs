//! Where the log is: embedded unless Kafka is configured.

use super::redact::Settings;
use super::section::{Item, Section};
use super::tree::Content;
use crate::runtime::error::Code;
use crate::topic::Compression;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The log all topics lie in.
#[derive(Clone, PartialEq, Debug)]
pub struct Log {
    /// What all topic names begin with.
    pub prefix: String,
    /// How messages are compressed.
    pub compression: Compression,
    /// Which log it is.
    pub place: LogPlace,
}

/// Which log.
#[derive(Clone, PartialEq, Debug)]
pub enum LogPlace {
    /// In this process, durable in a folder.
    Embedded {
        /// The folder.
        path: PathBuf,
    },
    /// Apache Kafka.
    Kafka {
        /// `host:port`, separated by commas.
        brokers: String,
        /// The URL of a schema registry; without one the schemas lie in the log.
        registry: Option<Settings>,
        /// Settings for librdkafka under its own names, all texts.
        settings: Settings,
    },
}

impl LogPlace {
    /// The URL of the schema registry, secrets included, if one is configured.
    #[must_use]
    pub fn registry(&self) -> Option<&str> {
        let LogPlace::Kafka { registry, .. } = self else { return None };
        registry.as_ref().and_then(|registry| registry.open().as_str())
    }

    /// The settings passed through to librdkafka, secrets included; empty for the embedded log.
    #[must_use]
    pub fn librdkafka(&self) -> BTreeMap<String, String> {
        let LogPlace::Kafka { settings, .. } = self else { return BTreeMap::new() };
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), Into::into);
        settings.open().as_object().into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect()
    }
}

/// Settings of librdkafka that the protocol needs to be as they are.
const FIXED: [&str; 9] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "enable.idempotence",
    "acks",
    "request.required.acks",
    "transactional.id",
    "group.id",
    "enable.auto.commit",
    "auto.offset.reset",
];

/// Letters a prefix may have: what a topic name may have. With the longest names of a dataset, a
/// collection and a platform the topic name stays below Kafka's 249 characters.
const PREFIX_MAX: usize = 40;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Embedded,
    Kafka,
}

impl Log {
    pub(super) fn plain(data_dir: &Path) -> Self {
        Log {
            prefix: "driftless".into(),
            compression: Compression::default(),
            place: LogPlace::Embedded { path: data_dir.join("log") },
        }
    }

    pub(super) fn read(section: Section<'_>, data_dir: &Path) -> Self {
        let plain = Log::plain(data_dir);
        let kind =
            section.item("type").and_then(|item| item.choice(&[("embedded", Kind::Embedded), ("kafka", Kind::Kafka)]));
        let prefix = section.or("prefix", plain.prefix, prefix);
        let compression = compression(&section);
        let path = section.item("path").and_then(|item| item.text("the path of a folder"));
        let brokers = section.item("brokers").and_then(|item| brokers(&item));
        let registry = section.item("registry").filter(|item| item.text("a URL").is_some());
        let registry = registry.map(|item| Settings::of(item.node));
        let settings = section.item("settings");
        let kafka = kind.unwrap_or(if brokers.is_some() { Kind::Kafka } else { Kind::Embedded }) == Kind::Kafka;
        for key in if kafka { &["path"][..] } else { &["brokers", "registry", "settings"][..] } {
            if section.item(key).is_some() {
                let (this, other) = if kafka { ("kafka", "embedded") } else { ("embedded", "kafka") };
                section.problem(key, format!("belongs to `type: {other}`; the log here is {this}"));
            }
        }
        let place = if kafka {
            if brokers.is_none() && section.item("brokers").is_none() {
                section.problem("brokers", "missing; expected host:port, or a list of them");
            }
            if !cfg!(feature = "kafka") {
                let text = "the log `kafka` exists but was not compiled in; build with `--features kafka`";
                section.problem_of(Code::ConfigUnsupported, "type", text);
            }
            let settings = settings.and_then(|item| librdkafka(&item));
            let settings = settings.unwrap_or_else(|| Settings::of_entries(std::iter::empty()));
            LogPlace::Kafka { brokers: brokers.unwrap_or_default(), registry, settings }
        } else {
            path.map_or(plain.place, |path| LogPlace::Embedded { path: path.into() })
        };
        section.finish();
        Log { prefix, compression, place }
    }

    pub(super) fn shown(&self) -> Value {
        let mut all = match &self.place {
            LogPlace::Embedded { path } => json!({"type": "embedded", "path": path}),
            LogPlace::Kafka { brokers, registry, settings } => {
                let mut all = json!({"type": "kafka", "brokers": brokers, "settings": settings});
                if let Some(registry) = registry {
                    all["registry"] = registry.shown().clone();
                }
                all
            }
        };
        all["prefix"] = self.prefix.clone().into();
        let (name, level) = match self.compression {
            Compression::None => ("none", None),
            Compression::Lz4 => ("lz4", None),
            Compression::Zstd(level) => ("zstd", Some(level)),
        };
        all["compression"] = name.into();
        if let Some(level) = level {
            all["level"] = level.into();
        }
        all
    }
}

fn prefix(item: &Item<'_>) -> Option<String> {
    let text = item.text("what topic names begin with")?;
    let fits = text.len() <= PREFIX_MAX
        && text.chars().all(|c| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c))
        && !text.starts_with('.')
        && !text.ends_with('.');
    if fits {
        return Some(text);
    }
    item.problem(format!(
        "{} cannot begin topic names: expected up to {PREFIX_MAX} of a-z, A-Z, 0-9, `.`, `_` and `-`",
        item.node.found()
    ));
    None
}

fn compression(section: &Section<'_>) -> Compression {
    #[derive(Clone, Copy, PartialEq)]
    enum Codec {
        None,
        Lz4,
        Zstd,
    }
    let words = [("none", Codec::None), ("lz4", Codec::Lz4), ("zstd", Codec::Zstd)];
    let codec = section.or("compression", Codec::Lz4, |item| item.choice(&words));
    let level = section.item("level").and_then(|item| item.number(1, 22));
    match codec {
        Codec::Zstd => Compression::Zstd(level.and_then(|l| i32::try_from(l).ok()).unwrap_or(3)),
        other => {
            if level.is_some() {
                section.problem("level", "only `compression: zstd` has levels");
            }
            if other == Codec::None { Compression::None } else { Compression::Lz4 }
        }
    }
}

fn brokers(item: &Item<'_>) -> Option<String> {
    let mut all = Vec::new();
    for (text, item) in item.texts("host:port, or a list of them")? {
        for broker in text.split(',').map(str::trim) {
            let port =
                broker.rsplit_once(':').and_then(|(host, port)| port.parse::<u16>().ok().filter(|_| !host.is_empty()));
            if port.is_none() {
                item.problem(format!("expected host:port, found {}", item.node.found()));
            }
            all.push(broker.to_owned());
        }
    }
    if all.is_empty() {
        item.problem("expected host:port, found an empty list");
        return None;
    }
    Some(all.join(","))
}

fn librdkafka(item: &Item<'_>) -> Option<Settings> {
    let section = item.section("settings of librdkafka under their own names")?;
    for (entry, item) in section.entries() {
        if FIXED.contains(&entry.key.as_str()) {
            section.problem(&entry.key, "is set by driftless, because its guarantees rest on it; remove this line");
        } else if matches!(item.node.content, Content::List(_) | Content::Map(_) | Content::Null) {
            item.problem(format!("expected a single value, found {}", item.node.found()));
        }
    }
    Some(Settings::of(item.node))
}

impl Serialize for Log {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shown().serialize(serializer)
    }
}
