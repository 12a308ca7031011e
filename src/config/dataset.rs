//! A dataset: which platforms hold it, how it is kept the same, and its collections.

use super::collection::Collection;
use super::custom::CustomRule;
use super::errors::{At, alternatives, suggestion};
use super::merge::MergeRules;
use super::platform::Platform;
use super::section::{Item, Section};
use super::sync::{
    BATCH_SIZE_MAX, BOOTSTRAPS, Bootstrap, ConflictResolution, DIRECTIONS, Defaults, Direction, MODES, Mode,
    ON_LOCAL_EDITS, OnLocalEdit, RESOLUTIONS, SCHEMA_CHANGES, Schedule, SchemaChanges, TRUNCATES, Truncate, schedule,
};
use super::tree::Content;
use crate::connectors::contract::Guarantee;
use crate::event::{Resolution, Schema};
use crate::govern::Labels;
use crate::resolve::custom::Rule;
use crate::resolve::merge::{Misfit, misfits};
use serde::Serialize;
use std::collections::BTreeMap;

/// Seconds a refused version stays parked, if nothing is said, and at most.
const DEAD_AFTER_S: u32 = 900;
const DEAD_AFTER_S_MAX: u32 = 7 * 24 * 3600;

/// A dataset.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Dataset {
    /// Its name.
    pub name: String,
    /// Where its keys stand in the file.
    #[serde(skip)]
    pub lines: Lines,
    /// The platform whose data counts first.
    pub source: String,
    /// The other platforms that hold it.
    pub destinations: Vec<String>,
    /// When it is synchronised.
    pub sync_mode: Mode,
    /// How concurrent edits are settled.
    pub conflict_resolution: ConflictResolution,
    /// How fields are merged, with `conflict-resolution: merge`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge: Option<MergeRules>,
    /// The rule, with `conflict-resolution: custom`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomRule>,
    /// When, in `scheduled` mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Who may write (who-2).
    pub direction: Direction,
    /// What happens to data that is there already (who-4).
    pub bootstrap: Bootstrap,
    /// What happens when a captured table changes (read-10).
    pub schema_changes: SchemaChanges,
    /// What happens to edits where nobody may write (who-2).
    pub on_local_edit: OnLocalEdit,
    /// What happens to a truncate of more than a few records (read-9).
    pub truncate: Truncate,
    /// The least guarantee its platforms must reach, or `exclusive` (who-3); `None`: what each reaches.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "guarantee_shown")]
    pub guarantee: Option<Guarantee>,
    /// All its platforms, the one that wins between equal times first (value-4).
    pub priority: Vec<String>,
    /// Partitions of each of its topics.
    pub partitions: u32,
    /// Rows in a batch at most.
    pub batch_size: u32,
    /// Seconds a refused version stays parked before it becomes a dead letter.
    pub dead_after_s: u32,
    /// Its governance labels.
    #[serde(flatten)]
    pub labels: Labels,
    /// Its collections in order; never empty.
    pub collections: Vec<Collection>,
}

/// Where the keys of a dataset stand, so that later checks can name the line too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lines {
    whole: At,
    keys: BTreeMap<&'static str, At>,
    /// The dotted path of the dataset.
    pub path: String,
}

impl Lines {
    /// Where `key` stands, or the dataset if it was left out.
    #[must_use]
    pub fn of(&self, key: &str) -> &At {
        self.keys.get(key).unwrap_or(&self.whole)
    }
}

/// A rule that cannot hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unfit {
    /// The section it stands in.
    pub key: &'static str,
    /// Where in there.
    pub path: String,
    /// What is wrong with it.
    pub why: String,
}

/// What a platform does in a dataset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Part {
    /// Its changes are captured and proposed.
    pub proposes: bool,
    /// Canonical versions are applied to it.
    pub receives: bool,
    /// How sure that is (who-3).
    pub guarantee: Guarantee,
}

const GUARANTEES: [(&str, Guarantee); 3] =
    [("exact", Guarantee::Exact), ("safe", Guarantee::Safe), ("exclusive", Guarantee::Exclusive)];

/// The name of a guarantee level in the configuration.
#[must_use]
pub fn guarantee_name(guarantee: Guarantee) -> &'static str {
    GUARANTEES.iter().find(|(_, g)| *g == guarantee).map_or("", |(name, _)| name)
}

fn guarantee_shown<S: serde::Serializer>(guarantee: &Option<Guarantee>, serializer: S) -> Result<S::Ok, S::Error> {
    guarantee.map(guarantee_name).serialize(serializer)
}

