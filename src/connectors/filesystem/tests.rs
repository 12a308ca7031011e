//! The connector against real directories: conditional writes under crashes at every step and under
//! an application that writes all the time, fences, torn files, links, listings, hints, clean-up.

pub(in crate::connectors) mod conformance;

use super::store::Directory;
use super::values::Layout;
use super::wire::stage::Step;
use super::{DESCRIPTOR, config::Config};
use crate::connectors::contract::*;
use crate::event::decimal::Decimal;
use crate::event::value::Interval;
use crate::event::*;
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::error::{Code, Error};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

fn field(name: &str, ty: Type, nullable: bool) -> Field {
    Field { name: name.into(), ty, nullable }
}

fn schema() -> Schema {
    Schema {
        id: SchemaId(1),
        name: "notes".into(),
        fields: vec![field("id", Type::Text, false), field("n", Type::Int(64), true)],
        key: vec![0],
    }
}

fn scope_with(on: serde_json::Value, schema: Schema) -> Scope {
    let place = Place { name: "notes".into(), on, schema: Some(Arc::new(schema)), partitions: 1 };
    Scope { dataset: "d".into(), collections: vec![place] }
}

fn scope() -> Scope {
    scope_with(json!({"path": "{id}.json"}), schema())
}

fn connector(root: &Path) -> Box<dyn Connector> {
    (DESCRIPTOR.open)(json!({"root": root}), "dir").unwrap()
}

fn key(id: &str) -> Key {
    Key::encode(&[Value::text(id)], &schema()).unwrap()
}

fn row(id: &str, n: i64) -> Row {
    Row(vec![Value::text(id), Value::Int(n)])
}

fn document(id: &str, n: i64) -> String {
    format!("{{\n  \"id\": \"{id}\",\n  \"n\": {n}\n}}\n")
}

const AT: Owned = Owned { collection: 0, partition: 0, epoch: 1 };

fn after(epoch: u64) -> Owned {
    Owned { epoch, ..AT }
}

fn intent(iid: u64, expect: Option<Token>) -> Intent {
    Intent {
        iid,
        seq: 1,
        vv: Vv::new(),
        fp: Fp::ABSENT,
        ts: Hlc(0),
        tomb: false,
        schema: SchemaId(1),
        expect,
        exp_ms: u64::MAX,
    }
}

/// Another process's view: nothing in memory is shared.
fn another(root: &Path) -> Directory {
    let config = Config::checked(json!({"root": root}), "dir").unwrap();
    let layouts = scope().collections.iter().map(|p| Layout::new(p).unwrap()).collect();
    Directory::new(config, "d", layouts)
}

struct Prepared {
    dir: tempfile::TempDir,
    store: Directory,
}

impl Prepared {
    /// A prepared directory, owned at epoch 1.
    async fn new() -> Prepared {
        let dir = tempfile::tempdir().unwrap();
        connector(dir.path()).open(&scope()).await.unwrap();
        let store = another(dir.path());
        store.fence(0, 0, 1).await.unwrap();
        Prepared { dir, store }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As an application that replaces whole files does.
    fn replace(&self, name: &str, content: &str) {
        replace(self.dir.path(), name, content);
    }

    fn content(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.file(name)).ok()
    }

    async fn token(&self, id: &str) -> Option<Token> {
        self.store.read(AT, &key(id), None).await.unwrap().token
    }
}

fn replace(root: &Path, name: &str, content: &str) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let outside = root.join(format!(".driftless/app{}", COUNT.fetch_add(1, Ordering::Relaxed)));
    std::fs::write(&outside, content).unwrap();
    std::fs::rename(outside, root.join(name)).unwrap();
}

/// Lets a time pass that a rule prescribes: quiet, grace.
async fn pass_ms(ms: u64) {
    SystemClock.sleep_until(SystemClock.now_ms() + ms).await;
}

fn stop(at: Step) -> impl Fn(Step) -> crate::runtime::error::Result<()> + Send + Sync {
    move |step| if step == at { Err(Error::new(Code::Unexpected, "the process ends here")) } else { Ok(()) }
}

/// All contents below a directory, ours and the application's.
fn everything(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(root).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.append(&mut everything(&entry.path())),
            false => drop(found.insert(std::fs::read_to_string(entry.path()).unwrap())),
        }
    }
    found
}

#[tokio::test]
async fn a_row_is_created_changed_and_deleted_under_its_token() {
    let p = Prepared::new().await;
    let Outcome::Done(Some(first)) = p.store.cas(AT, &key("a"), Some(&row("a", 1)), &intent(1, None)).await.unwrap()
    else {
        panic!()
    };
    assert_eq!(p.content("a.json"), Some(document("a", 1)));
    let seen = p.store.read(AT, &key("a"), Some(&intent(1, None))).await.unwrap();
    assert_eq!(
        (seen.content, seen.token, seen.landed),
        (Content::Row(row("a", 1).into()), Some(first.clone()), Landed::Yes)
    );
    let Outcome::Done(Some(second)) =
        p.store.cas(AT, &key("a"), Some(&row("a", 2)), &intent(2, Some(first.clone()))).await.unwrap()
    else {
        panic!()
    };
    let stale = p.store.cas(AT, &key("a"), Some(&row("a", 3)), &intent(3, Some(first))).await.unwrap();
    assert_eq!((stale, p.content("a.json")), (Outcome::Mismatch, Some(document("a", 2))));
    let gone = p.store.cas(AT, &key("a"), None, &intent(4, Some(second.clone()))).await.unwrap();
    assert_eq!((gone, p.content("a.json")), (Outcome::Done(None), None));
    let again = p.store.cas(AT, &key("a"), None, &intent(5, Some(second))).await.unwrap();
    assert_eq!(again, Outcome::Mismatch);
    assert_eq!(p.store.cas(AT, &key("a"), None, &intent(6, None)).await.unwrap(), Outcome::Done(None));
    assert_eq!(p.store.displaced(AT).await.unwrap(), vec![]);
}

