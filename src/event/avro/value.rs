//! Values and rows as Avro, led by the schema: no names, no look-ups. Which Avro type stands for
//! which type is told in `schema`. A value that is not of its field's type is refused, never bent (P8).

use super::wire::{Broken, Input, Refusal, put_counted, put_len, put_long};
use crate::event::decimal::Decimal;
use crate::event::value::Interval;
use crate::event::{Field, Row, Schema, Text, Type, Value};
use crate::runtime::error::{Code, Error};

/// What is wrong with a value, to be put behind its field's name.
type Wrong = &'static str;

/// Appends a full row. `Unchanged` is refused: it may stand in proposals only (value-2).
pub(super) fn put_row(out: &mut Vec<u8>, schema: &Schema, row: &Row) -> Result<(), Refusal> {
    each_field(schema, row, |field, value| put_field(out, field, value))
}

/// Appends an image: every field is null, unchanged or a value. `not_null` refuses null where the
/// schema does, so that a proposal cannot ask for what no canonical version can hold.
pub(super) fn put_image(out: &mut Vec<u8>, schema: &Schema, row: &Row, not_null: bool) -> Result<(), Refusal> {
    each_field(schema, row, |field, value| match value {
        Value::Null if not_null && !field.nullable => Err(NOT_NULL),
        Value::Null => {
            out.push(0);
            Ok(())
        }
        Value::Unchanged => {
            out.push(2);
            Ok(())
        }
        value => {
            out.push(4);
            put_value(out, &field.ty, value, false)
        }
    })
}

/// Appends the fields of a key. Equal keys become equal bytes, so floats are written in one form.
pub(super) fn put_key<'v>(
    out: &mut Vec<u8>,
    schema: &Schema,
    values: impl ExactSizeIterator<Item = &'v Value>,
) -> Result<(), Refusal> {
    if values.len() != schema.key.len() {
        let problem = format!("a key of {} fields was given, the schema has {}", values.len(), schema.key.len());
        return Err(Box::new(Error::new(Code::ValueRefused, problem).at("collection", &schema.name)));
    }
    for (field, value) in schema.key_fields().zip(values) {
        let written = match value {
            Value::Null => Err("is part of the key and null; a key has no nulls"),
            Value::Unchanged => Err("is part of the key and missing in this image; capture whole keys"),
            value => put_value(out, &field.ty, value, true),
        };
        written.map_err(|wrong| refusal(schema, field, value, wrong))?;
    }
    Ok(())
}

const NOT_NULL: Wrong = "is null, but its schema does not allow that";

fn each_field(
    schema: &Schema,
    row: &Row,
    mut put: impl FnMut(&Field, &Value) -> Result<(), Wrong>,
) -> Result<(), Refusal> {
    if row.0.len() != schema.fields.len() {
        let problem = format!("a row of {} fields was given, the schema has {}", row.0.len(), schema.fields.len());
        return Err(Box::new(Error::new(Code::ValueRefused, problem).at("collection", &schema.name)));
    }
    schema
        .fields
        .iter()
        .zip(&row.0)
        .try_for_each(|(field, value)| put(field, value).map_err(|wrong| refusal(schema, field, value, wrong)))
}

#[cold]
fn refusal(schema: &Schema, field: &Field, value: &Value, wrong: Wrong) -> Refusal {
    let problem = format!("the value {wrong}; type {:?}, value of kind {}", field.ty, kind(value));
    Box::new(Error::new(Code::ValueRefused, problem).at("collection", &schema.name).at("field", &field.name))
}

/// The kind of a value; not the value: errors are logged, values may be secret.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Unchanged => "unchanged",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Float32(_) => "float32",
        Value::Float64(_) => "float64",
        Value::Decimal(_) => "decimal",
        Value::Text(_) => "text",
        Value::Bytes(_) => "bytes",
        Value::Uuid(_) => "uuid",
        Value::Date(_) => "date",
        Value::Time(_) => "time",
        Value::TimeTz(..) => "timetz",
        Value::Timestamp(_) => "timestamp",
        Value::Interval(_) => "interval",
        Value::Json(_) => "json",
        Value::Array(_) => "array",
        Value::Record(_) => "record",
    }
}

