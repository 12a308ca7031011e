//! The product under test: the loops of `driftless::flow`, one task per role. This file only wires
//! them to the simulated log, clock and platforms; it decides nothing.

use super::executor::Task;
use super::holding;
use super::product::{Access, Env, Product, RoleId, Start};
#[cfg(feature = "mutants")]
use super::runner::{Expect, Mutant, Mutation};
use super::workload::schema;
use bytes::Bytes;
use driftless::agent::{Agent, Part, Timing};
use driftless::apply::exclusive::ExclusiveSink;
use driftless::apply::{ReaderTopics, Sink};
use driftless::capture::truncate::Limit;
use driftless::capture::{Capture, Lane};
use driftless::connectors::contract::BatchLimit;
use driftless::event::{Canonical, Key};
use driftless::flow;
use driftless::runtime::error::{Remedy, Result};
use driftless::settle::{Projection, Resolver, announce};
use driftless::state::{Codec, Memory};
use driftless::topic::{Log, Typed};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// driftless itself.
pub(crate) struct Driftless;

const LIMIT: BatchLimit = BatchLimit { rows_max: 3, bytes_max: 1 << 20 };

impl Product for Driftless {
    fn spawn(&self, env: Env, role: RoleId, start: Start) -> Task {
        Box::pin(async move {
            loop {
                let Err(error) = attempt(&env, role, start).await else { return };
                match error.remedy() {
                    // claim-8: who is fenced and no longer assigned ends; all others take over again.
                    Remedy::Retry { .. } if !env.assigned.load(Relaxed) => return,
                    Remedy::Retry { after } => {
                        let pause_ms = 1 + u64::try_from(after.as_millis()).expect("a short pause");
                        env.clock.sleep_until(env.clock.now_ms() + pause_ms).await;
                    }
                    remedy => panic!("{role:?}: {remedy:?}: {error}"),
                }
            }
        })
    }
}

async fn attempt(env: &Env, role: RoleId, start: Start) -> Result<()> {
    match role {
        RoleId::Reader(platform) => {
            let capture = capture(env, platform);
            for lane in &capture.lanes {
                announce(&*capture.log, &lane.changes, &[schema().clone()]).await?;
            }
            if env.fused {
                return holding::run(env, capture, LIMIT).await;
            }
            flow::capture(&capture, LIMIT, &env.stop).await
        }
        RoleId::Sink(platform, partition) => {
            let sink = sink(env, platform, partition);
            let Access::Log(access) = &env.platforms[platform].access else { panic!("a sink needs a LOG platform") };
            let group = match start {
                Start::Resume => format!("sink.{platform}"),
                Start::Replay => format!("replay.{}", env.instance),
            };
            let member = env.log.join(&group, &[env.topics.dataset(0).topic]).await?;
            flow::apply(&sink, &**access, &*member, LIMIT, &env.stop).await
        }
        RoleId::Exclusive(platform, partition) => {
            let this = &env.platforms[platform];
            let Access::Exclusive(access) = &this.access else { panic!("an exclusive destination was expected") };
            let dataset = env.topics.dataset(partition);
            let member = env.log.join(&format!("exclusive.{platform}"), std::slice::from_ref(&dataset.topic)).await?;
            let sink = ExclusiveSink {
                log: log(env),
                clock: env.clock.clone(),
                collection: 0,
                schema: schema().clone(),
                lineages: env.lineages.clone(),
                dataset,
                progress: Arc::default(),
            };
            flow::exclusive(&sink, access.writer(0, partition).await?, &*member, LIMIT, &env.stop).await
        }
        RoleId::Agent(platform, partition) => {
            let agent = agent(env, platform, partition, start);
            announce(&*agent.log, &agent.changes, &[schema().clone()]).await?;
            flow::agent(&agent, LIMIT, &env.stop).await
        }
        RoleId::Resolver(partition) => flow::resolve(&resolver(env, partition), LIMIT, &env.stop).await,
    }
}

fn log(env: &Env) -> Arc<dyn Log<Typed>> {
    Arc::new(env.log.clone())
}

fn capture(env: &Env, platform: usize) -> Capture {
    let this = &env.platforms[platform];
    let Access::Log(access) = &this.access else { panic!("a reader needs a LOG platform") };
    let lane = |index| Lane {
        collection: 0,
        changes: env.topics.changes(index),
        ledger: env.topics.ledger(&this.name, index),
    };
    let topics = env.topics.clone();
    Capture {
        log: log(env),
        clock: env.clock.clone(),
        platform: access.clone(),
        me: this.actor,
        lanes: (0..env.topics.partitions).map(lane).collect(),
        lane_of: Arc::new(move |_, key: &Key| topics.of(key) as usize),
        schemas: vec![schema().clone()],
        parts: Vec::new(),
        // Several inputs of a truncate in a partition, and groups of several versions.
        truncate: Limit { keys_max: usize::MAX, group_max: 3 },
        lineages: env.lineages.clone(),
        // Some checkpoint all the time, so that the shortest windows are met.
        checkpoint_every_ms: if env.instance.is_multiple_of(3) { 0 } else { 20 },
        memory: memory(env),
        progress: Arc::default(),
    }
}