#[tokio::test]
async fn an_unseen_edit_is_never_overwritten() {
    let p = Prepared::new().await;
    p.replace("a.json", &document("a", 1));
    let token = p.token("a").await;
    p.replace("a.json", &document("a", 7));
    let write = p.store.cas(AT, &key("a"), Some(&row("a", 2)), &intent(1, token.clone())).await.unwrap();
    assert_eq!((write, p.content("a.json")), (Outcome::Mismatch, Some(document("a", 7))));
    let delete = p.store.cas(AT, &key("a"), None, &intent(2, token)).await.unwrap();
    assert_eq!((delete, p.content("a.json")), (Outcome::Mismatch, Some(document("a", 7))));
    let create = p.store.cas(AT, &key("a"), Some(&row("a", 2)), &intent(3, None)).await.unwrap();
    assert_eq!((create, p.content("a.json")), (Outcome::Mismatch, Some(document("a", 7))));
    for iid in 1..=3 {
        let seen = p.store.read(AT, &key("a"), Some(&intent(iid, None))).await.unwrap();
        assert_eq!(seen.landed, Landed::No, "{iid}");
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Replace,
    Create,
    Delete,
}

/// correctness.md §3.5, crash table of the README: the process ends after any step, with or without
/// an edit that nobody saw; a new owner fences, and the witness agrees with what is in place.
#[tokio::test]
async fn a_crash_after_any_step_is_recovered_and_the_witness_tells_the_truth() {
    let steps = [Step::Staged, Step::Noted, Step::Renamed, Step::Unexpected, Step::Restored, Step::Marked];
    let (mut landed, mut not) = (0, 0);
    for kind in [Kind::Replace, Kind::Create, Kind::Delete] {
        for step in steps {
            for unseen in [false, true] {
                let p = Prepared::new().await;
                if kind != Kind::Create {
                    p.replace("a.json", &document("a", 1));
                }
                let token = p.token("a").await;
                if unseen {
                    p.replace("a.json", &document("a", 7));
                }
                p.store.at_each_step(stop(step));
                let new = (kind != Kind::Delete).then(|| row("a", 2));
                let sent = intent(9, token);
                let ended = p.store.cas(AT, &key("a"), new.as_ref(), &sent).await.is_err();
                let heir = another(p.dir.path());
                heir.fence(0, 0, 2).await.unwrap();
                let seen = heir.read(after(2), &key("a"), Some(&sent)).await.unwrap();
                let what = format!("{kind:?} {step:?} unseen: {unseen} ended: {ended} {seen:?}");
                let written = if kind == Kind::Delete { Content::Absent } else { Content::Row(row("a", 2).into()) };
                let before = if kind == Kind::Create { Content::Absent } else { Content::Row(row("a", 1).into()) };
                if unseen {
                    assert_eq!(seen.content, Content::Row(row("a", 7).into()), "{what}");
                    assert_eq!(seen.landed, Landed::No, "{what}");
                } else {
                    assert_eq!(seen.content, if seen.landed == Landed::Yes { written } else { before }, "{what}");
                    let renamed = !matches!(step, Step::Staged | Step::Noted) || !ended;
                    assert_eq!(seen.landed == Landed::Yes, renamed, "{what}");
                }
                assert_eq!(heir.displaced(after(2)).await.unwrap(), vec![], "{what}");
                if seen.landed == Landed::Yes { landed += 1 } else { not += 1 }
            }
        }
    }
    assert!(landed >= 10 && not >= 10, "{landed} {not}");
}

/// An edit that displaced what was about to be taken back stays, and the older one is reported.
#[tokio::test]
async fn an_edit_that_cannot_go_back_is_reported_until_it_is_settled() {
    for crash in [false, true] {
        let p = Prepared::new().await;
        p.replace("a.json", &document("a", 1));
        let token = p.token("a").await;
        p.replace("a.json", &document("a", 7));
        let root = p.dir.path().to_owned();
        p.store.at_each_step(move |step| {
            if step == Step::Unexpected {
                replace(&root, "a.json", &document("a", 8));
                return if crash { stop(step)(step) } else { Ok(()) };
            }
            Ok(())
        });
        let answer = p.store.cas(AT, &key("a"), Some(&row("a", 2)), &intent(1, token.clone())).await;
        assert_eq!(answer.ok(), (!crash).then_some(Outcome::Mismatch));
        let (heir, at) = (another(p.dir.path()), after(2));
        heir.fence(0, 0, 2).await.unwrap();
        let seen = heir.read(at, &key("a"), Some(&intent(1, token))).await.unwrap();
        assert_eq!((seen.content, seen.landed), (Content::Row(row("a", 8).into()), Landed::No));
        let aside = heir.displaced(at).await.unwrap();
        assert_eq!(aside.len(), 1);
        assert_eq!((&aside[0].key, &aside[0].content), (&key("a"), &Content::Row(row("a", 7).into())));
        heir.fence(0, 0, 3).await.unwrap();
        assert_eq!(heir.displaced(after(3)).await.unwrap(), aside);
        heir.settle(after(3), &aside[0]).await.unwrap();
        assert_eq!(heir.displaced(after(3)).await.unwrap(), vec![]);
        assert_eq!(p.content("a.json"), Some(document("a", 8)));
    }
}

/// A newer edit that came between the look and the exchange back is put into its place again.
#[tokio::test]
async fn the_newest_edit_ends_in_its_place() {
    let p = Prepared::new().await;
    p.replace("a.json", &document("a", 1));
    let token = p.token("a").await;
    p.replace("a.json", &document("a", 7));
    let (root, count) = (p.dir.path().to_owned(), AtomicU64::new(0));
    p.store.at_each_step(move |step| {
        if step == Step::Restored && count.fetch_add(1, Ordering::Relaxed) == 0 {
            // As if it had come before the exchange: what was put aside is the application's.
            let stage = root.join(".driftless/stage/d.notes.0.1/0000000000000001");
            std::fs::rename(root.join("a.json"), root.join(".driftless/x")).unwrap();
            std::fs::rename(stage, root.join("a.json")).unwrap();
            std::fs::write(root.join(".driftless/stage/d.notes.0.1/0000000000000001"), document("a", 8)).unwrap();
            std::fs::rename(root.join(".driftless/x"), root.join("a.json")).unwrap();
        }
        Ok(())
    });
    let answer = p.store.cas(AT, &key("a"), Some(&row("a", 2)), &intent(1, token)).await.unwrap();
    assert_eq!((answer, p.content("a.json")), (Outcome::Mismatch, Some(document("a", 8))));
    pass_ms(250).await;
    assert_eq!(p.store.displaced(AT).await.unwrap()[0].content, Content::Row(row("a", 7).into()));
}

/// agent-1
#[tokio::test]
async fn an_older_owner_writes_nothing_after_the_fence() {
    let p = Prepared::new().await;
    p.replace("a.json", &document("a", 1));
    let token = p.token("a").await;
    let heir = Arc::new(another(p.dir.path()));
    // The old owner is paused after its intent; the new one takes over; then it goes on.
    let fencing = heir.clone();
    let runtime = tokio::runtime::Handle::current();
    p.store.at_each_step(move |step| {
        if step == Step::Noted {
            runtime.block_on(fencing.fence(0, 0, 2)).unwrap();
        }
        Ok(())
    });
    let sent = intent(1, token.clone());
    let late = p.store.cas(AT, &key("a"), Some(&row("a", 2)), &sent).await.unwrap_err();
    assert_eq!(late.code, Code::ClaimLost);
    assert_eq!(p.content("a.json"), Some(document("a", 1)));
    let seen = heir.read(after(2), &key("a"), Some(&sent)).await.unwrap();
    assert_eq!(seen.landed, Landed::No);
    let next = p.store.cas(AT, &key("a"), Some(&row("a", 2)), &intent(2, token)).await.unwrap_err();
    assert_eq!(next.code, Code::ClaimLost);
    assert_eq!(p.store.fence(0, 0, 1).await.unwrap_err().code, Code::ClaimLost);
}

#[tokio::test]
async fn an_expired_intent_is_not_sent() {
    let p = Prepared::new().await;
    let expired = Intent { exp_ms: 1, ..intent(1, None) };
    assert_eq!(p.store.cas(AT, &key("a"), Some(&row("a", 1)), &expired).await.unwrap(), Outcome::Mismatch);
    assert_eq!(p.content("a.json"), None);
}

/// The application pauses after some edits until two more writes were tried: so that some of them
/// have the file to themselves, however fast this machine is.
fn lull(n: i64, tries: &AtomicU64, over: &AtomicBool) {
    let until = tries.load(Ordering::Relaxed) + 2;
    while n % 4 == 0 && tries.load(Ordering::Relaxed) < until && !over.load(Ordering::Relaxed) {
        std::thread::yield_now();
    }
}

/// Every edit of an application that replaces files and writes into them, under a loop of
/// conditional writes: seen in place, or reported, or replaced by a later edit of the application.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_edit_is_lost_under_a_storm_of_both() {
    let p = Prepared::new().await;
    let root = p.dir.path().to_owned();
    p.replace("a.json", &document("a", 0));
    let over = Arc::new(AtomicBool::new(false));
    // What the application put, and what it knowingly displaced: it exchanges, as a careful one does.
    let journal = Arc::new(Mutex::new(Vec::<(i64, Option<String>)>::new()));
    let tries = Arc::new(AtomicU64::new(0));
    let app = {
        let (root, over, journal, tries) = (root.clone(), over.clone(), journal.clone(), tries.clone());
        std::thread::spawn(move || {
            let dir = super::wire::files::Dir::root(&root).unwrap();
            let mut n = 1_000_000;
            while !over.load(Ordering::Relaxed) {
                n += 1;
                std::fs::write(root.join(".driftless/app"), document("a", n)).unwrap();
                match dir.exchange(".driftless/app", "a.json") {
                    Ok(()) => {
                        let out = std::fs::read_to_string(root.join(".driftless/app")).unwrap();
                        journal.lock().unwrap().push((n, Some(out)));
                    }
                    Err(_) if dir.put(".driftless/app", "a.json").is_ok() => journal.lock().unwrap().push((n, None)),
                    Err(_) => {}
                }
                lull(n, &tries, &over);
            }
        })
    };
    let mut seen = BTreeSet::new();
    let (mut done, mut mismatch, mut reported) = (0, 0, 0);
    for iid in 1..=500u64 {
        tries.fetch_add(1, Ordering::Relaxed);
        // A quick look without waiting for quiet: the storm never is.
        let Ok(found) = std::fs::read(root.join("a.json")) else { continue };
        let token = super::wire::files::token(&found);
        seen.insert(String::from_utf8(found).unwrap());
        let new = if iid % 10 == 0 { None } else { Some(row("a", iid as i64)) };
        match p.store.cas(AT, &key("a"), new.as_ref(), &intent(iid, Some(token))).await.unwrap() {
            Outcome::Done(_) => done += 1,
            _ => mismatch += 1,
        }
    }
    over.store(true, Ordering::Relaxed);
    app.join().unwrap();
    pass_ms(250).await;
    for aside in p.store.displaced(AT).await.unwrap() {
        let Content::Row(row) = &aside.content else { panic!("{aside:?}") };
        let Some(Value::Int(n)) = row.get(1) else { panic!() };
        seen.insert(document("a", *n));
        reported += 1;
    }
    seen.extend(p.content("a.json"));
    let journal = journal.lock().unwrap();
    seen.extend(journal.iter().filter_map(|(_, out)| out.clone()));
    let lost: Vec<i64> = journal.iter().map(|(n, _)| *n).filter(|n| !seen.contains(&document("a", *n))).collect();
    assert_eq!(lost, Vec::<i64>::new(), "{done} done, {mismatch} mismatches, {reported} reported");
    assert!(done > 0 && mismatch > 0, "{done} done, {mismatch} mismatches, {reported} reported");
}

