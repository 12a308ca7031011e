//! Records, rows and keys as Avro in the Confluent wire format: `0x00`, the schema's id in 4 bytes,
//! Avro's binary encoding. Any stock consumer reads them (topic-5); this codec is written by hand
//! because it stands on the hot path, and tests compare its bytes with those of `apache_avro`.
//!
//! Guarantees: `decode(encode(x)) == x`; equal keys are equal bytes; any bytes at all decode to a
//! record or to an error that says what is wrong. It does no I/O: schema ids come from `Forms`,
//! which `topic::registry` fills.

#![deny(clippy::indexing_slicing)]

mod controls;
mod forms;
mod parse;
pub mod plain;
mod records;
mod schema;
mod value;
mod wire;

#[cfg(test)]
pub(crate) mod arbitrary;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod tests;

pub use forms::{Collection, Forms, Kind, Wanted, wanted};

use crate::event::{Key, Record, Schema, SchemaId, Value};
use crate::runtime::error::{Code, Error};
use bytes::Bytes;
use forms::Form;
use wire::{Broken, Input, Out, Wire};

/// The first byte of a message in the Confluent wire format.
pub(crate) const MAGIC: u8 = 0;
/// The bytes of a message before its Avro.
pub(crate) const HEADER_BYTES: usize = 5;

/// Why a message could not be decoded.
#[derive(Debug)]
pub enum Undecoded {
    /// It names a schema that `Forms` does not know yet: find it, tell it to `Forms`, try again.
    UnknownSchema(SchemaId),
    /// It cannot be decoded at all.
    Broken(Error),
}

/// The first bytes of a message.
#[must_use]
pub fn header(id: SchemaId) -> [u8; HEADER_BYTES] {
    let [a, b, c, d] = id.0.to_be_bytes();
    [MAGIC, a, b, c, d]
}

/// The kind of a record.
#[must_use]
pub const fn kind_of(record: &Record) -> Kind {
    match record {
        Record::Claim(_) => Kind::Claim,
        Record::Proposal(_) => Kind::Proposal,
        Record::Control(_) => Kind::Control,
        Record::Truncate(_) => Kind::Truncate,
        Record::Canonical(_) => Kind::Canonical,
        Record::State(_) => Kind::State,
        Record::ResolverMark(_) => Kind::ResolverMark,
        Record::Known(_) => Kind::Known,
        Record::ReaderMark(_) => Kind::ReaderMark,
        Record::Ledger(_) => Kind::Ledger,
        Record::AgentMark(_) => Kind::AgentMark,
        Record::Conflict(_) => Kind::Conflict,
        Record::Dead(_) => Kind::Dead,
        Record::Review(_) => Kind::Review,
    }
}

/// The schema a record must be written under, if it carries rows; those of a conflict's sides stand
/// beside them.
#[must_use]
pub fn schema_of(record: &Record) -> Option<SchemaId> {
    match record {
        Record::Proposal(p) => (p.value.is_some() || p.before.is_some()).then_some(p.schema),
        Record::Canonical(c) | Record::Conflict(c) => c.after.is_some().then_some(c.schema),
        Record::Review(r) => r.value.is_some().then_some(r.schema),
        Record::State(s) => s.head.after.is_some().then_some(s.head.schema),
        Record::Dead(d) => d.version.as_ref().and_then(|v| v.after.is_some().then_some(v.schema)),
        _ => None,
    }
}

/// Appends a record as a message. On failure `out` is as it was, and the error says which value does
/// not fit its schema. A record with rows must be of `collection`'s schema (`schema_of`).
pub fn encode(record: &Record, collection: &Collection, forms: &Forms, out: &mut Vec<u8>) -> Result<(), Error> {
    let start = out.len();
    if schema_of(record).is_some_and(|id| id != collection.row.id) {
        let problem = "a record was to be written under the schema of another; this is a bug, report it";
        return Err(Error::new(Code::Unexpected, problem).at("collection", &collection.row.name));
    }
    out.extend_from_slice(&header(collection.kind(kind_of(record))));
    let mut writer = Out { bytes: std::mem::take(out), forms, row: &collection.row, failed: None };
    put_record(record, &mut writer);
    *out = writer.bytes;
    match writer.failed {
        None => Ok(()),
        Some(refusal) => {
            out.truncate(start);
            Err(*refusal)
        }
    }
}

