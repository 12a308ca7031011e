//! Decisions of people: an edit made on no platform. It is settled as every other proposal, by one who had seen
//! the version it is about: what was written there since is concurrent, and is not overwritten in silence
//! (resolve-3, verb-6). Pure.

use super::state::PartState;
use crate::event::{ActorId, Asked, Canonical, Dot, Fp, Hlc, Op, Position, Proposal, Review, Row, SchemaId, Stamp};
use crate::guard;
use std::sync::Arc;

impl Review {
    /// The decision of a person who saw `version` that the record shall be `value`; at `now_ms` of the clock of the
    /// node that was asked.
    #[must_use]
    pub fn of(version: &Canonical, value: Option<Arc<Row>>, schema: SchemaId, asked: Asked, now_ms: u64) -> Self {
        Review {
            key: version.key.clone(),
            ctx: version.vv.clone(),
            base_seq: version.seq,
            ts: version.ts.tick().max(Hlc::from_ms(now_ms)),
            schema,
            value,
            asked,
        }
    }
}

/// The same as a proposal, with the resolver's next dot.
pub(super) fn proposal(state: &PartState, review: &Review) -> Proposal {
    let schema = state.schemas.iter().find(|schema| schema.id == review.schema);
    let fp = review.value.as_deref().zip(schema).map_or(Fp::ABSENT, |(row, schema)| Fp::of_row(schema, row));
    Proposal {
        stamp: Stamp::default(),
        key: review.key.clone(),
        dot: Dot { actor: ActorId::RESOLVER, ctr: state.rctr + u64::from(guard!("verb-6", true)) },
        ctx: review.ctx.clone(),
        base_seq: review.base_seq,
        base_tomb: false,
        ts: review.ts,
        op: if review.value.is_some() { Op::Put } else { Op::Delete },
        fp,
        fp_local: fp,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Cause, Field, Loser, PlatformNo, Record, Schema, Type, Value, Vv};
    use crate::resolve::{History, group, step};

    fn schema() -> Arc<Schema> {
        let fields = vec![Field { name: "v".into(), ty: Type::Int(64), nullable: false }];
        Arc::new(Schema { id: SchemaId(1), name: "rows".into(), fields, key: vec![0] })
    }

    fn value(v: i64) -> Option<Arc<Row>> {
        Some(Arc::new(Row(vec![Value::Int(v)])))
    }

    fn asked(command: u128, conflict: u64) -> Asked {
        Asked { command, by: "ann".into(), why: "neither was right".into(), conflict: Some(conflict) }
    }

    /// What the resolver makes of a record of C; `None` if it does not count.
    fn settle(state: &mut PartState, record: &Record) -> Option<Arc<Canonical>> {
        let offset = state.c_off;
        if !state.absorb(offset, record) {
            return None;
        }
        let change = group::change(state, record, 0).unwrap().into_owned();
        let version = group::placed(step(state, offset, &change, &History::default()).unwrap(), record, 0);
        let version = Arc::new(state.seal(version, offset + 1));
        state.fold(&version, None);
        Some(version)
    }

    /// Two platforms wrote beside each other: a conflict, in version 2.
    fn conflicted() -> (PartState, Arc<Canonical>) {
        let mut state = PartState { schemas: vec![schema()], ..PartState::default() };
        let mut found = None;
        for platform in [1, 2] {
            let actor = ActorId::new(PlatformNo(platform), 1);
            let claim =
                crate::event::Claim { role: crate::event::Role::Writer(actor.platform()), stamp: stamp(platform) };
            state.absorb(state.c_off, &Record::Claim(claim));
            let review = Review {
                key: "k".into(),
                ctx: Vv::new(),
                base_seq: 0,
                ts: Hlc::from_ms(u64::from(platform)),
                schema: SchemaId(1),
                value: value(i64::from(platform)),
                asked: asked(0, 0),
            };
            let edit = Proposal { stamp: stamp(platform), dot: Dot { actor, ctr: 1 }, ..proposal(&state, &review) };
            found = settle(&mut state, &Record::Proposal(Box::new(edit)));
        }
        (state, found.unwrap())
    }

    fn stamp(platform: u16) -> Stamp {
        Stamp { epoch: 1, owner: platform.into() }
    }

    /// verb-6
    #[test]
    fn verb_6_a_decision_is_a_change_of_the_resolvers_own_and_counts_once() {
        let (mut state, merged) = conflicted();
        assert_eq!((merged.cause, merged.rctr), (Cause::Merge, 1));
        let review = Review::of(&merged, value(7), SchemaId(1), asked(9, merged.seq), 0);
        let record = Record::Review(Box::new(review));
        let decided = settle(&mut state, &record).unwrap();
        assert_eq!((decided.cause, decided.after.clone(), decided.rctr), (Cause::FastForward, value(7), 2));
        assert_eq!((decided.by, decided.dot), (ActorId::RESOLVER, Dot { actor: ActorId::RESOLVER, ctr: 2 }));
        assert!(merged.vv.le(&decided.vv) && !decided.vv.le(&merged.vv) && decided.ts > merged.ts);
        assert_eq!(decided.asked.as_deref(), Some(&asked(9, merged.seq)));
        assert_eq!(decided.ack, merged.ack, "the resolver has no store that could hold it");
        assert_eq!(settle(&mut state, &record), None, "the same command again is void");
    }

    /// verb-6: two people decide at the same time, neither is overwritten in silence.
    #[test]
    fn a_decision_about_what_was_decided_meanwhile_is_a_conflict() {
        let (mut state, merged) = conflicted();
        let review = |v, command| Review::of(&merged, value(v), SchemaId(1), asked(command, merged.seq), 50);
        settle(&mut state, &Record::Review(Box::new(review(7, 9)))).unwrap();
        let second = settle(&mut state, &Record::Review(Box::new(review(8, 10)))).unwrap();
        let conflict = second.conflict.as_deref().unwrap();
        assert_eq!((second.cause, second.rctr), (Cause::Merge, 4));
        let lost = if conflict.loser == Loser::Head { &conflict.head } else { &conflict.proposal };
        assert_ne!(lost.value, second.after);
        assert_eq!(second.asked.as_deref().map(|asked| asked.command), Some(10));
    }
}
