//! What all parts of one schedule share: whether faults are on, what was exercised, what was
//! violated, what the application did, and what the log is known to hold. No decisions.

use super::workload::{Journal, Tags};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

macro_rules! counts {
    ($($name:ident $text:literal),* $(,)?) => {
        /// Something that happened in a schedule.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub(crate) enum Count { $($name),* }

        /// The names of the counts, in their order.
        pub(crate) const COUNTS: &[&str] = &[$($text),*];
    };
}

counts! {
    Steps "steps", Writes "application writes", Truncates "truncates", Reviews "decisions of people", Parts "appends landed in part",
    Crashes "crashes", Zombies "zombies", Resumed "zombies resumed",
    Ended "roles ended by themselves", Takeovers "claims accepted", Void "void records", Landed "appends landed",
    Lost "appends lost", GaveUp "appends given up", LateLanded "late appends", Compactions "compactions",
    Jumps "clock jumps", Conflicts "conflicts", CommitUnknown "commits unanswered", CommitFailed "commits failed",
    CasUnknown "store timeouts", CasLate "late store writes", CasNever "store writes never landed",
    Mismatches "store conditions failed", Expired "expired store writes", Fenced "fenced store writes",
    Dirty "dirty", Observed "unlogged edits observed", Unlogged "unlogged edits", Busy "busy keys",
    HintsLost "hints lost", Altered "tables changed", Pruned "readers below the pruned log", ShownAgain "removed tags shown again", Proposals "proposals", Versions "versions",
    Touched "rows touched", Projected "heads projected",
}

pub(crate) const COUNTS_LEN: usize = COUNTS.len();

/// Totals of a run, in the order of `COUNTS`.
pub(crate) type Totals = [u64; COUNTS_LEN];

pub(crate) struct Shared {
    /// Healing: no more faults.
    pub calm: AtomicBool,
    /// Whether every step is printed.
    pub tracing: bool,
    /// Grows with every change of a store, of C or of D.
    pub activity: AtomicU64,
    /// Grows with every change a platform write makes to a row or a ledger.
    pub applied: AtomicU64,
    pub journal: Mutex<Journal>,
    /// Tags in valid proposals.
    pub published: Mutex<Tags>,
    /// Per partition: the id of the valid canonical version with sequence number index + 1.
    pub valid: Mutex<Vec<Vec<u64>>>,
    counts: [AtomicU64; COUNTS_LEN],
    violations: Mutex<Vec<String>>,
}

impl Shared {
    pub(crate) fn new(tracing: bool, partitions: u32) -> Self {
        Shared {
            calm: AtomicBool::new(false),
            tracing,
            activity: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            journal: Mutex::default(),
            published: Mutex::default(),
            valid: Mutex::new(vec![Vec::new(); partitions as usize]),
            counts: [const { AtomicU64::new(0) }; COUNTS_LEN],
            violations: Mutex::default(),
        }
    }

    pub(crate) fn count(&self, what: Count) {
        self.add(what, 1);
    }

    pub(crate) fn add(&self, what: Count, n: u64) {
        self.counts[what as usize].fetch_add(n, Relaxed);
    }

    pub(crate) fn counted(&self, what: Count) -> u64 {
        self.counts[what as usize].load(Relaxed)
    }

    pub(crate) fn totals(&self) -> Totals {
        std::array::from_fn(|i| self.counts[i].load(Relaxed))
    }

    pub(crate) fn active(&self) {
        self.activity.fetch_add(1, Relaxed);
    }

    /// A platform write changed something.
    pub(crate) fn applied(&self) {
        self.applied.fetch_add(1, Relaxed);
        self.active();
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Relaxed)
    }

    pub(crate) fn violation(&self, text: String) {
        if self.tracing {
            eprintln!("VIOLATION {text}");
        }
        self.violations.lock().push(text);
    }

    pub(crate) fn first_violation(&self) -> Option<String> {
        self.violations.lock().first().cloned()
    }
}

/// Prints a step of a replayed schedule; formats nothing otherwise.
macro_rules! trace {
    ($shared:expr, $($arg:tt)*) => {
        if $shared.tracing {
            eprintln!($($arg)*);
        }
    };
}
pub(crate) use trace;
