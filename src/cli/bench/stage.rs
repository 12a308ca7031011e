//! Where a measurement plays: its folder, its tables, its log under a prefix of its own, the
//! configuration of the node, and a look into the log as any consumer has it.

use super::Servers;
use super::application::Application;
use super::product::Node;
use crate::cli::Program;
use crate::config::Config;
use crate::event::{Record, Validity};
use crate::node::dataset;
use crate::node::log::Opened;
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::error::{Code, Error, Result};
use crate::topic::owner::Folded;
use crate::topic::{Log, Partition};
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

/// How long anything may take, in milliseconds.
const WITHIN_MS: u64 = 600_000;
/// Partitions of each topic.
pub(super) const PARTITIONS: u32 = 6;

/// The records `begin` leaves, all of one key.
pub(super) const BEGUN: u64 = 2;
/// A change of that key: when it has arrived, everything written before it has.
pub(super) const MARKER: &str = "update driftless_bench.w1 set i4 = coalesce(i4, 0) + 1 where id = 0";

/// Nobody listens there: a destination that is yet to come.
pub(super) const NOWHERE: &str = "postgres://nobody@127.0.0.1:1/nowhere";

/// The stage.
pub(super) struct Stage<'a> {
    /// Where to measure.
    pub(super) servers: &'a Servers,
    program: Program<'a>,
    /// The folder of this measurement.
    pub(super) folder: PathBuf,
    prefix: String,
    /// The application on the source.
    pub(super) source: Application,
    /// The application on the destination.
    destination: Option<Application>,
}

/// What a node is to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted<'a> {
    /// The tables; each is a dataset of its own.
    pub(super) tables: &'a [&'a str],
    /// Where the destination is.
    pub(super) destination: &'a str,
    /// Whether only the source may write.
    pub(super) one_way: bool,
    /// More lines for each dataset.
    pub(super) more: &'a str,
}

/// What the dataset topic holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Held {
    /// Canonical versions that count.
    pub(super) versions: u64,
    /// Keys among them.
    pub(super) keys: u64,
}

impl<'a> Stage<'a> {
    /// Empty tables, an empty folder.
    pub(super) async fn make(servers: &'a Servers, program: Program<'a>) -> Result<Self> {
        let number = SystemClock.fresh_id() & 0xffff_ffff;
        let parent = servers.dir.clone().unwrap_or_else(std::env::temp_dir);
        let folder = parent.join(format!("driftless-bench-{number:08x}"));
        std::fs::create_dir_all(&folder).map_err(|error| {
            Error::new(Code::Unexpected, "the folder of the measurement cannot be made").caused_by(error)
        })?;
        let source = Application::connect(&servers.source).await?;
        source.tables().await?;
        let destination = match &servers.destination {
            None => None,
            Some(url) => {
                let destination = Application::connect(url).await?;
                destination.tables().await?;
                Some(destination)
            }
        };
        Ok(Stage { servers, program, folder, prefix: format!("bench-{number:08x}"), source, destination })
    }

    /// How many rows.
    pub(super) fn rows(&self) -> u64 {
        self.servers.thousands * 1000
    }

    /// The application on the destination.
    pub(super) fn destination(&self) -> Result<&Application> {
        self.destination.as_ref().ok_or_else(|| {
            Error::new(Code::ConfigMissing, "this measurement needs a second database; name it with --destination")
        })
    }

    /// Starts a node.
    pub(super) fn start(&self, wanted: Wanted<'_>) -> Result<Node> {
        Node::start(&self.folder, &self.configuration(wanted)?)
    }

    fn configuration(&self, wanted: Wanted<'_>) -> Result<PathBuf> {
        let log = match &self.servers.kafka {
            None => "type: embedded".into(),
            Some(brokers) => format!("type: kafka\n  brokers: '{brokers}'"),
        };
        let platform = |name: &str, url: &str| {
            format!("  {name}:\n    type: postgres\n    url: '{url}'\n    ledger-schema: driftless_bench_ledger\n")
        };
        let mut text = format!(
            "data-dir: '{}'\nmemory-mb: {}\nhttp: {{ listen: '127.0.0.1:0' }}\nlog:\n  {log}\n  prefix: {}\nplatforms:\n{}{}datasets:\n",
            self.folder.display(),
            self.servers.memory_mb,
            self.prefix,
            platform("a", &self.servers.source),
            platform("b", wanted.destination),
        );
        for table in wanted.tables {
            text.push_str(&format!(
                "  - name: bench-{table}\n    source: a\n    destinations: [b]\n    partitions: {PARTITIONS}\n    \
                 direction: {}\n    batch-size: 1000\n{}    collections:\n      - name: {table}\n        on:\n          \
                 a: {{ table: driftless_bench.{table} }}\n          b: {{ table: driftless_bench.{table} }}\n",
                if wanted.one_way { "one-way" } else { "both-ways" },
                wanted.more,
            ));
        }
        let path = self.folder.join("driftless.yaml");
        std::fs::write(&path, text).map_err(|error| {
            Error::new(Code::Unexpected, "the configuration of the measurement cannot be written").caused_by(error)
        })?;
        Ok(path)
    }

