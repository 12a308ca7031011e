//! One schedule: builds a deployment, lets tasks, appends, faults and the application interleave as
//! a seed says, heals, waits for rest, judges, and replays everything to see that nothing changes.

use super::executor::{Rng, SimClock, Stepped, TaskId, Time, World, now};
use super::hint_store::{HintStore, Variant};
use super::log_store::LogStore;
use super::oracle::{Oracle, Rest, is_checkpointed, replays};
use super::product::{Access, Env, Platform, Product, RoleId, Start};
use super::shared::{Count, Shared, Totals, trace};
use super::workload::{Policy, Tags, Written, key, row};
use driftless::event::{ActorId, Key, PlatformNo, Record};
use driftless::topic::memory::{Flight, MemoryLog};
use driftless::topic::name::Topics;
use driftless::topic::{Cleanup, Compression, Log, Partition, TopicSpec};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A platform of a configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Log,
    Hint(Variant),
}

/// What is simulated, and how roughly.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub name: &'static str,
    pub platforms: &'static [Kind],
    pub partitions: u32,
    pub keys: usize,
    pub policy: Policy,
    /// Application operations at least.
    pub operations: usize,
    /// Faults of the scheduler fired at least; 0 for none at all.
    pub faults: u64,
    /// Weight of crashes, zombies and lost appends, in 1000 steps each.
    pub fault_weight: u32,
    /// Application edits that no log shows, of 1000 (sink-8).
    pub log_gap: u32,
    /// Clocks are off by up to this many milliseconds.
    pub skew_ms: i64,
    /// Whether a tag an application removed may come back there for a while and be kept in its next
    /// write (false), or that too counts as a resurrection. A LOG sink that compares content with the
    /// ledger alone shows it: a row that was changed and changed back looks untouched.
    pub strict: bool,
    /// Each operation is carried through before the next one: no conflicts may occur (I13).
    pub sequential: bool,
    /// After this much virtual time without progress the deployment is at rest. Longer than any
    /// interval at which the product looks again by itself.
    pub quiet_ms: u64,
    /// Steps until rest, at most (I10).
    pub steps_max: u64,
}

impl Config {
    /// Whether every platform can tell what became of a write (agent-9).
    pub fn is_exact(&self) -> bool {
        !self.platforms.contains(&Kind::Hint(Variant::Content { versions: false }))
    }
}

/// What a schedule came to.
pub struct Report {
    pub violation: Option<String>,
    pub totals: Totals,
}

#[derive(Clone)]
enum Site {
    Log(LogStore),
    Hint(HintStore),
}

impl Site {
    fn tags(&self, key: &Key) -> Tags {
        match self {
            Site::Log(store) => store.tags(key),
            Site::Hint(store) => store.tags(key),
        }
    }
}

