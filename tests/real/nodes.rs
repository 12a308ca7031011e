//! Two nodes on one Kafka (claim-8, claim-9): they share the partitions; one that is killed, or stopped,
//! leaves its part to the other; and nothing that was written meanwhile is lost.

use super::process::{Configured, Process, is_settled, typed};
use super::{World, settle};
use driftless::runtime::clock::{Clock, SystemClock};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering::Relaxed;

/// A node of its own on the platforms and the log of a world.
struct Second<'a> {
    world: &'a World,
    folder: tempfile::TempDir,
    config: String,
}

impl Configured for Second<'_> {
    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn config(&self) -> &str {
        &self.config
    }
}

impl<'a> Second<'a> {
    fn of(world: &'a World) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let kept = |line: &&str| !line.starts_with("data-dir:") && !line.starts_with("http:");
        let rest: Vec<&str> = world.config().lines().filter(kept).collect();
        let place = folder.path().canonicalize().unwrap();
        let config = format!(
            "data-dir: {}/node\nhttp: {{ listen: '127.0.0.1:{port}' }}\n{}\n",
            place.display(),
            rest.join("\n")
        );
        Second { world, folder, config }
    }
}

/// Every loop of the dataset runs at exactly one node: 6 resolvers, 2 readers, 12 sinks, 6 agents.
const LOOPS: u64 = 26;

/// How many loops a node leaves to others.
fn elsewhere(node: &impl Configured) -> u64 {
    typed(node, "status").1["datasets"]["notes"]["elsewhere"].as_u64().unwrap_or(0)
}

/// Waits until both nodes have work.
fn share(world: &World, second: &Second<'_>) {
    world.until("both nodes have a part", || {
        let (one, two) = (elsewhere(world), elsewhere(second));
        one > 0 && two > 0 && one + two == LOOPS
    });
}

fn since(begun_ms: u64) -> u64 {
    SystemClock.now_ms() - begun_ms
}

/// SIGTERM; returns when the process has ended by itself.
fn stop(mut node: Process) {
    let pid = node.0.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert!(node.0.wait().unwrap().success(), "a clean stop ends well");
}

fn take_turns(world: &World) -> Process {
    let second = Second::of(world);
    let one = Process::start(world);
    let two = Process::start(&second);
    share(world, &second);
    world.flows("writes flow with both nodes");

    let begun_ms = SystemClock.now_ms();
    one.kill();
    second.world.until("the second node has everything", || elsewhere(&second) == 0);
    world.flows("writes flow after the first node was killed");
    println!("all writes flow again {} ms after a node was killed", since(begun_ms));

    let begun_ms = SystemClock.now_ms();
    let one = Process::start(world);
    share(world, &second);
    println!("shared again {} ms after the first node's start", since(begun_ms));
    world.flows("writes flow with both nodes again");

    let begun_ms = SystemClock.now_ms();
    stop(two);
    println!("a clean stop took {} ms", since(begun_ms));
    world.until("the first node has everything", || elsewhere(world) == 0);
    world.flows("writes flow after the second node was stopped");
    println!("all writes flow again {} ms after a node was told to stop", since(begun_ms));

    let begun_ms = SystemClock.now_ms();
    one.kill();
    let one = Process::start(world);
    world.flows("writes flow after the only node was killed and started again");
    println!("all writes flow {} ms after the only node was killed and started again", since(begun_ms));
    one
}

/// claim-9: assigned, live, draining, lost.
#[test]
fn two_nodes_share_the_work_and_each_takes_over_what_the_other_leaves() {
    let world = World::new();
    let node = std::thread::scope(|scope| {
        let writers = [world.left.writer("left", 8, 1000, 25), world.right.writer("right", 8, 2000, 25)];
        let files = scope.spawn(|| world.files.write(8, 3000, 10));
        let node = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| take_turns(&world)));
        world.files.stop.store(true, Relaxed);
        files.join().unwrap();
        writers.into_iter().for_each(super::postgres::Writer::stop);
        node.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let stopped_ms = SystemClock.now_ms();
    world.until("all hold the same", || world.same() && is_settled(&world) && world.same());
    settle(&world, 2, stopped_ms);
    drop(node);
}
