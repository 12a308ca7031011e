//! What holds for the embedded log alone; the contract is in `suite`.

use super::*;
use crate::runtime::clock::SystemClock;
use crate::topic::suite;
use crate::topic::{Compression, Delivered};
use bytes::Bytes;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use suite::{append, message, read, spec};

fn open(dir: &Path) -> EmbeddedLog {
    EmbeddedLog::open(dir, Arc::new(SystemClock)).unwrap()
}

fn subject(log: &EmbeddedLog) -> suite::Subject {
    Arc::new(log.clone())
}

fn compact_now(log: &EmbeddedLog) -> suite::CompactNow {
    let log = log.clone();
    Box::new(move |topic| {
        let (log, topic) = (log.clone(), topic.to_string());
        Box::pin(
            async move { tokio::task::spawn_blocking(move || log.compact(&topic, u64::MAX)).await.unwrap().unwrap() },
        )
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    suite::all(subject(&log), compact_now(&log)).await;
    crate::topic::blob_suite::all(subject(&log)).await;
    suite::single_member(&subject(&log)).await;
    suite::removal_is_seen_at_once(&subject(&log)).await;
}

#[tokio::test]
async fn the_contract_holds_on_one_thread() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    suite::all(subject(&log), compact_now(&log)).await;
}

#[tokio::test]
async fn everything_survives_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_path_buf();
    suite::durable(Box::new(move || {
        let path = path.clone();
        Box::pin(async move { subject(&open(&path)) })
    }))
    .await;
}

#[tokio::test]
async fn a_second_opener_is_told_who_has_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let error = EmbeddedLog::open(dir.path(), Arc::new(SystemClock)).err().unwrap();
    assert_eq!(error.code, Code::LogLocked);
    assert!(error.doing.contains(&std::process::id().to_string()), "{error}");
    drop(log);
    open(dir.path());
}

/// A clock that is set by hand.
struct SetClock(AtomicU64);

#[async_trait]
impl Clock for SetClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    async fn sleep_until(&self, _at_ms: u64) {
        std::future::pending().await
    }

    fn fresh_id(&self) -> u128 {
        0
    }
}

#[tokio::test]
async fn times_do_not_fall_when_the_clock_does() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SetClock(AtomicU64::new(1000)));
    let at = Partition::new("t", 0);
    for (now_ms, expected) in [(1000, 1000), (400, 1000), (2000, 2000), (1500, 2000)] {
        clock.0.store(now_ms, Ordering::SeqCst);
        let log: suite::Subject = Arc::new(EmbeddedLog::open(dir.path(), clock.clone()).unwrap());
        log.create(&spec(&"t".into(), 1, Cleanup::Keep)).await.unwrap();
        let offset = append(&log, &at, vec![message("k", "v")]).await[0];
        assert_eq!(read(&log, &at, offset, 1).await[0].time_ms, expected);
    }
    let log = EmbeddedLog::open(dir.path(), clock.clone()).unwrap();
    for (time_ms, offset) in [(0, Some(0)), (1000, Some(0)), (1001, Some(2)), (2000, Some(2)), (2001, None)] {
        assert_eq!(log.offset_at(&at, time_ms).await.unwrap(), offset, "at {time_ms} ms");
    }
}

/// Reads all that a compacted partition holds.
async fn dump(log: &suite::Subject, at: &Partition) -> Vec<Delivered<Raw>> {
    use futures_util::FutureExt;
    let mut reading = log.read(at, log.bounds(at).await.unwrap().low).await.unwrap();
    let mut out = Vec::new();
    while let Some(more) = reading.next(100).now_or_never() {
        out.extend(more.unwrap());
    }
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_runs_by_itself_and_survives_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let at = Partition::new("t", 0);
    let log = open(dir.path());
    log.create(&spec(&"t".into(), 1, Cleanup::Compact)).await.unwrap();
    for round in 0..20 {
        let batch = (0..500).map(|k| message(&format!("k{k}"), &format!("{round}"))).collect();
        append(&subject(&log), &at, batch).await;
    }
    // A manual pass waits for the one in the background, so this one is at least the second.
    compact_now(&log)("t").await;
    let kept = dump(&subject(&log), &at).await;
    assert_eq!(kept.len(), 500);
    assert!(kept.iter().all(|d| d.payload.as_deref() == Some(b"19")));
    assert!(log.core().topics.find("t").unwrap().part(0).unwrap().cleaned.lock().kept <= 500);
    drop(log);
    let log = open(dir.path());
    assert_eq!(dump(&subject(&log), &at).await, kept);
    assert_eq!(log.bounds(&at).await.unwrap(), Bounds { low: 0, high: 10_000 });
}