fn put_field(out: &mut Vec<u8>, field: &Field, value: &Value) -> Result<(), Wrong> {
    match (field.nullable, value) {
        (true, value) => put_nullable(out, &field.ty, value, false),
        (false, Value::Null) => Err(NOT_NULL),
        (false, value) => put_value(out, &field.ty, value, false),
    }
}

fn put_nullable(out: &mut Vec<u8>, ty: &Type, value: &Value, one_form: bool) -> Result<(), Wrong> {
    if value.is_null() {
        out.push(0);
        return Ok(());
    }
    out.push(2);
    put_value(out, ty, value, one_form)
}

/// Appends a value that is not null. `one_form` writes floats as fingerprints see them: one zero,
/// one NaN.
fn put_value(out: &mut Vec<u8>, ty: &Type, value: &Value, one_form: bool) -> Result<(), Wrong> {
    match (ty, value) {
        (Type::Bool, Value::Bool(b)) => out.push(u8::from(*b)),
        (Type::Int(bits), Value::Int(i)) if fits(*bits, *i) => put_long(out, *i),
        (Type::Int(_), Value::Int(_)) => return Err("is out of the range of its integer type"),
        (Type::Float(32), Value::Float32(x)) => {
            let x = if one_form { plain(f64::from(*x)) as f32 } else { *x };
            out.extend_from_slice(&x.to_le_bytes());
        }
        (Type::Float(64), Value::Float64(x)) => {
            let x = if one_form { plain(*x) } else { *x };
            out.extend_from_slice(&x.to_le_bytes());
        }
        (Type::Decimal, Value::Decimal(d)) => put_counted(out, &d.canonical_bytes()),
        (Type::Text, Value::Text(t)) | (Type::Json, Value::Json(t)) => put_counted(out, t.as_bytes()),
        (Type::Bytes, Value::Bytes(b)) => put_counted(out, b),
        (Type::Uuid, Value::Uuid(id)) => {
            let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
            let text = uuid::Uuid::from_bytes(*id).as_hyphenated().encode_lower(&mut text);
            put_counted(out, text.as_bytes());
        }
        (Type::Date, Value::Date(day)) => put_long(out, i64::from(*day)),
        (Type::Time, Value::Time(micros)) | (Type::Timestamp { .. }, Value::Timestamp(micros)) => {
            put_long(out, *micros);
        }
        (Type::TimeTz, Value::TimeTz(micros, offset)) => {
            put_long(out, *micros);
            put_long(out, i64::from(*offset));
        }
        (Type::Interval, Value::Interval(interval)) => {
            put_long(out, i64::from(interval.months));
            put_long(out, i64::from(interval.days));
            put_long(out, interval.micros);
        }
        (Type::Array(item), Value::Array(items)) => {
            if !items.is_empty() {
                put_len(out, items.len());
                items.iter().try_for_each(|value| put_nullable(out, item, value, one_form))?;
            }
            out.push(0);
        }
        (Type::Record(fields), Value::Record(values)) if fields.len() == values.len() => {
            return fields.iter().zip(values).try_for_each(|(field, value)| match (field.nullable, value) {
                (true, value) => put_nullable(out, &field.ty, value, one_form),
                (false, Value::Null) => Err("has a null in it where its schema does not allow one"),
                (false, value) => put_value(out, &field.ty, value, one_form),
            });
        }
        (_, Value::Unchanged) => return Err("is unchanged; only a whole field of a proposal may be (value-2)"),
        _ => return Err("is not of the type its schema says"),
    }
    Ok(())
}

/// Whether an integer fits into `bits` bits with sign.
fn fits(bits: u8, number: i64) -> bool {
    let spare = 64u32.saturating_sub(u32::from(bits)).min(63);
    (number << spare) >> spare == number
}

