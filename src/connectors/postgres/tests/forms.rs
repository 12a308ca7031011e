//! Tables that change while they are read and written (read-10).

use super::server::*;
use super::sink::{apply, version};
use crate::connectors::contract::*;
use crate::event::lineage::{Lens, Step, Taken, take};
use crate::event::*;
use crate::runtime::error::Code;
use std::sync::Arc;

const TABLE: &str = "CREATE TABLE item (id int PRIMARY KEY, v text)";

/// The forms that were told, by the names of their fields, and the rows by name.
fn told(found: &[Transaction]) -> Vec<String> {
    let mut all = Vec::new();
    let mut form: Option<Arc<Schema>> = None;
    for transaction in found {
        let mut forms = transaction.forms.iter().peekable();
        for number in 0..=transaction.changes.len() {
            while let Some(next) = forms.next_if(|f| f.from <= number) {
                let names: Vec<&str> = next.schema.fields.iter().map(|f| &*f.name).collect();
                all.push(format!("({})", names.join(" ")));
                form = Some(next.schema.clone());
            }
            let Some(change) = transaction.changes.get(number) else { continue };
            let Change::Row { after: Some(after), fp, .. } = change else { continue };
            if let Some(form) = &form {
                assert_eq!((*fp, after.0.len()), (Fp::of_row(form, after), form.fields.len()));
            }
            all.push(after.0.iter().map(shown).collect::<Vec<_>>().join(" "));
        }
    }
    all
}

fn shown(value: &Value) -> String {
    match value {
        Value::Int(i) => i.to_string(),
        Value::Text(text) => text.as_str().into(),
        Value::Null => "-".into(),
        other => format!("{other:?}"),
    }
}

