//! Every metric by name, with its kind, unit, labels and meaning. The reference page and the
//! dashboards are made from this table.

/// How a metric's values are to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only rises, from 0 at the start of the process.
    Counter,
    /// The value now.
    Gauge,
    /// How often values fell into which range, by upper bounds.
    Histogram(&'static [u32]),
}

/// A metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metric {
    /// Its full name.
    pub name: &'static str,
    /// How to read it.
    pub kind: Kind,
    /// What is counted or measured.
    pub unit: &'static str,
    /// The labels it carries.
    pub labels: &'static [&'static str],
    /// What it means.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($id:ident $name:literal $kind:expr, $unit:literal, $labels:expr, $help:literal;)*) => {
        $(#[doc = $help]
        pub const $id: Metric = Metric { name: $name, kind: $kind, unit: $unit, labels: $labels, help: $help };)*

        /// All metrics.
        pub const ALL: &[Metric] = &[$($id),*];
    };
}

const PLATFORM: &[&str] = &["dataset", "platform"];
const BATCH_BOUNDS: &[u32] = &[1, 10, 100, 500, 1_000, 2_000, 5_000, 10_000, 50_000];
/// In milliseconds; exported in seconds.
pub(super) const DELIVERY_BOUNDS_MS: &[u32] = &[1, 2, 4, 8, 15, 30, 60, 125, 250, 500, 1_000, 5_000, 30_000, 300_000];

metrics! {
    EVENTS_CAPTURED "driftless_events_captured_total" Kind::Counter, "events", PLATFORM,
        "Changes read from a platform, echoes of own writes included.";
    EVENTS_PROPOSED "driftless_events_proposed_total" Kind::Counter, "events", PLATFORM,
        "Changes of a platform proposed to the resolver.";
    EVENTS_APPLIED "driftless_events_applied_total" Kind::Counter, "events", PLATFORM,
        "Canonical versions written to a platform.";
    EVENTS_SKIPPED "driftless_events_skipped_total" Kind::Counter, "events", PLATFORM,
        "Canonical versions a platform held already.";
    EVENTS_PARKED "driftless_events_parked_total" Kind::Counter, "events", PLATFORM,
        "Keys put aside until a person decides.";
    EVENTS_DEAD_LETTERED "driftless_events_dead_lettered_total" Kind::Counter, "events", PLATFORM,
        "Events that could not be captured or applied and lie in the dead-letter topic.";
    BYTES_CAPTURED "driftless_captured_bytes_total" Kind::Counter, "bytes", PLATFORM,
        "Size of the changes read from a platform.";
    BYTES_APPLIED "driftless_applied_bytes_total" Kind::Counter, "bytes", PLATFORM,
        "Size of the versions written to a platform.";
    CONFLICTS "driftless_conflicts_total" Kind::Counter, "conflicts", &["dataset", "policy"],
        "Concurrent edits that were settled, by the policy that settled them.";
    LAG_EVENTS "driftless_lag_events" Kind::Gauge, "events", PLATFORM,
        "Canonical versions a platform has not finished yet.";
    LAG_SECONDS "driftless_lag_seconds" Kind::Gauge, "seconds", PLATFORM,
        "Age, by its source commit, of the newest version a platform has finished; 0 when it has finished all.";
    DELIVERY_SECONDS "driftless_delivery_seconds" Kind::Histogram(DELIVERY_BOUNDS_MS), "seconds", PLATFORM,
        "Time from the source commit of a change to its commit on a platform.";
    BATCH_CAPTURED "driftless_captured_batch_events" Kind::Histogram(BATCH_BOUNDS), "events", PLATFORM,
        "Changes read from a platform at once.";
    BATCH_APPLIED "driftless_applied_batch_events" Kind::Histogram(BATCH_BOUNDS), "events", PLATFORM,
        "Versions written to a platform in one transaction.";
    ERRORS "driftless_errors_total" Kind::Counter, "errors", &["code"],
        "Errors by code; each code has a page in the documentation.";
}
