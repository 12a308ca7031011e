//! The words of `synchronization` and of a dataset about how and when it is kept the same.

use super::section::{Item, Section};
use croner::Cron;
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// When a dataset is synchronised.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// As changes happen.
    #[default]
    RealTime,
    /// By a schedule.
    Scheduled,
    /// When somebody asks.
    Manual,
}

pub(super) const MODES: [(&str, Mode); 3] =
    [("real-time", Mode::RealTime), ("scheduled", Mode::Scheduled), ("manual", Mode::Manual)];

/// How concurrent edits are settled.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConflictResolution {
    /// The most recent write wins (value-4).
    #[default]
    LastWriteWins,
    /// All changes are preserved as far as they can be.
    Merge,
    /// The user's own rules.
    Custom,
}

pub(super) const RESOLUTIONS: [(&str, ConflictResolution); 3] = [
    ("last-write-wins", ConflictResolution::LastWriteWins),
    ("merge", ConflictResolution::Merge),
    ("custom", ConflictResolution::Custom),
];

impl ConflictResolution {
    /// The word it has in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        RESOLUTIONS.iter().find(|(_, r)| *r == self).map_or("", |(name, _)| name)
    }
}

/// Who may write (who-2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Every platform whose connector can tell of its changes.
    #[default]
    BothWays,
    /// The source only.
    OneWay,
}

pub(super) const DIRECTIONS: [(&str, Direction); 2] =
    [("both-ways", Direction::BothWays), ("one-way", Direction::OneWay)];

/// What happens to data that platforms hold already (who-4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bootstrap {
    /// Where contents differ the source wins; the other value is a logged loser.
    #[default]
    SourceWins,
    /// Halts before the first write, with the counts.
    Ask,
    /// Where contents differ the later one by the sources' timestamps wins.
    LatestWins,
}

pub(super) const BOOTSTRAPS: [(&str, Bootstrap); 3] =
    [("source-wins", Bootstrap::SourceWins), ("ask", Bootstrap::Ask), ("latest-wins", Bootstrap::LatestWins)];

/// What happens to an edit on a platform that may not write (who-2). It is never overwritten silently.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnLocalEdit {
    /// The key is parked and shown.
    #[default]
    Park,
    /// The edit is logged as a loser, then the head is written.
    Restore,
}

pub(super) const ON_LOCAL_EDITS: [(&str, OnLocalEdit); 2] =
    [("park", OnLocalEdit::Park), ("restore", OnLocalEdit::Restore)];

/// What happens to a truncate of more than a few records where others write too (read-9).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Truncate {
    /// The platform's reader stops there until a person has decided.
    #[default]
    Stop,
    /// What the source had is deleted everywhere.
    Propagate,
}

pub(super) const TRUNCATES: [(&str, Truncate); 2] = [("stop", Truncate::Stop), ("propagate", Truncate::Propagate)];

/// What happens when a table that is captured gets another form (read-10).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SchemaChanges {
    /// New, wider and dropped columns change the dataset.
    #[default]
    Evolve,
    /// The reader stops there.
    Stop,
}

pub(super) const SCHEMA_CHANGES: [(&str, SchemaChanges); 2] =
    [("evolve", SchemaChanges::Evolve), ("stop", SchemaChanges::Stop)];

/// A schedule in cron's notation, five fields or six with seconds.
#[derive(Clone)]
pub struct Schedule {
    /// As it was written.
    pub text: String,
    /// The same, understood.
    pub cron: Cron,
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Serialize for Schedule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.text.serialize(serializer)
    }
}

pub(super) fn schedule(item: &Item<'_>) -> Option<Schedule> {
    let text = item.text("a cron expression such as \"0 */6 * * *\"")?;
    match Cron::from_str(&text) {
        Ok(cron) => Some(Schedule { text, cron }),
        Err(error) => {
            item.problem(format!(
                "{} is no cron expression ({error}); expected minute, hour, day, month and weekday, such as \"0 */6 * * *\"",
                item.node.found()
            ));
            None
        }
    }
}

/// What `synchronization` says: defaults for all datasets.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Defaults {
    pub enabled: bool,
    pub mode: Mode,
    pub resolution: ConflictResolution,
    pub schedule: Option<Schedule>,
    pub batch_size: u32,
}

impl Default for Defaults {
    fn default() -> Self {
        Defaults {
            enabled: true,
            mode: Mode::default(),
            resolution: ConflictResolution::default(),
            schedule: None,
            batch_size: 1000,
        }
    }
}

/// Rows in a batch at most.
pub(super) const BATCH_SIZE_MAX: u32 = 1_000_000;

impl Defaults {
    pub(super) fn read(section: Section<'_>) -> Self {
        let plain = Defaults::default();
        let read = Defaults {
            enabled: section.or("enabled", plain.enabled, Item::flag),
            mode: section.or("mode", plain.mode, |item| item.choice(&MODES)),
            resolution: section.or("conflict-resolution", plain.resolution, |item| item.choice(&RESOLUTIONS)),
            schedule: section.item("schedule").and_then(|item| schedule(&item)),
            batch_size: section.or("batch-size", plain.batch_size, |item| item.number(1, BATCH_SIZE_MAX)),
        };
        section.finish();
        read
    }
}
