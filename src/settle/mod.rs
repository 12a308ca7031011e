//! Proposals become canonical versions: the resolver's ownership of a partition (protocol.md §8).
//! The journal is D itself: `resolve::step` decides, the decision is appended, and what was appended
//! is folded, so that a successor finds the same state. S only shortens its way there.

pub mod gaps;
mod heads;
pub mod history;
mod told;

use crate::event::{
    Canonical, Control, ControlInput, Fp, Key, Offset, Proposal, Record, Role, Rules, Schema, Seq, Stamp, Validity,
};
use crate::guard;
use crate::resolve::{self, History, PAST_MAX, PartState, group};
use crate::runtime::clock::Clock;
use crate::runtime::error::Result;
use crate::runtime::progress::Progress;
use crate::state::{Codec, Memory};
use crate::topic::lineages::announcement;
use crate::topic::message::message;
use crate::topic::name::Parts;
use crate::topic::owner::{Bid, Folded, IN_FLIGHT_BYTES_MAX, Writer, claim, stray};
use crate::topic::{Delivered, Log, Message, Partition, Session, Typed};
use gaps::Gaps;
use heads::{Heads, Restoring};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

/// When the heads are written to S (resolve-4): whichever comes first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Projection {
    /// Versions of D behind the last mark.
    pub versions_max: usize,
    /// Milliseconds since the oldest of them.
    pub every_ms: u64,
}

/// What a resolver needs to know before it owns anything.
pub struct Resolver {
    /// The log.
    pub log: Arc<dyn Log<Typed>>,
    /// Time, and unique numbers.
    pub clock: Arc<dyn Clock>,
    /// The partitions it works on.
    pub parts: Parts,
    /// When S is written.
    pub projection: Projection,
    /// Where what is known of keys is kept.
    pub memory: Memory,
    /// How heads become bytes.
    pub heads: Arc<dyn Codec<Arc<Canonical>>>,
    /// Milliseconds after which a change that is missing stops the partition (resolve-5).
    pub gap_after_ms: u64,
    /// What is told of the work.
    pub progress: Arc<Progress>,
}

/// How often memory that is not worked with is offered to others, in milliseconds.
const GIVE_BACK_EVERY_MS: u64 = 1_000;

/// An owned partition.
pub struct Journal<'a> {
    resolver: &'a Resolver,
    session: Arc<dyn Session<Typed>>,
    stamp: Stamp,
    state: PartState,
    dataset: Writer,
    /// The versions on their way to D, as they were sent.
    sent: VecDeque<Vec<Arc<Canonical>>>,
    projected: Writer,
    heads: Heads,
    number: u64,
    behind_since_ms: u64,
    strays: HashSet<Key>,
    looked_ms: u64,
    given_back_ms: u64,
    /// Changes that are missing before others (resolve-5).
    gaps: Gaps,
}

