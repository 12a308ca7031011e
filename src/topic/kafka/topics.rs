//! Topics: created with settings under which nothing needed is deleted (topic-3, topic-6), compared
//! with what exists, listed, removed. Settings of existing topics are never changed from here: the
//! error names the command that does.

use super::{Code, Error, KafkaLog, MESSAGE_BYTES_MAX, REQUEST, Result, failed, refused};
use crate::runtime::error::Remedy;
use crate::topic::{Cleanup, Compression, Log, Partition, TopicSpec};
use futures_util::future::try_join_all;
use rdkafka::admin::{AdminOptions, ConfigEntry, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::RDKafkaErrorCode;
use std::sync::Arc;

/// Replicas of a topic, where there are as many brokers.
const REPLICAS: usize = 3;
/// How long a change of topics may take to be known, in milliseconds.
const KNOWN_WITHIN_MS: u64 = 15_000;
/// How long creating a topic is tried while the brokers are busy or start, in milliseconds.
const CREATED_WITHIN_MS: u64 = 30_000;
/// How many topics are described by one request.
const DESCRIBED_MAX: usize = 200;
/// The level brokers compress with unless told; older ones know no setting for it.
const ZSTD_LEVEL: i32 = 3;

/// What the metadata tell of a topic.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) partitions: u32,
    replicas: usize,
    /// Whether each partition has a leader.
    led: bool,
}

/// A setting of a topic and what it must be.
struct Wanted {
    name: &'static str,
    value: String,
    /// Whether more is fine too.
    at_least: bool,
}

fn wanted(spec: &TopicSpec, replicas: usize) -> Vec<Wanted> {
    let cleanup = if spec.cleanup == Cleanup::Compact { "compact" } else { "delete" };
    let (codec, level) = match spec.compression {
        Compression::None => ("uncompressed", None),
        Compression::Lz4 => ("lz4", None),
        Compression::Zstd(level) => ("zstd", Some(level).filter(|l| *l != ZSTD_LEVEL)),
    };
    let exact = |name, value: &str| Wanted { name, value: value.into(), at_least: false };
    let mut all = vec![
        exact("cleanup.policy", cleanup),
        // topic-3: nothing is deleted by time or size.
        exact("retention.ms", "-1"),
        exact("retention.bytes", "-1"),
        exact("message.timestamp.type", "LogAppendTime"),
        exact("unclean.leader.election.enable", "false"),
        exact("compression.type", codec),
        Wanted { name: "max.message.bytes", value: MESSAGE_BYTES_MAX.to_string(), at_least: true },
    ];
    let in_sync = if replicas >= REPLICAS { "2" } else { "1" };
    all.push(Wanted { name: "min.insync.replicas", value: in_sync.into(), at_least: true });
    all.extend(level.map(|level| exact("compression.zstd.level", &level.to_string())));
    all
}

impl Wanted {
    /// A setting the broker does not know cannot be wrong.
    fn is_met(&self, found: &ConfigResource) -> bool {
        let Some(ConfigEntry { value: Some(value), .. }) = found.get(self.name) else { return true };
        let number = |text: &str| text.parse::<i64>().unwrap_or(i64::MIN);
        *value == self.value || (self.at_least && number(value) >= number(&self.value))
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST)).operation_timeout(Some(REQUEST))
}

impl KafkaLog {
    /// What exists under a name. Blocks.
    pub(super) fn shape(&self, topic: &str) -> Result<Option<Shape>> {
        let failed = |e| failed("the metadata of a topic are not known", e).at("topic", topic);
        let metadata = self.0.queries.fetch_metadata(Some(topic), REQUEST).map_err(failed)?;
        let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else { return Ok(None) };
        match found.error().map(RDKafkaErrorCode::from) {
            None | Some(RDKafkaErrorCode::LeaderNotAvailable) => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => return Ok(None),
            Some(code) => return Err(refused("the metadata of a topic are not known", code).at("topic", topic)),
        }
        let partitions = found.partitions();
        Ok(Some(Shape {
            partitions: u32::try_from(partitions.len()).unwrap_or(u32::MAX),
            replicas: partitions.iter().map(|p| p.replicas().len()).min().unwrap_or(0),
            led: partitions.iter().all(|p| p.leader() >= 0),
        }))
    }

