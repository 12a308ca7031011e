//! The decision of what a record is: pure, one writer per partition (claim-9), a function of its
//! input prefix alone (resolve-3, P7). No clock, no I/O, no task. `step` decides, `PartState::fold` takes
//! over what was decided, so that state = fold(D) by construction (resolve-12).

pub mod custom;
pub mod group;
pub mod merge;
#[cfg(test)]
mod part_tests;
pub mod policy;
mod review;
mod rows;
pub mod state;
#[cfg(test)]
mod tests;

use crate::event::{
    Ack, ActorId, Bootstrap, Canonical, Cause, Conflict, Ctr, Dot, Fp, Hlc, Join, Key, Loser, Offset, Op, Origin,
    Proposal, Row, SchemaId, Seq, Side, Vv,
};
use crate::guard;
use crate::runtime::error::Result;
use policy::{Case, Decision};
pub use policy::{InForce, Merged, Policy};
use rows::{common, filled, filled_from, fingerprint, grown, lifted};
pub use state::PartState;
use std::sync::Arc;

/// Old versions that `step` looks at: fetched before it is called (resolve-12).
#[derive(Clone, Default, Debug)]
pub struct History {
    /// What the writer changed, if `wants` asks for it and it is there.
    pub ancestor: Option<Arc<Canonical>>,
    /// The versions that settled earlier conflicts of the record, the newest first, if `wants_past` asks for them:
    /// `PAST_MAX` at most.
    pub past: Vec<Arc<Canonical>>,
}

/// Earlier conflicts that a rule sees.
pub const PAST_MAX: usize = 8;

/// The version `step` needs beside the state to settle a proposal: what the writer changed; `None`
/// if it needs none.
#[must_use]
pub fn wants(state: &PartState, proposal: &Proposal) -> Option<(Key, Seq)> {
    let head = state.heads.get(&proposal.key)?;
    let settled = head.vv.le(&proposal.ctx) || (proposal.fp == head.fp && joins(state, proposal));
    let seq = own_unseen(head, proposal).map_or(proposal.base_seq, |own| own.seq);
    (!settled && proposal.before.is_none() && seq > 0).then(|| (proposal.key.clone(), seq))
}

/// The version with the newest of the earlier conflicts `step` looks at; each names the one before it. 0 for none.
#[must_use]
pub fn wants_past(state: &PartState, proposal: &Proposal) -> Seq {
    let looks = |head: &&Arc<Canonical>| state.rules.policy().looks_back() && !head.vv.le(&proposal.ctx);
    state.heads.get(&proposal.key).filter(looks).map_or(0, |head| head.conflicted)
}

/// Settles a proposal: the next canonical version of its key. Not sealed yet (`journal::seal`).
pub fn step(state: &PartState, offset: Offset, proposal: &Proposal, history: &History) -> Result<Canonical> {
    let head = state.heads.get(&proposal.key);
    let nothing = Vv::new();
    let head_vv = head.map_or(&nothing, |h| &h.vv);
    if head_vv.le(&proposal.ctx) {
        return fast_forward(state, offset, proposal, head.map(|h| &**h));
    }
    match head {
        Some(head) if joins(state, proposal) && says_the_same(state, proposal, head)? => {
            Ok(join_equal(state, offset, proposal, head))
        }
        Some(head) => merge(state, offset, proposal, head, history),
        None => fast_forward(state, offset, proposal, None),
    }
}

/// Whether equal content settles a proposal. Copies that meet are the same data, whatever the policy (who-4).
fn joins(state: &PartState, proposal: &Proposal) -> bool {
    state.rules.policy().joins_equal_content() || is_copy(proposal)
}

/// A copy of what a platform held before it belonged to the dataset.
fn is_copy(proposal: &Proposal) -> bool {
    proposal.op == Op::Read && proposal.ctx.is_empty()
}

