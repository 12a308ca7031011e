//! The life of a partition at this node (claim-9). A consumer group says which partitions of a role are
//! this node's. *Assigned*: its loop starts, which claims, restores and goes live, and after a failed
//! append claims again. *Asked back*, or the node stops: the loop drains (takes nothing new, notes how
//! far it is), and only then the partition is given away. *Lost*: the loop is dropped where it stands.
//!
//! The group only keeps two nodes from working against each other; that they could is what the claims
//! are for, so nothing here has to be right for the data to be.

use super::board::Post;
use super::leased::Leased;
use super::loops::Loops;
use crate::runtime::clock::Clock;
use crate::runtime::error::{Code, Error, Result};
use crate::runtime::stop::Stop;
use crate::topic::{Assignment, Log, Membership, Partition, Typed};
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

/// How long draining may take before the loop is ended where it stands, in milliseconds.
const DRAIN_WITHIN_MS: u64 = 8_000;
/// How long leaving the group may take after that, in milliseconds.
const LEAVE_WITHIN_MS: u64 = 12_000;
/// How often a loop that may not write looks whether it may again, in milliseconds.
const LOOK_MS: u64 = 50;

/// What one loop knows of its place in the group.
#[derive(Clone)]
pub(super) struct Lease {
    /// The group, for what it has committed.
    pub(super) member: Arc<dyn Membership>,
    /// Asks the loop to hand over.
    pub(super) stop: Stop,
    at: Partition,
    clock: Arc<dyn Clock>,
}

impl Lease {
    /// Waits until the partition is this node's and the group was heard a moment ago (claim-8); false
    /// if it is asked to hand over before.
    pub(super) async fn held(&self) -> bool {
        while !self.member.holds(&self.at) {
            tokio::select! {
                () = self.stop.asked() => return false,
                () = self.clock.sleep_until(self.clock.now_ms() + LOOK_MS) => {}
            }
        }
        true
    }

    /// The log, writable only while the partition is held.
    pub(super) fn log(&self, log: Arc<dyn Log<Typed>>) -> Arc<dyn Log<Typed>> {
        Arc::new(Leased { log, member: self.member.clone(), at: self.at.clone() })
    }
}

/// The loop of a partition.
pub(super) struct Unit {
    /// Its place on the board.
    pub(super) post: Arc<Post>,
    /// Runs it until it has handed over or halted.
    pub(super) run: Box<dyn Fn(Lease) -> BoxFuture<'static, ()> + Send + Sync>,
}

/// This node's share of a group.
pub(super) struct Share {
    pub(super) loops: Loops,
    pub(super) post: Arc<Post>,
    pub(super) group: String,
    pub(super) units: BTreeMap<Partition, Unit>,
}

/// Counts the shares at work, so that a node that stops can wait for them.
pub(super) struct Shares(watch::Sender<usize>);

impl Default for Shares {
    fn default() -> Self {
        Shares(watch::Sender::new(0))
    }
}

impl Shares {
    fn enter(self: &Arc<Self>) -> Inside {
        self.0.send_modify(|count| *count += 1);
        Inside(self.clone())
    }

    /// Returns when none is at work.
    pub(super) async fn gone(&self) {
        // The sender is this very struct, so the channel is not closed.
        let _ = self.0.subscribe().wait_for(|count| *count == 0).await;
    }
}

struct Inside(Arc<Shares>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

impl Share {
    /// Takes part in the group until the node stops.
    pub(super) async fn run(self) {
        let _inside = self.loops.shares.enter();
        let (stop, clock) = (self.loops.stop.clone(), self.loops.clock.clone());
        let given_up = async {
            stop.asked().await;
            clock.sleep_until(clock.now_ms() + DRAIN_WITHIN_MS + LEAVE_WITHIN_MS).await;
        };
        tokio::select! {
            _ = self.loops.tend(&self.post, &stop, || self.serve()) => {}
            () = given_up => {}
        }
    }

    /// One membership, to its end.
    async fn serve(&self) -> Result<()> {
        let mut topics: Vec<Arc<str>> = self.units.keys().map(|at| at.topic.clone()).collect();
        topics.dedup();
        let member: Arc<dyn Membership> = self.loops.typed().join(&self.group, &topics).await?.into();
        let mut working = Working { share: self, member: member.clone(), tasks: JoinSet::new(), held: BTreeMap::new() };
        let outcome = working.until_stopped().await;
        working.drop_all().await;
        member.leave().await;
        outcome
    }
}

/// A partition of this node, with its loop.
struct Held {
    task: AbortHandle,
    stop: Stop,
    /// The loop ended by itself: it halted.
    ended: bool,
    /// The partition is given away once the loop is gone.
    given: bool,
    /// The group waits for `released`.
    asked_back: bool,
    /// It was lost and is assigned again: it starts anew once the old loop is gone.
    again: bool,
    /// Draining ends then.
    until_ms: u64,
}

/// The partitions of one membership.
struct Working<'a> {
    share: &'a Share,
    member: Arc<dyn Membership>,
    tasks: JoinSet<()>,
    held: BTreeMap<Partition, Held>,
}

