//! What the node tells of itself: every loop has a post on the board, which says what it does, how
//! far it is, and what is wrong. A loop that stopped for good stays on the board with its error and
//! what to do about it; the others work on.

use super::asks::Meetings;
use crate::ledger::order::Order;
use crate::runtime::clock::Clock;
use crate::runtime::error::{Error, Remedy, Result};
use crate::runtime::orders::Orders;
use crate::runtime::progress::{Counts, FirstCopy, Parked, Progress};
use crate::topic::{Log, Partition, Typed};
use parking_lot::{Mutex, RwLock};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;

/// A loop that is behind and has not moved for so long is a finding.
const STALLED_MS: u64 = 60_000;
/// A key that waits for longer is a finding (sink-4 `dirty-after`).
const HELD_MS: u64 = 60_000;

/// What a loop does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Makes a dataset ready.
    Prepare,
    /// Opens a platform.
    Open,
    /// Reads a platform's changes.
    Capture,
    /// Settles a partition's proposals.
    Resolve,
    /// Reads a platform's changes and settles them itself.
    Fused,
    /// Writes a partition's versions to a platform.
    Apply,
    /// Observes and writes a partition of a platform.
    Agent,
    /// Takes a platform's hints.
    Hints,
    /// Clears a platform's log that nobody reads.
    Discard,
    /// Takes this node's share of a group's partitions.
    Join,
}

/// How a loop is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum State {
    /// At work.
    Running,
    /// It failed and is tried again.
    Retrying(Trouble),
    /// It waits for a record to be put right, and is tried again.
    Blocked(Trouble),
    /// It stopped until a person acts.
    Halted(Trouble),
    /// A person wants it to wait.
    Paused,
    /// It did what it had to.
    Done,
    /// Another node does it (claim-9).
    Elsewhere,
}

/// What is wrong.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Trouble {
    /// The error's code.
    pub code: &'static str,
    /// What is wrong and where.
    pub text: String,
    /// Where to read what to do.
    pub advice: String,
}

impl Trouble {
    fn of(error: &Error) -> Self {
        let mut text = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(source) = cause {
            text.push_str(&format!("; because: {source}"));
            cause = source.source();
        }
        let code = error.code.as_str();
        Trouble { code, text, advice: format!("docs/errors/{code}.md") }
    }
}

/// A loop's place on the board.
pub struct Post {
    /// Its dataset.
    pub dataset: Arc<str>,
    /// Its platform; empty for the dataset as a whole.
    pub platform: Arc<str>,
    /// What it does.
    pub work: Work,
    /// The partition it works on, and whose end its lag is counted from.
    pub input: Option<Partition>,
    /// How far it is.
    pub progress: Arc<Progress>,
    /// What people ask of it.
    pub orders: Arc<Orders<Order>>,
    pub(super) state: Mutex<State>,
    pub(super) wake: Notify,
}

impl Post {
    /// A loop that has not failed yet.
    #[must_use]
    pub fn new(dataset: &Arc<str>, platform: &Arc<str>, work: Work) -> Self {
        let (dataset, platform) = (dataset.clone(), platform.clone());
        let (progress, orders, state) = (Arc::default(), Arc::default(), Mutex::new(State::Running));
        Post { dataset, platform, work, input: None, progress, orders, state, wake: Notify::new() }
    }

    /// It is about to try.
    pub fn trying(&self) {
        *self.state.lock() = State::Running;
    }

    /// Another node does it.
    pub fn elsewhere(&self) {
        *self.state.lock() = State::Elsewhere;
    }

    /// It is finished.
    pub fn done(&self) {
        *self.state.lock() = State::Done;
    }

    /// It is so.
    pub(super) fn set(&self, state: State) {
        *self.state.lock() = state;
    }

    /// If it stopped for good, it is to begin anew.
    pub(super) fn wake(&self) {
        if matches!(self.state(), State::Halted(_)) {
            self.wake.notify_one();
        }
    }

    /// Returns when it is to begin anew. Cancel-safe.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// It failed.
    pub fn failed(&self, error: &Error) {
        let trouble = Trouble::of(error);
        *self.state.lock() = match error.remedy() {
            Remedy::Retry { .. } => State::Retrying(trouble),
            Remedy::Park => State::Blocked(trouble),
            Remedy::Halt => State::Halted(trouble),
        };
    }

