//! From a dataset that is ready to its loops: a resolver per partition; per LOG platform one reader
//! and a sink per partition; per HINT platform an agent per partition (claim-9). Which of them run at
//! this node is for their groups to say (`super::partition`). Each loop stands on its own: one that
//! stops leaves the others running.

use super::board::{Board, Post, Work};
use super::dataset::{Dataset, Member, Ready, place};
use super::hints::Fanout;
use super::log::Opened as OpenLog;
use super::partition::{Lease, Share, Shares, Unit};
use super::tasks::Tasks;
use super::tend::tell;
use crate::agent::{Agent, Part, Timing};
use crate::apply::{ReaderTopics, Sink};
use crate::capture::{Capture, Lane};
use crate::config;
use crate::connectors::contract::{self, BatchLimit, CollectionNo, LogPlatform, Opened, Scope, Store};
use crate::event::{ActorId, Key};
use crate::flow;
use crate::resolve::policy::LastWriter;
use crate::runtime::clock::Clock;
use crate::runtime::error::{Remedy, Result};
use crate::runtime::progress::Progress;
use crate::runtime::stop::Stop;
use crate::runtime::telemetry::{DatasetMeter, PlatformMeter};
use crate::settle::{Projection, Resolver};
use crate::topic::{Log, Partition, Typed};
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Milliseconds between a reader's checkpoints: a conflict on its platform waits for the next one (sink-4).
const CHECKPOINT_EVERY_MS: u64 = 100;
/// Milliseconds between a sink's looks at what waits.
const RETRY_EVERY_MS: u64 = 20;
/// Versions that may wait in a partition of a sink.
const PENDING_MAX: usize = 10_000;
/// Keys an agent works on together.
const AGENT_BATCH_MAX: usize = 256;
/// Bytes of a batch at most.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// When heads are written to S (resolve-4).
const PROJECTION: Projection = Projection { versions_max: 100_000, every_ms: 600_000 };
/// When agents act by themselves.
const TIMING: Timing =
    Timing { scan_every_ms: 600_000, mark_every_ms: 5_000, write_within_ms: 30_000, margin_ms: 120_000 };
/// The pause before a loop that stopped at a single record tries again, in milliseconds.
pub(super) const BLOCKED_MS: u64 = 5_000;

/// What the loops of a dataset share.
#[derive(Clone)]
pub(super) struct Loops {
    pub(super) log: OpenLog,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) board: Arc<Board>,
    pub(super) tasks: Tasks,
    /// Asks everything to hand over, because the node stops.
    pub(super) stop: Stop,
    /// What has not handed over yet.
    pub(super) shares: Arc<Shares>,
}

impl Loops {
    pub(super) fn typed(&self) -> Arc<dyn Log<Typed>> {
        Arc::new(self.log.coded.clone())
    }

    fn post(&self, dataset: &Arc<str>, platform: &Arc<str>, work: Work, input: Option<Partition>) -> Arc<Post> {
        let progress = match work {
            Work::Resolve => Progress::of_dataset(DatasetMeter::new(dataset, "last-write-wins")),
            Work::Capture | Work::Apply | Work::Agent => Progress::of_platform(PlatformMeter::new(dataset, platform)),
            Work::Prepare | Work::Open | Work::Hints | Work::Discard | Work::Join => Progress::default(),
        };
        self.board.post(Post { input, progress: Arc::new(progress), ..Post::new(dataset, platform, work) })
    }

    /// Starts everything of a dataset that is ready.
    pub(super) fn start(&self, dataset: &Arc<Dataset>) {
        let name: Arc<str> = dataset.config.name.as_str().into();
        let units = partitions(dataset).map(|(_, ready, index)| self.resolver(&name, ready, index, limit(dataset)));
        self.share(&name, &"".into(), format!("resolver.{name}"), units.collect());
        for (member, actor) in dataset.members.iter().zip(&dataset.actors) {
            let platform = Platform {
                loops: self.clone(),
                dataset: dataset.clone(),
                name: name.clone(),
                member: member.clone(),
                actor: *actor,
            };
            self.tasks.spawn(async move { platform.open().await });
        }
    }

