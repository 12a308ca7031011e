//! Proposals of platforms that see a part of a record (read-11).

use super::*;
use crate::event::{Field, PlatformNo, Position, Schema, SchemaId, Stamp, Type, Value};
use crate::runtime::error::Code;

fn actor(platform: u16) -> ActorId {
    ActorId::new(PlatformNo(platform), 1)
}

fn schema() -> Arc<Schema> {
    let field = |name: &str, ty, nullable| Field { name: name.into(), ty, nullable };
    let fields =
        vec![field("id", Type::Int(64), false), field("name", Type::Text, true), field("secret", Type::Text, true)];
    Arc::new(Schema { id: SchemaId(3), name: "people".into(), fields, key: vec![0] })
}

fn row(name: &str, secret: Value) -> Row {
    Row(vec![Value::Int(1), Value::text(name), secret])
}

fn proposal(platform: u16, ctr: u64, ts_ms: u64, value: Option<Row>, head: Option<&Canonical>) -> Proposal {
    let local = value.as_ref().map_or(Fp::ABSENT, |row| Fp::of_row(&schema(), row));
    let part = value.as_ref().is_some_and(Row::is_partial);
    Proposal {
        stamp: Stamp::default(),
        key: Key::from("k"),
        dot: Dot { actor: actor(platform), ctr },
        ctx: head.map_or_else(Vv::new, |h| h.vv.clone()),
        base_seq: head.map_or(0, |h| h.seq),
        base_tomb: head.is_some_and(|h| h.tomb),
        ts: Hlc::from_ms(ts_ms),
        op: if value.is_some() { Op::Put } else { Op::Delete },
        fp: if part { local.of_part() } else { local },
        fp_local: local,
        schema: SchemaId(3),
        value: value.map(Arc::new),
        before: None,
        txn: None,
        src_pos: Position::START,
        rev: 0,
        entry: None,
        ambiguous_base: false,
    }
}

struct World {
    state: PartState,
    old: Vec<Arc<Canonical>>,
}

impl World {
    fn new() -> World {
        World { state: PartState { schemas: vec![schema()], ..PartState::default() }, old: Vec::new() }
    }

    fn try_settle(&mut self, proposal: &Proposal) -> Result<Arc<Canonical>> {
        let ancestor =
            wants(&self.state, proposal).and_then(|(_, seq)| self.old.iter().find(|v| v.seq == seq).cloned());
        let version = step(&self.state, 0, proposal, &History { ancestor, ..History::default() })?;
        let version = Arc::new(self.state.seal(version, self.state.seq() + 1));
        self.state.fold(&version, None);
        self.old.push(version.clone());
        Ok(version)
    }

    fn settle(&mut self, proposal: &Proposal) -> Arc<Canonical> {
        self.try_settle(proposal).unwrap()
    }
}

fn held(version: &Canonical) -> Option<Row> {
    version.after.as_deref().cloned()
}

/// read-11
#[test]
fn an_edit_where_a_field_is_not_seen_leaves_it_as_it_is() {
    let mut world = World::new();
    let first = world.settle(&proposal(1, 1, 10, Some(row("ann", Value::text("s1"))), None));
    let second = world.settle(&proposal(2, 1, 20, Some(row("anna", Value::Unchanged)), Some(&first)));
    assert_eq!((second.cause, held(&second)), (Cause::FastForward, Some(row("anna", Value::text("s1")))));
    assert_eq!(second.fp, Fp::of_row(&schema(), &row("anna", Value::text("s1"))));
}

