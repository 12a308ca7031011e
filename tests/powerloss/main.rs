//! The embedded log against loss of power (protocol.md §11). Its process runs over a file layer that
//! knows what was not synced, is killed at a random moment, and what was not synced is taken back, with
//! the last block torn. Everything that was acknowledged must be there afterwards, in order and dense.
//!
//! The process is this test program itself: `child` does nothing unless it is told where to write.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![expect(clippy::disallowed_methods, reason = "the test talks to its own child process")]

mod layer;
mod platforms;

use bytes::Bytes;
use driftless::runtime::clock::SystemClock;
use driftless::runtime::error::{Code, Result};
use driftless::topic::embedded::EmbeddedLog;
use driftless::topic::suite;
use driftless::topic::{Cleanup, Committed, Compression, Log, Message, Partition, Raw, TopicSpec};
use layer::{Cut, Layer, Random};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

const PARTITIONS: u32 = 3;

fn open(dir: &Path) -> Result<EmbeddedLog> {
    EmbeddedLog::open(dir, Arc::new(SystemClock))
}

fn spec() -> TopicSpec {
    TopicSpec { topic: "t".into(), partitions: PARTITIONS, cleanup: Cleanup::Keep, compression: Compression::None }
}

fn at(index: u32) -> Partition {
    Partition::new("t", index)
}

/// The message at an offset: what it must be follows from where it stands.
fn message(index: u32, offset: u64) -> Message<Raw> {
    let mut random = Random(offset << 8 | u64::from(index));
    let len = [20, 200, 3000, 60_000][random.below(4) as usize];
    let payload = (0..len).map(|_| random.below(256) as u8).collect();
    Message { key: Bytes::from(format!("{index}:{offset}")), payload: Some(payload) }
}

/// What the child said is durable.
#[derive(Default)]
struct Acknowledged {
    high: [u64; PARTITIONS as usize],
    committed: u64,
    low: u64,
}

