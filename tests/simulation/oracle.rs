//! The judge: it stands outside the protocol, reads C and D as they grow and the stores at rest,
//! and compares them with the application's journal. Invariants as in correctness.md §8.4.

use super::executor::{Rng, now};
use super::product::RoleId;
use super::shared::{Count, Shared, trace};
use super::workload::{Journal, Policy, Tags, Written, fp, key, key_index, tags};
use driftless::event::{
    ActorId, Canonical, Cause, Conflict, Dot, Fp, Gone, Key, Loser, Op, Origin, Position, Proposal, Record, Review,
    Seq, Stamp, Truncate, Validity,
};
use driftless::topic::claim::admit;
use driftless::topic::memory::MemoryLog;
use driftless::topic::name::Topics;
use driftless::topic::{Log, Partition, Reading};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

type SimLog = MemoryLog<Arc<Record>>;

/// Reads one partition as it grows, record by record, and says which records count.
struct Cursor {
    reading: Box<dyn Reading<Arc<Record>>>,
    fold: Validity,
}

impl Cursor {
    fn new(log: &SimLog, at: &Partition) -> Self {
        Cursor { reading: now(log.read(at, 0)).expect("a partition of the simulation"), fold: Validity::default() }
    }

    fn poll(&mut self, mut take: impl FnMut(u64, &Record, bool)) {
        loop {
            let ready = self.reading.next(64).as_mut().poll(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(batch) = ready else { return };
            for delivered in batch.expect("the judge reads before anything is deleted") {
                if let Some(record) = delivered.payload {
                    let valid = admit(&mut self.fold, &record);
                    take(delivered.offset, &record, valid);
                }
            }
        }
    }
}

/// A valid proposal, and whether D has settled it.
struct Filed {
    proposal: Proposal,
    settled: bool,
}

/// What is judged at rest.
#[derive(Clone, Copy)]
pub(crate) struct Rest {
    pub keys: usize,
    pub platforms: usize,
    /// Every platform can tell what became of a write.
    pub exact: bool,
    /// A removed tag may not even come back where an application then keeps it.
    pub strict: bool,
    /// The product puts the head behind void versions (claim-7).
    pub reasserts: bool,
    /// One platform writes, and its reader settles.
    pub fused: bool,
}

pub(crate) struct Oracle {
    shared: Arc<Shared>,
    log: SimLog,
    topics: Topics,
    policy: Policy,
    changes: Vec<Cursor>,
    dataset: Vec<Cursor>,
    /// Valid proposals by partition, offset and, of the keys of a truncate, number.
    filed: BTreeMap<(u32, u64, u32), Filed>,
    /// Per partition: the group that D ends in, and the number that comes next (resolve-10).
    groups: Vec<Option<(u64, u32)>>,
    /// Valid versions of each key, in order.
    versions: BTreeMap<Key, Vec<Arc<Canonical>>>,
    /// What a fused reader has settled, by partition, position and key: changes, not copies.
    fused: BTreeSet<(u32, Position, Key)>,
    lost_tags: Tags,
    lost_deletions: BTreeSet<usize>,
    conflicts: BTreeSet<(u32, Seq)>,
}

impl Oracle {
    pub(crate) fn new(shared: Arc<Shared>, log: SimLog, topics: Topics, policy: Policy) -> Self {
        let parts = || 0..topics.partitions;
        Oracle {
            changes: parts().map(|p| Cursor::new(&log, &topics.changes(p))).collect(),
            dataset: parts().map(|p| Cursor::new(&log, &topics.dataset(p))).collect(),
            filed: BTreeMap::new(),
            groups: vec![None; topics.partitions as usize],
            versions: BTreeMap::new(),
            fused: BTreeSet::new(),
            lost_tags: 0,
            lost_deletions: BTreeSet::new(),
            conflicts: BTreeSet::new(),
            shared,
            log,
            topics,
            policy,
        }
    }

    /// Reads what has landed in C and D of a partition.
    pub(crate) fn observe(&mut self, partition: u32) {
        let Oracle { changes, filed, shared, .. } = self;
        changes[partition as usize].poll(|offset, record, valid| {
            if !valid {
                shared.count(Count::Void);
                return;
            }
            shared.active();
            for (idx, p) in (0..).zip(proposed(record)) {
                let (by, base, held) = (p.dot, p.base_seq, tags(p.value.as_deref()));
                trace!(
                    shared,
                    "  C: {:?} {:?} {by:?} ctx {:?} base {base} at {:?}: {held:#b}", p.key, p.op, p.ctx, p.src_pos
                );
                shared.count(Count::Proposals);
                *shared.published.lock() |= tags(p.value.as_deref());
                filed.insert((partition, offset, idx), Filed { proposal: p, settled: false });
            }
        });
        let mut fresh = Vec::new();
        self.dataset[partition as usize].poll(|_, record, valid| match record {
            Record::Canonical(version) if valid => fresh.push(version.clone()),
            Record::Canonical(version) if version.copy => {}
            _ => shared.count(Count::Void),
        });
        fresh.into_iter().for_each(|version| self.take(partition, version));
    }

