//! One member of a consumer group: it only learns which partitions are its own, and keeps what the
//! group has finished. It never fetches: its partitions are paused, readers read them.
//!
//! `next` is the sign of life (claim-8): librdkafka is served only there, so an owner that hangs is
//! put out of the group after `max.poll.interval.ms`. Partitions asked back stay ours until
//! `released`; partitions lost are gone at once (claim-9).

use super::client::{blocking, is_transient};
use super::{Code, Error, Heard, KafkaLog, REQUEST, Result, config, failed, index, list, raw};
use crate::topic::{Assignment, Committed, Membership, Partition};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
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
    ("session.timeout.ms", "10000"),
    ("heartbeat.interval.ms", "2000"),
];

const FIXED: [(&str, &str); 4] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "false"),
];

/// What the member knows.
#[derive(Default)]
struct State {
    held: BTreeSet<Partition>,
    /// Asked back: answered in one, when none of them is kept any more.
    asked: Vec<Partition>,
    /// Those of `asked` that are not released yet.
    leaving: BTreeSet<Partition>,
    /// What `next` has to tell.
    told: VecDeque<Assignment>,
    failed: Option<Error>,
    joined: bool,
    closing: bool,
    turned_ms: u64,
}

/// Hears the group.
struct Group {
    heard: Heard,
    state: Mutex<State>,
}

impl ClientContext for Group {
    fn error(&self, error: KafkaError, reason: &str) {
        self.heard.error(error, reason);
    }
}

impl ConsumerContext for Group {
    /// Runs inside of `turn`, or while the consumer closes.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let all = partitions(list);
        let done = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => self.assigned(consumer, &all, list),
            _ => self.revoked(consumer, all, list),
        };
        if let Err(error) = done {
            self.state.lock().failed = Some(failed("an assignment of the group could not be taken", error));
        }
    }
}

impl Group {
    fn assigned(
        &self,
        consumer: &BaseConsumer<Self>,
        all: &[Partition],
        list: &mut TopicPartitionList,
    ) -> KafkaResult<()> {
        // Any offset will do, as nothing is fetched; without one librdkafka would ask the cluster.
        list.set_all_offsets(Offset::Offset(0))?;
        match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_assign(list)?,
            _ => consumer.assign(list)?,
        }
        if !all.is_empty() {
            consumer.pause(list)?;
        }
        let mut state = self.state.lock();
        state.joined = true;
        state.held.extend(all.iter().cloned());
        if !all.is_empty() {
            state.told.push_back(Assignment::Assigned(all.to_vec()));
        }
        Ok(())
    }

    fn revoked(
        &self,
        consumer: &BaseConsumer<Self>,
        all: Vec<Partition>,
        list: &TopicPartitionList,
    ) -> KafkaResult<()> {
        let lost = consumer.assignment_lost();
        let mut state = self.state.lock();
        if !lost && !state.closing && !all.is_empty() {
            // Given back by `released`: until then the owner may finish (claim-9).
            state.leaving.extend(all.iter().cloned());
            state.asked.extend(all.iter().cloned());
            state.told.push_back(Assignment::Revoked(all));
            return Ok(());
        }
        state.held.retain(|at| !all.contains(at));
        if lost && !all.is_empty() {
            state.told.push_back(Assignment::Lost(all));
        }
        drop(state);
        unassign(consumer, list)
    }
}

fn unassign(consumer: &BaseConsumer<Group>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        _ => consumer.unassign(),
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<Partition> {
    let all = list.elements();
    all.iter().map(|e| Partition::new(e.topic(), u32::try_from(e.partition()).unwrap_or(u32::MAX))).collect()
}

/// A member of a group.
pub(super) struct KafkaMember {
    log: KafkaLog,
    consumer: Arc<BaseConsumer<Group>>,
    filled: Arc<Notify>,
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
        let context = Group { heard: log.0.heard.clone(), state: Mutex::default() };
        let mut consumer: BaseConsumer<Group> =
            config.create_with_context(context).map_err(|e| failed(doing, e).at("group", group))?;
        let filled = Arc::new(Notify::new());
        let wake = filled.clone();
        consumer.set_nonempty_callback(move || wake.notify_one());
        let topics: Vec<&str> = topics.iter().map(|t| &**t).collect();
        consumer.subscribe(&topics).map_err(|e| failed(doing, e).at("group", group))?;
        Ok(KafkaMember { log, consumer: Arc::new(consumer), filled })
    }

    fn state(&self) -> &Mutex<State> {
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
}

fn joining(at: &Partition) -> Error {
    Error::new(Code::LogUnreachable, "the group could not be joined in time").at("partition", at)
}

impl KafkaMember {
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
        let mut state = self.state().lock();
        state.closing = true;
        state.leaving.clear();
        let asked = std::mem::take(&mut state.asked);
        drop(state);
        if !asked.is_empty() {
            self.give_back(&asked);
        }
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

/// Kafka's metadata are text: two digits a byte.
fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hex(text: &str) -> Option<Bytes> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect::<Option<Vec<u8>>>().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn metadata_survive_being_text(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(from_hex(&to_hex(&bytes)), Some(Bytes::from(bytes)));
        }
    }

    #[test]
    fn metadata_of_others_are_no_metadata() {
        assert_eq!(from_hex("abc"), None);
        assert_eq!(from_hex("zz"), None);
        assert_eq!(from_hex(""), Some(Bytes::new()));
    }
}
