//! The log in memory: for tests, and for the simulation, which decides when an append lands.
//! Everything is lost with the process; nothing but that differs from the contract.

use super::single::{Groups, Member};
use super::{
    Appending, Assignment, Bounds, Cleanup, Committed, Delivered, Log, Membership, Message, Partition, Payload,
    Reading, Session, TopicSpec,
};
use crate::event::Offset;
use crate::runtime::clock::Clock;
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

/// A log in memory. Clones share it.
pub struct MemoryLog<P>(Arc<Inner<P>>);

impl<P> Clone for MemoryLog<P> {
    fn clone(&self) -> Self {
        MemoryLog(self.0.clone())
    }
}

struct Inner<P> {
    clock: Arc<dyn Clock>,
    /// Whether appends wait for `Flight::land`.
    manual: bool,
    state: Mutex<State<P>>,
    members: Groups,
}

struct State<P> {
    topics: BTreeMap<Arc<str>, Topic<P>>,
    groups: BTreeMap<(String, Partition), Committed>,
    flights: Vec<InFlight<P>>,
    sessions: u64,
    handed: u64,
}

struct Topic<P> {
    spec: TopicSpec,
    partitions: Vec<Records<P>>,
}

struct Records<P> {
    low: Offset,
    next: Offset,
    records: VecDeque<Delivered<P>>,
    waiting: Vec<Waker>,
}

struct InFlight<P> {
    number: u64,
    session: u64,
    at: Partition,
    messages: Vec<Message<P>>,
    /// Offsets of its messages that have landed before the rest.
    landed: Vec<Offset>,
    answer: Arc<Mutex<Answer>>,
}

impl<P> InFlight<P> {
    fn shown(&self) -> Flight {
        let InFlight { number, session, at, messages, .. } = self;
        Flight { number: *number, session: *session, at: at.clone(), messages: messages.len() }
    }
}

#[derive(Default)]
struct Answer {
    outcome: Option<Result<Vec<Offset>>>,
    waker: Option<Waker>,
}

impl Answer {
    fn give(slot: &Mutex<Answer>, outcome: Result<Vec<Offset>>) {
        let mut answer = slot.lock();
        if answer.outcome.is_none() {
            answer.outcome = Some(outcome);
        }
        if let Some(waker) = answer.waker.take() {
            waker.wake();
        }
    }
}

/// An append that was given to the log and has not landed yet (manual logs only).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flight {
    /// Names it for `land`, `lose` and `give_up`.
    pub number: u64,
    /// The session it belongs to: batches of one session and partition land in order.
    pub session: u64,
    /// Where it goes.
    pub at: Partition,
    /// How many of its messages have not landed.
    pub messages: usize,
}

impl<P: Payload> MemoryLog<P> {
    /// A log in which every append lands at once.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::build(clock, false)
    }

    /// A log in which every append waits until `land` is called.
    #[must_use]
    pub fn manual(clock: Arc<dyn Clock>) -> Self {
        Self::build(clock, true)
    }

    fn build(clock: Arc<dyn Clock>, manual: bool) -> Self {
        let state =
            State { topics: BTreeMap::new(), groups: BTreeMap::new(), flights: Vec::new(), sessions: 0, handed: 0 };
        MemoryLog(Arc::new(Inner { clock, manual, state: Mutex::new(state), members: Groups::default() }))
    }

    /// The appends on their way, oldest first.
    #[must_use]
    pub fn flights(&self) -> Vec<Flight> {
        let state = self.0.state.lock();
        state.flights.iter().map(|f| f.shown()).collect()
    }

    /// Lets an append land and answers it, if its sender still waits.
    pub fn land(&self, number: u64) {
        let mut state = self.0.state.lock();
        let Some(at) = state.flights.iter().position(|f| f.number == number) else { return };
        let InFlight { at, messages, mut landed, answer, .. } = state.flights.remove(at);
        let outcome = state.write(&at, messages, self.0.clock.now_ms());
        Answer::give(
            &answer,
            outcome.map(|rest| {
                landed.extend(rest);
                landed
            }),
        );
    }

    /// Lets the first `count` messages of an append land; the rest stays on its way, and the append is not
    /// answered. A batch is ordered, not atomic.
    pub fn land_part(&self, number: u64, count: usize) {
        let mut state = self.0.state.lock();
        let Some(index) = state.flights.iter().position(|f| f.number == number) else { return };
        let Some(flight) = state.flights.get_mut(index) else { return };
        let at = flight.at.clone();
        let part: Vec<_> = flight.messages.drain(..count.min(flight.messages.len())).collect();
        let landed = state.write(&at, part, self.0.clock.now_ms()).unwrap_or_default();
        if let Some(flight) = state.flights.get_mut(index) {
            flight.landed.extend(landed);
        }
    }

    /// Drops an append: it never lands, and its sender learns that its fate is unknown.
    pub fn lose(&self, number: u64) {
        let mut state = self.0.state.lock();
        let Some(at) = state.flights.iter().position(|f| f.number == number) else { return };
        let flight = state.flights.remove(at);
        Answer::give(&flight.answer, Err(unknown(&flight.at)));
    }

    /// Tells the sender that the fate is unknown; the append stays on its way and may land later.
    pub fn give_up(&self, number: u64) {
        let state = self.0.state.lock();
        if let Some(flight) = state.flights.iter().find(|f| f.number == number) {
            Answer::give(&flight.answer, Err(unknown(&flight.at)));
        }
    }

    /// Compacts a topic: of each key only the newest message stays, picked further by `keep_also`.
    pub fn compact(&self, topic: &str, mut keep_also: impl FnMut(&Delivered<P>) -> bool) {
        let mut state = self.0.state.lock();
        let Some(topic) = state.topics.get_mut(topic).filter(|t| t.spec.cleanup == Cleanup::Compact) else { return };
        for records in &mut topic.partitions {
            let newest: BTreeMap<Bytes, Offset> = records.records.iter().map(|d| (d.key.clone(), d.offset)).collect();
            records.records.retain(|d| newest.get(&d.key) == Some(&d.offset) || keep_also(d));
        }
    }

    /// Everything a partition holds.
    #[must_use]
    pub fn dump(&self, at: &Partition) -> Vec<Delivered<P>> {
        let mut state = self.0.state.lock();
        state.records(at).map_or_else(|_| Vec::new(), |r| r.records.iter().cloned().collect())
    }
}