    /// A new valid version: I6, I7, I11, and that it settles a proposal nobody settled before.
    fn take(&mut self, partition: u32, version: Arc<Canonical>) {
        let shared = self.shared.clone();
        shared.count(Count::Versions);
        shared.active();
        shared.valid.lock()[partition as usize].push(version.id);
        let at = format!("version {} of {:?}", version.seq, version.key);
        let held = tags(version.after.as_deref());
        trace!(shared, "  D: {at} {:?} of {:?} {:?}: {held:#b}", version.cause, version.dot, version.vv);
        let before = self.versions.entry(version.key.clone()).or_default();
        let head = before.last().cloned();
        if fp(version.after.as_deref()) != version.fp || version.tomb != version.after.is_none() {
            shared.violation(format!("{at}: value, fingerprint and tombstone disagree"));
        }
        if head.as_ref().is_some_and(|h| version.vv.le(&h.vv) || !h.vv.le(&version.vv)) {
            shared.violation(format!("I7: the vector of {at} does not grow: {:?}", version.vv));
        }
        if let Origin::Source(at) = version.origin {
            judge_fused(&shared, &mut self.fused, partition, at, &version);
        } else if let Origin::Input(offset) = version.origin
            && let Some(filed) = self.filed.get_mut(&(partition, offset, version.idx))
        {
            let dot = filed.proposal.dot;
            // What a person decided has a dot of the resolver's, which nobody knows before.
            let settles =
                if dot.actor == ActorId::RESOLVER { dot.actor == version.dot.actor } else { dot == version.dot };
            if settles && std::mem::replace(&mut filed.settled, true) {
                shared.violation(format!("I8: {at} settles {:?} a second time", version.dot));
            }
            if settles {
                judge_cause(&shared, &at, before, &filed.proposal, &version);
            }
        } else {
            shared.violation(format!("{at} settles {:?}, which is no valid record of C", version.origin));
        }
        before.push(version.clone());
        self.judge_group(partition, &at, &version);
        if let Some(conflict) = &version.conflict {
            shared.count(Count::Conflicts);
            self.conflicts.insert((partition, version.seq));
            self.note_conflict(&at, head.as_deref(), &version, conflict);
        }
        if version.asked.is_some() {
            self.conflicts.insert((partition, version.seq));
        }
    }

    /// resolve-10: the versions of an input stand together, in order and whole.
    fn judge_group(&mut self, partition: u32, at: &str, version: &Canonical) {
        let Origin::Input(offset) = version.origin else { return };
        let open = &mut self.groups[partition as usize];
        if open.take().unwrap_or((offset, 0)) != (offset, version.idx) {
            self.shared.violation(format!("resolve-10: {at} is number {} of input {offset}", version.idx));
        }
        let more = self.filed.contains_key(&(partition, offset, version.idx + 1));
        if more == version.last {
            self.shared.violation(format!("resolve-10: {at} says last: {}, and more were asked: {more}", version.last));
        }
        *open = more.then_some((offset, version.idx + 1));
    }

    fn note_conflict(&mut self, at: &str, head: Option<&Canonical>, version: &Canonical, conflict: &Conflict) {
        let same_head = head.map_or(conflict.head.seq == 0, |h| h.fp == conflict.head.fp && h.seq == conflict.head.seq);
        if !same_head || conflict.proposal.dot != Some(version.dot) {
            self.shared.violation(format!("I6: the conflict of {at} does not hold its inputs"));
        }
        let loser = if conflict.loser == Loser::Head { &conflict.head } else { &conflict.proposal };
        match &loser.value {
            Some(row) => self.lost_tags |= tags(Some(row)),
            None => _ = self.lost_deletions.insert(key_index(&version.key)),
        }
    }

    /// A version that settled a conflict.
    pub(crate) fn some_conflict(&self, rng: &mut Rng) -> Option<Arc<Canonical>> {
        let settled: Vec<_> = self.versions.values().flatten().filter(|version| version.conflict.is_some()).collect();
        (!settled.is_empty()).then(|| settled[rng.below(settled.len())].clone())
    }