    /// The log, opened from outside, and the partitions of the dataset topic.
    async fn log(&self) -> Result<(Opened, Vec<Partition>)> {
        let path = self.folder.join("driftless.yaml").display().to_string();
        let config = Config::load(&[path], self.program.connectors, self.program.policy, self.program.around)?;
        let opened = Opened::open(&config.log, Arc::new(SystemClock)).await?;
        let dataset = config.datasets.first().map(|d| dataset::topics(&opened.prefix, d)).unwrap_or_default();
        let topics = dataset.first().cloned();
        Ok((opened, topics.iter().flat_map(|t| (0..t.partitions).map(|index| t.dataset(index))).collect()))
    }

    /// Starts a node and waits until it reads the source's changes: what is written from now on is read
    /// as changes, and not as a first copy. A change is published only behind the checkpoint that says so.
    pub(super) async fn begin(&self, wanted: Wanted<'_>) -> Result<Node> {
        let mut node = self.start(wanted)?;
        self.source.run("insert into driftless_bench.w1 (id) values (0)").await?;
        self.holds(&mut node, 1).await?;
        self.source.run(MARKER).await?;
        self.holds(&mut node, BEGUN).await?;
        Ok(node)
    }

    /// Waits until the dataset topic holds that many records, and returns when that was seen.
    pub(super) async fn holds(&self, node: &mut Node, records: u64) -> Result<u64> {
        // Kafka tells anybody; the embedded log is the node's alone.
        let log = match &self.servers.kafka {
            Some(_) => Some(self.log().await?),
            None => None,
        };
        let begun_ms = SystemClock.now_ms();
        loop {
            let found = match &log {
                Some((log, partitions)) => {
                    let mut sum = 0;
                    for at in partitions {
                        // The topics are made by the node.
                        sum += log.raw.bounds(at).await.map_or(0, |bounds| bounds.high);
                    }
                    sum
                }
                None => node.records(&format!("{}.bench-w1", self.prefix)).await,
            };
            let now_ms = SystemClock.now_ms();
            if found >= records {
                return Ok(now_ms);
            }
            node.must_live()?;
            if now_ms > begun_ms + WITHIN_MS {
                let text = format!("the dataset topic holds {found} of {records} records and no more came");
                return Err(Error::new(Code::Unexpected, text));
            }
            SystemClock.sleep_until(now_ms + 50).await;
        }
    }

    /// Reads the dataset topic from its beginning, as protocol readers do. The node must be down.
    pub(super) async fn held(&self) -> Result<Held> {
        let (log, partitions) = self.log().await?;
        let mut held = Held::default();
        for at in &partitions {
            let high = log.coded.bounds(at).await?.high;
            let mut keys = HashSet::new();
            let mut folded = Folded::open(&log.coded, at, 0, Validity::default()).await?;
            let count = |delivered: &crate::topic::Delivered<crate::topic::Typed>| {
                if let Some(Record::Canonical(version)) = delivered.payload.as_deref() {
                    held.versions += 1;
                    keys.insert(version.key.clone());
                }
            };
            folded.read_to(high, count).await?;
            held.keys += keys.len() as u64;
        }
        Ok(held)
    }

    /// Takes everything away; what cannot be is left, the next measurement does not mind.
    pub(super) async fn clear(self) {
        if self.servers.kafka.is_some()
            && let Ok((log, _)) = self.log().await
            && let Ok(topics) = log.raw.topics().await
        {
            for spec in topics.iter().filter(|spec| spec.topic.starts_with(&self.prefix)) {
                drop(log.raw.remove(&spec.topic).await);
            }
        }
        drop(self.source.clean().await);
        if let Some(destination) = &self.destination {
            drop(destination.clean().await);
        }
        drop(std::fs::remove_dir_all(&self.folder));
    }
}