/// The same with an application that opens the file and writes into it, wherever it is by then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_write_into_a_file_is_lost_within_the_grace() {
    let dir = tempfile::tempdir().unwrap();
    connector(dir.path()).open(&scope()).await.unwrap();
    let config = Config::checked(json!({"root": dir.path(), "grace-ms": 3000}), "dir").unwrap();
    let store = Directory::new(config, "d", vec![Layout::new(&scope().collections[0]).unwrap()]);
    store.fence(0, 0, 1).await.unwrap();
    let path = dir.path().join("a.json");
    std::fs::write(&path, document("a", 1_000_000)).unwrap();
    let (over, tries) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let app = {
        let (over, path, tries) = (over.clone(), path.clone(), tries.clone());
        std::thread::spawn(move || {
            use std::io::{Read, Seek, Write};
            let mut journal = Vec::new();
            for n in 1_000_001.. {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(mut file) = std::fs::OpenOptions::new().read(true).write(true).open(&path) else { continue };
                let mut before = String::new();
                file.read_to_string(&mut before).unwrap();
                file.rewind().unwrap();
                file.write_all(document("a", n).as_bytes()).unwrap();
                journal.push((n, before));
                lull(n, &tries, &over);
            }
            journal
        })
    };
    let mut seen = BTreeSet::new();
    let (mut done, mut mismatch) = (0, 0);
    for iid in 1..=300u64 {
        tries.fetch_add(1, Ordering::Relaxed);
        let Ok(found) = std::fs::read(&path) else { continue };
        let token = super::wire::files::token(&found);
        seen.insert(String::from_utf8(found).unwrap());
        // All documents have one length, so that a write into one replaces it whole.
        let new = row("a", 2_000_000 + iid as i64);
        match store.cas(AT, &key("a"), Some(&new), &intent(iid, Some(token))).await.unwrap() {
            Outcome::Done(_) => done += 1,
            _ => mismatch += 1,
        }
    }
    over.store(true, Ordering::Relaxed);
    let journal = app.join().unwrap();
    pass_ms(3100).await;
    store.cas(AT, &key("b"), Some(&row("b", 1)), &intent(5000, None)).await.unwrap();
    let aside = store.displaced(AT).await.unwrap();
    for displaced in &aside {
        let Content::Row(row) = &displaced.content else { panic!("{displaced:?}") };
        let Some(Value::Int(n)) = row.get(1) else { panic!() };
        seen.insert(document("a", *n));
    }
    seen.insert(std::fs::read_to_string(&path).unwrap());
    seen.extend(journal.iter().map(|(_, before)| before.clone()));
    let lost: Vec<i64> = journal.iter().map(|(n, _)| *n).filter(|n| !seen.contains(&document("a", *n))).collect();
    assert_eq!(lost, Vec::<i64>::new(), "{done} done, {mismatch} mismatches, {} reported", aside.len());
    assert!(done > 0 && mismatch > 0, "{done} done, {mismatch} mismatches, {} reported", aside.len());
}

