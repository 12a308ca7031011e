//! One schedule: builds a deployment, lets tasks, appends, faults and the application interleave as
//! a seed says, heals, waits for rest, judges, and replays everything to see that nothing changes.

mod steps;

use super::exclusive_store::ExclusiveStore;
use super::executor::{Rng, SimClock, TaskId, Time, World, now};
use super::hint_store::{HintStore, Variant};
use super::lineages::SimLineages;
use super::log_store::LogStore;
use super::oracle::{Oracle, Rest, is_checkpointed, replays};
use super::product::{Access, Env, Platform, Product, RoleId, Start};
use super::shared::{Count, Shared, Totals, trace};
use super::workload::{Policy, Tags, key};
use driftless::event::{ActorId, Custom, FieldRule, Key, Merge, PlatformNo, Record, Resolution, Rules};
use driftless::runtime::error::Result;
use driftless::runtime::stop::Stop;
use driftless::settle;
use driftless::topic::memory::MemoryLog;
use driftless::topic::message::message;
use driftless::topic::name::Topics;
use driftless::topic::{Cleanup, Compression, Log, Partition, TopicSpec};
use futures_util::FutureExt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A platform of a configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Log,
    Hint(Variant),
    /// A destination nobody else writes.
    Exclusive,
}

/// What is simulated, and how roughly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub name: &'static str,
    pub platforms: &'static [Kind],
    pub partitions: u32,
    pub keys: usize,
    pub policy: Policy,
    /// The rule that settles instead of a merge of sets; it has to come to the same.
    pub custom: Option<&'static str>,
    /// Application operations at least.
    pub operations: usize,
    /// Faults of the scheduler fired at least; 0 for none at all.
    pub faults: u64,
    /// Weight of crashes, zombies and lost appends, in 1000 steps each.
    pub fault_weight: u32,
    /// Application edits that no log shows, of 1000 (sink-8).
    pub log_gap: u32,
    /// Application writes that truncate the table of a LOG platform, of 1000 (read-9).
    pub truncates: u32,
    /// Application writes, in 1000 steps.
    pub write_weight: u32,
    /// Applications change the first platform's table (LOG), of 1000 of its other transactions (read-10).
    pub alters: u32,
    /// Application writes instead of which a person decides a conflict, of 1000 (verb-6).
    pub reviews: u32,
    /// Clocks are off by up to this many milliseconds.
    pub skew_ms: i64,
    /// Whether a tag an application removed may come back there for a while and be kept in its next
    /// write (false), or that too counts as a resurrection. A LOG sink that compares content with the
    /// ledger alone shows it: a row that was changed and changed back looks untouched.
    pub strict: bool,
    /// Each operation is carried through before the next one: no conflicts may occur (I13).
    pub sequential: bool,
    /// The first platform alone writes, and its reader settles (resolve-9).
    pub fused: bool,
    /// Some that are replaced are asked to hand over (claim-9); the others are zombies.
    pub stops: bool,
    /// After this much virtual time without progress the deployment is at rest. Longer than any
    /// interval at which the product looks again by itself.
    pub quiet_ms: u64,
    /// Steps until rest, at most (I10).
    pub steps_max: u64,
}

impl Config {
    /// Whether every platform can tell what became of a write (agent-9).
    pub(crate) fn is_exact(&self) -> bool {
        self.log_gap == 0 && !self.platforms.contains(&Kind::Hint(Variant::Content { versions: false }))
    }
}

/// What a schedule came to.
pub(crate) struct Report {
    pub violation: Option<String>,
    pub totals: Totals,
}

#[derive(Clone)]
enum Site {
    Log(LogStore),
    Hint(HintStore),
    Exclusive(ExclusiveStore),
}

impl Site {
    fn tags(&self, key: &Key) -> Tags {
        match self {
            Site::Log(store) => store.tags(key),
            Site::Hint(store) => store.tags(key),
            Site::Exclusive(store) => store.tags(key),
        }
    }
}

/// The instances of a role: the one that ought to run, and old ones that still do.
struct Cast {
    role: RoleId,
    current: Option<(TaskId, Arc<AtomicBool>, Stop)>,
}

struct Zombie {
    task: TaskId,
    running: bool,
}

