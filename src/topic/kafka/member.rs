//! One member of a consumer group: it only learns which partitions are its own, and keeps what the
//! group has finished. It never fetches: its partitions are paused, readers read them.
//!
//! `next` is the sign of life (claim-8): librdkafka is served only there, so an owner that hangs is
//! put out of the group after `max.poll.interval.ms`. Partitions asked back stay ours until
//! `released`; partitions lost are gone at once (claim-9).
//!
//! A node that has a name is a *static* member (`group.instance.id`): killed and started again it gets
//! its partitions back at once, where a nameless one waits until the group has given its predecessor up
//! (`session.timeout.ms`). The group does not let a static member leave, so it steps aside instead: it
//! asks for another topic, and its partitions go to the others.

use super::client::{blocking, is_transient};
use super::group::{self, Group, unassign};
use super::metadata::{from_hex, to_hex};
use super::{Code, Error, KafkaLog, REQUEST, Result, config, failed, index, list, raw};
use crate::topic::{Assignment, Committed, Membership, Partition};
use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// How often the group is served while nothing happens, in milliseconds.
const TURN_MS: u64 = 100;
/// A member that was not served for this long does not trust what it knows (claim-8), in milliseconds.
const TRUST_MS: u64 = 1000;
/// How many events one turn serves at most.
const EVENTS_MAX: usize = 8;
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
    consumer: Arc<BaseConsumer<Group>>,
    filled: Arc<Notify>,
    /// Whether the group knows this node by its name.
    named: bool,
    topics: Vec<Arc<str>>,
    /// The group was asked to share anew.
    asked_anew: AtomicBool,
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
        let mut consumer: BaseConsumer<Group> =
            config.create_with_context(context).map_err(|e| failed(doing, e).at("group", group))?;
        let filled = Arc::new(Notify::new());
        let wake = filled.clone();
        consumer.set_nonempty_callback(move || wake.notify_one());
        let (topics, asked_anew) = (topics.to_vec(), AtomicBool::new(false));
        subscribe(&consumer, &topics, None).map_err(|e| failed(doing, e).at("group", group))?;
        Ok(KafkaMember { log, consumer: Arc::new(consumer), filled, named, topics, asked_anew })
    }

    fn state(&self) -> &Mutex<group::State> {
        &self.consumer.context().state
    }

    /// Serves the group once.
    fn turn(&self) {
        for _ in 0..EVENTS_MAX {
            // A message that slipped through before the pause is nobody's.
            if let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
                self.hear(error);
            }
        }
        let mut state = self.state().lock();
        state.turned_ms = self.log.0.clock.now_ms();
        if !state.leaving.is_empty() && self.consumer.assignment_lost() {
            let gone: Vec<_> = std::mem::take(&mut state.leaving).into_iter().collect();
            state.held.retain(|at| !gone.contains(at));
            state.told.push_back(Assignment::Lost(gone));
            let asked = std::mem::take(&mut state.asked);
            drop(state);
            self.give_back(&asked);
        }
    }

    fn hear(&self, error: KafkaError) {
        use RDKafkaErrorCode as K;
        match error.rdkafka_error_code() {
            Some(code) if is_transient(code) => tracing::debug!(%error, "the group is out of reach"),
            // Of fetching, which nobody wants; or the eviction that comes as a lost assignment.
            Some(K::AutoOffsetReset | K::OffsetOutOfRange | K::PollExceeded) => {
                tracing::debug!(%error, "heard in a group")
            }
            // A member whose answers were lost with a broker may also be put out by its own next attempt: it joins anew.
            Some(K::FencedInstanceId | K::Fatal) if self.named => {
                let text = "the group was joined again under this node's name. If this goes on, another node has the \
                            same name, because a data folder was copied or is used twice: remove the file `node-id` \
                            from one of them";
                self.state().lock().failed = Some(Error::new(Code::LogUnreachable, text).caused_by(error));
            }
            _ => self.state().lock().failed = Some(failed("the group told of trouble", error)),
        }
    }

    /// Tells the group that partitions are not ours any more.
    fn give_back(&self, gone: &[Partition]) {
        let doing = "partitions could not be given back";
        let list = list(gone, Offset::Invalid);
        if let Err(error) = list.and_then(|list| unassign(&self.consumer, &list).map_err(|e| failed(doing, e))) {
            tracing::warn!(%error, "a rebalance was not answered; the group goes on after its time-out");
        }
    }

    fn take_told(&self) -> Option<Result<Assignment>> {
        let mut state = self.state().lock();
        let told = state.told.pop_front().map(Ok);
        told.or_else(|| state.failed.take().map(Err))
    }

    async fn rest(&self) {
        tokio::select! {
            () = self.filled.notified() => {}
            () = self.log.pause(TURN_MS) => {}
        }
    }
}

