//! What stands in the dataset topic is read by programs that know nothing of driftless (topic-5): the
//! Python program of the guide, with confluent-kafka and fastavro, against the real broker. What it
//! must print is written here by hand beside each value, not derived by the code under test.

use super::{open, soon};
use crate::server::shared;
use driftless::event::value::Interval;
use driftless::event::{
    ActorId, Canonical, Cause, Conflict, Dot, Field, Fp, Hlc, Join, Key, Loser, Origin, Position, Record, Row, Schema,
    SchemaId, Side, Type, Value, Vv,
};
use driftless::runtime::clock::SystemClock;
use driftless::topic::codec::Coded;
use driftless::topic::message::message;
use driftless::topic::name::Topics;
use driftless::topic::registry::{LogSchemas, Schemas};
use driftless::topic::{Cleanup, Log, Message, Typed, suite};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// Partitions of the dataset topic.
const PARTITIONS: u32 = 2;

/// A column's name, its name in Avro, its type, and values with what the program prints for each.
struct Column(&'static str, &'static str, Type, Vec<(Value, Json)>);

fn number(text: &str) -> Value {
    Value::Decimal(text.parse().unwrap())
}

fn field(name: &str, ty: Type) -> Field {
    Field { name: name.into(), ty, nullable: true }
}

fn exact_numbers() -> Vec<Column> {
    let int = |n: i64| (Value::Int(n), json!(n));
    let float = |x: f32, text| (Value::Float32(x), json!(text));
    let double = |x: f64, text| (Value::Float64(x), json!(text));
    let huge = format!("-{}.{}", "9".repeat(60), "1".repeat(40));
    vec![
        Column("flag", "flag", Type::Bool, vec![(Value::Bool(true), json!(true)), (Value::Bool(false), json!(false))]),
        Column("small", "small", Type::Int(16), vec![int(-32768), int(32767)]),
        Column("int", "int", Type::Int(32), vec![int(i32::MIN.into()), int(i32::MAX.into()), int(0)]),
        Column("long", "long", Type::Int(64), vec![int(i64::MIN), int(i64::MAX)]),
        Column(
            "float",
            "float",
            Type::Float(32),
            vec![float(1.5, "1.5"), float(f32::NAN, "nan"), float(f32::NEG_INFINITY, "-inf")],
        ),
        Column(
            "double",
            "double",
            Type::Float(64),
            vec![
                double(0.1, "0.1"),
                double(-0.0, "-0.0"),
                double(f64::NAN, "nan"),
                double(f64::INFINITY, "inf"),
                double(f64::MAX, "1.7976931348623157e+308"),
            ],
        ),
        Column(
            "price in EUR",
            "price_in_EUR",
            Type::Decimal,
            vec![
                (number("19.90"), json!("19.9")),
                (number(&huge), json!(huge)),
                (number("NaN"), json!("NaN")),
                (number("Infinity"), json!("Infinity")),
                (number("-Infinity"), json!("-Infinity")),
            ],
        ),
    ]
}

