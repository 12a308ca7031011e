//! What an agent does next about one key: pure. An agent owns observing and applying of one
//! partition of a HINT store, because both move the same ledger entry (protocol.md §7).

use crate::connectors::contract::{Content, Observed};
use crate::event::{
    ActorId, Canonical, Ctr, Dot, Fp, Hlc, Intent, Key, Landed, LedgerEntry, Op, Position, Proposal, Stamp, Vv,
};
use crate::guard;
use crate::ledger::classify::{Sight, classify};
use crate::ledger::{entry_of, entry_of_intent};
use std::sync::Arc;

/// A canonical version that waits for its key, and how it will look in this store.
#[derive(Clone, Debug)]
pub struct Target {
    /// The version.
    pub version: Arc<Canonical>,
    /// Its fingerprint once read back; or why the store can never hold it.
    pub fp: Result<Fp, String>,
}

/// The next step for a key.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// Nothing to do; a waiting version, if any, is settled.
    Done,
    /// The waiting version cannot go in; what is there stays. Why.
    Blocked(String),
    /// Our unfinished write took effect: record the entry, then look again.
    Promote(LedgerEntry),
    /// Somebody wrote here: propose it with this context, hold this entry, then look again.
    Propose(Local),
    /// The content is the version's already: record the entry.
    Adopt(LedgerEntry),
    /// Write the version if the token still holds, after this entry with its intent is recorded.
    Write(Intent),
}

/// A local write to propose.
#[derive(Clone, PartialEq, Debug)]
pub struct Local {
    /// The entry whose content the write was made on.
    pub base: LedgerEntry,
    /// Whether that is in doubt.
    pub ambiguous: bool,
}

/// Decides for one key from its entry, one snapshot of the store, and the version that waits.
#[must_use]
pub fn step(entry: &LedgerEntry, seen: &Observed, target: Option<&Target>) -> Step {
    let sight = classify(entry, seen.fp, seen.landed);
    if let (Content::Undecodable(why), Sight::Local { .. } | Sight::LocalOnIntent) = (&seen.content, sight) {
        // agent-6: local content that may not be overwritten.
        return Step::Blocked(why.clone());
    }
    match sight {
        Sight::Promote => match &entry.pend {
            Some(intent) => Step::Promote(entry_of_intent(intent, seen.token.clone())),
            None => Step::Done,
        },
        Sight::LocalOnIntent => match &entry.pend {
            Some(intent) => Step::Propose(Local { base: entry_of_intent(intent, None), ambiguous: false }),
            None => Step::Done,
        },
        Sight::Local { ambiguous } => Step::Propose(Local { base: settled(entry), ambiguous }),
        Sight::Clean => apply(entry, seen, target),
    }
}

/// The content is as last given: the version may replace it, if it contains all we published.
fn apply(entry: &LedgerEntry, seen: &Observed, target: Option<&Target>) -> Step {
    let Some(Target { version, fp }) = target else { return Step::Done };
    let beyond = version.seq > entry.seq;
    let contains = entry.vv.le(&version.vv);
    if guard!("agent-contains", !beyond || !contains) {
        return Step::Done;
    }
    // agent-9: an older version must not follow a newer one whose fate nobody knows.
    let behind_intent = entry.pend.as_ref().is_some_and(|i| seen.landed == Landed::Unknown && version.seq < i.seq);
    if behind_intent {
        return Step::Done;
    }
    let fp = match fp {
        Ok(fp) => *fp,
        Err(why) => return Step::Blocked(why.clone()),
    };
    if seen.fp == fp {
        return Step::Adopt(entry_of(version, fp, seen.token.clone()));
    }
    Step::Write(Intent {
        iid: 0,
        seq: version.seq,
        vv: version.vv.clone(),
        fp,
        ts: version.ts,
        tomb: version.tomb,
        schema: version.schema,
        expect: seen.token.clone(),
        exp_ms: 0,
    })
}

/// An entry without its unfinished write.
fn settled(entry: &LedgerEntry) -> LedgerEntry {
    LedgerEntry { pend: None, ..entry.clone() }
}

/// Who proposes, at which count and revision.
#[derive(Clone, Copy, Debug)]
pub struct Author {
    /// The agent.
    pub me: ActorId,
    /// Its ownership.
    pub stamp: Stamp,
    /// The counter of this proposal.
    pub ctr: Ctr,
    /// The entry revision it carries.
    pub rev: u64,
    /// Schema of the value.
    pub schema: crate::event::SchemaId,
    /// What is found is a first copy of what the platform held before (who-4).
    pub first_copy: bool,
}

/// The proposal of a local write. It carries the ledger entry the agent holds from then on, so that
/// one append does both (agent-2).
#[must_use]
pub fn proposal(author: Author, key: &Key, seen: &Observed, local: &Local, ts: Hlc) -> Proposal {
    let base = &local.base;
    let dot = Dot { actor: author.me, ctr: author.ctr };
    let value = match &seen.content {
        Content::Row(row) => Some(row.clone()),
        Content::Absent | Content::Undecodable(_) => None,
    };
    let copy = author.first_copy && base.seq == 0 && base.vv.is_empty();
    let op = match (&value, copy) {
        (Some(_), true) => Op::Read,
        (Some(_), false) => Op::Put,
        (None, _) => Op::Delete,
    };
    // read-11: what the store is not shown, nobody there has in front of him: only his own writes.
    let hidden = base.is_hidden();
    let own = Dot { actor: author.me, ctr: base.vv.get(author.me) };
    let ctx = if hidden { Vv::new().with(own) } else { base.vv.clone() };
    let fp = match &value {
        Some(row) if row.is_partial() => seen.fp.of_part(),
        _ => seen.fp,
    };
    let entry = LedgerEntry {
        vv: ctx.with(dot),
        fp: seen.fp,
        ts,
        tomb: value.is_none(),
        schema: author.schema,
        token: seen.token.clone(),
        pend: None,
        seq: base.seq,
    };
    Proposal {
        stamp: author.stamp,
        key: key.clone(),
        dot,
        ctx,
        base_seq: if hidden { 0 } else { base.seq },
        base_tomb: base.tomb || hidden,
        ts,
        op,
        fp,
        fp_local: seen.fp,
        schema: author.schema,
        value,
        before: None,
        txn: None,
        src_pos: Position::START,
        rev: author.rev,
        entry: Some(Box::new(entry)),
        ambiguous_base: local.ambiguous,
    }
}