#[tokio::test]
async fn tombstones_stay_as_long_as_readers_need_them() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(SetClock(AtomicU64::new(1000)));
    let log = EmbeddedLog::open(dir.path(), clock.clone()).unwrap();
    let at = Partition::new("t", 0);
    log.create(&spec(&"t".into(), 1, Cleanup::Compact)).await.unwrap();
    append(&subject(&log), &at, vec![message("a", "1"), Message { key: Bytes::from_static(b"a"), payload: None }])
        .await;
    let compact = |before_ms: u64| {
        let log = log.clone();
        tokio::task::spawn_blocking(move || log.compact("t", before_ms).unwrap())
    };
    compact(1000).await.unwrap();
    assert_eq!(
        dump(&subject(&log), &at).await.iter().map(|d| (d.offset, d.payload.clone())).collect::<Vec<_>>(),
        [(1, None)]
    );
    compact(1001).await.unwrap();
    assert_eq!(dump(&subject(&log), &at).await, []);
    assert_eq!(append(&subject(&log), &at, vec![message("b", "")]).await, [2]);
}

#[tokio::test]
async fn each_compression_gives_back_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    for (n, compression) in [Compression::None, Compression::Lz4, Compression::Zstd(3)].into_iter().enumerate() {
        let name: Arc<str> = format!("t{n}").into();
        let at = Partition::new(name.clone(), 0);
        let batch: Vec<_> = (0..1000).map(|k| message(&format!("k{k}"), &"x".repeat(k))).collect();
        let log = open(dir.path());
        log.create(&TopicSpec { compression, ..spec(&name, 1, Cleanup::Keep) }).await.unwrap();
        append(&subject(&log), &at, batch.clone()).await;
        drop(log);
        let all = read(&subject(&open(dir.path())), &at, 0, 1000).await;
        assert!(all.iter().zip(&batch).all(|(d, m)| d.key == m.key && d.payload == m.payload));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_topic_gives_its_space_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let at = Partition::new("t", 0);
    log.create(&spec(&"t".into(), 1, Cleanup::Keep)).await.unwrap();
    for n in 0..300 {
        append(&subject(&log), &at, vec![message(&n.to_string(), &format!("{n}").repeat(2000))]).await;
    }
    log.remove("t").await.unwrap();
    drop(log);
    let log = open(dir.path());
    // What the last process left is taken up first; this waits for the thread to come to the next thing.
    let (answer, done) = writer::answer();
    log.core().chores.purge(u32::MAX);
    while log.core().store.meta.prefix(b"x").next().is_some() {
        tokio::task::yield_now().await;
    }
    drop((answer as writer::Answer<()>, done));
    assert!(log.core().store.index.iter().next().is_none());
}

/// The journal of the log, closed, and where its written part ends.
fn journal(dir: &Path) -> (PathBuf, u64) {
    let path = dir.join("log/0.jnl");
    let data = std::fs::read(&path).unwrap();
    (path, data.iter().rposition(|&b| b != 0).unwrap() as u64 + 1)
}

async fn written(dir: &Path, batches: usize) -> Vec<u64> {
    let log = open(dir);
    log.create(&spec(&"t".into(), 1, Cleanup::Keep)).await.unwrap();
    let mut ends = Vec::new();
    for n in 0..batches {
        append(&subject(&log), &Partition::new("t", 0), vec![message("k", &n.to_string().repeat(500))]).await;
        ends.push(journal(dir).1);
    }
    ends
}