impl Dataset {
    /// The names of all platforms that hold it, the source first.
    pub fn platforms(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.source.as_str()).chain(self.destinations.iter().map(String::as_str))
    }

    /// What `platform` does in it (who-2).
    #[must_use]
    pub fn part(&self, platform: &Platform) -> Part {
        let is_source = platform.name == self.source;
        let one_way = self.direction == Direction::OneWay;
        let exclusive = self.guarantee == Some(Guarantee::Exclusive) && !is_source;
        Part {
            proposes: platform.captures() && (is_source || !one_way),
            receives: platform.applies() && !(is_source && one_way),
            guarantee: if exclusive { Guarantee::Exclusive } else { platform.abilities().guarantee },
        }
    }

    pub(super) fn read(section: Section<'_>, defaults: &Defaults) -> Option<Self> {
        let name = section.required("name", "the name of the dataset").and_then(|item| item.name("dataset"));
        let source = section.required("source", "the name of a platform").and_then(|item| item.name("platform"));
        let destinations = section.required("destinations", "a list of platforms");
        let destinations = destinations.and_then(|item| destination_names(&item, source.as_deref()));
        let all: Vec<&str> = source.iter().chain(destinations.iter().flatten()).map(String::as_str).collect();
        let priority = priority(&section, &all);
        let collections = collections(&section, &all);
        let dataset = Dataset {
            lines: lines(&section),
            sync_mode: section.or("sync-mode", defaults.mode, |item| item.choice(&MODES)),
            conflict_resolution: section
                .or("conflict-resolution", defaults.resolution, |item| item.choice(&RESOLUTIONS)),
            merge: section.item("merge").and_then(|item| item.section("rules of a merge")).map(MergeRules::read),
            custom: section.item("custom").and_then(|item| item.section("a rule")).map(CustomRule::read),
            schedule: section.item("schedule").map_or(defaults.schedule.clone(), |item| schedule(&item)),
            direction: section.or("direction", Direction::default(), |item| item.choice(&DIRECTIONS)),
            bootstrap: section.or("bootstrap", Bootstrap::default(), |item| item.choice(&BOOTSTRAPS)),
            on_local_edit: section.or("on-local-edit", OnLocalEdit::default(), |item| item.choice(&ON_LOCAL_EDITS)),
            truncate: section.or("truncate", Truncate::default(), |item| item.choice(&TRUNCATES)),
            schema_changes: section.or("schema-changes", SchemaChanges::default(), |item| item.choice(&SCHEMA_CHANGES)),
            guarantee: section.item("guarantee").and_then(|item| item.choice(&GUARANTEES)),
            priority,
            partitions: section.or("partitions", 6, |item| item.number(1, 10_000)),
            batch_size: section.or("batch-size", defaults.batch_size, |item| item.number(1, BATCH_SIZE_MAX)),
            dead_after_s: section.or("dead-after-s", DEAD_AFTER_S, |item| item.number(0, DEAD_AFTER_S_MAX)),
            labels: section.labels(),
            collections: collections.unwrap_or_else(|| name.iter().map(|name| Collection::only(name)).collect()),
            name: name.unwrap_or_default(),
            source: source.unwrap_or_default(),
            destinations: destinations.unwrap_or_default(),
        };
        dataset.check(&section);
        section.finish();
        let whole = !dataset.name.is_empty() && !dataset.source.is_empty() && !dataset.destinations.is_empty();
        whole.then_some(dataset)
    }

    /// How concurrent writes to `collection` are settled. The platforms have no numbers here.
    #[must_use]
    pub fn resolution(&self, collection: &Collection) -> Resolution {
        let none = MergeRules::default();
        let (own, above) = (collection.merge.as_ref().unwrap_or(&none), self.merge.as_ref().unwrap_or(&none));
        match (self.conflict_resolution, self.rule_of(collection)) {
            (ConflictResolution::Merge, _) => Resolution::Merge(own.within(above)),
            (ConflictResolution::Custom, Some(rule)) => Resolution::Custom(rule.with(own.within(above))),
            (ConflictResolution::LastWriteWins | ConflictResolution::Custom, _) => Resolution::LastWriteWins,
        }
    }

    /// The rule of a collection, with `conflict-resolution: custom`.
    #[must_use]
    pub fn rule_of<'a>(&'a self, collection: &'a Collection) -> Option<&'a CustomRule> {
        collection.custom.as_ref().or(self.custom.as_ref())
    }

    /// What is wrong with how a collection's conflicts are settled, for rows of `schema`.
    #[must_use]
    pub fn unfit(&self, collection: &Collection, schema: &Schema) -> Vec<Unfit> {
        let (custom, merge) = match self.resolution(collection) {
            Resolution::LastWriteWins => return Vec::new(),
            Resolution::Merge(merge) => (None, merge),
            Resolution::Custom(custom) => (Some(custom.rule), custom.merge),
        };
        let of_merge =
            misfits(&merge, schema).into_iter().map(|Misfit { path, why }| Unfit { key: "merge", path, why });
        // A rule that cannot be compiled was told where it is written.
        let flaw = custom.and_then(|rule| Rule::compile(&rule).ok()?.fits(schema).err());
        let of_rule = flaw.map(|flaw| Unfit { key: "custom", path: "rule".into(), why: flaw.to_string() });
        of_merge.chain(of_rule).collect()
    }

    /// Rules that never hold, or not for what they are written for.
    fn check_rules(&self, section: &Section<'_>) {
        let at = |key, own: bool| if own { "collections" } else { key };
        for (key, word, said, counts) in [
            ("merge", "merge", self.merge.is_some(), self.conflict_resolution != ConflictResolution::LastWriteWins),
            ("custom", "custom", self.custom.is_some(), self.conflict_resolution == ConflictResolution::Custom),
        ] {
            let own = |c: &Collection| if key == "merge" { c.merge.is_some() } else { c.custom.is_some() };
            if !counts && (said || self.collections.iter().any(own)) {
                let what = if key == "merge" { "rules of a merge count" } else { "a rule counts" };
                section.problem(at(key, !said), format!("{what} only with `conflict-resolution: {word}`"));
                return;
            }
        }
        if self.collections.len() > 1 && self.merge.as_ref().is_some_and(|merge| !merge.fields.is_empty()) {
            section.problem(
                "merge",
                "each collection has fields of its own; expected `fields` in the collection's `merge`",
            );
        }
        for collection in &self.collections {
            let Some(schema) = collection.schema() else { continue };
            for Unfit { key, path, why } in self.unfit(collection, &schema) {
                let own = if key == "merge" { collection.merge.is_some() } else { collection.custom.is_some() };
                section.problem(at(key, own), format!("`{path}`: {why}"));
            }
        }
    }

    /// What can only be seen from several keys together.
    fn check(&self, section: &Section<'_>) {
        if self.sync_mode == Mode::Scheduled && self.schedule.is_none() && section.item("schedule").is_none() {
            section.problem("schedule", "missing; expected a cron expression, because `sync-mode` is scheduled");
        }
        self.check_rules(section);
        // read-11: where a dataset begins, nothing of it is masked or away.
        for view in self.collections.iter().filter_map(|c| c.views.get(&self.source)) {
            if view.masks.is_some() || view.row_filter.is_some() {
                let text = format!("`{}` is the source and shows whole rows; expected `columns` only", self.source);
                section.problem("collections", text);
            }
        }
    }
}

