//! SQLite's values ↔ ours, both directions. SQLite lets any value stand in any column, so what does
//! not have its column's type is refused by name (P8), and what a column would change is never sent.
//!
//! Norm is the identity here: a row is stored so that it reads back as itself, or it is refused.

use super::wire::table::{Affinity, Column, Table};
use super::wire::time;
use crate::event::decimal::Decimal;
use crate::event::json::{Twice, canonical};
use crate::event::value::{Text, Value};
use crate::event::{Key, Row, Type};
use crate::runtime::error::{Code, Error, Result};
use bigdecimal::BigDecimal;
use bytes::Bytes;
use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};
use std::borrow::Cow;
use std::str::FromStr;

/// A result that says why not; table and column are named by the caller.
type Told<T> = std::result::Result<T, String>;

/// Decimals beyond these powers of ten are refused: written out they would fill the memory.
const EXPONENT_MAX: i64 = 20_000;

/// A value in the form it is bound to a statement.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Native<'a> {
    /// SQL's null.
    Null,
    /// An integer.
    Int(i64),
    /// A real.
    Real(f64),
    /// Text.
    Text(Cow<'a, str>),
    /// Bytes.
    Blob(&'a [u8]),
}

impl ToSql for Native<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Native::Null => ValueRef::Null,
            Native::Int(i) => ValueRef::Integer(*i),
            Native::Real(x) => ValueRef::Real(*x),
            Native::Text(t) => ValueRef::Text(t.as_bytes()),
            Native::Blob(b) => ValueRef::Blob(b),
        }))
    }
}

impl Native<'_> {
    /// Whether a stored value is this one, whatever number type the column's affinity chose.
    fn is(&self, stored: ValueRef<'_>) -> bool {
        match (self, stored) {
            (Native::Real(x), ValueRef::Integer(i)) => integer_of(*x) == Some(i128::from(i)),
            (Native::Int(i), ValueRef::Real(x)) => integer_of(x) == Some(i128::from(*i)),
            (Native::Real(x), ValueRef::Real(y)) => x.to_bits() == y.to_bits() || (*x == 0.0 && y == 0.0),
            (Native::Text(t), ValueRef::Text(s)) => t.as_bytes() == s,
            (Native::Text(t), ValueRef::Integer(i)) => **t == *i.to_string(),
            (Native::Null, ValueRef::Null) => true,
            (Native::Int(a), ValueRef::Integer(b)) => *a == b,
            (Native::Blob(a), ValueRef::Blob(b)) => *a == b,
            _ => false,
        }
    }
}

/// The value a column holds, or why it is none of the column's type.
pub(super) fn decode(column: &Column, stored: ValueRef<'_>) -> Told<Value> {
    let found = || format!("{} is no {:?}", shown(stored), column.ty);
    if matches!(stored, ValueRef::Null) {
        return Ok(Value::Null);
    }
    let value = match stored {
        ValueRef::Integer(i) => of_integer(&column.ty, i),
        ValueRef::Real(x) => of_real(&column.ty, x),
        ValueRef::Text(bytes) => {
            let text = std::str::from_utf8(bytes).map_err(|_| "the text is not UTF-8".to_string())?;
            of_text(column, text)
        }
        ValueRef::Blob(bytes) => of_blob(&column.ty, bytes),
        ValueRef::Null => None,
    };
    let value = value.ok_or_else(found)?;
    // topic-4: one canonical key, one native form, or a write would miss the row it means.
    if column.key && !encode(column, &value)?.is(stored) {
        let text = format!("{} is a key in another than its canonical form, which is {value:?}", shown(stored));
        return Err(text);
    }
    Ok(value)
}

fn of_integer(ty: &Type, i: i64) -> Option<Value> {
    match ty {
        Type::Bool if i == 0 || i == 1 => Some(Value::Bool(i == 1)),
        Type::Int(bits) if fits(*bits, i) => Some(Value::Int(i)),
        Type::Float(64) => Some(i as f64).filter(|x| integer_of(*x) == Some(i128::from(i))).map(Value::Float64),
        Type::Float(32) => {
            Some(i as f32).filter(|x| integer_of(f64::from(*x)) == Some(i128::from(i))).map(Value::Float32)
        }
        Type::Decimal => Some(Value::Decimal(Decimal::finite(&BigDecimal::from(i)))),
        Type::Json => Some(Value::Json(Text::from(i.to_string()))),
        _ => None,
    }
}

