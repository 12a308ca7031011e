//! The configurations every run goes through, in turn.

use super::chaos::{Config, Kind};
use super::hint_store::Variant;
use super::workload::Policy;

const LOG: Kind = Kind::Log;
const EXCLUSIVE: Kind = Kind::Exclusive;
const UNIQUE: Kind = Kind::Hint(Variant::Unique);
const CONTENT: Kind = Kind::Hint(Variant::Content { versions: true });
const S3: Kind = Kind::Hint(Variant::Content { versions: false });
const FILES: Kind = Kind::Hint(Variant::Files);

const BASE: Config = Config {
    name: "3 log",
    platforms: &[LOG, LOG, LOG],
    partitions: 1,
    keys: 2,
    policy: Policy::Set,
    custom: None,
    operations: 14,
    faults: 3,
    fault_weight: 12,
    log_gap: 0,
    truncates: 0,
    write_weight: 15,
    alters: 0,
    reviews: 0,
    skew_ms: 0,
    strict: true,
    sequential: false,
    fused: false,
    stops: true,
    quiet_ms: 300_000,
    steps_max: 40_000,
};

/// One platform writes, and its reader settles (resolve-9).
const ALONE: Config = Config { name: "fused: log, unique", platforms: &[LOG, LOG, UNIQUE], fused: true, ..BASE };

/// The names of the configurations in which one platform writes.
#[cfg(feature = "mutants")]
pub(crate) const FUSED: &[&str] = &[
    ALONE.name,
    "fused: log, files, register",
    "fused: log, content, 2 partitions",
    "fused: hot key",
    "fused: heavy faults",
    "fused: truncates",
];
/// Large groups, cut short again and again.
const GROUPS: Config = Config {
    name: "2 log, truncates, heavy faults",
    platforms: &[LOG, LOG],
    keys: 8,
    operations: 30,
    truncates: 120,
    faults: 12,
    fault_weight: 60,
    stops: false,
    ..BASE
};

/// Local edits in quick succession on few keys, many of them deletions: what a sink finds is ahead of what
/// the reader has told, and looks like something older (sink-4).
const STORM: Config = Config {
    name: "2 log, storm",
    platforms: &[LOG, LOG],
    policy: Policy::Register,
    keys: 2,
    operations: 60,
    truncates: 120,
    faults: 2,
    write_weight: 30,
    stops: false,
    ..BASE
};

/// All configurations.
pub(crate) const CONFIGS: &[Config] = &[
    BASE,
    Config { name: "3 log, register", policy: Policy::Register, skew_ms: 200, ..BASE },
    Config { name: "3 log, 2 partitions", partitions: 2, keys: 4, ..BASE },
    Config { name: "3 log, hot key", keys: 1, operations: 24, ..BASE },
    Config { name: "3 log, unlogged edits", log_gap: 100, ..BASE },
    Config { name: "3 log, truncates", truncates: 150, keys: 4, ..BASE },
    Config { name: "3 log, truncates, 2 partitions", truncates: 150, partitions: 2, keys: 8, operations: 20, ..BASE },
    Config { name: "log, unique, truncates", platforms: &[LOG, UNIQUE], truncates: 150, keys: 4, ..BASE },
    Config { name: "2 log, truncates, register", platforms: &[LOG, LOG], policy: Policy::Register, ..GROUPS },
    GROUPS,
    STORM,
    Config { name: "3 log, reviews", reviews: 400, ..BASE },
    // What it looks at of earlier conflicts is found again by whoever takes over (resolve-12).
    Config {
        name: "3 log, custom rule",
        custom: Some("size(conflicts) > 1 && conflicts[0].version > conflicts[1].version ? merged : review(merged)"),
        keys: 1,
        reviews: 100,
        ..BASE
    },
    Config {
        name: "2 log, files, reviews, register",
        platforms: &[LOG, LOG, FILES],
        policy: Policy::Register,
        reviews: 400,
        ..BASE
    },
    Config { name: "3 log, changing tables", alters: 300, ..BASE },
    Config {
        name: "2 log, changing tables, register",
        platforms: &[LOG, LOG],
        policy: Policy::Register,
        alters: 300,
        ..BASE
    },
    Config { name: "2 log, unique", platforms: &[LOG, LOG, UNIQUE], ..BASE },
    Config { name: "2 log, unique, register", platforms: &[LOG, LOG, UNIQUE], policy: Policy::Register, ..BASE },
    Config { name: "2 log, exclusive", platforms: &[LOG, LOG, EXCLUSIVE], ..BASE },
    Config {
        name: "2 log, exclusive, 2 partitions",
        platforms: &[LOG, LOG, EXCLUSIVE],
        partitions: 2,
        keys: 4,
        ..BASE
    },
    Config { name: "log, content", platforms: &[LOG, CONTENT], ..BASE },
    Config { name: "log, content without versions", platforms: &[LOG, S3], ..BASE },
    Config { name: "log, files, unique", platforms: &[LOG, FILES, UNIQUE], ..BASE },
    Config {
        name: "log, files, unique, 2 partitions",
        platforms: &[LOG, FILES, UNIQUE],
        partitions: 2,
        keys: 4,
        ..BASE
    },
    Config { name: "3 files", platforms: &[FILES, FILES, FILES], ..BASE },
    Config { name: "3 files, register", platforms: &[FILES, FILES, FILES], policy: Policy::Register, ..BASE },
    Config { name: "3 unique", platforms: &[UNIQUE, UNIQUE, UNIQUE], ..BASE },
    Config {
        name: "log, files, unique, heavy faults",
        platforms: &[LOG, FILES, UNIQUE],
        faults: 12,
        fault_weight: 40,
        ..BASE
    },
    Config {
        name: "in sequence, changing tables",
        platforms: &[LOG, LOG],
        alters: 600,
        faults: 0,
        sequential: true,
        ..BASE
    },
    Config { name: "in sequence", platforms: &[LOG, FILES, UNIQUE], faults: 0, sequential: true, ..BASE },
    Config {
        name: "in sequence, register",
        platforms: &[LOG, LOG, CONTENT],
        policy: Policy::Register,
        faults: 0,
        sequential: true,
        ..BASE
    },
    ALONE,
    Config {
        name: "fused: log, files, register",
        platforms: &[LOG, LOG, FILES],
        policy: Policy::Register,
        skew_ms: 200,
        ..ALONE
    },
    Config {
        name: "fused: log, content, 2 partitions",
        platforms: &[LOG, LOG, CONTENT],
        partitions: 2,
        keys: 4,
        ..ALONE
    },
    Config { name: "fused: hot key", keys: 1, operations: 24, ..ALONE },
    Config { name: "fused: heavy faults", faults: 12, fault_weight: 40, ..ALONE },
    Config { name: "fused: truncates", keys: 6, operations: 30, truncates: 120, ..ALONE },
    Config { name: "fused: in sequence", faults: 0, sequential: true, ..ALONE },
    Config { name: "in sequence, truncates", keys: 4, truncates: 150, faults: 0, sequential: true, ..BASE },
];
