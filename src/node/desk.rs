//! What people ask of a running node about single keys: what is parked and what died, to try it
//! again, to give it up. A request changes nothing by itself: it is an order to the loop that owns the
//! key, or a record in the log.

use super::View;
use super::board::{Post, Report, State, Work};
use super::leftovers::{Leftover, list_leftovers};
use super::letters::{DeadInfo, Open, list_dead, open_letters};
use super::show;
use crate::event::{Fate, Key, Stage};
use crate::ledger::order::Order;
use crate::runtime::error::{Code, Error, Result};
use crate::runtime::telemetry::SYNC;
use crate::topic::Partition;
use crate::topic::letters::send_letters;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

/// A parked key as it is shown.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ParkedInfo {
    /// The dataset.
    pub dataset: String,
    /// The platform it waits for.
    pub platform: String,
    /// The partition of the dataset's topic.
    pub partition: String,
    /// The key, by its fields.
    pub key: Value,
    /// The error's code.
    pub code: String,
    /// The reason.
    pub why: String,
    /// Since when, in milliseconds since 1970.
    pub since_ms: u64,
    /// What ends it.
    pub remedy: String,
}

/// Records that disappeared from a platform all at once (agent-7).
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct DeletesInfo {
    /// The dataset.
    pub dataset: String,
    /// The platform.
    pub platform: String,
    /// How many.
    pub disappeared: usize,
    /// Of how many, in the partitions they are of.
    pub records: usize,
    /// Some of them, by key.
    pub sample: Vec<Value>,
}

/// How many keys are shown.
const SAMPLE_MAX: usize = 5;
/// How long a person's word counts, in milliseconds.
const BELIEVED_MS: u64 = 600_000;

/// Whose keys are meant.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Whose {
    /// Of this dataset only.
    pub dataset: Option<String>,
    /// Of this platform only.
    pub platform: Option<String>,
}

impl Whose {
    fn is(&self, post: &Post) -> bool {
        let same = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|name| name == found);
        // What another node works on is asked of that one.
        matches!(post.work, Work::Apply | Work::Agent)
            && post.state() != State::Elsewhere
            && same(&self.dataset, &post.dataset)
            && same(&self.platform, &post.platform)
    }
}

impl View {
    fn posts_of(&self, whose: &Whose) -> Vec<Arc<Post>> {
        self.board.posts().into_iter().filter(|post| whose.is(post)).collect()
    }

    /// The keys that are put aside on this node.
    #[must_use]
    pub fn parked(&self, whose: &Whose) -> Vec<ParkedInfo> {
        let mut found = Vec::new();
        for post in self.posts_of(whose) {
            let Some(at) = &post.input else { continue };
            let schema = self.log.coded.current(&at.topic);
            found.extend(post.progress.parked().into_iter().map(|parked| ParkedInfo {
                dataset: post.dataset.to_string(),
                platform: post.platform.to_string(),
                partition: at.to_string(),
                key: show::of_key(schema.as_deref(), &Key(parked.key)),
                code: parked.code.to_owned(),
                why: parked.why,
                since_ms: parked.since_ms,
                remedy: remedy(parked.code, parked.lasting).into(),
            }));
        }
        found.sort_by_key(|parked| parked.since_ms);
        found
    }

    /// Asks for another try of what is parked now; returns how many keys that are.
    #[must_use]
    pub fn retry_parked(&self, whose: &Whose) -> u64 {
        let mut keys = 0;
        for post in self.posts_of(whose) {
            keys += post.progress.counts().parked;
            post.orders.give(Order::RetryParked);
        }
        keys
    }

    /// Where so much disappeared that nothing goes on before somebody has looked.
    #[must_use]
    pub fn deletes(&self, whose: &Whose) -> Vec<DeletesInfo> {
        let mut found: IndexMap<(String, String), DeletesInfo> = IndexMap::new();
        for post in self.posts_of(whose) {
            let (Some(gone), Some(at)) = (post.progress.has_disappeared(), &post.input) else { continue };
            let schema = self.log.coded.current(&at.topic);
            let (dataset, platform) = (post.dataset.to_string(), post.platform.to_string());
            let place = (dataset.clone(), platform.clone());
            let told = DeletesInfo { dataset, platform, disappeared: 0, records: 0, sample: Vec::new() };
            let told = found.entry(place).or_insert(told);
            told.disappeared += gone.count;
            told.records += gone.records;
            let room = SAMPLE_MAX.saturating_sub(told.sample.len());
            let keys = gone.sample.into_iter().take(room).map(|key| show::of_key(schema.as_deref(), &Key(key)));
            told.sample.extend(keys);
        }
        found.into_values().collect()
    }

    /// What is left of datasets that are not configured any more.
    ///
    /// # Errors
    /// As the log has them.
    pub async fn leftovers(&self) -> Result<Vec<Leftover>> {
        list_leftovers(&self.log, self.clock.clone(), &self.config).await
    }

    /// What people should know that no single loop knows.
    pub(super) fn add_findings(&self, report: &mut Report) {
        for DeletesInfo { dataset, platform, disappeared, records, sample } in self.deletes(&Whose::default()) {
            let sample = Value::from(sample);
            let text = format!(
                "{platform}: {disappeared} of {records} records have disappeared, for example {sample}. If they were deleted \
                 on purpose: `driftless deletes confirm {dataset} {platform}`; if not, bring them back, then `driftless \
                 deletes refuse {dataset} {platform}`"
            );
            report.datasets.entry(dataset).or_default().findings.push(text);
        }
        let said = self.control.said.borrow().clone();
        for (dataset, collection) in said.paused {
            let Some(told) = report.datasets.get_mut(&dataset) else { continue };
            let of = collection.map_or_else(String::new, |name| format!(" --collection {name}"));
            told.findings.push(format!("paused; `driftless resume {dataset}{of}` lets it go on"));
        }
    }

