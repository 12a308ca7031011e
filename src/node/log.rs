//! Opens the log a configuration names, with the codec over it.

use super::identity::Identity;
use crate::config::{self, LogPlace};
use crate::runtime::clock::Clock;
use crate::runtime::error::{Code, Error, Result};
use crate::topic::codec::Coded;
use crate::topic::embedded::EmbeddedLog;
use crate::topic::registry::{LogSchemas, Schemas};
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
    /// Keeps the node's name for as long as the log is open.
    _identity: Option<Arc<Identity>>,
}

impl Opened {
    /// A log that is open already.
    #[must_use]
    pub fn of(raw: Arc<dyn Log<Raw>>, coded: Coded, prefix: &str) -> Opened {
        Opened { raw, coded, prefix: prefix.into(), _identity: None }
    }

    /// Opens the log of a configuration.
    ///
    /// # Errors
    /// `log_locked` if another process has the embedded log open; otherwise as the log has them.
    pub async fn open(config: &config::Log, clock: Arc<dyn Clock>) -> Result<Opened> {
        Self::open_as(config, clock, None).await
    }

    /// Opens it as the node that has this name.
    ///
    /// # Errors
    /// As `open`.
    pub async fn open_as(config: &config::Log, clock: Arc<dyn Clock>, identity: Option<Identity>) -> Result<Opened> {
        let raw = match &config.place {
            LogPlace::Embedded { path } => embedded(path.clone(), clock.clone()).await?,
            LogPlace::Kafka { brokers, .. } => kafka(config, brokers, clock.clone(), identity.as_ref()).await?,
        };
        let schemas: Arc<dyn Schemas> = match config.place.registry() {
            Some(url) => registry(url)?,
            None => Arc::new(LogSchemas::open(raw.clone(), clock, &config.prefix).await?),
        };
        Ok(Opened {
            coded: Coded::new(raw.clone(), schemas),
            raw,
            prefix: config.prefix.as_str().into(),
            _identity: identity.map(Arc::new),
        })
    }
}

/// Whether the schema registry of a configuration answers and lets us in; without one all is well.
///
/// # Errors
/// `registry_unreachable` or `registry_refused`, with what to do.
#[cfg(feature = "kafka")]
pub async fn check_registry(config: &config::Log) -> Result<()> {
    match config.place.registry() {
        Some(url) => crate::topic::confluent::RegistrySchemas::new(url)?.check().await,
        None => Ok(()),
    }
}

/// Whether the schema registry of a configuration answers: there is none without Kafka.
///
/// # Errors
/// None.
#[cfg(not(feature = "kafka"))]
pub async fn check_registry(_: &config::Log) -> Result<()> {
    Ok(())
}

#[cfg(feature = "kafka")]
fn registry(url: &str) -> Result<Arc<dyn Schemas>> {
    Ok(Arc::new(crate::topic::confluent::RegistrySchemas::new(url)?))
}

#[cfg(not(feature = "kafka"))]
fn registry(_: &str) -> Result<Arc<dyn Schemas>> {
    Err(Error::new(Code::ConfigUnsupported, "schema registries were not compiled in; build with `--features kafka`"))
}

async fn embedded(path: PathBuf, clock: Arc<dyn Clock>) -> Result<Arc<dyn Log<Raw>>> {
    let opening = tokio::task::spawn_blocking(move || EmbeddedLog::open(&path, clock));
    let opened = opening
        .await
        .map_err(|error| Error::new(Code::Unexpected, "opening the embedded log was cut off").caused_by(error))?;
    Ok(Arc::new(opened?))
}

#[cfg(feature = "kafka")]
async fn kafka(
    config: &config::Log,
    brokers: &str,
    clock: Arc<dyn Clock>,
    identity: Option<&Identity>,
) -> Result<Arc<dyn Log<Raw>>> {
    use crate::topic::kafka::{KafkaLog, KafkaSettings};
    let settings = KafkaSettings {
        brokers: brokers.into(),
        prefix: config.prefix.clone(),
        compression: config.compression,
        librdkafka: config.place.librdkafka(),
        instance: identity.map(|identity| identity.name.clone()),
    };
    Ok(Arc::new(KafkaLog::open(settings, clock).await?))
}

#[cfg(not(feature = "kafka"))]
async fn kafka(_: &config::Log, _: &str, _: Arc<dyn Clock>, _: Option<&Identity>) -> Result<Arc<dyn Log<Raw>>> {
    Err(Error::new(Code::ConfigUnsupported, "the log `kafka` was not compiled in; build with `--features kafka`"))
}
