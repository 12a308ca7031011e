//! One member of a consumer group: it only learns which partitions are its own, and keeps what the
//! group has finished. It never fetches: its partitions are paused, readers read them.
//!
//! `next` is the sign of life (claim-8): a node that does not ask for long is not served any more, and is
//! put out of the group after `max.poll.interval.ms`. Partitions asked back stay ours until
//! `released`; partitions lost are gone at once (claim-9).
//!
//! A node that has a name is a *static* member (`group.instance.id`): killed and started again it gets
//! its partitions back at once, where a nameless one waits until the group has given its predecessor up
//! (`session.timeout.ms`). The group does not let a static member leave, so it steps aside instead: it
//! asks for another topic, and its partitions go to the others.

use super::client::blocking;
use super::group::{self, Group};
use super::metadata::{from_hex, to_hex};
use super::serving::Served;
use super::{Code, Error, KafkaLog, REQUEST, Result, config, failed, index, list, raw};
use crate::topic::{Assignment, Committed, Membership, Partition};
use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How often a member looks for news although none was told, in milliseconds.
const ASK_MS: u64 = 100;
/// A member that was not served for this long does not trust what it knows (claim-8), in milliseconds.
const TRUST_MS: u64 = 1000;
/// How long a named member waits for a share before it asks the group to share anew, in milliseconds.
const EMPTY_MS: u64 = 5_000;
/// How long joining or a rebalance may hold up a commit, in milliseconds.
const COMMIT_WITHIN_MS: u64 = 30_000;

/// How long stepping aside and leaving may take each, in milliseconds.
const LEAVE_WITHIN_MS: u64 = 6_000;
/// How often a member that leaves looks whether it has left, in milliseconds.
const LEAVE_LOOK_MS: u64 = 5;
/// How often a member that leaves looks whether a commit still runs.
const LEAVE_TURN: Duration = Duration::from_millis(5);

/// Partitions are never fetched here; should one slip through before it is paused, it is small.
const TUNED: [(&str, &str); 4] = [
    ("queued.min.messages", "1"),
    ("queued.max.messages.kbytes", "64"),
    ("fetch.message.max.bytes", "1024"),
    ("max.poll.interval.ms", "30000"),
];

/// Not known to `group.protocol: consumer`, where the broker decides.
const CLASSIC: [(&str, &str); 3] = [
    ("partition.assignment.strategy", "cooperative-sticky"),
    // The shortest that brokers allow unless told: how long the partitions of a killed node rest.
    ("session.timeout.ms", "6000"),
    ("heartbeat.interval.ms", "1000"),
];

const FIXED: [(&str, &str); 4] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "false"),
];

/// A member of a group.
pub(super) struct KafkaMember {
    log: KafkaLog,
    served: Arc<Served>,
    /// Whether the group knows this node by its name.
    named: bool,
    topics: Vec<Arc<str>>,
    /// The group was asked to share anew.
    asked_anew: AtomicBool,
    /// Since when it has been without partitions in the group; 0 if it has some.
    empty_ms: AtomicU64,
}

impl KafkaMember {
    /// Joins a group. Blocks shortly.
    pub(super) fn join(log: KafkaLog, group: &str, topics: &[Arc<str>]) -> Result<Self> {
        let doing = "the group could not be joined";
        let settings = &log.0.settings;
        let newer = settings.librdkafka.get("group.protocol").is_some_and(|p| p.eq_ignore_ascii_case("consumer"));
        let mut tuned = TUNED.to_vec();
        tuned.extend(CLASSIC.iter().filter(|_| !newer));
        let mut config = config(settings, &tuned, &FIXED);
        config.set("group.id", group);
        // The newer protocol keeps the name of a killed member for its whole session.
        let name = settings.instance.as_deref().filter(|_| !newer);
        if let Some(name) = name {
            config.set("group.instance.id", name);
        }
        let named = name.is_some();
        let context = Group { heard: log.0.heard.clone(), state: Mutex::default() };
        let consumer: BaseConsumer<Group> =
            config.create_with_context(context).map_err(|e| failed(doing, e).at("group", group))?;
        let (topics, asked_anew) = (topics.to_vec(), AtomicBool::new(false));
        subscribe(&consumer, &topics, None).map_err(|e| failed(doing, e).at("group", group))?;
        let served = Served::start(log.0.clock.clone(), consumer, named).map_err(|e| e.at("group", group))?;
        Ok(KafkaMember { log, served, named, topics, asked_anew, empty_ms: AtomicU64::new(0) })
    }