impl Resolver {
    /// claim-5: S first, then D to its end. What D holds is folded; nothing is remembered from before.
    pub async fn take_over(&self) -> Result<Journal<'_>> {
        let session = self.log.session().await?;
        let (state, heads) = (PartState::default(), Heads::new(self));
        let mut restoring = Restoring { state, heads, mark: None, failed: None };
        let mut folded = Folded::open(&*self.log, &self.parts.state, 0, Validity::default()).await?;
        let bid = Bid { at: &self.parts.state, role: Role::Resolver, owner: self.clock.fresh_id(), epoch: None };
        let stamp = claim(&*self.log, &session, &mut folded, &bid, |d| restoring.take(d)).await?.unwrap_or_default();
        let Restoring { mut state, mut heads, mark, failed } = restoring;
        failed.map_or(Ok(()), Err)?;
        let projected = Writer::sole(self.log.clone(), session.clone(), self.parts.state.clone(), &folded);
        let number = mark.as_ref().map_or(0, |m| m.number);
        if let Some(mark) = &mark {
            state.restore_mark(mark);
        }
        let (dataset, strays) = self.read_journal(&mut state, &mut heads, &session).await?;
        let now_ms = self.clock.now_ms();
        self.progress.settled(0, 0, state.c_off, now_ms);
        Ok(Journal {
            resolver: self,
            session,
            stamp,
            state,
            dataset,
            sent: VecDeque::new(),
            projected,
            heads,
            number,
            behind_since_ms: now_ms,
            strays,
            looked_ms: now_ms,
            given_back_ms: now_ms,
            gaps: Gaps::default(),
        })
    }

    /// resolve-1: state = fold(D), from the mark on.
    async fn read_journal(
        &self,
        state: &mut PartState,
        heads: &mut Heads,
        session: &Arc<dyn Session<Typed>>,
    ) -> Result<(Writer, HashSet<Key>)> {
        let chain = Validity { tip: (state.link.seq, state.link.id), ..Validity::default() };
        let at = &self.parts.dataset;
        let mut folded = Folded::open(&*self.log, at, state.link.offset, chain).await?;
        let high = self.log.bounds(at).await?.high;
        let mut strays = HashSet::new();
        while folded.offset() < high {
            let batch = folded.next(1000).await?;
            heads.fetch_of(state, batch.iter().filter_map(|(delivered, _)| delivered.payload.as_ref()))?;
            for (delivered, valid) in batch {
                match delivered.payload.as_deref() {
                    Some(Record::Canonical(canonical)) if valid => {
                        state.fold(canonical, Some(delivered.offset));
                        self.log_conflict(session, canonical).await?;
                        heads.note_behind(&canonical.key)?;
                        strays.remove(&canonical.key);
                    }
                    Some(Record::Canonical(copy)) if copies_head(state, copy) => _ = strays.remove(&copy.key),
                    _ => strays.extend(stray(&delivered)),
                }
            }
        }
        state.link.offset = folded.offset();
        Ok((Writer::sole(self.log.clone(), session.clone(), at.clone(), &folded), strays))
    }

    /// The conflict topic is a projection too: at least once, keyed so that duplicates collapse.
    async fn log_conflict(&self, session: &Arc<dyn Session<Typed>>, canonical: &Arc<Canonical>) -> Result<()> {
        let decides = canonical.asked.as_ref().is_some_and(|asked| asked.conflict.is_some());
        if canonical.conflict.is_none() && !decides {
            return Ok(());
        }
        let record = Arc::new(Record::Conflict(canonical.clone()));
        session.append(&self.parts.conflicts, vec![message(record)]).await.map(|_| ())
    }
}

/// Whether a record of D is a verbatim copy of its key's head (claim-7).
fn copies_head(state: &PartState, record: &Canonical) -> bool {
    record.copy && state.heads.get(&record.key).is_some_and(|h| (h.seq, h.id) == (record.seq, record.id))
}

