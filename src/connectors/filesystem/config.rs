//! What a user says about a directory and about where a collection lies in it. Checks form only;
//! whether the directory is fit is found out by `check` and `open`.

use crate::runtime::error::{Code, Error, Result};
use serde::Deserialize;
use std::path::PathBuf;

/// The settings of a `filesystem` platform.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Settings {
    root: PathBuf,
    #[serde(default = "file_bytes_max")]
    file_bytes_max: u64,
    #[serde(default = "quiet_ms")]
    quiet_ms: u64,
    #[serde(default = "grace_ms")]
    grace_ms: u64,
}

fn file_bytes_max() -> u64 {
    64 << 20
}

fn quiet_ms() -> u64 {
    200
}

fn grace_ms() -> u64 {
    60_000
}

/// Checked settings.
#[derive(Clone, Debug)]
pub(super) struct Config {
    /// The directory.
    pub(super) root: PathBuf,
    /// A larger file is not read: it is reported and left alone. Bytes.
    pub(super) file_bytes_max: u64,
    /// How long a file must not have changed before it counts (agent-6).
    pub(super) quiet_ms: u64,
    /// How long a replaced file is kept, for writers that still have it open.
    pub(super) grace_ms: u64,
}

impl Config {
    /// Checks the settings of `platform`.
    pub(super) fn checked(settings: serde_json::Value, platform: &str) -> Result<Config> {
        let wrong = |text: String| Error::new(Code::ConfigInvalid, text).at("platform", platform);
        let settings: Settings = serde_json::from_value(settings).map_err(|e| wrong(format!("filesystem: {e}")))?;
        if !settings.root.is_absolute() {
            return Err(wrong(format!("root: expected an absolute path, found {:?}", settings.root)));
        }
        if settings.quiet_ms < 200 {
            return Err(wrong("quiet-ms: expected at least 200".into())); // agent-6
        }
        if settings.file_bytes_max == 0 {
            return Err(wrong("file-bytes-max: expected at least 1".into()));
        }
        let Settings { root, file_bytes_max, quiet_ms, grace_ms } = settings;
        Ok(Config { root, file_bytes_max, quiet_ms, grace_ms })
    }
}

/// What a file's content is.
#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Format {
    /// An object whose members are the row's fields.
    #[default]
    Json,
    /// The one field besides the key, as it is.
    Bytes,
}

/// Where a collection lies: its `on:`.
#[derive(Deserialize, Clone, Debug, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct On {
    path: Option<String>,
    #[serde(default)]
    pub(super) format: Format,
}

impl On {
    /// Checks the form of an `on:`; nothing said means the defaults.
    pub(super) fn parse(on: &serde_json::Value) -> std::result::Result<On, String> {
        if on.is_null() {
            return Ok(On::default());
        }
        serde_json::from_value(on.clone()).map_err(|e| format!("on: {e}"))
    }

    /// The path template of a collection.
    pub(super) fn path_of(&self, collection: &str) -> String {
        let ending = if self.format == Format::Json { ".json" } else { "" };
        self.path.clone().unwrap_or_else(|| format!("{collection}/{{key}}{ending}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_that_cannot_work_are_refused_with_the_field() {
        for (settings, field) in [
            (json!({}), "root"),
            (json!({"root": "here"}), "root"),
            (json!({"root": "/x", "colour": 1}), "colour"),
            (json!({"root": "/x", "quiet-ms": 10}), "quiet-ms"),
            (json!({"root": "/x", "file-bytes-max": "a"}), "expected u64"),
        ] {
            let text = Config::checked(settings, "p").unwrap_err().to_string();
            assert!(text.contains(field) && text.contains("platform p"), "{text}");
        }
        assert!(On::parse(&json!({"paths": "x"})).is_err());
    }

    #[test]
    fn an_unsaid_path_comes_from_the_collection() {
        assert_eq!(On::parse(&json!(null)).unwrap().path_of("users"), "users/{key}.json");
        assert_eq!(On::parse(&json!({"format": "bytes"})).unwrap().path_of("users"), "users/{key}");
    }
}
