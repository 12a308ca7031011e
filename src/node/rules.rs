//! What a rule would have made of the conflicts there were: asked before it is put in force. Nothing changes by it.

use super::dataset::topics;
use super::inspect::{ConflictInfo, Shown, conflicts_of};
use super::log::Opened;
use super::roster::Roster;
use super::show;
use crate::config::{Collection, Config, Dataset};
use crate::event::{Canonical, Custom, Resolution, Rules, Seq};
use crate::resolve::custom::Rule;
use crate::resolve::{self, InForce, Merged, PAST_MAX, PartState};
use crate::runtime::clock::Clock;
use crate::runtime::error::{Code, Error, Result};
use crate::topic::Partition;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is tried.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Trial {
    /// The dataset.
    pub dataset: String,
    /// One of its collections; the first if it is left out.
    pub collection: Option<String>,
    /// The rule; the configured one if it is left out.
    pub rule: Option<String>,
}

/// What a rule would have made of the conflicts that are recorded.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct TrialInfo {
    /// Conflicts it was asked about.
    pub tried: u64,
    /// Of them, those that would have ended with another value.
    pub changed: u64,
    /// Those that would have waited for a person to look.
    pub open: u64,
    /// Those that met at the first copy, which `bootstrap` settles and no rule is asked about.
    pub left_out: u64,
    /// The first of those that would have ended otherwise, or open: `SHOWN_MAX` at most.
    pub conflicts: Vec<TriedInfo>,
}

/// A conflict that would have ended otherwise.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct TriedInfo {
    /// The conflict's id.
    pub id: String,
    /// The key, by its fields.
    pub key: Value,
    /// The rule that decided.
    pub was: String,
    /// What this one says.
    pub would: String,
    /// What came of it; null for a deletion.
    pub result: Value,
    /// What would have come of it; fields that no side sent are left out.
    pub would_result: Value,
    /// Why a person would have been asked; null if nobody would.
    pub open: Option<String>,
}

/// How many conflicts are shown.
const SHOWN_MAX: usize = 100;

/// Tries a rule on the recorded conflicts of a collection.
///
/// # Errors
/// If there is no such collection or rule, if the rule cannot hold, or as the log has them.
pub async fn try_rule(log: &Opened, clock: Arc<dyn Clock>, config: &Config, trial: &Trial) -> Result<TrialInfo> {
    let (dataset, collection) = found(config, trial)?;
    let mut roster = Roster::open(log.raw.clone(), clock, &log.prefix).await?;
    let state = state(log, &mut roster, dataset, collection, trial).await?;
    let mut told = TrialInfo::default();
    let all = topics(&log.prefix, dataset);
    let Some(topics) = dataset.collections.iter().zip(all).find(|(c, _)| c.name == collection.name) else {
        return Ok(told);
    };
    let existing = log.raw.topics().await?;
    let partitions = existing.iter().find(|spec| spec.topic == topics.1.conflicts(0).topic);
    let shown = Shown { log, roster: &roster, dataset: &dataset.name, collection: &collection.name };
    for index in 0..partitions.map_or(0, |spec| spec.partitions) {
        Trying { shown: &shown, state: &state }.partition(&topics.1.conflicts(index), &mut told).await?;
    }
    Ok(told)
}

fn found<'c>(config: &'c Config, trial: &Trial) -> Result<(&'c Dataset, &'c Collection)> {
    let missing = |text: String| Error::new(Code::ConfigMissing, text);
    let dataset = config.dataset(&trial.dataset);
    let dataset = dataset.ok_or_else(|| missing(format!("there is no dataset `{}`", trial.dataset)))?;
    let wanted = |c: &&Collection| trial.collection.as_deref().is_none_or(|name| c.name == name);
    let collection = dataset.collections.iter().find(wanted);
    let collection = collection.ok_or_else(|| missing(format!("`{}` has no such collection", trial.dataset)))?;
    Ok((dataset, collection))
}

