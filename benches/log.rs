//! The embedded log's figures: 200-byte messages in durable batches of 1 000, reading them, and the
//! latency of single appends. Run it with `cargo bench --bench log`; the directory for the data is the
//! first argument that is no option, else a temporary one.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints its figures and fails by panicking")]

use bytes::Bytes;
use driftless::runtime::clock::SystemClock;
use driftless::topic::embedded::EmbeddedLog;
use driftless::topic::{Cleanup, Compression, Log, Message, Partition, Raw, TopicSpec};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const MESSAGES: usize = 1_000_000;
const BATCH: usize = 1000;
const IN_FLIGHT: usize = 8;
const PARTITIONS: usize = 6;
const SINGLE: usize = 500;

/// 200 bytes that compress about as well as rows do.
fn message(number: usize) -> Message<Raw> {
    let mut text = format!(
        "{{\"id\":{number},\"name\":\"customer {}\",\"balance\":{}.{:02},",
        number * 7919 % 100_003,
        number * 31 % 9973,
        number % 100
    );
    let mut noise = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    while text.len() < 192 {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        text.push_str(&format!("{:x} street ", noise >> 40));
    }
    text.truncate(192);
    Message { key: Bytes::from((number as u64).to_be_bytes().to_vec()), payload: Some(Bytes::from(text)) }
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]
    Instant::now()
}

fn rate(what: &str, count: usize, took: Duration) {
    println!("{what:<44} {:>12.0} messages/s", count as f64 / took.as_secs_f64());
}

async fn append(log: &EmbeddedLog, topic: &Arc<str>, batches: Vec<Vec<Message<Raw>>>) {
    let session = log.session().await.unwrap();
    let mut given = std::collections::VecDeque::new();
    for (n, batch) in batches.into_iter().enumerate() {
        if given.len() == IN_FLIGHT {
            let oldest: driftless::topic::Appending = given.pop_front().unwrap();
            oldest.await.unwrap();
        }
        given.push_back(session.append(&Partition::new(topic.clone(), (n % PARTITIONS) as u32), batch));
    }
    for appended in given {
        appended.await.unwrap();
    }
}

async fn read(log: &EmbeddedLog, topic: &Arc<str>) -> usize {
    let mut count = 0;
    for index in 0..PARTITIONS {
        let at = Partition::new(topic.clone(), index as u32);
        let high = log.bounds(&at).await.unwrap().high;
        let mut reading = log.read(&at, 0).await.unwrap();
        while reading.offset() < high {
            count += reading.next(10_000).await.unwrap().len();
        }
    }
    count
}

async fn run(dir: &Path, name: &str, compression: Compression) {
    let log = EmbeddedLog::open(dir, Arc::new(SystemClock)).unwrap();
    let topic: Arc<str> = name.into();
    let spec = TopicSpec { topic: topic.clone(), partitions: PARTITIONS as u32, cleanup: Cleanup::Keep, compression };
    log.create(&spec).await.unwrap();
    let batches = (0..MESSAGES / BATCH).map(|b| (0..BATCH).map(|n| message(b * BATCH + n)).collect()).collect();
    let start = now();
    append(&log, &topic, batches).await;
    rate(&format!("{name}: append, durable, batches of {BATCH}"), MESSAGES, start.elapsed());
    let start = now();
    assert_eq!(read(&log, &topic).await, MESSAGES);
    rate(&format!("{name}: read"), MESSAGES, start.elapsed());
    drop(log);
    let start = now();
    let log = EmbeddedLog::open(dir, Arc::new(SystemClock)).unwrap();
    println!("{:<44} {:>12.1} ms", format!("{name}: open again"), start.elapsed().as_secs_f64() * 1000.0);
    let start = now();
    assert_eq!(read(&log, &topic).await, MESSAGES);
    rate(&format!("{name}: read after opening"), MESSAGES, start.elapsed());
}

async fn latency(dir: &Path) {
    let log = EmbeddedLog::open(dir, Arc::new(SystemClock)).unwrap();
    let at = Partition::new("single", 0);
    let spec =
        TopicSpec { topic: "single".into(), partitions: 1, cleanup: Cleanup::Keep, compression: Compression::Lz4 };
    log.create(&spec).await.unwrap();
    let session = log.session().await.unwrap();
    let mut reading = log.read(&at, 0).await.unwrap();
    let mut took: Vec<_> = Vec::new();
    for n in 0..SINGLE {
        let start = now();
        let appended = session.append(&at, vec![message(n)]);
        assert_eq!(reading.next(1).await.unwrap().len(), 1);
        took.push(start.elapsed());
        appended.await.unwrap();
    }
    took.sort();
    let file = std::fs::File::create(dir.join("probe")).unwrap();
    let mut syncs: Vec<_> = (0..SINGLE as u64)
        .map(|n| {
            let start = now();
            std::os::unix::fs::FileExt::write_all_at(&file, &[1; 300], n * 300).unwrap();
            file.sync_all().unwrap();
            start.elapsed()
        })
        .collect();
    syncs.sort();
    for (what, times) in [("single append until read", took), ("the disk's own write and sync", syncs)] {
        let (p50, p99) = (times[SINGLE / 2], times[SINGLE * 99 / 100]);
        println!("{what:<44} p50 {p50:?}, p99 {p99:?}");
    }
}

fn main() {
    let given = std::env::args().skip(1).find(|a| !a.starts_with('-')).map(PathBuf::from);
    let temporary = tempfile::tempdir().unwrap();
    let dir = given.unwrap_or_else(|| temporary.path().to_path_buf());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        run(&dir, "lz4", Compression::Lz4).await;
        run(&dir, "none", Compression::None).await;
        run(&dir, "zstd-3", Compression::Zstd(3)).await;
        latency(&dir).await;
    });
}