    /// A person has looked at what disappeared: it is meant, as much as was shown, or it has been
    /// brought back and is looked at again. Returns how many records that is about. What was said is
    /// durable before anybody acts on it.
    ///
    /// # Errors
    /// If nothing waits there for anybody to look, or as the log has them.
    pub async fn judge_deletes(&self, whose: &Whose, meant: bool) -> Result<usize> {
        let told = self.deletes(whose);
        if told.is_empty() {
            let text = "nothing has disappeared there that waits for your word; see `driftless deletes list`";
            return Err(Error::new(Code::ConfigMissing, text));
        }
        let count = told.iter().map(|told| told.disappeared).sum();
        // A word that they are not meant takes back what was believed before.
        let (believed, until_ms) = if meant { (count, self.clock.now_ms() + BELIEVED_MS) } else { (0, 0) };
        for DeletesInfo { dataset, platform, .. } in &told {
            self.control.believe(dataset, platform, believed, until_ms).await?;
        }
        // Every partition may lose some of them: one may not have looked yet.
        for post in self.posts_of(whose) {
            post.orders.give(Order::BelieveDeletes { count: believed, until_ms });
            if post.progress.has_disappeared().is_some() {
                post.progress.disappeared(None);
                post.wake();
            }
        }
        tracing::warn!(target: SYNC, dataset = whose.dataset, platform = whose.platform, count, meant, "deletes were judged");
        Ok(count)
    }

    /// The open dead letters.
    ///
    /// # Errors
    /// As the log has them.
    pub async fn dead(&self, dataset: Option<&str>) -> Result<Vec<DeadInfo>> {
        list_dead(&self.log, self.clock.clone(), &self.config, dataset).await
    }

    /// Takes a dead letter up again.
    ///
    /// # Errors
    /// If there is none of that name, or no loop of this node can take it up.
    pub async fn retry_dead(&self, id: &str) -> Result<()> {
        let open = self.find(id).await?;
        let post = self.writer_of(&open).await.ok_or_else(|| {
            let text = match open.letter.stage {
                Stage::Capture => {
                    "nothing is written to this platform, so its row cannot be looked at from here: put it \
                                   right and write it once more (UPDATE … SET x = x), then discard the letter"
                }
                Stage::Apply => "no loop of this node writes to this platform; ask the node that does",
            };
            Error::new(Code::ConfigMissing, text).at("letter", id)
        })?;
        post.orders.give(Order::Revive(Box::new(open.letter)));
        Ok(())
    }

    /// Gives a dead letter up, for good.
    ///
    /// # Errors
    /// If there is none of that name, or as the log has them.
    pub async fn discard_dead(&self, id: &str) -> Result<()> {
        let open = self.find(id).await?;
        tracing::info!(target: SYNC, dataset = open.dataset, id, code = &*open.letter.code, "a dead letter was discarded");
        send_letters(&self.log.coded, &open.dataset_at, vec![open.letter.ended(Fate::Discarded)]).await
    }

    async fn find(&self, id: &str) -> Result<Open> {
        let mut found = open_letters(&self.log, &self.config, None).await?;
        found.retain(|open| !id.is_empty() && format!("{:032x}", open.letter.id).starts_with(id));
        match found.len() {
            1 => found.pop().ok_or_else(|| Error::new(Code::Unexpected, "a letter was there and is gone")),
            0 => {
                let text = format!("there is no open dead letter `{id}`; `driftless dead list` shows which there are");
                Err(Error::new(Code::ConfigMissing, text))
            }
            several => {
                let text = format!("`{id}` is the beginning of {several} dead letters; give more of it");
                Err(Error::new(Code::ConfigMissing, text))
            }
        }
    }

    /// The sink or agent that owns the letter's key.
    async fn writer_of(&self, open: &Open) -> Option<Arc<Post>> {
        let roster =
            super::roster::Roster::open(self.log.raw.clone(), self.clock.clone(), &self.log.prefix).await.ok()?;
        let platform = roster.name_of(&open.dataset, open.letter.by.platform())?;
        let whose = Whose { dataset: Some(open.dataset.clone()), platform: Some(platform.into()) };
        let owns = |at: &Option<Partition>| at.as_ref() == Some(&open.dataset_at);
        self.posts_of(&whose).into_iter().find(|post| owns(&post.input))
    }
}

/// What ends a park, in a sentence.
fn remedy(code: &str, lasting: bool) -> &'static str {
    match code {
        "file_undecodable" => "put the file right or take it away; it is never overwritten",
        "path_escapes" => "put a plain file in its place, inside the directory; no link is followed",
        "key_too_long" => {
            "this place has no name for so long a key: shorten it at its source, or change the path template"
        }
        "value_too_large" => "raise `file-bytes-max`, or make the record smaller; it is tried again by itself",
        "edited_here" => "take the edit back, or let this platform write (`access`, `direction`)",
        "constraint_violated" => "take away what stands in the row's way; it is tried again by itself",
        _ if lasting => "put the row right where it is; it is never overwritten",
        _ => "change the value or the place it does not fit into; it is tried again by itself",
    }
}