    pub(crate) fn conflicts(&self) -> usize {
        self.conflicts.len()
    }

    /// The tags D has for a key.
    fn head(&self, key: &Key) -> Tags {
        self.versions.get(key).and_then(|v| v.last()).map_or(0, |c| tags(c.after.as_deref()))
    }

    /// At rest: everything is settled, the platforms agree, and nothing written was lost.
    pub(crate) fn judge_rest(&self, rest: Rest, contents: impl Fn(usize, &Key) -> Tags) {
        let shared = &self.shared;
        for ((partition, offset, _), filed) in &self.filed {
            if !filed.settled {
                let dot = filed.proposal.dot;
                shared
                    .violation(format!("I10: proposal {dot:?} at {offset} of partition {partition} was never settled"));
            }
        }
        let journal = shared.journal.lock();
        shared.add(Count::ShownAgain, u64::from(journal.shown_again.count_ones()));
        for index in 0..rest.keys {
            let (key, head) = (key(index), self.head(&key(index)));
            let unequal: Vec<_> =
                (0..rest.platforms).map(|p| contents(p, &key)).enumerate().filter(|c| c.1 != head).collect();
            if !unequal.is_empty() {
                shared.violation(format!("I1: {key:?} is {head:#b} in D, but differs at (platform, tags) {unequal:?}"));
            }
            match self.policy {
                Policy::Set => judge_set(shared, &journal, index, head, rest),
                Policy::Register => self.judge_register(&journal, index, head, rest.strict),
            }
        }
        // I10: a change is proposed once; echoes are not. What was found there (a copy, an unlogged
        // edit) is no change: it may be said again.
        let changes = self.filed.values().filter(|f| f.proposal.op != Op::Read).count();
        let changes = changes + self.fused.len();
        let (proposals, writes) = (changes as u64, journal.writes.len() as u64 + shared.counted(Count::Touched));
        if rest.exact && proposals > writes {
            shared.violation(format!("I10: {proposals} proposals came of {writes} writes"));
        }
        drop(journal);
        if rest.reasserts {
            self.judge_upsert_consumer();
        }
        if rest.fused && self.filed.values().next().is_some() {
            self.shared.violation("resolve-9: something was proposed, though one platform alone writes".into());
        }
        self.judge_conflicts();
        self.judge_ledgers();
        self.judge_state(rest.fused);
    }

    /// resolve-4: up to the newest mark that counts, S holds the head of every key.
    fn judge_state(&self, fused: bool) {
        for partition in 0..self.topics.partitions {
            let (mut fold, mut marked, mut heads) = (Validity::default(), 0, BTreeMap::new());
            for delivered in self.log.dump(&self.topics.state(partition)) {
                let Some(record) = delivered.payload.filter(|record| admit(&mut fold, record)) else { continue };
                match &*record {
                    Record::State(state) => {
                        let newest = heads.entry(state.head.key.clone()).or_insert(0);
                        *newest = state.head.seq.max(*newest);
                        self.shared.count(Count::Projected);
                    }
                    Record::ResolverMark(mark) => marked = mark.link.seq.max(marked),
                    _ => {}
                }
            }
            let newest = self.shared.valid.lock()[partition as usize].len() as u64;
            if fused && marked < newest {
                self.shared.violation(format!("resolve-4: at rest S has a mark at {marked}, and D is at {newest}"));
            }
            for (key, versions) in self.versions.iter().filter(|(key, _)| self.topics.of(key) == partition) {
                let seqs = versions.iter().map(|version| version.seq);
                let wanted = seqs.clone().rfind(|seq| *seq <= marked).unwrap_or(0);
                let held = heads.get(key).copied().unwrap_or(0);
                if held < wanted || held > 0 && !seqs.clone().any(|seq| seq == held) {
                    self.shared
                        .violation(format!("resolve-4: S has {key:?} as of {held}, and {wanted} lies below its mark"));
                }
            }
        }
    }

