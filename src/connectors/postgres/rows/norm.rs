//! What a column makes of a value (norm): the form it has once read back, or the reason why it can
//! never be held exactly (P8). And the keys of rows, both ways.

use super::super::client::catalog::{Column, Table};
use super::super::values::Native;
use super::super::wire::cursor::Malformed;
use super::super::wire::json::jsonb;
use crate::event::decimal::Decimal;
use crate::event::json::{Twice, canonical};
use crate::event::{Key, Row, Text, Value};
use crate::runtime::error::Code;

/// Why a row has no key.
pub(crate) const KEY_TOO_LONG: Malformed = Malformed("a key is longer than a key may be (4096 bytes)");

impl Table {
    /// The row as it will be read back.
    pub(crate) fn norm(&self, row: &Row) -> Result<Row, String> {
        let field = |(i, value): (usize, &Value)| match self.column(i) {
            Some(column) => column.norm(value),
            None => Ok(value.clone()),
        };
        row.0.iter().enumerate().map(field).collect::<Result<_, _>>().map(Row)
    }

    /// The key of a row.
    pub(crate) fn key_of(&self, row: &Row) -> Result<Key, Malformed> {
        Key::of_row(row, &self.schema).map_err(|e| match e.code {
            Code::KeyTooLong => KEY_TOO_LONG,
            _ => Malformed("a key field is null, or of a type that has no key form"),
        })
    }

    /// The values of a key, in key order.
    pub(crate) fn read_key(&self, key: &Key) -> Result<Vec<Value>, Malformed> {
        key.decode(&self.schema).map_err(|_| Malformed("a key is not of its collection's key type"))
    }
}

impl Column {
    /// The value as it will be read back.
    pub(crate) fn norm(&self, value: &Value) -> Result<Value, String> {
        let refuse = |why: &str| Err(format!("column \"{}\" ({}): {why}", self.name, self.sql));
        if value.is_null() {
            return if self.not_null { refuse("must not be null") } else { Ok(Value::Null) };
        }
        match normal(&self.native, self.modifier, value) {
            Ok(value) => Ok(value),
            Err(why) => refuse(why),
        }
    }
}

fn normal(native: &Native, modifier: i32, value: &Value) -> Result<Value, &'static str> {
    let length_max = usize::try_from(modifier - 4).unwrap_or(usize::MAX);
    match (native, value) {
        (_, Value::Null) => return Ok(Value::Null),
        (_, Value::Unchanged) => return Err("a part of the record is not known"),
        (Native::Int(16), Value::Int(i)) if i16::try_from(*i).is_err() => return Err("the number is too large"),
        (Native::Int(32), Value::Int(i)) if i32::try_from(*i).is_err() => return Err("the number is too large"),
        (Native::Text | Native::Char | Native::Printed, Value::Text(text)) => {
            if text.as_str().contains('\0') {
                return Err("text with a zero byte cannot be stored");
            }
            let is = if *native == Native::Char { text.as_str().trim_end_matches(' ') } else { text.as_str() };
            if is.len() > length_max && *native != Native::Printed && is.chars().count() > length_max {
                return Err("the text is too long");
            }
            return Ok(if is.len() == text.as_str().len() { value.clone() } else { Value::text(is) });
        }
        (Native::Numeric, Value::Decimal(decimal)) => fits(decimal, modifier)?,
        (Native::Time | Native::TimeTz | Native::Timestamp(_), _) if (0..6).contains(&modifier) => {
            let unit = 10i64.pow(u32::try_from(6 - modifier).unwrap_or(0));
            match value {
                Value::Timestamp(i64::MIN | i64::MAX) => {}
                Value::Time(t) | Value::TimeTz(t, _) | Value::Timestamp(t) if t % unit != 0 => {
                    return Err("the time is more precise than the column");
                }
                _ => {}
            }
        }
        (Native::Json(binary), Value::Json(json)) => {
            if *binary && json.as_str().contains("\\u0000") {
                return Err("jsonb cannot hold the character U+0000");
            }
            let text = if *binary { jsonb(json.as_str())? } else { canonical(json.as_str(), Twice::LastCounts)? };
            return Ok(Value::Json(Text::from(text)));
        }
        (Native::Array(item), Value::Array(items)) => {
            let items: Result<Vec<_>, _> = items.iter().map(|i| normal(item, modifier, i)).collect();
            return items.map(Value::Array);
        }
        _ => {}
    }
    let same_kind = matches!(
        (native, value),
        (Native::Bool, Value::Bool(_))
            | (Native::Int(_), Value::Int(_))
            | (Native::Float(32), Value::Float32(_))
            | (Native::Float(64), Value::Float64(_))
            | (Native::Numeric, Value::Decimal(_))
            | (Native::Bytes, Value::Bytes(_))
            | (Native::Uuid, Value::Uuid(_))
            | (Native::Date, Value::Date(_))
            | (Native::Time, Value::Time(_))
            | (Native::TimeTz, Value::TimeTz(..))
            | (Native::Timestamp(_), Value::Timestamp(_))
            | (Native::Interval, Value::Interval(_))
    );
    if same_kind { Ok(value.clone()) } else { Err("the value is of another type") }
}