    fn state(&self) -> &Mutex<group::State> {
        self.served.state()
    }

    /// Until there may be news; says that this node is alive.
    async fn rest(&self, ms: u64) {
        self.served.is_asked();
        tokio::select! {
            () = self.served.news.notified() => {}
            () = self.log.pause(ms) => {}
        }
    }
}

#[async_trait]
impl Membership for KafkaMember {
    async fn next(&self) -> Result<Assignment> {
        loop {
            self.ask_anew().await;
            if let Some(told) = self.served.take_told() {
                return told.map_err(|e| self.log.explain(e));
            }
            self.rest(ASK_MS).await;
        }
    }

    async fn released(&self, partitions: &[Partition]) -> Result<()> {
        let mut state = self.state().lock();
        for at in partitions {
            if state.leaving.remove(at) {
                state.held.remove(at);
            }
        }
        if state.leaving.is_empty() && !state.asked.is_empty() {
            let asked = std::mem::take(&mut state.asked);
            drop(state);
            self.served.give_back(&asked);
        }
        Ok(())
    }

    /// claim-8: assigned, not lost, and served within the last second; a paused process knows nothing.
    fn holds(&self, at: &Partition) -> bool {
        let state = self.state().lock();
        let rested_ms = self.log.0.clock.now_ms().saturating_sub(state.turned_ms);
        state.held.contains(at) && rested_ms <= TRUST_MS && !self.served.consumer.assignment_lost()
    }

    async fn committed(&self, at: &Partition) -> Result<Option<Committed>> {
        let (consumer, at) = (self.served.consumer.clone(), at.clone());
        let answer = blocking(move || {
            let failed = |e| failed("what the group finished is not known", e).at("partition", &at);
            let list = list([&at], Offset::Invalid)?;
            let list = consumer.committed_offsets(list, REQUEST).map_err(failed)?;
            let Some(found) = list.find_partition(&at.topic, index(&at)) else { return Ok(None) };
            found.error().map_err(failed)?;
            let Offset::Offset(offset) = found.offset() else { return Ok(None) };
            let metadata = from_hex(found.metadata()).ok_or_else(|| {
                let text = "the group's metadata were not written by driftless; is its name used by something else?";
                Error::new(Code::LogCorrupt, text).at("partition", &at)
            })?;
            Ok(Some(Committed { offset: u64::try_from(offset).unwrap_or(0), metadata }))
        });
        answer.await.map_err(|e| self.log.explain(e))
    }

    async fn commit(&self, at: &Partition, committed: Committed) -> Result<()> {
        let until_ms = self.log.0.clock.now_ms() + COMMIT_WITHIN_MS;
        loop {
            // Before it has joined, a member could commit only to an empty group.
            let joined = self.state().lock().joined;
            let outcome = if joined { self.commit_once(at, committed.clone()).await } else { Err(joining(at)) };
            match outcome {
                Err(error) if error.code == Code::LogUnreachable && self.log.0.clock.now_ms() < until_ms => {
                    self.rest(ASK_MS).await;
                }
                other => return other.map_err(|e| self.log.explain(e)),
            }
        }
    }

    async fn leave(&self) {
        self.close_state();
        if self.named {
            self.step_aside().await;
        }
        if let Err(error) = self.served.consumer.close_queue() {
            return tracing::debug!(%error, "a group is left without a word");
        }
        self.until(|member| member.served.consumer.closed()).await;
    }
}

fn subscribe(consumer: &BaseConsumer<Group>, topics: &[Arc<str>], more: Option<&str>) -> KafkaResult<()> {
    let topics: Vec<&str> = topics.iter().map(|topic| &**topic).chain(more).collect();
    consumer.subscribe(&topics)
}

fn joining(at: &Partition) -> Error {
    Error::new(Code::LogUnreachable, "the group could not be joined in time").at("partition", at)
}

impl KafkaMember {
    /// From now on nothing is told any more, and what is asked back is given at once.
    fn close_state(&self) {
        let mut state = self.state().lock();
        state.closing = true;
        state.leaving.clear();
        let asked = std::mem::take(&mut state.asked);
        drop(state);
        if !asked.is_empty() {
            self.served.give_back(&asked);
        }
    }

