//! Writes beside an application that writes all the time, and what it still writes into replaced files.

use super::*;

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
            let dir = super::super::wire::files::Dir::root(&root).unwrap();
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
        let token = super::super::wire::files::token(&found);
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
        let token = super::super::wire::files::token(&found);
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