    /// How it is.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.lock().clone()
    }
}

/// All posts.
#[derive(Default)]
pub struct Board {
    posts: RwLock<Vec<Arc<Post>>>,
}

/// The node's status.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// Whether everything runs.
    pub healthy: bool,
    /// The version of driftless.
    pub version: &'static str,
    /// By dataset.
    pub datasets: BTreeMap<String, DatasetReport>,
}

/// A dataset's status.
#[derive(Clone, PartialEq, Debug, Serialize, Default)]
pub struct DatasetReport {
    /// The only writer, if its reader settles the changes itself (resolve-9).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fused: Option<Arc<str>>,
    /// Proposals not settled yet.
    pub unsettled: u64,
    /// Versions settled since the start.
    pub settled: u64,
    /// Conflicts among them.
    pub conflicts: u64,
    /// Loops that other nodes of the same log run.
    pub elsewhere: u64,
    /// Loops that are behind and have not moved for a while, although the source did.
    pub stalled: usize,
    /// Loops that wait because a person said so.
    pub paused: usize,
    /// By platform.
    pub platforms: BTreeMap<String, PlatformReport>,
    /// What would be written at the first write, which waits for an answer (who-4).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asks: Option<Meetings>,
    /// What people should know.
    pub findings: Vec<String>,
    /// Loops that do not run.
    pub troubles: Vec<LoopReport>,
}

/// A platform's status in a dataset.
#[derive(Clone, PartialEq, Debug, Serialize, Default)]
pub struct PlatformReport {
    /// How sure it is that nothing is lost or doubled there (who-3); empty if nothing is written there.
    pub guarantee: &'static str,
    /// Canonical versions it has not finished yet.
    pub lag_events: u64,
    /// How old the newest version it has finished is by its source commit, while it is behind; in milliseconds.
    pub lag_ms: u64,
    /// What its loops counted, together.
    pub counts: Counts,
    /// Some of the keys put aside.
    pub parked: Vec<Parked>,
    /// The first copies under way, by collection.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub copying: BTreeMap<String, FirstCopy>,
}

/// A loop that does not run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct LoopReport {
    /// Its platform; empty for the dataset as a whole.
    pub platform: Arc<str>,
    /// What it does.
    pub work: Work,
    /// The partition, if it has one.
    pub partition: Option<String>,
    /// What is wrong.
    #[serde(flatten)]
    pub state: State,
}

impl Board {
    /// Puts a loop on the board.
    pub fn post(&self, post: Post) -> Arc<Post> {
        let post = Arc::new(post);
        self.posts.write().push(post.clone());
        post
    }

    /// All loops.
    #[must_use]
    pub fn posts(&self) -> Vec<Arc<Post>> {
        self.posts.read().clone()
    }

    /// The status now; also brings the lag metrics up to date.
    ///
    /// # Errors
    /// If the log cannot be asked.
    pub async fn report(&self, log: &dyn Log<Typed>, clock: &dyn Clock) -> Result<Report> {
        let now_ms = clock.now_ms();
        let mut report = Report { healthy: true, version: env!("CARGO_PKG_VERSION"), datasets: BTreeMap::new() };
        for post in self.posts() {
            let high = match &post.input {
                Some(at) => log.bounds(at).await?.high,
                None => 0,
            };
            let dataset = report.datasets.entry(post.dataset.to_string()).or_default();
            let state = post.state();
            if state == State::Elsewhere {
                // Its lag is told by the node that does it.
                dataset.elsewhere += 1;
                dataset.fused = (post.work == Work::Fused).then(|| post.platform.clone()).or(dataset.fused.take());
                continue;
            }
            if state == State::Paused {
                dataset.paused += 1;
            } else if !matches!(state, State::Running | State::Done) {
                report.healthy = false;
                dataset.troubles.push(LoopReport {
                    platform: post.platform.clone(),
                    work: post.work,
                    partition: post.input.as_ref().map(ToString::to_string),
                    state,
                });
            }
            dataset.add(&post, high, now_ms);
        }
        Ok(report)
    }
}