    /// A name that comes back is given what it held before and nobody else is asked, so that one which had stepped
    /// aside, or was killed before it was given anything, would have nothing for ever. Who begins with nothing asks
    /// for one topic more: then the group shares anew.
    async fn ask_anew(&self) {
        let has_nothing = {
            let state = self.state().lock();
            state.joined && !state.closing && !state.held.iter().any(|at| self.topics.contains(&at.topic))
        };
        if !self.named || !has_nothing || self.asked_anew.load(Ordering::Acquire) {
            return self.empty_ms.store(0, Ordering::Release);
        }
        // Who joins is often given nothing first, and its share when the others have let go of it.
        let now_ms = self.log.0.clock.now_ms();
        let since = self.empty_ms.compare_exchange(0, now_ms, Ordering::AcqRel, Ordering::Acquire);
        if since.map_or_else(|since_ms| now_ms < since_ms + EMPTY_MS, |_| true) {
            return;
        }
        let other = self.log.0.settings.idle_topic();
        let known = self.knows(&other).await;
        // Only now, because who waits for news may stop to wait while that is looked up.
        if !self.asked_anew.swap(true, Ordering::AcqRel)
            && known
            && let Err(error) = subscribe(&self.served.consumer, &self.topics, Some(&other))
        {
            tracing::warn!(%error, "the group could not be asked to share anew");
        }
    }

    /// Whether a topic is known to this member: it joins again at once only then.
    async fn knows(&self, topic: &str) -> bool {
        let (consumer, name) = (self.served.consumer.clone(), topic.to_owned());
        let known = blocking(move || {
            let metadata = consumer.fetch_metadata(Some(&name), REQUEST);
            let metadata = metadata.map_err(|e| failed("a topic beside those worked on is not known", e))?;
            Ok(metadata.topics().iter().any(|topic| topic.name() == name && topic.error().is_none()))
        });
        matches!(known.await, Ok(true))
    }

    /// Lets the group give this member's partitions to others: it asks for a topic nobody works on.
    async fn step_aside(&self) {
        let other = self.log.0.settings.idle_topic();
        if !self.knows(&other).await {
            return;
        }
        match self.served.consumer.subscribe(&[&other]) {
            Ok(()) => {
                let mut gone = None;
                self.until(|member| member.is_aside(&other, &mut gone)).await;
            }
            Err(error) => tracing::debug!(%error, "the partitions rest until the session has timed out"),
        }
    }

    /// Whether the group has taken in that this member asks for `other` alone. The answer of a rebalance
    /// that was under way before says nothing: it has to come after the last partition was `gone`.
    fn is_aside(&self, other: &str, gone: &mut Option<u64>) -> bool {
        let Ok(mine) = self.served.consumer.assignment() else { return false };
        let mine = mine.elements();
        if mine.iter().any(|at| at.topic() != other) {
            *gone = None;
            return false;
        }
        let assignments = self.state().lock().assignments;
        !mine.is_empty() || assignments > *gone.get_or_insert(assignments)
    }

    /// Waits until something is so, but not for long.
    async fn until(&self, mut is_so: impl FnMut(&Self) -> bool) {
        let until_ms = self.log.0.clock.now_ms() + LEAVE_WITHIN_MS;
        while !is_so(self) && self.log.0.clock.now_ms() < until_ms {
            self.rest(LEAVE_LOOK_MS).await;
        }
    }

    async fn commit_once(&self, at: &Partition, committed: Committed) -> Result<()> {
        let (consumer, at) = (self.served.consumer.clone(), at.clone());
        blocking(move || {
            let failed = |e| failed("what is finished could not be committed", e).at("partition", &at);
            let list = list([&at], raw(committed.offset))?;
            if let Some(mut place) = list.find_partition(&at.topic, index(&at)) {
                place.set_metadata(to_hex(&committed.metadata));
            }
            consumer.commit(&list, CommitMode::Sync).map_err(failed)
        })
        .await
    }
}

impl Drop for KafkaMember {
    /// Leaving takes a moment: elsewhere.
    fn drop(&mut self) {
        self.close_state();
        self.served.end();
        let consumer = self.served.consumer.clone();
        let leave = move || {
            // The last one to let go closes; this thread may block, the others must not.
            while Arc::strong_count(&consumer) > 1 {
                std::thread::park_timeout(LEAVE_TURN);
            }
        };
        if let Err(error) = std::thread::Builder::new().name("kafka-close".into()).spawn(leave) {
            tracing::warn!(%error, "a group was left in place, because no thread could be started");
        }
    }
}
