//! Every type, written and read back by log, copy and lock.

use super::*;

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