/// read-11: the winner of a conflict wins what it saw; what it did not see stays as the head has it.
#[test]
fn a_winner_that_does_not_see_a_field_does_not_bring_an_old_value_of_it_back() {
    let mut world = World::new();
    let first = world.settle(&proposal(1, 1, 10, Some(row("ann", Value::text("s1"))), None));
    world.settle(&proposal(1, 2, 20, Some(row("ann", Value::text("s2"))), Some(&first)));
    let merged = world.settle(&proposal(2, 1, 30, Some(row("anna", Value::Unchanged)), Some(&first)));
    assert_eq!((merged.cause, held(&merged)), (Cause::Merge, Some(row("anna", Value::text("s2")))));
    let conflict = merged.conflict.as_ref().unwrap();
    assert_eq!((conflict.loser, conflict.head.value.as_deref()), (Loser::Head, Some(&row("ann", Value::text("s2")))));
    // Over a deletion it brings the record back with what it had in front of it.
    let gone = world.settle(&proposal(1, 3, 40, None, Some(&merged)));
    let back = world.settle(&proposal(2, 2, 50, Some(row("annie", Value::Unchanged)), Some(&merged)));
    assert_eq!((gone.tomb, held(&back)), (true, Some(row("annie", Value::text("s2")))));
}

/// read-11
#[test]
fn a_record_that_begins_where_a_field_is_not_seen_begins_without_it() {
    let mut world = World::new();
    let first = world.settle(&proposal(2, 1, 10, Some(row("ann", Value::Unchanged)), None));
    assert_eq!(held(&first), Some(row("ann", Value::Null)));
    // Written at both at once: what one side does not see is the other's.
    let mut world = World::new();
    world.settle(&proposal(1, 1, 10, Some(row("ann", Value::text("s1"))), None));
    let merged = world.settle(&proposal(2, 1, 20, Some(row("anna", Value::Unchanged)), None));
    assert_eq!(held(&merged), Some(row("anna", Value::text("s1"))));
}

/// read-11, who-4
#[test]
fn what_says_the_same_of_all_it_sees_is_no_conflict() {
    let mut world = World::new();
    world.settle(&proposal(1, 1, 10, Some(row("ann", Value::text("s1"))), None));
    let copy = Proposal { op: Op::Read, ..proposal(2, 1, 20, Some(row("ann", Value::Unchanged)), None) };
    let joined = world.settle(&copy);
    assert_eq!((joined.cause, held(&joined)), (Cause::Join, Some(row("ann", Value::text("s1")))));
}

/// read-10, read-11: a view is made for one version of the schema, and does not take away what came later.
#[test]
fn a_field_that_came_after_the_view_was_made_stays() {
    let mut world = World::new();
    let note = Field { name: "note".into(), ty: Type::Text, nullable: true };
    let fields = schema().fields.iter().cloned().chain([note]).collect();
    let later = Arc::new(Schema { id: SchemaId(4), fields, ..Schema::clone(&schema()) });
    world.state.schemas.push(later.clone());
    let with_note = |name: &str, secret: Value| Row([row(name, secret).0, vec![Value::text("n")]].concat());
    let whole = with_note("ann", Value::text("s1"));
    let fp = Fp::of_row(&later, &whole);
    let first = proposal(1, 1, 10, Some(whole), None);
    let first = world.settle(&Proposal { schema: SchemaId(4), fp, fp_local: fp, ..first });
    let second = world.settle(&proposal(2, 1, 20, Some(row("anna", Value::Unchanged)), Some(&first)));
    assert_eq!((second.schema, held(&second)), (SchemaId(4), Some(with_note("anna", Value::text("s1")))));
    // Also where the view showed all there was.
    let third = world.settle(&proposal(2, 2, 30, Some(row("anne", Value::text("s2"))), Some(&second)));
    assert_eq!((third.schema, held(&third)), (SchemaId(4), Some(with_note("anne", Value::text("s2")))));
    assert_eq!(third.fp, Fp::of_row(&later, &with_note("anne", Value::text("s2"))));
}

/// value-2: an image that lacks what its platform does see is never filled with nothing.
#[test]
fn a_large_value_that_a_log_left_out_is_not_taken_for_a_hidden_field() {
    let mut world = World::new();
    let whole = proposal(1, 1, 10, Some(row("ann", Value::Unchanged)), None);
    let lacking = Proposal { fp: whole.fp_local, ..whole };
    assert!(!lacking.is_part());
    assert_eq!(world.try_settle(&lacking).unwrap_err().code, Code::HistoryLost);
}