fn sink(env: &Env, platform: usize, partition: u32) -> Sink {
    let this = &env.platforms[platform];
    Sink {
        log: log(env),
        clock: env.clock.clone(),
        me: this.actor,
        collection: 0,
        lineages: env.lineages.clone(),
        dataset: env.topics.dataset(partition),
        reader: (!env.fused).then(|| ReaderTopics {
            ledger: env.topics.ledger(&this.name, partition),
            marks: env.topics.ledger(&this.name, 0),
        }),
        retry_every_ms: 10,
        pending_max: 3,
        dead_after_ms: 60_000,
        orders: Arc::default(),
        allowed: Arc::new(|| Ok(())),
        memory: memory(env),
        progress: Arc::default(),
    }
}

fn agent(env: &Env, platform: usize, partition: u32, start: Start) -> Agent {
    let this = &env.platforms[platform];
    let Access::Hint(store) = &this.access else { panic!("an agent needs a HINT platform") };
    let topics = env.topics.clone();
    Agent {
        log: log(env),
        clock: env.clock.clone(),
        store: store.clone(),
        me: this.actor,
        collection: 0,
        lineages: env.lineages.clone(),
        index: partition,
        owns: Arc::new(move |key| topics.of(key) == partition),
        changes: env.topics.changes(partition),
        dataset: env.topics.dataset(partition),
        ledger: env.topics.ledger(&this.name, partition),
        timing: Timing { scan_every_ms: 60_000, mark_every_ms: 200, write_within_ms: 5_000, margin_ms: 1_000 },
        batch_max: 4,
        replay: start == Start::Replay,
        part: Part { proposes: !env.fused, receives: true },
        memory: memory(env),
        dead_after_ms: 60_000,
        orders: Arc::default(),
        allowed: Arc::new(|| Ok(())),
        progress: Arc::default(),
    }
}

fn resolver(env: &Env, partition: u32) -> Resolver {
    Resolver {
        log: log(env),
        clock: env.clock.clone(),
        parts: env.topics.parts(partition),
        projection: Projection { versions_max: 4, every_ms: 500 },
        memory: memory(env),
        heads: Arc::new(Slab::default()),
        // No record that was acknowledged is ever lost here; a role may be down for long.
        gap_after_ms: 3_600_000,
        progress: Arc::default(),
    }
}

/// Every other instance has room for nothing: what it knows of a key is away but while it works on it.
fn memory(env: &Env) -> Memory {
    if env.instance.is_multiple_of(2) { Memory::without_disk(0) } else { Memory::unbounded() }
}

/// Heads as numbers, because the log here carries records and no bytes.
#[derive(Default)]
struct Slab(Mutex<Vec<Arc<Canonical>>>);

impl Codec<Arc<Canonical>> for Slab {
    fn encode(&self, head: &Arc<Canonical>, out: &mut Vec<u8>) -> Result<()> {
        let mut heads = self.0.lock();
        out.extend_from_slice(&heads.len().to_be_bytes());
        heads.push(head.clone());
        Ok(())
    }

    fn decode(&self, bytes: Bytes) -> Result<Arc<Canonical>> {
        let index = usize::from_be_bytes(bytes[..].try_into().expect("what was encoded"));
        Ok(self.0.lock()[index].clone())
    }
}

