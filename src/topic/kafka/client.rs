//! What all clients of the cluster share: how they are configured, what they tell, and how an error
//! of librdkafka becomes one of ours. An error never carries the value of a setting: it may be a secret.

use super::KafkaSettings;
use crate::runtime::error::{Code, Error, Result};
use crate::topic::Partition;
use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};
use std::sync::Arc;
use std::time::Duration;

/// How long one request may take.
pub(super) const REQUEST: Duration = Duration::from_secs(10);

/// What suits us better than librdkafka's defaults: reconnect soon, hear of a missing topic soon.
const TUNED: [(&str, &str); 8] = [
    ("client.id", "driftless"),
    // A small request must not wait until the one before it is acknowledged.
    ("socket.nagle.disable", "true"),
    ("socket.keepalive.enable", "true"),
    ("socket.timeout.ms", "10000"),
    ("reconnect.backoff.ms", "50"),
    ("reconnect.backoff.max.ms", "1000"),
    ("topic.metadata.propagation.max.ms", "3000"),
    // How soon a leader that is not known yet is asked for again: readers open faster.
    ("topic.metadata.refresh.fast.interval.ms", "20"),
];

/// The settings of a client: our `tuned` ones, over them the user's, over them what the guarantees
/// rest on.
pub(super) fn config(settings: &KafkaSettings, tuned: &[(&str, &str)], fixed: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in TUNED.iter().chain(tuned) {
        config.set(*name, *value);
    }
    for (name, value) in &settings.librdkafka {
        config.set(name, value);
    }
    for (name, value) in fixed {
        config.set(*name, *value);
    }
    config.set("bootstrap.servers", &settings.brokers);
    // A topic that is missing must be told, not made with the broker's defaults (topic-6).
    config.set("allow.auto.create.topics", "false");
    config.set_log_level(RDKafkaLogLevel::Warning);
    config
}

/// Hears what a client tells of its connections, and keeps the last of it for error texts.
#[derive(Clone, Default)]
pub(super) struct Heard(Arc<Mutex<String>>);

impl Heard {
    /// Adds the last trouble heard to an error.
    pub(super) fn explain(&self, error: Error) -> Error {
        let last = self.0.lock().clone();
        if last.is_empty() || error.code != Code::LogUnreachable { error } else { error.at("last trouble", last) }
    }
}

impl ClientContext for Heard {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "trouble with Kafka");
        reason.clone_into(&mut self.0.lock());
    }

    fn stats_raw(&self, _statistics: &[u8]) {}
}

impl ConsumerContext for Heard {}

/// Turns an error of librdkafka into ours; `doing` says what did not succeed.
pub(super) fn failed(doing: &str, error: KafkaError) -> Error {
    match error {
        KafkaError::ClientConfig(_, _, key, _) => {
            let text = format!("{doing}: librdkafka refuses the value of `{key}`; correct it under `log.settings`");
            Error::new(Code::ConfigInvalid, text)
        }
        KafkaError::ClientCreation(text) => Error::new(Code::ConfigInvalid, doing).caused_by(text),
        other => match other.rdkafka_error_code() {
            Some(code) => refused(doing, code).caused_by(other),
            None => Error::new(Code::LogFailed, doing).caused_by(other),
        },
    }
}

/// Turns an error code of the cluster or of librdkafka into an error of ours.
pub(super) fn refused(doing: &str, code: RDKafkaErrorCode) -> Error {
    use RDKafkaErrorCode as K;
    if is_transient(code) {
        return Error::new(Code::LogUnreachable, format!("{doing}: {code}; is the cluster up and reachable?"));
    }
    let (ours, advice) = match code {
        K::UnknownTopic | K::UnknownPartition | K::UnknownTopicOrPartition | K::UnknownTopicId => {
            (Code::TopicMissing, "the topic or partition does not exist")
        }
        K::TopicAuthorizationFailed | K::GroupAuthorizationFailed | K::ClusterAuthorizationFailed => (
            Code::LogFailed,
            "the user of `log.settings` lacks rights; grant them on the topics and groups of the prefix",
        ),
        K::Authentication | K::SaslAuthenticationFailed | K::UnsupportedSASLMechanism | K::SSL => {
            (Code::LogFailed, "the cluster did not accept who we are; check security.protocol, sasl.* and ssl.*")
        }
        K::IllegalGeneration
        | K::UnknownMemberId
        | K::FencedInstanceId
        | K::FencedMemberEpoch
        | K::StaleMemberEpoch => (Code::ClaimLost, "the group has given our partitions to others"),
        K::MessageSizeTooLarge => (Code::ValueTooLarge, "the message is larger than the topic takes"),
        _ => (Code::LogFailed, "the cluster refused"),
    };
    Error::new(ours, format!("{doing}: {advice} ({code})"))
}

