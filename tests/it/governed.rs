//! The policy is asked at load, when a dataset begins, and before each write; and what the node tells
//! of its work: targets of log lines, bytes, exit codes.

use super::process::{Configured as _, Process, program, typed, until, written};
use super::world::{Given, World};
use driftless::config::{Config, Connectors};
use driftless::connectors;
use driftless::govern::{AllowAll, Labels, Policy, Reason};
use driftless::node::Node;
use driftless::node::board::{State, Work};
use driftless::runtime::clock::SystemClock;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Forbids everything while it is on.
#[derive(Default)]
struct Switch(AtomicBool);

impl Policy for Switch {
    fn judge(&self, _: &Labels, _: &Labels) -> Result<(), Reason> {
        match self.0.load(Relaxed) {
            true => Err(Reason { rule: "closed", text: "nothing may flow now".into() }),
            false => Ok(()),
        }
    }
}

fn switch(on: bool) -> &'static Switch {
    Box::leak(Box::new(Switch(AtomicBool::new(on))))
}

#[test]
fn a_flow_that_the_policy_forbids_is_refused_when_the_configuration_is_loaded() {
    let world = World::new("");
    let connectors = Connectors { compiled: connectors::ALL, known: connectors::KNOWN };
    let load = |policy: &dyn Policy| Config::load(&["c.yaml".into()], connectors, policy, &Given(world.config.clone()));
    let refused = load(switch(true)).unwrap_err().to_string();
    assert!(refused.contains("closed") && refused.contains("nothing may flow now"), "{refused}");
    assert!(load(&AllowAll).is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_the_policy_forbids_does_not_begin_and_writes_nothing() {
    let world = World::new("");
    world.put("a", 1, "stays here");
    let node = Node::start(Arc::new(world.loaded()), switch(true), Arc::new(SystemClock)).await.unwrap();
    let node = world.running(node);
    let report = node.says("the refusal", |report| !report.datasets["notes"].troubles.is_empty()).await;
    let trouble = &report.datasets["notes"].troubles[0];
    let State::Halted(why) = &trouble.state else { panic!("{report:#?}") };
    assert_eq!((trouble.work, why.code), (Work::Prepare, "flow_forbidden"));
    assert!(world.rows("b").is_empty() && world.files().is_empty());
    node.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_is_forbidden_while_it_runs_is_refused_before_the_next_write() {
    let world = World::new("");
    let policy = switch(false);
    let node = Node::start(Arc::new(world.loaded()), policy, Arc::new(SystemClock)).await.unwrap();
    let node = world.running(node);
    world.put("a", 1, "allowed");
    node.all_hold(&[(1, "allowed")]).await;
    policy.0.store(true, Relaxed);
    world.put("a", 1, "forbidden");
    let forbidden = |platform: &str, report: &driftless::node::board::Report| {
        let troubles = &report.datasets["notes"].troubles;
        troubles
            .iter()
            .any(|t| *t.platform == *platform && matches!(&t.state, State::Halted(why) if why.code == "flow_forbidden"))
    };
    node.says("both stop", |report| forbidden("b", report) && forbidden("files", report)).await;
    assert_eq!((&world.rows("b")[&1], &world.files()[&1]), (&"allowed".into(), &"allowed".into()));
    node.node.stop().await;
}

/// Each line says what it is about, so that each kind can be filtered by itself.
#[test]
fn log_lines_of_all_four_targets_are_json_with_their_fields() {
    let world = World::new("");
    let log = fs::File::create(world.path("lines.log")).unwrap();
    let mut run = program();
    run.args(["run", "--log-format", "json", "--log", "info,error=debug", "--config"]).arg(written(&world));
    let mut child = run.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    world.put("a", 1, "first");
    until("all hold it", || world.all().iter().all(|rows| rows.contains_key(&1)));
    world.put_both(1, "of a", "of b");
    until("the conflict is listed", || typed(&world, "conflicts list").1.as_array().is_some_and(|all| all.len() == 1));
    world.db("b").execute_batch("DROP TABLE notes").unwrap();
    world.put("a", 2, "it cannot go to b");
    let lines = || -> Vec<Value> {
        let text = fs::read_to_string(world.path("lines.log")).unwrap();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    let of = |target: &str| lines().into_iter().filter(|line| line["target"] == target).collect::<Vec<_>>();
    until("an error is told", || !of("error").is_empty());
    rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let targets: BTreeSet<String> = lines().iter().filter_map(|l| l["target"].as_str().map(Into::into)).collect();
    for target in ["sync", "conflict", "error", "performance"] {
        assert!(targets.contains(target), "{target}: {targets:?}");
    }
    assert_eq!(of("conflict")[0]["rule"], "last-write-wins");
    let moved: Vec<Value> = of("performance").into_iter().filter(|line| line["platform"] == "a").collect();
    assert!(moved[0]["captured_bytes"].as_u64() > Some(0), "{moved:#?}");
}

/// 0 done, 1 tried and failed, 2 the command or the configuration is wrong, 3 the surroundings are.
#[test]
fn verbs_end_with_the_number_that_scripts_expect() {
    let world = World::new("");
    let cases = [
        ("validate --ready", 0),
        ("topics", 0),
        ("dead list", 0),
        ("dead list --dataset nobody", 2),
        ("dead show 00", 2),
        ("status", 3),
        ("pause notes", 3),
        ("pause nobody", 2),
        ("parked list", 3),
        ("deletes list", 3),
        ("dead retry 00", 3),
        ("remove --dataset nobody", 2),
    ];
    for (words, expected) in cases {
        let (exit, answer) = typed(&world, words);
        assert_eq!(exit, expected, "{words}: {answer:#}");
    }
    world.db("b").execute_batch("DROP TABLE notes").unwrap();
    assert_eq!(typed(&world, "doctor").0, 1);
    let node = Process::start(&world);
    until("the trouble is told", || typed(&world, "status").0 == 1);
    node.kill();
    assert!(world.folder().exists());
}
