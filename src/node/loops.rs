//! From a dataset that is ready to its loops: a resolver per partition, unless one reader settles itself; per LOG platform one reader
//! and a sink per partition; per HINT platform an agent per partition (claim-9). Each loop stands on
//! its own: one that stops leaves the others running.

use super::board::{Board, Post, Work};
use super::control::Control;
use super::dataset::{Dataset, Member, Ready, limit, place};
use super::gate::Valve;
use super::log::Opened as OpenLog;
use super::mode::Mode;
use super::project::View;
use super::tasks::Tasks;
use super::verify;
use crate::apply::{ReaderTopics, Sink};
use crate::capture::truncate::Limit;
use crate::capture::{Capture, Lane};
use crate::config;
use crate::connectors::contract::{CollectionNo, Guarantee, LogPlatform, Opened, Scope};
use crate::event::{ActorId, Key};
use crate::flow;
use crate::fused::Fused;
use crate::govern::{Allowed, Policy};
use crate::resolve::policy::LastWriter;
use crate::runtime::clock::Clock;
use crate::runtime::error::{Error, Remedy, Result};
use crate::runtime::progress::Progress;
use crate::runtime::telemetry::{DatasetMeter, ERROR, PlatformMeter, count_error};
use crate::settle::{Projection, Resolver};
use crate::state::{Heads, Memory};
use crate::topic::{Log, Partition, Typed};
use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

/// Milliseconds between a reader's checkpoints: a conflict on its platform waits for the next one (sink-4).
const CHECKPOINT_EVERY_MS: u64 = 100;
/// The same where nothing waits for it: what a takeover reads of D is what a second brings.
const FUSED_CHECKPOINT_EVERY_MS: u64 = 1_000;
/// Milliseconds between a sink's looks at what waits.
const RETRY_EVERY_MS: u64 = 20;
/// Versions that may wait in a partition of a sink.
const PENDING_MAX: usize = 10_000;
/// When heads are written to S (resolve-4).
const PROJECTION: Projection = Projection { versions_max: 100_000, every_ms: 600_000 };
/// The same where it is read again from D: about as often as a gigabyte is written.
const FUSED_PROJECTION: Projection = Projection { versions_max: 1_000_000, every_ms: 600_000 };
/// Milliseconds after which a change that is missing in C stops its partition (resolve-5).
const GAP_AFTER_MS: u64 = 60_000;
/// The pause before a loop that stopped at a single record tries again, in milliseconds.
const BLOCKED_MS: u64 = 5_000;

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
}

impl Loops {
    /// Keeps a loop running for as long as its errors allow, and its post true.
    pub(super) async fn tend<F>(&self, post: Arc<Post>, mut attempt: impl FnMut() -> F)
    where
        F: Future<Output = Result<Infallible>>,
    {
        loop {
            let told = |error: &Error| tell(&post, error);
            let error = flow::keep(&*self.clock, told, || {
                post.trying();
                attempt()
            });
            let error = error.await;
            tell(&post, &error);
            if error.remedy() == Remedy::Halt {
                return;
            }
            // A single record is in the way: a person may put it right at any time.
            self.clock.sleep_until(self.clock.now_ms() + BLOCKED_MS).await;
        }
    }

    pub(super) fn typed(&self) -> Arc<dyn Log<Typed>> {
        Arc::new(self.log.coded.clone())
    }

    fn post(&self, dataset: &Arc<str>, platform: &Arc<str>, work: Work, input: Option<Partition>) -> Arc<Post> {
        let progress = match work {
            Work::Resolve => Progress::of_dataset(DatasetMeter::new(dataset, "last-write-wins")),
            Work::Capture | Work::Fused | Work::Apply | Work::Agent => {
                Progress::of_platform(PlatformMeter::new(dataset, platform))
            }
            Work::Prepare | Work::Open | Work::Hints | Work::Discard => Progress::default(),
        };
        self.board.post(Post { input, progress: Arc::new(progress), ..Post::new(dataset, platform, work) })
    }