fn of_real(ty: &Type, x: f64) -> Option<Value> {
    match ty {
        Type::Float(64) => Some(Value::Float64(x)),
        Type::Float(32) => {
            let narrow = x as f32;
            (f64::from(narrow).to_bits() == x.to_bits()).then_some(Value::Float32(narrow))
        }
        Type::Decimal => decimal_of(x).map(Value::Decimal),
        _ => None,
    }
}

fn of_text(column: &Column, text: &str) -> Option<Value> {
    match column.ty {
        Type::Text => Some(Value::text(text)),
        Type::Decimal => decimal_of_text(column.affinity, text).map(Value::Decimal),
        Type::Uuid if text.len() == 36 => uuid::Uuid::parse_str(text).ok().map(|u| Value::Uuid(u.into_bytes())),
        Type::Date => time::date_of(text).map(Value::Date),
        Type::Time => time::time_of(text).map(Value::Time),
        Type::TimeTz => time::time_tz_of(text).map(|(us, zone)| Value::TimeTz(us, zone)),
        Type::Timestamp { zone } => time::timestamp_of(text, zone).map(Value::Timestamp),
        Type::Interval => time::interval_of(text).map(Value::Interval),
        Type::Json => canonical(text, Twice::Refused).ok().map(|t| Value::Json(Text::from(t))),
        _ => None,
    }
}

fn of_blob(ty: &Type, bytes: &[u8]) -> Option<Value> {
    match ty {
        Type::Bytes => Some(Value::Bytes(Bytes::copy_from_slice(bytes))),
        Type::Uuid => bytes.try_into().ok().map(Value::Uuid),
        _ => None,
    }
}

/// The form in which a column holds a value exactly, or why it cannot.
pub(super) fn encode<'a>(column: &Column, value: &'a Value) -> Told<Native<'a>> {
    let owned = |text: String| Ok(Native::Text(Cow::Owned(text)));
    match (&column.ty, value) {
        (_, Value::Null) => Ok(Native::Null),
        (Type::Bool, Value::Bool(b)) => Ok(Native::Int(i64::from(*b))),
        (Type::Int(bits), Value::Int(i)) if fits(*bits, *i) => Ok(Native::Int(*i)),
        (Type::Float(_), Value::Float64(x)) if x.is_nan() => Err(NAN.into()),
        (Type::Float(_), Value::Float32(x)) if x.is_nan() => Err(NAN.into()),
        (Type::Float(64), Value::Float64(x)) => Ok(Native::Real(*x)),
        (Type::Float(32), Value::Float32(x)) => Ok(Native::Real(f64::from(*x))),
        (Type::Decimal, Value::Decimal(d)) => encode_decimal(column.affinity, d),
        (Type::Text, Value::Text(t)) => Ok(Native::Text(Cow::Borrowed(t.as_str()))),
        (Type::Bytes, Value::Bytes(b)) => Ok(Native::Blob(b)),
        (Type::Uuid, Value::Uuid(u)) if column.affinity == Affinity::Blob => Ok(Native::Blob(u)),
        (Type::Uuid, Value::Uuid(u)) => owned(uuid::Uuid::from_bytes(*u).hyphenated().to_string()),
        (Type::Date, Value::Date(d)) => owned(time::date_text(*d)),
        (Type::Time, Value::Time(t)) if time::is_time(*t) => owned(time::time_text(*t)),
        (Type::TimeTz, Value::TimeTz(t, zone)) if time::is_time(*t) && zone.unsigned_abs() < 86_400 => {
            owned(time::time_tz_text(*t, *zone))
        }
        (Type::Timestamp { zone }, Value::Timestamp(t)) => owned(time::timestamp_text(*t, *zone)),
        (Type::Interval, Value::Interval(i)) => owned(time::interval_text(*i)),
        (Type::Json, Value::Json(j)) => encode_json(column.affinity, j.as_str()),
        (ty, value) => Err(format!("{value:?} is no {ty:?}")),
    }
}

const NAN: &str = "SQLite stores NaN as NULL";