fn unknown(at: &Partition) -> Error {
    Error::new(Code::AppendUnknown, "the log did not answer; the append may or may not have landed").at("partition", at)
}

impl<P: Payload> State<P> {
    fn records(&mut self, at: &Partition) -> Result<&mut Records<P>> {
        self.topics
            .get_mut(&at.topic)
            .and_then(|t| t.partitions.get_mut(at.index as usize))
            .ok_or_else(|| Error::new(Code::TopicMissing, "the topic or partition does not exist").at("partition", at))
    }

    fn write(&mut self, at: &Partition, messages: Vec<Message<P>>, time_ms: u64) -> Result<Vec<Offset>> {
        let records = self.records(at)?;
        let time_ms = records.records.back().map_or(time_ms, |d| d.time_ms.max(time_ms));
        let mut offsets = Vec::with_capacity(messages.len());
        for Message { key, payload } in messages {
            offsets.push(records.next);
            records.records.push_back(Delivered { offset: records.next, time_ms, key, payload });
            records.next += 1;
        }
        records.waiting.drain(..).for_each(Waker::wake);
        Ok(offsets)
    }
}

struct MemorySession<P> {
    log: MemoryLog<P>,
    number: u64,
}

impl<P: Payload> Session<P> for MemorySession<P> {
    fn append(&self, at: &Partition, messages: Vec<Message<P>>) -> Appending {
        let mut state = self.log.0.state.lock();
        if !self.log.0.manual {
            let outcome = state.write(at, messages, self.log.0.clock.now_ms());
            return Box::pin(async move { outcome });
        }
        let answer = Arc::new(Mutex::new(Answer::default()));
        state.handed += 1;
        let number = state.handed;
        let (session, landed) = (self.number, Vec::new());
        state.flights.push(InFlight { number, session, at: at.clone(), messages, landed, answer: answer.clone() });
        Box::pin(poll_fn(move |context| {
            let mut answer = answer.lock();
            match answer.outcome.take() {
                Some(outcome) => Poll::Ready(outcome),
                None => {
                    answer.waker = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        }))
    }
}

struct MemoryReading<P> {
    log: MemoryLog<P>,
    at: Partition,
    next: Offset,
}

#[async_trait]
impl<P: Payload> Reading<P> for MemoryReading<P> {
    async fn next(&mut self, limit: usize) -> Result<Vec<Delivered<P>>> {
        poll_fn(|context| {
            let mut state = self.log.0.state.lock();
            let records = match state.records(&self.at) {
                Ok(records) => records,
                Err(error) => return Poll::Ready(Err(error)),
            };
            if self.next < records.low {
                let lost = Error::new(Code::HistoryLost, "the messages wanted were deleted from the log");
                return Poll::Ready(Err(lost.at("partition", &self.at).at("offset", self.next)));
            }
            let start = records.records.partition_point(|d| d.offset < self.next);
            let batch: Vec<_> = records.records.iter().skip(start).take(limit).cloned().collect();
            match batch.last() {
                Some(last) => {
                    self.next = last.offset + 1;
                    Poll::Ready(Ok(batch))
                }
                None => {
                    records.waiting.push(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    fn offset(&self) -> Offset {
        self.next
    }
}

#[async_trait]
impl<P: Payload> Log<P> for MemoryLog<P> {
    async fn create(&self, spec: &TopicSpec) -> Result<()> {
        let mut state = self.0.state.lock();
        if let Some(topic) = state.topics.get(&spec.topic) {
            let same = topic.spec == *spec;
            let error = Error::new(Code::TopicSettings, "the topic exists with other settings");
            return if same { Ok(()) } else { Err(error.at("topic", &spec.topic)) };
        }
        let empty = || Records { low: 0, next: 0, records: VecDeque::new(), waiting: Vec::new() };
        let partitions = (0..spec.partitions).map(|_| empty()).collect();
        state.topics.insert(spec.topic.clone(), Topic { spec: spec.clone(), partitions });
        Ok(())
    }

    async fn topics(&self) -> Result<Vec<TopicSpec>> {
        Ok(self.0.state.lock().topics.values().map(|t| t.spec.clone()).collect())
    }

    async fn remove(&self, topic: &str) -> Result<()> {
        let mut state = self.0.state.lock();
        // Readers that wait learn of it, and nothing of it shows in a topic of the same name.
        for mut records in state.topics.remove(topic).into_iter().flat_map(|t| t.partitions) {
            records.waiting.drain(..).for_each(Waker::wake);
        }
        state.groups.retain(|(_, at), _| &*at.topic != topic);
        Ok(())
    }

    async fn session(&self) -> Result<Arc<dyn Session<P>>> {
        let mut state = self.0.state.lock();
        state.sessions += 1;
        Ok(Arc::new(MemorySession { log: self.clone(), number: state.sessions }))
    }

    async fn read(&self, at: &Partition, from: Offset) -> Result<Box<dyn Reading<P>>> {
        Ok(Box::new(MemoryReading { log: self.clone(), at: at.clone(), next: from }))
    }

    async fn bounds(&self, at: &Partition) -> Result<Bounds> {
        let mut state = self.0.state.lock();
        state.records(at).map(|r| Bounds { low: r.low, high: r.next })
    }

    async fn offset_at(&self, at: &Partition, time_ms: u64) -> Result<Option<Offset>> {
        let mut state = self.0.state.lock();
        let records = &state.records(at)?.records;
        Ok(records.get(records.partition_point(|d| d.time_ms < time_ms)).map(|d| d.offset))
    }

    async fn delete_below(&self, at: &Partition, offset: Offset) -> Result<()> {
        let mut state = self.0.state.lock();
        let records = state.records(at)?;
        records.low = records.low.max(offset.min(records.next));
        let low = records.low;
        records.records.retain(|d| d.offset >= low);
        Ok(())
    }

    async fn join(&self, group: &str, topics: &[Arc<str>]) -> Result<Box<dyn Membership>> {
        let state = self.0.state.lock();
        let count = |topic: &Arc<str>| state.topics.get(topic).map_or(0, |t| t.spec.partitions);
        let partitions = |topic: &Arc<str>| (0..count(topic)).map(|i| Partition::new(topic.clone(), i)).collect();
        let all = topics.iter().map(|t| (t.clone(), partitions(t))).collect();
        let member = self.0.members.join(group, all);
        Ok(Box::new(MemoryMember { log: self.clone(), group: group.to_string(), member }))
    }
}

struct MemoryMember<P> {
    log: MemoryLog<P>,
    group: String,
    member: Member,
}

#[async_trait]
impl<P: Payload> Membership for MemoryMember<P> {
    async fn next(&self) -> Result<Assignment> {
        Ok(self.member.next().await)
    }

    async fn released(&self, _partitions: &[Partition]) -> Result<()> {
        Ok(())
    }

    fn holds(&self, at: &Partition) -> bool {
        self.member.holds(at)
    }

    async fn committed(&self, at: &Partition) -> Result<Option<Committed>> {
        Ok(self.log.0.state.lock().groups.get(&(self.group.clone(), at.clone())).cloned())
    }

    async fn commit(&self, at: &Partition, committed: Committed) -> Result<()> {
        self.log.0.state.lock().groups.insert((self.group.clone(), at.clone()), committed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clock::SystemClock;
    use crate::topic::{Raw, suite};

    #[tokio::test]
    async fn the_contract_holds() {
        let log: MemoryLog<Raw> = MemoryLog::new(Arc::new(SystemClock));
        let subject: suite::Subject = Arc::new(log.clone());
        let compact = move |topic: &str| {
            log.compact(topic, |_| false);
            Box::pin(async {}) as _
        };
        suite::all(subject.clone(), Box::new(compact)).await;
        suite::single_member(&subject).await;
        suite::removal_is_seen_at_once(&subject).await;
    }
}
