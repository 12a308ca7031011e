//! The server's values and the dataset's, both ways: binary and text forms, what a column makes of a
//! value (norm), and the bytes of keys. A value that a column or the dataset cannot hold exactly is
//! refused, never bent (P8).

use super::wire::cursor::{Cursor, Malformed};
use super::wire::numeric::{read_numeric, write_numeric};
use super::wire::text;
use crate::event::json::{Twice, canonical};
use crate::event::value::Interval;
use crate::event::{Text, Type, Value};
use bytes::{BufMut as _, Bytes, BytesMut};

/// Microseconds and days from 1970 to 2000, the server's epoch.
const EPOCH_US: i64 = 946_684_800_000_000;
const EPOCH_DAYS: i32 = 10_957;

/// How a type of the server is read and written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Native {
    /// `boolean`
    Bool,
    /// `smallint`, `integer`, `bigint`: 16, 32 or 64 bits
    Int(u8),
    /// `real`, `double precision`: 32 or 64 bits
    Float(u8),
    /// `numeric`
    Numeric,
    /// `text`, `varchar`, `name`, enumerations
    Text,
    /// `char(n)`: trailing spaces mean nothing
    Char,
    /// `bytea`
    Bytes,
    /// `uuid`
    Uuid,
    /// `date`
    Date,
    /// `time`
    Time,
    /// `timetz`
    TimeTz,
    /// `timestamp`, or `timestamptz` if true
    Timestamp(bool),
    /// `interval`
    Interval,
    /// `json`, or `jsonb` if true
    Json(bool),
    /// An array of one dimension
    Array(Box<Native>),
    /// Anything else, as the server prints it
    Printed,
}

impl Native {
    /// How the built-in type with this number is handled, if it is no array.
    #[must_use]
    pub(crate) fn of_scalar(oid: u32) -> Self {
        match oid {
            16 => Native::Bool,
            21 => Native::Int(16),
            23 => Native::Int(32),
            20 => Native::Int(64),
            700 => Native::Float(32),
            701 => Native::Float(64),
            1700 => Native::Numeric,
            19 | 25 | 1043 => Native::Text,
            1042 => Native::Char,
            17 => Native::Bytes,
            2950 => Native::Uuid,
            1082 => Native::Date,
            1083 => Native::Time,
            1266 => Native::TimeTz,
            1114 => Native::Timestamp(false),
            1184 => Native::Timestamp(true),
            1186 => Native::Interval,
            114 => Native::Json(false),
            3802 => Native::Json(true),
            _ => Native::Printed,
        }
    }

    /// The type of the dataset.
    #[must_use]
    pub(crate) fn event_type(&self) -> Type {
        match self {
            Native::Bool => Type::Bool,
            Native::Int(bits) => Type::Int(*bits),
            Native::Float(bits) => Type::Float(*bits),
            Native::Numeric => Type::Decimal,
            Native::Text | Native::Char | Native::Printed => Type::Text,
            Native::Bytes => Type::Bytes,
            Native::Uuid => Type::Uuid,
            Native::Date => Type::Date,
            Native::Time => Type::Time,
            Native::TimeTz => Type::TimeTz,
            Native::Timestamp(zone) => Type::Timestamp { zone: *zone },
            Native::Interval => Type::Interval,
            Native::Json(_) => Type::Json,
            Native::Array(item) => Type::Array(Box::new(item.event_type())),
        }
    }

    /// Whether the binary form is understood here.
    #[must_use]
    pub(crate) fn has_binary(&self) -> bool {
        match self {
            Native::Printed => false,
            Native::Array(item) => item.has_binary(),
            _ => true,
        }
    }

    /// Number and SQL name of the type a value of this kind is sent as; what is not sent in binary
    /// form is sent as text and converted by the server.
    #[must_use]
    pub(crate) fn sent_as(&self) -> (u32, &'static str) {
        match self {
            Native::Bool => (16, "bool"),
            Native::Int(16) => (21, "int2"),
            Native::Int(32) => (23, "int4"),
            Native::Int(_) => (20, "int8"),
            Native::Float(32) => (700, "float4"),
            Native::Float(_) => (701, "float8"),
            Native::Numeric => (1700, "numeric"),
            Native::Bytes => (17, "bytea"),
            Native::Uuid => (2950, "uuid"),
            Native::Date => (1082, "date"),
            Native::Time => (1083, "time"),
            Native::TimeTz => (1266, "timetz"),
            Native::Timestamp(false) => (1114, "timestamp"),
            Native::Timestamp(true) => (1184, "timestamptz"),
            Native::Interval => (1186, "interval"),
            Native::Json(false) => (114, "json"),
            Native::Json(true) => (3802, "jsonb"),
            Native::Text | Native::Char | Native::Array(_) | Native::Printed => (25, "text"),
        }
    }

