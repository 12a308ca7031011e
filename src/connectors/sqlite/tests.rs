//! What the connector does to real SQLite files, with an application that writes beside it.

pub(in crate::connectors) mod conformance;

use super::DESCRIPTOR;
use crate::connectors::contract::*;
use crate::event::decimal::Decimal;
use crate::event::value::{Interval, Text};
use crate::event::*;
use crate::runtime::error::{Code, Result};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use rusqlite::Connection;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

const LIMIT: BatchLimit = BatchLimit { rows_max: 1000, bytes_max: 1 << 20 };
const ITEMS: &str = "CREATE TABLE items(id INTEGER PRIMARY KEY, name TEXT, price REAL)";

/// A file with an application's connection to it.
struct Bench {
    _dir: tempfile::TempDir,
    path: PathBuf,
    app: Connection,
    scope: Scope,
}

impl Bench {
    fn new(sql: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let app = Connection::open(&path).unwrap();
        app.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF").unwrap();
        app.execute_batch(sql).unwrap();
        let place = Place { name: "items".into(), on: serde_json::Value::Null, schema: None, partitions: 1 };
        let scope = Scope { dataset: "shop".into(), collections: vec![place] };
        Bench { _dir: dir, path, app, scope }
    }

    fn connector(&self) -> Box<dyn Connector> {
        (DESCRIPTOR.open)(json!({ "path": self.path, "busy-timeout-ms": 50 }), "till").unwrap()
    }

    async fn open(&self) -> Box<dyn LogPlatform> {
        self.try_open().await.unwrap()
    }

    async fn try_open(&self) -> Result<Box<dyn LogPlatform>> {
        match self.connector().open(&self.scope).await? {
            Opened::Log(platform) => Ok(platform),
            Opened::Hint(_) => panic!("SQLite is a LOG platform"),
        }
    }

    async fn schema(&self) -> Schema {
        self.connector().schema(&self.scope.collections[0]).await.unwrap().unwrap()
    }

    fn run(&self, sql: &str) {
        self.app.execute_batch(sql).unwrap();
    }

