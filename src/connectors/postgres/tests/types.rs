//! The server itself is the oracle: values of every type are written by it, read by the reader, by
//! the snapshot and under lock, written back by the sink, and compared with what the server prints.

use super::super::values::Native;
use super::server::*;
use crate::connectors::contract::*;
use crate::event::*;
use std::sync::Arc;

const TYPES: &str = "CREATE TYPE mood AS ENUM ('sad', 'so, \"so\"'); CREATE TYPE pair AS (a int, b text);
    CREATE DOMAIN small AS numeric(6, 2); CREATE DOMAIN smaller AS small CHECK (value > -5000);";

/// Type, and expressions of values for it (`g` is a number from 1, `r` a random text).
const FAST: [(&str, &[&str]); 27] = [
    ("bool", &["true", "g % 2 = 0"]),
    ("int2", &["-32768", "32767", "g"]),
    ("int4", &["-2147483648", "g * 7919"]),
    ("int8", &["-9223372036854775808", "9223372036854775807", "g::int8 << 33"]),
    ("float4", &["'NaN'", "'-Infinity'", "random()", "1.17549e-38", "-0.0"]),
    ("float8", &["'Infinity'", "random() * 1e300", "5e-324", "0.1"]),
    (
        "numeric",
        &[
            "'NaN'",
            "'Infinity'",
            "'-Infinity'",
            "0",
            "-0.00010",
            "1e40",
            "123456789012345678901234567890.00012",
            "random()::numeric * 10 ^ (g % 60 - 30)",
            "10000",
            "-99990000.0001",
        ],
    ),
    ("numeric(12,3)", &["-1.5", "999999999.999", "round((random() * 1e6)::numeric, 3)"]),
    ("text", &["''", "r", "'ä€😀 \\ \" '' , { } NULL'", "repeat(r, 200)"]),
    ("varchar(40)", &["left(r, 40)", "'NULL'"]),
    ("char(8)", &["'ab'", "''", "'a  b'"]),
    ("name", &["'pg'"]),
    ("bytea", &["'\\x'", "decode(md5(r), 'hex')", "'\\x00ff5c'"]),
    ("uuid", &["gen_random_uuid()"]),
    (
        "date",
        &[
            "'infinity'",
            "'-infinity'",
            "'4713-01-01 BC'",
            "'0001-12-31 BC'",
            "'5874897-12-31'",
            "current_date - g * 3331",
            "'2024-02-29'",
        ],
    ),
    ("time", &["'24:00:00'", "'00:00:00.000001'", "random() * interval '1 day'"]),
    ("timetz", &["'23:59:59.5+15:59:59'", "'00:00:00-07'", "'12:34:56.789+05:30'"]),
    (
        "timestamp",
        &[
            "'infinity'",
            "'-infinity'",
            "'4713-01-01 00:00:00 BC'",
            "'1969-12-31 23:59:59.999999'",
            "now() - random() * interval '4000 years'",
        ],
    ),
    (
        "timestamptz",
        &["'infinity'", "'-infinity'", "now() - random() * interval '4000 years'", "'2000-01-01 00:00:00.1+03'"],
    ),
    (
        "interval",
        &[
            "'1 year -2 months 3 days -04:05:06.7'",
            "'-1 days +00:00:00.000001'",
            "'0'",
            "random() * interval '100 years'",
        ],
    ),
    ("json", &["'{\"b\": [1, 2.50, {\"c\": null}], \"a\": \"\\u00e9\\n/\\\"\"}'", "'  [ ]'", "to_json(r)"]),
    ("jsonb", &["'{\"b\": [1, 2.50, 1e3], \"aa\": {}, \"c\": \"\\ud83d\\ude00\"}'", "'\"x\"'", "to_jsonb(r)"]),
    ("mood", &["'sad'", "'so, \"so\"'"]),
    ("smaller", &["-12.3", "9999.99"]),
    ("int4[]", &["'{}'", "'{1,NULL,-3}'", "ARRAY[g, g * 2]"]),
    ("text[]", &["'{}'", "ARRAY['', 'NULL', NULL, r, 'a\"b\\c,{}']"]),
    ("timestamptz[]", &["'{infinity,2000-01-01 00:00:00+00}'", "ARRAY[now(), NULL]"]),
];