struct Simulation<'a> {
    config: &'a Config,
    product: &'a dyn Product,
    shared: Arc<Shared>,
    rng: Rng,
    world: World,
    time: Arc<Time>,
    log: MemoryLog<Arc<Record>>,
    topics: Topics,
    lineages: Arc<SimLineages>,
    sites: Vec<Site>,
    site_clocks: Vec<Arc<SimClock>>,
    oracle: Oracle,
    cast: Vec<Cast>,
    zombies: Vec<Zombie>,
    given_up: Vec<u64>,
    instances: u32,
    start: Start,
    faults: u64,
    steps: u64,
    /// Edits no log shows, not yet followed by another write: (platform, key).
    unlogged: Vec<(usize, usize)>,
}

/// Runs one schedule.
pub(crate) fn run(product: &dyn Product, config: &Config, seed: u64, tracing: bool) -> Report {
    let mut simulation = Simulation::new(product, config, seed, tracing);
    if config.sequential {
        simulation.run_in_sequence()
    } else {
        simulation.run_in_chaos()
    };
    simulation.heal();
    simulation.settle("after healing");
    simulation.push_unlogged();
    simulation.judge();
    if simulation.shared.first_violation().is_none() {
        simulation.replay();
    }
    simulation.shared.add(Count::Steps, simulation.steps);
    Report { violation: simulation.shared.first_violation(), totals: simulation.shared.totals() }
}

fn platform_name(index: usize) -> String {
    format!("p{index}")
}

fn create_topics(log: &MemoryLog<Arc<Record>>, topics: &Topics, platforms: usize) {
    let create = |at: Partition, cleanup| {
        let compression = Compression::default();
        let spec = TopicSpec { topic: at.topic, partitions: topics.partitions, cleanup, compression };
        now(log.create(&spec)).expect("a new topic");
    };
    create(topics.dataset(0), Cleanup::Keep);
    create(topics.changes(0), Cleanup::Keep);
    create(topics.dead(0), Cleanup::Keep);
    create(topics.state(0), Cleanup::Compact);
    create(topics.conflicts(0), Cleanup::Compact);
    (0..platforms).for_each(|p| create(topics.ledger(&platform_name(p), 0), Cleanup::Compact));
}

/// As a node does before it begins a dataset. Nothing is lost by these rules, so that every loss that is seen was
/// made by the protocol.
fn say_rules(log: &MemoryLog<Arc<Record>>, changes: &Partition, custom: Option<&str>) {
    let merge = Merge { fields: [("v".into(), FieldRule::Set)].into(), ..Merge::default() };
    let resolution = match custom {
        Some(rule) => Resolution::Custom(Custom { rule: rule.into(), merge, ..Custom::default() }),
        None => Resolution::Merge(merge),
    };
    land_all(log, settle::rule(log, changes, &Rules { version: 1, resolution, ..Rules::default() }));
}

/// What somebody outside says in a partition: it lands at once.
fn land(log: &MemoryLog<Arc<Record>>, at: &Partition, record: Record) {
    land_all(log, async { log.session().await?.append(at, vec![message(Arc::new(record))]).await.map(|_| ()) });
}

fn land_all(log: &MemoryLog<Arc<Record>>, appending: impl Future<Output = Result<()>>) {
    let others: Vec<u64> = log.flights().iter().map(|flight| flight.number).collect();
    let mut appending = pin!(appending);
    while appending.as_mut().now_or_never().is_none() {
        log.flights().iter().filter(|f| !others.contains(&f.number)).for_each(|flight| log.land(flight.number));
    }
}

