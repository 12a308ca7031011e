//! What a decision costs, without log and state around it: edits of who had seen the head, and three-way
//! merges by field. Run it with `cargo bench --bench resolve`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints its figures and fails by panicking")]

use driftless::event::*;
use driftless::resolve::{History, PartState, step};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

const KEYS: u64 = 1_000;
const ROUNDS: u64 = 500;

const HERE: ActorId = ActorId::new(PlatformNo(1), 1);
const THERE: ActorId = ActorId::new(PlatformNo(2), 1);

/// Ten columns, as the table of the other benches has.
fn schema() -> Arc<Schema> {
    let field = |(name, ty): (&str, Type)| Field { name: name.into(), ty, nullable: true };
    let text = |name| (name, Type::Text);
    let fields = [
        ("id", Type::Int(64)),
        text("sku"),
        text("name"),
        text("note"),
        ("price", Type::Decimal),
        ("stock", Type::Int(64)),
        ("sold", Type::Int(64)),
        ("on_sale", Type::Bool),
        ("changed", Type::Timestamp { zone: true }),
        ("tags", Type::Array(Box::new(Type::Text))),
    ];
    Arc::new(Schema { id: SchemaId(1), name: "items".into(), fields: fields.map(field).into(), key: vec![0] })
}

fn row(id: u64, name: &str, stock: i64, tags: &[&str]) -> Row {
    Row(vec![
        Value::Int(id as i64),
        Value::text("SKU-0000001"),
        Value::text(name),
        Value::text("about thirty characters of it"),
        Value::Decimal("19.99".parse().unwrap()),
        Value::Int(stock),
        Value::Int(7),
        Value::Bool(true),
        Value::Timestamp(1_700_000_000_000_000),
        Value::Array(tags.iter().map(|tag| Value::text(tag)).collect()),
    ])
}

/// An edit of `actor`, which had seen `ctx`.
fn proposal(schema: &Schema, actor: ActorId, ctr: Ctr, ctx: &Vv, base_seq: Seq, row: Row) -> Proposal {
    let fp = Fp::of_row(schema, &row);
    Proposal {
        stamp: Stamp::default(),
        key: Key::of_row(&row, schema).unwrap(),
        dot: Dot { actor, ctr },
        ctx: ctx.clone(),
        base_seq,
        base_tomb: false,
        ts: Hlc::from_ms(ctr),
        op: Op::Put,
        fp,
        fp_local: fp,
        schema: schema.id,
        value: Some(Arc::new(row)),
        before: None,
        txn: None,
        src_pos: Position::START,
        rev: 0,
        entry: None,
        ambiguous_base: false,
    }
}

fn settle(state: &mut PartState, proposal: &Proposal) -> Arc<Canonical> {
    let version = step(state, state.c_off, proposal, &History::default()).unwrap();
    let version = Arc::new(state.seal(version, state.seq() + 1));
    state.fold(&version, None);
    version
}

fn told(what: &str, proposals: &[(Proposal, History)], state: &PartState) {
    #[expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        for (proposal, history) in proposals {
            black_box(step(state, 0, black_box(proposal), history).unwrap());
        }
    }
    let count = ROUNDS * proposals.len() as u64;
    println!("{what:<50} {:>12.0} a second", count as f64 / begun.elapsed().as_secs_f64());
}

fn main() {
    let schema = schema();
    let fields = [("stock".into(), FieldRule::Counter), ("tags".into(), FieldRule::Set)].into();
    let merge = Merge { fields, ..Merge::default() };
    let under = |resolution| Rules { version: 1, resolution, ..Rules::default() }.into();
    let rules = under(Resolution::Merge(merge.clone()));
    let mut state = PartState { schemas: vec![schema.clone()], rules, ..PartState::default() };
    let (mut ahead, mut beside) = (Vec::new(), Vec::new());
    for id in 0..KEYS {
        let base =
            settle(&mut state, &proposal(&schema, HERE, 2 * id + 1, &Vv::new(), 0, row(id, "chair", 10, &["a"])));
        let edit = row(id, "chair", 7, &["a", "b"]);
        let head = settle(&mut state, &proposal(&schema, HERE, 2 * id + 2, &base.vv, base.seq, edit));
        let edit = row(id, "stool", 12, &["c"]);
        ahead.push((proposal(&schema, THERE, id + 1, &head.vv, head.seq, edit.clone()), History::default()));
        beside.push((
            proposal(&schema, THERE, id + 1, &base.vv, base.seq, edit),
            History { ancestor: Some(base), ..History::default() },
        ));
    }
    told("fast forward", &ahead, &state);
    told("three-way merge by field (counter, set, two edits)", &beside, &state);
    state.rules = under(Resolution::LastWriteWins);
    told("last write wins", &beside, &state);
    let rule = "came.value.stock > stood.value.stock ? came : stood.with({'name': came.value.name})".into();
    state.rules = under(Resolution::Custom(Custom { rule, merge, ..Custom::default() }));
    told("a rule that compares two fields", &beside, &state);
}
