//! What a successor finds is what the owner had, and the same inputs give the same versions.

use super::*;
use crate::event::{
    Claim, Control, ControlInput, PlatformNo, Position, Record, Role, Rules, Schema, SchemaId, Stamp, StateRecord,
    Validity,
};
use std::collections::HashMap;

const STAMP: Stamp = Stamp { epoch: 1, owner: 1 };

fn change(platform: u16, ctr: u64, key: &'static str, seen: &[(u16, u64)], ms: u64) -> Record {
    let dot = |(platform, ctr)| Dot { actor: ActorId::new(PlatformNo(platform), 1), ctr };
    let fp = Fp([u8::try_from(ms).unwrap(); 16]);
    Record::Proposal(Box::new(Proposal {
        stamp: STAMP,
        key: key.into(),
        dot: dot((platform, ctr)),
        ctx: seen.iter().copied().map(dot).collect(),
        base_seq: 0,
        base_tomb: false,
        ts: Hlc::from_ms(ms),
        op: Op::Put,
        fp,
        fp_local: fp,
        schema: SchemaId(4),
        value: Some(Arc::new(Row(vec![]))),
        before: None,
        txn: None,
        src_pos: Position::START,
        rev: 0,
        entry: None,
        ambiguous_base: false,
    }))
}

/// Everything that may stand in C: claims, commands, proposals, void ones among them.
fn inputs() -> Vec<Record> {
    let claim = |platform| Record::Claim(Claim { role: Role::Writer(PlatformNo(platform)), stamp: STAMP });
    let control = |command, control| Record::Control(Box::new(ControlInput { command, control }));
    let rules = Rules { version: 1, priority: vec![PlatformNo(2)], ..Rules::default() };
    let schema = Schema { id: SchemaId(4), name: "notes".into(), fields: vec![], key: vec![] };
    vec![
        claim(1),
        control(1, Control::Rules(rules)),
        control(2, Control::Schema(Arc::new(schema))),
        change(1, 1, "a", &[], 10),
        claim(2),
        change(2, 1, "a", &[], 20),
        change(2, 3, "a", &[], 21),
        control(1, Control::Rules(Rules::default())),
        change(1, 2, "b", &[], 30),
        change(1, 3, "a", &[(1, 1)], 12),
        change(2, 2, "b", &[(1, 2)], 40),
    ]
}

/// What the owner of a partition does with C from where `state` has absorbed it.
fn run(state: &mut PartState, inputs: &[Record]) -> Vec<Arc<Canonical>> {
    let mut made = Vec::new();
    for (offset, input) in (0..).zip(inputs) {
        let new = offset >= state.settled;
        if !state.absorb(offset, input) || !new {
            continue;
        }
        let Record::Proposal(proposal) = input else { continue };
        let version = step(state, offset, proposal, &History::default()).unwrap();
        let version = Arc::new(state.seal(version, 100 + offset));
        state.fold(&version, None);
        made.push(version);
    }
    made
}

type Told<'a> = (u64, u64, &'a Rules, &'a [Arc<Schema>], &'a Validity, u64, HashMap<Key, Arc<Canonical>>);

fn told(state: &PartState) -> Told<'_> {
    let PartState { heads, link, rctr, rules, schemas, changes, c_off, .. } = state;
    (
        link.seq,
        *rctr,
        rules,
        schemas,
        changes,
        *c_off,
        heads.iter().map(|(key, head)| (key.clone(), head.clone())).collect(),
    )
}

/// resolve-3
#[test]
fn resolve_3_the_versions_are_a_function_of_the_inputs() {
    let (mut one, mut other) = (PartState::default(), PartState::default());
    let versions = run(&mut one, &inputs());
    assert_eq!(versions.len(), 5, "void inputs have none");
    assert_eq!(versions, run(&mut other, &inputs()));
    assert_eq!(told(&one), told(&other));
}

/// resolve-1, resolve-2, resolve-12: the heads and the mark of any moment, the rest of D, and C again.
#[test]
fn a_successor_finds_what_the_owner_had_from_any_mark_and_any_end_of_the_journal() {
    let inputs = inputs();
    let mut whole = PartState::default();
    let journal = run(&mut whole, &inputs);
    for marked in 0..=inputs.len() {
        let mut before = PartState::default();
        let projected = run(&mut before, &inputs[..marked]).len();
        let mark = before.mark(STAMP, 1);
        for landed in projected..=journal.len() {
            let mut state = PartState::default();
            for (_, head) in before.heads.iter() {
                state.restore_head(&StateRecord { stamp: STAMP, head: head.clone() });
            }
            state.restore_mark(&mark);
            journal[projected..landed].iter().for_each(|version| state.fold(version, None));
            let rest = run(&mut state, &inputs);
            assert_eq!(rest, journal[landed..], "mark at {marked}, {landed} versions");
            assert_eq!(told(&state), told(&whole), "mark at {marked}, {landed} versions");
        }
    }
}

#[test]
fn resolve_12_what_is_absorbed_again_changes_nothing() {
    let mut state = PartState::default();
    run(&mut state, &inputs());
    let before = state.clone();
    for (offset, input) in (0..).zip(&inputs()) {
        assert!(!state.absorb(offset, input));
    }
    assert_eq!(told(&state), told(&before));
}