impl DatasetReport {
    fn add(&mut self, post: &Post, high: u64, now_ms: u64) {
        let counts = post.progress.counts();
        let lag = high.saturating_sub(counts.offset);
        self.findings.extend(finding(post, &counts, now_ms));
        let stalled = stalled(post, &counts, lag, now_ms);
        self.stalled += usize::from(stalled.is_some());
        self.findings.extend(stalled);
        if post.work == Work::Fused {
            self.fused = Some(post.platform.clone());
            self.settled += counts.settled;
        }
        if post.work == Work::Resolve {
            self.unsettled += lag;
            self.settled += counts.settled;
            self.conflicts += counts.conflicts;
        }
        if post.platform.is_empty() {
            return;
        }
        let platform = self.platforms.entry(post.platform.to_string()).or_default();
        if matches!(post.work, Work::Apply | Work::Agent) {
            platform.lag_events += lag;
            let is_behind = lag > 0 && counts.newest_ms > 0;
            platform.lag_ms = platform.lag_ms.max(if is_behind { now_ms.saturating_sub(counts.newest_ms) } else { 0 });
            post.progress.lag(lag, now_ms);
        }
        platform.counts.add(&counts);
        platform.parked.extend(post.progress.parked());
    }
}

/// What people should know about a loop.
fn finding(post: &Post, counts: &Counts, now_ms: u64) -> Option<String> {
    let place = || post.input.as_ref().map_or_else(String::new, |at| format!(" on {at}"));
    let platform = &post.platform;
    if counts.parked > 0 {
        return Some(format!(
            "{platform}: {} keys are put aside{}; see `driftless parked list`",
            counts.parked,
            place()
        ));
    }
    let waits_ms = now_ms.saturating_sub(counts.held_since_ms);
    if counts.held_since_ms > 0 && waits_ms > HELD_MS {
        let text = "versions wait because the platform holds something nobody has told of yet";
        return Some(format!("{platform}: {} {text}, for {} s{}", counts.held, waits_ms / 1000, place()));
    }
    None
}

/// The source moved on and a loop behind it did not: derived from what both have finished, not from the
/// loop's being there.
fn stalled(post: &Post, counts: &Counts, lag: u64, now_ms: u64) -> Option<String> {
    let still_ms = now_ms.saturating_sub(counts.moved_ms);
    // What waits for something else is told by its own finding.
    let waits = post.state() == State::Paused || counts.held > 0;
    if waits || lag == 0 || counts.moved_ms == 0 || still_ms <= STALLED_MS {
        return None;
    }
    let place = post.input.as_ref().map_or_else(String::new, |at| format!(" on {at}"));
    let (work, platform) = (format!("{:?}", post.work).to_lowercase(), &post.platform);
    let (minutes, who) = (still_ms / 60_000, if platform.is_empty() { "the dataset" } else { platform });
    Some(format!(
        "{who}: nothing moved for {minutes} min although the source did: {work} is {lag} events behind{place}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn post(work: Work) -> Post {
        Post::new(&"notes".into(), &"b".into(), work)
    }

    /// Derived from progress: a task that is alive and does nothing is told.
    #[test]
    fn a_loop_behind_that_does_not_move_although_the_source_did_is_a_finding() {
        let post = post(Work::Apply);
        post.progress.finished(5, 0, 1_000);
        let at = |lag, now_ms| stalled(&post, &post.progress.counts(), lag, now_ms);
        assert_eq!(at(0, 500_000), None, "the source did not move");
        assert_eq!(at(3, 60_000), None, "not for long");
        let told = at(3, 1_000 + 3 * 60_000).unwrap();
        assert!(
            told.contains("nothing moved for 3 min although the source did") && told.contains("3 events"),
            "{told}"
        );
        post.progress.finished(6, 0, 181_000);
        assert_eq!(at(2, 182_000), None, "it moves again");
        post.set(State::Paused);
        assert_eq!(at(2, 999_000), None, "a person wants it so");
    }

    #[test]
    fn what_waits_for_something_else_is_told_as_that() {
        let post = post(Work::Apply);
        post.progress.finished(5, 1, 1_000);
        let counts = post.progress.counts();
        assert_eq!(stalled(&post, &counts, 3, 500_000), None);
        assert!(finding(&post, &counts, 500_000).unwrap().contains("nobody has told of yet"));
    }
}
