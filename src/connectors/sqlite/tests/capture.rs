//! What the reader and the snapshot see.

use super::*;

/// read-3, read-8
#[tokio::test]
async fn every_kind_of_change_is_captured_in_order_and_a_rollback_is_not() {
    let b = Bench::new(ITEMS);
    let platform = b.open().await;
    let mut log = platform.reader(Position::START).await.unwrap();
    b.run("INSERT INTO items VALUES(1, 'a', 1.5); UPDATE items SET name = 'b'; UPDATE items SET id = 2; DELETE FROM items");
    b.run("BEGIN; INSERT INTO items VALUES(5, 'x', 0); ROLLBACK");
    let all = drain(&mut log).await;
    let k1 = format!("{:?}", key(1));
    let k2 = format!("{:?}", key(2));
    let want = [
        format!("put {k1} Text(\"a\")"),
        format!("put {k1} Text(\"b\")"),
        format!("delete {k1} + put {k2} Text(\"b\")"),
        format!("delete {k2}"),
    ];
    assert_eq!(shown(&all), want);
    assert!(all.is_sorted_by_key(|t| t.commit) && all[0].time_ms > 1_700_000_000_000);
}

/// who-5
#[tokio::test]
async fn a_snapshot_stands_still_while_the_application_writes_and_resumes_behind_a_key() {
    let b = Bench::new("CREATE TABLE items(a TEXT, b INTEGER, v TEXT, PRIMARY KEY(b, a)) WITHOUT ROWID");
    let platform = b.open().await;
    b.run("WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 99) INSERT INTO items SELECT 'k' || i, i % 7, 'v' FROM n");
    let mut snapshot = platform.snapshot(0, None).await.unwrap();
    let at = snapshot.position();
    b.run("DELETE FROM items WHERE b = 3; INSERT INTO items VALUES('new', 0, 'v')");
    let small = BatchLimit { rows_max: 30, bytes_max: 1 << 20 };
    let mut found = Vec::new();
    while let Some(rows) = snapshot.next(small).await.unwrap() {
        assert!(rows.len() <= 30);
        found.extend(rows);
    }
    assert_eq!(found.len(), 100);
    let mut rest = platform.snapshot(0, Some(&found[59].key)).await.unwrap();
    let more = rest.next(LIMIT).await.unwrap().unwrap();
    let kept: Vec<&Copied> = found[60..].iter().collect();
    assert!(kept.iter().zip(&more).all(|(a, b)| a.key == b.key) && !more.is_empty());
    let after = drain(&mut platform.reader(at).await.unwrap()).await;
    assert_eq!(after.len(), 14 + 1, "all changes behind the snapshot");
}

/// read-6
#[tokio::test]
async fn an_older_copy_and_another_file_are_recognised() {
    let b = Bench::new(ITEMS);
    let platform = b.open().await;
    let mut log = reader(&*platform).await;
    b.run("INSERT INTO items VALUES(1, 'a', 0)");
    drain(&mut log).await;
    let copy = b._dir.path().join("copy.db");
    b.run(&format!("VACUUM INTO '{}'", copy.display()));
    b.run("INSERT INTO items VALUES(2, 'a', 0)");
    let old = platform.position().await.unwrap();

    let mut restored = Bench::new(ITEMS);
    restored.path = copy;
    let code = |r: Result<Box<dyn Reader>>| r.err().unwrap();
    let error = code(restored.open().await.reader(old).await);
    assert_eq!(error.code, Code::SourceIdentity, "fewer changes than the checkpoint");

    // The copy lives on until it has as many changes as the original: its life is another one.
    let live = restored.open().await;
    let app = Connection::open(&restored.path).unwrap();
    app.execute_batch("DELETE FROM _driftless_meta").unwrap();
    live.reader(live.position().await.unwrap()).await.unwrap();
    app.execute_batch("INSERT INTO items VALUES(3, 'b', 0); INSERT INTO items VALUES(4, 'b', 0)").unwrap();
    live.reader(live.position().await.unwrap()).await.unwrap();
    // In the original a new life began as well, before more was written.
    platform.reader(old).await.unwrap();
    b.run("INSERT INTO items VALUES(5, 'a', 0)");
    app.execute_batch("DELETE FROM _driftless_meta; UPDATE _driftless_epochs SET epoch = epoch + 1000000 WHERE epoch = (SELECT max(epoch) FROM _driftless_epochs WHERE first <= 3)").unwrap();
    let error = code(live.reader(platform.position().await.unwrap()).await);
    assert_eq!(error.code, Code::SourceIdentity, "{error}");

    // The same file by its content, but put there anew.
    let now = platform.position().await.unwrap();
    b.run("UPDATE _driftless_meta SET value = value + 1 WHERE name = 'inode'");
    let error = code(platform.reader(now).await);
    assert!(error.code == Code::SourceIdentity && error.doing.contains("DELETE FROM _driftless_meta"), "{error}");
    b.run("DELETE FROM _driftless_meta WHERE name = 'inode'");
    platform.reader(now).await.unwrap();
}

