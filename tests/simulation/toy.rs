//! The harness is tested with a product small enough to judge by eye: LOG platforms only, no
//! checkpoints, everything read again from the start of the log. It survives crashes, zombies and
//! lost appends. With a flaw it must be caught, or the harness is blind.

use super::executor::Task;
use super::product::{Access, Env, Product, RoleId, Start};
use super::workload::{Policy, schema, set_merge};
use bytes::Bytes;
use driftless::connectors::contract::{Act, BatchLimit, Change, Planned, Seen, Transaction};
use driftless::event::{
    Ack, ActorId, Canonical, Cause, Claim, Conflict, Dot, Fp, Hlc, Join, Key, Known, Loser, Op, Origin, Position,
    Proposal, Record, Role, Side, Stamp, Txn, Validity, Vv,
};
use driftless::runtime::error::{Code, Error, Result};
use driftless::topic::claim::{admit, owner};
use driftless::topic::{Log, Message, Partition, Session};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is wrong with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flaw {
    None,
    /// Nothing runs at all.
    Idle,
    /// The sink overwrites whatever is there.
    BlindSink,
    /// The sink does not compare sequence numbers, so that a replay goes back in time.
    NoSeqGuard,
    /// The sink takes records of D without the fold.
    NoValidity,
    /// The reader publishes what the sink wrote.
    NoEcho,
    /// The reader claims to have seen what it has not.
    Overclaim,
    /// The reader's successor publishes everything again.
    PublishAgain,
    /// The reader lets the source discard what no checkpoint covers.
    ReleaseEarly,
    /// The resolver does not log conflicts.
    SilentMerge,
    /// The resolver lets the newer side win where it ought to merge.
    LosingMerge,
}

pub(crate) struct Toy(pub Flaw);

impl Product for Toy {
    fn reasserts(&self) -> bool {
        false
    }

    fn spawn(&self, env: Env, role: RoleId, _start: Start) -> Task {
        let flaw = self.0;
        Box::pin(async move {
            // An error ends the instance; the harness starts another.
            let _: Result<()> = match role {
                _ if flaw == Flaw::Idle => std::future::pending().await,
                RoleId::Reader(at) => read(env, at, flaw).await,
                RoleId::Resolver(partition) => resolve(env, partition, flaw).await,
                RoleId::Sink(at, partition) => sink(env, at, partition, flaw).await,
                RoleId::Agent(..) | RoleId::Exclusive(..) => std::future::pending().await,
            };
        })
    }
}

async fn append(session: &Arc<dyn Session<Arc<Record>>>, at: &Partition, key: Bytes, record: Record) -> Result<u64> {
    let offsets = session.append(at, vec![Message { key, payload: Some(Arc::new(record)) }]).await?;
    Ok(offsets[0])
}

fn fenced() -> Error {
    Error::new(Code::ClaimLost, "somebody else has taken over")
}

/// Whether the record at an offset counts (claim-4).
fn is_valid(env: &Env, partition: &Partition, offset: u64) -> bool {
    let (mut fold, mut valid) = (Validity::default(), false);
    for delivered in env.log.dump(partition) {
        valid |= delivered.payload.is_some_and(|r| admit(&mut fold, &r)) && delivered.offset == offset;
    }
    valid
}

/// The reader of one platform and what it knows.
struct Reading {
    env: Env,
    me: ActorId,
    session: Arc<dyn Session<Arc<Record>>>,
    stamps: Vec<Stamp>,
    ctr: Vec<u64>,
    published: BTreeMap<Position, Proposal>,
    known: BTreeMap<Key, Known>,
    flaw: Flaw,
}

async fn read(env: Env, at: usize, flaw: Flaw) -> Result<()> {
    let platform = env.platforms[at].clone();
    let Access::Log(store) = platform.access else { return Ok(()) };
    let (session, me) = (env.log.session().await?, platform.actor);
    let (stamps, ctr, published, known) = (Vec::new(), Vec::new(), BTreeMap::new(), BTreeMap::new());
    let mut reading = Reading { env: env.clone(), me, session, stamps, ctr, published, known, flaw };
    for partition in 0..env.topics.partitions {
        reading.take_over(partition).await?;
    }
    let mut source = store.reader(Position::START).await?;
    loop {
        let batch = source.next(BatchLimit::default()).await?;
        for transaction in &batch.transactions {
            reading.fold(transaction).await?;
        }
        if flaw == Flaw::ReleaseEarly {
            source.release(batch.through).await?;
        }
    }
}