/// One zero and one NaN.
fn plain(x: f64) -> f64 {
    if x.is_nan() {
        f64::NAN
    } else if x == 0.0 {
        0.0
    } else {
        x
    }
}

/// Reads a full row.
pub(super) fn take_row(input: &mut Input<'_>, schema: &Schema) -> Result<Row, Broken> {
    take_fields(input, &schema.fields).map(Row)
}

/// Reads an image.
pub(super) fn take_image(input: &mut Input<'_>, schema: &Schema) -> Result<Row, Broken> {
    let mut values = Vec::with_capacity(schema.fields.len());
    for field in &schema.fields {
        values.push(match input.index(3, "null, unchanged or a value")? {
            0 => Value::Null,
            1 => Value::Unchanged,
            _ => take_value(input, &field.ty)?,
        });
    }
    Ok(Row(values))
}

/// Reads the fields of a key.
pub(super) fn take_key(input: &mut Input<'_>, schema: &Schema) -> Result<Vec<Value>, Broken> {
    schema.key_fields().map(|field| take_value(input, &field.ty)).collect()
}

fn take_fields(input: &mut Input<'_>, fields: &[Field]) -> Result<Vec<Value>, Broken> {
    let mut values = Vec::with_capacity(fields.len());
    for field in fields {
        values.push(match field.nullable {
            true => take_nullable(input, &field.ty)?,
            false => take_value(input, &field.ty)?,
        });
    }
    Ok(values)
}

fn take_nullable(input: &mut Input<'_>, ty: &Type) -> Result<Value, Broken> {
    match input.index(2, "null or a value")? {
        0 => Ok(Value::Null),
        _ => take_value(input, ty),
    }
}

fn take_value(input: &mut Input<'_>, ty: &Type) -> Result<Value, Broken> {
    Ok(match ty {
        Type::Bool => Value::Bool(super::wire::Wire::take(input)?),
        Type::Int(bits) => {
            let number = input.long("an integer")?;
            if !fits(*bits, number) {
                return Err(input.broken("an integer within the range of its type"));
            }
            Value::Int(number)
        }
        Type::Float(bits) if *bits <= 32 => Value::Float32(f32::from_le_bytes(input.fixed("a float")?)),
        Type::Float(_) => Value::Float64(f64::from_le_bytes(input.fixed("a double")?)),
        Type::Decimal => {
            let number: Result<Decimal, _> = input.str("a decimal number")?.parse();
            Value::Decimal(number.map_err(|_| input.broken("a decimal number"))?)
        }
        Type::Text => Value::Text(take_text(input, "text")?),
        Type::Json => Value::Json(take_text(input, "JSON")?),
        Type::Bytes => Value::Bytes(input.counted("bytes")?),
        Type::Uuid => {
            let id = uuid::Uuid::try_parse(input.str("a UUID")?).map_err(|_| input.broken("a UUID"))?;
            Value::Uuid(id.into_bytes())
        }
        Type::Date => Value::Date(take_int(input, "a date")?),
        Type::Time => Value::Time(input.long("a time")?),
        Type::TimeTz => Value::TimeTz(input.long("a time")?, take_int(input, "an offset in seconds")?),
        Type::Timestamp { .. } => Value::Timestamp(input.long("a timestamp")?),
        Type::Interval => Value::Interval(Interval {
            months: take_int(input, "months")?,
            days: take_int(input, "days")?,
            micros: input.long("microseconds")?,
        }),
        Type::Array(item) => {
            let mut items = Vec::new();
            input.items(|input| take_nullable(input, item).map(|value| items.push(value)))?;
            Value::Array(items)
        }
        Type::Record(fields) => Value::Record(take_fields(input, fields)?),
    })
}

fn take_int(input: &mut Input<'_>, expected: &'static str) -> Result<i32, Broken> {
    i32::try_from(input.long(expected)?).map_err(|_| input.broken(expected))
}

fn take_text(input: &mut Input<'_>, expected: &'static str) -> Result<Text, Broken> {
    let bytes = input.counted(expected)?;
    Text::from_utf8(bytes).map_err(|_| input.broken("UTF-8"))
}
