//! The dead letters of a log: what could not be captured or applied, whole, and what became of it.
//! A letter is the fold of the records of its name: opened, retried, opened again; discarded for good.

use super::dataset::topics;
use super::log::Opened;
use super::roster::Roster;
use super::show;
use crate::config::Config;
use crate::event::{DeadLetter, Fate, Record, Stage};
use crate::runtime::clock::Clock;
use crate::runtime::error::Result;
use crate::topic::{Log, Partition};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::Arc;

/// A dead letter as it is shown.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DeadInfo {
    /// Its name.
    pub id: String,
    /// The dataset.
    pub dataset: String,
    /// The collection.
    pub collection: String,
    /// The platform it could not be read from or written to.
    pub platform: String,
    /// `capture` or `apply`.
    pub stage: String,
    /// The key, by its fields where they are known.
    pub key: Value,
    /// The error's code.
    pub code: String,
    /// The reason.
    pub why: String,
    /// When it was written, in milliseconds since 1970.
    pub since_ms: u64,
    /// All of it: the row as the platform holds it, or the version with its value.
    pub event: Value,
}

/// An open letter and where it stands.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) letter: DeadLetter,
    pub(super) since_ms: u64,
    /// The partition of `<c>` it belongs to.
    pub(super) dataset_at: Partition,
    pub(super) dataset: String,
    pub(super) collection: String,
}

/// The open dead letters of all datasets, or of one, oldest first.
///
/// # Errors
/// As the log has them.
pub async fn list_dead(
    log: &Opened,
    clock: Arc<dyn Clock>,
    config: &Config,
    dataset: Option<&str>,
) -> Result<Vec<DeadInfo>> {
    let roster = Roster::open(log.raw.clone(), clock, &log.prefix).await?;
    let mut shown = Vec::new();
    for open in open_letters(log, config, dataset).await? {
        shown.push(show_letter(log, &roster, &open).await?);
    }
    shown.sort_by_key(|letter: &DeadInfo| letter.since_ms);
    Ok(shown)
}

/// The open letters of all datasets, or of one.
pub(super) async fn open_letters(log: &Opened, config: &Config, dataset: Option<&str>) -> Result<Vec<Open>> {
    let existing = log.raw.topics().await?;
    let mut found = Vec::new();
    for configured in config.datasets.iter().filter(|d| dataset.is_none_or(|name| d.name == name)) {
        for (collection, topics) in configured.collections.iter().zip(topics(&log.prefix, configured)) {
            let partitions = existing.iter().find(|spec| spec.topic == topics.dead(0).topic);
            for index in 0..partitions.map_or(0, |spec| spec.partitions) {
                let at = topics.dead(index);
                found.extend(fold(log, &at).await?.into_iter().map(|(letter, since_ms)| Open {
                    letter,
                    since_ms,
                    dataset_at: topics.dataset(index),
                    dataset: configured.name.clone(),
                    collection: collection.name.clone(),
                }));
            }
        }
    }
    Ok(found)
}

async fn fold(log: &Opened, at: &Partition) -> Result<Vec<(DeadLetter, u64)>> {
    let bounds = log.coded.bounds(at).await?;
    let mut letters: IndexMap<u128, (Fate, DeadLetter, u64)> = IndexMap::new();
    if bounds.low >= bounds.high {
        return Ok(Vec::new());
    }
    let mut reading = log.coded.read(at, bounds.low).await?;
    while reading.offset() < bounds.high {
        for delivered in reading.next(1000).await? {
            let Some(Record::Dead(letter)) = delivered.payload.as_deref() else { continue };
            let known =
                letters.entry(letter.id).or_insert_with(|| (letter.fate, (**letter).clone(), delivered.time_ms));
            known.0 = if known.0 == Fate::Discarded { Fate::Discarded } else { letter.fate };
            if letter.fate == Fate::Open {
                known.1 = (**letter).clone();
            }
        }
    }
    let open = letters.into_values().filter(|(fate, ..)| *fate == Fate::Open);
    Ok(open.map(|(_, letter, since_ms)| (letter, since_ms)).collect())
}

async fn show_letter(log: &Opened, roster: &Roster, open: &Open) -> Result<DeadInfo> {
    let letter = &open.letter;
    let current = log.coded.current(&open.dataset_at.topic);
    let (mut key, mut event) = (show::of_key(current.as_deref(), &letter.key), Value::Null);
    if let Some(native) = &letter.native {
        event = serde_json::from_str(native).unwrap_or_else(|_| json!(&**native));
    }
    if let Some(version) = &letter.version {
        let mut value = Value::Null;
        if let Some(row) = &version.after {
            let schema = log.coded.schema(version.schema).await?;
            key = show::key(&schema, row);
            value = show::row(&schema, row);
        }
        event = json!({"version": version.seq, "deleted": version.tomb, "written_ms": version.ts.ms(), "value": value});
    }
    let stage = if letter.stage == Stage::Capture { "capture" } else { "apply" };
    let platform = roster.name_of(&open.dataset, letter.by.platform());
    Ok(DeadInfo {
        id: format!("{:032x}", letter.id),
        dataset: open.dataset.clone(),
        collection: open.collection.clone(),
        platform: platform.map_or_else(|| format!("platform {}", letter.by), Into::into),
        stage: stage.into(),
        key,
        code: letter.code.to_string(),
        why: letter.why.to_string(),
        since_ms: open.since_ms,
        event,
    })
}