    /// Reads a binary value.
    pub(crate) fn read_binary(&self, bytes: Bytes) -> Result<Value, Malformed> {
        let mut c = Cursor::new(&bytes);
        Ok(match self {
            Native::Bool => Value::Bool(c.u8()? != 0),
            Native::Int(16) => Value::Int(c.i16()?.into()),
            Native::Int(32) => Value::Int(c.i32()?.into()),
            Native::Int(_) => Value::Int(c.i64()?),
            Native::Float(32) => Value::Float32(f32::from_bits(c.u32()?)),
            Native::Float(_) => Value::Float64(f64::from_bits(c.u64()?)),
            Native::Numeric => Value::Decimal(read_numeric(&mut c)?),
            Native::Text | Native::Printed => Value::Text(utf8(bytes)?),
            Native::Char => Value::Text(trimmed(bytes)?),
            Native::Bytes => Value::Bytes(bytes),
            Native::Uuid => Value::Uuid(c.slice(16)?.try_into().map_err(|_| Malformed("a uuid"))?),
            Native::Date => Value::Date(match c.i32()? {
                infinite @ (i32::MIN | i32::MAX) => infinite,
                day => day.checked_add(EPOCH_DAYS).ok_or(Malformed("a date"))?,
            }),
            Native::Time => Value::Time(c.i64()?),
            Native::TimeTz => Value::TimeTz(c.i64()?, c.i32()?.saturating_neg()),
            Native::Timestamp(_) => Value::Timestamp(match c.i64()? {
                infinite @ (i64::MIN | i64::MAX) => infinite,
                micros => micros.checked_add(EPOCH_US).ok_or(Malformed("a timestamp beyond the year 294246"))?,
            }),
            Native::Interval => {
                let (micros, days, months) = (c.i64()?, c.i32()?, c.i32()?);
                Value::Interval(Interval { months, days, micros })
            }
            Native::Json(false) => read_json(&bytes)?,
            Native::Json(true) => read_json(bytes.get(1..).ok_or(Malformed("a jsonb"))?)?,
            Native::Array(item) => read_array(item, &mut c)?,
        })
    }

    /// Reads a value in text form.
    pub(crate) fn read_text(&self, bytes: Bytes) -> Result<Value, Malformed> {
        let is = std::str::from_utf8(&bytes).map_err(|_| Malformed("a text is not UTF-8"))?;
        let number = Malformed("a number");
        Ok(match self {
            Native::Bool => Value::Bool(is == "t" || is == "true"),
            Native::Int(_) => Value::Int(is.parse().map_err(|_| number)?),
            Native::Float(32) => Value::Float32(is.parse().map_err(|_| number)?),
            Native::Float(_) => Value::Float64(is.parse().map_err(|_| number)?),
            Native::Numeric => Value::Decimal(is.parse().map_err(|_| number)?),
            Native::Text | Native::Printed => Value::Text(utf8(bytes)?),
            Native::Char => Value::Text(trimmed(bytes)?),
            Native::Bytes => Value::Bytes(read_hex(is.strip_prefix("\\x").ok_or(Malformed("a bytea"))?)?.into()),
            Native::Uuid => Value::Uuid(*uuid::Uuid::try_parse(is).map_err(|_| Malformed("a uuid"))?.as_bytes()),
            Native::Date => Value::Date(text::read_date(is)?),
            Native::Time => Value::Time(text::read_time(is)?),
            Native::TimeTz => {
                let (time, zone) = text::read_time_tz(is)?;
                Value::TimeTz(time, zone)
            }
            Native::Timestamp(_) => Value::Timestamp(text::read_timestamp(is)?),
            Native::Interval => Value::Interval(text::read_interval(is)?),
            Native::Json(_) => read_json(&bytes)?,
            Native::Array(item) => {
                let read = |e: Option<String>| e.map_or(Ok(Value::Null), |e| item.read_text(e.into()));
                Value::Array(text::read_array(is)?.into_iter().map(read).collect::<Result<_, _>>()?)
            }
        })
    }