/// The table of mutants: each guard of the product that stands under `guard!`, and what happens
/// when it is taken out.
#[cfg(feature = "mutants")]
pub(crate) const MUTANTS: &[Mutant] = &[
    mutant("claim-void", Expect::Caught, &[]),
    mutant("claim-4", Expect::Caught, &[]),
    mutant("promote", Expect::Caught, &[]),
    mutant("under-claim", Expect::Caught, &[]),
    // P5
    mutant("sink-1", Expect::Caught, &[]),
    mutant("sink-3", Expect::Caught, &[]),
    mutant("sink-3-newest", Expect::Caught, &[]),
    mutant("sink-4", Expect::Caught, &["2 log, storm", "2 log, truncates, register"]),
    mutant("sink-7", Expect::Caught, &[]),
    mutant("sink-8", Expect::Caught, &[]),
    mutant("read-1", Expect::Caught, &[]),
    mutant("read-1-join", Expect::Caught, &[]),
    mutant("read-6", Expect::Caught, &[]),
    mutant("who-5", Expect::Caught, &[]),
    mutant("read-12", Expect::Caught, &[]),
    // P3
    mutant("read-13", Expect::Caught, &[]),
    // P1, claim-3
    mutant("checkpoint-after-acks", Expect::Caught, &[]),
    // resolve-7
    mutant("conflict-log", Expect::Caught, &[]),
    mutant("own-unseen", Expect::Caught, &[]),
    // read-2
    mutant("before-known", Expect::Caught, &[]),
    // resolve-4
    mutant("mark-after-acks", Expect::Caught, &[]),
    mutant("claim-7", Expect::Caught, &[]),
    // read-9
    mutant("read-9", Expect::Caught, &[]),
    mutant("read-9-adopted", Expect::Caught, &["2 log, truncates, heavy faults"]),
    mutant("read-9-given", Expect::Caught, &["2 log, truncates, heavy faults"]),
    mutant("verb-6", Expect::Caught, &["3 log, reviews"]),
    // resolve-10
    mutant("resolve-10", Expect::Caught, &[]),
    mutant("group-last", Expect::Caught, &[]),
    mutant("reread-first", Expect::Caught, &[]),
    mutant("whole-groups", Expect::Caught, &["2 log, truncates, heavy faults"]),
    mutant("agent-2", Expect::Caught, &[]),
    mutant("agent-4", Expect::Caught, &["3 files", "3 unique", "log, files, unique, heavy faults"]),
    mutant("agent-8", Expect::Caught, &[]),
    mutant("agent-10", Expect::Caught, &[]),
    mutant("agent-intent", Expect::Caught, &[]),
    mutant("agent-reassert", Expect::Caught, &[]),
    mutant("agent-contains", Expect::Caught, &[]),
    // read-10: content counts under the schema it was given in …
    mutant("read-10", Expect::Caught, &[]),
    mutant(
        "read-10-seen",
        Expect::Clean("what looks touched is DIRTY, and written once the reader has passed it: it only waits longer"),
        CHANGING,
    ),
    mutant(
        "read-10-known",
        Expect::Clean(
            "it needs a key that is DIRTY before any version is of its table's newest schema: one in thousands",
        ),
        CHANGING,
    ),
    mutant("read-10-before", Expect::Caught, &["3 log, changing tables"]),
    // … and a schema stands in C before its first user.
    mutant("schema-first", Expect::Caught, &[]),
    // read-2: what rows contain must be in the log behind the first position
    mutant("as-of-the-mark", Expect::Caught, &["3 log, truncates", "3 log, truncates, 2 partitions"]),
    mutant("reader-first", Expect::Caught, &[]),
    // who-3
    mutant("exclusive-mark", Expect::Caught, EXCLUSIVE),
    mutant("exclusive-moved", Expect::Caught, EXCLUSIVE),
    mutant("exclusive-log", Expect::Clean("no schedule loses the log; tests/it/projection.rs does"), EXCLUSIVE),
    // read-11
    mutant("read-11", Expect::Clean(WHOLE), &["2 log, exclusive"]),
    mutant("read-11-hidden", Expect::Clean(WHOLE), &["2 log, exclusive"]),
    mutant("read-11-delete", Expect::Clean(WHOLE), &["2 log, exclusive"]),
    mutant(
        "copies-first",
        Expect::Clean("it needs a crash between the first two appends after a takeover: one schedule in thousands"),
        &[],
    ),
    mutant(
        "sink-8-told",
        Expect::Clean("what is proposed twice is equal and joins; it only matters to a first copy's rule"),
        &[],
    ),
    // resolve-9
    mutant("claim-void", Expect::Caught, FUSED),
    mutant("claim-4", Expect::Caught, FUSED),
    mutant("fused-claims-state", Expect::Caught, FUSED),
    mutant("fused-read-back", Expect::Caught, FUSED),
    mutant("fused-read-12", Expect::Caught, FUSED),
    mutant(
        "fused-read-13",
        Expect::Clean("the mark says what was published, too, and a fused reader keeps nothing else of a position"),
        FUSED,
    ),
    mutant("fused-checkpoint-after-acks", Expect::Caught, FUSED),
    mutant("fused-who-5", Expect::Caught, FUSED),
    mutant("fused-claim-7", Expect::Caught, FUSED),
    // P2
    mutant("fused-held", Expect::Caught, FUSED),
    mutant("fused-mark-after-acks", Expect::Caught, FUSED),
    mutant("read-6", Expect::Caught, FUSED),
];

/// Where destinations nobody else writes are simulated.
#[cfg(feature = "mutants")]
const EXCLUSIVE: &[&str] = &["2 log, exclusive", "2 log, exclusive, 2 partitions"];
#[cfg(feature = "mutants")]
const WHOLE: &str =
    "the platforms of the simulation see whole records; src/resolve/part_tests.rs and tests/it/projection.rs miss it";
/// Where one platform writes and its reader settles.
#[cfg(feature = "mutants")]
const FUSED: &[&str] = super::configs::FUSED;

/// Where tables change.
#[cfg(feature = "mutants")]
const CHANGING: &[&str] =
    &["3 log, changing tables", "2 log, changing tables, register", "in sequence, changing tables"];

/// Takes a guard out of the product on this thread.
#[cfg(feature = "mutants")]
pub(crate) fn mutate(name: Option<&'static str>) {
    driftless::runtime::guard::take_out(name.unwrap_or(""));
}

#[cfg(feature = "mutants")]
const fn mutant(name: &'static str, expected: Expect, configs: &'static [&'static str]) -> Mutant {
    Mutant { mutation: Mutation(name), expected, configs }
}
