//! What is seen of files: torn ones, odd ones, links, listings, hints.

use super::*;

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
