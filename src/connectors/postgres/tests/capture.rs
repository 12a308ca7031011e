//! What the reader and the snapshot see.

use super::server::*;
use crate::connectors::contract::*;
use crate::event::*;
use std::collections::BTreeMap;

fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::Text(text)) => text.as_str().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_change_comes_in_commit_order_with_its_ordinal() {
    let db = Db::new("CREATE TABLE item (a int, b text, v text, PRIMARY KEY (b, a)); CREATE TABLE other (a int)").await;
    let (_, mut reader) = db.reading(&["item"]).await;
    db.run("INSERT INTO item VALUES (1, 'x', 'one'), (2, 'x', 'two')").await;
    db.run("BEGIN; INSERT INTO item VALUES (9, 'x', 'never'); ROLLBACK").await;
    db.run("INSERT INTO other VALUES (1)").await;
    db.run("BEGIN; UPDATE item SET v = 'uno' WHERE a = 1; UPDATE item SET a = 3 WHERE a = 2; DELETE FROM item WHERE a = 1; COMMIT").await;
    let (found, _) = read_until(&mut *reader, |t| t.len() >= 2).await;
    assert_eq!(found.len(), 2);
    assert!(found[0].commit < found[1].commit && found[0].time_ms > 1_600_000_000_000);
    assert_eq!((found[0].first, found[0].changes.len(), found[1].changes.len()), (0, 2, 4));
    let (first, _) = row(&found[0].changes[0]);
    let (second, _) = row(&found[0].changes[1]);
    let of = |i: usize| row(&found[1].changes[i]);
    assert_eq!(of(0).0, first);
    assert_eq!(text(of(0).1.unwrap().get(2)), "uno");
    // Read-8: a changed key is a deletion and an insertion.
    assert_eq!(of(1), (second, None));
    assert_eq!(of(2).1.unwrap().get(0), Some(&Value::Int(3)));
    assert_eq!(of(3), (first, None));
    // Key fields in key order: b, then a.
    assert_eq!(&first.0[..], &[2, b'x', 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_value_that_did_not_change_is_unchanged_and_never_null() {
    let setup =
        "CREATE TABLE item (id int PRIMARY KEY, big text, small text); ALTER TABLE item ALTER big SET STORAGE EXTERNAL";
    let db = Db::new(setup).await;
    let (_, mut reader) = db.reading(&["item"]).await;
    db.run(
        "INSERT INTO item VALUES (1, repeat('x', 9000), 'a'); UPDATE item SET small = 'b'; UPDATE item SET big = NULL",
    )
    .await;
    let changes = read(&mut *reader, 3).await;
    assert_eq!(row(&changes[1]).1.unwrap().get(1), Some(&Value::Unchanged));
    assert_eq!(row(&changes[2]).1.unwrap().get(1), Some(&Value::Null));
    // With the whole row before, nothing stays open.
    db.run("ALTER TABLE item REPLICA IDENTITY FULL; UPDATE item SET big = repeat('y', 9000); UPDATE item SET small = 'c'; DELETE FROM item").await;
    let changes = read(&mut *reader, 3).await;
    assert_eq!(text(row(&changes[1]).1.unwrap().get(1)).len(), 9000);
    let Change::Row { before: Some(before), after: None, .. } = &changes[2] else { panic!("{changes:?}") };
    assert_eq!(text(before.get(2)), "c");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streamed_transaction_is_whole_without_what_was_rolled_back() {
    let db = Db::new("CREATE TABLE item (id int PRIMARY KEY, v text)").await;
    let mut settings = db.settings.clone();
    settings["spool-bytes"] = 20_000.into();
    let database = &db.dataset;
    db.run(&format!("ALTER DATABASE {database} SET logical_decoding_work_mem = '64kB'")).await;
    let connector = super::super::client::platform::open(settings, "here").unwrap();
    let platform = log(connector.open(&db.scope(&["item"])).await.unwrap());
    let from = platform.position().await.unwrap();
    let mut reader = platform.reader(from).await.unwrap();
    db.run("BEGIN; INSERT INTO item SELECT i, repeat('x', 200) FROM generate_series(1, 2000) i").await;
    db.run(
        "SAVEPOINT s; INSERT INTO item SELECT i, repeat('y', 200) FROM generate_series(3000, 5000) i; ROLLBACK TO s",
    )
    .await;
    db.run("SAVEPOINT s2; INSERT INTO item SELECT i, repeat('z', 200) FROM generate_series(6000, 7000) i; RELEASE s2")
        .await;
    let other = session(db.settings.clone()).await;
    other.batch_execute("INSERT INTO public.item VALUES (-1, 'meanwhile')").await.unwrap();
    db.run("COMMIT").await;
    // Streaming did happen, or this test shows nothing.
    let statement = format!(
        "SELECT (stream_txns > 0)::text FROM pg_stat_replication_slots WHERE slot_name = 'driftless_{database}'"
    );
    let limit = BatchLimit { rows_max: 700, bytes_max: 1 << 20 };
    let (mut next_ordinal, mut ids, mut through) = (0, Vec::new(), from);
    while ids.len() < 3002 {
        let batch = reader.next(limit).await.unwrap();
        for transaction in batch.transactions {
            if transaction.changes.len() > 1 || transaction.first > 0 {
                assert_eq!(transaction.first, next_ordinal);
                next_ordinal += transaction.changes.len() as u64;
            }
            ids.extend(transaction.changes.iter().map(|c| row(c).1.unwrap().get(0).unwrap().clone()));
        }
        assert!(batch.through >= through);
        through = batch.through;
        if ids.len() == 1401 {
            // Not confirmed in the middle: a new reader goes on behind what was read.
            reader.release(through).await.unwrap();
            drop(reader);
            reader = reader_again(&*platform, through).await;
        }
    }
    let expected = std::iter::once(-1).chain(1..=2000).chain(6000..=7000).map(Value::Int);
    assert_eq!(ids, expected.collect::<Vec<_>>());
    until(&db.sql, &statement, "true").await;
}

/// The old sender may need a moment to notice that its connection is gone.
async fn reader_again(platform: &dyn LogPlatform, from: Position) -> Box<dyn Reader> {
    let opening = async {
        loop {
            match platform.reader(from).await {
                Ok(reader) => return reader,
                Err(error) => assert_eq!(error.code, crate::runtime::error::Code::StoreBusy, "{error:?}"),
            }
        }
    };
    tokio::time::timeout(LONG, opening).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slot_moves_only_as_far_as_was_released() {
    let db = Db::new("CREATE TABLE item (id int PRIMARY KEY)").await;
    let (_, mut reader) = db.reading(&["item"]).await;
    let began = db.confirmed().await;
    db.run("INSERT INTO item VALUES (1)").await;
    let (_, first) = read_until(&mut *reader, |t| t.len() == 1).await;
    db.run("INSERT INTO item VALUES (2)").await;
    let (second, _) = read_until(&mut *reader, |t| t.len() == 1).await;
    assert_eq!(db.confirmed().await, began);
    reader.release(first).await.unwrap();
    let slot =
        format!("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'driftless_{}'", db.dataset);
    until(&db.sql, &slot, &super::super::position::write_lsn(first.commit)).await;
    // The inside of a transaction is no place to begin again from.
    reader.release(Position::new(second[0].commit, 0)).await.unwrap();
    reader.next(BatchLimit::default()).await.unwrap();
    assert_eq!(db.confirmed().await, first.commit);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_reader_still_answers_the_server() {
    let db = Db::new("CREATE TABLE item (id int PRIMARY KEY, v text)").await;
    db.run(&format!("ALTER DATABASE {} SET wal_sender_timeout = '1s'", db.dataset)).await;
    let (_, mut reader) = db.reading(&["item"]).await;
    // Far more than the queue and the sockets hold.
    for part in 0..10 {
        db.run(&format!(
            "INSERT INTO item SELECT {part} * 1000 + i, repeat(md5(i::text), 100) FROM generate_series(1, 1000) i"
        ))
        .await;
    }
    db.run("SELECT pg_sleep(4)").await;
    assert_eq!(read(&mut *reader, 10_000).await.len(), 10_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_table_does_not_hold_the_servers_log() {
    let db = Db::new("CREATE TABLE item (id int PRIMARY KEY); CREATE TABLE busy (id int)").await;
    let (_, mut reader) = db.reading(&["item"]).await;
    let began = db.confirmed().await;
    db.run("INSERT INTO busy SELECT generate_series(1, 1000)").await;
    let moving = async {
        while db.confirmed().await <= began + 50_000 {
            let batch = reader.next(BatchLimit::default()).await.unwrap();
            assert!(batch.transactions.is_empty());
            reader.release(batch.through).await.unwrap();
        }
        // And with nobody writing at all, heartbeats go on.
        let quiet = db.confirmed().await;
        while db.confirmed().await <= quiet {
            let batch = reader.next(BatchLimit::default()).await.unwrap();
            reader.release(batch.through).await.unwrap();
        }
    };
    tokio::time::timeout(LONG, moving).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_sender_costs_nothing() {
    let db = Db::new("CREATE TABLE item (id int PRIMARY KEY)").await;
    let (platform, mut reader) = db.reading(&["item"]).await;
    db.run("INSERT INTO item SELECT generate_series(1, 10)").await;
    let (_, through) = read_until(&mut *reader, |t| t.len() == 1).await;
    db.run(&format!(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'driftless_{}'",
        db.dataset
    ))
    .await;
    db.run("INSERT INTO item SELECT generate_series(11, 20)").await;
    let error = read_error(&mut *reader).await;
    assert_eq!(error.kind(), crate::runtime::error::Kind::Transient, "{error:?}");
    let mut reader = reader_again(&*platform, through).await;
    let changes = read(&mut *reader, 10).await;
    assert_eq!(row(&changes[0]).1.unwrap().get(0), Some(&Value::Int(11)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_and_the_log_behind_it_are_the_table() {
    let db = Db::new(
        "CREATE TABLE item (id int PRIMARY KEY, v int); INSERT INTO item SELECT i, 0 FROM generate_series(1, 500) i",
    )
    .await;
    let platform = db.open(&["item"]).await;
    let settings = db.settings.clone();
    let writer = tokio::task::JoinSet::from_iter([async move {
        let sql = session(settings).await;
        for i in 0..400 {
            let statement = match i % 3 {
                0 => format!("INSERT INTO public.item VALUES ({}, {i})", 1000 + i),
                1 => format!("UPDATE public.item SET v = {i} WHERE id % 7 = {}", i % 7),
                _ => format!("DELETE FROM public.item WHERE id = {i}"),
            };
            sql.batch_execute(&statement).await.unwrap();
        }
    }]);
    let mut snapshot = platform.snapshot(0, None).await.unwrap();
    let mut fold: BTreeMap<Key, Row> = BTreeMap::new();
    for copied in copy(&mut *snapshot).await {
        fold.insert(copied.key, (*copied.row).clone());
    }
    writer.join_all().await;
    db.run("INSERT INTO item VALUES (9999, 9999)").await;
    let mut reader = platform.reader(snapshot.position()).await.unwrap();
    let is_last = |c: &Change| row(c).1.is_some_and(|r| r.get(1) == Some(&Value::Int(9999)));
    let (found, _) = read_until(&mut *reader, |t| t.iter().any(|t| t.changes.iter().any(is_last))).await;
    for change in found.iter().flat_map(|t| &t.changes) {
        match row(change) {
            // An insertion behind the snapshot of what the snapshot already has would be a doubled row.
            (key, Some(after)) => fold.insert(key.clone(), after.clone()),
            (key, None) => Some(fold.remove(key).expect("a deletion of what is there")),
        };
    }
    let mut now = platform.snapshot(0, None).await.unwrap();
    let now: BTreeMap<Key, Row> = copy(&mut *now).await.into_iter().map(|c| (c.key, (*c.row).clone())).collect();
    assert_eq!(fold, now);
}

/// who-6
#[tokio::test(flavor = "multi_thread")]
async fn a_first_copy_goes_on_behind_the_last_key() {
    let db = Db::new("CREATE TABLE item (a text, b int, v text, PRIMARY KEY (a, b)); INSERT INTO item SELECT chr(97 + i % 3), i, 'v' FROM generate_series(1, 300) i").await;
    let platform = db.open(&["item"]).await;
    let all = copy(&mut *platform.snapshot(0, None).await.unwrap()).await;
    assert_eq!(all.len(), 300);
    let rest = copy(&mut *platform.snapshot(0, Some(&all[122].key)).await.unwrap()).await;
    assert_eq!(rest, all[123..]);
    assert_eq!(copy(&mut *platform.snapshot(0, Some(&all[299].key)).await.unwrap()).await, []);
}

/// The server counts the rows of all parts when it analyses a table; before, and of a rest, nothing is known.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_copy_says_how_many_rows_the_server_expects() {
    let db = Db::new(
        "CREATE TABLE item (id int PRIMARY KEY); INSERT INTO item SELECT generate_series(1, 300);
         CREATE TABLE more (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE more_1 PARTITION OF more FOR VALUES FROM (0) TO (10); CREATE TABLE more_2 PARTITION OF more FOR VALUES FROM (10) TO (20);
         INSERT INTO more VALUES (1), (2), (11); ANALYZE more",
    )
    .await;
    let platform = db.open(&["item", "more"]).await;
    let never = platform.snapshot(0, None).await.unwrap().expected();
    assert!(never.is_none_or(|rows| rows == 0), "servers before 14 say 0: {never:?}");
    db.run("ANALYZE item").await;
    assert_eq!(platform.snapshot(0, None).await.unwrap().expected(), Some(300));
    assert_eq!(platform.snapshot(1, None).await.unwrap().expected(), Some(3));
    let first = copy(&mut *platform.snapshot(0, None).await.unwrap()).await.swap_remove(0).key;
    assert_eq!(platform.snapshot(0, Some(&first)).await.unwrap().expected(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitioned_tables_and_tables_of_other_schemas_are_captured() {
    let db = Db::new(
        "CREATE SCHEMA two; CREATE TABLE two.item (id int PRIMARY KEY, v text);
         CREATE TABLE item (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED) PARTITION BY RANGE (id);
         CREATE TABLE item_1 PARTITION OF item FOR VALUES FROM (0) TO (10); CREATE TABLE item_2 PARTITION OF item FOR VALUES FROM (10) TO (20)",
    )
    .await;
    let mut scope = db.scope(&["item", "second"]);
    scope.collections[1].on = serde_json::json!({"table": "two.item"});
    let platform = log(db.connector().open(&scope).await.unwrap());
    let mut reader = platform.reader(platform.position().await.unwrap()).await.unwrap();
    db.run("INSERT INTO item VALUES (1), (11); INSERT INTO two.item VALUES (1, 'two'); UPDATE item SET id = 12 WHERE id = 1").await;
    let changes = read(&mut *reader, 5).await;
    let of = |c: &Change| match c {
        Change::Row { collection, after, .. } => (*collection, after.as_ref().map(|r| r.0.len())),
        other => panic!("{other:?}"),
    };
    // Generated columns are no part of the record.
    assert_eq!(
        changes.iter().map(of).collect::<Vec<_>>(),
        [(0, Some(1)), (0, Some(1)), (1, Some(2)), (0, None), (0, Some(1))]
    );
}

/// read-9: at its place, one for each table of the dataset that the statement names.
#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_stands_among_the_other_changes_of_its_transaction() {
    let db = Db::new(
        "CREATE TABLE item (id int PRIMARY KEY, v text); CREATE TABLE aside (id int PRIMARY KEY);
         CREATE TABLE more (id int PRIMARY KEY) PARTITION BY RANGE (id);
         CREATE TABLE more_1 PARTITION OF more FOR VALUES FROM (0) TO (10); CREATE TABLE more_2 PARTITION OF more FOR VALUES FROM (10) TO (20)",
    )
    .await;
    let (_, mut reader) = db.reading(&["item", "more"]).await;
    db.run("INSERT INTO more VALUES (1), (11); TRUNCATE aside").await;
    db.run("BEGIN; INSERT INTO item VALUES (1, 'a'); TRUNCATE item; INSERT INTO item VALUES (2, 'b'); COMMIT").await;
    db.run("TRUNCATE aside, more, item RESTART IDENTITY CASCADE").await;
    db.run("BEGIN; TRUNCATE item; ROLLBACK; INSERT INTO item VALUES (3, 'c')").await;
    let told = |c: &Change| match c {
        Change::Row { collection, after: Some(row), .. } => format!("{collection} {:?}", row.0[0]),
        Change::Truncate(collection) => format!("truncate {collection}"),
        other => panic!("{other:?}"),
    };
    let mut told: Vec<String> = read(&mut *reader, 8).await.iter().map(told).collect();
    // The server's own order within one statement.
    told[5..7].sort();
    let expected =
        ["1 Int(1)", "1 Int(11)", "0 Int(1)", "truncate 0", "0 Int(2)", "truncate 0", "truncate 1", "0 Int(3)"];
    assert_eq!(told, expected);
}