impl Reading {
    async fn take_over(&mut self, partition: u32) -> Result<()> {
        let (changes, role) = (self.env.topics.changes(partition), Role::Writer(self.me.platform()));
        let fold_all = |fold: &mut Validity, mut take: Box<dyn FnMut(&Proposal) + '_>| {
            for record in self.env.log.dump(&changes).into_iter().filter_map(|d| d.payload) {
                match &*record {
                    Record::Proposal(p) if admit(fold, &record) => take(p),
                    Record::Proposal(_) => {}
                    _ => _ = admit(fold, &record),
                }
            }
        };
        let mut fold = Validity::default();
        fold_all(&mut fold, Box::new(|_| {}));
        let stamp = Stamp { epoch: owner(&fold, role).epoch + 1, owner: self.env.clock.fresh_id() };
        let at = append(&self.session, &changes, Bytes::new(), Record::Claim(Claim { role, stamp })).await?;
        if !is_valid(&self.env, &changes, at) {
            return Err(fenced());
        }
        let (mut fold, mut mine) = (Validity::default(), BTreeMap::new());
        let me = self.me;
        fold_all(
            &mut fold,
            Box::new(|p| {
                if p.dot.actor == me {
                    mine.insert(p.src_pos, p.clone());
                }
            }),
        );
        if self.flaw != Flaw::PublishAgain {
            self.published.extend(mine);
        }
        self.stamps.push(stamp);
        self.ctr.push(fold.last.get(&me).copied().unwrap_or(0));
        Ok(())
    }

    async fn fold(&mut self, transaction: &Transaction) -> Result<()> {
        let mut echoes: BTreeMap<&Key, Fp> = BTreeMap::new();
        for change in &transaction.changes {
            if let Change::Ledger { key, entry: Some(entry), .. } = change {
                let known = self.known.entry(key.clone()).or_default();
                known.vv = entry.vv.with(Dot { actor: self.me, ctr: known.vv.get(self.me) });
                (known.base_seq, known.base_tomb, known.ts) = (entry.seq, entry.tomb, entry.ts);
                echoes.insert(key, entry.fp);
            }
        }
        for (ordinal, change) in transaction.changes.iter().enumerate() {
            let Change::Row { key, after, fp, before, .. } = change else { continue };
            if self.flaw != Flaw::NoEcho && echoes.get(key) == Some(fp) {
                continue;
            }
            let position = Position::new(transaction.commit, transaction.first + ordinal as u64);
            let known = self.known.entry(key.clone()).or_default();
            if let Some(p) = self.published.get(&position) {
                known.vv = p.ctx.with(p.dot);
                known.ts = p.ts;
                continue;
            }
            let partition = self.env.topics.of(key);
            self.ctr[partition as usize] += 1;
            let dot = Dot { actor: self.me, ctr: self.ctr[partition as usize] };
            let ts = Hlc::from_ms(transaction.time_ms).max(known.ts.tick());
            let mut ctx = known.vv.clone();
            if self.flaw == Flaw::Overclaim {
                (1..4).for_each(|a| {
                    ctx.advance(Dot { actor: ActorId::new(driftless::event::PlatformNo(a), 1), ctr: 99 })
                });
            }
            let proposal = Proposal {
                stamp: self.stamps[partition as usize],
                key: key.clone(),
                dot,
                ctx,
                base_seq: known.base_seq,
                base_tomb: known.base_tomb,
                ts,
                op: if after.is_some() { Op::Put } else { Op::Delete },
                fp: *fp,
                fp_local: *fp,
                schema: schema().id,
                value: after.clone(),
                before: before.clone(),
                txn: Some(Txn { id: transaction.commit, idx: ordinal as u32 }),
                src_pos: position,
                rev: 0,
                entry: None,
                ambiguous_base: false,
            };
            known.vv.advance(dot);
            known.ts = ts;
            let changes = self.env.topics.changes(partition);
            let at = append(&self.session, &changes, key.0.clone(), Record::Proposal(Box::new(proposal))).await?;
            if !is_valid(&self.env, &changes, at) {
                return Err(fenced());
            }
        }
        Ok(())
    }
}

