//! The rules of the house as tests (docs/STYLE.md says why). Each complaint says what to do instead.
//! The tables below are the rules; the folder `tests/tidy/` knows how to look.

#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/folders.rs"]
mod folders;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/source.rs"]
mod source;

use driftless::runtime::error::Code;

/// One row of the layer table: a module and what it may import besides itself.
pub(crate) struct Layer {
    /// Its height; a module imports from below only.
    pub(crate) level: u8,
    /// The module; `*` stands for a connector's folder. The longest row that fits holds.
    pub(crate) module: &'static str,
    /// Prefixes of paths inside the crate.
    pub(crate) may: &'static [&'static str],
}

const fn layer(level: u8, module: &'static str, may: &'static [&'static str]) -> Layer {
    Layer { level, module, may }
}

/// What the pure modules may know: data, the ledger's functions, the error type.
const DECIDES: &[&str] = &["event", "ledger", "runtime::error", "topic::claim", "state::view", "guard"];
/// What the stages may know: everything below them, no sibling, no resolver, no connector.
const STAGE: &[&str] = &["runtime", "guard", "event", "ledger", "govern", "topic", "state", "connectors::contract"];
/// What joins the stages.
const PATH: &[&str] = &[
    "runtime",
    "event",
    "ledger",
    "resolve",
    "govern",
    "topic",
    "state",
    "connectors::contract",
    "capture",
    "apply",
    "agent",
    "settle",
    "fused",
    "guard",
    "flow",
    "partition",
];
/// What people touch. `connectors` is the list; the folders behind it are nobody's.
const OUTSIDE: &[&str] = &[
    "runtime",
    "event",
    "ledger",
    "resolve",
    "govern",
    "topic",
    "state",
    "connectors",
    "wrap",
    "capture",
    "apply",
    "agent",
    "settle",
    "fused",
    "guard",
    "flow",
    "partition",
    "control",
    "config",
    "node",
];

/// What a reader makes of a transaction, and of a truncate in it: pure.
const FOLD: &[&str] = &[
    "event",
    "ledger",
    "runtime::error",
    "connectors::contract",
    "state::view",
    "guard",
    "capture::fold",
    "capture::truncate",
    "capture::image",
    "capture::view",
];

pub(crate) const LAYERS: &[Layer] = &[
    layer(0, "runtime", &[]),
    layer(1, "event", &["runtime"]),
    layer(2, "resolve", DECIDES),
    layer(2, "ledger", DECIDES),
    layer(2, "govern", &["event", "runtime::error"]),
    layer(2, "topic::claim", DECIDES),
    layer(2, "state::view", &["event"]),
    layer(2, "capture::fold", FOLD),
    layer(2, "capture::truncate", FOLD),
    layer(2, "capture::view", &["event"]),
    layer(2, "capture::image", &["event", "connectors::contract", "guard", "capture::view"]),
    layer(2, "apply::decide", &["event", "ledger", "runtime::error", "connectors::contract", "guard"]),
    layer(2, "apply::dirty", &["event", "ledger", "runtime::error", "connectors::contract", "guard"]),
    layer(2, "agent::step", &["event", "ledger", "runtime::error", "connectors::contract", "guard"]),
    layer(2, "topic", &["runtime", "guard", "event"]),
    layer(3, "state", &["runtime", "event", "topic"]),
    layer(4, "connectors", &["runtime", "event"]),
    layer(
        4,
        "connectors::contract",
        &[
            "runtime",
            "event",
            "ledger",
            "state",
            "connectors::abilities",
            "connectors::told",
            "connectors::exclusive",
            "connectors::place",
        ],
    ),
    layer(4, "connectors::conformance", &["runtime", "event", "ledger", "connectors::contract"]),
    layer(4, "connectors::*", &["runtime", "event", "connectors::contract"]),
    layer(4, "wrap", &["runtime", "event", "connectors::contract"]),
    layer(5, "capture", STAGE),
    layer(5, "apply", STAGE),
    layer(5, "agent", STAGE),
    layer(5, "settle", &["runtime", "guard", "event", "resolve", "topic", "state"]),
    layer(
        5,
        "fused",
        &["runtime", "guard", "event", "resolve", "topic", "connectors::contract", "capture", "settle", "state"],
    ),
    layer(6, "flow", PATH),
    layer(6, "partition", PATH),
    layer(7, "control", OUTSIDE),
    layer(7, "config", OUTSIDE),
    layer(7, "node", OUTSIDE),
    layer(8, "cli", OUTSIDE),
];

/// Modules that decide: no async, no I/O, no clock.
pub(crate) const PURE: &[&str] = &[
    "event",
    "resolve",
    "ledger",
    "govern",
    "topic::claim",
    "state::view",
    "capture::fold",
    "capture::image",
    "apply::decide",
    "apply::dirty",
    "agent::step",
    "fused::lane",
];

/// A crate that may be used in some places only (prefixes of paths).
pub(crate) struct Ban {
    pub(crate) name: &'static str,
    pub(crate) only: &'static [&'static str],
    pub(crate) instead: &'static str,
}

