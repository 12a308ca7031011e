//! What bounded memory costs: looking up and putting heads as a resolver does, against a plain map, and
//! the resolver over a dataset, with the time its successor takes to take over. Run it with
//! `cargo bench --bench state`; the first argument that is no option is the number of keys.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints its figures and fails by panicking")]

use driftless::connectors::contract::BatchLimit;
use driftless::event::*;
use driftless::flow;
use driftless::runtime::clock::{Clock, SystemClock};
use driftless::runtime::stop::Stop;
use driftless::settle::{Projection, Resolver, announce};
use driftless::state::view::View;
use driftless::state::{Heads, Memory};
use driftless::topic::codec::Coded;
use driftless::topic::embedded::EmbeddedLog;
use driftless::topic::message::message;
use driftless::topic::name::Topics;
use driftless::topic::registry::LogSchemas;
use driftless::topic::{Cleanup, Compression, Log, TopicSpec};
use std::collections::HashMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

const BATCH: u64 = 1_000;
const ACTOR: ActorId = ActorId::new(PlatformNo(1), 1);

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]
    Instant::now()
}

fn each(what: &str, count: u64, took: Duration) {
    println!("{what:<60} {:>10.0} ns each, {took:?}", took.as_nanos() as f64 / count as f64);
}

fn resident_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1_024
}

fn schema() -> Schema {
    let field = |name: &str, ty| Field { name: name.into(), ty, nullable: false };
    let fields = vec![field("id", Type::Int(64)), field("text", Type::Text)];
    Schema { id: SchemaId(0), name: "notes".into(), fields, key: vec![0] }
}