#[async_trait]
impl Membership for KafkaMember {
    async fn next(&self) -> Result<Assignment> {
        loop {
            self.turn();
            self.ask_anew().await;
            if let Some(told) = self.take_told() {
                return told.map_err(|e| self.log.explain(e));
            }
            self.rest().await;
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
            self.give_back(&asked);
        }
        Ok(())
    }

    /// claim-8: assigned, not lost, and served within the last second; a paused process knows nothing.
    fn holds(&self, at: &Partition) -> bool {
        let state = self.state().lock();
        let rested_ms = self.log.0.clock.now_ms().saturating_sub(state.turned_ms);
        state.held.contains(at) && rested_ms <= TRUST_MS && !self.consumer.assignment_lost()
    }

    async fn committed(&self, at: &Partition) -> Result<Option<Committed>> {
        let (consumer, at) = (self.consumer.clone(), at.clone());
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
                    self.turn();
                    self.rest().await;
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
        if let Err(error) = self.consumer.close_queue() {
            return tracing::debug!(%error, "a group is left without a word");
        }
        self.turn_until(|member| member.consumer.closed()).await;
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
            self.give_back(&asked);
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
        if !self.named || !has_nothing || self.asked_anew.swap(true, Ordering::AcqRel) {
            return;
        }
        let other = self.log.0.settings.idle_topic();
        if self.knows(&other).await
            && let Err(error) = subscribe(&self.consumer, &self.topics, Some(&other))
        {
            tracing::warn!(%error, "the group could not be asked to share anew");
        }
    }

    /// Whether a topic is known to this member: it joins again at once only then.
    async fn knows(&self, topic: &str) -> bool {
        let (consumer, name) = (self.consumer.clone(), topic.to_owned());
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
        match self.consumer.subscribe(&[&other]) {
            Ok(()) => {
                let mut gone = None;
                self.turn_until(|member| member.is_aside(&other, &mut gone)).await;
            }
            Err(error) => tracing::debug!(%error, "the partitions rest until the session has timed out"),
        }
    }

    /// Whether the group has taken in that this member asks for `other` alone. The answer of a rebalance
    /// that was under way before says nothing: it has to come after the last partition was `gone`.
    fn is_aside(&self, other: &str, gone: &mut Option<u64>) -> bool {
        let Ok(mine) = self.consumer.assignment() else { return false };
        let mine = mine.elements();
        if mine.iter().any(|at| at.topic() != other) {
            *gone = None;
            return false;
        }
        let assignments = self.state().lock().assignments;
        !mine.is_empty() || assignments > *gone.get_or_insert(assignments)
    }

    /// Serves the group until something is so, but not for long.
    async fn turn_until(&self, mut is_so: impl FnMut(&Self) -> bool) {
        let until_ms = self.log.0.clock.now_ms() + LEAVE_WITHIN_MS;
        while !is_so(self) && self.log.0.clock.now_ms() < until_ms {
            self.turn();
            tokio::select! {
                () = self.filled.notified() => {}
                () = self.log.pause(LEAVE_LOOK_MS) => {}
            }
        }
    }

    async fn commit_once(&self, at: &Partition, committed: Committed) -> Result<()> {
        let (consumer, at) = (self.consumer.clone(), at.clone());
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
        let consumer = self.consumer.clone();
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