    /// Brokers that just start answer before they can take a topic: tries for a while.
    pub(super) async fn create_topic(&self, spec: &TopicSpec) -> Result<()> {
        let until_ms = self.0.clock.now_ms() + CREATED_WITHIN_MS;
        loop {
            match self.create_once(spec).await {
                Err(error) if error.code == Code::LogUnreachable && self.0.clock.now_ms() < until_ms => {
                    tracing::debug!(%error, "a topic is not created yet");
                    self.pause(200).await;
                }
                other => return other,
            }
        }
    }

    /// log-*: a broker that deletes earlier than was agreed is found before it does.
    pub(super) async fn check_topic(&self, spec: &TopicSpec) -> Result<()> {
        let topic = spec.topic.clone();
        match self.query(move |log| log.shape(&topic)).await? {
            Some(shape) => self.compare(spec, shape).await,
            None => Ok(()),
        }
    }

    async fn create_once(&self, spec: &TopicSpec) -> Result<()> {
        let topic = spec.topic.clone();
        if let Some(shape) = self.query(move |log| log.shape(&topic)).await? {
            return self.compare(spec, shape).await;
        }
        let replicas = self.query(|log| log.broker_count()).await?.clamp(1, REPLICAS);
        let settings = wanted(spec, replicas);
        let partitions = i32::try_from(spec.partitions).unwrap_or(i32::MAX);
        let replication = TopicReplication::Fixed(i32::try_from(replicas).unwrap_or(1));
        let new = NewTopic::new(&spec.topic, partitions, replication);
        let new = settings.iter().fold(new, |new, setting| new.set(setting.name, &setting.value));
        let doing = "the topic could not be created";
        let failed = |e| self.explain(failed(doing, e).at("topic", &spec.topic));
        let answer = self.0.admin.create_topics([&new], &options()).await.map_err(failed)?;
        match answer.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => {
                let shape = self.known(&spec.topic, |shape| shape.is_some()).await?;
                self.compare(spec, shape.unwrap_or(Shape { partitions: 0, replicas: 0, led: false })).await
            }
            Some(Err((_, code))) => Err(refused(doing, code).at("topic", &spec.topic)),
            _ => {
                let there = move |shape: &Option<Shape>| shape.is_some_and(|s| s.led && s.partitions > 0);
                self.known(&spec.topic, there).await?;
                self.answered(spec).await
            }
        }
    }

    /// Waits until the metadata of a topic are as they should be.
    async fn known(&self, topic: &Arc<str>, is_so: impl Fn(&Option<Shape>) -> bool) -> Result<Option<Shape>> {
        let until_ms = self.0.clock.now_ms() + KNOWN_WITHIN_MS;
        loop {
            let name = topic.clone();
            let shape = self.query(move |log| log.shape(&name)).await?;
            if is_so(&shape) {
                return Ok(shape);
            }
            if self.0.clock.now_ms() > until_ms {
                let text = "the brokers do not know of the change of a topic yet; look at the controller's state";
                return Err(Error::new(Code::LogUnreachable, text).at("topic", topic));
            }
            self.pause(20).await;
        }
    }

    /// Waits until the leader of each partition answers: the metadata name it before it leads.
    async fn answered(&self, spec: &TopicSpec) -> Result<()> {
        let until_ms = self.0.clock.now_ms() + KNOWN_WITHIN_MS;
        let answers = (0..spec.partitions).map(|index| async move {
            let at = Partition { topic: spec.topic.clone(), index };
            while let Err(error) = self.bounds(&at).await {
                if self.0.clock.now_ms() > until_ms || !matches!(error.remedy(), Remedy::Retry { .. }) {
                    return Err(error);
                }
                self.pause(20).await;
            }
            Ok(())
        });
        try_join_all(answers).await.map(|_| ())
    }

    /// Fails with `topic_settings` if a topic is not as it should be.
    async fn compare(&self, spec: &TopicSpec, shape: Shape) -> Result<()> {
        let topic = &spec.topic;
        if shape.partitions != spec.partitions {
            let text = format!(
                "the topic has {} partitions, but {} are configured; the number is frozen: configure {0}, or use \
                 another name",
                shape.partitions, spec.partitions
            );
            return Err(Error::new(Code::TopicSettings, text).at("topic", topic));
        }
        let Some(found) = self.describe(std::slice::from_ref(topic)).await?.pop() else {
            return Err(Error::new(Code::TopicMissing, "the topic has no settings to compare").at("topic", topic));
        };
        let wanted = wanted(spec, shape.replicas);
        let wrong: Vec<_> = wanted.iter().filter(|w| !w.is_met(&found)).collect();
        if wrong.is_empty() {
            return Ok(());
        }
        let join = |parts: Vec<String>, by| parts.join(by);
        let is = |w: &Wanted| found.get(w.name).and_then(|e| e.value.clone()).unwrap_or_default();
        let text = format!(
            "the topic exists with other settings: {}; repair it: kafka-configs.sh --bootstrap-server {} --alter \
             --entity-type topics --entity-name {topic} --add-config {}",
            join(wrong.iter().map(|w| format!("{} is {}, expected {}", w.name, is(w), w.value)).collect(), ", "),
            self.0.settings.brokers,
            join(wrong.iter().map(|w| format!("{}={}", w.name, w.value)).collect(), ","),
        );
        Err(Error::new(Code::TopicSettings, text).at("topic", topic))
    }

    /// The settings of topics, in their order; those that vanished meanwhile are left out.
    async fn describe(&self, topics: &[Arc<str>]) -> Result<Vec<ConfigResource>> {
        let doing = "the settings of topics are not known";
        let mut all = Vec::with_capacity(topics.len());
        for some in topics.chunks(DESCRIBED_MAX) {
            let asked: Vec<_> = some.iter().map(|t| ResourceSpecifier::Topic(t)).collect();
            let answer = self.0.admin.describe_configs(&asked, &options()).await;
            for found in answer.map_err(|e| self.explain(failed(doing, e)))? {
                match found {
                    Ok(found) => all.push(found),
                    Err(RDKafkaErrorCode::UnknownTopicOrPartition) => {}
                    Err(code) => return Err(refused(doing, code)),
                }
            }
        }
        Ok(all)
    }

    pub(super) async fn list_topics(&self) -> Result<Vec<TopicSpec>> {
        let mut shapes = self
            .query(|log| {
                let failed = |e| failed("the topics are not known", e);
                let metadata = log.0.queries.fetch_metadata(None, REQUEST).map_err(failed)?;
                let ours = |name: &str| name.starts_with(&*log.0.settings.prefix) && !is_internal(name);
                let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
                let all = metadata.topics().iter().filter(|t| t.error().is_none() && ours(t.name()));
                Ok(all.map(|t| (Arc::<str>::from(t.name()), count(t.partitions().len()))).collect::<Vec<_>>())
            })
            .await?;
        shapes.sort();
        let names: Vec<_> = shapes.iter().map(|(name, _)| name.clone()).collect();
        let mut specs = Vec::with_capacity(shapes.len());
        for found in self.describe(&names).await? {
            let rdkafka::admin::OwnedResourceSpecifier::Topic(name) = &found.specifier else { continue };
            if let Some((topic, partitions)) = shapes.iter().find(|(topic, _)| **topic == **name) {
                let (topic, partitions) = (topic.clone(), *partitions);
                specs.push(TopicSpec { topic, partitions, cleanup: cleanup(&found), compression: compression(&found) });
            }
        }
        Ok(specs)
    }

    pub(super) async fn remove_topic(&self, topic: &str) -> Result<()> {
        let doing = "the topic could not be removed";
        let failed = |e| self.explain(failed(doing, e).at("topic", topic));
        let answer = self.0.admin.delete_topics(&[topic], &options()).await.map_err(failed)?;
        self.0.known.lock().remove(topic);
        match answer.into_iter().next() {
            Some(Err((_, RDKafkaErrorCode::UnknownTopicOrPartition))) => return Ok(()),
            Some(Err((_, code))) => return Err(refused(doing, code).at("topic", topic)),
            _ => {}
        }
        self.known(&topic.into(), Option::is_none).await.map(|_| ())
    }
}