/// A resolver's state with the rule in force.
async fn state(
    log: &Opened,
    roster: &mut Roster,
    dataset: &Dataset,
    collection: &Collection,
    trial: &Trial,
) -> Result<PartState> {
    let configured = dataset.rule_of(collection).map(|rule| rule.rule.clone());
    let text = trial.rule.clone().or(configured).ok_or_else(|| {
        let text = format!("`{}` has no rule in the configuration; give one with --rule or --file", collection.name);
        Error::new(Code::ConfigMissing, text)
    })?;
    let mut schemas = Vec::new();
    for (id, ..) in roster.schemas(&dataset.name, &collection.name).await? {
        schemas.push(log.coded.schema(id).await?);
    }
    let invalid = |flaw| Error::new(Code::ConfigInvalid, format!("{flaw}")).at("collection", &collection.name);
    let compiled = Rule::compile(&text).map_err(invalid)?;
    schemas.last().map_or(Ok(()), |newest| compiled.fits(newest)).map_err(invalid)?;
    let (merge, otherwise) = match dataset.resolution(collection) {
        Resolution::Custom(custom) => (custom.merge, custom.otherwise),
        Resolution::Merge(merge) => (merge, Default::default()),
        Resolution::LastWriteWins => Default::default(),
    };
    let number = |name: &str| roster.actor(&dataset.name, name).map(|actor| actor.platform());
    let names = dataset.platforms().filter_map(|name| Some((number(name)?, name.into()))).collect();
    let priority = dataset.priority.iter().filter_map(|name| number(name)).collect();
    let resolution = Resolution::Custom(Custom { rule: text.into(), otherwise, merge, names });
    let rules = InForce::from(Rules { priority, resolution, ..Rules::default() });
    Ok(PartState { rules, schemas, ..PartState::default() })
}

struct Trying<'a> {
    shown: &'a Shown<'a>,
    state: &'a PartState,
}

impl Trying<'_> {
    async fn partition(&self, at: &Partition, told: &mut TrialInfo) -> Result<()> {
        let versions = conflicts_of(self.shown.log, at).await?;
        let by_seq: BTreeMap<Seq, &Arc<Canonical>> =
            versions.iter().map(|(_, version)| (version.seq, version)).collect();
        for (settled_ms, version) in &versions {
            let Some(conflict) = version.conflict.as_deref() else { continue };
            if conflict.rule.starts_with("bootstrap: ") {
                told.left_out += 1;
                continue;
            }
            told.tried += 1;
            let info = self.shown.conflict(at, *settled_ms, version, conflict).await?;
            let tried = self.one(version, &by_seq, info).await?;
            let changed = differs(&tried.result, &tried.would_result);
            told.changed += u64::from(changed);
            told.open += u64::from(tried.open.is_some());
            if (changed || tried.open.is_some()) && told.conflicts.len() < SHOWN_MAX {
                told.conflicts.push(tried);
            }
        }
        Ok(())
    }

    async fn one(
        &self,
        version: &Canonical,
        by_seq: &BTreeMap<Seq, &Arc<Canonical>>,
        info: ConflictInfo,
    ) -> Result<TriedInfo> {
        let earlier = |version: &Canonical| version.conflict.as_ref().and_then(|c| by_seq.get(&c.earlier).copied());
        let past = std::iter::successors(earlier(version), |version| earlier(version)).take(PAST_MAX).cloned();
        let conflict = version.conflict.as_deref().ok_or_else(|| Error::new(Code::Unexpected, "no conflict"))?;
        let decision = resolve::again(self.state, conflict, &past.collect::<Vec<_>>())?;
        let (row, schema) = match &decision.merged {
            Merged::Head => (conflict.head.value.clone(), conflict.head.schema),
            Merged::Proposal => (conflict.proposal.value.clone(), conflict.proposal.schema),
            Merged::Both { value, .. } => (value.clone(), version.schema),
        };
        let would_result = match row {
            Some(row) => show::row(&*self.shown.schema(schema).await?, &row),
            None => Value::Null,
        };
        Ok(TriedInfo {
            id: info.id,
            key: info.key,
            was: info.rule,
            would: decision.rule.to_string(),
            result: info.result,
            would_result: without_unsent(would_result),
            open: decision.open.map(|why| why.to_string()),
        })
    }
}

/// Without the fields a side did not send.
fn without_unsent(shown: Value) -> Value {
    match shown {
        Value::Object(members) => members.into_iter().filter(|(_, v)| *v != json!({"unchanged": true})).collect(),
        other => other,
    }
}

/// Whether a record would be another one, as far as it is known.
fn differs(was: &Value, would: &Value) -> bool {
    match (was, would) {
        (Value::Object(was), Value::Object(would)) => would.iter().any(|(name, value)| was.get(name) != Some(value)),
        (was, would) => was != would,
    }
}