/// Whether it passes by itself.
pub(super) fn is_transient(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as K;
    matches!(
        code,
        K::BrokerTransportFailure
            | K::AllBrokersDown
            | K::Resolve
            | K::OperationTimedOut
            | K::RequestTimedOut
            | K::TimedOutQueue
            | K::MessageTimedOut
            | K::NetworkException
            | K::BrokerNotAvailable
            | K::LeaderNotAvailable
            | K::NotLeaderForPartition
            | K::ReplicaNotAvailable
            | K::WaitingForCoordinator
            | K::CoordinatorLoadInProgress
            | K::CoordinatorNotAvailable
            | K::NotCoordinator
            | K::RebalanceInProgress
            | K::FencedLeaderEpoch
            | K::UnknownLeaderEpoch
            | K::KafkaStorageError
            | K::NotController
            // We never ask for more replicas than brokers: some of them are still starting.
            | K::InvalidReplicationFactor
    )
}

/// Runs what would block the thread where blocking is allowed.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let ended = |e| Err(Error::new(Code::Unexpected, "a call to librdkafka ended by a panic").caused_by(e));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(ended)
}

/// A partition's number as Kafka writes it.
pub(super) fn index(at: &Partition) -> i32 {
    i32::try_from(at.index).unwrap_or(i32::MAX)
}

/// An offset as librdkafka writes it.
pub(super) fn raw(offset: u64) -> Offset {
    Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX))
}

/// A list of partitions, each with the offset given.
pub(super) fn list<'a>(all: impl IntoIterator<Item = &'a Partition>, offset: Offset) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for at in all {
        list.add_partition_offset(&at.topic, index(at), offset)
            .map_err(|e| failed("a list of partitions could not be made", e).at("partition", at))?;
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn settings(all: &[(&str, &str)]) -> KafkaSettings {
        let librdkafka: BTreeMap<_, _> = all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        KafkaSettings { brokers: "127.0.0.1:9".into(), librdkafka, ..KafkaSettings::default() }
    }

    #[test]
    fn the_user_overrides_what_is_tuned_but_not_what_the_guarantees_rest_on() {
        let user = settings(&[("linger.ms", "7"), ("acks", "0"), ("bootstrap.servers", "x"), ("sasl.username", "me")]);
        let config = config(&user, &[("linger.ms", "1")], &[("acks", "all")]);
        assert_eq!(config.get("linger.ms"), Some("7"));
        assert_eq!(config.get("acks"), Some("all"));
        assert_eq!(config.get("bootstrap.servers"), Some("127.0.0.1:9"));
        assert_eq!(config.get("sasl.username"), Some("me"));
    }

    #[test]
    fn a_wrong_setting_is_named_without_its_value() {
        let wrong = config(&settings(&[("ssl.engine.id", "x"), ("linger.ms", "my-secret")]), &[], &[]);
        let error = match wrong.create_with_context::<_, rdkafka::producer::BaseProducer<Told>>(Told) {
            Ok(_) => panic!("`linger.ms` is no number"),
            Err(error) => failed("no producer could be made", error),
        };
        assert_eq!(error.code, Code::ConfigInvalid);
        assert!(error.doing.contains("`linger.ms`"), "{error}");
        assert!(!format!("{error:?}").contains("my-secret"), "{error:?}");
    }

    struct Told;
    impl ClientContext for Told {}
    impl rdkafka::producer::ProducerContext for Told {
        type DeliveryOpaque = ();
        fn delivery(&self, _: &rdkafka::producer::DeliveryResult<'_>, (): ()) {}
    }
}
