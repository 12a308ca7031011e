//! Whether this version can run what was loaded: asked by `run` before it touches anything. A
//! configuration may load and still not be ready: it may name platforms that are not defined (who-1)
//! or ask for what does not exist yet. Nothing asked for is ever silently left out.

use super::Config;
use super::dataset::Dataset;
use super::errors::{At, Problems, Sink, suggestion};
use super::sync::{ConflictResolution, Direction, Mode, OnLocalEdit};
use crate::runtime::error::Code;

/// Checks that the configuration can be run.
///
/// # Errors
/// Everything that is missing or does not exist yet, each with its line.
pub fn check(config: &Config) -> Result<(), Problems> {
    let sink = Sink::default();
    let whole = At::file(config.files.first().map_or("", String::as_str));
    if !config.enabled {
        sink.invalid(&config.enabled_at, "synchronization.enabled", "synchronization is switched off; set it to true");
    }
    if config.datasets.is_empty() {
        let text = "no dataset is configured; add one under `datasets`";
        sink.report(Code::ConfigMissing, &whole, "datasets", text);
    }
    for dataset in &config.datasets {
        missing_platforms(config, dataset, &sink);
        not_yet(dataset, &sink);
    }
    sink.into_result()
}

/// who-1
fn missing_platforms(config: &Config, dataset: &Dataset, sink: &Sink) {
    let known = || config.platforms.keys().map(String::as_str);
    let report = |key: &str, missing: &[&str]| {
        let Some(first) = missing.first() else { return };
        let guess = if missing.len() == 1 { suggestion(first, known()) } else { String::new() };
        let names: Vec<String> = missing.iter().map(|name| format!("`{name}`")).collect();
        let text = format!("not defined under `platforms`: {}{guess}", names.join(", "));
        sink.report(Code::ConfigMissing, dataset.lines.of(key), &format!("{}.{key}", dataset.lines.path), text);
    };
    let is_missing = |name: &&str| !config.platforms.contains_key(*name);
    let source = [dataset.source.as_str()];
    report("source", &source.into_iter().filter(is_missing).collect::<Vec<_>>());
    report("destinations", &dataset.destinations.iter().map(String::as_str).filter(is_missing).collect::<Vec<_>>());
}

/// What loads but cannot be run by this version.
fn not_yet(dataset: &Dataset, sink: &Sink) {
    let refuse = |key: &str, what: &str, instead: &str| {
        let path = format!("{}.{key}", dataset.lines.path);
        let text = format!("{what} does not exist in this version yet; {instead}");
        sink.report(Code::ConfigUnsupported, dataset.lines.of(key), &path, text);
    };
    match dataset.sync_mode {
        Mode::RealTime => {}
        Mode::Scheduled => refuse("sync-mode", "the mode `scheduled`", "use `real-time`"),
        Mode::Manual => refuse("sync-mode", "the mode `manual`", "use `real-time`"),
    }
    if dataset.conflict_resolution == ConflictResolution::Custom
        && let Some(open) = dataset.collections.iter().find(|c| dataset.rule_of(c).is_none())
    {
        let text =
            format!("`{}` has no rule; expected `custom: {{ rule: … }}`, see `driftless rules --help`", open.name);
        let path = format!("{}.custom", dataset.lines.path);
        sink.report(Code::ConfigInvalid, dataset.lines.of("conflict-resolution"), &path, text);
    }
    if dataset.on_local_edit == OnLocalEdit::Restore && dataset.direction == Direction::OneWay {
        refuse("on-local-edit", "`on-local-edit: restore`", "use `park`");
    }
}