/// Topics of the brokers themselves.
fn is_internal(name: &str) -> bool {
    ["__consumer_offsets", "__transaction_state", "__share_group_state", "__cluster_metadata"].contains(&name)
}

fn text<'a>(found: &'a ConfigResource, name: &str) -> &'a str {
    found.get(name).and_then(|entry| entry.value.as_deref()).unwrap_or_default()
}

fn cleanup(found: &ConfigResource) -> Cleanup {
    if text(found, "cleanup.policy").contains("compact") { Cleanup::Compact } else { Cleanup::Keep }
}

/// Codecs we do not use, of topics of others, count as none.
fn compression(found: &ConfigResource) -> Compression {
    match text(found, "compression.type") {
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd(text(found, "compression.zstd.level").parse().unwrap_or(ZSTD_LEVEL)),
        _ => Compression::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rdkafka::admin::{ConfigSource, OwnedResourceSpecifier};

    fn found(entries: &[(&str, &str)]) -> ConfigResource {
        let entry = |(name, value): &(&str, &str)| ConfigEntry {
            name: (*name).into(),
            value: Some((*value).into()),
            source: ConfigSource::DynamicTopic,
            is_read_only: false,
            is_default: false,
            is_sensitive: false,
        };
        let specifier = OwnedResourceSpecifier::Topic("t".into());
        ConfigResource { specifier, entries: entries.iter().map(entry).collect() }
    }

    fn spec(compression: Compression) -> TopicSpec {
        TopicSpec { topic: "t".into(), partitions: 1, cleanup: Cleanup::Keep, compression }
    }

    /// topic-6
    #[test]
    fn three_brokers_mean_that_two_must_have_a_message() {
        let value = |replicas| {
            let all = wanted(&spec(Compression::Lz4), replicas);
            all.into_iter().find(|w| w.name == "min.insync.replicas").map(|w| w.value)
        };
        assert_eq!(value(3).as_deref(), Some("2"));
        assert_eq!(value(1).as_deref(), Some("1"));
    }

    #[test]
    fn limits_may_be_higher_but_not_lower_than_wanted() {
        let all = wanted(&spec(Compression::Zstd(9)), 3);
        let wrong = |entries: &[(&str, &str)]| -> Vec<&str> {
            all.iter().filter(|w| !w.is_met(&found(entries))).map(|w| w.name).collect()
        };
        assert!(wrong(&[("max.message.bytes", "99999999"), ("min.insync.replicas", "3"), ("other", "x")]).is_empty());
        assert_eq!(wrong(&[("max.message.bytes", "1048588")]), ["max.message.bytes"]);
        assert_eq!(
            wrong(&[("min.insync.replicas", "1"), ("retention.ms", "1")]),
            ["retention.ms", "min.insync.replicas"]
        );
        assert_eq!(wrong(&[("compression.zstd.level", "3")]), ["compression.zstd.level"]);
        assert_eq!(wrong(&[("cleanup.policy", "compact,delete")]), ["cleanup.policy"]);
    }
}
