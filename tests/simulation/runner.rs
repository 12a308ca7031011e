//! Runs many schedules on two threads within a time box, adds up what they exercised, and runs
//! the table of mutants: each guard that is removed must be seen to matter.

use super::chaos::{self, Config};
use super::product::Product;
use super::shared::{COUNTS, COUNTS_LEN, Totals};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Turns a guard of the product off for the calling thread; `None` turns all on again.
pub(crate) type Mutate = fn(Option<&'static str>);

/// Which schedules are run.
#[derive(Clone, Copy)]
pub(crate) struct Budget {
    pub schedules: u64,
    pub seconds: u64,
    pub first_seed: u64,
}

/// A seed that broke something.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub seed: u64,
    pub config: &'static str,
    pub violation: String,
}

/// What a batch of schedules came to.
pub(crate) struct Outcome {
    pub schedules: u64,
    pub totals: Totals,
    pub failure: Option<Failure>,
    pub elapsed: Duration,
}

#[expect(clippy::disallowed_methods, reason = "the time box is real time; no schedule sees it")]
fn started() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the knobs of a test run")]
fn asked(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

pub(crate) fn knob(name: &str) -> Option<u64> {
    asked(name).map(|v| v.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {v:?}")))
}

/// The configuration a seed belongs to.
pub(crate) fn config_of(configs: &[Config], seed: u64) -> &Config {
    &configs[(seed % configs.len() as u64) as usize]
}

/// Runs one seed; a panic of the product counts as a violation.
pub(crate) fn run_seed(
    product: &dyn Product,
    configs: &[Config],
    seed: u64,
    tracing: bool,
) -> (Option<Failure>, Totals) {
    let config = config_of(configs, seed);
    let report = catch_unwind(AssertUnwindSafe(|| chaos::run(product, config, seed, tracing)));
    let (violation, totals) = match report {
        Ok(report) => (report.violation, report.totals),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|t| t.to_string()));
            (Some(format!("panic: {}", text.unwrap_or_default())), [0; COUNTS_LEN])
        }
    };
    (violation.map(|violation| Failure { seed, config: config.name, violation }), totals)
}