    /// Runs those units that the group `name` assigns to this node.
    fn share(&self, dataset: &Arc<str>, platform: &Arc<str>, name: String, units: BTreeMap<Partition, Unit>) {
        let post = self.post(dataset, platform, Work::Join, None);
        let share = Share { loops: self.clone(), post, group: format!("{}.{name}", self.log.prefix), units };
        self.tasks.spawn(share.run());
    }

    fn resolver(&self, name: &Arc<str>, ready: &Ready, index: u32, limit: BatchLimit) -> (Partition, Unit) {
        let input = ready.topics.changes(index);
        let post = self.post(name, &"".into(), Work::Resolve, Some(input.clone()));
        let (loops, parts, shown) = (self.clone(), ready.topics.parts(index), post.clone());
        let run = move |lease: Lease| -> BoxFuture<'static, ()> {
            let resolver = Resolver {
                log: lease.log(loops.typed()),
                clock: loops.clock.clone(),
                parts: parts.clone(),
                policy: Arc::new(LastWriter),
                projection: PROJECTION,
                progress: shown.progress.clone(),
            };
            let (loops, post) = (loops.clone(), shown.clone());
            Box::pin(async move {
                let attempt = || async {
                    lease.held().await;
                    flow::resolve(&resolver, limit, &lease.stop).await
                };
                loops.tend(post, attempt).await;
            })
        };
        (input, Unit { post, run: Box::new(run) })
    }
}

/// All partitions of all collections.
fn partitions(dataset: &Dataset) -> impl Iterator<Item = (CollectionNo, &Ready, u32)> {
    let of = |(number, ready): (CollectionNo, _)| move |index| (number, ready, index);
    numbered(dataset).flat_map(move |(number, ready)| (0..ready.topics.partitions).map(of((number, ready))))
}

fn limit(dataset: &Dataset) -> BatchLimit {
    let rows_max = usize::try_from(dataset.config.batch_size).unwrap_or(usize::MAX);
    BatchLimit { rows_max, bytes_max: BATCH_BYTES_MAX }
}

/// The number of a collection, as connectors count.
fn numbered(dataset: &Dataset) -> impl Iterator<Item = (CollectionNo, &Ready)> {
    (0..).zip(&dataset.collections)
}

/// A platform in a dataset.
#[derive(Clone)]
struct Platform {
    loops: Loops,
    dataset: Arc<Dataset>,
    name: Arc<str>,
    member: Member,
    actor: ActorId,
}

impl Platform {
    /// Opens the platform, again and again until it can be, and starts its loops.
    async fn open(self) {
        let post = self.post(Work::Open, None);
        loop {
            post.trying();
            let error = match self.try_open().await {
                Ok(Opened::Log(platform)) => {
                    post.done();
                    return self.start_log(platform.into());
                }
                Ok(Opened::Hint(store)) => {
                    post.done();
                    return self.start_hint(store);
                }
                Err(error) => error,
            };
            tell(&post, &error);
            let pause_ms = match error.remedy() {
                Remedy::Retry { after } => u64::try_from(after.as_millis()).unwrap_or(BLOCKED_MS).max(1_000),
                Remedy::Park => BLOCKED_MS,
                Remedy::Halt => return,
            };
            self.loops.clock.sleep_until(self.loops.clock.now_ms() + pause_ms).await;
        }
    }

    async fn try_open(&self) -> Result<Opened> {
        let config = &self.dataset.config;
        let places = config.collections.iter().zip(&self.dataset.collections);
        let places = places.map(|(c, ready)| place(config, c, &self.member.name, Some(ready.schema.clone())));
        let scope = Scope { dataset: config.name.clone(), collections: places.collect() };
        // agent-7: what proves that a known platform's data are there is never made anew.
        let mut known = false;
        for ready in &self.dataset.collections {
            for index in 0..ready.topics.partitions {
                let ledger = ready.topics.ledger(&self.member.name, index);
                known |= self.loops.log.coded.bounds(&ledger).await?.high > 0;
            }
        }
        let connector = &self.member.connector;
        if known { connector.reopen(&scope).await } else { connector.open(&scope).await }
    }

