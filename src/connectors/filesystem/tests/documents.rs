//! What a document holds of a record, and what it cannot hold.

use super::*;

fn wide_types() -> Vec<(Type, BoxedStrategy<Value>)> {
    let decimal = prop_oneof![
        (any::<i128>(), -60..60i64)
            .prop_map(|(digits, scale)| Decimal::finite(&bigdecimal::BigDecimal::new(digits.into(), scale))),
        Just(Decimal::NaN),
        Just(Decimal::Infinity),
        Just(Decimal::NegInfinity),
    ];
    let json = prop_oneof![Just("{\"a\":[1,2.50,null]}"), Just("[]"), Just("\"x\\n\""), Just("1e400"), Just("true")];
    vec![
        (Type::Bool, any::<bool>().prop_map(Value::Bool).boxed()),
        (Type::Int(16), any::<i16>().prop_map(|i| Value::Int(i.into())).boxed()),
        (Type::Int(64), any::<i64>().prop_map(Value::Int).boxed()),
        (Type::Float(32), any::<u32>().prop_map(|b| Value::Float32(f32::from_bits(b))).boxed()),
        (Type::Float(64), any::<u64>().prop_map(|b| Value::Float64(f64::from_bits(b))).boxed()),
        (Type::Decimal, decimal.prop_map(Value::Decimal).boxed()),
        (Type::Text, any::<String>().prop_map(|t| Value::text(&t)).boxed()),
        (Type::Bytes, any::<Vec<u8>>().prop_map(|b| Value::Bytes(b.into())).boxed()),
        (Type::Uuid, any::<[u8; 16]>().prop_map(Value::Uuid).boxed()),
        (Type::Date, any::<i32>().prop_map(Value::Date).boxed()),
        (Type::Time, (0..=86_400_000_000i64).prop_map(Value::Time).boxed()),
        (Type::TimeTz, (0..86_400_000_000i64, -86_399..86_400).prop_map(|(t, z)| Value::TimeTz(t, z)).boxed()),
        (Type::Timestamp { zone: true }, any::<i64>().prop_map(Value::Timestamp).boxed()),
        (Type::Timestamp { zone: false }, any::<i64>().prop_map(Value::Timestamp).boxed()),
        (
            Type::Interval,
            any::<(i32, i32, i64)>()
                .prop_map(|(months, days, micros)| Value::Interval(Interval { months, days, micros }))
                .boxed(),
        ),
        (Type::Json, json.prop_map(json_text).boxed()),
        (
            Type::Array(Box::new(Type::Int(32))),
            proptest::collection::vec(
                prop_oneof![any::<i32>().prop_map(|i| Value::Int(i.into())), Just(Value::Null)],
                0..4,
            )
            .prop_map(Value::Array)
            .boxed(),
        ),
        (
            Type::Record(vec![field("x", Type::Text, true), field("y", Type::Bool, false)]),
            (any::<String>(), any::<bool>())
                .prop_map(|(x, y)| Value::Record(vec![Value::text(&x), Value::Bool(y)]))
                .boxed(),
        ),
    ]
}

fn json_text(text: &str) -> Value {
    Value::Json(text.into())
}

fn wide_layout() -> Layout {
    let mut fields = vec![field("id", Type::Text, false)];
    fields.extend(wide_types().into_iter().enumerate().map(|(at, (ty, _))| field(&format!("f{at}"), ty, true)));
    let schema = Schema { id: SchemaId(1), name: "notes".into(), fields, key: vec![0] };
    Layout::new(&scope_with(json!(null), schema).collections[0]).unwrap()
}

fn wide_row() -> impl Strategy<Value = Row> {
    let mut columns: Vec<BoxedStrategy<Value>> = vec![Just(Value::text("k")).boxed()];
    columns.extend(wide_types().into_iter().map(|(_, s)| prop_oneof![4 => s, 1 => Just(Value::Null)].boxed()));
    columns.prop_map(Row)
}

proptest! {
    /// correctness.md §3.7: norm is the identity here, so that every lift is.
    #[test]
    fn a_row_comes_back_from_its_document(row in wide_row()) {
        let layout = wide_layout();
        let content = layout.encode(&row).unwrap();
        let back = layout.decode(&key("k"), &content).unwrap();
        prop_assert_eq!(layout.fp(&back), layout.fp(&row));
        prop_assert_eq!(layout.norm(&key("k"), &row).unwrap(), layout.fp(&row));
        // Written again, the document is the same, however it was read.
        prop_assert_eq!(layout.encode(&back).unwrap(), content);
    }

    #[test]
    fn a_broken_document_does_no_harm(row in wide_row(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let layout = wide_layout();
        let mut content = layout.encode(&row).unwrap();
        let at = at.index(content.len());
        content[at] = byte;
        if let Ok(row) = layout.decode(&key("k"), &content) {
            let again = layout.encode(&row).unwrap();
            prop_assert_eq!(layout.fp(&layout.decode(&key("k"), &again).unwrap()), layout.fp(&row));
        }
    }

    #[test]
    fn raw_bytes_come_back(bytes in any::<Vec<u8>>()) {
        let fields = vec![field("id", Type::Text, false), field("data", Type::Bytes, false)];
        let schema = Schema { id: SchemaId(1), name: "notes".into(), fields, key: vec![0] };
        let layout = Layout::new(&scope_with(json!({"format": "bytes"}), schema).collections[0]).unwrap();
        let row = Row(vec![Value::text("k"), Value::Bytes(bytes.clone().into())]);
        prop_assert_eq!(layout.encode(&row).unwrap(), bytes.clone());
        prop_assert_eq!(layout.decode(&key("k"), &bytes).unwrap(), row);
        prop_assert_eq!(layout.path(&key("k")).unwrap(), "notes/k");
    }
}

/// P8
#[test]
fn what_a_document_cannot_hold_is_refused() {
    let mut schema = schema();
    schema.fields.push(field("j", Type::Json, true));
    let layout = Layout::new(&scope_with(json!(null), schema).collections[0]).unwrap();
    for (n, j) in [
        (Value::Text("1".into()), Value::Null),
        (Value::Unchanged, Value::Null),
        (Value::Int(1), json_text("null")),
        (Value::Int(1), json_text("{\"a\":1,\"a\":2}")),
    ] {
        let refused = layout.norm(&key("k"), &Row(vec![Value::text("k"), n, j])).unwrap_err();
        assert_eq!(refused.code, Code::ValueRefused);
    }
    assert_eq!(
        layout.norm(&key("other"), &Row(vec![Value::text("k"), Value::Null, Value::Null])).unwrap_err().code,
        Code::ValueRefused
    );
}