impl<'a> Simulation<'a> {
    fn new(product: &'a dyn Product, config: &'a Config, seed: u64, tracing: bool) -> Self {
        let mut rng = Rng::new(seed);
        let time = Time::new(seed);
        let log = MemoryLog::manual(SimClock::new(time.clone(), 0));
        let topics = Topics::new("sim", "d", None, config.partitions);
        create_topics(&log, &topics, config.platforms.len());
        if config.policy == Policy::Set {
            (0..config.partitions).for_each(|partition| say_rules(&log, &topics.changes(partition), config.custom));
        }
        let shared = Arc::new(Shared::new(tracing, config.partitions));
        let oracle = Oracle::new(shared.clone(), log.clone(), topics.clone(), config.policy);
        let (mut sites, mut site_clocks) = (Vec::new(), Vec::new());
        let set = config.policy == Policy::Set;
        for (index, kind) in config.platforms.iter().enumerate() {
            let clock = SimClock::new(time.clone(), 0);
            site_clocks.push(clock.clone());
            let (topics, shared, rng) = (topics.clone(), shared.clone(), rng.fork());
            sites.push(match *kind {
                Kind::Log => {
                    let ledger = topics.ledger(&platform_name(index), 0);
                    let store = LogStore::new(index, set, topics, shared, clock, rng);
                    let log = log.clone();
                    store.judge_release(Box::new(move |through| is_checkpointed(&log, &ledger, through)));
                    Site::Log(store)
                }
                Kind::Exclusive => Site::Exclusive(ExclusiveStore::new(index, topics, shared, rng)),
                Kind::Hint(variant) => Site::Hint(HintStore::new(index, variant, set, topics, shared, clock, rng)),
            });
        }
        let mut simulation = Simulation {
            config,
            product,
            shared,
            rng,
            world: World::default(),
            time,
            log,
            topics,
            lineages: SimLineages::new(),
            sites,
            site_clocks,
            oracle,
            cast: Vec::new(),
            zombies: Vec::new(),
            given_up: Vec::new(),
            instances: 0,
            start: Start::Resume,
            faults: 0,
            steps: 0,
            unlogged: Vec::new(),
        };
        let env = simulation.env().0;
        let roles = product.roles(&env);
        simulation.cast = roles.into_iter().map(|role| Cast { role, current: None }).collect();
        simulation.restart_missing();
        simulation
    }

    /// The platforms that applications write: exclusive ones stand behind them.
    fn writable(&self) -> usize {
        self.sites.iter().filter(|site| !matches!(site, Site::Exclusive(_))).count()
    }

    fn skew(&mut self) -> i64 {
        let span = self.config.skew_ms;
        if span == 0 { 0 } else { self.rng.below(2 * span as usize + 1) as i64 - span }
    }

    /// The surroundings of a new instance.
    fn env(&mut self) -> (Env, Arc<AtomicBool>, Stop) {
        let skew = self.skew();
        let (assigned, stop) = (Arc::new(AtomicBool::new(true)), Stop::default());
        self.instances += 1;
        let platform = |(index, site): (usize, &Site)| {
            let no = PlatformNo(index as u16 + 1);
            let access = match site {
                Site::Log(store) => Access::Log(Arc::new(store.clone())),
                Site::Hint(store) => Access::Hint(store.handle()),
                Site::Exclusive(store) => Access::Exclusive(Arc::new(store.clone())),
            };
            Platform { no, name: platform_name(index).into(), actor: ActorId::new(no, 1), access }
        };
        let env = Env {
            log: self.log.clone(),
            clock: SimClock::new(self.time.clone(), skew),
            platforms: self.sites.iter().enumerate().map(platform).collect(),
            topics: self.topics.clone(),
            fused: self.config.fused,
            lineages: self.lineages.clone(),
            policy: self.config.policy,
            assigned: assigned.clone(),
            stop: stop.clone(),
            instance: self.instances,
        };
        (env, assigned, stop)
    }

    fn launch(&mut self, at: usize) {
        let (env, assigned, stop) = self.env();
        let role = self.cast[at].role;
        let start = if replays(role) { self.start } else { Start::Resume };
        trace!(self.shared, "start {role:?} as instance {}", self.instances);
        let task = self.world.spawn(self.product.spawn(env, role, start));
        self.cast[at].current = Some((task, assigned, stop));
    }

    fn restart_missing(&mut self) {
        for at in 0..self.cast.len() {
            if !self.cast[at].current.as_ref().is_some_and(|c| self.world.is_live(c.0)) {
                self.launch(at);
            }
        }
    }

    // ---- the phases ------------------------------------------------------------------------

    fn run_in_chaos(&mut self) {
        let config = self.config;
        let weight = config.fault_weight as usize;
        let (mut done, mut tail) = (0, self.rng.below(200));
        let limit = config.steps_max;
        while (done < config.operations || self.faults < config.faults || tail > 0) && self.steps < limit {
            self.steps += 1;
            if done >= config.operations {
                tail = tail.saturating_sub(1);
            }
            let draw = self.rng.below(1000);
            let wants_fault = config.faults > 0 && draw < weight;
            match draw {
                _ if wants_fault => match self.rng.below(12) {
                    0..3 => self.crash(),
                    3..6 => self.append_fault(),
                    6..8 => self.make_zombie(),
                    8..10 => self.move_zombie(),
                    10 => self.compact(),
                    _ => self.jump(),
                },
                _ if draw >= 1000 - config.write_weight as usize && done < config.operations => {
                    done += usize::from(self.app_write());
                }
                _ if draw >= 980 => self.app_transaction(),
                _ if draw >= 970 => _ = self.late_write(),
                _ if draw >= 967 => self.restart_missing(),
                _ if draw >= 800 => _ = self.land_one() || self.run_a_task(),
                _ => _ = self.run_a_task() || self.land_one() || self.time.advance(),
            }
        }
    }

