//! The outputs of one input: one version for a proposal, one for each key of a truncate. They stand in
//! D as one contiguous group, numbered `idx`, the end marked by `last` (resolve-10), so that a successor
//! knows how far the group has come and goes on behind that. Pure.

use super::state::PartState;
use crate::event::{Canonical, Fp, Op, Proposal, Record, Truncate, Vv};
use crate::guard;

/// How many versions an input becomes.
#[must_use]
pub fn size(input: &Record) -> u32 {
    match input {
        Record::Proposal(_) => 1,
        Record::Truncate(truncate) => u32::try_from(truncate.gone.len()).unwrap_or(u32::MAX),
        _ => 0,
    }
}

/// The deletion of one key of a truncate, as if it had been proposed alone: on top of what the source had
/// of it, so that a version the source had not seen is an edit versus a delete (read-9).
#[must_use]
pub fn deletion(state: &PartState, truncate: &Truncate, idx: u32) -> Option<Proposal> {
    let gone = truncate.gone.get(usize::try_from(idx).ok()?)?;
    let seen = guard!("read-9", true);
    let ctx = if seen { gone.ctx.clone() } else { state.heads.get(&gone.key).map_or_else(Vv::new, |h| h.vv.clone()) };
    Some(Proposal {
        stamp: truncate.stamp,
        key: gone.key.clone(),
        dot: truncate.dot,
        ctx,
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
    })
}

/// Puts a version into its place in the group.
#[must_use]
pub fn placed(version: Canonical, idx: u32, size: u32) -> Canonical {
    Canonical { idx, last: idx + 1 >= size, ..version }
}
