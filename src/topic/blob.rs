//! Payloads over the limit of a message. Such a payload lies in chunks in `<c>.blobs`, keyed by the hash
//! of its content and the number of the chunk; the message holds a reference instead, which is Avro in
//! Confluent's wire format like all else (`schemas/blob/v1.avsc`). The chunks are acknowledged before the
//! reference is sent (claim-3), so whoever meets a reference finds them.
//!
//! The same content written twice is kept once: compaction leaves the newest chunk of a key, and a reader
//! looks from the reference's place on. Chunks that nothing refers to any more are not deleted yet.

use super::{Bounds, Log, Message, Partition, Raw, Session};
use crate::event::avro::{Forms, HEADER_BYTES, header};
use crate::event::{Offset, SchemaId};
use crate::runtime::error::{Code, Error, Result};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::sync::{Arc, LazyLock};

/// How large payloads may be, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// What stands in a message itself.
    pub inline: usize,
    /// What stands in one chunk.
    pub chunk: usize,
    /// What can be written at all.
    pub payload: usize,
}

impl Default for Limits {
    /// Below what a topic takes (10 MiB), with room for what else a message has.
    fn default() -> Self {
        Limits { inline: 8 << 20, chunk: 4 << 20, payload: 128 << 20 }
    }
}

/// The text of a reference's schema.
pub(super) static SCHEMA: LazyLock<String> = LazyLock::new(|| {
    let json: serde_json::Value =
        serde_json::from_str(include_str!("../../schemas/blob/v1.avsc")).unwrap_or(serde_json::Value::Null);
    json.to_string()
});

/// The name its record has.
pub(super) const NAME: &str = "driftless.Blob";
/// The longest reference: whatever is longer is none.
const REFERENCE_BYTES_MAX: usize = 80;
/// How many messages are read at once.
const READ_MAX: usize = 16;

/// Where a payload lies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Reference {
    hash: [u8; 32],
    bytes: u64,
    chunks: u32,
    /// The offset of its first chunk; compaction may have left only a later one.
    first: Offset,
}

impl Reference {
    fn encode(&self, id: SchemaId) -> Bytes {
        let mut out = BytesMut::with_capacity(REFERENCE_BYTES_MAX);
        out.put_slice(&header(id));
        put_long(&mut out, self.hash.len() as u64);
        out.put_slice(&self.hash);
        put_long(&mut out, self.bytes);
        put_long(&mut out, self.chunks.into());
        put_long(&mut out, self.first);
        out.freeze()
    }

    /// The reference in a payload whose schema is a reference's.
    fn decode(payload: &Bytes) -> Option<Reference> {
        let mut input = payload.get(HEADER_BYTES..)?;
        let length = usize::try_from(take_long(&mut input)?).ok()?;
        let hash = input.get(..length)?.try_into().ok()?;
        input.advance(length);
        let (bytes, chunks, first) = (take_long(&mut input)?, take_long(&mut input)?, take_long(&mut input)?);
        let chunks = u32::try_from(chunks).ok()?;
        input.is_empty().then_some(Reference { hash, bytes, chunks, first })
    }
}

/// Avro's long, of which only the natural numbers are needed.
fn put_long(out: &mut BytesMut, number: u64) {
    let mut rest = number << 1;
    while rest >= 0x80 {
        out.put_u8(0x80 | (rest & 0x7f) as u8);
        rest >>= 7;
    }
    out.put_u8(rest as u8);
}

fn take_long(input: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let [byte, rest @ ..] = *input else { return None };
        *input = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return (number & 1 == 0).then_some(number >> 1);
        }
    }
    None
}

/// The reference a payload is; `None` for all others. What the schema's id stands for must be known.
pub(super) fn reference(payload: &Bytes, forms: &Forms) -> Option<Reference> {
    if payload.len() > REFERENCE_BYTES_MAX || payload.first() != Some(&0) {
        return None;
    }
    let id = payload.get(1..HEADER_BYTES)?.try_into().ok().map(|id| SchemaId(u32::from_be_bytes(id)))?;
    let text = forms.text_of(id)?;
    let is_ours = *text == **SCHEMA || {
        let json: serde_json::Value = text.contains("Blob").then(|| serde_json::from_str(&text).ok()).flatten()?;
        json.get("name").and_then(|name| name.as_str()) == Some(NAME)
    };
    if is_ours { Reference::decode(payload) } else { None }
}

/// The topic of chunks beside `<c>`, in the same partition.
fn chunks_of(base: &str, at: &Partition) -> Partition {
    Partition::new(format!("{base}.blobs"), at.index)
}

fn key_of(hash: &[u8; 32], number: u32) -> Bytes {
    [&hash[..], &number.to_be_bytes()].concat().into()
}