    /// Writes a value in binary form, as `sent_as` says. The value must have passed `Limits::norm`.
    pub(crate) fn write_binary(&self, value: &Value, out: &mut BytesMut) -> Result<(), Malformed> {
        match (self, value) {
            (Native::Bool, Value::Bool(b)) => out.put_u8(u8::from(*b)),
            (Native::Int(16), Value::Int(i)) => out.put_i16(i16::try_from(*i).map_err(|_| Malformed("a smallint"))?),
            (Native::Int(32), Value::Int(i)) => out.put_i32(i32::try_from(*i).map_err(|_| Malformed("an integer"))?),
            (Native::Int(_), Value::Int(i)) => out.put_i64(*i),
            (Native::Float(32), Value::Float32(x)) => out.put_u32(x.to_bits()),
            (Native::Float(_), Value::Float64(x)) => out.put_u64(x.to_bits()),
            (Native::Numeric, Value::Decimal(d)) => write_numeric(d, out)?,
            (Native::Bytes, Value::Bytes(b)) => out.put_slice(b),
            (Native::Uuid, Value::Uuid(u)) => out.put_slice(u),
            (Native::Date, Value::Date(d)) => out.put_i32(match *d {
                infinite @ (i32::MIN | i32::MAX) => infinite,
                day => day.checked_sub(EPOCH_DAYS).ok_or(Malformed("a date"))?,
            }),
            (Native::Time, Value::Time(t)) => out.put_i64(*t),
            (Native::TimeTz, Value::TimeTz(t, east)) => {
                out.put_i64(*t);
                out.put_i32(east.saturating_neg());
            }
            (Native::Timestamp(_), Value::Timestamp(t)) => out.put_i64(match *t {
                infinite @ (i64::MIN | i64::MAX) => infinite,
                micros => micros.checked_sub(EPOCH_US).ok_or(Malformed("a timestamp"))?,
            }),
            (Native::Interval, Value::Interval(i)) => {
                out.put_i64(i.micros);
                out.put_i32(i.days);
                out.put_i32(i.months);
            }
            (Native::Json(binary), Value::Json(j)) => {
                if *binary {
                    out.put_u8(1);
                }
                out.put_slice(j.as_bytes());
            }
            (Native::Text | Native::Char | Native::Printed, Value::Text(t)) => out.put_slice(t.as_bytes()),
            (Native::Array(_), _) => out.put_slice(self.write_text(value)?.as_bytes()),
            _ => return Err(Malformed("a value of another type than its column")),
        }
        Ok(())
    }

    /// A value in text form.
    pub(crate) fn write_text(&self, value: &Value) -> Result<String, Malformed> {
        let mut out = String::new();
        match (self, value) {
            (_, Value::Bool(b)) => out.push(if *b { 't' } else { 'f' }),
            (_, Value::Int(i)) => out = i.to_string(),
            (_, Value::Float32(x)) => out = x.to_string(),
            (_, Value::Float64(x)) => out = x.to_string(),
            (_, Value::Decimal(d)) => out = d.canonical(),
            (_, Value::Text(t) | Value::Json(t)) => out.push_str(t.as_str()),
            (_, Value::Bytes(b)) => {
                out.push_str("\\x");
                b.iter().for_each(|b| out.push_str(&format!("{b:02x}")));
            }
            (_, Value::Uuid(u)) => out = uuid::Uuid::from_bytes(*u).to_string(),
            (_, Value::Date(d)) => text::write_date(&mut out, *d),
            (_, Value::Time(t)) => text::write_time(&mut out, *t),
            (_, Value::TimeTz(t, east)) => text::write_time_tz(&mut out, *t, *east),
            (Native::Timestamp(zone), Value::Timestamp(t)) => text::write_timestamp(&mut out, *t, *zone),
            (_, Value::Interval(i)) => text::write_interval(&mut out, *i),
            (Native::Array(item), Value::Array(items)) => {
                for value in items {
                    let element = if value.is_null() { None } else { Some(item.write_text(value)?) };
                    text::write_element(&mut out, element.as_deref());
                }
                out.push_str(if out.is_empty() { "{}" } else { "}" });
            }
            _ => return Err(Malformed("a value of another type than its column")),
        }
        Ok(out)
    }
}

fn utf8(bytes: Bytes) -> Result<Text, Malformed> {
    Text::from_utf8(bytes).map_err(|_| Malformed("a text is not UTF-8"))
}

fn trimmed(bytes: Bytes) -> Result<Text, Malformed> {
    let length = bytes.iter().rposition(|b| *b != b' ').map_or(0, |last| last + 1);
    utf8(bytes.slice(..length))
}

fn read_json(bytes: &[u8]) -> Result<Value, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed("a JSON document is not UTF-8"))?;
    Ok(Value::Json(Text::from(canonical(text, Twice::LastCounts).map_err(Malformed)?)))
}

fn read_hex(digits: &str) -> Result<Vec<u8>, Malformed> {
    let digit = |b: &u8| char::from(*b).to_digit(16).and_then(|d| u8::try_from(d).ok()).ok_or(Malformed("a bytea"));
    let pair = |pair: &[u8]| match pair {
        [high, low] => Ok(digit(high)? << 4 | digit(low)?),
        _ => Err(Malformed("a bytea")),
    };
    digits.as_bytes().chunks(2).map(pair).collect()
}

fn read_array(item: &Native, c: &mut Cursor<'_>) -> Result<Value, Malformed> {
    let dimensions = c.i32()?;
    c.u64()?;
    if dimensions == 0 {
        return Ok(Value::Array(Vec::new()));
    }
    let (count, first) = (c.u32()?, c.i32()?);
    if dimensions != 1 || first != 1 {
        return Err(Malformed("an array: only arrays of one dimension that count from 1 are supported"));
    }
    let mut element = || match c.i32()? {
        -1 => Ok(Value::Null),
        length => item.read_binary(c.take(usize::try_from(length).map_err(|_| Malformed("an array"))?)?),
    };
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(element()?);
    }
    Ok(Value::Array(items))
}