/// A writer that still has the replaced file open.
#[tokio::test]
async fn a_write_into_a_replaced_file_is_reported_after_the_grace() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    connector(dir.path()).open(&scope()).await.unwrap();
    let config = Config::checked(json!({"root": dir.path(), "grace-ms": 1}), "dir").unwrap();
    let store = Directory::new(config, "d", vec![Layout::new(&scope().collections[0]).unwrap()]);
    store.fence(0, 0, 1).await.unwrap();
    std::fs::write(dir.path().join("a.json"), document("a", 1)).unwrap();
    let mut open = std::fs::OpenOptions::new().write(true).open(dir.path().join("a.json")).unwrap();
    let token = store.read(AT, &key("a"), None).await.unwrap().token;
    let answer = store.cas(AT, &key("a"), Some(&row("a", 2)), &intent(1, token)).await.unwrap();
    assert!(matches!(answer, Outcome::Done(_)));
    open.write_all(document("a", 5).as_bytes()).unwrap();
    // The wait for quiet is longer than the grace.
    assert!(matches!(store.read(AT, &key("a"), None).await.unwrap().content, Content::Row(r) if *r == row("a", 2)));
    store.cas(AT, &key("b"), Some(&row("b", 1)), &intent(2, None)).await.unwrap();
    pass_ms(250).await;
    let late = store.displaced(AT).await.unwrap();
    assert_eq!(late.iter().map(|d| d.content.clone()).collect::<Vec<_>>(), vec![Content::Row(row("a", 5).into())]);
    assert_eq!(store.read(AT, &key("a"), Some(&intent(1, None))).await.unwrap().landed, Landed::Yes);
    store.settle(AT, &late[0]).await.unwrap();
    assert_eq!(store.displaced(AT).await.unwrap(), vec![]);
}