fn rows(found: &[Transaction]) -> usize {
    found.iter().map(|t| t.changes.len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_is_told_at_its_place_and_the_rows_behind_it_are_of_it() {
    let db = Db::new(TABLE).await;
    let (platform, mut reader) = db.reading(&["item"]).await;
    let from = platform.position().await.unwrap();
    db.run("INSERT INTO item VALUES (1, 'a'); ALTER TABLE item ADD n int; INSERT INTO item VALUES (2, 'b', 7)").await;
    db.run("ALTER TABLE item ADD c text DEFAULT 'constant', ADD r text DEFAULT 'v' || (random() * 0)::int").await;
    db.run("INSERT INTO item VALUES (3, 'c'); UPDATE item SET n = 1 WHERE id = 1").await;
    db.run("ALTER TABLE item DROP c, DROP n; INSERT INTO item VALUES (4, 'd', 'w')").await;
    db.run("BEGIN; INSERT INTO item VALUES (5, 'e', 'x'); ALTER TABLE item DROP r; INSERT INTO item VALUES (6, 'f'); COMMIT").await;
    let expected = [
        "1 a",
        "(id v n)",
        "2 b 7",
        "(id v n c r)",
        "3 c - constant v0",
        "1 a 1 constant v0",
        "(id v r)",
        "4 d w",
        "5 e x",
        "(id v)",
        "6 f",
    ];
    let (found, _) = read_until(&mut *reader, |t| rows(t) >= 7).await;
    assert_eq!(told(&found), expected);
    assert!(found.iter().flat_map(|t| &t.forms).skip(1).all(|form| form.before.is_some()));
    drop(reader);
    // Read again from before, with the table as it is now: the log tells what it was.
    let mut again = reader_again(&*platform, from).await;
    let (found, _) = read_until(&mut *again, |t| rows(t) >= 7).await;
    assert_eq!(told(&found)[..], expected[..], "ordinals do not count forms");
}

async fn reader_again(platform: &dyn LogPlatform, from: Position) -> Box<dyn Reader> {
    let opening = async {
        loop {
            match platform.reader(from).await {
                Ok(reader) => return reader,
                Err(error) => assert_eq!(error.code, Code::StoreBusy, "{error:?}"),
            }
        }
    };
    tokio::time::timeout(LONG, opening).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_streamed_while_the_table_changes_has_both_forms() {
    let db = Db::new(TABLE).await;
    db.run(&format!("ALTER DATABASE {} SET logical_decoding_work_mem = '64kB'", db.dataset)).await;
    let (_, mut reader) = db.reading(&["item"]).await;
    db.run("BEGIN; INSERT INTO item SELECT i, repeat('x', 200) FROM generate_series(1, 2000) i").await;
    db.run(
        "ALTER TABLE item ADD n int; INSERT INTO item SELECT i, repeat('y', 200), i FROM generate_series(2001, 4000) i",
    )
    .await;
    db.run("SAVEPOINT s; ALTER TABLE item ADD gone int; INSERT INTO item VALUES (-1, 'z', 1, 1); ROLLBACK TO s").await;
    db.run("INSERT INTO item VALUES (4001, 'end', 1); COMMIT").await;
    let (found, _) = read_until(&mut *reader, |t| rows(t) >= 4001).await;
    let told = told(&found);
    assert_eq!(told.len(), 4002 + told.iter().filter(|t| t.starts_with('(')).count() - 1);
    assert_eq!(told.iter().position(|t| t == "(id v n)"), Some(2000));
    assert!(!told.iter().any(|t| t.contains("gone")), "what was rolled back is told");
    assert_eq!(told.last().unwrap(), "4001 end 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partitioned_table_changes_as_one() {
    let db = Db::new(
        "CREATE TABLE item (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF item FOR VALUES FROM (0) TO (10);
         CREATE TABLE high PARTITION OF item FOR VALUES FROM (10) TO (20)",
    )
    .await;
    let (_, mut reader) = db.reading(&["item"]).await;
    db.run("INSERT INTO item VALUES (1, 'a'), (11, 'b'); ALTER TABLE item ADD n int").await;
    db.run(
        "INSERT INTO item VALUES (2, 'c', 1), (12, 'd', 2); ALTER TABLE item DROP v; INSERT INTO item VALUES (3, 3)",
    )
    .await;
    let (found, _) = read_until(&mut *reader, |t| rows(t) >= 5).await;
    assert_eq!(told(&found), ["1 a", "11 b", "(id v n)", "2 c 1", "12 d 2", "(id n)", "3 3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_a_type_that_is_new_or_only_text_is_read_by_a_reader_that_begins_anew() {
    let db = Db::new(TABLE).await;
    let mut scope = db.scope(&["item"]);
    scope.collections[0].schema = Some(db.schema("item").await.into());
    let platform = log(db.connector().open(&scope).await.unwrap());
    let from = platform.position().await.unwrap();
    let mut reader = platform.reader(from).await.unwrap();
    db.run("CREATE TYPE mood AS ENUM ('good', 'bad'); ALTER TABLE item ADD m mood, ADD net inet").await;
    db.run("INSERT INTO item VALUES (1, 'a', 'good', '10.0.0.1/8')").await;
    let error = read_error(&mut *reader).await;
    assert!(matches!(error.remedy(), crate::runtime::error::Remedy::Retry { .. }), "{error:?}");
    drop(reader);
    let mut again = reader_again(&*platform, from).await;
    let (found, _) = read_until(&mut *again, |t| rows(t) >= 1).await;
    assert_eq!(told(&found), ["(id v m net)", "1 a good 10.0.0.1/8"]);
}

/// The dataset's schema as two steps of this platform: with and without `n`.
async fn versions(db: &Db) -> (Arc<Schema>, Arc<Schema>) {
    let mut first = db.schema("item").await;
    first.id = SchemaId(1);
    let mut second = first.clone();
    second.id = SchemaId(2);
    second.fields.push(Field { name: "n".into(), ty: Type::Int(32), nullable: true });
    (Arc::new(first), Arc::new(second))
}

fn of(schema: &Arc<Schema>, seq: u64, row: &[Value]) -> Canonical {
    let version = version(schema, seq, row, false);
    Canonical { schema: schema.id, fp: Fp::of_row(schema, version.after.as_ref().unwrap()), ..version }
}

/// read-10: ADD COLUMN ... DEFAULT is no local edit, and versions of both forms are written as they are.
#[tokio::test(flavor = "multi_thread")]
async fn content_counts_under_the_schema_it_was_given_in() {
    let db = Db::new(TABLE).await;
    let (first, second) = versions(&db).await;
    let mut scope = db.scope(&["item"]);
    scope.collections[0].schema = Some(first.clone());
    let platform = log(db.connector().open(&scope).await.unwrap());
    let mut rows = platform.rows().await.unwrap();
    rows.know(0, std::slice::from_ref(&first), &[]).await.unwrap();
    let one = of(&first, 1, &[Value::Int(1), Value::text("a")]);
    assert_eq!(apply(&mut *rows, vec![one.clone()], Act::Write).await, [Written::Done]);
    // The application adds the column with a default: the row's content is another one, and is not edited.
    db.run("ALTER TABLE item ADD n int DEFAULT 5, ADD own text DEFAULT 'mine'").await;
    let know = [first.clone(), second.clone()];
    rows.know(0, &know, &["n".into()]).await.unwrap();
    let locked = rows.lock(0, std::slice::from_ref(&one.key)).await.unwrap();
    let given = locked.seen_as(0, SchemaId(1));
    let Seen::Row { ledger: Some(ledger), .. } = locked.seen(0) else { panic!("{:?}", locked.seen(0)) };
    assert_eq!((given, ledger.schema), (ledger.fp, SchemaId(1)));
    let with = |n| Fp::of_row(&second, &Row(vec![Value::Int(1), Value::text("a"), n]));
    assert_eq!(locked.seen_as(0, SchemaId(2)), with(Value::Int(5)));
    assert!(!locked.has_lost(SchemaId(2)));
    drop(locked);
    // A version of each form, in one transaction: what a version does not have is not touched.
    let both = vec![
        of(&first, 2, &[Value::Int(1), Value::text("b")]),
        of(&second, 3, &[Value::Int(2), Value::text("c"), Value::Int(6)]),
        of(&first, 4, &[Value::Int(3), Value::text("d")]),
    ];
    assert_eq!(apply(&mut *rows, both, Act::Write).await, vec![Written::Done; 3]);
    let all = "SELECT string_agg(concat_ws(' ', id, v, n, own), ', ' ORDER BY id) FROM public.item";
    assert_eq!(db.sql.text(all).await.unwrap(), "1 b 5 mine, 2 c 6 mine, 3 d 5 mine");
    let ledger = rows.ledger(0, &[of(&second, 3, &[Value::Int(2), Value::Null, Value::Null]).key]).await.unwrap();
    let entry = ledger[0].as_ref().unwrap();
    assert_eq!(entry.schema, SchemaId(2));
    let norm = rows.norm(0, &of(&second, 5, &[Value::Int(2), Value::text("c"), Value::Int(6)])).unwrap();
    assert_eq!(entry.fp, norm);
    // A dropped column: earlier fingerprints cannot be made again, and versions that have it are written without.
    db.run("ALTER TABLE item DROP n").await;
    rows.know(0, &know, &[]).await.unwrap();
    assert_eq!(
        apply(&mut *rows, vec![of(&second, 6, &[Value::Int(2), Value::text("e"), Value::Int(9)])], Act::Write).await,
        [Written::Done]
    );
    let locked = rows.lock(0, std::slice::from_ref(&one.key)).await.unwrap();
    assert!(locked.has_lost(SchemaId(2)) && !locked.has_lost(SchemaId(1)));
    drop(locked);
    let all = "SELECT string_agg(concat_ws(' ', id, v, own), ', ' ORDER BY id) FROM public.item";
    assert_eq!(db.sql.text(all).await.unwrap(), "1 b mine, 2 e mine, 3 d mine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_gets_the_column_it_lacks_or_is_told_the_statement() {
    let db = Db::new(TABLE).await;
    let (first, second) = versions(&db).await;
    let know = [first.clone(), second.clone()];
    let role = format!("writer_{}", db.dataset);
    let mut scope = db.scope(&["item"]);
    scope.collections[0].schema = Some(second.clone());
    // The platform is opened although it lacks the column.
    log(db.connector().open(&scope).await.unwrap());
    db.run(&format!("CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA driftless TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA driftless, public TO {role}")).await;
    let mut settings = db.settings.clone();
    settings["user"] = role.into();
    let poor = super::super::client::platform::open(settings, "here").unwrap();
    let mut rows = log(poor.open(&scope).await.unwrap()).rows().await.unwrap();
    let error = refused(rows.know(0, &know, &["n".into()]).await);
    assert_eq!(error.code, Code::ColumnMissing);
    assert_eq!(error.remedy(), crate::runtime::error::Remedy::Park, "it is looked at again by itself");
    assert!(
        error.doing.contains("run ALTER TABLE \"public\".\"item\" ADD COLUMN IF NOT EXISTS \"n\" integer"),
        "{error}"
    );
    // Several sinks come at once; the application holds the table for a while.
    let platform = log(db.connector().open(&scope).await.unwrap());
    db.run("BEGIN; LOCK TABLE item IN ACCESS SHARE MODE").await;
    let mut busy = platform.rows().await.unwrap();
    assert_eq!(refused(busy.know(0, &know, &["n".into()]).await).code, Code::StoreBusy);
    db.run("COMMIT").await;
    let mut sinks = Vec::new();
    for _ in 0..4 {
        sinks.push(platform.rows().await.unwrap());
    }
    let add = ["n".into()];
    let all = sinks.iter_mut().map(|rows| rows.know(0, &know, &add));
    futures_util::future::try_join_all(all).await.unwrap();
    let row = of(&second, 1, &[Value::Int(1), Value::text("a"), Value::Int(5)]);
    assert_eq!(apply(&mut *sinks[3], vec![row], Act::Write).await, [Written::Done]);
    assert_eq!(db.sql.text("SELECT id || v || n FROM public.item").await.unwrap(), "1a5");
    // Who could not, goes on where it stopped.
    rows.know(0, &know, &["n".into()]).await.unwrap();
}

/// What the reader tells of a table and what it means, together.
#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_and_added_column_of_another_type_stops_the_reader() {
    let db = Db::new(TABLE).await;
    let (_, mut reader) = db.reading(&["item"]).await;
    db.run("ALTER TABLE item DROP v, ADD v int; INSERT INTO item VALUES (1, 2)").await;
    let (found, _) = read_until(&mut *reader, |t| rows(t) >= 1).await;
    let me = ActorId::new(PlatformNo(1), 1);
    let schema = Arc::new(Schema { id: SchemaId(1), ..Schema::clone(&versions_of(TABLE_FIELDS)) });
    let steps = [Step { schema, by: me, at: Position::START }];
    let form = &found[0].forms[0];
    let error = take(&steps, me, Position::new(found[0].commit, 0), None, &form.schema).unwrap_err();
    assert_eq!(error.code, Code::SchemaUnsupported);
    assert!(error.doing.contains("`v` is of type Text in the dataset and of type Int(32)"), "{error}");
    // Another name is fine.
    db.run("ALTER TABLE item DROP v, ADD w int; INSERT INTO item VALUES (2, 3)").await;
    let (found, _) = read_until(&mut *reader, |t| rows(t) >= 1).await;
    let taken = take(&steps, me, Position::new(found[0].commit, 0), None, &found[0].forms[0].schema).unwrap();
    let Taken::New(schema) = taken else { panic!("{taken:?}") };
    assert_eq!(schema.fields.iter().map(|f| &*f.name).collect::<Vec<_>>(), ["id", "w"]);
    let lens = Lens::new(&found[0].forms[0].schema, &Arc::new(schema));
    assert!(!lens.is_partial());
}

const TABLE_FIELDS: [(&str, Type); 2] = [("id", Type::Int(32)), ("v", Type::Text)];

fn versions_of(fields: [(&str, Type); 2]) -> Schema {
    let field = |(name, ty): (&str, Type)| Field { name: name.into(), ty, nullable: name != "id" };
    Schema { id: SchemaId(1), name: "item".into(), fields: fields.into_iter().map(field).collect(), key: vec![0] }
}
