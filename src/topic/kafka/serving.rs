//! Serves a member of a group, on a thread of its own: what the group asks and tells must not stand in line
//! behind the work of owners, or a busy node would lose partitions that nobody else wants (claim-8). It ends
//! to serve when nobody asked for news for long: a node that hangs is no member.

use super::group::{self, Group, unassign};
use super::{Code, Error, Result, client::is_transient, failed, list};
use crate::runtime::clock::Clock;
use crate::topic::{Assignment, Partition};
use parking_lot::{Condvar, Mutex};
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// How often the group is served while nothing happens.
const TURN: Duration = Duration::from_millis(100);
/// Who has not asked for news for this long hangs, in milliseconds.
const HANGS_MS: u64 = 5_000;
/// How many events one turn serves at most.
const EVENTS_MAX: usize = 8;

/// What the thread and the member share.
pub(super) struct Served {
    pub(super) consumer: Arc<BaseConsumer<Group>>,
    /// There may be something to tell.
    pub(super) news: Notify,
    clock: Arc<dyn Clock>,
    named: bool,
    asked_ms: AtomicU64,
    ended: AtomicBool,
    bell: Arc<Bell>,
}

/// Rung when librdkafka has something for the thread.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    fn ring(&self) {
        *self.rung.lock() = true;
        self.heard.notify_one();
    }

    fn wait(&self) {
        let mut rung = self.rung.lock();
        if !*rung {
            self.heard.wait_for(&mut rung, TURN);
        }
        *rung = false;
    }
}

impl Served {
    /// Serves until `end`.
    pub(super) fn start(clock: Arc<dyn Clock>, mut consumer: BaseConsumer<Group>, named: bool) -> Result<Arc<Served>> {
        let bell = Arc::new(Bell::default());
        let ring = bell.clone();
        consumer.set_nonempty_callback(move || ring.ring());
        let (consumer, news, ended) = (Arc::new(consumer), Notify::new(), AtomicBool::new(false));
        let asked_ms = AtomicU64::new(clock.now_ms());
        let served = Arc::new(Served { consumer, news, clock, named, asked_ms, ended, bell });
        let serving = served.clone();
        let thread = std::thread::Builder::new().name("kafka-group".into()).spawn(move || serving.serve());
        let text = "a group could not be joined, because no thread could be started";
        thread.map_err(|error| Error::new(Code::Unexpected, text).caused_by(error))?;
        Ok(served)
    }

    /// No more turns.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.bell.ring();
    }

    /// The node is alive and asks for news.
    pub(super) fn is_asked(&self) {
        self.asked_ms.store(self.clock.now_ms(), Ordering::Release);
    }

    fn serve(&self) {
        while !self.ended.load(Ordering::Acquire) {
            if self.clock.now_ms().saturating_sub(self.asked_ms.load(Ordering::Acquire)) <= HANGS_MS {
                self.turn();
                self.news.notify_one();
            }
            self.bell.wait();
        }
    }

    pub(super) fn state(&self) -> &Mutex<group::State> {
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
        state.turned_ms = self.clock.now_ms();
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
    pub(super) fn give_back(&self, gone: &[Partition]) {
        let doing = "partitions could not be given back";
        let list = list(gone, Offset::Invalid);
        if let Err(error) = list.and_then(|list| unassign(&self.consumer, &list).map_err(|e| failed(doing, e))) {
            tracing::warn!(%error, "a rebalance was not answered; the group goes on after its time-out");
        }
    }

    pub(super) fn take_told(&self) -> Option<Result<Assignment>> {
        let mut state = self.state().lock();
        let told = state.told.pop_front().map(Ok);
        told.or_else(|| state.failed.take().map(Err))
    }
}