/// Whether a proposal says what the head says: a part of a record is compared with that part (read-11).
fn says_the_same(state: &PartState, proposal: &Proposal, head: &Canonical) -> Result<bool> {
    if !proposal.is_part() {
        return Ok(proposal.fp == head.fp);
    }
    let both = proposal.value.as_ref().zip(head.after.as_ref()).filter(|_| head.schema == proposal.schema);
    let filled = both.and_then(|(part, row)| part.filled_from(row));
    Ok(filled.is_some() && fingerprint(state, filled.as_ref(), proposal)? == head.fp)
}

/// The writer had the head in front of it.
fn fast_forward(state: &PartState, offset: Offset, proposal: &Proposal, head: Option<&Canonical>) -> Result<Canonical> {
    let base = head.and_then(|h| Some((h.after.as_deref()?, h.schema)));
    let (after, fp) = filled(state, proposal, base, proposal.is_part())?;
    let ts = head.map_or(proposal.ts, |h| proposal.ts.max(h.ts.tick()));
    let vv = head.map_or_else(Vv::new, |h| h.vv.clone()).join(&proposal.ctx).with(proposal.dot);
    let won = (after, fp, proposal.schema);
    // read-11: who is not shown a field that came later keeps to the version before, and does not take it away.
    let (after, fp, schema) = match head {
        Some(head) => grown(state, won, (head.after.as_deref(), head.schema))?,
        None => won,
    };
    let draft = Draft { after, fp, schema, ts, vv, by: proposal.dot.actor, cause: Cause::FastForward };
    Ok(draft.version(state, offset, proposal, head))
}

/// Both sides say the same: no conflict, only more is contained (value-4: `by` of the head).
fn join_equal(state: &PartState, offset: Offset, proposal: &Proposal, head: &Canonical) -> Canonical {
    let draft = Draft {
        after: head.after.clone(),
        fp: head.fp,
        schema: head.schema,
        ts: head.ts.max(proposal.ts),
        vv: head.vv.join(&proposal.ctx).with(proposal.dot),
        by: head.by,
        cause: Cause::Join,
    };
    draft.version(state, offset, proposal, Some(head))
}

/// Neither has seen the other: the policy settles, the loser is logged with its value (I5).
fn merge(
    state: &PartState,
    offset: Offset,
    proposal: &Proposal,
    head: &Canonical,
    history: &History,
) -> Result<Canonical> {
    let ancestor = ancestor_of(head, proposal, history.ancestor.as_deref());
    let changed = ancestor.as_ref().and_then(|a| Some((a.value.as_deref()?, a.schema)));
    // read-11: a record that was new to a writer who sees a part of it.
    let is_new = changed.is_none() && proposal.is_part() && (ancestor.is_some() || wants(state, proposal).is_none());
    let base = if is_new { head.after.as_deref().map(|row| (row, head.schema)) } else { changed };
    let (value, fp) = filled(state, proposal, base, is_new)?;
    let ours = side_of_head(head);
    let theirs = Side { value, fp, ..side_of_proposal(proposal) };
    let sides = Sides { ancestor: ancestor.as_ref(), ours: &ours, theirs: &theirs };
    let Decision { merged, rule, open } = decide(state, proposal, &sides, &history.past)?;
    let rdot = Dot { actor: ActorId::RESOLVER, ctr: used_of(state, proposal) + 1 };
    let vv = head.vv.join(&proposal.ctx).with(proposal.dot).with(rdot);
    // value-4: a merge takes `by` and `ts` of the winner, and the schema its value is of (read-10).
    let (after, fp, schema, by, ts, loser) = match merged {
        Merged::Head => (ours.value.clone(), ours.fp, head.schema, head.by, head.ts, Loser::Proposal),
        Merged::Proposal => {
            let (value, fp) = won(state, proposal, head, &theirs)?;
            (value, fp, theirs.schema, theirs.by, theirs.ts, Loser::Head)
        }
        Merged::Both { value, by, loser } => {
            let schema = common(state, &ours, &theirs)?;
            let fp = value.as_deref().map_or(Fp::ABSENT, |row| Fp::of_row(schema, row));
            (value, fp, schema.id, by, ours.ts.max(theirs.ts), loser)
        }
    };
    let other = if loser == Loser::Proposal { &theirs } else { &ours };
    let (after, fp, schema) = grown(state, (after, fp, schema), (other.value.as_deref(), other.schema))?;
    let conflict = Conflict {
        ancestor,
        head: ours,
        proposal: theirs.clone(),
        loser,
        rule,
        rules: state.rules.version,
        ambiguous_base: proposal.ambiguous_base,
        earlier: head.conflicted,
        open,
    };
    let draft = Draft { after, fp, schema, ts, vv, by, cause: Cause::Merge };
    let mut version = draft.version(state, offset, proposal, Some(head));
    version.rctr = rdot.ctr;
    version.conflicted = state.seq() + 1;
    version.conflict = guard!("conflict-log", true).then(|| Box::new(conflict));
    Ok(version)
}