#[tokio::test]
async fn a_damaged_journal_is_reported_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let ends = written(dir.path(), 10).await;
    let (path, _) = journal(dir.path());
    let file = File::options().read(true).write(true).open(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for at in [ends[2] + 1, ends[2] + 20, ends[3] - 30, ends[3] - 8, 40] {
        file.write_all_at(&[whole[at as usize] ^ 0x40], at).unwrap();
        let error = EmbeddedLog::open(dir.path(), Arc::new(SystemClock)).err().unwrap();
        assert_eq!(error.code, Code::LogCorrupt, "byte {at}: {error}");
        assert!(error.to_string().contains("0.jnl; byte"), "{error}");
        file.write_all_at(&[whole[at as usize]], at).unwrap();
    }
    assert_eq!(open(dir.path()).bounds(&Partition::new("t", 0)).await.unwrap().high, 10);
}

#[tokio::test]
async fn a_torn_end_of_the_journal_is_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let ends = written(dir.path(), 3).await;
    let (path, _) = journal(dir.path());
    let whole = std::fs::read(&path).unwrap();
    // The last group lacks its middle but has its end: what was written last may reach the disk first.
    let mut torn = whole.clone();
    torn[ends[1] as usize + 100..ends[2] as usize - 30].fill(0);
    std::fs::write(&path, torn).unwrap();
    let log = open(dir.path());
    let at = Partition::new("t", 0);
    assert_eq!(log.bounds(&at).await.unwrap().high, 2);
    assert_eq!(append(&subject(&log), &at, vec![message("k", "again")]).await, [2]);
    drop(log);
    assert_eq!(read(&subject(&open(dir.path())), &at, 0, 3).await.len(), 3);
}

#[tokio::test]
async fn a_damaged_batch_is_reported_and_not_skipped() {
    let dir = tempfile::tempdir().unwrap();
    written(dir.path(), 3).await;
    let log = open(dir.path());
    let at = Partition::new("t", 0);
    let topic = log.core().topics.find("t").unwrap();
    let key = store::block_key(topic.id, 0, 1);
    let mut entry = log.core().store.index.get(&key).unwrap().unwrap().to_vec();
    *entry.last_mut().unwrap() ^= 1;
    log.core().store.index.insert(&key, entry).unwrap();
    let mut reading = log.read(&at, 0).await.unwrap();
    assert_eq!(reading.next(10).await.unwrap().len(), 1);
    for _ in 0..2 {
        let error = reading.next(10).await.unwrap_err();
        assert_eq!(error.code, Code::LogCorrupt);
        assert!(error.to_string().contains("partition t[0]; offset 1"), "{error}");
    }
    // A batch that is missing altogether is damage as well.
    log.core().store.index.remove(&key).unwrap();
    assert_eq!(log.read(&at, 1).await.unwrap().next(1).await.unwrap_err().code, Code::LogCorrupt);
}

#[tokio::test]
async fn missing_files_are_reported() {
    for name in ["log/version", "log/keyspaces"] {
        let dir = tempfile::tempdir().unwrap();
        written(dir.path(), 1).await;
        std::fs::rename(dir.path().join(name), dir.path().join("moved")).unwrap();
        let error = EmbeddedLog::open(dir.path(), Arc::new(SystemClock)).err().unwrap();
        assert_eq!(error.code, Code::LogCorrupt, "{name}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_holds_back_who_appends() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    log.create(&TopicSpec { compression: Compression::None, ..spec(&"t".into(), 1, Cleanup::Keep) }).await.unwrap();
    let session = log.session().await.unwrap();
    let large = Message { key: Bytes::new(), payload: Some(Bytes::from(vec![1; 1 << 20])) };
    // Far more than the queue holds: each append returns once there is room.
    let given: Vec<_> = (0..100).map(|_| session.append(&Partition::new("t", 0), vec![large.clone()])).collect();
    for (n, offsets) in futures_util::future::join_all(given).await.into_iter().enumerate() {
        assert_eq!(offsets.unwrap(), [n as u64]);
    }
}