fn lines(section: &Section<'_>) -> Lines {
    const KEYS: [&str; 12] = [
        "source",
        "destinations",
        "sync-mode",
        "conflict-resolution",
        "merge",
        "custom",
        "schedule",
        "direction",
        "guarantee",
        "collections",
        "bootstrap",
        "on-local-edit",
    ];
    Lines {
        whole: section.at.clone(),
        keys: KEYS.iter().map(|key| (*key, section.line_of(key).clone())).collect(),
        path: section.path.clone(),
    }
}

fn destination_names(item: &Item<'_>, source: Option<&str>) -> Option<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let items = item.list("a list of platforms")?;
    if items.is_empty() {
        item.problem("expected at least one platform, found an empty list");
    }
    for item in items {
        let Some(name) = item.name("platform") else { continue };
        if Some(name.as_str()) == source {
            item.problem(format!("`{name}` is the source already; expected another platform"));
        } else if names.contains(&name) {
            item.problem(format!("`{name}` is named twice"));
        } else {
            names.push(name);
        }
    }
    Some(names)
}

/// The platforms in the order the user gives, those left out behind them in theirs.
fn priority(section: &Section<'_>, platforms: &[&str]) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    for item in section.item("priority").and_then(|item| item.list("a list of platforms")).into_iter().flatten() {
        let Some(name) = item.name("platform") else { continue };
        if !platforms.contains(&name.as_str()) {
            let guess = suggestion(&name, platforms.iter().copied());
            let expected = alternatives(platforms.iter().copied());
            item.problem(format!("`{name}` is no platform of this dataset{guess}; expected {expected}"));
        } else if order.contains(&name) {
            item.problem(format!("`{name}` is named twice"));
        } else {
            order.push(name);
        }
    }
    let missing: Vec<String> =
        platforms.iter().filter(|p| !order.iter().any(|o| o == *p)).map(|p| (*p).into()).collect();
    order.extend(missing);
    order
}

fn collections(section: &Section<'_>, platforms: &[&str]) -> Option<Vec<Collection>> {
    let item = section.item("collections")?;
    let mut collections: Vec<Collection> = Vec::new();
    for item in item.list("a list of collections")? {
        let Some(collection) = item.section("a collection").and_then(|s| Collection::read(s, platforms)) else {
            continue;
        };
        if collections.iter().any(|c| c.name == collection.name) {
            item.problem(format!("another collection is called `{}`; expected different names", collection.name));
        } else {
            collections.push(collection);
        }
    }
    if let Content::List(items) = &item.node.content
        && items.is_empty()
    {
        item.problem("expected at least one collection; leave the key out for one that is called like the dataset");
    }
    Some(collections)
}
