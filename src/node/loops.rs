//! From a dataset that is ready to its loops: a resolver per partition, unless one reader settles itself; per LOG platform one reader
//! and a sink per partition; per HINT platform an agent per partition (claim-9). Which of them run at
//! this node is for their groups to say (`super::partition`). Each loop stands on its own: one that
//! stops leaves the others running.

use super::board::{Board, Post, Work};
use super::control::Control;
use super::dataset::{Dataset, Member, Ready, limit, place};
use super::gate::Valve;
use super::log::Opened as OpenLog;
use super::mode::Mode;
use super::partition::{Lease, Share, Shares, Unit};
use super::project::View;
use super::tasks::Tasks;
use super::tend::tell;
use super::verify;
use crate::apply::{ReaderTopics, Sink};
use crate::capture::Lane;
use crate::config;
use crate::connectors::contract::{CollectionNo, Guarantee, LogPlatform, Opened, Scope};
use crate::event::ActorId;
use crate::flow;
use crate::govern::{Allowed, Policy};
use crate::runtime::clock::Clock;
use crate::runtime::error::{Remedy, Result};
use crate::runtime::progress::Progress;
use crate::runtime::stop::Stop;
use crate::runtime::telemetry::{DatasetMeter, PlatformMeter};
use crate::settle::{Projection, Resolver};
use crate::state::{Heads, Memory};
use crate::topic::{Log, Partition, Typed};
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Milliseconds between a sink's looks at what waits.
const RETRY_EVERY_MS: u64 = 20;
/// Versions that may wait in a partition of a sink.
const PENDING_MAX: usize = 10_000;
/// When heads are written to S (resolve-4).
const PROJECTION: Projection = Projection { versions_max: 100_000, every_ms: 600_000 };
/// Milliseconds after which a change that is missing in C stops its partition (resolve-5).
const GAP_AFTER_MS: u64 = 60_000;
/// The pause before a loop that stopped at a single record tries again, in milliseconds.
pub(super) const BLOCKED_MS: u64 = 5_000;

/// What the loops of a dataset share.
#[derive(Clone)]
pub(super) struct Loops {
    pub(super) log: OpenLog,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) board: Arc<Board>,
    pub(super) memory: Memory,
    pub(super) tasks: Tasks,
    pub(super) control: Control,
    pub(super) config: Arc<config::Config>,
    pub(super) policy: &'static dyn Policy,
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
            Work::Resolve => {
                let policy = self.config.dataset(dataset).map_or("", |d| d.conflict_resolution.name());
                Progress::of_dataset(DatasetMeter::new(dataset, policy))
            }
            Work::Capture | Work::Fused | Work::Apply | Work::Agent => {
                Progress::of_platform(PlatformMeter::new(dataset, platform))
            }
            Work::Prepare | Work::Open | Work::Hints | Work::Discard | Work::Join => Progress::default(),
        };
        self.board.post(Post { input, progress: Arc::new(progress), ..Post::new(dataset, platform, work) })
    }

    /// Starts everything of a dataset that is ready.
    pub(super) fn start(&self, dataset: &Arc<Dataset>) {
        let name: Arc<str> = dataset.config.name.as_str().into();
        if dataset.mode == Mode::Separate {
            let units = partitions(dataset).map(|(_, ready, index)| self.resolver(dataset, &name, ready, index));
            self.share(&name, &"".into(), format!("resolver.{name}"), units.collect());
        }
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

    /// The gate of a loop of a collection.
    pub(super) fn valve(&self, dataset: &Dataset, ready: &Ready, only_writes: bool) -> Valve {
        let of = dataset.collections.iter().position(|other| other.topics == ready.topics);
        let collection = of.and_then(|at| dataset.config.collections.get(at)).map(|c| c.name.clone());
        Valve { collections: vec![collection.unwrap_or_default()], only_writes, ..self.valve_of_all(dataset) }
    }

    /// The gate of the one loop that settles all collections of a dataset.
    pub(super) fn valve_of_all(&self, dataset: &Dataset) -> Valve {
        let config = &dataset.config;
        let collections = config.collections.iter().map(|c| c.name.clone()).collect();
        let asks = config.bootstrap == config::Bootstrap::Ask;
        let said = self.control.said.subscribe();
        Valve { dataset: config.name.as_str().into(), collections, asks, only_writes: false, said }
    }

    /// Runs those units that the group `name` assigns to this node.
    fn share(&self, dataset: &Arc<str>, platform: &Arc<str>, name: String, units: BTreeMap<Partition, Unit>) {
        let post = self.post(dataset, platform, Work::Join, None);
        let share = Share { loops: self.clone(), post, group: format!("{}.{name}", self.log.prefix), units };
        self.tasks.spawn(share.run());
    }

    fn resolver(&self, dataset: &Dataset, name: &Arc<str>, ready: &Ready, index: u32) -> (Partition, Unit) {
        let (valve, limit, input) = (self.valve(dataset, ready, false), limit(dataset), ready.topics.changes(index));
        let post = self.post(name, &"".into(), Work::Resolve, Some(input.clone()));
        let (loops, topics, shown) = (self.clone(), ready.topics.clone(), post.clone());
        let run = move |lease: Lease| -> BoxFuture<'static, ()> {
            let resolver = Resolver {
                log: lease.log(loops.typed()),
                clock: loops.clock.clone(),
                parts: topics.parts(index),
                projection: PROJECTION,
                memory: loops.memory.clone(),
                heads: Arc::new(Heads { coded: loops.log.coded.clone(), topic: topics.dataset(index).topic }),
                gap_after_ms: GAP_AFTER_MS,
                progress: shown.progress.clone(),
            };
            let (loops, valve, post) = (loops.clone(), valve.clone(), shown.clone());
            Box::pin(async move {
                let attempt = |_| flow::resolve(&resolver, limit, &lease.stop);
                loops.tend_gated(valve, &post, &lease, attempt).await;
            })
        };
        (input, Unit { post, run: Box::new(run) })
    }
}