fn times() -> Vec<Column> {
    let day = |days, text: Json| (Value::Date(days), text);
    let at = |micros, text: Json| (Value::Timestamp(micros), text);
    vec![
        Column(
            "day",
            "day",
            Type::Date,
            vec![
                day(20_000, json!("2024-10-04")),
                day(-1, json!("1969-12-31")),
                day(i32::MAX, json!(i32::MAX)),
                day(i32::MIN, json!(i32::MIN)),
            ],
        ),
        Column(
            "clock",
            "clock",
            Type::Time,
            vec![
                (Value::Time(1), json!("00:00:00.000001")),
                (Value::Time(86_399_999_999), json!("23:59:59.999999")),
                (Value::Time(86_400_000_000), json!(86_400_000_000_i64)),
            ],
        ),
        Column(
            "clock_tz",
            "clock_tz",
            Type::TimeTz,
            vec![(Value::TimeTz(3_600_000_000, -7200), json!({"time": "01:00:00", "offset_s": -7200}))],
        ),
        Column(
            "instant",
            "instant",
            Type::Timestamp { zone: true },
            vec![
                at(1_700_000_000_123_456, json!("2023-11-14 22:13:20.123456+00:00")),
                at(-1, json!("1969-12-31 23:59:59.999999+00:00")),
                at(i64::MAX, json!(i64::MAX)),
                at(i64::MIN, json!(i64::MIN)),
            ],
        ),
        Column(
            "local",
            "local",
            Type::Timestamp { zone: false },
            vec![
                at(1_700_000_000_123_456, json!("2023-11-14 22:13:20.123456")),
                at(i64::MAX, json!(i64::MAX)),
                at(i64::MIN, json!(i64::MIN)),
            ],
        ),
        Column(
            "span",
            "span",
            Type::Interval,
            vec![(
                Value::Interval(Interval { months: -1, days: 40, micros: -5 }),
                json!({"months": -1, "days": 40, "micros": -5}),
            )],
        ),
    ]
}

