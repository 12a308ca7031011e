//! Keeps the metrics and renders them in Prometheus' text format. Serves nothing: the HTTP listener
//! asks for the text.

use super::names::{self, Kind};
use crate::runtime::error::{Code, Error, Result};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

/// The metrics of this process.
#[derive(Clone)]
pub struct Exporter(PrometheusHandle);

impl Exporter {
    /// Starts keeping metrics; meters made before this count nothing.
    ///
    /// # Errors
    /// If metrics are kept already.
    pub fn install() -> Result<Self> {
        let recorder = recorder()?;
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder)
            .map_err(|error| Error::new(Code::Unexpected, "metrics are kept already").caused_by(error.to_string()))?;
        describe();
        Ok(Exporter(handle))
    }

    /// All metrics as text. Call it at least every few minutes: it also frees the values histograms
    /// have gathered.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }
}

fn recorder() -> Result<PrometheusRecorder> {
    let mut builder = PrometheusBuilder::new();
    for metric in names::ALL {
        let Kind::Histogram(bounds) = metric.kind else { continue };
        let divisor = if metric.unit == "seconds" { 1000.0 } else { 1.0 };
        let bounds: Vec<f64> = bounds.iter().map(|bound| f64::from(*bound) / divisor).collect();
        let set = builder.set_buckets_for_metric(Matcher::Full(metric.name.into()), &bounds);
        builder = set.map_err(|error| Error::new(Code::Unexpected, "a histogram without bounds").caused_by(error))?;
    }
    Ok(builder.build_recorder())
}

#[expect(clippy::disallowed_macros, reason = "this is the one place that describes")]
fn describe() {
    for metric in names::ALL {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Histogram(_) => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::meter::{DatasetMeter, PlatformMeter, count_error};
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_the_meters_count_is_exported_under_the_described_names() {
        let recorder = recorder().unwrap();
        let text = metrics::with_local_recorder(&recorder, || {
            describe();
            let meter = PlatformMeter::new("products", "shop");
            meter.captured(3, 300);
            meter.proposed(2);
            meter.applied(1, 100);
            meter.applied(4, 400);
            meter.skipped(6);
            meter.parked(7);
            meter.dead_lettered(8);
            meter.delivered(12);
            meter.lag(9, 1500);
            DatasetMeter::new("products", "last-write-wins").conflicts(2);
            count_error(Code::StoreBusy);
            recorder.handle().render()
        });
        for line in [
            "driftless_events_captured_total{dataset=\"products\",platform=\"shop\"} 3",
            "driftless_events_applied_total{dataset=\"products\",platform=\"shop\"} 5",
            "driftless_applied_bytes_total{dataset=\"products\",platform=\"shop\"} 500",
            "driftless_events_dead_lettered_total{dataset=\"products\",platform=\"shop\"} 8",
            "driftless_lag_events{dataset=\"products\",platform=\"shop\"} 9",
            "driftless_lag_seconds{dataset=\"products\",platform=\"shop\"} 1.5",
            "driftless_delivery_seconds_bucket{dataset=\"products\",platform=\"shop\",le=\"0.015\"} 1",
            "driftless_delivery_seconds_bucket{dataset=\"products\",platform=\"shop\",le=\"0.008\"} 0",
            "driftless_conflicts_total{dataset=\"products\",policy=\"last-write-wins\"} 2",
            "driftless_errors_total{code=\"store_busy\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\nin\n{text}");
        }
        for metric in names::ALL {
            assert!(text.contains(&format!("# HELP {} {}", metric.name, metric.help)), "{} in\n{text}", metric.name);
        }
    }

    #[test]
    fn names_are_different_and_tell_their_unit() {
        let all: BTreeSet<&str> = names::ALL.iter().map(|m| m.name).collect();
        assert_eq!(all.len(), names::ALL.len());
        for metric in names::ALL {
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert!(metric.name.contains(metric.unit), "{}", metric.name);
        }
    }
}