async fn resolve(env: Env, partition: u32, flaw: Flaw) -> Result<()> {
    let (changes, dataset, conflicts) =
        (env.topics.changes(partition), env.topics.dataset(partition), env.topics.conflicts(partition));
    let session = env.log.session().await?;
    let log_conflict = |version: Arc<Canonical>| {
        let (session, conflicts) = (session.clone(), conflicts.clone());
        async move {
            if version.conflict.is_some() && flaw != Flaw::SilentMerge {
                let key = Bytes::copy_from_slice(&version.seq.to_be_bytes());
                append(&session, &conflicts, key, Record::Conflict(version)).await?;
            }
            Ok::<_, Error>(())
        }
    };
    let (mut chain, mut heads, mut next, mut rctr) = (Validity::default(), BTreeMap::new(), 0, 0);
    for record in env.log.dump(&dataset).into_iter().filter_map(|d| d.payload) {
        if let Record::Canonical(version) = &*record
            && admit(&mut chain, &record)
        {
            if let Origin::Input(offset) = version.origin {
                next = offset + 1;
            }
            rctr = version.rctr;
            heads.insert(version.key.clone(), version.clone());
            log_conflict(version.clone()).await?;
        }
    }
    let (mut source, mut fold) = (env.log.read(&changes, 0).await?, Validity::default());
    loop {
        for delivered in source.next(16).await? {
            let Some(record) = delivered.payload else { continue };
            let valid = admit(&mut fold, &record);
            let Record::Proposal(proposal) = &*record else { continue };
            if !valid || delivered.offset < next {
                continue;
            }
            let mut version = settle(&env, proposal, heads.get(&proposal.key).map(|h| &**h), rctr, flaw);
            version.origin = Origin::Input(delivered.offset);
            (version.seq, version.prev, version.id) = (chain.tip.0 + 1, chain.tip.1, env.clock.fresh_id() as u64);
            rctr = version.rctr;
            let version = Arc::new(version);
            let own = Record::Canonical(version.clone());
            let at = append(&session, &dataset, proposal.key.0.clone(), own).await?;
            // Somebody else's record before mine makes mine void: then the state is not mine any more.
            if !is_valid(&env, &dataset, at) {
                return Err(fenced());
            }
            chain.tip = (version.seq, version.id);
            heads.insert(version.key.clone(), version.clone());
            log_conflict(version).await?;
        }
    }
}

fn settle(env: &Env, p: &Proposal, head: Option<&Canonical>, rctr: u64, flaw: Flaw) -> Canonical {
    let none = Vv::new();
    let head_vv = head.map_or(&none, |h| &h.vv);
    let (head_fp, head_ts) = head.map_or((Fp::ABSENT, Hlc::default()), |h| (h.fp, h.ts));
    let mut vv = head_vv.join(&p.ctx).with(p.dot);
    let mut ack: Ack = head.map(|h| h.ack.clone()).unwrap_or_default();
    ack.retain(|j| j.actor != p.dot.actor);
    ack.push(Join { actor: p.dot.actor, ctr: p.dot.ctr, seq: 0, fp_local: p.fp_local });
    let (mut cause, mut after, mut rctr, mut conflict) = (Cause::FastForward, p.value.clone(), rctr, None);
    if !head_vv.le(&p.ctx) && p.fp == head_fp {
        cause = Cause::Join;
    } else if !head_vv.le(&p.ctx) {
        rctr += 1;
        vv.advance(Dot { actor: ActorId::RESOLVER, ctr: rctr });
        let head_value = head.and_then(|h| h.after.clone());
        let head_wins = (head_ts, head.map(|h| h.by)) > (p.ts, Some(p.dot.actor));
        after = match env.policy {
            Policy::Set if flaw != Flaw::LosingMerge => {
                set_merge(&p.key, p.before.as_deref(), head_value.as_deref(), p.value.as_deref())
            }
            _ if head_wins => head_value.clone(),
            _ => p.value.clone(),
        };
        cause = Cause::Merge;
        let head_side = Side {
            by: head.map_or(ActorId::RESOLVER, |h| h.by),
            dot: None,
            vv: head_vv.clone(),
            seq: head.map_or(0, |h| h.seq),
            ts: head_ts,
            fp: head_fp,
            schema: schema().id,
            value: head_value,
        };
        let proposal = Side {
            by: p.dot.actor,
            dot: Some(p.dot),
            vv: p.ctx.clone(),
            seq: 0,
            ts: p.ts,
            fp: p.fp,
            ..head_side.clone()
        };
        let proposal = Side { value: p.value.clone(), ..proposal };
        let loser = if head_wins { Loser::Proposal } else { Loser::Head };
        let rule = "toy".into();
        conflict = Some(Box::new(Conflict {
            ancestor: None,
            head: head_side,
            proposal,
            loser,
            rule,
            rules: 0,
            ambiguous_base: false,
            earlier: 0,
            open: None,
        }));
    }
    Canonical {
        key: p.key.clone(),
        seq: 0,
        id: 0,
        prev: 0,
        origin: Origin::Input(0),
        idx: 0,
        last: true,
        dot: p.dot,
        vv,
        ts: p.ts.max(head_ts),
        fp: super::workload::fp(after.as_deref()),
        tomb: after.is_none(),
        schema: schema().id,
        by: if after == p.value { p.dot.actor } else { head.map_or(p.dot.actor, |h| h.by) },
        after,
        cause,
        ack,
        rctr,
        conflicted: 0,
        conflict,
        asked: None,
        copy: false,
    }
}

