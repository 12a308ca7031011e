//! What a column makes of a value (norm): the form it has once read back, or the reason why it can
//! never be held exactly (P8). And the bytes of keys, until `event` has them.

use super::catalog::{Column, Table};
use super::values::Native;
use super::wire::cursor::{Cursor, Malformed};
use super::wire::json::{Numbers, canonical};
use crate::event::decimal::Decimal;
use crate::event::{Key, Row, Text, Type, Value};
use bytes::{BufMut as _, BytesMut};

impl Table {
    /// The row as it will be read back.
    pub(super) fn norm(&self, row: &Row) -> Result<Row, String> {
        let field = |(i, value): (usize, &Value)| match self.column(i) {
            Some(column) => column.norm(value),
            None => Ok(value.clone()),
        };
        row.0.iter().enumerate().map(field).collect::<Result<_, _>>().map(Row)
    }

    /// The key of a row.
    pub(super) fn key_of(&self, row: &Row) -> Result<Key, Malformed> {
        let mut out = BytesMut::new();
        for &field in &self.schema.key {
            write_key_field(row.get(field).unwrap_or(&Value::Null), &mut out)?;
        }
        Ok(Key(out.freeze()))
    }

    /// The values of a key, in key order.
    pub(super) fn read_key(&self, key: &Key) -> Result<Vec<Value>, Malformed> {
        let mut c = Cursor::new(&key.0);
        let values = self.schema.key_fields().map(|f| read_key_field(&f.ty, &mut c)).collect::<Result<_, _>>()?;
        if c.remaining() == 0 { Ok(values) } else { Err(Malformed("a key goes on behind its end")) }
    }
}

impl Column {
    /// The value as it will be read back.
    pub(super) fn norm(&self, value: &Value) -> Result<Value, String> {
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
        (Native::Json(jsonb), Value::Json(json)) => {
            let numbers = if *jsonb { Numbers::Jsonb } else { Numbers::AsWritten };
            if *jsonb && json.as_str().contains("\\u0000") {
                return Err("jsonb cannot hold the character U+0000");
            }
            let text = canonical(json.as_str(), numbers).map_err(|e| e.0)?;
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
    let length = i64::try_from(digits.magnitude().to_string().len()).unwrap_or(i64::MAX);
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

fn write_key_field(value: &Value, out: &mut BytesMut) -> Result<(), Malformed> {
    match value {
        Value::Bool(b) => out.put_u8(u8::from(*b)),
        Value::Int(i) | Value::Time(i) | Value::Timestamp(i) => write_long(*i, out),
        Value::Date(d) => write_long(i64::from(*d), out),
        Value::Text(t) => write_counted(t.as_bytes(), out),
        Value::Bytes(b) => write_counted(b, out),
        Value::Uuid(u) => write_counted(uuid::Uuid::from_bytes(*u).to_string().as_bytes(), out),
        Value::Decimal(d) => write_counted(d.canonical().as_bytes(), out),
        _ => return Err(Malformed("a key field is null, or of a type that has no key form")),
    }
    Ok(())
}

fn read_key_field(ty: &Type, c: &mut Cursor<'_>) -> Result<Value, Malformed> {
    let text = |c: &mut Cursor<'_>| {
        let length = usize::try_from(read_long(c)?).map_err(|_| Malformed("a key"))?;
        Text::from_utf8(c.take(length)?).map_err(|_| Malformed("a key is not UTF-8"))
    };
    Ok(match ty {
        Type::Bool => Value::Bool(c.u8()? != 0),
        Type::Int(_) => Value::Int(read_long(c)?),
        Type::Time => Value::Time(read_long(c)?),
        Type::Timestamp { .. } => Value::Timestamp(read_long(c)?),
        Type::Date => Value::Date(i32::try_from(read_long(c)?).map_err(|_| Malformed("a key"))?),
        Type::Text => Value::Text(text(c)?),
        Type::Bytes => {
            let length = usize::try_from(read_long(c)?).map_err(|_| Malformed("a key"))?;
            Value::Bytes(c.take(length)?)
        }
        Type::Uuid => {
            Value::Uuid(*uuid::Uuid::try_parse(text(c)?.as_str()).map_err(|_| Malformed("a key"))?.as_bytes())
        }
        Type::Decimal => Value::Decimal(text(c)?.as_str().parse().map_err(|_| Malformed("a key"))?),
        _ => return Err(Malformed("a key of a type that has no key form")),
    })
}

fn write_counted(bytes: &[u8], out: &mut BytesMut) {
    write_long(i64::try_from(bytes.len()).unwrap_or(i64::MAX), out);
    out.put_slice(bytes);
}

/// Avro's long: zigzag, seven bits a byte.
fn write_long(number: i64, out: &mut BytesMut) {
    let mut rest = ((number << 1) ^ (number >> 63)).cast_unsigned();
    while rest >= 0x80 {
        out.put_u8(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
        rest >>= 7;
    }
    out.put_u8(u8::try_from(rest).unwrap_or(0));
}

fn read_long(c: &mut Cursor<'_>) -> Result<i64, Malformed> {
    let mut sum = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = c.u8()?;
        sum |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok((sum >> 1).cast_signed() ^ -(sum & 1).cast_signed());
        }
    }
    Err(Malformed("a key"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn key_fields_are_read_back(int: i64, text in ".{0,12}", bytes: Vec<u8>, uuid: [u8; 16], day: i32) {
            let values = [
                (Type::Int(64), Value::Int(int)),
                (Type::Text, Value::text(&text)),
                (Type::Bytes, Value::Bytes(bytes.into())),
                (Type::Uuid, Value::Uuid(uuid)),
                (Type::Date, Value::Date(day)),
            ];
            let mut out = BytesMut::new();
            values.iter().for_each(|(_, v)| write_key_field(v, &mut out).unwrap());
            let whole = out.freeze();
            let mut c = Cursor::new(&whole);
            for (ty, value) in values {
                prop_assert_eq!(read_key_field(&ty, &mut c).unwrap(), value);
            }
            prop_assert_eq!(c.remaining(), 0);
        }
    }
}