/// The value of a proposal that won. What its platform does not see it did not write: that stays as the
/// head has it (read-11).
fn won(state: &PartState, proposal: &Proposal, head: &Canonical, theirs: &Side) -> Result<(Option<Arc<Row>>, Fp)> {
    let seen = proposal.value.as_ref().filter(|_| guard!("read-11", proposal.is_part()));
    let whole = match seen.zip(head.after.as_deref()) {
        Some((part, row)) => filled_from(state, part, proposal.schema, (row, head.schema))?,
        None => None,
    };
    let Some(whole) = whole else { return Ok((theirs.value.clone(), theirs.fp)) };
    let fp = fingerprint(state, Some(&whole), proposal)?;
    Ok((Some(Arc::new(whole)), fp))
}

/// What is settled.
#[derive(Clone, Copy)]
struct Sides<'a> {
    ancestor: Option<&'a Side>,
    ours: &'a Side,
    theirs: &'a Side,
}

/// Who wins: `bootstrap` for a copy that meets other content (who-4), the policy for everything else.
fn decide(state: &PartState, proposal: &Proposal, sides: &Sides<'_>, past: &[Arc<Canonical>]) -> Result<Decision> {
    let (copy, Sides { ours, theirs, .. }) = (is_copy(proposal), *sides);
    let later = || policy::last_writer(&state.rules, ours, theirs);
    let by_source = |actor: ActorId, source| actor.platform() == source;
    let (merged, rule) = match state.rules.bootstrap {
        Bootstrap::Source(source) if copy && by_source(theirs.by, source) => (Merged::Proposal, "source-wins"),
        Bootstrap::Source(source) if copy && ours.vv.iter().any(|dot| by_source(dot.actor, source)) => {
            (Merged::Head, "source-wins")
        }
        Bootstrap::Source(_) if copy => (later(), "source-wins"),
        Bootstrap::Latest if copy => (later(), "latest-wins"),
        _ => return settle(state, sides, past),
    };
    Ok(Decision { merged, rule: format!("bootstrap: {rule}").into(), open: None })
}

/// What the rules in force would make of a conflict that was settled by others.
///
/// # Errors
/// If a schema of its sides is not known.
pub fn again(state: &PartState, conflict: &Conflict, past: &[Arc<Canonical>]) -> Result<Decision> {
    let Conflict { ancestor, head, proposal, .. } = conflict;
    settle(state, &Sides { ancestor: ancestor.as_ref(), ours: head, theirs: proposal }, past)
}

/// The policy's decision, on rows of one schema.
fn settle(state: &PartState, sides: &Sides<'_>, past: &[Arc<Canonical>]) -> Result<Decision> {
    let Sides { ancestor, ours, theirs } = *sides;
    let schema = common(state, ours, theirs)?;
    let ancestor = ancestor.map(|side| lifted(state, side, schema)).transpose()?;
    let (head, proposal) = (lifted(state, ours, schema)?, lifted(state, theirs, schema)?);
    let rules = &state.rules;
    let case = Case { rules, schema, ancestor: ancestor.as_deref(), head: &head, proposal: &proposal, past };
    Ok(rules.policy().merge(&case))
}

