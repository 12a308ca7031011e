//! One round of an agent over a set of keys: read, decide, append, write, record. All keys of a
//! round share each append, so a round costs a few appends whatever its size (agent-10).

use super::schemas::Schemas;
use super::step::{Author, Local, Step, Target, proposal, step};
use super::{Held, Owned};
use crate::connectors::contract::{Content, Observed, Outcome};
use crate::event::version::CLOCK_AHEAD_MAX_MS;
use crate::event::{Fp, Hlc, Intent, Key, Landed, LedgerEntry, Record};
use crate::guard;
use crate::ledger::pending::{Park, Why};
use crate::ledger::{entry_of, entry_of_intent};
use crate::runtime::error::{Code, Remedy, Result};
use crate::topic::message::message;
use crate::topic::{Message, Typed};
use futures_util::future::join_all;
use std::collections::HashSet;
use std::sync::Arc;

/// What a round's decisions lead to.
#[derive(Default)]
struct Effects {
    records: Vec<Message<Typed>>,
    proposals: Vec<Message<Typed>>,
    writes: Vec<(Key, Intent)>,
    again: Vec<Key>,
    /// Proposals that say a record is gone (agent-7).
    deletes: Vec<Key>,
}

impl Owned<'_> {
    /// Works on keys until nothing is left to do for any of them but to wait.
    pub async fn work(&mut self, keys: Vec<Key>) -> Result<()> {
        let unique: HashSet<Key> = keys.into_iter().collect();
        let mut todo: Vec<Key> = unique.into_iter().collect();
        todo.sort();
        while !todo.is_empty() {
            let rest = todo.split_off(todo.len().min(self.agent.batch_max));
            let again = self.round(todo).await?;
            todo = rest;
            todo.extend(again);
        }
        Ok(())
    }

    async fn round(&mut self, keys: Vec<Key>) -> Result<Vec<Key>> {
        let keys: Vec<Key> = keys.into_iter().filter(|key| !self.waits(key)).collect();
        self.held.fetch(&keys)?;
        self.present.fetch(&keys)?;
        let seen = self.observe(&keys).await?;
        if seen.iter().any(|s| matches!(&s.content, Content::Row(row) if self.schemas.is_behind(row))) {
            self.schemas = Schemas::read(self.agent).await?;
        }
        let mut effects = Effects::default();
        for (key, seen) in keys.into_iter().zip(&seen) {
            self.decide(key, seen, &mut effects)?;
        }
        if !effects.deletes.is_empty() {
            self.agent.store.present().await?;
            let live = self.held.live + effects.deletes.len();
            self.believable(&effects.deletes.iter().collect::<Vec<_>>(), live, true)?;
        }
        let proposals = effects.proposals.len();
        self.agent.progress.captured(proposals, proposals, 0, self.agent.clock.now_ms());
        self.changes.send(effects.proposals);
        self.write_ledger(effects.records).await?;
        self.changes.settle_all().await?;
        if !effects.writes.is_empty() {
            (self.agent.allowed)()?;
        }
        effects.again.extend(self.write(effects.writes).await?);
        Ok(effects.again)
    }

    /// agent-8: a key with a write of unknown fate is left alone until the store has refused it for
    /// certain.
    fn waits(&mut self, key: &Key) -> bool {
        let Some(until) = self.quarantine.get(key) else { return false };
        let waits = guard!("agent-8", self.agent.store.now_ms() <= *until);
        if !waits {
            self.quarantine.remove(key);
        }
        waits
    }

    /// One snapshot per key: content, token, and the fate of its unfinished write.
    async fn observe(&mut self, keys: &[Key]) -> Result<Vec<Observed>> {
        let (store, place) = (&self.agent.store, self.place());
        let intents: Vec<Option<&Intent>> =
            keys.iter().map(|key| self.held.get(key).and_then(|h| h.entry.pend.as_deref())).collect();
        let reads = keys.iter().zip(&intents).map(|(key, intent)| store.read(place, key, *intent));
        let mut seen = join_all(reads).await.into_iter().map(told).collect::<Result<Vec<Observed>>>()?;
        let now_ms = store.now_ms();
        for ((key, intent), seen) in keys.iter().zip(&intents).zip(&mut seen) {
            if intent.is_some_and(|i| self.definite.contains(&i.iid)) {
                seen.landed = Landed::No;
            }
            if seen.content != Content::Absent {
                self.present.put(key.clone(), now_ms);
            }
        }
        Ok(seen)
    }

    fn decide(&mut self, key: Key, seen: &Observed, effects: &mut Effects) -> Result<()> {
        let entry = self.held.get(&key).map(|h| h.entry.clone()).unwrap_or_default();
        let target = self.pending.version(&key).map(|version| Target {
            version: version.clone(),
            fp: self.agent.store.norm(self.agent.collection, version).map_err(|error| error.to_string()),
        });
        if !matches!(seen.content, Content::Undecodable(_)) {
            self.odd.remove(&key);
        }
        match step(&entry, seen, target.as_ref()) {
            Step::Done => {
                self.agent.progress.applied(0, u64::from(target.is_some()));
                self.pending.settle(&key);
            }
            Step::Blocked(why) => {
                let odd = matches!(seen.content, Content::Undecodable(_));
                let code = code_of(&why, if odd { Code::FileUndecodable } else { Code::ValueRefused });
                self.park(key, code.as_str(), why, odd);
            }
            Step::Promote(entry) => {
                effects.records.push(self.record(key.clone(), entry)?);
                effects.again.push(key);
            }
            Step::Adopt(entry) => {
                self.pending.settle(&key);
                self.agent.progress.applied(1, 0);
                effects.records.push(self.record(key, entry)?);
            }
            Step::Propose(_) if !self.agent.part.proposes => self.leave(key, seen, target, effects)?,
            Step::Propose(local) => {
                if let Content::Row(row) = &seen.content {
                    self.agent.progress.captured_bytes(key.0.len() + row.size());
                }
                let deleted = seen.content == Content::Absent && !local.base.tomb;
                effects.deletes.extend(deleted.then(|| key.clone()));
                effects.proposals.push(self.propose(&key, seen, &local)?);
                effects.again.push(key);
            }
            Step::Write(intent) => {
                let intent = self.intent(intent);
                let pending = LedgerEntry { pend: Some(Box::new(intent.clone())), ..entry };
                if guard!("agent-intent", true) {
                    effects.records.push(self.record(key.clone(), pending)?);
                }
                effects.writes.push((key, intent));
            }
        }
        Ok(())
    }

    /// who-2: content that may not be proposed stays as it is. What is the version's already is
    /// adopted; any other version waits and is shown.
    fn leave(&mut self, key: Key, seen: &Observed, target: Option<Target>, effects: &mut Effects) -> Result<()> {
        let Some(Target { version, fp }) = target else { return Ok(()) };
        if fp == Ok(seen.fp) {
            self.pending.settle(&key);
            self.agent.progress.applied(1, 0);
            let entry = entry_of(&version, seen.fp, seen.token.clone());
            effects.records.push(self.record(key, entry)?);
        } else {
            let why = "the content was edited here, where nobody may write; put it back, or remove it";
            let now_ms = self.agent.clock.now_ms();
            self.pending.hold(version, Why::Parked(Park::new("edited_here", why, true, now_ms)));
        }
        Ok(())
    }

    /// An intent with its id and the time after which the store refuses it (agent-1).
    fn intent(&self, intent: Intent) -> Intent {
        let iid = u64::try_from(self.agent.clock.fresh_id() & u128::from(u64::MAX)).unwrap_or_default();
        Intent { iid, exp_ms: self.agent.store.now_ms() + self.agent.timing.write_within_ms, ..intent }
    }

    fn propose(&mut self, key: &Key, seen: &Observed, local: &Local) -> Result<Message<Typed>> {
        self.ctr += 1;
        self.rev += 1;
        let author = Author {
            me: self.agent.me,
            stamp: self.stamp,
            ctr: self.ctr,
            rev: self.rev,
            schema: self.schemas.newest,
            first_copy: self.first_copy,
        };
        let mut proposal = proposal(author, key, seen, local, self.time_of(key, seen, local.base.ts));
        let (value, fp, schema) = self.schemas.proposed(proposal.value.take(), proposal.fp, local.base.schema);
        // read-11: a part of a record says so, whatever version of the schema it is of.
        let fp = if value.as_ref().is_some_and(|row| row.is_partial()) { proposal.fp } else { fp };
        (proposal.value, proposal.fp, proposal.schema) = (value, fp, schema);
        if let Some(entry) = &mut proposal.entry {
            entry.schema = schema;
        }
        let entry = proposal.entry.as_deref().cloned().unwrap_or_default();
        let noted = self.held.get(key).and_then(|held| held.noted);
        self.held.put(key.clone(), Held { entry, rev: self.rev, in_changes: true, noted })?;
        Ok(message(Arc::new(Record::Proposal(Box::new(proposal)))))
    }

    /// value-3: a put happened at its modification time, bounded by our clock; a delete when the
    /// record was last seen. Both lie behind the version they change.
    fn time_of(&self, key: &Key, seen: &Observed, base: Hlc) -> Hlc {
        let now_ms = self.agent.clock.now_ms();
        let written_ms = match seen.content {
            Content::Absent => self.present.get(key).copied().unwrap_or(0),
            Content::Row(_) | Content::Undecodable(_) => seen.time_ms,
        };
        let tick = u64::from(seen.content == Content::Absent);
        Hlc(Hlc::from_ms(written_ms.min(now_ms + CLOCK_AHEAD_MAX_MS)).0 + tick).max(base.tick())
    }

    /// The conditional writes of a round, each one request, and their records.
    async fn write(&mut self, writes: Vec<(Key, Intent)>) -> Result<Vec<Key>> {
        let (store, place) = (self.agent.store.clone(), self.place());
        let now_ms = store.now_ms();
        let (late, ready): (Vec<_>, Vec<_>) = writes.into_iter().partition(|(_, intent)| now_ms > intent.exp_ms);
        let mut again = Vec::new();
        for (key, intent) in late {
            self.definite.insert(intent.iid);
            again.push(key);
        }
        let rows: Vec<_> =
            ready.iter().map(|(key, _)| self.pending.version(key).and_then(|v| v.after.clone())).collect();
        let requests =
            ready.iter().zip(&rows).map(|((key, intent), row)| store.cas(place, key, row.as_deref(), intent));
        let outcomes = join_all(requests).await.into_iter().collect::<Result<Vec<Outcome>>>()?;
        let mismatched = outcomes.contains(&Outcome::Mismatch);
        let mut records = Vec::new();
        for ((key, intent), outcome) in ready.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Done(token) => {
                    let size = self.pending.version(&key).map_or(0, |version| version.size());
                    self.agent.progress.applied_bytes(size);
                    self.pending.settle(&key);
                    self.agent.progress.applied(1, 0);
                    self.agent.progress.delivered(intent.ts.ms(), store.now_ms());
                    records.push(self.record(key, entry_of_intent(&intent, token))?);
                }
                Outcome::Mismatch => {
                    self.definite.insert(intent.iid);
                    again.push(key);
                }
                Outcome::Unknown => {
                    self.quarantine.insert(key, intent.exp_ms + self.agent.timing.margin_ms);
                }
                Outcome::Refused(why) => {
                    self.definite.insert(intent.iid);
                    if self.pending.contains(&key) {
                        self.park(key, code_of(&why, Code::ValueRefused).as_str(), why, false);
                    }
                }
            }
        }
        self.write_ledger(records).await?;
        if mismatched {
            self.propose_displaced().await?;
        }
        Ok(again)
    }
}

/// The code a reason begins with, as an error's text does; else `otherwise`.
fn code_of(why: &str, otherwise: Code) -> Code {
    let named = why.split_once(": ").and_then(|(name, _)| Code::ALL.iter().find(|code| code.as_str() == name));
    named.copied().unwrap_or(otherwise)
}

/// A single key that cannot be read is content that cannot be told: the others go on (agent-6).
fn told(read: Result<Observed>) -> Result<Observed> {
    match read {
        Err(error) if error.remedy() == Remedy::Park => {
            let (why, fp) = (error.to_string(), Fp::of_bytes(error.code.as_str().as_bytes()));
            let content = Content::Undecodable(why);
            Ok(Observed { content, fp, token: None, time_ms: 0, landed: Landed::Unknown })
        }
        read => read,
    }
}
