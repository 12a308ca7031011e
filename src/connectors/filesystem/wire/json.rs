//! Rows as JSON documents: an object whose members are the row's fields. The document is read as
//! text, so that no number loses a digit. What cannot be held exactly is refused, both ways (P8),
//! and no member is ever dropped. The table of types is in the connector's README.

use super::path::fits;
use super::time;
use crate::event::json::{Twice, canonical};
use crate::event::value::Interval;
use crate::event::{Field, Type, Value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt::{self, Write};
use std::str::FromStr;

use crate::event::decimal::Decimal;

/// A decimal with an exponent beyond this would take unbounded memory when written out.
const EXPONENT_MAX: u64 = 20_000;

/// Reads a document; absent members are `Null`. The error says which member is wrong and why.
pub(crate) fn decode(fields: &[Field], document: &str) -> Result<Vec<Value>, String> {
    let object: Object = serde_json::from_str(document).map_err(|e| format!("it is no JSON object: {e}"))?;
    record(fields, &object)
}

/// Writes a document, one member per line; nulls are left out.
pub(crate) fn encode(fields: &[Field], values: &[Value]) -> Result<String, String> {
    let mut out = String::from("{");
    let members = fields.iter().zip(values).filter(|(_, v)| !v.is_null());
    for (index, (field, value)) in members.enumerate() {
        out.push_str(if index == 0 { "\n  " } else { ",\n  " });
        string(&mut out, &field.name)?;
        out.push_str(": ");
        write_value(&mut out, field, value).map_err(|e| format!("field {}: {e}", field.name))?;
    }
    out.push_str("\n}\n");
    Ok(out)
}

/// The members of an object in order, unread; a name that occurs twice is an error.
struct Object(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut seen = std::collections::HashSet::new();
                let mut members = Vec::new();
                while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    if !seen.insert(name.clone()) {
                        return Err(serde::de::Error::custom(format!("member {name:?} occurs twice")));
                    }
                    members.push((name, value));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

fn record(fields: &[Field], object: &Object) -> Result<Vec<Value>, String> {
    let mut values = vec![Value::Null; fields.len()];
    for (name, raw) in &object.0 {
        let at = fields
            .iter()
            .position(|f| *f.name == **name)
            .ok_or_else(|| format!("member {name:?} is no field of the dataset"))?;
        if let (Some(field), Some(value)) = (fields.get(at), values.get_mut(at)) {
            *value = read_field(field, raw.get()).map_err(|e| format!("member {name:?}: {e}"))?;
        }
    }
    let missing = fields.iter().zip(&values).find(|(f, v)| v.is_null() && !f.nullable);
    missing.map_or(Ok(()), |(f, _)| Err(format!("member {:?} is missing", &*f.name)))?;
    Ok(values)
}

fn read_field(field: &Field, raw: &str) -> Result<Value, String> {
    // A JSON document that is null can be told from an absent one only where absent is impossible.
    if raw == "null" && (field.nullable || field.ty != Type::Json) {
        Ok(Value::Null)
    } else {
        read_value(&field.ty, raw)
    }
}

fn read_value(ty: &Type, raw: &str) -> Result<Value, String> {
    let expected = |what: &str| format!("expected {what}, found {}", shorten(raw));
    match ty {
        Type::Bool => serde_json::from_str(raw).map(Value::Bool).map_err(|_| expected("true or false")),
        Type::Int(bits) => {
            let int = raw.parse::<i64>().ok().filter(|i| fits(*i, *bits));
            int.map(Value::Int)
                .ok_or_else(|| expected(&format!("an integer of {bits} bits without fraction or exponent")))
        }
        Type::Float(bits) => read_float(*bits, raw).ok_or_else(|| expected("a number that a float can hold")),
        Type::Decimal => {
            let text = if raw.starts_with('"') { text_of(raw)? } else { raw.to_owned() };
            let decimal = Some(text).filter(|t| exponent(t) <= EXPONENT_MAX).and_then(|t| Decimal::from_str(&t).ok());
            decimal.map(Value::Decimal).ok_or_else(|| expected("a decimal number"))
        }
        Type::Text => text_of(raw).map(|t| Value::Text(t.into())),
        Type::Json => {
            let canonical = canonical(raw, Twice::Refused).map_err(|e| format!("it is no JSON to keep: {e}"))?;
            Ok(Value::Json(canonical.into()))
        }
        Type::Array(item) => {
            let items: Vec<Box<RawValue>> = serde_json::from_str(raw).map_err(|_| expected("a list"))?;
            let read = |raw: &str| if raw == "null" { Ok(Value::Null) } else { read_value(item, raw) };
            items.iter().map(|i| read(i.get())).collect::<Result<_, _>>().map(Value::Array)
        }
        Type::Record(fields) => {
            let object: Object = serde_json::from_str(raw).map_err(|e| format!("expected an object: {e}"))?;
            record(fields, &object).map(Value::Record)
        }
        Type::Interval => read_interval(raw).ok_or_else(|| expected(r#"{"months": …, "days": …, "micros": …}"#)),
        ty => read_text_like(ty, &text_of(raw)?).ok_or_else(|| expected(&format!("{ty:?} as text"))),
    }
}

/// The types that are written as text of a fixed form.
fn read_text_like(ty: &Type, text: &str) -> Option<Value> {
    match ty {
        Type::Bytes => BASE64.decode(text).ok().map(|b| Value::Bytes(Bytes::from(b))),
        Type::Uuid => uuid::Uuid::try_parse(text).ok().map(|u| Value::Uuid(u.into_bytes())),
        Type::Date => time::parse_date(text).map(Value::Date),
        Type::Time => time::parse_time(text).map(Value::Time),
        Type::TimeTz => time::parse_time_tz(text).map(|(t, zone)| Value::TimeTz(t, zone)),
        Type::Timestamp { zone } => time::parse_timestamp(text, *zone).map(Value::Timestamp),
        _ => None,
    }
}

fn read_float(bits: u8, raw: &str) -> Option<Value> {
    let name = raw.strip_prefix('"').and_then(|r| r.strip_suffix('"'));
    let text = match name {
        Some("NaN" | "Infinity" | "-Infinity") => name?,
        Some(_) => return None,
        None => raw,
    };
    // The nearest float is what the text means; a number beyond the largest float means none.
    let real = |finite: bool| finite || name.is_some();
    match bits {
        32 => text.parse::<f32>().ok().filter(|x| real(x.is_finite())).map(Value::Float32),
        _ => text.parse::<f64>().ok().filter(|x| real(x.is_finite())).map(Value::Float64),
    }
}

fn read_interval(raw: &str) -> Option<Value> {
    let field = |name: &str, bits| Field { name: name.into(), ty: Type::Int(bits), nullable: false };
    let fields = [field("months", 32), field("days", 32), field("micros", 64)];
    let object: Object = serde_json::from_str(raw).ok()?;
    match record(&fields, &object).ok()?.as_slice() {
        [Value::Int(months), Value::Int(days), Value::Int(micros)] => Some(Value::Interval(Interval {
            months: i32::try_from(*months).ok()?,
            days: i32::try_from(*days).ok()?,
            micros: *micros,
        })),
        _ => None,
    }
}

fn text_of(raw: &str) -> Result<String, String> {
    serde_json::from_str(raw).map_err(|e| format!("expected a text, found {}: {e}", shorten(raw)))
}

fn exponent(number: &str) -> u64 {
    let digits = number.split_once(['e', 'E']).map_or("0", |(_, e)| e.trim_start_matches(['+', '-']));
    digits.parse().unwrap_or(u64::MAX)
}

fn shorten(raw: &str) -> String {
    let mut short: String = raw.chars().take(40).collect();
    if short.len() < raw.len() {
        short.push('…');
    }
    short
}

fn write_value(out: &mut String, field: &Field, value: &Value) -> Result<(), String> {
    if let (Type::Json, Value::Json(json)) = (&field.ty, value) {
        let canonical = canonical(json.as_str(), Twice::Refused)?;
        if canonical == "null" && field.nullable {
            return Err("a JSON null cannot be told from an absent member".into());
        }
        out.push_str(&canonical);
        return Ok(());
    }
    write_typed(out, &field.ty, value)
}

fn write_typed(out: &mut String, ty: &Type, value: &Value) -> Result<(), String> {
    let none = || format!("{value:?} is no {ty:?}");
    let text = match (ty, value) {
        (Type::Bool, Value::Bool(b)) => return put(out, b),
        (Type::Int(bits), Value::Int(i)) if fits(*i, *bits) => return put(out, i),
        (Type::Float(32), Value::Float32(x)) => return float(out, x.is_finite(), &format!("{x:?}")),
        (Type::Float(64), Value::Float64(x)) => return float(out, x.is_finite(), &format!("{x:?}")),
        (Type::Decimal, Value::Decimal(d)) => d.canonical(),
        (Type::Text, Value::Text(t)) => return string(out, t.as_str()),
        (Type::Bytes, Value::Bytes(b)) => BASE64.encode(b),
        (Type::Uuid, Value::Uuid(u)) => uuid::Uuid::from_bytes(*u).to_string(),
        (Type::Date, Value::Date(d)) => time::date_text(*d),
        (Type::Time, Value::Time(t)) => time::time_text(*t).ok_or_else(none)?,
        (Type::TimeTz, Value::TimeTz(t, zone)) => time::time_tz_text(*t, *zone).ok_or_else(none)?,
        (Type::Timestamp { zone }, Value::Timestamp(t)) => time::timestamp_text(*t, *zone),
        (Type::Interval, Value::Interval(i)) => {
            let object = format!(r#"{{"months": {}, "days": {}, "micros": {}}}"#, i.months, i.days, i.micros);
            return put(out, &object);
        }
        (Type::Array(item), Value::Array(items)) => return write_array(out, item, items),
        (Type::Record(fields), Value::Record(values)) if fields.len() == values.len() => {
            return write_record(out, fields, values);
        }
        _ => return Err(none()),
    };
    string(out, &text)
}

fn write_array(out: &mut String, item: &Type, items: &[Value]) -> Result<(), String> {
    out.push('[');
    for (at, value) in items.iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        let field = Field { name: "item".into(), ty: item.clone(), nullable: true };
        if value.is_null() { out.push_str("null") } else { write_value(out, &field, value)? }
    }
    out.push(']');
    Ok(())
}

fn write_record(out: &mut String, fields: &[Field], values: &[Value]) -> Result<(), String> {
    out.push('{');
    let members = fields.iter().zip(values).filter(|(_, v)| !v.is_null());
    for (at, (field, value)) in members.enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        string(out, &field.name)?;
        out.push_str(": ");
        write_value(out, field, value)?;
    }
    out.push('}');
    Ok(())
}

fn float(out: &mut String, finite: bool, text: &str) -> Result<(), String> {
    match text {
        text if finite => put(out, &text),
        "NaN" => string(out, "NaN"),
        text => string(out, if text.starts_with('-') { "-Infinity" } else { "Infinity" }),
    }
}

fn put(out: &mut String, text: &impl fmt::Display) -> Result<(), String> {
    write!(out, "{text}").map_err(|e| e.to_string())
}

fn string(out: &mut String, text: &str) -> Result<(), String> {
    out.push_str(&serde_json::to_string(text).map_err(|e| e.to_string())?);
    Ok(())
}
