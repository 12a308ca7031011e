//! The settings of a SQLite platform and of a collection on it. Checks what can be checked without
//! touching the file.

use crate::runtime::error::{Code, Error, Result};
use serde::Deserialize;
use std::path::PathBuf;

/// How long a write waits for the application's own write transaction, in milliseconds.
const BUSY_TIMEOUT_MS: u32 = 1000;
/// Longer waits would hide an application that never commits.
const BUSY_TIMEOUT_MS_MAX: u32 = 60_000;

/// A platform of type `sqlite`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Settings {
    /// The database file.
    pub(super) path: PathBuf,
    /// How long to wait for the file's write lock, in milliseconds.
    #[serde(default = "busy_timeout_ms")]
    pub(super) busy_timeout_ms: u32,
}

fn busy_timeout_ms() -> u32 {
    BUSY_TIMEOUT_MS
}

impl Settings {
    /// Reads and checks the settings of `platform`.
    pub(super) fn checked(settings: serde_json::Value, platform: &str) -> Result<Self> {
        let invalid = |text: String| Error::new(Code::ConfigInvalid, text).at("platform", platform);
        let settings: Settings = serde_json::from_value(settings).map_err(|e| {
            invalid("the settings of a sqlite platform are not understood; expected: path, busy-timeout-ms".into())
                .caused_by(e)
        })?;
        if settings.path.as_os_str().is_empty() || settings.path.as_os_str() == ":memory:" {
            return Err(invalid("path must name a database file; a database in memory cannot be shared".into()));
        }
        if !(1..=BUSY_TIMEOUT_MS_MAX).contains(&settings.busy_timeout_ms) {
            return Err(invalid(format!("busy-timeout-ms must be from 1 to {BUSY_TIMEOUT_MS_MAX}")));
        }
        Ok(settings)
    }
}

/// Where a collection lies (`on:`).
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct On {
    /// The table; by default the collection's name with `_` for `-`.
    pub(super) table: Option<String>,
}

/// The table of the collection called `name`.
pub(super) fn table_of(name: &str, on: &serde_json::Value) -> Result<String> {
    let on = match on {
        serde_json::Value::Null => On::default(),
        on => serde_json::from_value(on.clone()).map_err(|e| {
            Error::new(Code::ConfigInvalid, "on: must be { table: <name> } for a sqlite platform")
                .at("collection", name)
                .caused_by(e)
        })?,
    };
    let table = on.table.unwrap_or_else(|| name.replace('-', "_"));
    let own = table.to_ascii_lowercase();
    if table.is_empty() || own.starts_with("_driftless_") || own.starts_with("sqlite_") {
        let text =
            format!("table {table:?} cannot be synchronised: the name is empty or belongs to driftless or SQLite");
        return Err(Error::new(Code::ConfigInvalid, text).at("collection", name));
    }
    Ok(table)
}
