//! The outputs of one input: one version for a proposal, one for each key of a truncate. They stand in
//! D as one contiguous group, numbered `idx`, the end marked by `last` (resolve-10), so that a successor
//! knows how far the group has come and goes on behind that. Pure.

use super::review;
use super::state::PartState;
use crate::event::{ActorId, Canonical, Fp, Gone, Join, Op, Proposal, Record, Truncate};
use crate::guard;
use std::borrow::Cow;

/// How many versions an input becomes.
#[must_use]
pub fn size(input: &Record) -> u32 {
    match input {
        Record::Proposal(_) | Record::Review(_) => 1,
        Record::Truncate(truncate) => u32::try_from(truncate.gone.len()).unwrap_or(u32::MAX),
        _ => 0,
    }
}

/// Number `idx` of the changes an input asks for. An input that asks for none has none.
#[must_use]
pub fn change<'a>(state: &PartState, input: &'a Record, idx: u32) -> Option<Cow<'a, Proposal>> {
    match input {
        Record::Proposal(proposal) => Some(Cow::Borrowed(proposal)),
        Record::Truncate(truncate) => deletion(state, truncate, idx).map(Cow::Owned),
        Record::Review(asked) => Some(Cow::Owned(review::proposal(state, asked))),
        _ => None,
    }
}