/// All partitions of all collections.
pub(super) fn partitions(dataset: &Dataset) -> impl Iterator<Item = (CollectionNo, &Ready, u32)> {
    let of = |(number, ready): (CollectionNo, _)| move |index| (number, ready, index);
    numbered(dataset).flat_map(move |(number, ready)| (0..ready.topics.partitions).map(of((number, ready))))
}

/// The number of a collection, as connectors count.
pub(super) fn numbered(dataset: &Dataset) -> impl Iterator<Item = (CollectionNo, &Ready)> {
    (0..).zip(&dataset.collections)
}

/// A platform in a dataset.
#[derive(Clone)]
pub(super) struct Platform {
    pub(super) loops: Loops,
    pub(super) dataset: Arc<Dataset>,
    name: Arc<str>,
    pub(super) member: Member,
    pub(super) actor: ActorId,
}

impl Platform {
    /// Opens the platform, again and again until it can be, and starts its loops.
    async fn open(self) {
        let post = self.post(Work::Open, None);
        loop {
            post.trying();
            let error = match self.try_open().await {
                Ok(()) => return post.done(),
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

    async fn try_open(&self) -> Result<()> {
        let config = &self.dataset.config;
        let view = View::of(&self.dataset, &self.member, self.loops.clock.clone())?;
        let places = config.collections.iter().zip(&self.dataset.collections).enumerate();
        let places =
            places.map(|(i, (c, ready))| place(config, c, &self.member.name, Some(view.schema(i, &ready.schema))));
        let scope = Scope { dataset: config.name.clone(), collections: places.collect() };
        if self.member.part.guarantee == Guarantee::Exclusive {
            self.start_exclusive(&view.exclusive(self.member.connector.exclusive(&scope).await?));
            return Ok(());
        }
        // agent-7: what proves that a known platform's data are there is never made anew.
        let mut known = false;
        for ready in &self.dataset.collections {
            for index in 0..ready.topics.partitions {
                let ledger = ready.topics.ledger(&self.member.name, index);
                known |= self.loops.log.coded.bounds(&ledger).await?.high > 0;
            }
        }
        let connector = &self.member.connector;
        let opened = if known { connector.reopen(&scope).await } else { connector.open(&scope).await }?;
        // Whose log was lost is told before anything is read or written there.
        if let Opened::Log(platform) = &opened {
            verify::same_log(&self.loops.log, &**platform, numbered(&self.dataset)).await?;
        }
        let name = self.loops.control.roster.lock().await.identity();
        connector.bind(&scope, name.unwrap_or_default()).await?;
        match opened {
            Opened::Log(platform) => self.start_log(view.log(platform.into()), &view),
            Opened::Hint(store) => self.start_hint(view.hint(store)),
        }
        Ok(())
    }

    pub(super) fn post(&self, work: Work, input: Option<Partition>) -> Arc<Post> {
        self.loops.post(&self.name, &self.member.name, work, input)
    }

    /// The policy, asked about this platform before each write.
    pub(super) fn allowed(&self) -> Allowed {
        let (config, policy, name) = (self.loops.config.clone(), self.loops.policy, self.member.name.clone());
        let dataset = self.dataset.config.clone();
        Arc::new(move || super::allowed(&config, &dataset, policy, Some(&name)))
    }

    pub(super) fn ledger(&self, ready: &Ready, index: u32) -> Partition {
        ready.topics.ledger(&self.member.name, index)
    }

    pub(super) fn lanes(&self) -> Vec<Lane> {
        let lane = |(collection, ready, index): (CollectionNo, &Ready, u32)| Lane {
            collection,
            changes: ready.topics.changes(index),
            ledger: self.ledger(ready, index),
        };
        partitions(&self.dataset).map(lane).collect()
    }

    /// Takes part in a group of this platform; a new incarnation begins anew.
    pub(super) fn share(&self, role: &str, units: BTreeMap<Partition, Unit>) {
        let group = format!("{role}.{}.{}.{}", self.name, self.member.name, self.actor);
        self.loops.share(&self.name, &self.member.name, group, units);
    }

    fn start_log(&self, platform: Arc<dyn LogPlatform>, view: &View) {
        // resolve-9: everything in the dataset came from here, so there is nothing to apply.
        let settles = matches!(self.dataset.mode, Mode::Fused(writer)
            if self.dataset.members.get(writer).is_some_and(|member| member.name == self.member.name));
        if let Some(first) = self.dataset.collections.first() {
            let unit = match self.member.part.proposes {
                _ if settles => self.fused(platform.clone(), view),
                true => self.capture(platform.clone(), view),
                false => self.discard(platform.clone()),
            };
            // claim-9: the partition that its owner is elected in.
            self.share("reader", [(self.ledger(first, 0), unit)].into());
        }
        if self.member.part.receives && !settles {
            let sink = |(collection, ready, index)| self.sink(platform.clone(), collection, ready, index);
            self.share("sink", partitions(&self.dataset).map(sink).collect());
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
        let (valve, limit) = (self.loops.valve(&self.dataset, ready, true), limit(&self.dataset));
        let (this, shown, at) = (self.clone(), post.clone(), dataset.clone());
        let run = move |lease: Lease| -> BoxFuture<'static, ()> {
            let sink = Sink {
                log: lease.log(this.loops.typed()),
                clock: this.loops.clock.clone(),
                me: this.actor,
                collection,
                lineages: this.dataset.lineages.clone(),
                dataset: dataset.clone(),
                reader: this.member.part.proposes.then(|| reader.clone()),
                retry_every_ms: RETRY_EVERY_MS,
                pending_max: PENDING_MAX,
                dead_after_ms: u64::from(this.dataset.config.dead_after_s) * 1000,
                orders: shown.orders.clone(),
                allowed: this.allowed(),
                memory: this.loops.memory.clone(),
                progress: shown.progress.clone(),
            };
            let (loops, valve, post, platform) = (this.loops.clone(), valve.clone(), shown.clone(), platform.clone());
            Box::pin(async move {
                let attempt = |_| flow::apply(&sink, &*platform, &*lease.member, limit, &lease.stop);
                loops.tend_gated(valve, &post, &lease, attempt).await;
            })
        };
        (at, Unit { post, run: Box::new(run) })
    }
}