impl Working<'_> {
    /// Follows the group; it must be heard all the time, draining or not (claim-8).
    async fn until_stopped(&mut self) -> Result<()> {
        let (stop, clock) = (self.share.loops.stop.clone(), self.share.loops.clock.clone());
        let mut leaving = false;
        loop {
            if leaving && self.held.is_empty() {
                return Ok(());
            }
            let due_ms = self.held.values().map(|held| held.until_ms).min().unwrap_or(u64::MAX);
            tokio::select! {
                () = stop.asked(), if !leaving => {
                    leaving = true;
                    for at in self.held.keys().cloned().collect::<Vec<_>>() {
                        self.drain(&at, false).await?;
                    }
                }
                told = self.member.next() => match told? {
                    Assignment::Assigned(more) if leaving => tracing::debug!(?more, "assigned to a node that leaves"),
                    Assignment::Assigned(more) => self.assigned(more),
                    Assignment::Revoked(back) => self.asked_back(back).await?,
                    Assignment::Lost(gone) => self.lost(gone).await?,
                },
                Some(ended) = self.tasks.join_next_with_id() => self.ended(ended).await?,
                () = clock.sleep_until(due_ms) => self.cut_off(clock.now_ms()),
            }
        }
    }

    fn assigned(&mut self, more: Vec<Partition>) {
        for at in more {
            match self.held.get_mut(&at) {
                Some(held) => held.again = true,
                None => self.start(at),
            }
        }
        // From the first assignment on it is known whose the others are.
        for (at, unit) in &self.share.units {
            if !self.held.contains_key(at) {
                unit.post.elsewhere();
            }
        }
    }

    fn start(&mut self, at: Partition) {
        let Some(unit) = self.share.units.get(&at) else { return };
        unit.post.trying();
        let (stop, clock) = (Stop::default(), self.share.loops.clock.clone());
        let lease = Lease { member: self.member.clone(), stop: stop.clone(), at: at.clone(), clock };
        let task = self.tasks.spawn((unit.run)(lease));
        let (ended, given, asked_back, again) = (false, false, false, false);
        self.held.insert(at, Held { task, stop, ended, given, asked_back, again, until_ms: u64::MAX });
    }

    /// Asks a loop to hand over.
    async fn drain(&mut self, at: &Partition, asked_back: bool) -> Result<()> {
        let until_ms = self.share.loops.clock.now_ms() + DRAIN_WITHIN_MS;
        let Some(held) = self.held.get_mut(at) else { return Ok(()) };
        held.stop.ask();
        (held.given, held.asked_back, held.again) = (true, held.asked_back || asked_back, false);
        held.until_ms = held.until_ms.min(until_ms);
        if held.ended { self.finish(at).await } else { Ok(()) }
    }

    async fn asked_back(&mut self, back: Vec<Partition>) -> Result<()> {
        let (ours, idle): (Vec<_>, Vec<_>) = back.into_iter().partition(|at| self.held.contains_key(at));
        for at in &ours {
            self.drain(at, true).await?;
        }
        self.member.released(&idle).await
    }

    /// Somebody else's already: nothing more is written (claim-9).
    async fn lost(&mut self, gone: Vec<Partition>) -> Result<()> {
        for at in gone {
            let Some(held) = self.held.get_mut(&at) else { continue };
            (held.given, held.asked_back, held.again) = (true, false, false);
            held.task.abort();
            if held.ended {
                self.finish(&at).await?;
            }
        }
        Ok(())
    }

    fn cut_off(&mut self, now_ms: u64) {
        for (at, held) in self.held.iter_mut().filter(|(_, held)| held.until_ms <= now_ms) {
            tracing::warn!(%at, "a loop did not hand over in time and is ended where it stands; nothing is lost");
            held.until_ms = u64::MAX;
            held.task.abort();
        }
    }

    async fn ended(&mut self, ended: std::result::Result<(Id, ()), JoinError>) -> Result<()> {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        let Some((at, held)) = self.held.iter_mut().find(|(_, held)| held.task.id() == id) else { return Ok(()) };
        let at = at.clone();
        held.ended = true;
        if let Err(panic) = ended
            && panic.is_panic()
        {
            let error = Error::new(Code::Unexpected, "a loop ended by a panic; report it").caused_by(panic);
            tracing::error!(?error, %at, "stopped");
            self.share.units.get(&at).iter().for_each(|unit| unit.post.failed(&error));
        }
        // What halted stays here, shown, until the group wants it back.
        if held.given { self.finish(&at).await } else { Ok(()) }
    }

    async fn finish(&mut self, at: &Partition) -> Result<()> {
        let Some(held) = self.held.remove(at) else { return Ok(()) };
        if held.again {
            self.start(at.clone());
            return Ok(());
        }
        self.share.units.get(at).iter().for_each(|unit| unit.post.elsewhere());
        if held.asked_back { self.member.released(std::slice::from_ref(at)).await } else { Ok(()) }
    }

    /// Ends what still runs, and returns when it is gone.
    async fn drop_all(&mut self) {
        self.tasks.shutdown().await;
        self.held.clear();
        self.share.units.values().for_each(|unit| unit.post.elsewhere());
    }
}

#[cfg(test)]
mod tests;