    fn post(&self, work: Work, input: Option<Partition>) -> Arc<Post> {
        self.loops.post(&self.name, &self.member.name, work, input)
    }

    fn ledger(&self, ready: &Ready, index: u32) -> Partition {
        ready.topics.ledger(&self.member.name, index)
    }

    fn lanes(&self) -> Vec<Lane> {
        let lane = |(collection, ready, index): (CollectionNo, &Ready, u32)| Lane {
            collection,
            changes: ready.topics.changes(index),
            ledger: self.ledger(ready, index),
        };
        partitions(&self.dataset).map(lane).collect()
    }

    /// Takes part in a group of this platform; a new incarnation begins anew.
    fn share(&self, role: &str, units: BTreeMap<Partition, Unit>) {
        let group = format!("{role}.{}.{}.{}", self.name, self.member.name, self.actor);
        self.loops.share(&self.name, &self.member.name, group, units);
    }

    fn start_log(&self, platform: Arc<dyn LogPlatform>) {
        if let Some(first) = self.dataset.collections.first() {
            let unit =
                if self.member.part.proposes { self.capture(platform.clone()) } else { self.discard(platform.clone()) };
            // claim-9: the partition that its owner is elected in.
            self.share("reader", [(self.ledger(first, 0), unit)].into());
        }
        if self.member.part.receives {
            let sink = |(collection, ready, index)| self.sink(platform.clone(), collection, ready, index);
            self.share("sink", partitions(&self.dataset).map(sink).collect());
        }
    }

