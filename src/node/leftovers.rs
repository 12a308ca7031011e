//! What is left of datasets, and of platforms of datasets, that are no longer in the configuration
//! (verb-9): the log remembers them although nobody works for them any more.

use super::dataset::topics;
use super::log::Opened;
use super::roster::Roster;
use crate::config::Config;
use crate::runtime::clock::Clock;
use crate::runtime::error::Result;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A dataset with something left.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Leftover {
    /// Its name.
    pub dataset: String,
    /// Platforms that took part and were never removed.
    pub platforms: Vec<String>,
    /// Topics that belong to no dataset of the configuration.
    pub topics: Vec<String>,
}

/// What is left in the log.
///
/// # Errors
/// As the log has them.
pub async fn list_leftovers(log: &Opened, clock: Arc<dyn Clock>, config: &Config) -> Result<Vec<Leftover>> {
    let roster = Roster::open(log.raw.clone(), clock, &log.prefix).await?;
    let mut left: BTreeMap<String, Leftover> = BTreeMap::new();
    let empty = |dataset: &str| Leftover { dataset: dataset.to_owned(), platforms: Vec::new(), topics: Vec::new() };
    for (dataset, platform) in roster.seated() {
        let takes_part = config.dataset(dataset).is_some_and(|d| d.platforms().any(|name| name == platform));
        if !takes_part {
            left.entry(dataset.to_owned()).or_insert_with(|| empty(dataset)).platforms.push(platform.to_owned());
        }
    }
    let known: BTreeSet<String> = config
        .datasets
        .iter()
        .flat_map(|dataset| topics(&log.prefix, dataset))
        .map(|topics| topics.dataset(0).topic.to_string())
        .collect();
    for spec in log.raw.topics().await? {
        let Some(name) = spec.topic.strip_prefix(&format!("{}.", log.prefix)) else { continue };
        let dataset = name.split('.').next().unwrap_or(name);
        let of_known = known.iter().any(|base| *spec.topic == **base || spec.topic.starts_with(&format!("{base}.")));
        if !name.starts_with("__") && !of_known {
            left.entry(dataset.to_owned()).or_insert_with(|| empty(dataset)).topics.push(spec.topic.to_string());
        }
    }
    Ok(left.into_values().collect())
}
