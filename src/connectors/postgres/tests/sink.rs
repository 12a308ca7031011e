//! What the sink writes, and what it leaves alone.

use super::server::*;
use crate::connectors::contract::*;
use crate::event::*;
use crate::runtime::error::Result;
use std::sync::Arc;

pub(super) fn version(schema: &Schema, seq: u64, row: &[Value], tomb: bool) -> Canonical {
    let mut key = bytes::BytesMut::new();
    // One integer key is all these tests need: zigzag.
    let Value::Int(id) = row[schema.key[0]] else { panic!("an integer key") };
    let zigzag = ((id << 1) ^ (id >> 63)).cast_unsigned();
    let mut rest = zigzag;
    while rest >= 0x80 {
        key.extend_from_slice(&[(rest & 0x7f) as u8 | 0x80]);
        rest >>= 7;
    }
    key.extend_from_slice(&[rest as u8]);
    let dot = Dot { actor: ActorId::new(PlatformNo(2), 1), ctr: seq };
    Canonical {
        key: Key(key.freeze()),
        seq,
        id: seq,
        prev: seq - 1,
        origin: Origin::Input(seq),
        idx: 0,
        last: true,
        dot,
        vv: Vv::new().with(dot),
        ts: Hlc::from_ms(1_700_000_000_000 + seq),
        fp: Fp::ABSENT,
        tomb,
        schema: SchemaId(7),
        after: (!tomb).then(|| Arc::new(Row(row.to_vec()))),
        by: dot.actor,
        cause: Cause::FastForward,
        ack: Ack::default(),
        rctr: 0,
        conflicted: 0,
        conflict: None,
        asked: None,
        copy: false,
    }
}

async fn plan(rows: &dyn Rows, versions: Vec<Canonical>, act: Act) -> Vec<Planned> {
    versions.into_iter().map(|v| Planned { fp: rows.norm(0, &v).unwrap(), version: Arc::new(v), act }).collect()
}

/// Locks and writes at once.
pub(super) async fn apply(rows: &mut dyn Rows, versions: Vec<Canonical>, act: Act) -> Vec<Written> {
    try_apply(rows, versions, act).await.unwrap()
}

pub(super) async fn try_apply(rows: &mut dyn Rows, versions: Vec<Canonical>, act: Act) -> Result<Vec<Written>> {
    let plan = plan(rows, versions, act).await;
    let keys: Vec<Key> = plan.iter().map(|p| p.version.key.clone()).collect();
    rows.lock(0, &keys).await?.write(&plan).await
}

fn item(id: i64, v: &str) -> Vec<Value> {
    vec![Value::Int(id), Value::text(v)]
}

const TABLE: &str = "CREATE TABLE item (id int PRIMARY KEY, v text)";

