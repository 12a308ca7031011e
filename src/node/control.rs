//! Pausing, resuming and agreeing: written to `__control` under the claim of the role `control`, read
//! by every node that follows it (who-7).

use super::View;
use super::gate::Switches;
use super::loops::Loops;
use super::roster::Roster;
use crate::flow;
use crate::ledger::order::Order;
use crate::runtime::error::{Code, Error, Result};
use crate::runtime::telemetry::{ERROR, SYNC};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::{Mutex, watch};

/// What is paused or resumed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Part {
    /// The dataset.
    pub dataset: String,
    /// Only this collection of it.
    pub collection: Option<String>,
}

/// The control topic of a running node.
#[derive(Clone)]
pub(super) struct Control {
    pub(super) roster: Arc<Mutex<Roster>>,
    pub(super) said: watch::Sender<Switches>,
}

impl Control {
    /// What `roster` says now.
    pub(super) fn new(roster: Roster) -> Self {
        let said = watch::Sender::new(roster.switches());
        Control { roster: Arc::new(Mutex::new(roster)), said }
    }

    /// Takes what this and other nodes write, for ever.
    pub(super) async fn follow(&self) -> Result<Infallible> {
        loop {
            let mut news = self.roster.lock().await.follow().await?;
            news.next(1).await?;
            let mut roster = self.roster.lock().await;
            roster.read_on().await?;
            self.publish(&roster);
        }
    }

    fn publish(&self, roster: &Roster) {
        let now = roster.switches();
        self.said.send_if_modified(|said| {
            let changed = *said != now;
            *said = now;
            changed
        });
    }

    async fn pause(&self, part: &Part, paused: bool) -> Result<bool> {
        let mut roster = self.roster.lock().await;
        let changed = roster.pause(&part.dataset, part.collection.as_deref(), paused).await?;
        self.publish(&roster);
        Ok(changed)
    }
}

impl Control {
    /// agent-7: durable when this returns, so that it is said once, whatever becomes of this node.
    pub(super) async fn believe(&self, dataset: &str, platform: &str, count: usize, until_ms: u64) -> Result<()> {
        let mut roster = self.roster.lock().await;
        roster.believe(dataset, platform, count, until_ms).await?;
        self.publish(&roster);
        Ok(())
    }

    /// What a person has said of deletes on a platform.
    pub(super) fn believed(&self, dataset: &str, platform: &str) -> Option<Order> {
        let place = (dataset.to_owned(), platform.to_owned());
        let (count, until_ms) = *self.said.borrow().believed.get(&place)?;
        Some(Order::BelieveDeletes { count, until_ms })
    }
}

impl Loops {
    /// What this and other nodes say takes effect here.
    pub(super) fn follow_control(&self) {
        let (control, clock, stop) = (self.control.clone(), self.clock.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let told = |error: &Error| tracing::warn!(target: ERROR, ?error, "following __control");
            if let Err(error) = flow::keep(&*clock, &stop, told, || control.follow()).await {
                tracing::error!(target: ERROR, ?error, "what other nodes pause and resume does not reach this one any more");
            }
        });
    }
}

impl View {
    /// Pauses a dataset or a collection; returns whether it was not paused before.
    ///
    /// # Errors
    /// If it is not configured, or as the log has them.
    pub async fn pause(&self, part: &Part) -> Result<bool> {
        self.check(part)?;
        let changed = self.control.pause(part, true).await?;
        tracing::info!(target: SYNC, dataset = part.dataset, collection = part.collection, "paused");
        Ok(changed)
    }

    /// Resumes a dataset or a collection. A dataset that asked before its first write has its answer
    /// then; loops of it that stopped for good begin anew.
    ///
    /// # Errors
    /// If it is not configured, or as the log has them.
    pub async fn resume(&self, part: &Part) -> Result<bool> {
        self.check(part)?;
        let changed = self.control.pause(part, false).await?;
        let of_it = self.board.posts().into_iter().filter(|post| *post.dataset == *part.dataset);
        of_it.for_each(|post| post.wake());
        tracing::info!(target: SYNC, dataset = part.dataset, collection = part.collection, "resumed");
        Ok(changed)
    }

    fn check(&self, part: &Part) -> Result<()> {
        let missing = |text: String| Err(Error::new(Code::ConfigMissing, text));
        let Some(dataset) = self.config.dataset(&part.dataset) else {
            return missing(format!("there is no dataset `{}` in the configuration", part.dataset));
        };
        match &part.collection {
            Some(name) if dataset.collections.iter().all(|collection| collection.name != *name) => {
                missing(format!("`{name}` is no collection of `{}`", part.dataset))
            }
            _ => Ok(()),
        }
    }
}
