//! Rows as JSON for people: what `conflicts` and the HTTP interface show. Never read back.

use crate::event::{Field, Key, Row, Schema, Type, Value};
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta};
use serde_json::{Map, Value as Json, json};

/// A row by the names of its fields.
pub(super) fn row(schema: &Schema, row: &Row) -> Json {
    record(&schema.fields, &row.0)
}

/// The key's fields of a row.
pub(super) fn key(schema: &Schema, row: &Row) -> Json {
    let fields = schema.key.iter().filter_map(|&at| Some((schema.fields.get(at)?, row.get(at)?)));
    fields.map(|(field, found)| (field.name.to_string(), value(&field.ty, found))).collect::<Map<_, _>>().into()
}

/// A key by its fields, or its bytes if they are no key of the schema.
pub(super) fn of_key(schema: Option<&Schema>, key: &Key) -> Json {
    let values = schema.and_then(|schema| Some((schema, key.decode(schema).ok()?)));
    let Some((schema, values)) = values else { return json!(key.0.escape_ascii().to_string()) };
    let fields = schema.key_fields().zip(&values);
    fields.map(|(field, found)| (field.name.to_string(), value(&field.ty, found))).collect::<Map<_, _>>().into()
}

fn record(fields: &[Field], values: &[Value]) -> Json {
    let members = fields.iter().zip(values).map(|(field, found)| (field.name.to_string(), value(&field.ty, found)));
    members.collect::<Map<_, _>>().into()
}

fn value(ty: &Type, found: &Value) -> Json {
    match found {
        Value::Null => Json::Null,
        Value::Unchanged => json!({"unchanged": true}),
        Value::Bool(flag) => json!(flag),
        Value::Int(number) => json!(number),
        Value::Float32(number) => json!(number),
        Value::Float64(number) => json!(number),
        Value::Decimal(number) => json!(number.to_string()),
        Value::Text(text) => json!(text.as_str()),
        Value::Bytes(bytes) => json!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        Value::Uuid(bytes) => json!(uuid::Uuid::from_bytes(*bytes).to_string()),
        Value::Date(days) => json!(date(*days)),
        Value::Time(micros) => json!(time(*micros)),
        Value::TimeTz(micros, east) => {
            json!(format!("{}{:+03}:{:02}", time(*micros), east / 3600, east.abs() / 60 % 60))
        }
        Value::Timestamp(micros) => json!(timestamp(*micros, *ty == Type::Timestamp { zone: true })),
        Value::Interval(span) => json!({"months": span.months, "days": span.days, "micros": span.micros}),
        Value::Json(text) => serde_json::from_str(text.as_str()).unwrap_or_else(|_| json!(text.as_str())),
        Value::Array(items) => {
            let of = match ty {
                Type::Array(of) => of,
                other => other,
            };
            items.iter().map(|item| value(of, item)).collect()
        }
        Value::Record(values) => match ty {
            Type::Record(fields) => record(fields, values),
            _ => Json::Null,
        },
    }
}

fn date(days: i32) -> String {
    match days {
        i32::MIN => "-infinity".into(),
        i32::MAX => "infinity".into(),
        days => NaiveDate::default()
            .checked_add_signed(TimeDelta::days(days.into()))
            .map_or_else(|| format!("{days} days"), |date| date.to_string()),
    }
}

fn time(micros: i64) -> String {
    let at = NaiveTime::MIN.overflowing_add_signed(TimeDelta::microseconds(micros)).0;
    if micros == 86_400_000_000 { "24:00:00".into() } else { at.to_string() }
}

fn timestamp(micros: i64, zone: bool) -> String {
    match micros {
        i64::MIN => "-infinity".into(),
        i64::MAX => "infinity".into(),
        micros => DateTime::from_timestamp_micros(micros).map_or_else(
            || format!("{micros} µs"),
            |at| at.format(if zone { "%Y-%m-%dT%H:%M:%S%.fZ" } else { "%Y-%m-%dT%H:%M:%S%.f" }).to_string(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::SchemaId;

    #[test]
    fn rows_are_shown_by_their_fields() {
        let field = |name: &str, ty| Field { name: name.into(), ty, nullable: true };
        let fields = vec![
            field("id", Type::Int(64)),
            field("price", Type::Decimal),
            field("at", Type::Timestamp { zone: true }),
            field("day", Type::Date),
            field("tags", Type::Array(Box::new(Type::Text))),
            field("doc", Type::Json),
        ];
        let schema = Schema { id: SchemaId(1), name: "t".into(), fields, key: vec![0] };
        let found = Row(vec![
            Value::Int(7),
            Value::Decimal("12.50".parse().unwrap()),
            Value::Timestamp(1_500_000),
            Value::Date(1),
            Value::Array(vec![Value::text("a"), Value::Null]),
            Value::Json(r#"{"a":1}"#.into()),
        ]);
        assert_eq!(key(&schema, &found), json!({"id": 7}));
        let shown = row(&schema, &found);
        assert_eq!(shown["at"], "1970-01-01T00:00:01.500Z");
        assert_eq!(shown["day"], "1970-01-02");
        assert_eq!(shown["tags"], json!(["a", null]));
        assert_eq!(shown["doc"], json!({"a": 1}));
    }
}