/// `numeric(precision, scale)` rounds; a number it would round is refused.
fn fits(decimal: &Decimal, modifier: i32) -> Result<(), &'static str> {
    let Decimal::Finite(number) = decimal else {
        // NaN fits everywhere, the infinities only where there is no precision.
        return if modifier < 4 || *decimal == Decimal::NaN { Ok(()) } else { Err("the number is infinite") };
    };
    let (digits, scale) = number.as_bigint_and_scale();
    let length = match u64::try_from(digits.magnitude()) {
        Ok(short) => short.checked_ilog10().map_or(1, |log| i64::from(log) + 1),
        Err(_) => i64::try_from(digits.magnitude().to_string().len()).unwrap_or(i64::MAX),
    };
    let (precision, places) = if modifier < 4 {
        (131_072 + 16_383, 16_383)
    } else {
        // Eleven bits, signed: a scale may be negative.
        (i64::from((modifier - 4) >> 16 & 0xffff), i64::from(((modifier - 4) & 0x7ff ^ 1024) - 1024))
    };
    if scale > places {
        return Err("the number has more places than the column");
    }
    if length - scale > precision - places && number.sign() != bigdecimal::num_bigint::Sign::NoSign {
        return Err("the number is too large");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(native: Native, modifier: i32) -> Column {
        Column { name: "c".into(), ty: 0, native, modifier, not_null: false, sql: "t".into(), always: false }
    }

    #[test]
    fn what_a_column_would_round_or_cut_is_refused() {
        let money = column(Native::Numeric, (5 << 16 | 2) + 4);
        let number = |text: &str| Value::Decimal(text.parse().unwrap());
        assert!(money.norm(&number("123.45")).is_ok());
        assert!(money.norm(&number("0.001")).is_err());
        assert!(money.norm(&number("1000")).is_err());
        assert!(money.norm(&number("NaN")).is_ok());
        assert!(money.norm(&number("Infinity")).is_err());
        let short = column(Native::Text, 4 + 3);
        assert!(short.norm(&Value::text("äöü")).is_ok());
        assert!(short.norm(&Value::text("abcd")).is_err());
        assert!(short.norm(&Value::text("a\0")).is_err());
        assert_eq!(column(Native::Char, 4 + 3).norm(&Value::text("a  ")).unwrap(), Value::text("a"));
        assert!(column(Native::Int(16), -1).norm(&Value::Int(40_000)).is_err());
        assert!(column(Native::Timestamp(true), 3).norm(&Value::Timestamp(1_500)).is_err());
        let json = column(Native::Json(true), -1).norm(&Value::Json("{\"a\":1e2}".into())).unwrap();
        assert_eq!(json, Value::Json("{\"a\":100}".into()));
    }
}
