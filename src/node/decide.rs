//! A person decides a conflict: what was settled may have been settled wrong. The decision is an edit of one who
//! saw what the conflict came to, and goes through `.changes` as every other (verb-6).

use super::View;
use super::dataset::topics;
use super::inspect::conflicts_of;
use crate::event::{Asked, Canonical, Conflict, Fp, Record, Review, Row, SchemaId};
use crate::runtime::error::{Code, Error, Result};
use crate::runtime::telemetry::CONFLICT;
use crate::topic::Log;
use crate::topic::message::message;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Which value shall stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pick {
    /// That of the version that stood.
    Stood,
    /// That of the version that came.
    Came,
    /// The one both had changed.
    Ancestor,
    /// None: the record is deleted.
    Deleted,
}

/// A decision as it is asked for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Wish {
    /// The conflict's id.
    pub id: String,
    /// Which value.
    pub pick: Pick,
    /// Who decides.
    pub by: String,
    /// In their words.
    #[serde(default)]
    pub why: String,
}

impl View {
    /// Has the resolver settle a decision. Asked for again it is the same decision.
    ///
    /// # Errors
    /// If there is no such conflict, if it has been decided otherwise, if the value is not known, or as the log has them.
    pub async fn decide(&self, wish: &Wish) -> Result<()> {
        let unknown = || {
            let text = format!("there is no conflict `{}`; `driftless conflicts list` shows which there are", wish.id);
            Error::new(Code::ConfigMissing, text)
        };
        let parts: Vec<&str> = wish.id.split('.').collect();
        let [dataset, collection, index, seq] = parts[..] else { return Err(unknown()) };
        let (Ok(index), Ok(seq)) = (index.parse::<u32>(), seq.parse::<u64>()) else { return Err(unknown()) };
        let dataset = self.config.dataset(dataset).ok_or_else(unknown)?;
        let mut all = dataset.collections.iter().zip(topics(&self.log.prefix, dataset));
        let topics = all.find(|(c, _)| c.name == collection).map(|(_, topics)| topics);
        let topics = topics.filter(|topics| index < topics.partitions).ok_or_else(unknown)?;
        let told = conflicts_of(&self.log, &topics.conflicts(index)).await?;
        let found = told.iter().map(|(_, version)| version).find(|v| v.seq == seq && v.conflict.is_some());
        let version = found.ok_or_else(unknown)?;
        let (value, schema) = picked(version, wish)?;
        // The same words are the same decision, and one of them counts.
        let command = u128::from_be_bytes(Fp::of_bytes(format!("decide {} {:?}", wish.id, wish.pick).as_bytes()).0);
        let decided = told.iter().filter_map(|(_, v)| v.asked.as_deref()).find(|asked| asked.conflict == Some(seq));
        if let Some(decided) = decided.filter(|decided| decided.command != command) {
            let text = format!(
                "{} has decided `{}` already; look at it with `driftless conflicts show {}`, and edit the record on a platform \
                 if it shall be otherwise",
                decided.by, wish.id, wish.id
            );
            return Err(Error::new(Code::ConflictDecided, text));
        }
        let asked = Asked { command, by: wish.by.as_str().into(), why: wish.why.as_str().into(), conflict: Some(seq) };
        let review = Review::of(version, value, schema, asked, self.clock.now_ms());
        let record = message(Arc::new(Record::Review(Box::new(review))));
        self.log.coded.session().await?.append(&topics.changes(index), vec![record]).await?;
        tracing::info!(target: CONFLICT, conflict = wish.id, by = wish.by, pick = ?wish.pick, "a conflict was decided");
        Ok(())
    }
}

/// The value a person picked, and its schema.
fn picked(version: &Canonical, wish: &Wish) -> Result<(Option<Arc<Row>>, SchemaId)> {
    let side = |conflict: &Conflict| match wish.pick {
        Pick::Stood => Some(conflict.head.clone()),
        Pick::Came => Some(conflict.proposal.clone()),
        Pick::Ancestor => conflict.ancestor.clone(),
        Pick::Deleted => None,
    };
    match version.conflict.as_deref().and_then(side) {
        Some(side) => Ok((side.value, side.schema)),
        None if wish.pick == Pick::Deleted => Ok((None, version.schema)),
        None => {
            let text = format!("the value both had changed is not known in `{}`; pick `stood` or `came`", wish.id);
            Err(Error::new(Code::ConfigMissing, text))
        }
    }
}