#[tokio::test]
async fn a_replaced_file_is_removed_when_its_grace_is_over_and_no_sooner() {
    let p = Prepared::new().await;
    p.store.cas(AT, &key("a"), Some(&row("a", 1)), &intent(1, None)).await.unwrap();
    let token = p.token("a").await;
    p.store.cas(AT, &key("a"), Some(&row("a", 2)), &intent(2, token)).await.unwrap();
    p.store.cas(AT, &key("b"), Some(&row("b", 1)), &intent(3, None)).await.unwrap();
    assert!(everything(p.dir.path()).contains(&document("a", 1)));
}

/// agent-6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_being_written_is_not_seen_in_part() {
    let p = Prepared::new().await;
    let path = p.file("a.json");
    std::fs::write(&path, "{\"id\": \"a\",").unwrap();
    let began_ms = SystemClock.now_ms();
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
        for part in ["\n", " \"n\"", ": 4", "}"] {
            std::thread::sleep(std::time::Duration::from_millis(60));
            file.write_all(part.as_bytes()).unwrap();
        }
    });
    let seen = p.store.read(AT, &key("a"), None).await.unwrap();
    writer.join().unwrap();
    assert_eq!(seen.content, Content::Row(row("a", 4).into()));
    assert!(SystemClock.now_ms() >= began_ms + 200);
}

/// agent-6: neighbours do not matter, and a clock that is ahead does not stop anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn absence_is_seen_in_a_busy_directory_and_a_file_of_the_future_too() {
    let p = Prepared::new().await;
    let (over, root) = (Arc::new(AtomicBool::new(false)), p.dir.path().to_owned());
    let busy = {
        let over = over.clone();
        std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                std::fs::write(root.join("neighbour.json"), "{}").unwrap();
                std::fs::remove_file(root.join("neighbour.json")).unwrap();
            }
        })
    };
    let seen = p.store.read(AT, &key("a"), None).await;
    over.store(true, Ordering::Relaxed);
    busy.join().unwrap();
    assert_eq!(seen.unwrap().content, Content::Absent);
    p.replace("a.json", &document("a", 1));
    let ahead = std::time::UNIX_EPOCH + std::time::Duration::from_millis(SystemClock.now_ms() + 3_600_000);
    std::fs::File::open(p.file("a.json")).unwrap().set_modified(ahead).unwrap();
    let began_ms = SystemClock.now_ms();
    assert_eq!(p.store.read(AT, &key("a"), None).await.unwrap().content, Content::Row(row("a", 1).into()));
    assert!(SystemClock.now_ms() >= began_ms + 200);
}

/// agent-6
#[tokio::test]
async fn what_is_no_record_is_told_with_the_reason() {
    let p = Prepared::new().await;
    let cases = [
        ("a", "{\"id\": \"a\"", "JSON"),
        ("b", "{\"id\": \"b\", \"m\": 1}", "\"m\""),
        ("c", "{\"id\": \"x\", \"n\": 1}", "the path says"),
        ("d", "{\"n\": 1.5}", "integer"),
        ("e", "{\"n\": 1, \"n\": 2}", "twice"),
        ("f", "", "JSON"),
        ("g", "{\"n\": 9223372036854775808}", "integer"),
        ("h", "[1]", "object"),
    ];
    for (id, content, _) in cases {
        std::fs::write(p.file(&format!("{id}.json")), content).unwrap();
    }
    std::fs::write(p.file("bytes.json"), [0xff, 0xfe]).unwrap();
    std::fs::create_dir(p.file("dir.json")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", p.file("link.json")).unwrap();
    for (id, _, reason) in
        cases.into_iter().chain([("bytes", "", "UTF-8"), ("dir", "", "directory"), ("link", "", "path_escapes")])
    {
        let seen = p.store.read(AT, &key(id), None).await.unwrap();
        let Content::Undecodable(text) = &seen.content else { panic!("{id}: {seen:?}") };
        assert!(text.contains(reason) && seen.token.is_some(), "{id}: {text}");
    }
    let whole = "{\"n\": null}";
    std::fs::write(p.file("i.json"), whole).unwrap();
    let seen = p.store.read(AT, &key("i"), None).await.unwrap();
    assert_eq!(seen.content, Content::Row(Row(vec![Value::text("i"), Value::Null]).into()));
}

#[tokio::test]
async fn what_is_too_large_or_has_too_long_a_name_is_refused_with_the_setting_and_nothing_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let connector = (DESCRIPTOR.open)(json!({"root": dir.path(), "file-bytes-max": 60}), "dir").unwrap();
    let Opened::Hint(store) = connector.open(&scope()).await.unwrap() else { panic!() };
    store.fence(0, 0, 1).await.unwrap();
    let large = document(&"a".repeat(50), 1);
    std::fs::write(dir.path().join("a.json"), &large).unwrap();
    let seen = store.read(AT, &key("a"), None).await.unwrap();
    let Content::Undecodable(why) = &seen.content else { panic!("{seen:?}") };
    assert!(
        why.starts_with("value_too_large: ") && why.contains("60 bytes") && why.contains("`file-bytes-max`"),
        "{why}"
    );
    let id = "b".repeat(50);
    for (key, row, code) in
        [(key(&id), row(&id, 1), "value_too_large: "), (key(&"c".repeat(300)), row("c", 1), "key_too_long: ")]
    {
        let answer = store.cas(AT, &key, Some(&row), &intent(1, None)).await.unwrap();
        assert!(matches!(&answer, Outcome::Refused(why) if why.starts_with(code)), "{answer:?}");
    }
    assert_eq!(std::fs::read_to_string(dir.path().join("a.json")).unwrap(), large);
    let error = store.read(AT, &key(&"c".repeat(300)), None).await.unwrap_err();
    assert_eq!((error.code, error.remedy()), (Code::KeyTooLong, crate::runtime::error::Remedy::Park), "{error}");
}