fn texts_and_trees() -> Vec<Column> {
    let text = |text: &str| (Value::text(text), json!(text));
    let list = Type::Array(Box::new(Type::Decimal));
    let matrix = Type::Array(Box::new(Type::Array(Box::new(Type::Int(32)))));
    let inner = Type::Record(vec![field("street", Type::Text), field("lines", Type::Array(Box::new(Type::Text)))]);
    let tree = Type::Record(vec![field("home", inner), field("since", Type::Date)]);
    let home = Value::Record(vec![Value::text("Hauptstraße 1"), Value::Array(vec![Value::text("a"), Value::Null])]);
    let uuid = 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef_u128.to_be_bytes();
    vec![
        Column("text", "text", Type::Text, vec![text("Grüße, 世界 🌍"), text(""), text("a\0b\n\"")]),
        Column(
            "raw",
            "raw",
            Type::Bytes,
            vec![
                (Value::Bytes(vec![0, 1, 0xfe, 0xff].into()), json!("0001feff")),
                (Value::Bytes(vec![].into()), json!("")),
            ],
        ),
        Column("uuid", "uuid", Type::Uuid, vec![(Value::Uuid(uuid), json!("01234567-89ab-cdef-0123-456789abcdef"))]),
        Column(
            "document",
            "document",
            Type::Json,
            vec![
                (Value::Json(r#"{"a":[1,null,true],"n":1.10}"#.into()), json!({"a": [1, null, true], "n": "1.10"})),
                (Value::Json("null".into()), Json::Null),
                (Value::Json("\"x\"".into()), json!("x")),
            ],
        ),
        Column(
            "list",
            "list",
            list,
            vec![
                (Value::Array(vec![number("0.5"), Value::Null, number("NaN")]), json!(["0.5", null, "NaN"])),
                (Value::Array(vec![]), json!([])),
            ],
        ),
        Column(
            "matrix",
            "matrix",
            matrix,
            vec![(
                Value::Array(vec![Value::Array(vec![Value::Int(1), Value::Null]), Value::Null, Value::Array(vec![])]),
                json!([[1, null], null, []]),
            )],
        ),
        Column(
            "tree",
            "tree",
            tree,
            vec![
                (
                    Value::Record(vec![home, Value::Date(0)]),
                    json!({"home": {"street": "Hauptstraße 1", "lines": ["a", null]}, "since": "1970-01-01"}),
                ),
                (Value::Record(vec![Value::Null, Value::Null]), json!({"home": null, "since": null})),
            ],
        ),
    ]
}

/// The columns beside the key; each can also be null.
fn columns() -> Vec<Column> {
    let mut columns: Vec<_> = [exact_numbers(), times(), texts_and_trees()].into_iter().flatten().collect();
    columns.iter_mut().for_each(|column| column.3.push((Value::Null, Json::Null)));
    columns
}

/// The schema with the first `width` columns; the key is (no, place), which stands last in the row.
fn schema(columns: &[Column]) -> Schema {
    let mut fields: Vec<_> = columns.iter().map(|Column(name, _, ty, _)| field(name, ty.clone())).collect();
    let key = |name: &str, ty| Field { name: name.into(), ty, nullable: false };
    fields.extend([key("place", Type::Text), key("no", Type::Int(64))]);
    let last = fields.len() - 1;
    Schema { id: SchemaId(0), name: "customers".into(), fields, key: vec![last, last - 1] }
}

/// A row for a key, with the values at `variant` of each column; and what the program prints.
fn row(columns: &[Column], no: i64, variant: usize) -> (Row, Json) {
    let (mut values, mut printed) = (Vec::new(), Map::new());
    for Column(_, name, _, all) in columns {
        let (value, print) = &all[variant % all.len()];
        values.push(value.clone());
        printed.insert((*name).into(), print.clone());
    }
    values.extend([Value::text("Köln"), Value::Int(no)]);
    printed.extend([("place".into(), json!("Köln")), ("no".into(), json!(no))]);
    (Row(values), Json::Object(printed))
}

fn key_of(no: i64) -> Json {
    json!({"no": no, "place": "Köln"})
}

/// Writes the topic and keeps what the program must print for it.
struct Journal {
    topics: Topics,
    /// The last valid version of each partition, by seq and id.
    tips: BTreeMap<u32, (u64, u64)>,
    messages: BTreeMap<u32, Vec<Message<Typed>>>,
    /// What must be printed, per partition in order.
    printed: BTreeMap<u32, Vec<Json>>,
    /// The rows that stand in the end, by the key's number.
    rows: BTreeMap<i64, Json>,
    ids: u64,
}

/// A row under its schema.
type Content<'a> = Option<(&'a Arc<Schema>, (Row, Json))>;

impl Journal {
    fn new(topics: Topics) -> Self {
        let (tips, messages, printed, rows) = Default::default();
        Journal { topics, tips, messages, printed, rows, ids: 1 << 63 }
    }

    fn key(schema: &Schema, no: i64) -> Key {
        Key::encode(&[Value::Int(no), Value::text("Köln")], schema).unwrap()
    }

    /// The next version of a key: valid in its partition.
    fn version(&mut self, key: Key, content: Content<'_>) -> (Arc<Canonical>, Json) {
        let partition = self.topics.of(&key);
        let (seq, prev) = self.tips.get(&partition).copied().unwrap_or_default();
        self.ids += 1;
        let after = content.as_ref().map(|(_, (row, _))| Arc::new(row.clone()));
        let dot = Dot { actor: ActorId(65537), ctr: self.ids & 0xff };
        let canonical = Canonical {
            seq: seq + 1,
            id: self.ids,
            prev,
            origin: Origin::Input(seq * 2),
            idx: 0,
            last: true,
            dot,
            vv: Vv::new().with(dot),
            ts: Hlc(1_700_000_000_000 << 16),
            fp: Fp([seq as u8; 16]),
            tomb: after.is_none() && !key.is_empty(),
            schema: content.as_ref().map_or(SchemaId(0), |(schema, _)| schema.id),
            after,
            by: ActorId(65537),
            cause: Cause::FastForward,
            ack: [Join { actor: ActorId(65537), ctr: 1, seq, fp_local: Fp([7; 16]) }].into_iter().collect(),
            rctr: 3,
            conflicted: 0,
            conflict: None,
            asked: None,
            copy: false,
            key,
        };
        (Arc::new(canonical), content.map_or(Json::Null, |(_, (_, printed))| printed))
    }

    /// Appends a version as it is. `no` is its key's, `None` for control.
    fn append(&mut self, no: Option<i64>, canonical: &Arc<Canonical>, after: &Json, conflict: &Json) {
        let partition = self.topics.of(&canonical.key);
        let record = Record::Canonical(canonical.clone());
        let message = message(Arc::new(record));
        self.messages.entry(partition).or_default().push(message);
        let printed = self.printed.entry(partition).or_default();
        let value = envelope(canonical, after, conflict);
        printed.push(json!({
            "partition": partition, "offset": printed.len(), "key": no.map(key_of), "value": value,
        }));
    }

    /// Appends a valid version.
    fn valid(&mut self, no: Option<i64>, canonical: &Arc<Canonical>, after: &Json, conflict: &Json) {
        self.append(no, canonical, after, conflict);
        self.tips.insert(self.topics.of(&canonical.key), (canonical.seq, canonical.id));
        match no {
            Some(no) if canonical.tomb => drop(self.rows.remove(&no)),
            Some(no) => drop(self.rows.insert(no, after.clone())),
            None => {}
        }
    }

    fn put(&mut self, schema: &Arc<Schema>, columns: &[Column], no: i64, variant: usize) -> (Arc<Canonical>, Json) {
        let (canonical, after) = self.version(Self::key(schema, no), Some((schema, row(columns, no, variant))));
        self.valid(Some(no), &canonical, &after, &Json::Null);
        (canonical, after)
    }
}

/// How the program prints a version.
fn envelope(canonical: &Canonical, after: &Json, conflict: &Json) -> Json {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let dot = |dot: Dot| json!({"actor": dot.actor.0, "ctr": dot.ctr});
    let (input, source) = match canonical.origin {
        Origin::Input(offset) => (json!(offset), Json::Null),
        Origin::Source(at) => (Json::Null, json!({"commit": at.commit, "ordinal": at.ordinal})),
    };
    let ack: Vec<_> = canonical
        .ack
        .iter()
        .map(|j| json!({"actor": j.actor.0, "ctr": j.ctr, "seq": j.seq, "fp_local": hex(&j.fp_local.0)}))
        .collect();
    let op = match (canonical.key.is_empty(), canonical.tomb) {
        (true, _) => "control",
        (false, true) => "delete",
        (false, false) => "put",
    };
    json!({
        "op": op, "key": hex(&canonical.key.0), "seq": canonical.seq,
        // Compared for equality only: above 2^63 they show as negative numbers.
        "id": canonical.id as i64, "prev": canonical.prev as i64,
        "o": input, "src_pos": source, "idx": canonical.idx, "last": canonical.last,
        "dot": dot(canonical.dot), "vv": canonical.vv.iter().map(dot).collect::<Vec<_>>(),
        "ts": canonical.ts.0, "fp": hex(&canonical.fp.0), "tomb": canonical.tomb, "schema": canonical.schema.0,
        "after": after, "by": canonical.by.0,
        "cause": if canonical.cause == Cause::Merge { "merge" } else { "fast_forward" },
        "ack": ack, "rctr": canonical.rctr, "conflicted": canonical.conflicted,
        "conflict": conflict, "asked": null, "copy": canonical.copy,
    })
}

/// A conflict whose sides were written under two schemas, and how it is printed.
fn conflict(head: (SchemaId, (Row, Json)), proposal: (SchemaId, (Row, Json))) -> (Box<Conflict>, Json) {
    let side = |schema, value| Side {
        by: ActorId(65537),
        dot: None,
        vv: Vv::new(),
        seq: 4,
        ts: Hlc(5),
        fp: Fp([1; 16]),
        schema,
        value,
    };
    let printed = |schema: SchemaId, value: Json| {
        let fp = "01".repeat(16);
        json!({"by": 65537, "dot": null, "vv": [], "seq": 4, "ts": 5, "fp": fp, "schema": schema.0, "value": value})
    };
    let json = json!({
        "ancestor": null, "head": printed(head.0, head.1.1), "proposal": printed(proposal.0, proposal.1.1),
        "loser": "proposal", "rule": "last-write-wins", "rules": 1, "ambiguous_base": false,
        "earlier": 2, "open": "look at it",
    });
    let conflict = Conflict {
        ancestor: None,
        head: side(head.0, Some(Arc::new(head.1.0))),
        proposal: side(proposal.0, Some(Arc::new(proposal.1.0))),
        loser: Loser::Proposal,
        rule: "last-write-wins".into(),
        rules: 1,
        ambiguous_base: false,
        earlier: 2,
        open: Some("look at it".into()),
    };
    (Box::new(conflict), json)
}

/// All values under the newer schema, and what a partition's life leaves: deletions, control, a
/// conflict, versions that lost a race, and copies.
fn fill(journal: &mut Journal, columns: &[Column], old: &Arc<Schema>, new: &Arc<Schema>) {
    let most = columns.iter().map(|column| column.3.len()).max().unwrap();
    let early = &columns[..columns.len() / 2];
    for no in 0..8 {
        journal.put(old, early, no, no as usize);
    }
    let mut heads: BTreeMap<i64, (Arc<Canonical>, Json)> = BTreeMap::new();
    for variant in 0..most {
        heads.insert(10 + variant as i64, journal.put(new, columns, 10 + variant as i64, variant));
    }
    // Deleted, and one of them written again.
    for no in [0, 1] {
        let (gone, after) = journal.version(Journal::key(new, no), None);
        journal.valid(Some(no), &gone, &after, &Json::Null);
    }
    journal.put(new, columns, 1, 3);
    // A fused reader's version, and one that settled a conflict.
    let (mut fused, after) = journal.version(Journal::key(new, 2), Some((new, row(columns, 2, 1))));
    Arc::make_mut(&mut fused).origin = Origin::Source(Position { commit: 9, ordinal: 2 });
    journal.valid(Some(2), &fused, &after, &Json::Null);
    let (mut settled, after) = journal.version(Journal::key(new, 3), Some((new, row(columns, 3, 2))));
    let (sides, printed) = conflict((old.id, row(early, 3, 0)), (new.id, row(columns, 3, 1)));
    (Arc::make_mut(&mut settled).cause, Arc::make_mut(&mut settled).conflict) = (Cause::Merge, Some(sides));
    journal.valid(Some(3), &settled, &after, &printed);
    // A control record is part of the chain.
    let (control, after) = journal.version(Key::default(), None);
    journal.valid(None, &control, &after, &Json::Null);
    // Versions that lost a race, each in another way, and the copies that cover them (claim-7).
    type Bend = fn(&mut Canonical);
    let lost: [(i64, bool, Bend); 3] = [
        (10, false, |late| late.seq -= 1),
        (11, false, |ahead| ahead.seq += 1),
        (12, true, |other_branch| other_branch.prev ^= 0x55),
    ];
    for (no, gone, bend) in lost {
        let (mut copy, head_after) = heads[&no].clone();
        let content = (!gone).then(|| (new, row(columns, no, 4)));
        let (mut void, after) = journal.version(copy.key.clone(), content);
        bend(Arc::make_mut(&mut void));
        journal.append(Some(no), &void, &after, &Json::Null);
        Arc::make_mut(&mut copy).copy = true;
        journal.append(Some(no), &copy, &head_after, &Json::Null);
    }
    journal.put(new, columns, 5, 2);
}

/// Runs the guide's program and returns what it printed.
async fn consume(topic: &str, more: &[&str]) -> Vec<Json> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("scripts/python.sh"));
    command.current_dir(root).args(["tests/kafka/requirements.txt", "tests/kafka/stock.py"]);
    command.args([&shared().brokers(), topic]).args(more);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(output.status.success(), "the stock consumer failed:\n{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e} in {line}"))).collect()
}

