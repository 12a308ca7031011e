//! Opens the log a configuration names, with the codec over it.

use crate::config::{self, LogPlace};
use crate::runtime::clock::Clock;
use crate::runtime::error::{Code, Error, Result};
use crate::topic::codec::Coded;
use crate::topic::embedded::EmbeddedLog;
use crate::topic::registry::LogSchemas;
use crate::topic::{Log, Raw};
use std::path::PathBuf;
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
        let raw = match &config.place {
            LogPlace::Embedded { path } => embedded(path.clone(), clock.clone()).await?,
            LogPlace::Kafka { registry: Some(_), .. } => {
                let text = "`log.registry` does not exist in this version yet; without it the schemas lie in the log";
                return Err(Error::new(Code::ConfigUnsupported, text));
            }
            LogPlace::Kafka { brokers, .. } => kafka(config, brokers, clock.clone()).await?,
        };
        let schemas = LogSchemas::open(raw.clone(), clock, &config.prefix).await?;
        Ok(Opened { coded: Coded::new(raw.clone(), Arc::new(schemas)), raw, prefix: config.prefix.as_str().into() })
    }
}

async fn embedded(path: PathBuf, clock: Arc<dyn Clock>) -> Result<Arc<dyn Log<Raw>>> {
    let opening = tokio::task::spawn_blocking(move || EmbeddedLog::open(&path, clock));
    let opened = opening
        .await
        .map_err(|error| Error::new(Code::Unexpected, "opening the embedded log was cut off").caused_by(error))?;
    Ok(Arc::new(opened?))
}

#[cfg(feature = "kafka")]
async fn kafka(config: &config::Log, brokers: &str, clock: Arc<dyn Clock>) -> Result<Arc<dyn Log<Raw>>> {
    use crate::topic::kafka::{KafkaLog, KafkaSettings};
    let settings = KafkaSettings {
        brokers: brokers.into(),
        prefix: config.prefix.clone(),
        compression: config.compression,
        librdkafka: config.place.librdkafka(),
    };
    Ok(Arc::new(KafkaLog::open(settings, clock).await?))
}

#[cfg(not(feature = "kafka"))]
async fn kafka(_: &config::Log, _: &str, _: Arc<dyn Clock>) -> Result<Arc<dyn Log<Raw>>> {
    Err(Error::new(Code::ConfigUnsupported, "the log `kafka` was not compiled in; build with `--features kafka`"))
}