    fn capture(&self, platform: Arc<dyn LogPlatform>) -> Unit {
        let post = self.post(Work::Capture, None);
        let (this, shown) = (self.clone(), post.clone());
        let run = move |lease: Lease| -> BoxFuture<'static, ()> {
            let capture = this.capturing(lease.log(this.loops.typed()), platform.clone(), &shown);
            let (loops, post, limit) = (this.loops.clone(), shown.clone(), limit(&this.dataset));
            Box::pin(async move {
                let attempt = || async {
                    lease.held().await;
                    flow::capture(&capture, limit, &lease.stop).await
                };
                loops.tend(post, attempt).await;
            })
        };
        Unit { post, run: Box::new(run) }
    }

    fn capturing(&self, log: Arc<dyn Log<Typed>>, platform: Arc<dyn LogPlatform>, post: &Post) -> Capture {
        let topics: Vec<_> = self.dataset.collections.iter().map(|ready| ready.topics.clone()).collect();
        let lane_of = move |collection: CollectionNo, key: &Key| {
            let (before, this) = topics.split_at(usize::from(collection).min(topics.len()));
            let first: u32 = before.iter().map(|topics| topics.partitions).sum();
            (first + this.first().map_or(0, |topics| topics.of(key))) as usize
        };
        Capture {
            log,
            clock: self.loops.clock.clone(),
            platform,
            me: self.actor,
            lanes: self.lanes(),
            lane_of: Arc::new(lane_of),
            schemas: self.dataset.collections.iter().map(|ready| ready.schema.clone()).collect(),
            checkpoint_every_ms: CHECKPOINT_EVERY_MS,
            progress: post.progress.clone(),
        }
    }

    fn sink(
        &self,
        platform: Arc<dyn LogPlatform>,
        collection: CollectionNo,
        ready: &Ready,
        index: u32,
    ) -> (Partition, Unit) {
        let dataset = ready.topics.dataset(index);
        let post = self.post(Work::Apply, Some(dataset.clone()));
        let first = self.dataset.collections.first().unwrap_or(ready);
        let reader = ReaderTopics { ledger: self.ledger(ready, index), marks: self.ledger(first, 0) };
        let (this, shown, at) = (self.clone(), post.clone(), dataset.clone());
        let run = move |lease: Lease| -> BoxFuture<'static, ()> {
            let sink = Sink {
                log: lease.log(this.loops.typed()),
                clock: this.loops.clock.clone(),
                me: this.actor,
                collection,
                dataset: dataset.clone(),
                reader: this.member.part.proposes.then(|| reader.clone()),
                retry_every_ms: RETRY_EVERY_MS,
                pending_max: PENDING_MAX,
                progress: shown.progress.clone(),
            };
            let (loops, post, limit, platform) =
                (this.loops.clone(), shown.clone(), limit(&this.dataset), platform.clone());
            Box::pin(async move {
                let attempt = || async {
                    lease.held().await;
                    flow::apply(&sink, &*platform, &*lease.member, limit, &lease.stop).await
                };
                loops.tend(post, attempt).await;
            })
        };
        (at, Unit { post, run: Box::new(run) })
    }

    /// A platform that is only written still notes changes for a reader; nobody wants them.
    fn discard(&self, platform: Arc<dyn LogPlatform>) -> Unit {
        let post = self.post(Work::Discard, None);
        let (loops, limit, shown) = (self.loops.clone(), limit(&self.dataset), post.clone());
        let run = move |lease: Lease| -> BoxFuture<'static, ()> {
            let (loops, post, platform) = (loops.clone(), shown.clone(), platform.clone());
            Box::pin(async move {
                let attempt = || async {
                    let mut reader = platform.reader(platform.position().await?).await?;
                    loop {
                        let batch = tokio::select! {
                            () = lease.stop.asked() => return Ok(()),
                            batch = reader.next(limit) => batch?,
                        };
                        reader.release(batch.through).await?;
                    }
                };
                loops.tend(post, attempt).await;
            })
        };
        Unit { post, run: Box::new(run) }
    }

    fn start_hint(&self, store: Arc<dyn Store>) {
        let topics = self.dataset.collections.iter().map(|ready| ready.topics.clone()).collect();
        let fanout = Fanout::new(store, topics);
        for (collection, _) in numbered(&self.dataset) {
            let (post, loops, pump) = (self.post(Work::Hints, None), self.loops.clone(), fanout.clone());
            self.loops.tasks.spawn(async move { loops.tend(post, || pump.pump(collection)).await });
        }
        let agent = |(collection, ready, index)| self.agent(fanout.clone(), collection, ready, index);
        self.share("agent", partitions(&self.dataset).map(agent).collect());
    }

    fn agent(&self, fanout: Arc<Fanout>, collection: CollectionNo, ready: &Ready, index: u32) -> (Partition, Unit) {
        let dataset = ready.topics.dataset(index);
        let post = self.post(Work::Agent, Some(dataset.clone()));
        let (this, ready, shown) = (self.clone(), ready.clone(), post.clone());
        let run = move |lease: Lease| -> BoxFuture<'static, ()> {
            let agent = this.acting(&lease, fanout.part(collection, index), collection, &ready, index, &shown);
            let (loops, post, limit) = (this.loops.clone(), shown.clone(), limit(&this.dataset));
            Box::pin(async move {
                let attempt = || async {
                    lease.held().await;
                    flow::agent(&agent, limit, &lease.stop).await
                };
                loops.tend(post, attempt).await;
            })
        };
        (dataset, Unit { post, run: Box::new(run) })
    }

    fn acting(
        &self,
        lease: &Lease,
        store: Arc<dyn contract::Store>,
        collection: CollectionNo,
        ready: &Ready,
        index: u32,
        post: &Post,
    ) -> Agent {
        let topics = ready.topics.clone();
        let config::Part { proposes, receives, .. } = self.member.part;
        Agent {
            log: lease.log(self.loops.typed()),
            clock: self.loops.clock.clone(),
            store,
            me: self.actor,
            collection,
            schema: ready.schema.id,
            index,
            changes: topics.changes(index),
            dataset: topics.dataset(index),
            ledger: self.ledger(ready, index),
            owns: Arc::new(move |key| topics.of(key) == index),
            timing: TIMING,
            batch_max: AGENT_BATCH_MAX,
            replay: false,
            part: Part { proposes, receives },
            progress: post.progress.clone(),
        }
    }
}
