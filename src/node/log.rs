//! Opens the log a configuration names, with the codec over it.

use crate::config::{self, LogPlace};
use crate::runtime::clock::Clock;
use crate::runtime::error::{Code, Error, Result};
use crate::topic::codec::Coded;
use crate::topic::embedded::EmbeddedLog;
use crate::topic::registry::LogSchemas;
use crate::topic::{Log, Raw};
use std::sync::Arc;

/// An open log: its bytes, and its records.
#[derive(Clone)]
pub struct Opened {
    /// The bytes.
    pub raw: Arc<dyn Log<Raw>>,
    /// The records in them.
    pub coded: Coded,
    /// What all topic names begin with.
    pub prefix: Arc<str>,
}

impl Opened {
    /// Opens the log of a configuration.
    ///
    /// # Errors
    /// `log_locked` if another process has the embedded log open; otherwise as the log has them.
    pub async fn open(config: &config::Log, clock: Arc<dyn Clock>) -> Result<Opened> {
        let path = match &config.place {
            LogPlace::Embedded { path } => path.clone(),
            LogPlace::Kafka { .. } => {
                let text = "the log `kafka` cannot be run by this version yet; use `log: { type: embedded }`";
                return Err(Error::new(Code::ConfigUnsupported, text));
            }
        };
        let of_log = clock.clone();
        let opening = tokio::task::spawn_blocking(move || EmbeddedLog::open(&path, of_log));
        let log = opening.await.map_err(|error| {
            Error::new(Code::Unexpected, "opening the embedded log was cut off").caused_by(error)
        })??;
        let raw: Arc<dyn Log<Raw>> = Arc::new(log);
        let schemas = LogSchemas::open(raw.clone(), clock, &config.prefix).await?;
        Ok(Opened { coded: Coded::new(raw.clone(), Arc::new(schemas)), raw, prefix: config.prefix.as_str().into() })
    }
}