/// The instances of a role: the one that ought to run, and old ones that still do.
struct Cast {
    role: RoleId,
    current: Option<(TaskId, Arc<AtomicBool>)>,
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
pub fn run(product: &dyn Product, config: &Config, seed: u64, tracing: bool) -> Report {
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

impl<'a> Simulation<'a> {
    fn new(product: &'a dyn Product, config: &'a Config, seed: u64, tracing: bool) -> Self {
        let mut rng = Rng::new(seed);
        let time = Time::new(seed);
        let log = MemoryLog::manual(SimClock::new(time.clone(), 0));
        let topics = Topics::new("sim", "d", None, config.partitions);
        create_topics(&log, &topics, config.platforms.len());
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

    fn skew(&mut self) -> i64 {
        let span = self.config.skew_ms;
        if span == 0 { 0 } else { self.rng.below(2 * span as usize + 1) as i64 - span }
    }

    /// The surroundings of a new instance.
    fn env(&mut self) -> (Env, Arc<AtomicBool>) {
        let skew = self.skew();
        let assigned = Arc::new(AtomicBool::new(true));
        self.instances += 1;
        let platform = |(index, site): (usize, &Site)| {
            let no = PlatformNo(index as u16 + 1);
            let access = match site {
                Site::Log(store) => Access::Log(Arc::new(store.clone())),
                Site::Hint(store) => Access::Hint(store.handle()),
            };
            Platform { no, name: platform_name(index).into(), actor: ActorId::new(no, 1), access }
        };
        let env = Env {
            log: self.log.clone(),
            clock: SimClock::new(self.time.clone(), skew),
            platforms: self.sites.iter().enumerate().map(platform).collect(),
            topics: self.topics.clone(),
            policy: self.config.policy,
            assigned: assigned.clone(),
            instance: self.instances,
        };
        (env, assigned)
    }

    fn launch(&mut self, at: usize) {
        let (env, assigned) = self.env();
        let role = self.cast[at].role;
        let start = if replays(role) { self.start } else { Start::Resume };
        trace!(self.shared, "start {role:?} as instance {}", self.instances);
        let task = self.world.spawn(self.product.spawn(env, role, start));
        self.cast[at].current = Some((task, assigned));
    }

    fn restart_missing(&mut self) {
        for at in 0..self.cast.len() {
            if !self.cast[at].current.as_ref().is_some_and(|c| self.world.is_live(c.0)) {
                self.launch(at);
            }
        }
    }

    // ---- the steps -------------------------------------------------------------------------

    fn run_a_task(&mut self) -> bool {
        let stepped = self.world.step(&mut self.rng);
        if let Stepped::Ended(task) = stepped {
            let role = self.cast.iter().find(|c| c.current.as_ref().is_some_and(|c| c.0 == task)).map(|c| c.role);
            trace!(self.shared, "{role:?} ended by itself");
            self.shared.count(Count::Ended);
        }
        stepped != Stepped::Idle
    }

    /// An append that may land now: batches of one session and partition land in order.
    fn choose_flight(&mut self) -> Option<Flight> {
        let flights = self.log.flights();
        let first =
            |f: &&Flight| !flights.iter().any(|e| e.number < f.number && e.session == f.session && e.at == f.at);
        let eligible = flights.iter().filter(first).count();
        if eligible == 0 {
            return None;
        }
        let chosen = self.rng.below(eligible);
        flights.iter().filter(first).nth(chosen).cloned()
    }

    fn land(&mut self, flight: &Flight) {
        trace!(self.shared, "append {} of session {} lands in {}", flight.number, flight.session, flight.at);
        self.shared.count(Count::Landed);
        if self.given_up.contains(&flight.number) {
            self.shared.count(Count::LateLanded);
        }
        self.log.land(flight.number);
        if flight.at.topic == self.topics.changes(0).topic || flight.at.topic == self.topics.dataset(0).topic {
            self.oracle.observe(flight.at.index);
        }
    }

    fn land_one(&mut self) -> bool {
        let Some(flight) = self.choose_flight() else { return false };
        if self.given_up.contains(&flight.number) && self.rng.chance(300) {
            self.lose(&flight);
        } else {
            self.land(&flight);
        }
        true
    }

    fn lose(&mut self, flight: &Flight) {
        trace!(self.shared, "append {} to {} is lost", flight.number, flight.at);
        self.shared.count(Count::Lost);
        self.log.lose(flight.number);
    }

    fn append_fault(&mut self) {
        let flights = self.log.flights();
        if flights.is_empty() {
            return;
        }
        let flight = &flights[self.rng.below(flights.len())];
        self.faults += 1;
        if self.rng.chance(500) {
            return self.lose(flight);
        }
        trace!(self.shared, "append {} to {} is given up", flight.number, flight.at);
        self.shared.count(Count::GaveUp);
        self.given_up.push(flight.number);
        self.log.give_up(flight.number);
    }

    fn crash(&mut self) {
        let at = self.rng.below(self.cast.len());
        if let Some((task, _)) = self.cast[at].current.take() {
            trace!(self.shared, "{:?} crashes", self.cast[at].role);
            self.shared.count(Count::Crashes);
            self.faults += 1;
            self.world.kill(task);
        }
    }

    /// A second instance of a role starts while the first is paused and does not know.
    fn make_zombie(&mut self) {
        if self.zombies.len() >= 8 {
            return;
        }
        let at = self.rng.below(self.cast.len());
        let Some((task, assigned)) = self.cast[at].current.take() else { return };
        trace!(self.shared, "{:?} is paused and replaced", self.cast[at].role);
        self.shared.count(Count::Zombies);
        self.faults += 1;
        let running = self.rng.chance(300);
        if !running {
            self.world.pause(task);
        }
        if self.rng.chance(700) {
            assigned.store(false, Relaxed);
        }
        self.zombies.push(Zombie { task, running });
        self.launch(at);
    }

    fn move_zombie(&mut self) {
        if self.zombies.is_empty() {
            return;
        }
        let at = self.rng.below(self.zombies.len());
        let zombie = &mut self.zombies[at];
        if !self.world.is_live(zombie.task) || zombie.running && self.rng.chance(500) {
            self.world.kill(zombie.task);
            self.zombies.swap_remove(at);
        } else if !zombie.running {
            trace!(self.shared, "a zombie goes on");
            self.shared.count(Count::Resumed);
            zombie.running = true;
            self.world.resume(zombie.task);
        }
    }

    /// As a broker would: of each key the newest stays, of the rest an arbitrary part.
    fn compact(&mut self) {
        let which = self.rng.below(self.sites.len() + 2);
        let topic = match which {
            0 => self.topics.state(0).topic,
            1 => self.topics.conflicts(0).topic,
            p => self.topics.ledger(&platform_name(p - 2), 0).topic,
        };
        trace!(self.shared, "{topic} is compacted");
        self.shared.count(Count::Compactions);
        let keep = [0, 0, 300, 700][self.rng.below(4)];
        let rng = &mut self.rng;
        self.log.compact(&topic, |_| rng.chance(keep));
    }

    fn jump(&mut self) {
        self.shared.count(Count::Jumps);
        let ms = [1, 50, 1_000, 20_000][self.rng.below(4)];
        trace!(self.shared, "time jumps by {ms} ms");
        self.time.jump(ms);
        let (skew, at) = (self.skew(), self.rng.below(self.site_clocks.len()));
        // An object store's own clock decides about expiry; it stays true.
        if matches!(self.sites[at], Site::Log(_)) {
            self.site_clocks[at].set_skew(skew);
        }
    }

    fn late_write(&mut self) -> bool {
        let start = self.rng.below(self.sites.len());
        for i in 0..self.sites.len() {
            if let Site::Hint(store) = &self.sites[(start + i) % self.sites.len()]
                && store.late() > 0
            {
                let at = self.rng.below(store.late());
                store.settle_late(at, self.rng.chance(700));
                return true;
            }
        }
        false
    }

    fn app_write(&mut self) -> bool {
        let (platform, index) = (self.rng.below(self.sites.len()), self.rng.below(self.config.keys));
        self.app_write_at(platform, index)
    }

    fn app_write_at(&mut self, platform: usize, index: usize) -> bool {
        let (site, key) = (self.sites[platform].clone(), key(index));
        if matches!(&site, Site::Log(store) if !store.can_write(&key)) {
            return false;
        }
        let seen = site.tags(&key);
        let mut journal = self.shared.journal.lock();
        let Some(left) = journal.edit(self.config.policy, seen, &mut self.rng) else { return true };
        journal.note(Written { platform, key: index, seen, left });
        drop(journal);
        self.shared.count(Count::Writes);
        let logged = self.shared.is_calm() || !self.rng.chance(self.config.log_gap);
        trace!(self.shared, "application at {platform}: {key:?} {seen:#b} -> {left:#b}, logged {logged}");
        match &site {
            Site::Log(store) => {
                store.app_write(&key, row(&key, left), logged);
                if !logged {
                    self.shared.count(Count::Unlogged);
                    self.unlogged.push((platform, index));
                }
            }
            Site::Hint(store) => store.app_write(&key, row(&key, left)),
        }
        true
    }

    fn app_transaction(&mut self) {
        let key = key(self.rng.below(self.config.keys));
        if let Site::Log(store) = &self.sites[self.rng.below(self.sites.len())] {
            match self.rng.below(5) {
                0 => store.foreign_commit(),
                1 => _ = store.app_hold(&key),
                _ => store.app_release(),
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
                _ if draw >= 985 && done < config.operations => done += usize::from(self.app_write()),
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
            self.app_write();
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
            }
        }
    }

    /// Runs until nothing moves any more; I10 if that does not happen.
    fn settle(&mut self, when: &str) {
        let limit = self.steps + self.config.steps_max;
        let (mut seen, mut quiet_from) = (self.shared.activity.load(Relaxed), self.time.now_ms());
        while self.steps < limit {
            self.steps += 1;
            let moved = if self.rng.chance(700) {
                self.run_a_task() || self.land_one()
            } else {
                self.land_one() || self.run_a_task()
            };
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
            let platform = self.rng.below(self.sites.len());
            self.app_write_at(platform, index);
            self.settle("after an edit no log shows");
        }
    }

    fn judge(&mut self) {
        let (sites, config) = (&self.sites, self.config);
        let (exact, strict) = (config.is_exact(), config.strict);
        let rest = Rest { keys: config.keys, platforms: sites.len(), exact, strict };
        self.oracle.judge_rest(rest, |p, key| sites[p].tags(key));
    }

    /// I8: everything again from the start of D writes nothing and publishes nothing.
    fn replay(&mut self) {
        trace!(self.shared, "---- replay");
        let before = (self.oracle.published(), self.shared.applied.load(Relaxed));
        for cast in &mut self.cast {
            if let Some((task, _)) = cast.current.take() {
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
