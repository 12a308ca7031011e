//! How appended messages are stored: one **block** per appended batch, compressed as a whole, with a
//! header that says which offsets and times it holds and a checksum over everything. A block that is
//! not exactly what was written is an error that names the place; it is never skipped.
//!
//! The content of a block depends on neither offset nor time, so the caller of `append` packs it
//! before the writer knows where it goes.

use crate::event::Offset;
use crate::runtime::error::{Code, Error, Result};
use crate::topic::{Compression, Delivered, Message, Partition, Raw};
use bytes::Bytes;
use std::borrow::Cow;

/// The layout's version, the first byte of each header.
const LAYOUT: u8 = 1;
/// Length of a header in bytes.
pub(super) const HEADER: usize = 56;
/// Each message carries its own offset and time: what compaction leaves has gaps.
const SPARSE: u8 = 1;
/// The content follows the header instead of having a place of its own.
const INLINE: u8 = 2;
/// The largest batch in bytes before compression.
const LARGEST: usize = 1 << 30;

const PLAIN: u8 = 0;
const LZ4: u8 = 1;
const ZSTD: u8 = 2;

/// The packed content of a block.
pub(super) struct Packed {
    /// Number of messages.
    pub count: u32,
    /// Length before compression, in bytes.
    pub raw_len: u32,
    codec: u8,
    sparse: bool,
    /// The bytes to store.
    pub stored: Vec<u8>,
}

/// What the index says about a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    codec: u8,
    flags: u8,
    /// Number of messages.
    pub count: u32,
    /// Offset of the first message.
    pub base: Offset,
    /// Time of the first message.
    pub first_ms: u64,
    /// Time of the last message.
    pub last_ms: u64,
    raw_len: u32,
    /// Length of the content as stored, in bytes.
    pub stored_len: u32,
    /// Key of the content in the keyspace of contents, unless it is inline.
    pub place: u64,
    checksum: u64,
}

/// Packs a batch as it is appended.
pub(super) fn pack(messages: &[Message<Raw>], compression: Compression) -> Result<Packed> {
    let size = |m: &Message<Raw>| m.key.len() + m.payload.as_ref().map_or(0, Bytes::len) + 12;
    let mut raw = Vec::with_capacity(messages.iter().map(size).sum());
    for message in messages {
        put_message(&mut raw, &message.key, message.payload.as_ref());
    }
    compress(raw, messages.len(), false, compression)
}

/// Packs what compaction keeps: offsets and times are relative to the first message's.
pub(super) fn pack_sparse(messages: &[Delivered<Raw>], compression: Compression) -> Result<Packed> {
    let mut raw = Vec::new();
    let (base, first_ms) = messages.first().map_or((0, 0), |m| (m.offset, m.time_ms));
    for message in messages {
        put_number(&mut raw, message.offset - base);
        put_number(&mut raw, message.time_ms - first_ms);
        put_message(&mut raw, &message.key, message.payload.as_ref());
    }
    compress(raw, messages.len(), true, compression)
}

fn compress(raw: Vec<u8>, messages: usize, sparse: bool, compression: Compression) -> Result<Packed> {
    let too_large = || Error::new(Code::ValueTooLarge, "the batch exceeds 1 GiB; append it in parts");
    if raw.len() > LARGEST {
        return Err(too_large());
    }
    let raw_len = u32::try_from(raw.len()).map_err(|_| too_large())?;
    let count = u32::try_from(messages).map_err(|_| too_large())?;
    let (codec, stored) = match compression {
        Compression::None => (PLAIN, raw),
        Compression::Lz4 => smaller(LZ4, lz4_flex::block::compress(&raw), raw),
        Compression::Zstd(level) => {
            let packed = zstd::bulk::compress(&raw, level);
            let failed = |e| Error::new(Code::Unexpected, "the batch could not be compressed").caused_by(e);
            smaller(ZSTD, packed.map_err(failed)?, raw)
        }
    };
    Ok(Packed { count, raw_len, codec, sparse, stored })
}

fn smaller(codec: u8, packed: Vec<u8>, raw: Vec<u8>) -> (u8, Vec<u8>) {
    if packed.len() < raw.len() { (codec, packed) } else { (PLAIN, raw) }
}

fn put_message(out: &mut Vec<u8>, key: &Bytes, payload: Option<&Raw>) {
    put_number(out, key.len() as u64);
    put_number(out, payload.map_or(0, |p| p.len() as u64 + 1));
    out.extend_from_slice(key);
    if let Some(payload) = payload {
        out.extend_from_slice(payload);
    }
}

