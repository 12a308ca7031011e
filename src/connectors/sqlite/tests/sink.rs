//! What a sink writes, and what it leaves alone.

use super::*;

/// read-1: row and ledger of a sink's batch are one transaction, ledger rows first.
#[tokio::test]
async fn a_sinks_batch_is_one_transaction_with_its_ledger_rows_first() {
    let b = Bench::new(ITEMS);
    let (platform, schema) = (b.open().await, b.schema().await);
    let mut log = reader(&*platform).await;
    let mut rows = platform.rows().await.unwrap();
    let plan = [version(&schema, &key(1), 1, Some(item(1, "a"))), version(&schema, &key(2), 2, Some(item(2, "b")))];
    assert_eq!(apply(&mut rows, &plan).await, [Written::Done, Written::Done]);
    b.run("UPDATE items SET name = 'mine' WHERE id = 1");
    let all = drain(&mut log).await;
    let (k1, k2) = (format!("{:?}", key(1)), format!("{:?}", key(2)));
    let echo = format!("ledger {k1} Some(1) + ledger {k2} Some(2) + put {k1} Text(\"a\") + put {k2} Text(\"b\")");
    assert_eq!(shown(&all), [echo, format!("put {k1} Text(\"mine\")")]);
    let Change::Row { fp, .. } = &all[0].changes[2] else { panic!() };
    assert_eq!(*fp, plan[0].fp, "the echo is recognised by its fingerprint");
    assert_eq!(rows.ledger(0, &[key(2), key(3)]).await.unwrap()[0].as_ref().unwrap().vv, plan[1].version.vv);

    // A checkpoint in the middle of it: the rest comes again, with its ordinals.
    let mut again = platform.reader(Position::new(all[0].commit, 1)).await.unwrap();
    let rest = again.next(LIMIT).await.unwrap().transactions;
    assert_eq!((rest[0].first, rest[0].changes.len(), rest.len()), (2, 2, 2));
    again.release(Position::new(all[0].commit, 1)).await.unwrap();
    platform.reader(Position::new(all[0].commit, 1)).await.unwrap();
}

/// sink-1
#[tokio::test]
async fn a_replay_writes_nothing_and_drops_nothing_newer() {
    let b = Bench::new(ITEMS);
    let (platform, schema) = (b.open().await, b.schema().await);
    let mut rows = platform.rows().await.unwrap();
    apply(&mut rows, &[version(&schema, &key(1), 2, Some(item(1, "new")))]).await;
    let before = platform.position().await.unwrap();
    assert_eq!(apply(&mut rows, &[version(&schema, &key(1), 1, Some(item(1, "old")))]).await, [Written::Done]);
    assert_eq!(platform.position().await.unwrap(), before);
    assert_eq!(b.count("SELECT count(*) FROM items WHERE name = 'new'"), 1);
    apply(&mut rows, &[version(&schema, &key(1), 3, None)]).await;
    assert_eq!(b.count("SELECT count(*) FROM items"), 0);
    assert!(rows.ledger(0, &[key(1)]).await.unwrap()[0].as_ref().unwrap().tomb);
}

#[tokio::test]
async fn adopt_moves_the_ledger_only_observe_logs_the_image_and_dirty_is_parked_until_settled() {
    let b = Bench::new(ITEMS);
    let (platform, schema) = (b.open().await, b.schema().await);
    b.run("INSERT INTO items VALUES(1, 'a', NULL)");
    let mut log = reader(&*platform).await;
    let mut rows = platform.rows().await.unwrap();
    let mut planned = version(&schema, &key(1), 1, Some(item(1, "a")));
    planned.act = Act::Dirty;
    apply(&mut rows, std::slice::from_ref(&planned)).await;
    assert_eq!(b.count("SELECT count(*) FROM _driftless_parked"), 1);
    planned.act = Act::Observe;
    apply(&mut rows, std::slice::from_ref(&planned)).await;
    planned.act = Act::Adopt;
    apply(&mut rows, std::slice::from_ref(&planned)).await;
    assert_eq!(b.count("SELECT count(*) FROM _driftless_parked"), 0);
    let mut gone = version(&schema, &key(7), 2, Some(item(7, "a")));
    gone.act = Act::Observe;
    apply(&mut rows, &[gone]).await;
    let k1 = format!("{:?}", key(1));
    let want = [format!("observed {k1} true"), format!("ledger {k1} Some(1)"), format!("observed {:?} false", key(7))];
    assert_eq!(shown(&drain(&mut log).await), want);
}