/// The records in what was printed, per partition in order.
fn records(lines: &[Json]) -> BTreeMap<u32, Vec<Json>> {
    let mut records: BTreeMap<u32, Vec<Json>> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.get("offset").is_some()) {
        records.entry(line["partition"].as_u64().unwrap() as u32).or_default().push(line.clone());
    }
    records
}

/// The rows that a fold of the program ended with, by the key's number.
fn rows(lines: &[Json], fold: &str) -> BTreeMap<i64, Json> {
    let rows = lines.iter().find_map(|line| line.get(fold)).unwrap().as_array().unwrap();
    let rows = rows.iter().map(|row| {
        let no = row["key"]["no"].as_i64().unwrap();
        assert_eq!(row["key"], key_of(no));
        (no, row["row"].clone())
    });
    rows.collect()
}

fn assert_found(lines: &[Json], journal: &Journal, how: &str) {
    let found = records(lines);
    for (partition, written) in &journal.printed {
        let found = found.get(partition).map_or(&[][..], Vec::as_slice);
        for (found, written) in found.iter().zip(written) {
            assert_eq!(found, written, "{how}");
        }
        assert_eq!(found.len(), written.len(), "{how}: messages of partition {partition}");
    }
    for fold in ["upsert", "exact"] {
        assert_eq!(rows(lines, fold), journal.rows, "{how}: what the fold {fold} ends with");
    }
}

