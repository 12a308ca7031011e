//! The program in a process of its own, and what can be asked of it by typing.

use driftless::runtime::clock::{Clock, SystemClock};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Something that a node can be configured for.
pub(crate) trait Configured {
    /// Where the configuration and the node's log messages are put.
    fn folder(&self) -> &Path;
    /// The configuration of a dataset `notes`.
    fn config(&self) -> &str;
}

/// The program.
pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_driftless"))
}

/// The file its configuration stands in.
pub(crate) fn written(world: &impl Configured) -> PathBuf {
    let path = world.folder().join("driftless.yaml");
    fs::write(&path, world.config()).unwrap();
    path
}

/// What the node has logged, all its starts.
pub(crate) fn logged(world: &impl Configured) -> String {
    fs::read_to_string(world.folder().join("node.log")).unwrap_or_default()
}

/// A node in a process of its own; it is killed when dropped.
pub(crate) struct Process(pub Child);

impl Process {
    /// Starts a node and waits until it says that it runs.
    pub(crate) fn start(world: &impl Configured) -> Process {
        Process::start_with(world, &[])
    }

    /// Starts a node with more in its environment.
    pub(crate) fn start_with(world: &impl Configured, environment: &[(&str, &str)]) -> Process {
        let log = fs::File::options().create(true).append(true).open(world.folder().join("node.log")).unwrap();
        let mut run = program();
        run.args(["run", "--config"]).arg(written(world)).stdout(Stdio::piped()).stderr(log);
        run.envs(environment.iter().copied());
        let mut child = run.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("running: notes"), "{line}{}", logged(world));
        Process(child)
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Types a command about a world, and returns its JSON answer.
pub(crate) fn typed(world: &impl Configured, words: &str) -> (i32, Value) {
    let Output { status, stdout, stderr } =
        program().args(words.split(' ')).arg("--json").arg("--config").arg(written(world)).output().unwrap();
    let answer = serde_json::from_slice(&stdout).unwrap_or_else(|e| {
        panic!("{words}: {e}: {}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
    });
    (status.code().unwrap(), answer)
}

/// Waits a minute for a condition.
pub(crate) fn until(what: &str, there: impl FnMut() -> bool) {
    assert!(comes_true(60_000, there), "{what}: not within a minute");
}

/// Whether a condition comes true within that time.
pub(crate) fn comes_true(within_ms: u64, mut there: impl FnMut() -> bool) -> bool {
    let begun_ms = SystemClock.now_ms();
    while !there() {
        if SystemClock.now_ms() > begun_ms + within_ms {
            return false;
        }
        // Asking costs the machine that what is waited for needs too.
        std::thread::sleep(Duration::from_millis(2));
    }
    true
}

/// Whether a node says that everything is settled and applied everywhere.
pub(crate) fn is_settled(world: &impl Configured) -> bool {
    let (exit, status) = typed(world, "status");
    let notes = &status["datasets"]["notes"];
    let platforms = notes["platforms"].as_object();
    exit == 0
        && notes["unsettled"] == 0
        && platforms.is_some_and(|p| p.values().all(|p| p["lag_events"] == 0 && p["counts"]["held"] == 0))
}