/// A link in the path is never followed, neither to read nor to write.
#[tokio::test]
async fn nothing_outside_the_root_is_touched() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let scope = scope_with(json!({"path": "x/{id}.json"}), schema());
    let Opened::Hint(store) = connector(dir.path()).open(&scope).await.unwrap() else { panic!() };
    store.fence(0, 0, 1).await.unwrap();
    std::fs::write(outside.path().join("a.json"), document("a", 1)).unwrap();
    std::os::unix::fs::symlink(outside.path(), dir.path().join("x")).unwrap();
    let seen = store.read(AT, &key("a"), None).await.unwrap();
    assert!(matches!(&seen.content, Content::Undecodable(t) if t.contains("path_escapes")), "{seen:?}");
    for expect in [None, seen.token] {
        let answer = store
            .cas(AT, &key("a"), Some(&row("a", 2)), &intent(1 + u64::from(expect.is_some()), expect))
            .await
            .unwrap();
        assert!(matches!(answer, Outcome::Refused(_) | Outcome::Mismatch), "{answer:?}");
    }
    assert_eq!(everything(outside.path()), BTreeSet::from([document("a", 1)]));
    let page = store.list(0, None, 10).await.unwrap();
    assert!(page.keys.is_empty() && page.odd[0].contains("path_escapes"), "{page:?}");
    let escaping = key("../../etc/passwd");
    assert!(matches!(store.read(AT, &escaping, None).await.unwrap().content, Content::Undecodable(_)));
}

#[tokio::test]
async fn a_tree_is_listed_whole_in_pages_from_anywhere() {
    let dir = tempfile::tempdir().unwrap();
    let mut two = schema();
    two.fields.insert(1, field("part", Type::Int(32), false));
    two.key = vec![1, 0];
    let scope = scope_with(json!({"path": "all/{part}/{id}.json"}), two.clone());
    let Opened::Hint(store) = connector(dir.path()).open(&scope).await.unwrap() else { panic!() };
    let mut expected = BTreeSet::new();
    for part in 0..20 {
        std::fs::create_dir_all(dir.path().join(format!("all/{part}"))).unwrap();
        for id in 0..17 {
            std::fs::write(dir.path().join(format!("all/{part}/{id}.json")), "{}").unwrap();
            expected.insert(Key::encode(&[Value::Int(part), Value::text(&id.to_string())], &two).unwrap());
        }
    }
    std::fs::write(dir.path().join("all/3/%41.json"), "{}").unwrap();
    std::fs::create_dir(dir.path().join("all/03")).unwrap();
    std::os::unix::fs::symlink("5", dir.path().join("all/55")).unwrap();
    std::fs::write(dir.path().join("all/4/Q.json"), "{}").unwrap();
    std::fs::write(dir.path().join("all/4/q.json"), "{}").unwrap();
    expected.extend(["Q", "q"].map(|id| Key::encode(&[Value::Int(4), Value::text(id)], &two).unwrap()));
    for forget in [false, true] {
        let (mut seen, mut odd, mut after) = (Vec::new(), Vec::new(), None);
        loop {
            if forget {
                store.list(0, None, 1).await.unwrap(); // Another listing in between.
            }
            let page = store.list(0, after.as_ref(), 7).await.unwrap();
            assert!(page.keys.len() <= 7);
            after = page.keys.last().cloned();
            seen.extend(page.keys);
            odd.extend(page.odd);
            if page.last {
                break;
            }
        }
        assert_eq!(seen.len(), expected.len());
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), expected);
        for text in ["all/3/%41.json", "key_collision", "all/55"] {
            assert!(odd.iter().any(|o| o.contains(text)), "{text} in {odd:?}");
        }
    }
}

#[tokio::test]
async fn hints_tell_edits_and_a_new_watch_asks_for_a_rescan() {
    let p = Prepared::new().await;
    assert!(p.store.hints(0).await.unwrap().rescan);
    p.replace("a.json", &document("a", 1));
    std::fs::write(p.file("b.json"), "x").unwrap();
    std::fs::write(p.file("no key"), "x").unwrap();
    let mut seen = BTreeSet::new();
    while seen.len() < 2 {
        let hints = p.store.hints(0).await.unwrap();
        assert!(!hints.rescan);
        seen.extend(hints.keys);
    }
    assert_eq!(seen, BTreeSet::from([key("a"), key("b")]));
    std::fs::remove_file(p.file("a.json")).unwrap();
    while !p.store.hints(0).await.unwrap().keys.contains(&key("a")) {}
}