    fn run_in_sequence(&mut self) {
        self.shared.calm.store(true, Relaxed);
        for _ in 0..self.config.operations {
            self.settle("before the next operation");
            self.app_alter();
            self.app_write();
            if self.config.fused {
                self.app_touch();
            }
        }
        self.settle("after the last operation");
        if self.oracle.conflicts() > 0 {
            self.shared.violation("I13: writes one after the other gave conflicts".into());
        }
    }

    /// No more faults; the zombies go on for a while and end.
    fn heal(&mut self) {
        trace!(self.shared, "---- healing");
        self.shared.calm.store(true, Relaxed);
        self.site_clocks.iter().for_each(|c| c.set_skew(0));
        for zombie in &self.zombies {
            if self.rng.chance(500) {
                self.shared.count(Count::Resumed);
                self.world.resume(zombie.task);
            }
        }
        for _ in 0..if self.zombies.is_empty() { 0 } else { 200 } {
            self.steps += 1;
            _ = if self.rng.chance(700) { self.run_a_task() || self.land_one() } else { self.land_one() };
        }
        self.zombies.drain(..).for_each(|z| self.world.kill(z.task));
        while self.late_write() {}
        let keys: Vec<Key> = (0..self.config.keys).map(key).collect();
        self.restart_missing();
        for site in &self.sites {
            match site {
                Site::Log(store) => store.app_release(),
                Site::Hint(store) => store.hint_all(&keys),
                Site::Exclusive(_) => {}
            }
        }
    }

    /// Runs until nothing moves any more; I10 if that does not happen.
    fn settle(&mut self, when: &str) {
        let limit = self.steps + self.config.steps_max;
        let (mut seen, mut quiet_from) = (self.shared.activity.load(Relaxed), self.time.now_ms());
        while self.steps < limit {
            self.steps += 1;
            let task_first = self.rng.chance(700) && self.run_a_task();
            let moved = task_first || self.land_one() || self.run_a_task();
            if moved || self.late_write() {
                continue;
            }
            self.restart_missing();
            let activity = self.shared.activity.load(Relaxed);
            if activity != seen {
                (seen, quiet_from) = (activity, self.time.now_ms());
            }
            if self.world.has_ready() {
                continue;
            }
            if self.time.now_ms() > quiet_from + self.config.quiet_ms || !self.time.advance() {
                trace!(self.shared, "---- at rest {when}");
                return;
            }
        }
        self.shared.violation(format!("I10: no rest {when} within {} steps", self.config.steps_max));
    }

    /// An edit no log shows is found when another version meets it (sink-8), so one is written.
    fn push_unlogged(&mut self) {
        let mut keys: Vec<usize> = std::mem::take(&mut self.unlogged).into_iter().map(|u| u.1).collect();
        keys.sort_unstable();
        keys.dedup();
        for index in keys {
            let platform = self.rng.below(self.writable());
            self.app_write_at(platform, index);
            self.settle("after an edit no log shows");
        }
    }

    fn judge(&mut self) {
        let (sites, config) = (&self.sites, self.config);
        let (exact, strict) = (config.is_exact(), config.strict);
        let reasserts = self.product.reasserts();
        let rest = Rest { keys: config.keys, platforms: sites.len(), exact, strict, reasserts, fused: config.fused };
        self.oracle.judge_rest(rest, |p, key| sites[p].tags(key));
    }

    /// I8: everything again from the start of D writes nothing and publishes nothing.
    fn replay(&mut self) {
        trace!(self.shared, "---- replay");
        let before = (self.oracle.published(), self.shared.applied.load(Relaxed));
        for cast in &mut self.cast {
            if let Some((task, ..)) = cast.current.take() {
                self.world.kill(task);
            }
        }
        self.start = Start::Replay;
        self.restart_missing();
        self.settle("after the replay");
        let after = (self.oracle.published(), self.shared.applied.load(Relaxed));
        if before != after {
            let text = format!("I8: a replay moved ((proposals, versions), writes) from {before:?} to {after:?}");
            self.shared.violation(text);
        }
        self.judge();
    }
}