/// LEB128.
fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

impl Header {
    /// The header of a block at its place in the log; `place` is `None` if the content is inline.
    pub(super) fn new(packed: &Packed, base: Offset, times_ms: (u64, u64), place: Option<u64>) -> Self {
        let flags = if packed.sparse { SPARSE } else { 0 } | if place.is_none() { INLINE } else { 0 };
        Header {
            codec: packed.codec,
            flags,
            count: packed.count,
            base,
            first_ms: times_ms.0,
            last_ms: times_ms.1,
            raw_len: packed.raw_len,
            // Checked by `compress`: what is stored is never longer than `raw_len`.
            stored_len: packed.stored.len() as u32,
            place: place.unwrap_or(0),
            checksum: 0,
        }
    }

    /// Whether the content follows the header.
    pub(super) fn is_inline(&self) -> bool {
        self.flags & INLINE != 0
    }

    /// Whether it came out of a compaction.
    pub(super) fn is_sparse(&self) -> bool {
        self.flags & SPARSE != 0
    }

    fn fields(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER);
        out.extend_from_slice(&[LAYOUT, self.codec, self.flags, 0]);
        out.extend_from_slice(&self.count.to_be_bytes());
        for number in [self.base, self.first_ms, self.last_ms] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.raw_len.to_be_bytes());
        out.extend_from_slice(&self.stored_len.to_be_bytes());
        out.extend_from_slice(&self.place.to_be_bytes());
        out
    }

    /// The index entry under `key`; a content that is inline is appended to it.
    pub(super) fn encode(&self, key: &[u8], stored: &[u8]) -> Vec<u8> {
        let mut out = self.fields();
        out.extend_from_slice(&checksum(key, &out, stored).to_be_bytes());
        if self.is_inline() {
            out.extend_from_slice(stored);
        }
        out
    }

    /// Reads the header of an index entry.
    pub(super) fn decode(entry: &[u8]) -> Option<Header> {
        let head = entry.get(..HEADER)?;
        let word = |at: usize| head.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_be_bytes);
        let long = |at: usize| head.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
        if head.first() != Some(&LAYOUT) {
            return None;
        }
        Some(Header {
            codec: *head.get(1)?,
            flags: *head.get(2)?,
            count: word(4)?,
            base: long(8)?,
            first_ms: long(16)?,
            last_ms: long(24)?,
            raw_len: word(32)?,
            stored_len: word(36)?,
            place: long(40)?,
            checksum: long(48)?,
        })
    }

    /// Checks a block's content and unpacks it.
    pub(super) fn open(&self, at: &Partition, key: &[u8], stored: &[u8]) -> Result<Cursor> {
        if checksum(key, &self.fields(), stored) != self.checksum {
            return Err(corrupt(at, self.base, "the checksum of a stored batch does not match"));
        }
        let raw_len = self.raw_len as usize;
        let raw = match self.codec {
            PLAIN => Some(Cow::Borrowed(stored)),
            LZ4 => lz4_flex::block::decompress(stored, raw_len).ok().map(Cow::Owned),
            ZSTD => zstd::bulk::decompress(stored, raw_len).ok().map(Cow::Owned),
            _ => None,
        };
        let raw = raw.filter(|raw| raw.len() == raw_len);
        let raw = raw.ok_or_else(|| corrupt(at, self.base, "a stored batch cannot be decompressed"))?;
        Ok(Cursor {
            at: at.clone(),
            raw: Bytes::from(raw.into_owned()),
            position: 0,
            left: self.count,
            base: self.base,
            first_ms: self.first_ms,
            next: self.base,
            sparse: self.is_sparse(),
        })
    }
}

fn checksum(key: &[u8], fields: &[u8], stored: &[u8]) -> u64 {
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    hasher.update(key);
    hasher.update(fields);
    hasher.update(stored);
    hasher.digest()
}

/// The error for stored bytes which are not what was written.
pub(super) fn corrupt(at: &Partition, offset: Offset, what: &str) -> Error {
    Error::new(Code::LogCorrupt, format!("{what}; restore the log's directory from a copy, or remove the topic"))
        .at("partition", at)
        .at("offset", offset)
}

/// The messages of one block, one after the other. Keys and payloads share the block's memory.
pub(super) struct Cursor {
    at: Partition,
    raw: Bytes,
    position: usize,
    left: u32,
    base: Offset,
    first_ms: u64,
    next: Offset,
    sparse: bool,
}