/// What is new in a version, before it takes its place in the journal.
struct Draft {
    after: Option<Arc<Row>>,
    fp: Fp,
    schema: SchemaId,
    ts: Hlc,
    vv: Vv,
    by: ActorId,
    cause: Cause,
}

impl Draft {
    fn version(self, state: &PartState, offset: Offset, proposal: &Proposal, head: Option<&Canonical>) -> Canonical {
        Canonical {
            key: proposal.key.clone(),
            seq: 0,
            id: 0,
            prev: 0,
            origin: Origin::Input(offset),
            idx: 0,
            last: true,
            dot: proposal.dot,
            vv: self.vv,
            ts: self.ts,
            fp: self.fp,
            tomb: self.after.is_none(),
            schema: self.schema,
            after: self.after,
            by: self.by,
            cause: self.cause,
            ack: acknowledge(head, proposal, state.seq() + 1),
            rctr: used_of(state, proposal),
            conflicted: head.map_or(0, |h| h.conflicted),
            conflict: None,
            asked: None,
            copy: false,
        }
    }
}

/// The resolver's newest dot once this proposal has its own: a person's decision has one of the resolver's (verb-6).
fn used_of(state: &PartState, proposal: &Proposal) -> Ctr {
    let own = proposal.dot.actor == ActorId::RESOLVER;
    if own { proposal.dot.ctr } else { state.rctr }
}

/// The newest change of each actor contained, this one included. The resolver has no store that could hold it.
fn acknowledge(head: Option<&Canonical>, proposal: &Proposal, seq: Seq) -> Ack {
    let join = Join { actor: proposal.dot.actor, ctr: proposal.dot.ctr, seq, fp_local: proposal.fp_local };
    let others = head.into_iter().flat_map(|h| h.ack.iter().copied()).filter(|j| j.actor != join.actor);
    others.chain([join].into_iter().filter(|join| join.actor != ActorId::RESOLVER)).collect()
}

/// The value the writer changed: the before-image, its own last write if it had not seen that merged,
/// or the version it had in front of it. `None` where there was nothing, or it is not known any more.
fn ancestor_of(head: &Canonical, proposal: &Proposal, fetched: Option<&Canonical>) -> Option<Side> {
    if let Some(before) = &proposal.before {
        let base = Side { value: Some(before.clone()), fp: Fp::default(), ..side_of_proposal(proposal) };
        return Some(Side { dot: None, seq: proposal.base_seq, vv: proposal.ctx.clone(), ..base });
    }
    let fetched = fetched?;
    match (&fetched.conflict, own_unseen(head, proposal)) {
        // A merge came of it: what the writer has is what it wrote.
        (Some(conflict), Some(_)) => Some(conflict.proposal.clone()),
        _ => Some(side_of_head(fetched)),
    }
}

/// The writer's own last write, if it was settled in a version the writer has not seen: then that,
/// and not the version it had before, is what it changed (correctness.md §4.2).
fn own_unseen<'a>(head: &'a Canonical, proposal: &Proposal) -> Option<&'a Join> {
    let mine = proposal.ctx.get(proposal.dot.actor);
    let own = |join: &&Join| join.actor == proposal.dot.actor && join.ctr == mine;
    head.ack.iter().find(|join| own(join) && guard!("own-unseen", join.seq > proposal.base_seq))
}

fn side_of_head(head: &Canonical) -> Side {
    Side {
        by: head.by,
        dot: None,
        vv: head.vv.clone(),
        seq: head.seq,
        ts: head.ts,
        fp: head.fp,
        schema: head.schema,
        value: head.after.clone(),
    }
}

fn side_of_proposal(proposal: &Proposal) -> Side {
    Side {
        by: proposal.dot.actor,
        dot: Some(proposal.dot),
        vv: proposal.ctx.clone(),
        seq: 0,
        ts: proposal.ts,
        fp: proposal.fp,
        schema: proposal.schema,
        value: proposal.value.clone(),
    }
}