async fn sink(env: Env, at: usize, partition: u32, flaw: Flaw) -> Result<()> {
    let platform = env.platforms[at].clone();
    let Access::Log(store) = platform.access else { return Ok(()) };
    let mut rows = store.rows().await?;
    let (mut source, mut chain) = (env.log.read(&env.topics.dataset(partition), 0).await?, Validity::default());
    loop {
        for record in source.next(16).await?.into_iter().filter_map(|d| d.payload) {
            let valid = admit(&mut chain, &record);
            let Record::Canonical(version) = &*record else { continue };
            if !valid && flaw != Flaw::NoValidity {
                continue;
            }
            loop {
                let locked = rows.lock(0, std::slice::from_ref(&version.key)).await?;
                let Seen::Row { fp, ledger } = locked.seen(0) else {
                    drop(locked);
                    env.clock.sleep_until(env.clock.now_ms() + 10).await;
                    continue;
                };
                let (seq, old) = ledger.map_or((0, Fp::ABSENT), |l| (l.seq, l.fp));
                let acked = version.ack.iter().any(|j| j.actor == platform.actor && j.fp_local == fp);
                let act = match () {
                    () if version.seq <= seq && flaw != Flaw::NoSeqGuard => break,
                    () if fp == version.fp => Act::Adopt,
                    () if fp == old || acked || flaw == Flaw::BlindSink => Act::Write,
                    () => Act::Dirty,
                };
                let plan = [Planned { version: version.clone(), fp: version.fp, act }];
                if locked.write(&plan).await.is_ok() {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chaos::Config;
    use crate::configs::CONFIGS;
    use crate::runner::{Budget, Expect, Mutant, Mutation, knob, run_many, run_mutants, run_seed, simulate};
    use std::cell::Cell;

    fn configs() -> Vec<Config> {
        let wanted = ["3 log", "3 log, register", "3 log, 2 partitions", "3 log, hot key"];
        let short = |c: &Config| Config { steps_max: 12_000, ..*c };
        CONFIGS.iter().filter(|c| wanted.contains(&c.name)).map(short).collect()
    }

    fn budget(schedules: u64) -> Budget {
        Budget { schedules, seconds: 60, first_seed: 1 }
    }

    #[test]
    fn a_right_product_is_never_accused() {
        if knob("TOY").is_some() {
            return simulate(&Toy(Flaw::None), &configs());
        }
        let outcome = run_many(&Toy(Flaw::None), &configs(), budget(400), None);
        outcome.print("toy");
        outcome.assert_clean();
    }

    #[test]
    fn each_flaw_is_caught() {
        let flaws = [
            Flaw::Idle,
            Flaw::BlindSink,
            Flaw::NoSeqGuard,
            Flaw::NoValidity,
            Flaw::NoEcho,
            Flaw::Overclaim,
            Flaw::PublishAgain,
            Flaw::ReleaseEarly,
            Flaw::SilentMerge,
            Flaw::LosingMerge,
        ];
        for flaw in flaws {
            let outcome = run_many(&Toy(flaw), &configs(), budget(2_500), None);
            let failure = outcome.failure.unwrap_or_else(|| panic!("{flaw:?} was not caught"));
            println!("{flaw:?}: {} schedules, {}", outcome.schedules, failure.violation);
        }
    }

    #[test]
    fn a_seed_gives_the_same_schedule_again() {
        let run = |seed| run_seed(&Toy(Flaw::None), &configs(), seed, false).1;
        assert_eq!(run(11), run(11));
        assert_ne!(run(11), run(15));
    }

    thread_local! {
        static FLAW: Cell<Flaw> = const { Cell::new(Flaw::None) };
    }

    /// A product whose flaw is chosen by name per thread, as the real one's guards are.
    struct Switched;

    impl Product for Switched {
        fn spawn(&self, env: Env, role: RoleId, start: Start) -> Task {
            Toy(FLAW.get()).spawn(env, role, start)
        }
    }

    #[test]
    fn the_table_of_mutants_compares_verdicts_with_expectations() {
        let mutate = |name| FLAW.set(if name == Some("blind-sink") { Flaw::BlindSink } else { Flaw::None });
        let mutant = |name, expected| Mutant { mutation: Mutation(name), expected, configs: &["3 log"] };
        let table = [mutant("blind-sink", Expect::Caught), mutant("blind-sink", Expect::Clean("it is not"))];
        assert_eq!(run_mutants(&Switched, &configs(), mutate, &table).len(), 1);
    }
}
