//! What any release wrote, this release reads (P9). `<version>/<kind>.bin` is a message as it stands in a
//! topic, `.txt` what is in it; `schemas.jsonl` has the schemas, one a line, by the number of the line.
//! Files of released versions are never changed. A kind without a file gets one, and the test fails
//! until it was looked at and committed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use driftless::event::avro::{Forms, Kind, decode, encode, kind_of, wanted};
use driftless::event::value::Interval;
use driftless::event::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The version this release writes.
const WRITES: &str = "v1";

fn museum() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/museum")
}

fn schemas(version: &Path) -> Forms {
    let forms = Forms::default();
    let lines = fs::read_to_string(version.join("schemas.jsonl")).unwrap_or_default();
    for (id, line) in (1..).zip(lines.lines()) {
        forms.learn(SchemaId(id), line);
    }
    forms
}

fn shown(record: &Record) -> String {
    format!("{record:#?}\n")
}

#[test]
fn what_any_release_wrote_is_read() {
    let mut read = 0;
    for version in fs::read_dir(museum()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()) {
        let forms = schemas(&version);
        for file in fs::read_dir(&version).unwrap().map(|entry| entry.unwrap().path()) {
            if file.extension().is_some_and(|extension| extension == "bin") {
                let record = decode(&Bytes::from(fs::read(&file).unwrap()), &forms).unwrap();
                let expected = fs::read_to_string(file.with_extension("txt")).unwrap();
                assert_eq!(shown(&record), expected, "{}", file.display());
                read += 1;
            }
        }
    }
    assert!(read >= Kind::ALL.len(), "{read} exhibits");
}

#[test]
fn every_kind_has_an_exhibit_of_the_version_written() {
    let version = museum().join(WRITES);
    fs::create_dir_all(&version).unwrap();
    let schema = schema();
    let texts: Vec<String> = wanted(&schema).into_iter().map(|wanted| wanted.text).collect();
    let mut missing = Vec::new();
    if !version.join("schemas.jsonl").exists() {
        fs::write(version.join("schemas.jsonl"), texts.join("\n") + "\n").unwrap();
    }
    let forms = schemas(&version);
    let id = forms.id_of(&texts[0]).expect("the row's schema changed: that is a new version");
    let collection = forms.collection(id).expect("a record's schema changed: that is a new version");
    for record in records(&collection.row) {
        let file = version.join(format!("{}.bin", kind_of(&record).folder()));
        let mut message = Vec::new();
        encode(&record, &collection, &forms, &mut message).unwrap();
        if file.exists() {
            assert_eq!(fs::read(&file).unwrap(), message, "{} is written differently now", file.display());
        } else {
            fs::write(&file, message).unwrap();
            fs::write(file.with_extension("txt"), shown(&record)).unwrap();
            missing.push(file);
        }
    }
    assert!(missing.is_empty(), "these were missing and are written now; look at them and commit them: {missing:?}");
}

/// The released schema files, each with the start of its BLAKE3: they are never edited.
#[test]
fn released_schemas_are_never_edited() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found: Vec<String> = Vec::new();
    for folder in fs::read_dir(root.join("schemas")).unwrap().map(|e| e.unwrap().path()).filter(|p| p.is_dir()) {
        for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = file.strip_prefix(root).unwrap().display().to_string();
            let hash = blake3::hash(&fs::read(&file).unwrap()).to_hex();
            found.push(format!("{} {name}", &hash[..32]));
        }
    }
    found.sort_by(|a, b| a[33..].cmp(&b[33..]));
    let released = fs::read_to_string(museum().join("schemas.txt")).unwrap_or_default();
    assert_eq!(found.join("\n"), released.trim_end(), "a released schema changed: write a new version instead");
}

fn schema() -> Schema {
    let field = |name: &str, ty, nullable| Field { name: name.into(), ty, nullable };
    let nested = vec![field("at", Type::Timestamp { zone: true }, true), field("n", Type::Int(16), false)];
    let fields = vec![
        field("id", Type::Int(64), false),
        field("small", Type::Int(32), true),
        field("ok", Type::Bool, true),
        field("ratio", Type::Float(64), true),
        field("ratio32", Type::Float(32), true),
        field("price", Type::Decimal, true),
        field("first name", Type::Text, false),
        field("raw", Type::Bytes, true),
        field("uid", Type::Uuid, false),
        field("day", Type::Date, true),
        field("time", Type::Time, true),
        field("time_tz", Type::TimeTz, true),
        field("at", Type::Timestamp { zone: true }, true),
        field("local", Type::Timestamp { zone: false }, true),
        field("span", Type::Interval, true),
        field("doc", Type::Json, true),
        field("tags", Type::Array(Box::new(Type::Text)), true),
        field("lines", Type::Array(Box::new(Type::Record(nested))), true),
    ];
    Schema { id: SchemaId(0), name: "orders".into(), fields, key: vec![0, 8] }
}