/// Fails for what can not be written at all.
pub(super) fn check(messages: &[Message<Raw>], limits: Limits) -> Result<()> {
    let largest = messages.iter().filter_map(|message| message.payload.as_ref()).map(Bytes::len).max();
    match largest.filter(|bytes| *bytes > limits.payload) {
        None => Ok(()),
        Some(bytes) => {
            let text = format!(
                "a record takes {bytes} bytes in the log, and {} is the limit; make its value smaller where it was \
                 written",
                limits.payload
            );
            Err(Error::new(Code::ValueTooLarge, text))
        }
    }
}

/// Puts large payloads into chunks and waits until they are there; what is returned can be appended.
pub(super) async fn store(
    session: &Arc<dyn Session<Raw>>,
    base: &str,
    at: &Partition,
    messages: Vec<Message<Raw>>,
    limits: Limits,
    id: SchemaId,
) -> Result<Vec<Message<Raw>>> {
    let chunks = chunks_of(base, at);
    let mut out = Vec::with_capacity(messages.len());
    for Message { key, payload } in messages {
        let Some(whole) = payload.as_ref().filter(|whole| whole.len() > limits.inline) else {
            out.push(Message { key, payload });
            continue;
        };
        let hash = *blake3::hash(whole).as_bytes();
        let parts = (0u32..).zip((0..whole.len()).step_by(limits.chunk.max(1)));
        let parts: Vec<Message<Raw>> = parts
            .map(|(number, from)| Message {
                key: key_of(&hash, number),
                payload: Some(whole.slice(from..whole.len().min(from + limits.chunk))),
            })
            .collect();
        let (bytes, count) = (whole.len() as u64, u32::try_from(parts.len()).unwrap_or(u32::MAX));
        // claim-3: durable before anything refers to them.
        let offsets = session.append(&chunks, parts).await?;
        let first = offsets.first().copied().unwrap_or_default();
        let reference = Reference { hash, bytes, chunks: count, first };
        out.push(Message { key, payload: Some(reference.encode(id)) });
    }
    Ok(out)
}

/// The payload a reference stands for.
pub(super) async fn load(log: &dyn Log<Raw>, base: &str, at: &Partition, reference: &Reference) -> Result<Bytes> {
    let place = chunks_of(base, at);
    let Bounds { low, high } = log.bounds(&place).await?;
    let mut parts: Vec<Option<Bytes>> = vec![None; reference.chunks as usize];
    let mut missing = parts.len();
    let mut reading = log.read(&place, reference.first.max(low)).await?;
    while missing > 0 && reading.offset() < high {
        for message in reading.next(READ_MAX).await? {
            let Some((hash, number)) = message.key.split_at_checked(reference.hash.len()) else { continue };
            let number = number.try_into().map_or(u32::MAX, u32::from_be_bytes);
            let part = parts.get_mut(number as usize).filter(|_| hash == reference.hash);
            if let (Some(part), Some(payload)) = (part, message.payload) {
                missing -= usize::from(part.is_none());
                *part = Some(payload);
            }
        }
    }
    let mut whole = BytesMut::with_capacity(usize::try_from(reference.bytes).unwrap_or_default());
    parts.iter().flatten().for_each(|part| whole.extend_from_slice(part));
    let whole = whole.freeze();
    if missing > 0 || *blake3::hash(&whole).as_bytes() != reference.hash {
        let text = "the chunks of a large record are not in the log any more; its topic of chunks was changed by hand";
        return Err(Error::new(Code::HistoryLost, text).at("partition", place));
    }
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_reference_comes_back(hash in any::<[u8; 32]>(), bytes in 0..u64::MAX / 2, chunks in any::<u32>(), first in 0..u64::MAX / 2) {
            let reference = Reference { hash, bytes, chunks, first };
            let forms = Forms::default();
            forms.learn(SchemaId(7), &SCHEMA);
            let payload = reference.encode(SchemaId(7));
            prop_assert!(payload.len() <= REFERENCE_BYTES_MAX);
            prop_assert_eq!(super::reference(&payload, &forms), Some(reference.clone()));
            prop_assert_eq!(super::reference(&payload.slice(..payload.len() - 1), &forms), None);
            let schema = apache_avro::Schema::parse_str(&SCHEMA).unwrap();
            let mut avro = &payload[HEADER_BYTES..];
            let read = apache_avro::reader::datum::GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut avro).unwrap();
            prop_assert_eq!(read, apache_avro::types::Value::Record(vec![
                ("hash".into(), apache_avro::types::Value::Bytes(hash.to_vec())),
                ("bytes".into(), apache_avro::types::Value::Long(bytes as i64)),
                ("chunks".into(), apache_avro::types::Value::Long(chunks.into())),
                ("first".into(), apache_avro::types::Value::Long(first as i64)),
            ]));
        }
    }

    #[test]
    fn other_messages_are_no_references() {
        let forms = Forms::default();
        forms.learn(SchemaId(7), "\"string\"");
        assert_eq!(reference(&Bytes::from_static(&[0, 0, 0, 0, 7, 2, 65]), &forms), None);
        assert_eq!(reference(&Bytes::from_static(&[0, 0, 0, 0, 8]), &forms), None, "unknown here");
        assert_eq!(reference(&Bytes::from_static(b"text"), &forms), None);
    }
}