const fn ban(name: &'static str, only: &'static [&'static str], instead: &'static str) -> Ban {
    Ban { name, only, instead }
}

/// The demo and the measurements play the applications that own the data, so they may write to their stores themselves.
const BANS: &[Ban] = &[
    ban("rdkafka", &["src/topic/kafka"], "everybody else sees topic::Log"),
    ban("fjall", &["src/topic/embedded", "src/state/cache"], "everybody else sees topic::Log"),
    ban("rusqlite", &["src/connectors/sqlite/", "src/cli/demo"], "everybody else sees the connector contract"),
    ban("tokio_postgres", &["src/connectors/postgres/", "src/cli/bench"], "everybody else sees the connector contract"),
    ban("postgres_protocol", &["src/connectors/postgres/"], "everybody else sees the connector contract"),
    ban("postgres_types", &["src/connectors/postgres/"], "everybody else sees the connector contract"),
    ban("tokio_postgres_rustls", &["src/connectors/postgres/"], "everybody else sees the connector contract"),
    ban("notify", &["src/connectors/"], "everybody else sees the connector contract"),
    ban("walkdir", &["src/connectors/"], "everybody else sees the connector contract"),
    ban("apache_avro", &["src/event/avro", "src/topic/"], "everybody else sees event::Record"),
    ban("schema_registry_converter", &["src/topic/"], "everybody else sees the codec of the topic"),
    ban("cel", &["src/resolve/custom/"], "rules are asked through resolve::custom"),
    ban("clap", &["src/cli/", "src/cli.rs", "src/main.rs"], "arguments are the command line's own matter"),
    ban("indicatif", &["src/cli/"], "progress bars are the command line's own matter"),
    ban(
        "axum",
        &["src/control/", "src/node/http", "src/runtime/http", "src/runtime/telemetry", "src/cli/"],
        "HTTP is served at the edge only",
    ),
    ban("anyhow", &["src/cli/", "src/main.rs"], "return runtime::error::Error with a code"),
];

/// What a connector folder may hold; each file may be a folder of its name instead.
pub(crate) const CONNECTOR_FILES: &[&str] = &[
    "README.md",
    "mod.rs",
    "config.rs",
    "client.rs",
    "position.rs",
    "reader.rs",
    "snapshot.rs",
    "rows.rs",
    "store.rs",
    "values.rs",
    "failure.rs",
    "tests.rs",
    "testdata",
    "wire",
];

/// Where the name of a connector may stand besides its own folder.
pub(crate) const CONNECTOR_NAMES_ALLOWED: &[&str] = &["src/connectors/mod.rs", "src/cli/demo", "src/cli/bench"];

/// Production lines of a file: everything up to its tests.
pub(crate) const FILE_LINES_MAX: usize = 400;
/// Lines of a function, from `fn` to its brace.
pub(crate) const FUNCTION_LINES_MAX: usize = 60;
/// Files that must be shorter, because they are read first.
pub(crate) const LINES_MAX_BY_FILE: &[(&str, usize)] = &[("src/main.rs", 30), ("src/flow.rs", 250)];

/// A path in backticks that starts so must exist.
pub(crate) const DOCUMENTED_FOLDERS: &[&str] = &[
    "src/",
    "docs/",
    "tests/",
    "configs/",
    "schemas/",
    "scripts/",
    "benches/",
    "fuzz/",
    ".ci/",
    "Cargo.toml",
    "Makefile",
];

/// The families of rule ids (docs/INVARIANTS.md).
pub(crate) const RULE_FAMILIES: &[&str] =
    &["topic", "value", "claim", "who", "read", "sink", "agent", "resolve", "verb"];

/// Hosts that anybody may know.
pub(crate) const HOSTS: &[&str] = &[
    "apache.org",
    "example.com",
    "github.com",
    "rust-lang.org",
    "rustup.rs",
    "keepachangelog.com",
    "semver.org",
    "postgresql.org",
    "sqlite.org",
    "json-schema.org",
    "docs.rs",
    "spdx.org",
    "kernel.org",
];

#[track_caller]
fn none(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "{} complaint(s):\n  {}\n", complaints.len(), complaints.join("\n  "));
}

#[test]
fn modules_import_from_below_only() {
    none(layers::check_imports(&source::repository()));
}

#[test]
fn client_crates_stay_in_their_folders() {
    none(layers::check_bans(&source::repository(), BANS));
}

#[test]
fn what_decides_is_pure() {
    none(layers::check_pure(&source::repository()));
}

#[test]
fn every_source_file_is_reached_by_a_mod_line() {
    none(layers::check_reach(&source::repository()));
}

#[test]
fn connector_folders_look_alike_and_keep_their_promises() {
    none(folders::check_connector_shape(&source::repository()));
}

#[test]
fn nobody_outside_a_connector_s_folder_knows_its_name() {
    none(folders::check_connector_names(&source::repository()));
}

#[test]
fn nothing_is_large_without_an_exception_that_only_shrinks() {
    none(folders::check_sizes(&source::repository(), include_str!("tidy_exceptions.txt")));
}

#[test]
fn every_file_says_what_it_is_for() {
    none(folders::check_heads(&source::repository()));
}

#[test]
fn nothing_pretends_to_be_finished() {
    none(folders::check_unfinished(&source::repository()));
}

#[test]
fn what_is_called_enforced_or_tested_is() {
    none(documents::check_invariants(&source::repository()));
}

#[test]
fn every_error_code_has_a_page() {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    none(documents::check_errors(&source::repository(), &codes));
}

#[test]
fn documents_name_only_what_exists() {
    none(documents::check_paths(&source::repository()));
}

#[test]
fn documents_are_short_and_decisions_numbered() {
    none(documents::check_lengths(&source::repository()));
    none(documents::check_decisions(&source::repository()));
}

#[test]
fn the_makefile_is_a_table_of_contents() {
    none(documents::check_makefile(&source::repository()));
}

#[test]
fn the_repository_speaks_of_itself_alone() {
    none(documents::check_words(&source::repository()));
    none(documents::check_lock(&source::repository()));
}
