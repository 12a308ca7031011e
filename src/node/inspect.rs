//! Looks into a log: its topics, and the conflicts that were settled. The same for a running node
//! (over HTTP) and for a command that opens the log itself.

use super::dataset::topics;
use super::log::Opened;
use super::roster::Roster;
use super::show;
use crate::config::Config;
use crate::event::{ActorId, Asked, Canonical, Conflict, Loser, Record, Schema, SchemaId, Seq, Side};
use crate::runtime::clock::Clock;
use crate::runtime::error::Result;
use crate::topic::{Cleanup, Log, Partition};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;

/// A topic.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TopicInfo {
    /// Its name.
    pub topic: String,
    /// Whether only the newest message per key stays.
    pub compacted: bool,
    /// The oldest and the next offset of each partition.
    pub partitions: Vec<(u64, u64)>,
}

/// A conflict as it was settled.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ConflictInfo {
    /// Dataset, collection, partition and version (resolve-7).
    pub id: String,
    /// The dataset.
    pub dataset: String,
    /// The collection.
    pub collection: String,
    /// The key, by its fields.
    pub key: Value,
    /// When it was settled, in milliseconds since 1970.
    pub settled_ms: u64,
    /// The rule that decided.
    pub rule: String,
    /// Version of the rules in force.
    pub rules: u64,
    /// The platform whose value stands, or `both`.
    pub winner: String,
    /// The platform whose value was displaced; it stands in full in `head` or `proposal`.
    pub loser: Option<String>,
    /// What both started from; null if it could not be found.
    pub ancestor: Value,
    /// What stood.
    pub head: Value,
    /// What came.
    pub proposal: Value,
    /// What is there from then on; null if it was deleted.
    pub result: Value,
    /// Why a person shall look at it: what stands is provisional. Null if it was settled for good.
    pub open: Option<String>,
    /// What a person decided later; null if nobody has.
    pub decided: Option<DecidedInfo>,
}

/// A person's decision of a conflict.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DecidedInfo {
    /// Who.
    pub by: String,
    /// In their words.
    pub why: String,
    /// When it was settled, in milliseconds since 1970.
    pub decided_ms: u64,
    /// The version it became.
    pub version: u64,
    /// What came of it; null for a deletion.
    pub result: Value,
}

/// The topics of the log, by name.
///
/// # Errors
/// As the log has them.
pub async fn list_topics(log: &Opened) -> Result<Vec<TopicInfo>> {
    let mut found = Vec::new();
    for spec in log.raw.topics().await? {
        let mut partitions = Vec::new();
        for index in 0..spec.partitions {
            let bounds = log.raw.bounds(&Partition::new(spec.topic.clone(), index)).await?;
            partitions.push((bounds.low, bounds.high));
        }
        let compacted = spec.cleanup == Cleanup::Compact;
        found.push(TopicInfo { topic: spec.topic.to_string(), compacted, partitions });
    }
    Ok(found)
}

/// The conflicts of all datasets, or of one, oldest first.
///
/// # Errors
/// As the log has them.
pub async fn list_conflicts(
    log: &Opened,
    clock: Arc<dyn Clock>,
    config: &Config,
    dataset: Option<&str>,
) -> Result<Vec<ConflictInfo>> {
    let roster = Roster::open(log.raw.clone(), clock, &log.prefix).await?;
    let existing = log.raw.topics().await?;
    let mut found = Vec::new();
    for configured in config.datasets.iter().filter(|d| dataset.is_none_or(|name| d.name == name)) {
        for (collection, topics) in configured.collections.iter().zip(topics(&log.prefix, configured)) {
            let of = Shown { log, roster: &roster, dataset: &configured.name, collection: &collection.name };
            let partitions = existing.iter().find(|spec| spec.topic == topics.conflicts(0).topic);
            for index in 0..partitions.map_or(0, |spec| spec.partitions) {
                of.read(&topics.conflicts(index), &mut found).await?;
            }
        }
    }
    found.sort_by_key(|conflict: &ConflictInfo| conflict.settled_ms);
    Ok(found)
}