fn put_record(record: &Record, out: &mut Out<'_>) {
    match record {
        Record::Claim(claim) => claim.put(out),
        Record::Proposal(proposal) => proposal.put(out),
        Record::Control(control) => control.put(out),
        Record::Truncate(truncate) => truncate.put(out),
        Record::Canonical(canonical) | Record::Conflict(canonical) => canonical.put(out),
        Record::State(state) => state.put(out),
        Record::ResolverMark(mark) => mark.put(out),
        Record::Known(known) => known.put(out),
        Record::ReaderMark(mark) => mark.put(out),
        Record::Ledger(ledger) => ledger.put(out),
        Record::AgentMark(mark) => mark.put(out),
        Record::Dead(letter) => letter.put(out),
        Record::Review(review) => review.put(out),
    }
}

/// Decodes a message. Texts and bytes share its buffer.
pub fn decode(message: &Bytes, forms: &Forms) -> Result<Record, Undecoded> {
    let id = match message.first_chunk::<HEADER_BYTES>() {
        Some(&[MAGIC, a, b, c, d]) => SchemaId(u32::from_be_bytes([a, b, c, d])),
        _ => return Err(Undecoded::Broken(undecodable("it does not begin with 0x00 and a schema id"))),
    };
    let form = forms.form(id).map_err(|broken| undecoded("record", id, broken))?;
    let Form::Envelope(kind, row) = form else {
        let error = undecodable("its schema is that of a row or a key, not of a record");
        return Err(Undecoded::Broken(error.at("schema", id.0)));
    };
    let mut input = Input::new(message, HEADER_BYTES, forms, row.as_ref());
    let record = take_record(kind, &mut input).map_err(|broken| undecoded(kind.name(), id, broken))?;
    match input.left() {
        0 => Ok(record),
        _ => Err(undecoded(kind.name(), id, input.broken("the end of the record"))),
    }
}

fn take_record(kind: Kind, input: &mut Input<'_>) -> Result<Record, Broken> {
    Ok(match kind {
        Kind::Claim => Record::Claim(Wire::take(input)?),
        Kind::Proposal => Record::Proposal(Wire::take(input)?),
        Kind::Control => Record::Control(Wire::take(input)?),
        Kind::Truncate => Record::Truncate(Wire::take(input)?),
        Kind::Canonical => Record::Canonical(Wire::take(input)?),
        Kind::State => Record::State(Wire::take(input)?),
        Kind::ResolverMark => Record::ResolverMark(Wire::take(input)?),
        Kind::Known => Record::Known(Wire::take(input)?),
        Kind::ReaderMark => Record::ReaderMark(Wire::take(input)?),
        Kind::Ledger => Record::Ledger(Wire::take(input)?),
        Kind::AgentMark => Record::AgentMark(Wire::take(input)?),
        Kind::Conflict => Record::Conflict(Wire::take(input)?),
        Kind::Dead => Record::Dead(Wire::take(input)?),
        Kind::Review => Record::Review(Wire::take(input)?),
    })
}

fn undecoded(what: &str, id: SchemaId, broken: Broken) -> Undecoded {
    match broken {
        Broken::UnknownSchema(id) => Undecoded::UnknownSchema(id),
        Broken::Unusable(error) => Undecoded::Broken(error),
        Broken::At { expected, offset } => {
            let error = undecodable(&format!("at its byte {offset} {expected} should stand"));
            Undecoded::Broken(error.at("record", what).at("schema", id.0))
        }
    }
}

fn undecodable(wrong: &str) -> Error {
    let problem = format!("a message cannot be read: {wrong}; it is damaged, or another program wrote it");
    Error::new(Code::RecordUndecodable, problem)
}

/// Canonical key bytes of the key's values, in key order.
pub(super) fn encode_key<'v>(
    schema: &Schema,
    values: impl ExactSizeIterator<Item = &'v Value>,
) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(16);
    value::put_key(&mut bytes, schema, values).map_err(|refusal| *refusal)?;
    Ok(bytes)
}

/// The key's values, in key order.
pub(super) fn decode_key(schema: &Schema, key: &Key) -> Result<Vec<Value>, Error> {
    let forms = Forms::default();
    let mut input = Input::new(&key.0, 0, &forms, None);
    let values = value::take_key(&mut input, schema).and_then(|values| match input.left() {
        0 => Ok(values),
        _ => Err(input.broken("the end of the key")),
    });
    values.map_err(|broken| {
        let problem = match broken {
            Broken::At { expected, offset } => format!("at byte {offset} of the key {expected} should stand"),
            _ => "the key is not of its schema".to_string(),
        };
        Error::new(Code::RecordUndecodable, problem).at("collection", &schema.name)
    })
}