    /// I5: every write is final, replaced by somebody who saw it, or a logged loser.
    fn judge_register(&self, journal: &Journal, index: usize, head: Tags, strict: bool) {
        for (at, write) in journal.writes.iter().enumerate().filter(|(_, w)| w.key == index) {
            let later = || journal.writes[at + 1..].iter().filter(|w| w.key == index);
            let kept = if write.left == 0 {
                // A deletion has no tag: some later writer saw nothing there, or a deletion lost. Who
                // writes after it on the same platform saw it too, though it may have been undone.
                let seen = |w: &Written| w.seen == 0 || !strict && w.platform == write.platform;
                // What never reached the log needs no deletion: a HINT platform shows states, not writes.
                let unknown = write.seen & *self.shared.published.lock() == 0;
                head == 0 || unknown || later().any(seen) || self.lost_deletions.contains(&index)
            } else {
                head == write.left || later().any(|w| w.seen & write.left != 0) || self.lost_tags & write.left != 0
            };
            if !kept {
                self.shared
                    .violation(format!("I5: {write:?} is neither final, nor replaced knowingly, nor a logged loser"));
            }
        }
    }

    /// claim-7: who knows nothing of the chain and takes the last record of each key holds the head.
    fn judge_upsert_consumer(&self) {
        let mut last: BTreeMap<Key, (Seq, u64)> = BTreeMap::new();
        for partition in 0..self.topics.partitions {
            for delivered in self.log.dump(&self.topics.dataset(partition)) {
                if let Some(Record::Canonical(c)) = delivered.payload.as_deref() {
                    last.insert(c.key.clone(), (c.seq, c.id));
                }
            }
        }
        for (key, versions) in &self.versions {
            let head = versions.last().map(|h| (h.seq, h.id));
            if last.get(key).copied() != head {
                self.shared.violation(format!("topic-5: the last record of {key:?} in D is not its head"));
            }
        }
    }

    /// I6: `.conflicts` holds exactly the conflicts of D.
    fn judge_conflicts(&self) {
        let mut logged = BTreeSet::new();
        for partition in 0..self.topics.partitions {
            for delivered in self.log.dump(&self.topics.conflicts(partition)) {
                let Some(Record::Conflict(version)) = delivered.payload.as_deref() else { continue };
                logged.insert((partition, version.seq));
                let ids = self.shared.valid.lock();
                if ids[partition as usize].get(version.seq as usize - 1) != Some(&version.id) {
                    self.shared.violation(format!("I6: the conflict logged as {} is of a void version", version.seq));
                }
            }
        }
        if logged != self.conflicts {
            let differ: Vec<_> = logged.symmetric_difference(&self.conflicts).collect();
            self.shared.violation(format!("I6: logged and settled conflicts differ at (partition, seq) {differ:?}"));
        }
    }

    /// I7 for ledgers in L, and the void records of S and L.
    fn judge_ledgers(&self) {
        let topics = now(self.log.topics()).unwrap_or_default();
        for spec in topics.iter().filter(|s| s.topic.contains(".ledger.") || s.topic.ends_with(".state")) {
            for partition in 0..spec.partitions {
                let (mut fold, mut seqs) = (Validity::default(), BTreeMap::new());
                for delivered in self.log.dump(&Partition::new(spec.topic.clone(), partition)) {
                    let Some(record) = delivered.payload else { continue };
                    if !admit(&mut fold, &record) {
                        self.shared.count(Count::Void);
                    } else if let Record::Ledger(ledger) = &*record {
                        let last = seqs.insert(ledger.key.clone(), ledger.entry.seq).unwrap_or(0);
                        if ledger.entry.seq < last {
                            let (topic, key, seq) = (&spec.topic, &ledger.key, ledger.entry.seq);
                            self.shared
                                .violation(format!("I7: the ledger of {key:?} in {topic} fell from {last} to {seq}"));
                        }
                    } else if let Record::Claim(_) = &*record {
                        self.shared.count(Count::Takeovers);
                    }
                }
            }
        }
    }