fn row() -> Row {
    let line = |n| Value::Record(vec![Value::Timestamp(1_700_000_000_000_000), Value::Int(n)]);
    Row(vec![
        Value::Int(42),
        Value::Int(-7),
        Value::Bool(true),
        Value::Float64(-0.1),
        Value::Float32(1.5),
        Value::Decimal("12345678901234567890.0123456789".parse().unwrap()),
        Value::text("Zoë"),
        Value::Bytes(Bytes::from_static(&[0, 255])),
        Value::Uuid([0xab; 16]),
        Value::Date(i32::MAX),
        Value::Time(86_399_999_999),
        Value::TimeTz(1, -3600),
        Value::Timestamp(i64::MIN),
        Value::Null,
        Value::Interval(Interval { months: -1, days: 2, micros: 3 }),
        Value::Json(r#"{"a":1}"#.into()),
        Value::Array(vec![Value::text("x"), Value::Null]),
        Value::Array(vec![line(1), line(-32768)]),
    ])
}

fn dot(platform: u16, ctr: u64) -> Dot {
    Dot { actor: ActorId::new(PlatformNo(platform), 1), ctr }
}

fn fp(byte: u8) -> Fp {
    Fp([byte; 16])
}

fn side(schema: &Schema, value: Option<Row>, proposal: bool) -> Side {
    Side {
        by: dot(1, 1).actor,
        dot: proposal.then(|| dot(2, 3)),
        vv: [dot(1, 1)].into_iter().collect(),
        seq: u64::from(!proposal),
        ts: Hlc::from_ms(1_700_000_000_000),
        fp: fp(1),
        schema: schema.id,
        value: value.map(Arc::new),
    }
}

fn entry(schema: &Schema) -> LedgerEntry {
    let pend = Intent {
        iid: u64::MAX,
        seq: 6,
        vv: [dot(2, 4)].into_iter().collect(),
        fp: fp(2),
        ts: Hlc(77),
        tomb: true,
        schema: schema.id,
        expect: None,
        exp_ms: 1_700_000_120_000,
    };
    LedgerEntry {
        seq: 5,
        vv: [dot(1, 1), dot(2, 3)].into_iter().collect(),
        fp: fp(3),
        ts: Hlc(76),
        tomb: false,
        schema: schema.id,
        token: Some(Token(Bytes::from_static(b"\"etag\""))),
        pend: Some(Box::new(pend)),
    }
}

fn canonical(schema: &Schema, key: &Key) -> Arc<Canonical> {
    let mut partial = row();
    partial.0[6] = Value::Unchanged;
    let conflict = Conflict {
        ancestor: None,
        head: side(schema, Some(row()), false),
        proposal: side(schema, Some(partial), true),
        loser: Loser::Head,
        rule: "last-write-wins".into(),
        rules: 1,
        ambiguous_base: false,
        earlier: 5,
        open: Some("a rule asked for it".into()),
    };
    Arc::new(Canonical {
        key: key.clone(),
        seq: 9,
        id: 0xfedc_ba98_7654_3210,
        prev: 3,
        origin: Origin::Input(12),
        idx: 0,
        last: true,
        dot: Dot { actor: ActorId::RESOLVER, ctr: 1 },
        vv: [dot(1, 1), dot(2, 3)].into_iter().collect(),
        ts: Hlc::from_ms(1_700_000_000_001).tick(),
        fp: Fp::of_row(schema, &row()),
        tomb: false,
        schema: schema.id,
        after: Some(Arc::new(row())),
        by: dot(2, 3).actor,
        cause: Cause::Merge,
        ack: [Join { actor: dot(2, 3).actor, ctr: 3, seq: 8, fp_local: fp(4) }].into_iter().collect(),
        rctr: 1,
        conflicted: 9,
        conflict: Some(Box::new(conflict)),
        asked: Some(Box::new(asked(7))),
        copy: false,
    })
}

fn proposal(schema: &Schema, key: &Key, stamp: Stamp) -> Proposal {
    let mut value = row();
    value.0[5] = Value::Unchanged;
    Proposal {
        stamp,
        key: key.clone(),
        dot: dot(2, 3),
        ctx: [dot(1, 1)].into_iter().collect(),
        base_seq: 4,
        base_tomb: false,
        ts: Hlc::from_ms(1_700_000_000_000),
        op: Op::Read,
        fp: fp(5),
        fp_local: fp(6),
        schema: schema.id,
        value: Some(Arc::new(value)),
        before: Some(Arc::new(row())),
        txn: Some(Txn { id: 700, idx: 1 }),
        src_pos: Position::end_of(8),
        rev: 2,
        entry: Some(Box::new(entry(schema))),
        ambiguous_base: true,
    }
}

fn truncate(schema: &Schema, key: &Key, stamp: Stamp) -> Truncate {
    let gone =
        Gone { key: key.clone(), ctx: [dot(1, 1)].into_iter().collect(), base_seq: 4, base_tomb: false, fp: fp(8) };
    Truncate {
        stamp,
        dot: dot(2, 4),
        ts: Hlc::from_ms(1_700_000_000_000),
        schema: schema.id,
        txn: Txn { id: 701, idx: 0 },
        src_pos: Position::new(9, 0),
        gone: vec![gone],
    }
}

fn validity(stamp: Stamp) -> Validity {
    Validity {
        owners: [(Role::Writer(PlatformNo(2)), stamp), (Role::Resolver, stamp)].into_iter().collect(),
        last: [(dot(2, 3).actor, 3)].into_iter().collect(),
        commands: [(5, ())].into_iter().collect(),
        tip: (9, 3),
    }
}

fn asked(command: u128) -> Asked {
    Asked { command, by: "ann".into(), why: "both were wrong".into(), conflict: Some(9) }
}

/// One record of every kind, in the order of `Kind::ALL`.
fn records(schema: &Arc<Schema>) -> Vec<Record> {
    let stamp = Stamp { epoch: 3, owner: 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef };
    let key = Key::of_row(&row(), schema).unwrap();
    let link = Link { offset: 13, seq: 9, id: 0xfedc_ba98_7654_3210 };
    let fields = [("tags".into(), FieldRule::Set), ("doc.lines".into(), FieldRule::ByKey("no".into()))].into();
    let rules = Rules {
        version: 1,
        priority: vec![PlatformNo(2), PlatformNo(1)],
        bootstrap: Bootstrap::Source(PlatformNo(1)),
        resolution: Resolution::Merge(Merge { deletes: Deletes::DeleteWins, fields }),
    };
    let head = canonical(schema, &key);
    let known = Known {
        vv: [dot(1, 1)].into_iter().collect(),
        base_seq: 4,
        base_tomb: false,
        fp: fp(7),
        schema: schema.id,
        ts: Hlc(75),
        pos: Position::new(8, 1),
    };
    let reader = ReaderMark {
        stamp,
        number: 2,
        pos: Position::new(8, 1),
        ctr: vec![3, 0],
        cpos: vec![13, 0],
        lastpos: vec![Position::new(8, 1), Position::START],
        copied: vec![Copying::Through(key.clone()), Copying::Done, Copying::Todo],
    };
    let mark = ResolverMark {
        stamp,
        number: 1,
        link,
        c_off: 13,
        changes: validity(stamp),
        rctr: 1,
        rules,
        schemas: vec![schema.clone()],
    };
    vec![
        Record::Claim(Claim { role: Role::Writer(PlatformNo(2)), stamp }),
        Record::Proposal(Box::new(proposal(schema, &key, stamp))),
        Record::Control(Box::new(ControlInput { command: 5, control: Control::Schema(schema.clone()) })),
        Record::Canonical(head.clone()),
        Record::State(Box::new(StateRecord { stamp, head: head.clone() })),
        Record::ResolverMark(Box::new(mark)),
        Record::Known(Box::new(KnownRecord { stamp, key: key.clone(), known })),
        Record::ReaderMark(Box::new(reader)),
        Record::Ledger(Box::new(LedgerRecord { stamp, key: key.clone(), rev: 2, entry: entry(schema), canon: link })),
        Record::AgentMark(Box::new(AgentMark { stamp, cpos: 13, ctr: 3, rev: 2, canon: link })),
        Record::Conflict(head.clone()),
        Record::Truncate(Box::new(truncate(schema, &key, stamp))),
        Record::Dead(Box::new(DeadLetter {
            id: stamp.owner,
            fate: Fate::Open,
            stage: Stage::Apply,
            by: dot(2, 3).actor,
            key: head.key.clone(),
            code: "constraint_violated".into(),
            why: "a name is there already".into(),
            pos: Position::new(8, 1),
            offset: Some(12),
            version: Some(head),
            native: Some("{}".into()),
        })),
        Record::Review(Box::new(Review {
            key,
            ctx: [dot(1, 1), dot(2, 3)].into_iter().collect(),
            base_seq: 9,
            ts: Hlc(80),
            schema: schema.id,
            value: Some(Arc::new(row())),
            asked: asked(stamp.owner),
        })),
    ]
}