/// read-5
#[tokio::test]
async fn released_changes_are_gone_and_an_older_checkpoint_says_so() {
    let b = Bench::new(ITEMS);
    let platform = b.open().await;
    let start = platform.position().await.unwrap();
    let mut log = reader(&*platform).await;
    b.run("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200) INSERT INTO items SELECT i, 'n', 0 FROM n");
    let all = drain(&mut log).await;
    assert_eq!(all.len(), 1200);
    log.release(Position::end_of(all[1100].commit)).await.unwrap();
    assert_eq!(b.count("SELECT count(*) FROM _driftless_changes"), 99);
    let mut rest = platform.reader(Position::new(all[1100].commit, 0)).await.unwrap();
    assert_eq!(drain(&mut rest).await.len(), 99);
    assert_eq!(platform.reader(start).await.err().unwrap().code, Code::HistoryLost);
}

#[tokio::test]
async fn replace_is_captured_with_and_without_recursive_triggers() {
    let b = Bench::new(ITEMS);
    let platform = b.open().await;
    let mut log = reader(&*platform).await;
    b.run("INSERT INTO items VALUES(1, 'a', 0); REPLACE INTO items VALUES(1, 'b', 0)");
    b.run("INSERT INTO items VALUES(1, 'c', 0) ON CONFLICT DO UPDATE SET name = excluded.name");
    b.run("PRAGMA recursive_triggers = ON; REPLACE INTO items VALUES(1, 'd', 0)");
    let names: Vec<Value> = puts(&drain(&mut log).await).into_iter().map(|r| r.0[1].clone()).collect();
    assert_eq!(names, ["a", "b", "c", "d"].map(Value::text));
}

/// Another trigger may change the row before ours runs; the last note must be the last state.
#[tokio::test]
async fn the_applications_own_triggers_never_make_the_log_stale() {
    let b = Bench::new(ITEMS);
    b.run("CREATE TRIGGER early AFTER INSERT ON items BEGIN UPDATE items SET name = 'stamped' WHERE id = NEW.id; END");
    let platform = b.open().await;
    b.run("CREATE TRIGGER late AFTER DELETE ON items BEGIN INSERT OR IGNORE INTO items VALUES(OLD.id, 'back', 0); END");
    let mut log = reader(&*platform).await;
    b.run("INSERT INTO items VALUES(1, 'raw', 0)");
    assert_eq!(puts(&drain(&mut log).await).last().unwrap().0[1], Value::text("stamped"));
    b.run("DELETE FROM items");
    let all = drain(&mut log).await;
    assert!(matches!(all.last().unwrap().changes[0], Change::Row { after: Some(_), .. }), "{:?}", shown(&all));
}

#[tokio::test]
async fn a_column_added_later_is_read_from_the_row_as_it_stands() {
    let b = Bench::new(ITEMS);
    let platform = b.open().await;
    let from = platform.position().await.unwrap();
    b.run("INSERT INTO items VALUES(1, 'a', 0); ALTER TABLE items ADD COLUMN colour TEXT; INSERT INTO items VALUES(2, 'b', 0, 'red')");
    let platform = b.open().await;
    b.run("INSERT INTO items VALUES(3, 'c', 0, 'blue')");
    let rows = puts(&drain(&mut platform.reader(from).await.unwrap()).await);
    let colours: Vec<Value> = rows.into_iter().map(|r| r.0[3].clone()).collect();
    assert_eq!(colours, [Value::Null, Value::text("red"), Value::text("blue")]);
}

#[tokio::test]
async fn a_waiting_reader_hears_of_a_commit_and_an_idle_one_gives_heartbeats() {
    let b = Bench::new(ITEMS);
    let platform = b.open().await;
    let mut log = reader(&*platform).await;
    assert_eq!(log.next(LIMIT).await.unwrap().transactions, []);
    let waiting = async { log.next(LIMIT).await.unwrap().transactions.len() };
    let write = async { b.run("INSERT INTO items VALUES(1, 'a', 0)") };
    assert_eq!(tokio::join!(waiting, write).0, 1);
}

#[tokio::test]
async fn big_values_pass_and_limits_cut_between_transactions() {
    let b = Bench::new("CREATE TABLE items(id INTEGER PRIMARY KEY, v BLOB)");
    let platform = b.open().await;
    let mut log = reader(&*platform).await;
    b.run("INSERT INTO items VALUES(1, randomblob(5000000)); INSERT INTO items VALUES(2, x'')");
    let small = BatchLimit { rows_max: 10, bytes_max: 1000 };
    let first = log.next(small).await.unwrap().transactions;
    assert_eq!(first.len(), 1);
    assert!(matches!(&puts(&first)[0].0[1], Value::Bytes(b) if b.len() == 5_000_000));
    assert_eq!(puts(&log.next(small).await.unwrap().transactions)[0].0[1], Value::Bytes(Bytes::new()));
}