fn proposal(schema: &Schema, stamp: Stamp, id: u64, ctr: Ctr) -> Proposal {
    let row = Row(vec![Value::Int(id as i64), Value::text(&format!("{ctr:0>150}"))]);
    let fp = Fp::of_row(schema, &row);
    Proposal {
        stamp,
        key: Key::of_row(&row, schema).unwrap(),
        dot: Dot { actor: ACTOR, ctr },
        ctx: if ctr > 1 { Vv::new().with(Dot { actor: ACTOR, ctr: ctr - 1 }) } else { Vv::new() },
        base_seq: 0,
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

struct World {
    coded: Coded,
    topics: Topics,
    schema: Arc<Schema>,
}

impl World {
    async fn new(dir: &std::path::Path) -> World {
        let log = Arc::new(EmbeddedLog::open(dir, Arc::new(SystemClock)).unwrap());
        let schemas = LogSchemas::open(log.clone(), Arc::new(SystemClock), "bench").await.unwrap();
        let (coded, topics) = (Coded::new(log, Arc::new(schemas)), Topics::new("bench", "notes", None, 1));
        let kept = [topics.dataset(0), topics.changes(0)].map(|at| (at.topic, Cleanup::Keep));
        let compacted = [topics.state(0), topics.conflicts(0)].map(|at| (at.topic, Cleanup::Compact));
        for (topic, cleanup) in kept.into_iter().chain(compacted) {
            let spec = TopicSpec { topic, partitions: 1, cleanup, compression: Compression::Lz4 };
            coded.create(&spec).await.unwrap();
        }
        let schema = coded.prepare(&topics.dataset(0).topic, &schema()).await.unwrap();
        announce(&coded, &topics.changes(0), std::slice::from_ref(&schema)).await.unwrap();
        World { coded, topics, schema }
    }

    fn resolver(&self, memory: Memory) -> Resolver {
        Resolver {
            log: Arc::new(self.coded.clone()),
            clock: Arc::new(SystemClock),
            parts: self.topics.parts(0),
            projection: Projection { versions_max: 100_000, every_ms: 600_000 },
            gap_after_ms: 60_000,
            memory,
            heads: self.heads(),
            progress: Arc::default(),
        }
    }

    fn heads(&self) -> Arc<Heads> {
        Arc::new(Heads { coded: self.coded.clone(), topic: self.topics.dataset(0).topic })
    }

    /// One proposal for each of `keys` keys.
    async fn propose(&self, keys: u64) {
        let (session, changes) = (self.coded.session().await.unwrap(), self.topics.changes(0));
        let stamp = Stamp { epoch: 1, owner: 1 };
        let claim = Record::Claim(Claim { role: Role::Writer(ACTOR.platform()), stamp });
        session.append(&changes, vec![message(Arc::new(claim))]).await.unwrap();
        for first in (0..keys).step_by(BATCH as usize) {
            let ids = first..(first + BATCH).min(keys);
            let record = |id| Record::Proposal(Box::new(proposal(&self.schema, stamp, id, id + 1)));
            let batch = ids.map(|id| message(Arc::new(record(id)))).collect();
            session.append(&changes, batch).await.unwrap();
        }
    }

    async fn settled(&self, keys: u64) {
        let clock = SystemClock;
        while self.coded.bounds(&self.topics.dataset(0)).await.unwrap().high < keys {
            clock.sleep_until(clock.now_ms() + 5).await;
        }
    }
}

/// The newest version of a key, as `round` makes it.
fn head(schema: &Schema, id: u64, round: u64) -> Arc<Canonical> {
    let Proposal { key, dot, ctx, ts, fp, value, .. } = proposal(schema, Stamp::default(), id, round);
    Arc::new(Canonical {
        key,
        seq: round,
        id: round,
        prev: 0,
        origin: Origin::Input(0),
        idx: 0,
        last: true,
        dot,
        vv: ctx.with(dot),
        ts,
        fp,
        tomb: false,
        schema: schema.id,
        after: value,
        by: ACTOR,
        cause: Cause::FastForward,
        ack: Ack::new(),
        rctr: 0,
        conflicted: 0,
        conflict: None,
        asked: None,
        copy: false,
    })
}

/// Batches of changes of `keys` keys in turn: what a map takes, and what a state takes.
fn maps(world: &World, keys: u64, memory: &Memory, what: &str) {
    let changes = keys * 4;
    let heads: Vec<_> = (0..keys).map(|id| head(&world.schema, id, 1)).collect();
    let mut map: HashMap<Key, Arc<Canonical>> = HashMap::new();
    let begun = now();
    for change in 0..changes {
        let head = &heads[(change % keys) as usize];
        if map.get(&head.key).is_none_or(|older| older.seq <= head.seq) {
            map.insert(head.key.clone(), head.clone());
        }
    }
    each(&format!("a map of {keys} heads: look up and put"), changes, begun.elapsed());
    let (mut view, mut cold) = (View::default(), memory.cold(world.heads()));
    let begun = now();
    for first in (0..changes).step_by(BATCH as usize) {
        let batch = || (first..first + BATCH).map(|change| &heads[(change % keys) as usize]);
        cold.fetch(&mut view, batch().map(|head| &head.key)).unwrap();
        for head in batch() {
            if view.get(&head.key).is_none_or(|older: &Arc<Canonical>| older.seq <= head.seq) {
                view.put(head.key.clone(), head.clone());
            }
        }
    }
    each(&format!("a state of {keys} heads, {what}"), changes, begun.elapsed());
}

#[tokio::main]
async fn main() {
    let keys = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(1_000_000);
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(&dir.path().join("log")).await;
    let budget = |mb: usize| Memory::open(mb << 20, &dir.path().join("state")).unwrap();
    maps(&world, 10_000, &budget(64), "in 64 MB");
    maps(&world, 100_000, &budget(64), "in 64 MB");
    maps(&world, 100_000, &budget(4), "in 4 MB");
    world.propose(keys).await;
    println!("resident before: {} MB", resident_mb());
    let resolver = world.resolver(budget(64));
    let (begun, stop) = (now(), Stop::default());
    tokio::select! {
        ended = flow::resolve(&resolver, BatchLimit { rows_max: 1_000, bytes_max: 4 << 20 }, &stop) => panic!("{ended:?}"),
        () = world.settled(keys) => {}
    }
    each(&format!("settling {keys} new keys in 64 MB"), keys, begun.elapsed());
    println!("resident: {} MB", resident_mb());
    for (memory, what) in [(Memory::unbounded(), "unbounded"), (budget(64), "64 MB"), (budget(4), "4 MB")] {
        let resolver = world.resolver(memory);
        let begun = now();
        let journal = resolver.take_over().await.unwrap();
        each(&format!("taking over {keys} keys, {what}"), keys, begun.elapsed());
        println!("resident: {} MB", resident_mb());
        drop(journal);
    }
}