/// A column of numeric affinity makes numbers of numeric text, so exactly what survives that is sent.
fn encode_decimal(affinity: Affinity, decimal: &Decimal) -> Told<Native<'static>> {
    let exact = || format!("SQLite cannot hold {decimal} exactly in a numeric column; declare the column TEXT");
    let Decimal::Finite(number) = decimal else {
        return Ok(Native::Text(Cow::Owned(decimal.canonical())));
    };
    if number.fractional_digit_count().unsigned_abs() > EXPONENT_MAX.unsigned_abs() {
        return Err(format!("the number has more than {EXPONENT_MAX} digits"));
    }
    if matches!(affinity, Affinity::Text | Affinity::Blob) {
        return Ok(Native::Text(Cow::Owned(decimal.canonical())));
    }
    if affinity != Affinity::Real
        && let Ok(i) = decimal.canonical().parse::<i64>()
    {
        return Ok(Native::Int(i));
    }
    let real: f64 = number.to_string().parse().map_err(|_| exact())?;
    if real.is_finite() && decimal_of(real).as_ref() == Some(decimal) { Ok(Native::Real(real)) } else { Err(exact()) }
}

/// A document that is just a number would become one, and lose how it was written.
fn encode_json(affinity: Affinity, document: &str) -> Told<Native<'_>> {
    let number = document.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    let kept = document.parse::<i64>().is_ok_and(|i| i.to_string() == document);
    if affinity == Affinity::Numeric && number && !kept {
        return Err(format!("SQLite would change the number {document} in a column declared JSON; declare it TEXT"));
    }
    Ok(Native::Text(Cow::Borrowed(document)))
}

/// The decimal a real stands for: the shortest one that reads back as the same real.
fn decimal_of(real: f64) -> Option<Decimal> {
    match real {
        f64::INFINITY => Some(Decimal::Infinity),
        f64::NEG_INFINITY => Some(Decimal::NegInfinity),
        real => BigDecimal::from_str(&format!("{real:e}")).ok().map(|n| Decimal::finite(&n)),
    }
}

fn decimal_of_text(affinity: Affinity, text: &str) -> Option<Decimal> {
    match text {
        "NaN" => return Some(Decimal::NaN),
        "Infinity" => return Some(Decimal::Infinity),
        "-Infinity" => return Some(Decimal::NegInfinity),
        _ => {}
    }
    let plain = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    if !plain || !matches!(affinity, Affinity::Text | Affinity::Blob) {
        return None;
    }
    let number = BigDecimal::from_str(text).ok()?;
    (number.fractional_digit_count().unsigned_abs() <= EXPONENT_MAX.unsigned_abs()).then(|| Decimal::finite(&number))
}

/// The integer a real is, if it is one.
fn integer_of(x: f64) -> Option<i128> {
    (x.is_finite() && x.trunc() == x && x.abs() < 1e30).then_some(x as i128)
}

fn fits(bits: u8, i: i64) -> bool {
    match bits {
        16 => i16::try_from(i).is_ok(),
        32 => i32::try_from(i).is_ok(),
        _ => true,
    }
}

/// A stored value for people, cut short.
fn shown(stored: ValueRef<'_>) -> String {
    match stored {
        ValueRef::Null => "NULL".into(),
        ValueRef::Integer(i) => format!("the integer {i}"),
        ValueRef::Real(x) => format!("the real {x}"),
        ValueRef::Text(t) => format!("the text {:?}", String::from_utf8_lossy(t.get(..40).unwrap_or(t))),
        ValueRef::Blob(b) => format!("a blob of {} bytes", b.len()),
    }
}