    /// Starts everything of a dataset that is ready.
    pub(super) fn start(&self, dataset: &Arc<Dataset>) {
        let name: Arc<str> = dataset.config.name.as_str().into();
        for ready in dataset.collections.iter().filter(|_| dataset.mode == Mode::Separate) {
            for index in 0..ready.topics.partitions {
                self.resolver(dataset, &name, ready, index);
            }
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
        let config = &dataset.config;
        let of = dataset.collections.iter().position(|other| other.topics == ready.topics);
        let collection = of.and_then(|at| config.collections.get(at)).map(|c| c.name.clone()).unwrap_or_default();
        let asks = config.bootstrap == config::Bootstrap::Ask;
        let said = self.control.said.subscribe();
        Valve { dataset: config.name.as_str().into(), collection, asks, only_writes, said }
    }

    fn resolver(&self, dataset: &Dataset, name: &Arc<str>, ready: &Ready, index: u32) {
        let (valve, limit) = (self.valve(dataset, ready, false), limit(dataset));
        let post = self.post(name, &"".into(), Work::Resolve, Some(ready.topics.changes(index)));
        let resolver = Resolver {
            log: self.typed(),
            clock: self.clock.clone(),
            parts: ready.topics.parts(index),
            policy: Arc::new(LastWriter),
            projection: PROJECTION,
            memory: self.memory.clone(),
            heads: Arc::new(Heads { coded: self.log.coded.clone(), topic: ready.topics.dataset(index).topic }),
            gap_after_ms: GAP_AFTER_MS,
            progress: post.progress.clone(),
        };
        let loops = self.clone();
        let resolve = async move { loops.tend_gated(valve, post, |_| flow::resolve(&resolver, limit)).await };
        self.tasks.spawn(resolve);
    }
}

/// An error is logged and counted here, once.
fn tell(post: &Post, error: &Error) {
    count_error(error.code);
    let (dataset, platform, work) = (&*post.dataset, &*post.platform, post.work);
    let partition = post.input.as_ref().map(tracing::field::display);
    match error.remedy() {
        // Another owner took over, or an append has to be looked up: part of normal work.
        Remedy::Retry { after } if after.is_zero() => {
            tracing::debug!(target: ERROR, dataset, platform, ?work, partition, %error, "taking over again");
        }
        Remedy::Retry { .. } => {
            tracing::warn!(target: ERROR, dataset, platform, ?work, partition, ?error, "trying again");
        }
        Remedy::Park | Remedy::Halt => {
            tracing::error!(target: ERROR, dataset, platform, ?work, partition, ?error, "stopped");
        }
    }
    post.failed(error);
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

    /// All partitions of all collections.
    fn lanes(&self) -> Vec<Lane> {
        let of = |(collection, ready): (CollectionNo, &Ready)| {
            let lane =
                |index| Lane { collection, changes: ready.topics.changes(index), ledger: self.ledger(ready, index) };
            (0..ready.topics.partitions).map(lane).collect::<Vec<_>>()
        };
        numbered(&self.dataset).flat_map(of).collect()
    }

    fn start_log(&self, platform: Arc<dyn LogPlatform>, view: &View) {
        // resolve-9: everything in the dataset came from here, so there is nothing to apply.
        if let Mode::Fused(writer) = self.dataset.mode
            && self.dataset.members.get(writer).is_some_and(|member| member.name == self.member.name)
        {
            return self.fused(platform, view);
        }
        if self.member.part.proposes {
            self.capture(platform.clone(), view);
        } else {
            self.discard(platform.clone());
        }
        if self.member.part.receives {
            for (collection, ready) in numbered(&self.dataset) {
                for index in 0..ready.topics.partitions {
                    self.sink(platform.clone(), collection, ready, index);
                }
            }
        }
    }

    fn capture(&self, platform: Arc<dyn LogPlatform>, view: &View) {
        let post = self.post(Work::Capture, None);
        view.aside().tell(post.progress.clone());
        let capture = self.reader(platform, view, &post);
        let (loops, limit) = (self.loops.clone(), limit(&self.dataset));
        self.loops.tasks.spawn(async move { loops.tend(post, || flow::capture(&capture, limit)).await });
    }

    fn fused(&self, platform: Arc<dyn LogPlatform>, view: &View) {
        let post = self.post(Work::Fused, None);
        view.aside().tell(post.progress.clone());
        let parts = |ready: &Ready| (0..ready.topics.partitions).map(|i| ready.topics.parts(i)).collect::<Vec<_>>();
        let fused = Fused {
            reader: Capture { checkpoint_every_ms: FUSED_CHECKPOINT_EVERY_MS, ..self.reader(platform, view, &post) },
            parts: self.dataset.collections.iter().flat_map(parts).collect(),
            policy: Arc::new(LastWriter),
            projection: FUSED_PROJECTION,
        };
        let (loops, limit) = (self.loops.clone(), limit(&self.dataset));
        self.loops.tasks.spawn(async move { loops.tend(post, || flow::fused(&fused, limit)).await });
    }

    fn reader(&self, platform: Arc<dyn LogPlatform>, view: &View, post: &Post) -> Capture {
        let topics: Vec<_> = self.dataset.collections.iter().map(|ready| ready.topics.clone()).collect();
        let lane_of = move |collection: CollectionNo, key: &Key| {
            let (before, this) = topics.split_at(usize::from(collection).min(topics.len()));
            let first: u32 = before.iter().map(|topics| topics.partitions).sum();
            (first + this.first().map_or(0, |topics| topics.of(key))) as usize
        };
        Capture {
            log: self.loops.typed(),
            clock: self.loops.clock.clone(),
            platform,
            me: self.actor,
            lanes: self.lanes(),
            lane_of: Arc::new(lane_of),
            schemas: self.dataset.collections.iter().map(|ready| ready.schema.clone()).collect(),
            parts: view.parts(),
            lineages: self.dataset.lineages.clone(),
            checkpoint_every_ms: CHECKPOINT_EVERY_MS,
            memory: self.loops.memory.clone(),
            truncate: self.truncate(),
            progress: post.progress.clone(),
        }
    }

    /// read-9: where others write too, a large truncate is passed on only if the dataset says so.
    fn truncate(&self) -> Limit {
        let writers = self.dataset.members.iter().filter(|member| member.part.proposes).count();
        let propagate = self.dataset.config.truncate == config::Truncate::Propagate;
        if propagate || writers < 2 { Limit::PROPAGATE } else { Limit::ASK }
    }

    fn sink(&self, platform: Arc<dyn LogPlatform>, collection: CollectionNo, ready: &Ready, index: u32) {
        let dataset = ready.topics.dataset(index);
        let post = self.post(Work::Apply, Some(dataset.clone()));
        let first = self.dataset.collections.first().unwrap_or(ready);
        let reader = ReaderTopics { ledger: self.ledger(ready, index), marks: self.ledger(first, 0) };
        let sink = Sink {
            log: self.loops.typed(),
            clock: self.loops.clock.clone(),
            me: self.actor,
            collection,
            lineages: self.dataset.lineages.clone(),
            dataset: dataset.clone(),
            reader: self.member.part.proposes.then_some(reader),
            retry_every_ms: RETRY_EVERY_MS,
            pending_max: PENDING_MAX,
            dead_after_ms: u64::from(self.dataset.config.dead_after_s) * 1000,
            orders: post.orders.clone(),
            allowed: self.allowed(),
            progress: post.progress.clone(),
        };
        let valve = self.loops.valve(&self.dataset, ready, true);
        let group = self.group();
        let (loops, limit) = (self.loops.clone(), limit(&self.dataset));
        self.loops.tasks.spawn(async move {
            let attempt = |_| async {
                let member = sink.log.join(&group, std::slice::from_ref(&dataset.topic)).await?;
                flow::apply(&sink, &*platform, &*member, limit).await
            };
            loops.tend_gated(valve, post, attempt).await;
        });
    }

    /// The group of the platform's sinks. A new incarnation begins anew.
    pub(super) fn group(&self) -> String {
        format!("{}.sink.{}.{}.{}", self.loops.log.prefix, self.name, self.member.name, self.actor)
    }

    /// A platform that is only written still notes changes for a reader; nobody wants them.
    fn discard(&self, platform: Arc<dyn LogPlatform>) {
        let post = self.post(Work::Discard, None);
        let (loops, limit) = (self.loops.clone(), limit(&self.dataset));
        self.loops.tasks.spawn(async move {
            let attempt = || async {
                let mut reader = platform.reader(platform.position().await?).await?;
                loop {
                    let through = reader.next(limit).await?.through;
                    reader.release(through).await?;
                }
            };
            loops.tend(post, attempt).await;
        });
    }
}