    fn count(&self, sql: &str) -> i64 {
        self.app.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

fn item(id: i64, name: &str) -> Row {
    Row(vec![Value::Int(id), Value::text(name), Value::Null])
}

/// Zigzag of a small key, as Avro writes it.
fn key(id: u8) -> Key {
    Key(vec![id * 2].into())
}

fn version(schema: &Schema, key: &Key, seq: u64, row: Option<Row>) -> Planned {
    let fp = row.as_ref().map_or(Fp::ABSENT, |r| Fp::of_row(schema, r));
    let dot = Dot { actor: ActorId(9), ctr: seq };
    let canonical = Canonical {
        key: key.clone(),
        seq,
        id: seq,
        prev: seq - 1,
        origin: Origin::Input(seq),
        idx: 0,
        last: true,
        dot,
        vv: Vv::new().with(dot),
        ts: Hlc::from_ms(seq),
        fp,
        tomb: row.is_none(),
        schema: SchemaId(0),
        after: row.map(Arc::new),
        by: ActorId(9),
        cause: Cause::FastForward,
        ack: Ack::new(),
        rctr: 0,
        conflict: None,
        copy: false,
    };
    Planned { version: Arc::new(canonical), fp, act: Act::Write }
}

async fn apply(rows: &mut Box<dyn Rows>, plan: &[Planned]) -> Vec<Written> {
    let keys: Vec<Key> = plan.iter().map(|p| p.version.key.clone()).collect();
    rows.lock(0, &keys).await.unwrap().write(plan).await.unwrap()
}

/// All changes there are, until the reader has nothing more.
async fn drain(reader: &mut Box<dyn Reader>) -> Vec<Transaction> {
    let mut all = Vec::new();
    loop {
        let batch = reader.next(LIMIT).await.unwrap();
        if batch.transactions.is_empty() {
            return all;
        }
        all.extend(batch.transactions);
    }
}

fn shown(transactions: &[Transaction]) -> Vec<String> {
    let one = |c: &Change| match c {
        Change::Row { key, after: Some(row), .. } => format!("put {key:?} {:?}", row.0[1]),
        Change::Row { key, .. } => format!("delete {key:?}"),
        Change::Ledger { key, entry, .. } => format!("ledger {key:?} {:?}", entry.as_ref().map(|e| e.seq)),
        Change::Observed { key, image, .. } => format!("observed {key:?} {}", image.is_some()),
        Change::Unreadable(found) => format!("unreadable {}", found.native),
        Change::Truncate(collection) => format!("truncate {collection}"),
    };
    transactions.iter().map(|t| t.changes.iter().map(one).collect::<Vec<_>>().join(" + ")).collect()
}

fn puts(transactions: &[Transaction]) -> Vec<Row> {
    let row = |c: &Change| match c {
        Change::Row { after: Some(row), .. } => Some((**row).clone()),
        _ => None,
    };
    transactions.iter().flat_map(|t| &t.changes).filter_map(row).collect()
}

async fn reader(platform: &dyn LogPlatform) -> Box<dyn Reader> {
    platform.reader(platform.position().await.unwrap()).await.unwrap()
}

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

/// P8: it is told as it stands, the rest goes on, and nothing overwrites it.
#[tokio::test]
async fn a_value_of_another_type_is_told_as_unreadable_and_left_alone() {
    let b = Bench::new("CREATE TABLE items(id INTEGER PRIMARY KEY, n INTEGER)");
    let platform = b.open().await;
    let mut log = reader(&*platform).await;
    b.run("INSERT INTO items VALUES(1, 10); INSERT INTO items VALUES(2, 'seven'); INSERT INTO items VALUES(3, 30)");
    let read = drain(&mut log).await;
    let row = |id, n| Row(vec![Value::Int(id), Value::Int(n)]);
    assert_eq!(puts(&read), [row(1, 10), row(3, 30)]);
    let told = read.iter().flat_map(|t| &t.changes).find_map(|change| match change {
        Change::Unreadable(told) => Some(told),
        _ => None,
    });
    let told = told.unwrap();
    assert_eq!((&told.key, told.code, told.replaced), (&Some(key(2)), "value_refused", false));
    assert_eq!(told.native, r#"{"id":2,"n":"seven"}"#);
    let parts = ["seven", "column n", "table items", "id = "];
    assert!(parts.iter().all(|part| told.why.contains(part)), "{}", told.why);
    let mut copy = platform.snapshot(0, None).await.unwrap();
    assert_eq!(copy.next(LIMIT).await.unwrap().unwrap().len(), 2);
    assert_eq!(copy.unreadable()[0].key, Some(key(2)));
    assert!(copy.next(LIMIT).await.unwrap().is_none());
    let mut rows = platform.rows().await.unwrap();
    let held = rows.lock(0, &[key(2)]).await.unwrap();
    assert!(matches!(held.seen(0), Seen::Unreadable(why) if why.contains("seven")));
    drop(held);
    b.run("UPDATE items SET n = 7 WHERE id = 2");
    assert_eq!(puts(&drain(&mut log).await), [row(2, 7)]);
}

/// P8
#[tokio::test]
async fn a_key_over_4_kib_is_told_whole_and_stops_nothing_else() {
    let b = Bench::new("CREATE TABLE items(id TEXT PRIMARY KEY, v TEXT)");
    let platform = b.open().await;
    let mut log = reader(&*platform).await;
    b.run("INSERT INTO items VALUES(printf('%.4093c', 'y'), 'just fits'), (printf('%.4097c', 'x'), 'long'), ('c', 'short')");
    let read = drain(&mut log).await;
    assert_eq!(puts(&read).len(), 2);
    let told = read.iter().flat_map(|t| &t.changes).find_map(|change| match change {
        Change::Unreadable(told) => Some(told),
        _ => None,
    });
    let told = told.unwrap();
    assert_eq!((&told.key, told.code), (&None, "key_too_long"));
    assert!(told.why.contains("4096; shorten it") && told.why.contains("table items"), "{}", told.why);
    assert_eq!(told.native, json!({"id": "x".repeat(4097), "v": "long"}).to_string());
    let mut copy = platform.snapshot(0, None).await.unwrap();
    assert_eq!(copy.next(LIMIT).await.unwrap().unwrap().len(), 2);
    assert_eq!(copy.unreadable().len(), 1);
    b.run("UPDATE items SET id = 'short now' WHERE v = 'long'");
    assert_eq!(puts(&drain(&mut log).await).len(), 1);
}

/// P8: a copy in small chunks passes rows it cannot tell, with or without a key that can be told.
#[tokio::test]
async fn a_first_copy_passes_unreadable_rows_in_chunks_of_one() {
    let b = Bench::new("CREATE TABLE items(id INTEGER NOT NULL PRIMARY KEY, n INTEGER) WITHOUT ROWID");
    let platform = b.open().await;
    b.run("INSERT INTO items VALUES(1, 'x'), (2, 'y'), (3, 30), ('four', 4), ('five', 5)");
    let mut copy = platform.snapshot(0, None).await.unwrap();
    let (mut rows, mut unreadable) = (Vec::new(), Vec::new());
    while let Some(chunk) = copy.next(BatchLimit { rows_max: 1, bytes_max: 1 }).await.unwrap() {
        rows.extend(chunk);
        unreadable.extend(copy.unreadable());
    }
    unreadable.extend(copy.unreadable());
    assert_eq!(rows.len(), 1);
    assert_eq!(unreadable.iter().filter(|u| u.key.is_some()).count(), 2);
    assert!(unreadable.iter().any(|u| u.native.contains("five")), "{unreadable:?}");
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
async fn tables_that_cannot_be_kept_the_same_are_refused_with_the_remedy() {
    let cases = [
        ("CREATE TABLE items(id INTEGER, v TEXT)", Code::TableWithoutKey, "PRIMARY KEY"),
        ("CREATE VIEW items AS SELECT 1 AS id", Code::TableWithoutKey, "view"),
        ("CREATE TABLE items(id TEXT PRIMARY KEY COLLATE NOCASE)", Code::SchemaUnsupported, "BINARY"),
        ("CREATE TABLE items(id INTEGER PRIMARY KEY, v STRING)", Code::SchemaUnsupported, "STRING"),
        ("CREATE TABLE other(id INTEGER PRIMARY KEY)", Code::TableMissing, "items"),
    ];
    for (sql, code, hint) in cases {
        let error = Bench::new(sql).try_open().await.err().unwrap();
        assert!(error.code == code && error.doing.contains(hint), "{sql}: {error}");
    }
    let mut missing = Bench::new(ITEMS);
    missing.path = missing.path.with_file_name("nowhere.db");
    assert_eq!(missing.try_open().await.err().unwrap().code, Code::SourceUnreachable);
    assert!(!missing.path.exists(), "a wrong path must not become an empty database");
    let garbage = Bench::new(ITEMS);
    let path = garbage.path.with_file_name("text.db");
    std::fs::write(&path, "this is no database, but long enough to look at".repeat(40)).unwrap();
    let error = (DESCRIPTOR.open)(json!({ "path": path }), "till").unwrap().open(&garbage.scope).await.err().unwrap();
    assert_eq!(error.code, Code::StoreCorrupt);
    assert_eq!((DESCRIPTOR.open)(json!({ "path": "a", "pth": 1 }), "till").err().unwrap().code, Code::ConfigInvalid);
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

const ALL_TYPES: &str = "CREATE TABLE items(id TEXT PRIMARY KEY, b BOOLEAN, i BIGINT, f DOUBLE, n DECIMAL(30, 10), nt TEXT, t VARCHAR(9), x BLOB,
    u UUID, ub BLOB, d DATE, ti TIME, tz TIMETZ, ts TIMESTAMP, tsz TIMESTAMPTZ, j JSON, jt TEXT, v INTERVAL, fn NUMERIC, f32 REAL)";

fn all_types() -> Schema {
    let local = Type::Timestamp { zone: false };
    let zoned = Type::Timestamp { zone: true };
    let types = [
        ("id", Type::Text),
        ("b", Type::Bool),
        ("i", Type::Int(64)),
        ("f", Type::Float(64)),
        ("n", Type::Decimal),
        ("nt", Type::Decimal),
        ("t", Type::Text),
        ("x", Type::Bytes),
        ("u", Type::Uuid),
        ("ub", Type::Uuid),
        ("d", Type::Date),
        ("ti", Type::Time),
        ("tz", Type::TimeTz),
        ("ts", local),
        ("tsz", zoned),
        ("j", Type::Json),
        ("jt", Type::Json),
        ("v", Type::Interval),
        ("fn", Type::Float(64)),
        ("f32", Type::Float(32)),
    ];
    let field = |(name, ty): (&str, Type)| Field { name: name.into(), ty, nullable: name != "id" };
    Schema { id: SchemaId(0), name: "items".into(), fields: types.into_iter().map(field).collect(), key: vec![0] }
}

fn decimals() -> impl Strategy<Value = Decimal> {
    let number = (any::<i128>(), -40..40_i64)
        .prop_map(|(n, scale)| Decimal::finite(&bigdecimal::BigDecimal::new(n.into(), scale)));
    let small =
        (any::<i32>(), 0..6_i64).prop_map(|(n, scale)| Decimal::finite(&bigdecimal::BigDecimal::new(n.into(), scale)));
    prop_oneof![4 => small, 2 => number, 1 => prop_oneof![Just(Decimal::NaN), Just(Decimal::Infinity), Just(Decimal::NegInfinity)]]
}

fn documents() -> impl Strategy<Value = Text> {
    let text = prop_oneof![
        "[0-9]{1,20}",
        "-?[1-9][0-9]{0,2}\\.[0-9]{1,3}",
        "[0-9]e[0-9]",
        Just("{\"a\":[1,2.50,null]}".into()),
        Just("\"12\"".into()),
        Just("null".into())
    ];
    text.prop_map(Text::from)
}

fn any_row() -> impl Strategy<Value = Row> {
    let numbers = (
        any::<bool>(),
        any::<i64>(),
        any::<f64>(),
        decimals(),
        decimals(),
        any::<f64>(),
        any::<f32>(),
        documents(),
        documents(),
    );
    let texts = (
        ".{0,12}",
        prop_oneof!["[0-9]{1,5}(\\.[0-9]{1,3})?", ".*"],
        any::<Vec<u8>>(),
        any::<[u8; 16]>(),
        any::<[u8; 16]>(),
    );
    let times = (
        any::<i32>().prop_map(|d| d / 4),
        0..=86_400_000_000_i64,
        -50_000..50_000_i32,
        any::<i64>(),
        any::<i64>(),
        any::<(i32, i32, i64)>(),
    );
    type Texts = (String, String, Vec<u8>, [u8; 16], [u8; 16]);
    let row = |((b, i, f, n, nt, fnum, f32v, j, jt), (id, t, x, u, ub), (d, ti, zone, ts, tsz, v)): (_, Texts, _)| {
        let (months, days, micros) = v;
        Row(vec![
            Value::text(&id),
            Value::Bool(b),
            Value::Int(i),
            Value::Float64(f),
            Value::Decimal(n),
            Value::Decimal(nt),
            Value::text(&t),
            Value::Bytes(Bytes::from(x)),
            Value::Uuid(u),
            Value::Uuid(ub),
            Value::Date(d),
            Value::Time(ti),
            Value::TimeTz(ti, zone),
            Value::Timestamp(ts),
            Value::Timestamp(tsz),
            Value::Json(j),
            Value::Json(jt),
            Value::Interval(Interval { months, days, micros }),
            Value::Float64(fnum),
            Value::Float32(f32v),
        ])
    };
    ((numbers, texts, times).prop_map(row), any::<u32>()).prop_map(|(mut row, nulls)| {
        row.0.iter_mut().enumerate().skip(1).filter(|(i, _)| nulls >> i & 7 == 7).for_each(|(_, v)| *v = Value::Null);
        row
    })
}

/// Single values that this table cannot hold become null: the others must not hide behind them.
fn accepted(rows: &dyn Rows, schema: &Schema, key: &Key, row: &Row) -> Planned {
    let mut kept = row.clone();
    for field in 1..kept.0.len() {
        let mut alone = Row(vec![Value::Null; kept.0.len()]);
        (alone.0[0], alone.0[field]) = (kept.0[0].clone(), kept.0[field].clone());
        let verdict = rows.norm(0, &version(schema, key, 1, Some(alone)).version);
        if let Err(e) = verdict {
            assert_eq!(e.code, Code::ValueRefused);
            let lossless = !matches!(schema.fields[field].ty, Type::Decimal | Type::Json | Type::Float(_));
            assert!(!lossless, "{e}: {:?}", kept.0[field]);
            kept.0[field] = Value::Null;
        }
    }
    version(schema, key, 1, Some(kept))
}

/// correctness.md §3.7, P8: what is stored reads back as what `norm` said, by log, copy and lock.
#[test]
fn every_value_reads_back_as_it_was_written_or_is_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut b = Bench::new(ALL_TYPES);
    let schema = Arc::new(all_types());
    b.scope.collections[0].schema = Some(schema.clone());
    let platform = runtime.block_on(b.open());
    let mut rows = runtime.block_on(platform.rows()).unwrap();
    let mut log = runtime.block_on(reader(&*platform));
    let cases = proptest::collection::vec(any_row(), 8);
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    for _ in 0..80 {
        let all = cases.new_tree(&mut runner).unwrap().current();
        runtime.block_on(round(&b, &schema, &*platform, &mut rows, &mut log, &all));
    }
}

async fn round(
    b: &Bench,
    schema: &Schema,
    platform: &dyn LogPlatform,
    rows: &mut Box<dyn Rows>,
    log: &mut Box<dyn Reader>,
    all: &[Row],
) {
    b.run("DELETE FROM items; DELETE FROM _driftless_ledger");
    drain_now(log).await;
    let mut plan: Vec<Planned> = Vec::new();
    for row in all {
        let Value::Text(id) = &row.0[0] else { panic!() };
        let mut bytes = vec![u8::try_from(id.as_bytes().len() * 2).unwrap()];
        bytes.extend(id.as_bytes());
        let key = Key(bytes.into());
        if id.as_bytes().len() < 64 && plan.iter().all(|p| p.version.key != key) {
            let planned = accepted(&**rows, schema, &key, row);
            assert_eq!(rows.norm(0, &planned.version).unwrap(), planned.fp);
            plan.push(planned);
        }
    }
    let fates = apply(rows, &plan).await;
    assert!(fates.iter().all(|w| *w == Written::Done), "{fates:?}");
    let keys: Vec<Key> = plan.iter().map(|p| p.version.key.clone()).collect();
    let held = rows.lock(0, &keys).await.unwrap();
    for (i, planned) in plan.iter().enumerate() {
        let Seen::Row { fp, .. } = held.seen(i) else { panic!() };
        assert_eq!(fp, planned.fp, "{:?}", planned.version.after);
    }
    drop(held);
    let logged = puts(&drain_now(log).await);
    assert_eq!(logged.len(), plan.len());
    assert!(logged.iter().zip(&plan).all(|(row, planned)| Fp::of_row(schema, row) == planned.fp));
    let copied = platform.snapshot(0, None).await.unwrap().next(LIMIT).await.unwrap().unwrap();
    assert!(copied.iter().all(|c| plan.iter().any(|p| p.version.key == c.key && p.fp == c.fp)));
}

/// What is there after at least one change, without waiting for a heartbeat.
async fn drain_now(log: &mut Box<dyn Reader>) -> Vec<Transaction> {
    log.next(BatchLimit { rows_max: usize::MAX, bytes_max: usize::MAX }).await.unwrap().transactions
}