impl Table {
    /// The row whose columns `at` gives, by field; the error names table and column.
    pub(super) fn row<'r>(&self, at: impl Fn(usize) -> Option<ValueRef<'r>>) -> Result<Row> {
        let value = |(i, column): (usize, &Column)| match at(i) {
            None => Ok(Value::Null),
            Some(stored) => decode(column, stored).map_err(|why| self.refused(column, &why)),
        };
        self.columns.iter().enumerate().map(value).collect::<Result<_>>().map(Row)
    }

    /// The row whose columns `at` gives, as SQLite holds it, as JSON for people. Blobs are in hexadecimal.
    pub(super) fn native<'r>(&self, at: impl Fn(usize) -> Option<ValueRef<'r>>) -> String {
        let told = |stored: Option<ValueRef<'_>>| match stored {
            None | Some(ValueRef::Null) => serde_json::Value::Null,
            Some(ValueRef::Integer(i)) => i.into(),
            Some(ValueRef::Real(x)) => x.into(),
            Some(ValueRef::Text(t)) => String::from_utf8_lossy(t).into_owned().into(),
            Some(ValueRef::Blob(b)) => b.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
        };
        let columns = self.columns.iter().enumerate().map(|(i, column)| (column.name.clone(), told(at(i))));
        serde_json::Value::Object(columns.collect()).to_string()
    }

    /// The key of a row of which at least the key's fields are there.
    pub(super) fn key_of(&self, row: &Row) -> Result<Key> {
        Key::of_row(row, &self.schema).map_err(|e| e.at("table", &self.name))
    }

    /// The values of a key, in key order.
    pub(super) fn key_values(&self, key: &Key) -> Result<Vec<Value>> {
        key.decode(&self.schema).map_err(|e| e.at("table", &self.name))
    }

    /// The forms of a key's values, in key order.
    pub(super) fn key_natives<'a>(&self, values: &'a [Value]) -> Result<Vec<Native<'a>>> {
        let native = |(c, v): (&Column, &'a Value)| encode(c, v).map_err(|why| self.refused(c, &why));
        self.keys().zip(values).map(native).collect()
    }

    /// The forms of a row's values, by field.
    pub(super) fn natives<'a>(&self, row: &'a Row) -> Result<Vec<Native<'a>>> {
        if row.0.len() != self.columns.len() {
            let text = format!("a row of {} fields was given to a collection of {}", row.0.len(), self.columns.len());
            return Err(Error::new(Code::SchemaUnsupported, text).at("table", &self.name));
        }
        let native = |(c, v): (&Column, &'a Value)| encode(c, v).map_err(|why| self.refused(c, &why));
        self.columns.iter().zip(&row.0).map(native).collect()
    }

    /// A document that is none, or not in canonical text, would not read back as itself.
    pub(super) fn check_documents(&self, row: &Row) -> Result<()> {
        self.columns.iter().zip(&row.0).try_for_each(|(column, value)| match value {
            Value::Json(j) if canonical(j.as_str(), Twice::Refused).as_deref() != Ok(j.as_str()) => {
                Err(self.refused(column, "the document is no JSON in canonical text"))
            }
            _ => Ok(()),
        })
    }

    fn refused(&self, column: &Column, why: &str) -> Error {
        Error::new(Code::ValueRefused, why).at("table", &self.name).at("column", &column.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(ty: Type, affinity: Affinity, key: bool) -> Column {
        Column { name: "c".into(), ty, affinity, key }
    }

    #[test]
    fn values_of_another_type_are_refused() {
        let int = column(Type::Int(16), Affinity::Integer, false);
        assert!(decode(&int, ValueRef::Text(b"seven")).unwrap_err().contains("seven"));
        assert!(decode(&int, ValueRef::Integer(40_000)).is_err(), "too wide for the dataset's type");
        assert!(decode(&column(Type::Bool, Affinity::Numeric, false), ValueRef::Integer(2)).is_err());
        assert!(decode(&column(Type::Text, Affinity::Text, false), ValueRef::Text(&[0xff])).is_err());
        assert!(decode(&column(Type::Float(32), Affinity::Real, false), ValueRef::Real(0.1)).is_err());
        assert!(decode(&column(Type::Float(64), Affinity::Numeric, false), ValueRef::Integer(i64::MAX)).is_err());
    }

    #[test]
    fn a_key_must_stand_in_its_canonical_form() {
        let key = column(Type::Uuid, Affinity::Text, true);
        let lower = b"6b1f0b1e-3c5a-4d9e-8f00-0a0b0c0d0e0f";
        assert!(decode(&key, ValueRef::Text(lower)).is_ok());
        assert!(decode(&key, ValueRef::Text(&lower.to_ascii_uppercase())).is_err());
    }

    #[test]
    fn decimals_a_float_cannot_hold_are_refused_in_numeric_columns_only() {
        let exact: Decimal = "0.12345678901234567890".parse().unwrap();
        assert!(encode_decimal(Affinity::Numeric, &exact).is_err());
        assert!(encode_decimal(Affinity::Text, &exact).is_ok());
        assert_eq!(encode_decimal(Affinity::Numeric, &"0.1".parse().unwrap()), Ok(Native::Real(0.1)));
        assert!(encode_decimal(Affinity::Text, &"1e99999999".parse().unwrap()).is_err(), "would fill the memory");
    }
}