/// topic-5, topic-8, claim-7: the same values, the same heads, at any isolation level, with and
/// without a consumer group.
#[tokio::test(flavor = "multi_thread")]
async fn a_stock_consumer_finds_the_values_that_were_written_and_ends_with_the_same_heads() {
    let log: Arc<dyn Log<_>> = Arc::new(open(shared()).await);
    let schemas = LogSchemas::open(log.clone(), Arc::new(SystemClock), "stock").await.unwrap();
    everything_is_found(log, Arc::new(schemas), "stock", &[]).await;
}

/// Writes a dataset with its schemas in a store, and lets the program find it.
pub(crate) async fn everything_is_found(
    log: Arc<dyn Log<driftless::topic::Raw>>,
    schemas: Arc<dyn Schemas>,
    prefix: &str,
    more: &[&str],
) {
    let coded = Coded::new(log, schemas);
    let topics = Topics::new(prefix, "customers", None, PARTITIONS);
    let name = topics.dataset(0).topic;
    coded.create(&suite::spec(&name, PARTITIONS, Cleanup::Keep)).await.unwrap();
    let columns = columns();
    let old = coded.prepare(&name, &schema(&columns[..columns.len() / 2])).await.unwrap();
    let new = coded.prepare(&name, &schema(&columns)).await.unwrap();
    let mut journal = Journal::new(topics);
    fill(&mut journal, &columns, &old, &new);
    assert_eq!(journal.messages.len(), PARTITIONS as usize, "keys in every partition");
    let session = coded.session().await.unwrap();
    for (&partition, messages) in &journal.messages {
        let at = journal.topics.dataset(partition);
        soon("the append", session.append(&at, messages.clone())).await.unwrap();
    }
    for isolation in ["read_committed", "read_uncommitted"] {
        let given = [&["--isolation", isolation], more].concat();
        let alone = consume(&name, &given).await;
        assert_found(&alone, &journal, isolation);
        let name_of_group = format!("{prefix}-{isolation}");
        let group = [&given[..], &["--group", &name_of_group]].concat();
        assert_found(&consume(&name, &group).await, &journal, &format!("{isolation} in a group"));
        assert!(records(&consume(&name, &group).await).is_empty(), "{isolation}: the group goes on where it stood");
    }
}

/// The program in the guide is the one that this test runs.
#[test]
fn the_guide_shows_the_program_that_is_tested() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap();
    let (guide, program) = (read("docs/guides/consuming.md"), read("tests/kafka/stock.py"));
    let shown = guide.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(shown, program, "copy tests/kafka/stock.py into docs/guides/consuming.md");
}