/// What stands in a partition of `.conflicts`, each version once, with its time: versions that settled a conflict, and
/// those in which a person decided one. At least once: a later copy of the same version says the same.
pub(super) async fn conflicts_of(log: &Opened, at: &Partition) -> Result<Vec<(u64, Arc<Canonical>)>> {
    let bounds = log.coded.bounds(at).await?;
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    if bounds.low >= bounds.high {
        return Ok(found);
    }
    let mut reading = log.coded.read(at, bounds.low).await?;
    while reading.offset() < bounds.high {
        for delivered in reading.next(1000).await? {
            let Some(Record::Conflict(version)) = delivered.payload.as_deref() else { continue };
            if seen.insert(version.seq) {
                found.push((delivered.time_ms, version.clone()));
            }
        }
    }
    Ok(found)
}

/// How conflicts of a collection are shown.
pub(super) struct Shown<'a> {
    pub(super) log: &'a Opened,
    pub(super) roster: &'a Roster,
    pub(super) dataset: &'a str,
    pub(super) collection: &'a str,
}

impl Shown<'_> {
    async fn read(&self, at: &Partition, found: &mut Vec<ConflictInfo>) -> Result<()> {
        let told = conflicts_of(self.log, at).await?;
        let decision = |seq: Seq| {
            let decides = |asked: &Asked| asked.conflict == Some(seq);
            told.iter().find(|(_, version)| version.asked.as_deref().is_some_and(decides))
        };
        for (settled_ms, version) in &told {
            let Some(conflict) = version.conflict.as_deref() else { continue };
            let mut shown = self.conflict(at, *settled_ms, version, conflict).await?;
            if let Some((decided_ms, by)) = decision(version.seq) {
                shown.decided = Some(self.decided(*decided_ms, by).await?);
                shown.open = None;
            }
            found.push(shown);
        }
        Ok(())
    }

    async fn decided(&self, decided_ms: u64, version: &Canonical) -> Result<DecidedInfo> {
        let (by, why) =
            version.asked.as_deref().map(|asked| (asked.by.to_string(), asked.why.to_string())).unwrap_or_default();
        let value = match &version.after {
            Some(row) => show::row(&*self.schema(version.schema).await?, row),
            None => Value::Null,
        };
        Ok(DecidedInfo { by, why, decided_ms, version: version.seq, result: value })
    }

    pub(super) async fn conflict(
        &self,
        at: &Partition,
        settled_ms: u64,
        version: &Canonical,
        conflict: &Conflict,
    ) -> Result<ConflictInfo> {
        let (head, proposal) = (self.name(conflict.head.by), self.name(conflict.proposal.by));
        let (winner, loser) = match conflict.loser {
            Loser::Head => (proposal, Some(head)),
            Loser::Proposal => (head, Some(proposal)),
            Loser::Neither => ("both".into(), None),
        };
        let some =
            [&conflict.head, &conflict.proposal].into_iter().find_map(|s| s.value.as_deref().map(|v| (s.schema, v)));
        let key = match some {
            Some((schema, row)) => show::key(&*self.schema(schema).await?, row),
            None => json!(format!("{:?}", version.key)),
        };
        let ancestor = match &conflict.ancestor {
            Some(side) => self.side(side).await?,
            None => Value::Null,
        };
        let result = match &version.after {
            Some(row) => show::row(&*self.schema(version.schema).await?, row),
            None => Value::Null,
        };
        Ok(ConflictInfo {
            id: format!("{}.{}.{}.{}", self.dataset, self.collection, at.index, version.seq),
            dataset: self.dataset.into(),
            collection: self.collection.into(),
            key,
            settled_ms,
            rule: conflict.rule.to_string(),
            rules: conflict.rules,
            winner,
            loser,
            ancestor,
            head: self.side(&conflict.head).await?,
            proposal: self.side(&conflict.proposal).await?,
            result,
            open: conflict.open.as_deref().map(ToOwned::to_owned),
            decided: None,
        })
    }

    async fn side(&self, side: &Side) -> Result<Value> {
        let value = match &side.value {
            Some(row) => show::row(&*self.schema(side.schema).await?, row),
            None => Value::Null,
        };
        let at = side.ts.ms();
        Ok(
            json!({"platform": self.name(side.by), "version": side.seq, "written_ms": at, "deleted": side.value.is_none(),
                  "value": value}),
        )
    }

    pub(super) async fn schema(&self, id: SchemaId) -> Result<Arc<Schema>> {
        self.log.coded.schema(id).await
    }

    fn name(&self, actor: ActorId) -> String {
        if actor == ActorId::RESOLVER {
            return "driftless".into();
        }
        self.roster.name_of(self.dataset, actor.platform()).map_or_else(|| format!("platform {actor}"), Into::into)
    }
}