/// read-1, read-3: the reader knows the sink's rows by the ledger's beside them.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_sink_wrote_is_told_whole_however_small_the_readers_limit() {
    let db = Db::new(TABLE).await;
    let (platform, mut reader) = db.reading(&["item"]).await;
    let schema = db.schema("item").await;
    let mut rows = platform.rows().await.unwrap();
    let versions = (1..=20i64).map(|id| version(&schema, id.cast_unsigned(), &item(id, "a"), false)).collect();
    assert_eq!(apply(&mut *rows, versions, Act::Write).await, vec![Written::Done; 20]);
    db.run("INSERT INTO item SELECT g, 'b' FROM generate_series(21, 40) g").await;
    let small = BatchLimit { rows_max: 5, bytes_max: 1 << 20 };
    let mut parts = Vec::new();
    while parts.iter().map(|t: &Transaction| t.changes.len()).sum::<usize>() < 60 {
        parts.extend(reader.next(small).await.unwrap().transactions);
    }
    let sizes: Vec<(u64, usize)> = parts.iter().map(|t| (t.first, t.changes.len())).collect();
    assert_eq!(sizes, [(0, 40), (0, 5), (5, 5), (10, 5), (15, 5)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_and_ledger_change_together_and_the_reader_sees_both_in_one_transaction() {
    let db = Db::new(TABLE).await;
    let (platform, mut reader) = db.reading(&["item"]).await;
    let schema = db.schema("item").await;
    let mut rows = platform.rows().await.unwrap();
    let put = |seq, id, v: &str| version(&schema, seq, &item(id, v), false);
    assert_eq!(apply(&mut *rows, vec![put(1, 1, "a"), put(2, 2, "b")], Act::Write).await, vec![Written::Done; 2]);
    let deleted = version(&schema, 4, &item(2, ""), true);
    let large = "x".repeat(9000);
    assert_eq!(apply(&mut *rows, vec![put(3, 1, &large), deleted], Act::Write).await, vec![Written::Done; 2]);
    assert_eq!(apply(&mut *rows, vec![put(5, 1, &large)], Act::Write).await, [Written::Done]);
    assert_eq!(db.sql.text("SELECT string_agg(id || left(v, 1), ',') FROM public.item").await.unwrap(), "1x");
    let (found, _) = read_until(&mut *reader, |t| t.len() >= 3).await;
    for transaction in &found {
        for change in &transaction.changes {
            let Change::Row { key, fp, .. } = change else { continue };
            // Read-1: the ledger row of the same key, with the fingerprint of the image.
            let mut ledger = transaction.changes.iter().filter_map(|c| match c {
                Change::Ledger { key: k, entry: Some(entry), .. } if k == key => Some(entry),
                _ => None,
            });
            let entry = ledger.next().expect("a ledger row beside the row");
            assert_eq!(entry.fp, *fp, "{transaction:?}");
            assert_eq!(entry.tomb, *fp == Fp::ABSENT);
        }
    }
    // An unchanged large value is written again in full: the image has no hole.
    assert_eq!(found[2].changes.len(), 2);
    let keys: Vec<Key> = (1..=3).map(|i| version(&schema, 1, &item(i, ""), false).key).collect();
    let ledger = rows.ledger(0, &keys).await.unwrap();
    assert_eq!(
        ledger.iter().map(|l| l.as_ref().map(|l| (l.seq, l.tomb))).collect::<Vec<_>>(),
        [Some((5, false)), Some((4, true)), None]
    );
    assert_eq!(ledger[0].as_ref().unwrap().vv.get(ActorId::new(PlatformNo(2), 1)), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_locked_by_others_is_busy_and_waited_for_by_nobody() {
    let db = Db::new(TABLE).await;
    db.run("INSERT INTO item VALUES (1, 'a'), (2, 'b')").await;
    let platform = db.open(&["item"]).await;
    let schema = db.schema("item").await;
    let mut rows = platform.rows().await.unwrap();
    db.run("BEGIN; UPDATE item SET v = 'mine' WHERE id = 1").await;
    let keys: Vec<Key> = (1..=3).map(|i| version(&schema, 1, &item(i, ""), false).key).collect();
    let locked = rows.lock(0, &keys).await.unwrap();
    assert_eq!(locked.seen(0), Seen::Busy);
    assert_eq!(locked.seen(1), Seen::Row { fp: Fp::of_row(&schema, &Row(item(2, "b"))), ledger: None });
    assert_eq!(locked.seen(2), Seen::Row { fp: Fp::ABSENT, ledger: None });
    // A plan that ignores it changes nothing there.
    let busy =
        Planned { version: Arc::new(version(&schema, 1, &item(1, "x"), false)), fp: Fp::ABSENT, act: Act::Write };
    assert_eq!(locked.write(&[busy]).await.unwrap(), [Written::Dirty]);
    db.run("COMMIT").await;
    assert_eq!(db.sql.text("SELECT v FROM public.item WHERE id = 1").await.unwrap(), "mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_appears_behind_the_lock_is_left_alone_and_the_others_are_written() {
    let db = Db::new(TABLE).await;
    let platform = db.open(&["item"]).await;
    let schema = db.schema("item").await;
    let mut rows = platform.rows().await.unwrap();
    let versions = (1..=3).map(|i| version(&schema, i as u64, &item(i, "canonical"), false)).collect();
    let plan = plan(&*rows, versions, Act::Write).await;
    let keys: Vec<Key> = plan.iter().map(|p| p.version.key.clone()).collect();
    let locked = rows.lock(0, &keys).await.unwrap();
    db.run("INSERT INTO item VALUES (2, 'local')").await;
    assert_eq!(locked.write(&plan).await.unwrap(), [Written::Done, Written::Dirty, Written::Done]);
    let all = "SELECT string_agg(id || v, ',' ORDER BY id) FROM public.item";
    assert_eq!(db.sql.text(all).await.unwrap(), "1canonical,2local,3canonical");
    assert_eq!(rows.ledger(0, &keys).await.unwrap()[1], None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_insert_that_meets_an_uncommitted_one_does_not_wait_for_it() {
    let db = Db::new(TABLE).await;
    let platform = db.open(&["item"]).await;
    let schema = db.schema("item").await;
    let mut rows = platform.rows().await.unwrap();
    db.run("BEGIN; INSERT INTO item VALUES (1, 'local')").await;
    let written = apply(
        &mut *rows,
        vec![version(&schema, 1, &item(1, "c"), false), version(&schema, 2, &item(2, "c"), false)],
        Act::Write,
    );
    assert_eq!(written.await, [Written::Dirty, Written::Done]);
    db.run("COMMIT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overtaken_sink_changes_nothing() {
    let db = Db::new(TABLE).await;
    let platform = db.open(&["item"]).await;
    let schema = db.schema("item").await;
    let (mut old, mut new) = (platform.rows().await.unwrap(), platform.rows().await.unwrap());
    let late = plan(&*old, vec![version(&schema, 1, &item(1, "old"), false)], Act::Write).await;
    let locked = old.lock(0, &[late[0].version.key.clone()]).await.unwrap();
    apply(
        &mut *new,
        vec![version(&schema, 2, &item(1, "new"), false), version(&schema, 3, &item(1, "gone"), true)][..1].to_vec(),
        Act::Write,
    )
    .await;
    apply(&mut *new, vec![version(&schema, 3, &item(1, "gone"), true)], Act::Write).await;
    // The row is absent again, as it was under the old lock; only the ledger knows better (sink-1).
    assert_eq!(locked.write(&late).await.unwrap(), [Written::Dirty]);
    assert_eq!(db.sql.text("SELECT count(*) FROM public.item").await.unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_writes_nothing() {
    let db = Db::new(TABLE).await;
    let platform = db.open(&["item"]).await;
    let schema = db.schema("item").await;
    let mut rows = platform.rows().await.unwrap();
    let before = db.sql.text("SELECT txid_current()").await.unwrap();
    assert_eq!(apply(&mut *rows, vec![version(&schema, 1, &item(1, "a"), false)], Act::Skip).await, [Written::Done]);
    let after = db.sql.text("SELECT count(*) FROM public.item").await.unwrap();
    assert_eq!(after, "0", "since transaction {before}");
    assert_eq!(db.sql.text("SELECT count(*) FROM driftless.ledger").await.unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_row_costs_only_itself_and_swapped_unique_values_go_through() {
    let db = Db::new("CREATE TABLE item (id int PRIMARY KEY, v text UNIQUE CHECK (v <> 'bad'))").await;
    let platform = db.open(&["item"]).await;
    let schema = db.schema("item").await;
    let mut rows = platform.rows().await.unwrap();
    let put = |seq, id, v: &str| version(&schema, seq, &item(id, v), false);
    let written = apply(&mut *rows, vec![put(1, 1, "a"), put(2, 2, "bad"), put(3, 3, "c")], Act::Write).await;
    assert!(
        matches!(&written[..], [Written::Done, Written::Refused(why), Written::Done] if why.contains("23514")),
        "{written:?}"
    );
    // Sink-6: all deletions first, then all insertions.
    assert_eq!(apply(&mut *rows, vec![put(4, 1, "c"), put(5, 3, "a")], Act::Write).await, vec![Written::Done; 2]);
    let all = "SELECT string_agg(id || v, ',' ORDER BY id) FROM public.item";
    assert_eq!(db.sql.text(all).await.unwrap(), "1c,3a");
    let written = apply(&mut *rows, vec![put(6, 9, "a"), put(7, 10, "z")], Act::Write).await;
    assert!(matches!(&written[..], [Written::Refused(why), Written::Done] if why.contains("23505")), "{written:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_be_a_replica_foreign_keys_refuse_their_rows() {
    let db = Db::new("CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE item (id int PRIMARY KEY, v text, p int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)").await;
    let role = format!("plain_{}", db.dataset);
    db.open(&["item"]).await;
    db.run(&format!("CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA driftless TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA driftless, public TO {role}")).await;
    let mut settings = db.settings.clone();
    settings["user"] = role.into();
    let connector = super::super::client::platform::open(settings, "here").unwrap();
    let platform = log(connector.open(&db.scope(&["item"])).await.unwrap());
    let schema = db.schema("item").await;
    let mut rows = platform.rows().await.unwrap();
    let with = |seq, id, p| version(&schema, seq, &[Value::Int(id), Value::Null, p], false);
    let written = apply(&mut *rows, vec![with(1, 1, Value::Int(5)), with(2, 2, Value::Null)], Act::Write).await;
    assert!(matches!(&written[..], [Written::Refused(why), Written::Done] if why.contains("23503")), "{written:?}");
    // A replica leaves that to where the row came from (sink-5).
    let platform = db.open(&["item"]).await;
    let mut rows = platform.rows().await.unwrap();
    assert_eq!(apply(&mut *rows, vec![with(3, 1, Value::Int(5))], Act::Write).await, [Written::Done]);
}

#[tokio::test(flavor = "multi_thread")]
async fn adopt_moves_the_ledger_only_and_observe_shows_the_row_to_the_reader() {
    let db = Db::new(TABLE).await;
    db.run("INSERT INTO item VALUES (1, 'here')").await;
    let (platform, mut reader) = db.reading(&["item"]).await;
    let schema = db.schema("item").await;
    let mut rows = platform.rows().await.unwrap();
    apply(&mut *rows, vec![version(&schema, 1, &item(1, "here"), false)], Act::Adopt).await;
    let changes = read(&mut *reader, 1).await;
    assert!(matches!(&changes[0], Change::Ledger { entry: Some(e), .. } if e.seq == 1));
    let both = vec![version(&schema, 2, &item(1, "x"), false), version(&schema, 3, &item(2, "x"), false)];
    apply(&mut *rows, both, Act::Observe).await;
    let fp = Fp::of_row(&schema, &Row(item(1, "here")));
    let changes = read(&mut *reader, 2).await;
    let Change::Observed { image: Some(image), fp: seen, .. } = &changes[0] else { panic!("{changes:?}") };
    assert_eq!((&**image, *seen), (&Row(item(1, "here")), fp));
    assert!(matches!(&changes[1], Change::Observed { image: None, fp: Fp::ABSENT, .. }));
    assert_eq!(db.sql.text("SELECT count(*) FROM driftless.observed").await.unwrap(), "0");
    // Sink-4: what is dirty is remembered with the place its reader must pass.
    let locked = rows.lock(0, &[version(&schema, 4, &item(1, ""), false).key]).await.unwrap();
    let place = locked.position().commit;
    let dirty = Planned { version: Arc::new(version(&schema, 4, &item(1, "y"), false)), fp, act: Act::Dirty };
    locked.write(&[dirty]).await.unwrap();
    let parked = db.sql.text("SELECT seq || ' ' || position FROM driftless.parked").await.unwrap();
    assert_eq!(parked, format!("4 {}", super::super::position::write_lsn(place)));
    apply(&mut *rows, vec![version(&schema, 5, &item(1, "y"), false)], Act::Write).await;
    assert_eq!(db.sql.text("SELECT count(*) FROM driftless.parked").await.unwrap(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_passed_the_position_of_a_lock_has_seen_what_the_lock_shows() {
    let db = Db::new(TABLE).await;
    let (platform, mut reader) = db.reading(&["item"]).await;
    let schema = db.schema("item").await;
    let mut rows = platform.rows().await.unwrap();
    let keys = [version(&schema, 1, &item(1, ""), false).key];
    for round in 0..30 {
        db.run(&format!("INSERT INTO item VALUES (1, 'v{round}') ON CONFLICT (id) DO UPDATE SET v = excluded.v")).await;
        let locked = rows.lock(0, &keys).await.unwrap();
        let (seen, place) = (locked.seen(0), locked.position());
        drop(locked);
        let mut last = None;
        let passing = async {
            loop {
                let batch = reader.next(BatchLimit::default()).await.unwrap();
                for change in batch.transactions.iter().flat_map(|t| &t.changes) {
                    if let Change::Row { fp, .. } = change {
                        last = Some(*fp);
                    }
                }
                if batch.through >= place {
                    break;
                }
            }
        };
        tokio::time::timeout(LONG, passing).await.unwrap();
        assert_eq!(Seen::Row { fp: last.unwrap(), ledger: None }, seen);
    }
}
