//! The simulation: the product's own code under a deterministic scheduler, with a model of the log
//! and of the platforms, faults between any two effects, and a judge outside the protocol.
//!
//! `N` is the number of schedules, `SECONDS` the time box, `SEED` replays one with every step
//! printed (`--nocapture`); `FIRST` is the first seed. A seed names its configuration and everything that happens in it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a test run tells what it exercised")]

mod chaos;
mod configs;
mod deployed;
mod evolving;
mod exclusive_store;
mod executor;
mod hint_store;
mod holding;
mod lineages;
mod log_store;
mod oracle;
#[allow(dead_code, reason = "it offers a product more than the toy takes")]
mod product;
mod runner;
mod shared;
mod toy;
mod workload;

use deployed::Driftless;
use runner::{Budget, knob};

/// protocol.md §11: no schedule breaks an invariant.
#[test]
fn no_schedule_breaks_an_invariant() {
    if let Some(seed) = knob("SEED") {
        let (failure, _) = runner::run_seed(&Driftless, configs::CONFIGS, seed, true);
        return assert!(failure.is_none(), "{failure:?}");
    }
    let budget = Budget {
        schedules: knob("N").unwrap_or(100_000),
        seconds: knob("SECONDS").unwrap_or(1_200),
        first_seed: knob("FIRST").unwrap_or(1),
    };
    let outcome = runner::run_many(&Driftless, configs::CONFIGS, budget, None);
    outcome.print("simulation");
    outcome.assert_clean();
}

/// protocol.md §11: every guard is seen to matter, or it is said why not.
#[cfg(feature = "mutants")]
#[test]
fn every_guard_that_is_taken_out_is_missed() {
    let wrong = runner::run_mutants(&Driftless, configs::CONFIGS, deployed::mutate, deployed::MUTANTS);
    assert!(wrong.is_empty(), "not as the table says:\n{}", wrong.join("\n"));
}