impl Cursor {
    /// The next message; `None` at the end of the block.
    pub(super) fn next(&mut self) -> Result<Option<Delivered<Raw>>> {
        if self.left == 0 {
            return Ok(None);
        }
        let next = self.next;
        self.take().map(Some).ok_or_else(|| corrupt(&self.at, next, "a stored batch has an impossible layout"))
    }

    fn take(&mut self) -> Option<Delivered<Raw>> {
        let (mut offset, mut time_ms) = (self.next, self.first_ms);
        if self.sparse {
            offset = self.base.checked_add(self.number()?)?;
            time_ms = self.first_ms.checked_add(self.number()?)?;
        }
        let key_len = self.number()?;
        let payload_len = self.number()?;
        let key = self.bytes(key_len)?;
        let payload = if payload_len == 0 { None } else { Some(self.bytes(payload_len - 1)?) };
        self.left -= 1;
        self.next = offset + 1;
        Some(Delivered { offset, time_ms, key, payload })
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.raw.get(self.position)?;
            self.position += 1;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn bytes(&mut self, len: u64) -> Option<Bytes> {
        if len == 0 {
            return Some(Bytes::new());
        }
        let end = self.position.checked_add(usize::try_from(len).ok()?)?;
        if end > self.raw.len() {
            return None;
        }
        let bytes = self.raw.slice(self.position..end);
        self.position = end;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compressions() -> impl Strategy<Value = Compression> {
        prop_oneof![Just(Compression::None), Just(Compression::Lz4), (1..6i32).prop_map(Compression::Zstd)]
    }

    fn bytes(len: usize) -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(0u8..4, 0..len).prop_map(Bytes::from)
    }

    fn read(header: &Header, key: &[u8], stored: &[u8]) -> Result<Vec<Delivered<Raw>>> {
        let mut cursor = header.open(&Partition::new("t", 0), key, stored)?;
        let mut out = Vec::new();
        while let Some(message) = cursor.next()? {
            out.push(message);
        }
        Ok(out)
    }

    proptest! {
        #[test]
        fn a_block_gives_back_what_was_packed(
            messages in proptest::collection::vec((bytes(40), proptest::option::of(bytes(300))), 0..50),
            compression in compressions(),
            base in 0..u64::from(u32::MAX),
        ) {
            let messages: Vec<_> = messages.into_iter().map(|(key, payload)| Message { key, payload }).collect();
            let packed = pack(&messages, compression).unwrap();
            let header = Header::new(&packed, base, (7, 7), Some(3));
            let entry = header.encode(b"key", &packed.stored);
            let read = read(&Header::decode(&entry).unwrap(), b"key", &packed.stored).unwrap();
            let expected: Vec<_> = messages.into_iter().zip(base..)
                .map(|(m, offset)| Delivered { offset, time_ms: 7, key: m.key, payload: m.payload }).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn a_sparse_block_gives_back_offsets_and_times(
            steps in proptest::collection::vec((1..1000u64, 0..1000u64, bytes(20)), 1..50),
            compression in compressions(),
        ) {
            let (mut offset, mut time_ms) = (0, 0);
            let messages: Vec<_> = steps.into_iter().map(|(by, later_ms, key)| {
                (offset, time_ms) = (offset + by, time_ms + later_ms);
                Delivered { offset, time_ms, key, payload: None }
            }).collect();
            let packed = pack_sparse(&messages, compression).unwrap();
            let header = Header::new(&packed, messages[0].offset, (messages[0].time_ms, time_ms), None);
            let entry = header.encode(b"key", &packed.stored);
            let header = Header::decode(&entry).unwrap();
            prop_assert_eq!(read(&header, b"key", &entry[HEADER..]).unwrap(), messages);
        }

        #[test]
        fn one_changed_byte_anywhere_is_noticed(at in any::<prop::sample::Index>(), compression in compressions()) {
            let message = Message { key: Bytes::from_static(b"k"), payload: Some(Bytes::from(vec![7; 100])) };
            let packed = pack(&[message], compression).unwrap();
            let mut entry = Header::new(&packed, 5, (1, 1), None).encode(b"key", &packed.stored);
            let at = at.index(entry.len());
            entry[at] ^= 0x10;
            // The fourth byte is reserved and carries nothing.
            let noticed = Header::decode(&entry).is_none_or(|h| read(&h, b"key", &entry[HEADER..]).is_err());
            prop_assert!(noticed || at == 3);
        }
    }
}