impl Journal<'_> {
    /// Where to read C from.
    #[must_use]
    pub fn inputs_from(&self) -> Offset {
        self.state.c_off
    }

    /// What is known of the partition, what is in flight included.
    #[must_use]
    pub fn state(&self) -> &PartState {
        &self.state
    }

    /// Settles a batch of inputs: one append to D, in flight when this returns.
    pub async fn settle(&mut self, inputs: Vec<Delivered<Typed>>) -> Result<()> {
        let now_ms = self.resolver.clock.now_ms();
        let mut outputs = Vec::with_capacity(inputs.len());
        self.heads.fetch_of(&mut self.state, inputs.iter().filter_map(|input| input.payload.as_ref()))?;
        for input in inputs {
            let Some(record) = &input.payload else { continue };
            let new = input.offset >= self.state.settled;
            self.gaps.note(&self.state.changes, record, now_ms);
            if !self.state.absorb(input.offset, record) || !new {
                continue;
            }
            // resolve-10: the versions D holds already are not made again.
            for idx in self.state.done(input.offset)..group::size(record) {
                self.settle_one(input.offset, record, idx, &mut outputs).await?;
            }
        }
        if outputs.is_empty() {
            self.resolver.progress.settled(0, 0, self.state.c_off, self.resolver.clock.now_ms());
        }
        self.send(outputs);
        Ok(())
    }

    fn send(&mut self, outputs: Vec<Arc<Canonical>>) {
        if !outputs.is_empty() {
            let of = |version: &Arc<Canonical>| message(Arc::new(Record::Canonical(version.clone())));
            self.dataset.send(outputs.iter().map(of).collect());
            self.sent.push_back(outputs);
        }
    }

    /// Settles number `idx` of what an input asks for.
    async fn settle_one(
        &mut self,
        offset: Offset,
        input: &Record,
        idx: u32,
        outputs: &mut Vec<Arc<Canonical>>,
    ) -> Result<()> {
        let Some(change) = group::change(&self.state, input, idx) else { return Ok(()) };
        let history = self.history(&change, outputs).await?;
        let version = resolve::step(&self.state, offset, &change, &history)?;
        let id = u64::try_from(self.resolver.clock.fresh_id() & u128::from(u64::MAX)).unwrap_or_default();
        let version = Arc::new(self.state.seal(group::placed(version, input, idx), id));
        self.state.fold(&version, None);
        outputs.push(version);
        Ok(())
    }

    /// resolve-12: the old versions that `step` looks at.
    async fn history(&mut self, change: &Proposal, outputs: &mut Vec<Arc<Canonical>>) -> Result<History> {
        let ancestor = match resolve::wants(&self.state, change) {
            Some((key, seq)) => self.fetch(&key, seq, outputs).await?,
            None => None,
        };
        let (mut past, mut seq) = (Vec::new(), resolve::wants_past(&self.state, change));
        while seq > 0 && past.len() < PAST_MAX {
            let Some(version) = self.fetch(&change.key, seq, outputs).await? else { break };
            seq = version.conflict.as_ref().map_or(0, |conflict| conflict.earlier);
            past.push(version);
        }
        Ok(History { ancestor, past })
    }

    /// An old version: the head, or found in D, once everything decided before has landed there.
    async fn fetch(
        &mut self,
        key: &Key,
        seq: Seq,
        outputs: &mut Vec<Arc<Canonical>>,
    ) -> Result<Option<Arc<Canonical>>> {
        if let Some(head) = self.state.heads.get(key).filter(|h| h.seq == seq) {
            return Ok(Some(head.clone()));
        }
        if seq > self.dataset.tip().0 {
            self.send(std::mem::take(outputs));
            while self.dataset.in_flight() {
                self.confirm().await?;
            }
        }
        let voids = self.dataset.verified().saturating_sub(self.dataset.tip().0);
        history::version(&*self.resolver.log, &self.resolver.parts.dataset, key, seq, voids).await
    }

    /// Whether so much is on its way that no input is taken in.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.dataset.in_flight_bytes() >= IN_FLIGHT_BYTES_MAX
    }

    /// Waits until an append is answered; for ever if none is in flight. Cancel-safe.
    pub async fn acked(&mut self) {
        self.dataset.acked().await;
    }

    /// Takes the answer of the oldest append: its versions are known to count from here on (claim-4).
    pub async fn confirm(&mut self) -> Result<usize> {
        self.dataset.settle().await?;
        let versions = self.sent.pop_front().unwrap_or_default();
        if self.heads.behind_len == 0 {
            self.behind_since_ms = self.resolver.clock.now_ms();
        }
        let mut conflicts = 0;
        for canonical in &versions {
            conflicts += usize::from(canonical.conflict.is_some());
            self.tell_conflict(canonical);
            self.heads.note_behind(&canonical.key)?;
            self.resolver.log_conflict(&self.session, canonical).await?;
        }
        let now_ms = self.resolver.clock.now_ms();
        self.resolver.progress.settled(versions.len(), conflicts, self.state.c_off, now_ms);
        Ok(versions.len())
    }

    /// When `tend` has something to do again, in milliseconds since 1970.
    #[must_use]
    pub fn due_ms(&self) -> u64 {
        if self.dataset.in_flight() {
            return u64::MAX;
        }
        let idle = self.heads.behind_len == 0 || self.is_behind();
        let project = if idle { u64::MAX } else { self.behind_since_ms };
        let projected = self.looked_ms.min(project).saturating_add(self.resolver.projection.every_ms);
        let room =
            if self.heads.is_over_share(&self.state) { self.given_back_ms + GIVE_BACK_EVERY_MS } else { u64::MAX };
        projected.min(room).min(self.gaps.due_ms(self.resolver.gap_after_ms))
    }

    /// Whether D holds versions of inputs that are not read again yet, or the first of a group: a mark that
    /// stood on them would have its successor make them twice (resolve-10).
    fn is_behind(&self) -> bool {
        let unread = guard!("reread-first", self.state.c_off < self.state.settled);
        unread || guard!("whole-groups", self.state.begun.is_some())
    }

    /// What is done behind the hot path: look for strays, project to S.
    pub async fn tend(&mut self) -> Result<()> {
        let now_ms = self.resolver.clock.now_ms();
        self.check_gaps(now_ms).await?;
        if now_ms >= self.given_back_ms + GIVE_BACK_EVERY_MS {
            self.given_back_ms = now_ms;
            self.heads.give_back(&mut self.state)?;
        }
        let full = !self.dataset.in_flight()
            && !self.is_behind()
            && self.heads.behind_len >= self.resolver.projection.versions_max;
        if !full && now_ms < self.due_ms() {
            return Ok(());
        }
        self.looked_ms = now_ms;
        self.write_behind().await
    }

    async fn write_behind(&mut self) -> Result<()> {
        self.reassert().await?;
        if self.heads.behind_len > 0 && !self.is_behind() && guard!("project", true) {
            self.project().await?;
        }
        Ok(())
    }

    /// claim-9, draining: what was decided has landed, and S is up to date, so that the next owner reads little.
    pub async fn hand_over(&mut self) -> Result<()> {
        while self.dataset.in_flight() {
            self.confirm().await?;
        }
        self.write_behind().await
    }

    /// resolve-5: a gap that no takeover has closed in time stops the partition, once all of C is read.
    async fn check_gaps(&mut self, now_ms: u64) -> Result<()> {
        if now_ms < self.gaps.due_ms(self.resolver.gap_after_ms) {
            return Ok(());
        }
        let changes = &self.resolver.parts.changes;
        if self.resolver.log.bounds(changes).await?.high > self.state.c_off {
            self.gaps.postpone(now_ms);
            return Ok(());
        }
        self.gaps.check(&self.state.changes, changes)
    }

    /// claim-7: a plain upsert consumer must not be left with a void version as the last of its key.
    async fn reassert(&mut self) -> Result<()> {
        self.dataset.look_behind().await?;
        self.strays.extend(self.dataset.take_strays());
        // What lands between the copies is read when they settle: a mark behind it would hide it for good.
        while !self.strays.is_empty() {
            self.heads.fetch(&mut self.state, &self.strays)?;
            let heads = self.strays.drain().filter_map(|key| self.state.heads.get(&key));
            let copies = heads.map(|h| Canonical { copy: true, ..(**h).clone() });
            let copies: Vec<Message<Typed>> =
                copies.map(|copy| message(Arc::new(Record::Canonical(Arc::new(copy))))).collect();
            if guard!("claim-7", true) {
                self.dataset.send(copies);
                self.dataset.settle_all().await?;
            }
            self.strays.extend(self.dataset.take_strays());
        }
        self.state.link.offset = self.dataset.verified();
        Ok(())
    }
}

/// Says in C which rules hold from here on; made idempotent like schemas are. Unclaimed (claim-10).
pub async fn rule(log: &dyn Log<Typed>, changes: &Partition, rules: &Rules) -> Result<()> {
    let command = u128::from_be_bytes(Fp::of_bytes(format!("rules {}", rules.version).as_bytes()).0);
    let input = ControlInput { command, control: Control::Rules(rules.clone()) };
    let input = message(Arc::new(Record::Control(Box::new(input))));
    log.session().await?.append(changes, vec![input]).await.map(|_| ())
}

/// Says in C which schemas are in use, before their first user (read-10). Unclaimed.
pub async fn announce(log: &dyn Log<Typed>, changes: &Partition, schemas: &[Arc<Schema>]) -> Result<()> {
    log.session().await?.append(changes, schemas.iter().map(announcement).collect()).await.map(|_| ())
}