#[tokio::test]
async fn files_in_a_directory_that_appeared_are_hinted() {
    let dir = tempfile::tempdir().unwrap();
    let mut two = schema();
    two.fields.insert(1, field("part", Type::Int(32), false));
    two.key = vec![1, 0];
    let scope = scope_with(json!({"path": "{part}/{id}.json"}), two.clone());
    let Opened::Hint(store) = connector(dir.path()).open(&scope).await.unwrap() else { panic!() };
    assert!(store.hints(0).await.unwrap().rescan);
    std::fs::create_dir(dir.path().join(".driftless/new")).unwrap();
    std::fs::write(dir.path().join(".driftless/new/a.json"), "{}").unwrap();
    std::fs::rename(dir.path().join(".driftless/new"), dir.path().join("7")).unwrap();
    let expected = Key::encode(&[Value::Int(7), Value::text("a")], &two).unwrap();
    assert_eq!(store.hints(0).await.unwrap(), Hints { keys: vec![expected], rescan: false });
    std::fs::rename(dir.path().join("7"), dir.path().join(".driftless/gone")).unwrap();
    assert!(store.hints(0).await.unwrap().rescan);
}

/// agent-7
#[tokio::test]
async fn a_lost_marker_stops_everything_that_could_be_taken_for_deletion() {
    let p = Prepared::new().await;
    p.replace("a.json", &document("a", 1));
    std::fs::remove_file(p.file(".driftless/marker")).unwrap();
    assert_eq!(p.store.present().await.unwrap_err().code, Code::MarkerMissing);
    assert_eq!(p.store.read(AT, &key("b"), None).await.unwrap_err().code, Code::MarkerMissing);
    assert_eq!(p.store.list(0, None, 5).await.unwrap_err().code, Code::MarkerMissing);
    assert_eq!(p.store.fence(0, 0, 9).await.unwrap_err().code, Code::MarkerMissing);
    let connector = connector(p.dir.path());
    assert_eq!(connector.open(&scope()).await.err().unwrap().code, Code::MarkerMissing);
    assert!(connector.check(None).await.unwrap().iter().any(|f| f.fatal && f.code == "marker_missing"));
    let empty = tempfile::tempdir().unwrap();
    let elsewhere = super::tests::connector(empty.path());
    assert_eq!(elsewhere.reopen(&scope()).await.err().unwrap().code, Code::MarkerMissing);
    assert_eq!(std::fs::read_dir(empty.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_check_leaves_nothing_behind_and_finds_what_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(connector(dir.path()).check(Some(&scope())).await.unwrap(), vec![]);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let missing = connector(&dir.path().join("nowhere")).check(None).await.unwrap();
    assert!(missing[0].fatal && missing[0].code == "source_unreachable", "{missing:?}");
    let mut nameless = scope();
    nameless.collections[0].schema = None;
    assert_eq!(connector(dir.path()).check(Some(&nameless)).await.unwrap()[0].code, "schema_unsupported");
    // A file system that cannot exchange two files is refused; this machine has one such at most in /proc.
    let proc = connector(Path::new("/proc")).check(None).await.unwrap();
    assert!(proc[0].fatal, "{proc:?}");
}

/// verb-9
#[tokio::test]
async fn removal_leaves_the_records_and_any_edit_that_is_nowhere_else() {
    let p = Prepared::new().await;
    p.store.cas(AT, &key("a"), Some(&row("a", 1)), &intent(1, None)).await.unwrap();
    let token = p.token("a").await;
    p.replace("a.json", &document("a", 7));
    let root = p.dir.path().to_owned();
    p.store.at_each_step(move |step| {
        (step == Step::Unexpected).then(|| replace(&root, "a.json", &document("a", 8)));
        Ok(())
    });
    p.store.cas(AT, &key("a"), Some(&row("a", 2)), &intent(2, token)).await.unwrap();
    let connector = connector(p.dir.path());
    let left = connector.remove(&scope()).await.unwrap();
    assert!(left.len() == 1 && left[0].text.contains("a.json"), "{left:?}");
    assert!(everything(p.dir.path()).contains(&document("a", 7)));
    let heir = another(p.dir.path());
    let aside = heir.displaced(AT).await.unwrap();
    if aside.is_empty() {
        pass_ms(250).await;
    }
    for displaced in heir.displaced(AT).await.unwrap() {
        heir.settle(AT, &displaced).await.unwrap();
    }
    assert_eq!(connector.remove(&scope()).await.unwrap(), vec![]);
    let names: Vec<_> = std::fs::read_dir(p.dir.path()).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, ["a.json"]);
}

#[tokio::test]
async fn the_rights_of_a_replaced_file_stay() {
    use std::os::unix::fs::PermissionsExt;
    let p = Prepared::new().await;
    p.replace("a.json", &document("a", 1));
    std::fs::set_permissions(p.file("a.json"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let token = p.token("a").await;
    p.store.cas(AT, &key("a"), Some(&row("a", 2)), &intent(1, token)).await.unwrap();
    assert_eq!(std::fs::metadata(p.file("a.json")).unwrap().permissions().mode() & 0o777, 0o640);
}

fn wide_types() -> Vec<(Type, BoxedStrategy<Value>)> {
    let decimal = prop_oneof![
        (any::<i128>(), -60..60i64)
            .prop_map(|(digits, scale)| Decimal::finite(&bigdecimal::BigDecimal::new(digits.into(), scale))),
        Just(Decimal::NaN),
        Just(Decimal::Infinity),
        Just(Decimal::NegInfinity),
    ];
    let json = prop_oneof![Just("{\"a\":[1,2.50,null]}"), Just("[]"), Just("\"x\\n\""), Just("1e400"), Just("true")];
    vec![
        (Type::Bool, any::<bool>().prop_map(Value::Bool).boxed()),
        (Type::Int(16), any::<i16>().prop_map(|i| Value::Int(i.into())).boxed()),
        (Type::Int(64), any::<i64>().prop_map(Value::Int).boxed()),
        (Type::Float(32), any::<u32>().prop_map(|b| Value::Float32(f32::from_bits(b))).boxed()),
        (Type::Float(64), any::<u64>().prop_map(|b| Value::Float64(f64::from_bits(b))).boxed()),
        (Type::Decimal, decimal.prop_map(Value::Decimal).boxed()),
        (Type::Text, any::<String>().prop_map(|t| Value::text(&t)).boxed()),
        (Type::Bytes, any::<Vec<u8>>().prop_map(|b| Value::Bytes(b.into())).boxed()),
        (Type::Uuid, any::<[u8; 16]>().prop_map(Value::Uuid).boxed()),
        (Type::Date, any::<i32>().prop_map(Value::Date).boxed()),
        (Type::Time, (0..=86_400_000_000i64).prop_map(Value::Time).boxed()),
        (Type::TimeTz, (0..86_400_000_000i64, -86_399..86_400).prop_map(|(t, z)| Value::TimeTz(t, z)).boxed()),
        (Type::Timestamp { zone: true }, any::<i64>().prop_map(Value::Timestamp).boxed()),
        (Type::Timestamp { zone: false }, any::<i64>().prop_map(Value::Timestamp).boxed()),
        (
            Type::Interval,
            any::<(i32, i32, i64)>()
                .prop_map(|(months, days, micros)| Value::Interval(Interval { months, days, micros }))
                .boxed(),
        ),
        (Type::Json, json.prop_map(json_text).boxed()),
        (
            Type::Array(Box::new(Type::Int(32))),
            proptest::collection::vec(
                prop_oneof![any::<i32>().prop_map(|i| Value::Int(i.into())), Just(Value::Null)],
                0..4,
            )
            .prop_map(Value::Array)
            .boxed(),
        ),
        (
            Type::Record(vec![field("x", Type::Text, true), field("y", Type::Bool, false)]),
            (any::<String>(), any::<bool>())
                .prop_map(|(x, y)| Value::Record(vec![Value::text(&x), Value::Bool(y)]))
                .boxed(),
        ),
    ]
}

fn json_text(text: &str) -> Value {
    Value::Json(text.into())
}

fn wide_layout() -> Layout {
    let mut fields = vec![field("id", Type::Text, false)];
    fields.extend(wide_types().into_iter().enumerate().map(|(at, (ty, _))| field(&format!("f{at}"), ty, true)));
    let schema = Schema { id: SchemaId(1), name: "notes".into(), fields, key: vec![0] };
    Layout::new(&scope_with(json!(null), schema).collections[0]).unwrap()
}

fn wide_row() -> impl Strategy<Value = Row> {
    let mut columns: Vec<BoxedStrategy<Value>> = vec![Just(Value::text("k")).boxed()];
    columns.extend(wide_types().into_iter().map(|(_, s)| prop_oneof![4 => s, 1 => Just(Value::Null)].boxed()));
    columns.prop_map(Row)
}

proptest! {
    /// correctness.md §3.7: norm is the identity here, so that every lift is.
    #[test]
    fn a_row_comes_back_from_its_document(row in wide_row()) {
        let layout = wide_layout();
        let content = layout.encode(&row).unwrap();
        let back = layout.decode(&key("k"), &content).unwrap();
        prop_assert_eq!(layout.fp(&back), layout.fp(&row));
        prop_assert_eq!(layout.norm(&key("k"), &row).unwrap(), layout.fp(&row));
        // Written again, the document is the same, however it was read.
        prop_assert_eq!(layout.encode(&back).unwrap(), content);
    }

    #[test]
    fn a_broken_document_does_no_harm(row in wide_row(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let layout = wide_layout();
        let mut content = layout.encode(&row).unwrap();
        let at = at.index(content.len());
        content[at] = byte;
        if let Ok(row) = layout.decode(&key("k"), &content) {
            let again = layout.encode(&row).unwrap();
            prop_assert_eq!(layout.fp(&layout.decode(&key("k"), &again).unwrap()), layout.fp(&row));
        }
    }

    #[test]
    fn raw_bytes_come_back(bytes in any::<Vec<u8>>()) {
        let fields = vec![field("id", Type::Text, false), field("data", Type::Bytes, false)];
        let schema = Schema { id: SchemaId(1), name: "notes".into(), fields, key: vec![0] };
        let layout = Layout::new(&scope_with(json!({"format": "bytes"}), schema).collections[0]).unwrap();
        let row = Row(vec![Value::text("k"), Value::Bytes(bytes.clone().into())]);
        prop_assert_eq!(layout.encode(&row).unwrap(), bytes.clone());
        prop_assert_eq!(layout.decode(&key("k"), &bytes).unwrap(), row);
        prop_assert_eq!(layout.path(&key("k")).unwrap(), "notes/k");
    }
}

/// P8
#[test]
fn what_a_document_cannot_hold_is_refused() {
    let mut schema = schema();
    schema.fields.push(field("j", Type::Json, true));
    let layout = Layout::new(&scope_with(json!(null), schema).collections[0]).unwrap();
    for (n, j) in [
        (Value::Text("1".into()), Value::Null),
        (Value::Unchanged, Value::Null),
        (Value::Int(1), json_text("null")),
        (Value::Int(1), json_text("{\"a\":1,\"a\":2}")),
    ] {
        let refused = layout.norm(&key("k"), &Row(vec![Value::text("k"), n, j])).unwrap_err();
        assert_eq!(refused.code, Code::ValueRefused);
    }
    assert_eq!(
        layout.norm(&key("other"), &Row(vec![Value::text("k"), Value::Null, Value::Null])).unwrap_err().code,
        Code::ValueRefused
    );
}