/// sink-2
#[tokio::test]
async fn a_lock_keeps_the_application_out_and_gives_way_when_dropped() {
    let b = Bench::new(ITEMS);
    let platform = b.open().await;
    let mut rows = platform.rows().await.unwrap();
    b.app.busy_timeout(std::time::Duration::ZERO).unwrap();
    let held = rows.lock(0, &[key(1)]).await.unwrap();
    assert_eq!(held.seen(0), Seen::Row { fp: Fp::ABSENT, ledger: None });
    assert!(b.app.execute_batch("INSERT INTO items VALUES(1, 'a', 0)").is_err());
    drop(held);
    b.run("BEGIN; INSERT INTO items VALUES(1, 'a', 0)");
    assert_eq!(rows.lock(0, &[key(1)]).await.err().unwrap().code, Code::StoreBusy);
    b.run("COMMIT");
    let held = rows.lock(0, &[key(1)]).await.unwrap();
    assert_eq!(held.position(), platform.position().await.unwrap());
}

/// sink-5, sink-6: a refused row takes no other with it, whatever way it is refused.
#[tokio::test]
async fn constraints_refuse_single_rows() {
    let b = Bench::new(
        "CREATE TABLE other(id INTEGER PRIMARY KEY);
         CREATE TABLE items(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE CHECK(name <> 'bad'), price REAL,
             ref INTEGER REFERENCES other(id) DEFERRABLE INITIALLY DEFERRED);
         CREATE TRIGGER t BEFORE INSERT ON items WHEN NEW.name GLOB 'raise*' BEGIN
             SELECT CASE NEW.name WHEN 'raise1' THEN RAISE(ABORT, 'no') WHEN 'raise2' THEN RAISE(ROLLBACK, 'never')
                 WHEN 'raise3' THEN RAISE(FAIL, 'failed') ELSE RAISE(IGNORE) END; END;
         INSERT INTO items VALUES(20, 'taken', 0, NULL)",
    );
    let (platform, schema) = (b.open().await, b.schema().await);
    let mut rows = platform.rows().await.unwrap();
    let names = ["good", "bad", "taken", "raise1", "raise2", "raise3", "raise4", "orphan", "fine"];
    let plan: Vec<Planned> = (1u8..)
        .zip(names)
        .map(|(id, name)| {
            let reference = if name == "orphan" { Value::Int(99) } else { Value::Null };
            let row = Row(vec![Value::Int(i64::from(id)), Value::text(name), Value::Null, reference]);
            version(&schema, &key(id), u64::from(id), Some(row))
        })
        .collect();
    let fates = apply(&mut rows, &plan).await;
    for (fate, name) in fates.iter().zip(names) {
        assert_eq!(*fate == Written::Done, matches!(name, "good" | "fine"), "{name}: {fate:?}");
    }
    assert!(matches!(&fates[4], Written::Refused(why) if why.contains("never")), "{:?}", fates[4]);
    assert_eq!(b.count("SELECT count(*) FROM items"), 3);
    assert_eq!(b.count("SELECT count(*) FROM _driftless_ledger"), 2, "a refused row moves no ledger");
}

/// sink-6
#[tokio::test]
async fn a_unique_value_that_moves_to_another_row_in_one_batch_is_written() {
    let b = Bench::new(
        "CREATE TABLE items(id INTEGER PRIMARY KEY, name TEXT UNIQUE, price REAL); INSERT INTO items VALUES(2, 'x', NULL)",
    );
    let (platform, schema) = (b.open().await, b.schema().await);
    let mut rows = platform.rows().await.unwrap();
    let plan = [version(&schema, &key(1), 1, Some(item(1, "x"))), version(&schema, &key(2), 2, None)];
    assert_eq!(apply(&mut rows, &plan).await, [Written::Done, Written::Done]);
}

/// verb-9
#[tokio::test]
async fn opening_twice_changes_nothing_and_removing_leaves_the_data_alone() {
    let b = Bench::new(ITEMS);
    b.open().await;
    let before = b.count("SELECT schema_version FROM pragma_schema_version");
    b.open().await;
    assert_eq!(b.count("SELECT schema_version FROM pragma_schema_version"), before);
    b.run("INSERT INTO items VALUES(1, 'a', 0)");
    b.connector().remove(&b.scope).await.unwrap();
    assert_eq!(b.count("SELECT count(*) FROM sqlite_schema WHERE name LIKE '%driftless%'"), 0);
    assert_eq!(b.count("SELECT count(*) FROM items"), 1);
    b.connector().remove(&b.scope).await.unwrap();
    assert!(b.connector().check(Some(&b.scope)).await.unwrap().is_empty());
}