/// The deletion of one key of a truncate, as if it had been proposed alone: on top of what the source had
/// of it, so that a version the source had not seen is an edit versus a delete (read-9).
#[must_use]
pub fn deletion(state: &PartState, truncate: &Truncate, idx: u32) -> Option<Proposal> {
    let gone = truncate.gone.get(usize::try_from(idx).ok()?)?;
    let head = state.heads.get(&gone.key).map(|head| &**head);
    let ctx = match head {
        Some(head) if !guard!("read-9", true) => head.vv.clone(),
        Some(head) if guard!("read-9-given", was_given(head, truncate.dot.actor, gone)) => {
            gone.ctx.iter().filter(|dot| dot.actor != truncate.dot.actor).collect()
        }
        _ => gone.ctx.clone(),
    };
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

/// Whether the row was as a sink had given it, although a write of the source's own is newer than that: a
/// later own write had brought back what an older one left, and the sink took it for that one
/// (docs/decisions/0006). Then the version given is what the deletion changed, and not the own write; only
/// asked where the source had not seen the head, so that no more is contained than it had.
fn was_given(head: &Canonical, source: ActorId, gone: &Gone) -> bool {
    let newest = |join: &&Join| join.actor == source && join.ctr == gone.ctx.get(source);
    !head.vv.le(&gone.ctx) && head.ack.iter().find(newest).is_some_and(|own| own.fp_local != gone.fp)
}

/// Puts a version into its place in the group of its input, and tells who asked for it.
#[must_use]
pub fn placed(version: Canonical, input: &Record, idx: u32) -> Canonical {
    let asked = match input {
        Record::Review(review) => Some(Box::new(review.asked.clone())),
        _ => None,
    };
    Canonical { idx, last: idx + 1 >= size(input), asked, ..version }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Cause, Dot, Hlc, Loser, PlatformNo, Position, Row, Schema, SchemaId, Stamp, Txn, Vv};
    use crate::resolve::History;
    use crate::resolve::step;
    use std::sync::Arc;

    const HERE: ActorId = ActorId::new(PlatformNo(1), 1);
    const THERE: ActorId = ActorId::new(PlatformNo(2), 1);

    fn put(key: &'static str, dot: Dot, ctx: Vv, ms: u64) -> Proposal {
        let state = PartState::default();
        let gone = Gone { key: key.into(), ctx, base_seq: 0, base_tomb: false, fp: Fp::ABSENT };
        let put = deletion(&state, &truncate(dot, ms, vec![gone]), 0).unwrap();
        let fp = Fp([u8::try_from(ms).unwrap(); 16]);
        Proposal { op: Op::Put, value: Some(Arc::new(Row(vec![]))), fp, fp_local: fp, ..put }
    }

    fn truncate(dot: Dot, ms: u64, gone: Vec<Gone>) -> Truncate {
        let (txn, src_pos) = (Txn { id: 1, idx: 0 }, Position::START);
        let (stamp, schema) = (Stamp::default(), Default::default());
        Truncate { stamp, dot, ts: Hlc::from_ms(ms), schema, txn, src_pos, gone }
    }

    fn schema() -> Arc<Schema> {
        Arc::new(Schema { id: SchemaId(0), name: "rows".into(), fields: vec![], key: vec![] })
    }

    fn settle(state: &mut PartState, offset: u64, proposal: &Proposal, idx: u32, size: u32) -> Arc<Canonical> {
        let version = step(state, offset, proposal, &History::default()).unwrap();
        let version =
            Arc::new(state.seal(Canonical { idx, last: idx + 1 >= size, ..version }, offset * 10 + u64::from(idx)));
        state.fold(&version, None);
        version
    }

    /// Two records written here; the second then changed there, unseen by who truncates here.
    fn state() -> (PartState, Truncate) {
        let mut state = PartState { schemas: vec![schema()], ..PartState::default() };
        let (one, two) = (Dot { actor: HERE, ctr: 1 }, Dot { actor: HERE, ctr: 2 });
        settle(&mut state, 0, &put("a", one, Vv::new(), 10), 0, 1);
        settle(&mut state, 1, &put("b", two, Vv::new(), 11), 0, 1);
        let there = Dot { actor: THERE, ctr: 1 };
        settle(&mut state, 2, &put("b", there, Vv::new().with(two), 30), 0, 1);
        let gone = |(key, dot, ms): (&'static str, Dot, u8)| {
            let ctx = Vv::new().with(dot);
            Gone { key: key.into(), ctx, base_seq: 0, base_tomb: false, fp: Fp([ms; 16]) }
        };
        let gone = [("a", one, 10), ("b", two, 11)].map(gone).into();
        (state, truncate(Dot { actor: HERE, ctr: 3 }, 20, gone))
    }

    #[test]
    fn read_9_what_the_source_had_seen_is_deleted_and_what_it_had_not_is_an_edit_versus_a_delete() {
        let (mut state, truncate) = state();
        let versions: Vec<_> = (0..2)
            .map(|idx| {
                let deletion = deletion(&state, &truncate, idx).unwrap();
                settle(&mut state, 3, &deletion, idx, 2)
            })
            .collect();
        assert_eq!((versions[0].cause, versions[0].tomb), (Cause::FastForward, true));
        let conflict = versions[1].conflict.as_ref().unwrap();
        assert_eq!((versions[1].cause, versions[1].tomb, conflict.loser), (Cause::Merge, false, Loser::Proposal));
        assert!(versions.iter().all(|v| v.vv.get(HERE) == 3), "both contain the truncate");
        assert_eq!(versions.iter().map(|v| (v.idx, v.last)).collect::<Vec<_>>(), [(0, false), (1, true)]);
    }

    #[test]
    fn resolve_10_a_group_that_was_begun_is_finished_behind_what_stands_there() {
        let (mut state, truncate) = state();
        let input = Record::Truncate(Box::new(truncate.clone()));
        assert_eq!((state.settled, state.done(3), size(&input)), (3, 0, 2));
        let first = deletion(&state, &truncate, 0).unwrap();
        settle(&mut state, 3, &first, 0, size(&input));
        // As a successor finds it: the input is not settled, and one of two versions is there.
        assert_eq!((state.settled, state.done(3), state.done(4)), (3, 1, 0));
        let rest = deletion(&state, &truncate, state.done(3)).unwrap();
        assert_eq!(rest.key, "b".into());
        settle(&mut state, 3, &rest, 1, size(&input));
        assert_eq!((state.settled, state.done(3)), (4, 0));
        assert!(deletion(&state, &truncate, 2).is_none());
    }
}