const PRINTED: [(&str, &[&str]); 27] = [
    ("numeric[]", &["'{NaN,1.5,-0.001}'"]),
    ("bool[]", &["'{t,f,NULL}'"]),
    ("bytea[]", &["ARRAY['\\x00ff'::bytea, '\\x']"]),
    ("interval[]", &["'{1 day,-02:03}'"]),
    ("mood[]", &["ARRAY['so, \"so\"', 'sad']::mood[]"]),
    ("pair", &["ROW(g, r)::pair", "'(,\"a\"\"b\")'"]),
    ("pair[]", &["ARRAY[ROW(g, 'x,y')::pair]"]),
    ("int4range", &["'[1,5)'", "'empty'", "'(,7)'"]),
    ("tstzrange", &["tstzrange(now() - interval '1 day', now())"]),
    ("int4multirange", &["'{[1,3),[5,6)}'"]),
    ("inet", &["'10.0.0.1'", "'10.0.0.0/8'", "'::1'"]),
    ("cidr", &["'10.0.0.0/8'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("money", &["'-1234.56'", "g::money"]),
    ("bit(5)", &["'10101'"]),
    ("varbit", &["'1'", "''"]),
    ("hstore", &["'a=>1, \"b c\"=>NULL'"]),
    ("point", &["'(1.5,-2)'"]),
    ("lseg", &["'[(0,0),(1,1)]'"]),
    ("box", &["'(1,1),(0,0)'"]),
    ("box[]", &["'{(1,1),(0,0);(2,2),(0,0)}'"]),
    ("path", &["'((0,0),(1,1))'", "'[(0,0),(1,1)]'"]),
    ("polygon", &["'((0,0),(1,1),(1,0))'"]),
    ("circle", &["'<(0,0),2>'"]),
    ("tsvector", &["to_tsvector('english', 'the quick fox')"]),
    ("xml", &["'<a>&amp;</a>'"]),
    ("pg_lsn", &["'16/B374D848'"]),
];

fn create(list: &[(&str, &[&str])]) -> String {
    let columns: Vec<String> = list.iter().enumerate().map(|(i, (ty, _))| format!("c{i} {ty}")).collect();
    format!("CREATE TABLE item (id int PRIMARY KEY, {})", columns.join(", "))
}

/// Rows 1 to 12: each column's values in turn, now and then null.
fn fill(list: &[(&str, &[&str])], table: &str) -> String {
    let column = |(i, (ty, values)): (usize, &(&str, &[&str]))| {
        let cases: Vec<String> = values.iter().enumerate().map(|(n, v)| format!("WHEN {n} THEN ({v})::{ty}")).collect();
        format!(
            "CASE WHEN (g + {i}) % 11 = 0 THEN NULL ELSE CASE (g - 1) % {} {} END END",
            values.len(),
            cases.join(" ")
        )
    };
    let columns: Vec<String> = list.iter().enumerate().map(column).collect();
    format!(
        "INSERT INTO {table} SELECT g, {} FROM generate_series(1, 12) g, LATERAL (SELECT md5(random()::text || g) r) x",
        columns.join(", ")
    )
}

async fn compare(list: &[(&str, &[&str])]) {
    let db = Db::new(TYPES).await;
    if list.iter().any(|t| t.0 == "hstore") {
        db.run("CREATE EXTENSION hstore SCHEMA public").await;
    }
    db.run(&create(list)).await;
    let (platform, mut reader) = db.reading(&["item"]).await;
    let schema = db.schema("item").await;
    db.run(&fill(list, "item")).await;
    let streamed = read(&mut *reader, 12).await;
    let copied = copy(&mut *platform.snapshot(0, None).await.unwrap()).await;
    assert_eq!(copied.len(), 12);
    let place = Db::place("item");
    let session = session(db.settings.clone()).await;
    let table = super::super::client::catalog::Table::read(&session, &place).await.unwrap().unwrap();
    for (change, copied) in streamed.iter().zip(&copied) {
        let Change::Row { key, after: Some(after), fp, .. } = change else { panic!("{change:?}") };
        assert_eq!(key, &copied.key);
        for ((read, copied), field) in after.0.iter().zip(&copied.row.0).zip(&schema.fields) {
            assert_eq!(
                Fp::of_field(read),
                Fp::of_field(copied),
                "{}: {read:?} in the log, {copied:?} copied",
                field.name
            );
        }
        assert_eq!(*fp, copied.fp);
        // What the server prints, read back by it, is the same value.
        for ((value, column), field) in after.0.iter().zip(table.field_columns()).zip(&schema.fields) {
            if value.is_null() {
                continue;
            }
            let text = super::super::client::literal(&column.native.write_text(value).unwrap());
            let id = &after.0[0];
            let Value::Int(id) = id else { panic!("{id:?}") };
            let name = super::super::client::quoted(&field.name);
            let json = matches!(column.native, Native::Json(_));
            // Numbers are equal whatever zeros they end with.
            let number =
                matches!(&column.native, Native::Numeric) || column.native == Native::Array(Box::new(Native::Numeric));
            let cast = if json {
                "::jsonb::text"
            } else if number {
                ""
            } else {
                "::text"
            };
            let to = if json { "jsonb" } else { &*column.sql };
            let query = format!(
                "SELECT {name}::text || ' ' || ({text}::{to}{cast} = {name}{cast}) FROM public.item WHERE id = {id}"
            );
            let answer = session.text(&query).await.unwrap();
            assert!(answer.ends_with(" true"), "{} {}: {value:?} is {answer} at the server", field.name, column.sql);
        }
    }
    // The sink writes the same values into an empty table, and they look the same under lock.
    db.run("CREATE TABLE kept AS TABLE item; DELETE FROM item").await;
    read(&mut *reader, 12).await;
    let mut rows = platform.rows().await.unwrap();
    let version = |(seq, copied): (u64, &Copied)| Canonical {
        key: copied.key.clone(),
        seq,
        id: seq,
        prev: seq - 1,
        origin: Origin::Input(seq),
        idx: 0,
        last: true,
        dot: Dot { actor: ActorId(65_537), ctr: seq },
        vv: Vv::new(),
        ts: Hlc(1),
        fp: copied.fp,
        tomb: false,
        schema: SchemaId(1),
        after: Some(copied.row.clone()),
        by: ActorId(65_537),
        cause: Cause::FastForward,
        ack: Ack::default(),
        rctr: 0,
        conflicted: 0,
        conflict: None,
        asked: None,
        copy: false,
    };
    let plan: Vec<Planned> = (1..)
        .zip(&copied)
        .map(version)
        .map(|v| Planned { fp: rows.norm(0, &v).unwrap(), version: Arc::new(v), act: Act::Write })
        .collect();
    for (planned, copied) in plan.iter().zip(&copied) {
        assert_eq!(planned.fp, copied.fp, "norm of {:?}", copied.row);
    }
    let keys: Vec<Key> = copied.iter().map(|c| c.key.clone()).collect();
    let written = rows.lock(0, &keys).await.unwrap().write(&plan).await.unwrap();
    assert_eq!(written, vec![Written::Done; 12]);
    let locked = rows.lock(0, &keys).await.unwrap();
    for (i, copied) in copied.iter().enumerate() {
        assert!(matches!(locked.seen(i), Seen::Row { fp, ledger: Some(_) } if fp == copied.fp), "{:?}", copied.row);
    }
    drop(locked);
    // `json` keeps its spaces at the server, the dataset does not.
    let column = |f: &Field| match f.ty {
        Type::Json => format!("{}::jsonb", f.name),
        Type::Decimal => format!("trim_scale({})", f.name),
        _ => f.name.to_string(),
    };
    let columns: Vec<String> = schema.fields.iter().map(column).collect();
    let columns = columns.join(", ");
    let printed =
        |table: &str| format!("SELECT md5(string_agg(ROW({columns})::text, ' ' ORDER BY id)) FROM public.{table} t");
    assert_eq!(session.text(&printed("item")).await.unwrap(), session.text(&printed("kept")).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn reader_snapshot_sink_and_server_agree_on_values_in_binary_form() {
    for _ in 0..3 {
        compare(&FAST).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn reader_snapshot_sink_and_server_agree_on_values_in_text_form() {
    // Some servers are packed without extensions, or without XML.
    let db = Db::new("").await;
    let mut all: Vec<_> = FAST.iter().chain(&PRINTED).copied().collect();
    let has = async |query: &str| db.sql.simple_query(query).await.is_ok_and(|m| m.len() > 2);
    if !has("SELECT 1 FROM pg_available_extensions WHERE name = 'hstore'").await {
        all.retain(|t| t.0 != "hstore");
    }
    if !has("SELECT '<a/>'::xml").await {
        all.retain(|t| t.0 != "xml");
    }
    compare(&all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_the_server_would_print_in_another_way_is_refused() {
    let db = Db::new("CREATE TABLE item (id int PRIMARY KEY, at inet)").await;
    let platform = db.open(&["item"]).await;
    db.run("INSERT INTO item VALUES (1, '10.0.0.1')").await;
    let mut copied = copy(&mut *platform.snapshot(0, None).await.unwrap()).await.remove(0);
    copied.row = Arc::new(Row(vec![Value::Int(1), Value::text("10.0.0.1/32")]));
    let mut rows = platform.rows().await.unwrap();
    let dot = Dot { actor: ActorId(65_537), ctr: 1 };
    let version = Canonical {
        key: copied.key.clone(),
        seq: 1,
        id: 1,
        prev: 0,
        origin: Origin::Input(1),
        idx: 0,
        last: true,
        dot,
        vv: Vv::new(),
        ts: Hlc(1),
        fp: copied.fp,
        tomb: false,
        schema: SchemaId(1),
        after: Some(copied.row),
        by: dot.actor,
        cause: Cause::FastForward,
        ack: Ack::default(),
        rctr: 0,
        conflicted: 0,
        conflict: None,
        asked: None,
        copy: false,
    };
    let fp = rows.norm(0, &version).unwrap();
    let plan = [Planned { version: Arc::new(version), fp, act: Act::Write }];
    let written = rows.lock(0, &[copied.key]).await.unwrap().write(&plan).await.unwrap();
    assert!(matches!(&written[..], [Written::Refused(_)]), "{written:?}");
    assert_eq!(db.sql.text("SELECT at FROM public.item").await.unwrap(), "10.0.0.1");
}
