//! What cannot be told or kept the same: it is said, and stops nothing else.

use super::*;

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