/// Runs seeds until the budget is spent or one fails; with a mutant on, if one is named.
pub(crate) fn run_many(
    product: &dyn Product,
    configs: &[Config],
    budget: Budget,
    mutant: Option<(Mutate, &'static str)>,
) -> Outcome {
    let begin = started();
    let (next, done, stop) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let result: Mutex<(Totals, Option<Failure>)> = Mutex::new(([0; COUNTS_LEN], None));
    let work = || {
        if let Some((mutate, name)) = mutant {
            mutate(Some(name));
        }
        let mut sum = [0; COUNTS_LEN];
        loop {
            let number = next.fetch_add(1, Relaxed);
            let over = number >= budget.schedules || begin.elapsed().as_secs() >= budget.seconds;
            if over || stop.load(Relaxed) {
                break;
            }
            let (failure, totals) = run_seed(product, configs, budget.first_seed + number, false);
            sum.iter_mut().zip(totals).for_each(|(s, t)| *s += t);
            done.fetch_add(1, Relaxed);
            if let Some(failure) = failure {
                stop.store(true, Relaxed);
                let mut result = result.lock().expect("no thread panics with it");
                // The lowest seed, so that two threads report alike as far as they can.
                if result.1.as_ref().is_none_or(|f| f.seed > failure.seed) {
                    result.1 = Some(failure);
                }
            }
        }
        if let Some((mutate, _)) = mutant {
            mutate(None);
        }
        let mut result = result.lock().expect("no thread panics with it");
        result.0.iter_mut().zip(sum).for_each(|(s, t)| *s += t);
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let (totals, failure) = result.into_inner().expect("no thread panics with it");
    Outcome { schedules: done.load(Relaxed), totals, failure, elapsed: begin.elapsed() }
}

impl Outcome {
    /// Prints what was exercised.
    pub(crate) fn print(&self, what: &str) {
        let micros = self.elapsed.as_micros() / u128::from(self.schedules.max(1));
        println!("{what}: {} schedules in {:?}, {micros} µs each", self.schedules, self.elapsed);
        COUNTS.iter().zip(self.totals).for_each(|(name, n)| println!("  {n:>12} {name}"));
    }

    /// Panics with the seed, the configuration and the violation, if there was one.
    pub(crate) fn assert_clean(&self) {
        if let Some(f) = &self.failure {
            panic!("seed {} in {:?}: {}\nreplay it with SEED={} and a trace", f.seed, f.config, f.violation, f.seed);
        }
    }
}

/// The whole run, as the environment asks for it: `SEED` replays one schedule with every step
/// printed, else `N` schedules or `SECONDS` of time, whichever is over first.
pub(crate) fn simulate(product: &dyn Product, configs: &[Config]) {
    if let Some(seed) = knob("SEED") {
        let (failure, totals) = run_seed(product, configs, seed, true);
        println!("seed {seed} in {:?}", config_of(configs, seed).name);
        COUNTS.iter().zip(totals).filter(|c| c.1 > 0).for_each(|(name, n)| println!("  {n:>12} {name}"));
        assert!(failure.is_none(), "{failure:?}");
        return;
    }
    let (schedules, seconds) = (knob("N"), knob("SECONDS"));
    let unlimited = schedules.map_or(DEFAULT_SECONDS, |_| u64::MAX);
    let first_seed = knob("FIRST").unwrap_or(1);
    let budget = Budget { schedules: schedules.unwrap_or(u64::MAX), seconds: seconds.unwrap_or(unlimited), first_seed };
    let outcome = run_many(product, configs, budget, None);
    outcome.print("simulation");
    outcome.assert_clean();
}

/// How long a run takes if nothing else is asked for.
const DEFAULT_SECONDS: u64 = 20;

/// What is expected of a mutant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Expect {
    /// Some schedule of the first 2 500 breaks an invariant.
    Caught,
    /// No schedule does, and why that is right.
    Clean(&'static str),
}

/// A guard of the product that can be turned off by name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mutation(pub &'static str);

/// A line of the table of mutants; `configs` chooses where it is run, by name, empty for all that are not fused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mutant {
    pub mutation: Mutation,
    pub expected: Expect,
    pub configs: &'static [&'static str],
}

/// Schedules a mutant may survive.
pub(crate) const MUTANT_SCHEDULES: u64 = 2_500;

/// Runs the table, prints a line for each, and returns those that were not as expected.
pub(crate) fn run_mutants(product: &dyn Product, configs: &[Config], mutate: Mutate, table: &[Mutant]) -> Vec<String> {
    let mut wrong = Vec::new();
    let only = asked("MUTANT");
    for mutant in table.iter().filter(|m| only.as_ref().is_none_or(|only| m.mutation.0 == only)) {
        let wanted = |c: &&Config| if mutant.configs.is_empty() { !c.fused } else { mutant.configs.contains(&c.name) };
        let chosen: Vec<Config> = configs.iter().filter(wanted).copied().collect();
        let name = mutant.mutation.0;
        assert!(!chosen.is_empty(), "mutant {name} names no known configuration");
        let budget = Budget { schedules: MUTANT_SCHEDULES, seconds: u64::MAX, first_seed: 1 };
        let outcome = run_many(product, &chosen, budget, Some((mutate, name)));
        let verdict = match &outcome.failure {
            Some(f) => format!("caught by seed {} in {:?}: {}", f.seed, f.config, f.violation),
            None => format!("clean after {} schedules", outcome.schedules),
        };
        let reason = if let Expect::Clean(why) = mutant.expected { why } else { "" };
        println!("{name:<40} {verdict} {reason}");
        if (mutant.expected == Expect::Caught) != outcome.failure.is_some() {
            wrong.push(format!("{name}: expected {:?}, {verdict}", mutant.expected));
        }
    }
    wrong
}