    /// How much C and D hold: a replay must not change it (I8).
    pub(crate) fn published(&self) -> (u64, u64) {
        (self.shared.counted(Count::Proposals), self.shared.counted(Count::Versions))
    }
}

/// The changes a record of C proposes; a truncate is a deletion of each of its keys.
fn proposed(record: &Record) -> Vec<Proposal> {
    match record {
        Record::Proposal(proposal) => vec![(**proposal).clone()],
        Record::Truncate(truncate) => truncate.gone.iter().map(|gone| deletion(truncate, gone)).collect(),
        Record::Review(review) => vec![decided(review)],
        _ => Vec::new(),
    }
}

fn decided(review: &Review) -> Proposal {
    Proposal {
        stamp: Stamp::default(),
        key: review.key.clone(),
        dot: Dot { actor: ActorId::RESOLVER, ctr: 0 },
        ctx: review.ctx.clone(),
        base_seq: review.base_seq,
        base_tomb: false,
        ts: review.ts,
        op: if review.value.is_some() { Op::Put } else { Op::Delete },
        fp: fp(review.value.as_deref()),
        fp_local: Fp::ABSENT,
        schema: review.schema,
        value: review.value.clone(),
        before: None,
        txn: None,
        src_pos: Position::START,
        rev: 0,
        entry: None,
        ambiguous_base: false,
    }
}

fn deletion(truncate: &Truncate, gone: &Gone) -> Proposal {
    Proposal {
        stamp: truncate.stamp,
        key: gone.key.clone(),
        dot: truncate.dot,
        ctx: gone.ctx.clone(),
        base_seq: gone.base_seq,
        base_tomb: gone.base_tomb,
        ts: truncate.ts,
        op: Op::Delete,
        fp: Fp::ABSENT,
        fp_local: Fp::ABSENT,
        schema: truncate.schema,
        value: None,
        before: None,
        txn: Some(truncate.txn),
        src_pos: truncate.src_pos,
        rev: 0,
        entry: None,
        ambiguous_base: false,
    }
}

/// I11: the vector and the sequence numbers agree on who had the head in front of him, and the
/// resolver did what they say.
fn judge_cause(shared: &Shared, at: &str, before: &[Arc<Canonical>], proposal: &Proposal, version: &Canonical) {
    let by_vector = before.last().is_none_or(|head| head.vv.le(&proposal.ctx));
    // A join of its own change brings a writer nothing new either: only merges have a dot of the resolver.
    let person = proposal.dot.actor == ActorId::RESOLVER;
    let own = |v: &Arc<Canonical>| !person && v.dot.actor == proposal.dot.actor && v.cause != Cause::Merge;
    let by_seq = before.iter().rev().take_while(|v| v.seq > proposal.base_seq).all(own);
    if by_vector != by_seq {
        shared.violation(format!("I11: {at}: fast-forward by vector is {by_vector}, by sequence numbers {by_seq}"));
    }
    if (version.cause == Cause::FastForward) != by_vector {
        shared.violation(format!("{at} is {:?}, but its writer had the head: {by_vector}", version.cause));
    }
    if (version.cause == Cause::Merge) != version.conflict.is_some() {
        shared.violation(format!("I6: {at} is {:?}, conflict logged: {}", version.cause, version.conflict.is_some()));
    }
}

/// resolve-9: each change is settled once, in front of nothing its writer had not seen.
fn judge_fused(
    shared: &Shared,
    settled: &mut BTreeSet<(u32, Position, Key)>,
    partition: u32,
    at: Position,
    version: &Canonical,
) {
    *shared.published.lock() |= tags(version.after.as_deref());
    if at.ordinal != u64::MAX && !settled.insert((partition, at, version.key.clone())) {
        shared.violation(format!("I8: version {} settles the change at {at:?} a second time", version.seq));
    }
    if version.dot.ctr != version.seq {
        shared.violation(format!("resolve-9: version {} has the dot {:?}", version.seq, version.dot));
    }
    if version.cause != Cause::FastForward || version.conflict.is_some() {
        shared.violation(format!("I13: version {} of a single writer is {:?}", version.seq, version.cause));
    }
}

/// I2 and I3: what is there is what was added and not removed by somebody who saw it. Without an
/// exact witness a removed tag may come back (agent-9), but none is lost.
fn judge_set(shared: &Shared, journal: &Journal, index: usize, head: Tags, rest: Rest) {
    let wanted = journal.added.get(index).copied().unwrap_or(0) & !journal.removed;
    if wanted & !head != 0 {
        shared.violation(format!("I2: key {index} lost tags {:#b}", wanted & !head));
    }
    let excused = if rest.strict { 0 } else { journal.shown_again };
    let extra = head & !wanted & !excused;
    if rest.exact && extra != 0 {
        shared.violation(format!("I3: key {index} has removed tags {extra:#b}"));
    }
}

/// P2 as a question: is there a valid checkpoint of a reader at or beyond `through`?
pub(crate) fn is_checkpointed(log: &SimLog, at: &Partition, through: Position) -> bool {
    let mut fold = Validity::default();
    log.dump(at).iter().filter_map(|d| d.payload.as_deref()).any(|record| {
        let valid = admit(&mut fold, record);
        matches!(record, Record::ReaderMark(mark) if valid && mark.pos >= through)
    })
}

/// Whether a role takes part in a replay from the start of D.
pub(crate) fn replays(role: RoleId) -> bool {
    matches!(role, RoleId::Sink(..) | RoleId::Exclusive(..) | RoleId::Agent(..))
}
