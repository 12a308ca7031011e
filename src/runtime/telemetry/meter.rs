//! How the stages count. A meter is made once per dataset and platform and kept: counting is then
//! one addition, without any look-up.

use super::names::{self, Metric};
use crate::runtime::error::Code;
use metrics::{Counter, Gauge, Histogram};

/// What happens between one dataset and one platform.
#[derive(Clone)]
pub struct PlatformMeter {
    captured: Counter,
    captured_bytes: Counter,
    captured_batch: Histogram,
    proposed: Counter,
    applied: Counter,
    applied_bytes: Counter,
    applied_batch: Histogram,
    skipped: Counter,
    parked: Counter,
    dead_lettered: Counter,
    lag_events: Gauge,
    lag_seconds: Gauge,
    delivery: Histogram,
}

impl PlatformMeter {
    /// The meter of `dataset` on `platform`; all counts show as 0 from here on.
    #[must_use]
    pub fn new(dataset: &str, platform: &str) -> Self {
        let labels = [dataset, platform];
        PlatformMeter {
            captured: counter(&names::EVENTS_CAPTURED, &labels),
            captured_bytes: counter(&names::BYTES_CAPTURED, &labels),
            captured_batch: histogram(&names::BATCH_CAPTURED, &labels),
            proposed: counter(&names::EVENTS_PROPOSED, &labels),
            applied: counter(&names::EVENTS_APPLIED, &labels),
            applied_bytes: counter(&names::BYTES_APPLIED, &labels),
            applied_batch: histogram(&names::BATCH_APPLIED, &labels),
            skipped: counter(&names::EVENTS_SKIPPED, &labels),
            parked: counter(&names::EVENTS_PARKED, &labels),
            dead_lettered: counter(&names::EVENTS_DEAD_LETTERED, &labels),
            lag_events: gauge(&names::LAG_EVENTS, &labels),
            lag_seconds: gauge(&names::LAG_SECONDS, &labels),
            delivery: histogram(&names::DELIVERY_SECONDS, &labels),
        }
    }

    /// A batch of changes was read.
    pub fn captured(&self, events: u64, bytes: u64) {
        self.captured.increment(events);
        self.captured_bytes.increment(bytes);
        self.captured_batch.record(float(events));
    }

    /// So large was what was read.
    pub fn captured_bytes(&self, bytes: u64) {
        self.captured_bytes.increment(bytes);
    }

    /// So large was what was written.
    pub fn applied_bytes(&self, bytes: u64) {
        self.applied_bytes.increment(bytes);
    }

    /// Changes were proposed.
    pub fn proposed(&self, events: u64) {
        self.proposed.increment(events);
    }

    /// A batch of versions was written and committed.
    pub fn applied(&self, events: u64, bytes: u64) {
        self.applied.increment(events);
        self.applied_bytes.increment(bytes);
        self.applied_batch.record(float(events));
    }

    /// Versions were there already.
    pub fn skipped(&self, events: u64) {
        self.skipped.increment(events);
    }

    /// Keys were put aside.
    pub fn parked(&self, events: u64) {
        self.parked.increment(events);
    }

    /// Events went to the dead letters.
    pub fn dead_lettered(&self, events: u64) {
        self.dead_lettered.increment(events);
    }

    /// A change was committed here this many milliseconds after its commit at the source.
    pub fn delivered(&self, after_ms: u64) {
        self.delivery.record(float(after_ms) / 1000.0);
    }

    /// How far the platform is behind: versions not finished, and the age of the newest finished one.
    pub fn lag(&self, events: u64, lag_ms: u64) {
        self.lag_events.set(float(events));
        self.lag_seconds.set(float(lag_ms) / 1000.0);
    }
}

/// What happens in one dataset as a whole.
#[derive(Clone)]
pub struct DatasetMeter {
    conflicts: Counter,
}

impl DatasetMeter {
    /// The meter of `dataset`, whose conflicts are settled by `policy`.
    #[must_use]
    pub fn new(dataset: &str, policy: &str) -> Self {
        DatasetMeter { conflicts: counter(&names::CONFLICTS, &[dataset, policy]) }
    }

    /// Conflicts were settled.
    pub fn conflicts(&self, count: u64) {
        self.conflicts.increment(count);
    }
}

/// Counts an error where it is handled; once, not at each level it passes.
pub fn count_error(code: Code) {
    counter(&names::ERRORS, &[code.as_str()]).increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "a metric need not be exact above 2^53")]
const fn float(n: u64) -> f64 {
    n as f64
}

fn labels(metric: &Metric, values: &[&str]) -> Vec<(&'static str, String)> {
    metric.labels.iter().zip(values).map(|(name, value)| (*name, (*value).to_owned())).collect()
}

#[expect(clippy::disallowed_macros, reason = "this is the one place that emits")]
fn counter(metric: &Metric, values: &[&str]) -> Counter {
    metrics::counter!(metric.name, &labels(metric, values))
}

#[expect(clippy::disallowed_macros, reason = "this is the one place that emits")]
fn gauge(metric: &Metric, values: &[&str]) -> Gauge {
    metrics::gauge!(metric.name, &labels(metric, values))
}

#[expect(clippy::disallowed_macros, reason = "this is the one place that emits")]
fn histogram(metric: &Metric, values: &[&str]) -> Histogram {
    metrics::histogram!(metric.name, &labels(metric, values))
}
