//! Rows that cannot be carried over exactly: told whole, and nothing else stops (P8).

use super::server::*;
use crate::connectors::contract::*;
use crate::event::*;
use serde_json::json;

fn told(change: &Change) -> Option<Unreadable> {
    match change {
        Change::Unreadable(found) => Some((**found).clone()),
        _ => None,
    }
}

/// What a first copy brings, and what it cannot tell.
async fn copied(platform: &dyn LogPlatform) -> (Vec<Copied>, Vec<Unreadable>) {
    let mut snapshot = platform.snapshot(0, None).await.unwrap();
    let (mut rows, mut passed) = (Vec::new(), Vec::new());
    while let Some(some) = snapshot.next(BatchLimit { rows_max: 1, bytes_max: 1 << 20 }).await.unwrap() {
        rows.extend(some);
        passed.extend(snapshot.unreadable());
    }
    passed.extend(snapshot.unreadable());
    (rows, passed)
}

fn key(id: i64) -> Key {
    let field = Field { name: "id".into(), ty: Type::Int(32), nullable: false };
    let schema = Schema { id: SchemaId(0), name: "item".into(), fields: vec![field], key: vec![0] };
    Key::of_row(&Row(vec![Value::Int(id)]), &schema).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_over_4_kib_is_told_whole_and_stops_nothing_else() {
    let db = Db::new("CREATE TABLE item (id text PRIMARY KEY, v text)").await;
    let (platform, mut reader) = db.reading(&["item"]).await;
    db.run("INSERT INTO item VALUES (repeat('y', 4093), 'just fits')").await;
    db.run("INSERT INTO item VALUES (repeat('x', 4097), 'long'), ('b', 'short')").await;
    db.run("UPDATE item SET id = repeat('z', 5000) WHERE id = 'b'").await;
    let all = read(&mut *reader, 5).await;
    assert!(row(&all[0]).1.is_some() && row(&all[2]).1.is_some());
    let long = told(&all[1]).unwrap();
    assert_eq!((&long.key, long.code, long.replaced), (&None, "key_too_long", false));
    assert!(["4096 bytes", "shorten it", "table public.item"].iter().all(|words| long.why.contains(words)), "{long:?}");
    assert_eq!(long.native, json!({"id": "x".repeat(4097), "v": "long"}).to_string());
    // Under its old key the record is gone, under the new one it cannot be told.
    assert!(row(&all[3]).0 == row(&all[2]).0 && row(&all[3]).1.is_none());
    assert!(told(&all[4]).unwrap().native.contains("short"));
    let (rows, passed) = copied(&*platform).await;
    assert_eq!((rows.len(), passed.len()), (1, 2), "{passed:?}");
    // Deleting such a row loses nothing; with a shorter key it is a record like all others.
    db.run("DELETE FROM item WHERE v = 'long'; UPDATE item SET id = 'c' WHERE v = 'short'").await;
    let rest = read(&mut *reader, 2).await;
    assert!(told(&rest[0]).unwrap().replaced && row(&rest[1]).1.is_some(), "{rest:?}");
}

/// P8, in the binary form of the log and in the text form (a column of a type that is text here).
#[tokio::test(flavor = "multi_thread")]
async fn a_value_the_dataset_cannot_hold_is_told_whole_and_stops_nothing_else() {
    for more in ["", ", n inet"] {
        let db = Db::new(&format!("CREATE TABLE item (id int PRIMARY KEY, v text, a int[], t timestamp{more})")).await;
        let (platform, mut reader) = db.reading(&["item"]).await;
        db.run("INSERT INTO item VALUES (1, 'a', '{1,NULL}', '2020-01-01')").await;
        db.run("INSERT INTO item VALUES (2, 'b', '{{1,NULL},{3,4}}', NULL), (3, 'c', '{3}', NULL)").await;
        db.run("INSERT INTO item VALUES (4, 'd', '[0:1]={1,2}', NULL), (5, 'e', NULL, '294270-01-01')").await;
        let all = read(&mut *reader, 5).await;
        assert!(row(&all[0]).1.is_some() && row(&all[2]).1.is_some(), "{all:?}");
        let keys = [2, 4, 5].map(|id| Some(key(id)));
        let found: Vec<_> = all.iter().filter_map(told).collect();
        assert!(found.iter().map(|f| &f.key).eq(&keys), "{found:?}");
        assert!(found.iter().all(|f| f.code == "value_refused" && !f.replaced), "{found:?}");
        let says = ["one dimension", "change the value", "table public.item", "column a"];
        assert!(says.iter().all(|words| found[0].why.contains(words)), "{found:?}");
        let native = |f: &Unreadable| serde_json::from_str::<serde_json::Value>(&f.native).unwrap();
        assert_eq!(native(&found[0])["a"], "{{1,NULL},{3,4}}");
        assert_eq!(native(&found[0])["v"], "b");
        assert_eq!(native(&found[1])["a"], "[0:1]={1,2}");
        assert!(found[2].why.contains("column t"), "{found:?}");

        let (rows, passed) = copied(&*platform).await;
        assert!(rows.iter().map(|r| &r.key).eq([1, 3].map(key).iter()), "{rows:?}");
        assert!(passed.iter().map(|f| &f.key).eq(&keys), "{passed:?}");
        assert_eq!(native(&passed[0]), native(&found[0]));

        // The sink sees that something stands there, and not what: it is not written over.
        let mut sink = platform.rows().await.unwrap();
        let locked = sink.lock(0, &[1, 2, 9].map(key)).await.unwrap();
        assert!(matches!(locked.seen(0), Seen::Row { fp, .. } if fp != Fp::ABSENT));
        assert!(
            matches!(locked.seen(1), Seen::Unreadable(why) if why.contains("\"a\"") && why.contains("one dimension"))
        );
        assert!(matches!(locked.seen(2), Seen::Row { fp: Fp::ABSENT, .. }));
        drop(locked);

        db.run("UPDATE item SET a = '{1,2,3,4}' WHERE id = 2; DELETE FROM item WHERE id = 4").await;
        let rest = read(&mut *reader, 2).await;
        assert!(row(&rest[0]).0 == &key(2) && row(&rest[0]).1.is_some(), "{rest:?}");
        assert!(row(&rest[1]).0 == &key(4) && row(&rest[1]).1.is_none(), "{rest:?}");
    }
}

/// read-7: under REPLICA IDENTITY FULL the row before may be one that could not be told.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_not_told_before_is_told_once_it_can_be() {
    let table = "CREATE TABLE item (id int PRIMARY KEY, a int[], v text);
                 ALTER TABLE item ALTER COLUMN v SET STORAGE EXTERNAL; ALTER TABLE item REPLICA IDENTITY FULL";
    let db = Db::new(table).await;
    let (_platform, mut reader) = db.reading(&["item"]).await;
    db.run("INSERT INTO item VALUES (1, '{{1}}', repeat('x', 4000)), (2, '{{2}}', 'b')").await;
    db.run("UPDATE item SET a = '{1}' WHERE id = 1; UPDATE item SET id = 3 WHERE id = 2").await;
    db.run("DELETE FROM item WHERE id = 3").await;
    let all = read(&mut *reader, 6).await;
    assert!(all[..2].iter().all(|change| told(change).is_some()), "{all:?}");
    // The large text did not change: it stands in the row before, beside what cannot be told.
    let large = Value::text(&"x".repeat(4000));
    assert_eq!(row(&all[2]).1.and_then(|row| row.get(2)), Some(&large), "{all:?}");
    // The old key is given up although its row could not be told, and the new one cannot be told either.
    assert!(row(&all[3]).0 == &key(2) && row(&all[3]).1.is_none(), "{all:?}");
    assert_eq!(told(&all[4]).unwrap().key, Some(key(3)));
    assert!(row(&all[5]).0 == &key(3) && row(&all[5]).1.is_none(), "{all:?}");
}
