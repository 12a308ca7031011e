//! The product in a process of its own: what it costs is read from the system, how far it is from its
//! own status. It is killed when dropped.

use crate::runtime::error::{Code, Error, Result};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Clock ticks per second in /proc: fixed for programs.
const TICKS: f64 = 100.0;

/// A running node.
pub(super) struct Node {
    child: Child,
    address: String,
    client: reqwest::Client,
    log: String,
}

/// What it has cost so far.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub(super) struct Cost {
    /// Seconds of CPU, user and system.
    pub(super) cpu_s: f64,
    /// Resident memory now, in MiB.
    pub(super) rss_mib: f64,
    /// The most it ever was, in MiB.
    pub(super) peak_mib: f64,
}

impl Node {
    /// Starts this very program with a configuration, and returns when it says that it runs.
    pub(super) fn start(folder: &Path, config: &Path) -> Result<Node> {
        let failed = |error| Error::new(Code::Unexpected, "the node to measure cannot be started").caused_by(error);
        let path = folder.join("node.log");
        let log = File::options().create(true).append(true).open(&path).map_err(failed)?;
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        command.arg("--log").arg("warn").arg("run").arg("--config").arg(config);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().map_err(failed)?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line).map_err(failed)?;
        }
        let address = line.split_once("http://").and_then(|(_, rest)| rest.split_once('/')).map(|(a, _)| a.to_owned());
        let mut node = Node {
            child,
            address: address.clone().unwrap_or_default(),
            client: reqwest::Client::builder().no_proxy().build().unwrap_or_default(),
            log: path.display().to_string(),
        };
        node.must_live()?;
        if address.is_none() {
            return Err(Error::new(Code::Unexpected, format!("the node did not say where it answers: {line}")));
        }
        Ok(node)
    }

    /// Fails if it has ended.
    pub(super) fn must_live(&mut self) -> Result<()> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            ended => {
                let log = std::fs::read_to_string(&self.log).unwrap_or_default();
                let from = log.char_indices().rev().nth(2000).map_or(0, |(at, _)| at);
                let text =
                    format!("the node to measure has ended ({ended:?}): {}", log.get(from..).unwrap_or_default());
                Err(Error::new(Code::Unexpected, text))
            }
        }
    }

    /// The number of its process.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has cost so far.
    pub(super) fn cost(&self) -> Cost {
        let read = |what: &str| std::fs::read_to_string(format!("/proc/{}/{what}", self.pid())).unwrap_or_default();
        let stat = read("stat");
        // Behind the name, which stands in brackets: user and system time are the 12th and 13th.
        let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: f64 = after.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum();
        let status = read("status");
        let mib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().next().and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default() / 1024.0
        };
        Cost { cpu_s: ticks / TICKS, rss_mib: mib("VmRSS:"), peak_mib: mib("VmHWM:") }
    }

    async fn ask(&self, path: &str) -> Option<Value> {
        let answer = self.client.get(format!("http://{}{path}", self.address)).send().await.ok()?;
        serde_json::from_slice(&answer.bytes().await.ok()?).ok()
    }

    /// How it is, in its own words; null if it does not answer.
    pub(super) async fn status(&self) -> Value {
        self.ask("/api/v1/status").await.unwrap_or_default()
    }

    /// How many records a topic holds; 0 if it is not there.
    pub(super) async fn records(&self, topic: &str) -> u64 {
        let topics = self.ask("/api/v1/topics").await.unwrap_or_default();
        let found = topics.as_array().into_iter().flatten().find(|t| t["topic"] == topic);
        let ends = found.and_then(|t| t["partitions"].as_array()).into_iter().flatten();
        ends.filter_map(|bounds| bounds[1].as_u64()).sum()
    }

    /// SIGKILL.
    pub(super) fn kill(self) {}
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
