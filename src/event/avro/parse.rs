//! Schema texts back into `event::Schema`. Reads what `schema` writes and nothing else: whoever
//! calls compares the text with what this release would write, so that a guess here cannot bend data.

use super::schema::{INTERVAL, Shape, TIME_TZ, VERSION, shape_json};
use crate::event::{Field, Schema, SchemaId, Type};
use crate::runtime::error::{Code, Error, Result};
use serde_json::Value as Json;
use std::sync::Arc;

/// The schema a full row's text describes.
pub(super) fn row(text: &str, id: SchemaId) -> Result<Schema> {
    let json: Json = serde_json::from_str(text).map_err(|cause| foreign("is no JSON", id).caused_by(cause))?;
    shape(&json, Shape::Row, id)
}

/// The schema behind a text of the given shape; a newer version or a foreign text is refused.
pub(super) fn shape(json: &Json, shape: Shape, id: SchemaId) -> Result<Schema> {
    check_version(json, VERSION, id)?;
    let schema = parse(json, id).ok_or_else(|| foreign("is not of a form driftless writes", id))?;
    if shape_json(&schema, shape) != *json {
        return Err(foreign("differs from what this release writes", id));
    }
    Ok(schema)
}

/// Refuses what a newer release wrote.
pub(super) fn check_version(json: &Json, known: u64, id: SchemaId) -> Result<()> {
    match json.get("driftless.version").and_then(Json::as_u64) {
        Some(version) if version > known => {
            let problem = format!(
                "the record has version {version}, this release reads up to {known}; \
                 update driftless on this node to the release that wrote it"
            );
            Err(Error::new(Code::RecordNewer, problem).at("schema", id.0))
        }
        Some(_) => Ok(()),
        None => Err(foreign("was not written by driftless", id)),
    }
}

/// The error for schemas that are not ours.
pub(super) fn foreign(wrong: &str, id: SchemaId) -> Error {
    let problem = format!("the schema {wrong}; if another program writes to this topic, stop it and skip its records");
    Error::new(Code::RecordUndecodable, problem).at("schema", id.0)
}

/// The part of an envelope that describes the rows of its collection, if it has any.
pub(super) fn rows_within(json: &Json) -> Option<&Json> {
    match json {
        Json::Object(map) if map.contains_key("driftless.collection") => Some(json),
        Json::Object(map) => map.values().find_map(rows_within),
        Json::Array(items) => items.iter().find_map(rows_within),
        _ => None,
    }
}

fn parse(json: &Json, id: SchemaId) -> Option<Schema> {
    let name = json.get("driftless.collection")?.as_str()?;
    let fields: Vec<Field> = fields(json)?;
    let key = match json.get("driftless.key") {
        Some(key) => key.as_array()?.iter().map(|i| usize::try_from(i.as_u64()?).ok()).collect::<Option<Vec<_>>>()?,
        // A key's own schema: all of it is the key.
        None => (0..fields.len()).collect(),
    };
    let in_range = key.iter().all(|&index| index < fields.len());
    in_range.then(|| Schema { id, name: name.into(), fields, key })
}

fn fields(record: &Json) -> Option<Vec<Field>> {
    record.get("fields")?.as_array()?.iter().map(field).collect()
}

fn field(json: &Json) -> Option<Field> {
    let name: Arc<str> = json.get("driftless.name").or_else(|| json.get("name"))?.as_str()?.into();
    let (ty, nullable) = match json.get("type")? {
        Json::Array(branches) => {
            // [null, T], or [null, Unchanged, T] where an attribute tells what is not nullable.
            let nullable = json.get("driftless.nullable").and_then(Json::as_bool).unwrap_or(true);
            (ty(branches.last()?)?, nullable)
        }
        single => (ty(single)?, false),
    };
    Some(Field { name, ty, nullable })
}

fn ty(json: &Json) -> Option<Type> {
    if let Json::String(name) = json {
        return plain(name, None);
    }
    let name = json.get("type")?.as_str()?;
    match (name, json.get("logicalType").and_then(Json::as_str)) {
        ("string", Some("driftless-decimal")) => Some(Type::Decimal),
        ("string", Some("driftless-json")) => Some(Type::Json),
        ("string", Some("uuid")) => Some(Type::Uuid),
        ("int", Some("date")) => Some(Type::Date),
        ("long", Some("time-micros")) => Some(Type::Time),
        ("long", Some("timestamp-micros")) => Some(Type::Timestamp { zone: true }),
        ("long", Some("local-timestamp-micros")) => Some(Type::Timestamp { zone: false }),
        ("array", None) => {
            let item = json.get("items")?.as_array()?.last()?;
            Some(Type::Array(Box::new(ty(item)?)))
        }
        ("record", None) => match json.get("name")?.as_str()? {
            TIME_TZ => Some(Type::TimeTz),
            INTERVAL => Some(Type::Interval),
            _ => fields(json).map(Type::Record),
        },
        (name, None) => plain(name, u8::try_from(json.get("driftless.bits")?.as_u64()?).ok()),
        _ => None,
    }
}

fn plain(name: &str, bits: Option<u8>) -> Option<Type> {
    match name {
        "boolean" => Some(Type::Bool),
        "int" => Some(Type::Int(bits.unwrap_or(32))),
        "long" => Some(Type::Int(bits.unwrap_or(64))),
        "float" => Some(Type::Float(bits.unwrap_or(32))),
        "double" => Some(Type::Float(bits.unwrap_or(64))),
        "string" => Some(Type::Text),
        "bytes" => Some(Type::Bytes),
        TIME_TZ => Some(Type::TimeTz),
        INTERVAL => Some(Type::Interval),
        _ => None,
    }
}