fn say(line: &str) {
    let mut out = std::io::stdout();
    out.write_all(format!("\n@ {line}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

/// Appends without end, several batches on their way at once, and says what was acknowledged.
async fn append_for_ever(dir: &Path) {
    let log = open(dir).unwrap();
    log.create(&spec()).await.unwrap();
    let member = log.join("g", &["t".into()]).await.unwrap();
    let session = log.session().await.unwrap();
    let mut next = Vec::new();
    for index in 0..PARTITIONS {
        next.push(log.bounds(&at(index)).await.unwrap().high);
    }
    let mut random = Random(next.iter().sum());
    loop {
        let mut given = Vec::new();
        for _ in 0..=random.below(8) {
            let index = random.below(PARTITIONS.into()) as u32;
            let from = next[index as usize];
            let to = from + 1 + random.below(10);
            next[index as usize] = to;
            given.push((index, session.append(&at(index), (from..to).map(|o| message(index, o)).collect())));
        }
        for (index, appended) in given {
            match appended.await {
                Ok(offsets) => say(&format!("high {index} {}", offsets.last().unwrap() + 1)),
                Err(error) => {
                    say(&format!("failed {}", error.code.as_str()));
                    return after_failure(&log).await;
                }
            }
        }
        if random.below(10) == 0 {
            let committed = Committed { offset: next[0], metadata: Bytes::from_static(b"link") };
            member.commit(&at(0), committed).await.unwrap();
            say(&format!("committed 0 {}", next[0]));
        }
        if random.below(30) == 0 {
            let low = next[1] / 2;
            log.delete_below(&at(1), low).await.unwrap();
            say(&format!("low 1 {low}"));
        }
    }
}

/// A log that could not write refuses further writes and still reads.
async fn after_failure(log: &EmbeddedLog) {
    let session = log.session().await.unwrap();
    let error = session.append(&at(0), vec![message(0, 0)]).await.unwrap_err();
    say(&format!("failed {}", error.code.as_str()));
    let high = log.bounds(&at(0)).await.unwrap().high;
    let mut reading = log.read(&at(0), 0).await.unwrap();
    while reading.offset() < high {
        for got in reading.next(1000).await.unwrap() {
            assert_eq!(got.payload, message(0, got.offset).payload);
        }
    }
    say(&format!("read 0 {high}"));
    std::process::exit(0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    if let Ok(dir) = std::env::var("POWERLOSS_APPEND") {
        append_for_ever(Path::new(&dir)).await;
    }
    if let Ok(root) = std::env::var("POWERLOSS_SUITE") {
        let root = std::path::PathBuf::from(root);
        suite::durable(Box::new(move || {
            let layer = Layer::of_this_process(&root);
            Layer::paused(|| layer.cut(Cut::Nothing, &mut Random(7)));
            Box::pin(async move { Arc::new(open(&layer.dir).unwrap()) as suite::Subject })
        }))
        .await;
        say("done 0 0");
    }
}

fn start(environment: Vec<(&'static str, std::ffi::OsString)>) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .envs(environment)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Listens to the child until it ends; kills it after `lines` acknowledgements.
fn listen(child: &mut Child, lines: u64, known: &mut Acknowledged) -> Vec<String> {
    let mut other = Vec::new();
    let mut heard = 0;
    let out = BufReader::new(child.stdout.take().unwrap());
    for line in out.lines().map_while(std::io::Result::ok) {
        let Some(line) = line.strip_prefix("@ ") else { continue };
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["high", index, high] => known.high[index.parse::<usize>().unwrap()] = high.parse().unwrap(),
            ["committed", _, offset] => known.committed = offset.parse().unwrap(),
            ["low", _, low] => known.low = low.parse().unwrap(),
            _ => other.push(line.to_string()),
        }
        heard += 1;
        if heard == lines {
            // SIGKILL; what it says until it is dead counts as well.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    other
}

/// Everything acknowledged is there, in order and dense.
async fn verify(dir: &Path, known: &Acknowledged) {
    let log = open(dir).unwrap();
    let topics = log.topics().await.unwrap();
    if known.high.iter().all(|h| *h == 0) && topics.is_empty() {
        return;
    }
    assert_eq!(topics, [spec()]);
    let member = log.join("g", &["t".into()]).await.unwrap();
    let committed = member.committed(&at(0)).await.unwrap().map_or(0, |c| c.offset);
    assert!(committed >= known.committed, "the group committed {} and has {committed}", known.committed);
    for index in 0..PARTITIONS {
        let bounds = log.bounds(&at(index)).await.unwrap();
        let high = known.high[index as usize];
        assert!(
            bounds.high >= high,
            "{high} messages of partition {index} were acknowledged, {} are there",
            bounds.high
        );
        assert!(bounds.low >= if index == 1 { known.low } else { 0 });
        let mut reading = log.read(&at(index), bounds.low).await.unwrap();
        let mut expected = bounds.low;
        while expected < bounds.high {
            for got in reading.next(1000).await.unwrap() {
                assert_eq!(got.offset, expected);
                let Message { key, payload } = message(index, expected);
                assert!(got.key == key && got.payload == payload, "partition {index} offset {expected}");
                expected += 1;
            }
        }
    }
}

#[tokio::test]
async fn acknowledged_messages_survive_power_cuts() {
    let root = tempfile::tempdir().unwrap();
    let layer = Layer::build(root.path());
    let mut known = Acknowledged::default();
    let mut random = Random(3);
    let mut taken_back = 0;
    for round in 0..12 {
        let cut = [Cut::Torn, Cut::Nothing, Cut::AnyPages][round % 3];
        // Early ends hit the creation; late ones hit tables being written and journals being changed.
        let lines = if round < 3 { 1 + random.below(5) } else { 50 + random.below(500) };
        let mut environment = layer.environment();
        environment.push(("POWERLOSS_APPEND", layer.dir.clone().into()));
        listen(&mut start(environment), lines, &mut known);
        taken_back += layer.cut(cut, &mut random);
        verify(&layer.dir, &known).await;
    }
    assert!(known.high.iter().sum::<u64>() > 1000, "{:?}", known.high);
    assert!(taken_back > 0, "no kill found anything that was not synced");
}

#[tokio::test]
async fn acknowledged_messages_survive_kills() {
    let dir = tempfile::tempdir().unwrap();
    let mut known = Acknowledged::default();
    let mut random = Random(5);
    for _ in 0..5 {
        let environment = vec![("POWERLOSS_APPEND", dir.path().into())];
        listen(&mut start(environment), 1 + random.below(400), &mut known);
        verify(dir.path(), &known).await;
    }
}

/// The contract's durable part, with the power cut at each reopening.
#[test]
fn the_contract_holds_over_power_cuts() {
    let root = tempfile::tempdir().unwrap();
    let layer = Layer::build(root.path());
    std::fs::write(root.path().join("trace"), b"").unwrap();
    let mut environment = layer.environment();
    environment.push(("POWERLOSS_SUITE", root.path().into()));
    let said = listen(&mut start(environment), 0, &mut Acknowledged::default());
    assert_eq!(said, ["done 0 0"]);
}

/// A full disk stops the writes, says so, and loses nothing; with space again the log goes on.
#[tokio::test]
async fn a_full_disk_refuses_writes_and_still_reads() {
    let root = tempfile::tempdir().unwrap();
    let layer = Layer::build(root.path());
    let mut known = Acknowledged::default();
    let mut environment = layer.environment();
    environment.push(("POWERLOSS_APPEND", layer.dir.clone().into()));
    environment.push(("POWERLOSS_FULL", "6000000".into()));
    let said = listen(&mut start(environment.clone()), 0, &mut known);
    let full = format!("failed {}", Code::DiskFull.as_str());
    assert_eq!(said[..2], [full.clone(), full]);
    assert!(said[2].starts_with("read 0 "), "{said:?}");
    verify(&layer.dir, &known).await;
    environment.pop();
    let before = known.high;
    listen(&mut start(environment), 100, &mut known);
    verify(&layer.dir, &known).await;
    assert!(known.high.iter().sum::<u64>() > before.iter().sum::<u64>());
}
