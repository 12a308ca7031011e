//! Avro's binary encoding of numbers, bytes, lists, unions and records, written by hand: a record
//! is its fields one after another, so a line of `record!` is a whole codec. Decoding takes any
//! bytes: it checks every length, never panics and never allocates more than the input justifies.
//! What the fields are called stands in the schema files, not here.

use super::forms::Forms;
use crate::event::{Schema, SchemaId};
use crate::runtime::error::Error;
use bytes::Bytes;
use smallvec::{Array, SmallVec};
use std::sync::Arc;

/// Why a value cannot be written; boxed, because it is rare and results are returned per field.
pub(super) type Refusal = Box<Error>;

/// Why bytes cannot be read.
#[derive(Debug)]
pub(super) enum Broken {
    /// They do not follow their schema: what was expected, and where.
    At { expected: &'static str, offset: usize },
    /// They name a schema that is not known here yet.
    UnknownSchema(SchemaId),
    /// A schema inside them cannot be used, for this reason.
    Unusable(Error),
}

/// A record on its way to bytes. The first failure is kept and makes the whole record fail.
pub(super) struct Out<'a> {
    /// What is written so far.
    pub bytes: Vec<u8>,
    /// The schemas known.
    pub forms: &'a Forms,
    /// The schema of the typed rows of this record.
    pub row: &'a Schema,
    /// The first failure.
    pub failed: Option<Refusal>,
}

impl Out<'_> {
    /// Keeps the first failure.
    pub(super) fn check(&mut self, result: Result<(), Refusal>) {
        if let Err(refusal) = result {
            self.failed.get_or_insert(refusal);
        }
    }
}

/// The longest `long`.
const LONG_BYTES_MAX: usize = 10;

/// Bytes on their way to a record.
pub(super) struct Input<'a> {
    bytes: &'a Bytes,
    at: usize,
    /// The schemas known.
    pub forms: &'a Forms,
    /// The schema of the typed rows of this record.
    pub row: Option<&'a Arc<Schema>>,
}

impl<'a> Input<'a> {
    /// Reads `bytes` from `at` on.
    pub(super) fn new(bytes: &'a Bytes, at: usize, forms: &'a Forms, row: Option<&'a Arc<Schema>>) -> Self {
        Input { bytes, at, forms, row }
    }

    /// The reason for giving up here.
    pub(super) fn broken(&self, expected: &'static str) -> Broken {
        Broken::At { expected, offset: self.at }
    }

    /// How many bytes are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// The next `len` bytes.
    pub(super) fn raw(&mut self, len: usize, expected: &'static str) -> Result<&'a [u8], Broken> {
        let end = self.at.checked_add(len).ok_or_else(|| self.broken(expected))?;
        let taken = self.bytes.get(self.at..end).ok_or_else(|| self.broken(expected))?;
        self.at = end;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    pub(super) fn fixed<const N: usize>(&mut self, expected: &'static str) -> Result<[u8; N], Broken> {
        let raw = self.raw(N, expected)?;
        raw.try_into().map_err(|_| self.broken(expected))
    }

    /// A counted run of bytes, sharing the input's buffer.
    pub(super) fn counted(&mut self, expected: &'static str) -> Result<Bytes, Broken> {
        let len = self.len(expected)?;
        let start = self.at;
        self.raw(len, expected)?;
        Ok(self.bytes.slice(start..self.at))
    }

    /// Counted text that is only looked at.
    pub(super) fn str(&mut self, expected: &'static str) -> Result<&'a str, Broken> {
        let len = self.len(expected)?;
        std::str::from_utf8(self.raw(len, expected)?).map_err(|_| self.broken("UTF-8"))
    }

    /// A length that the rest of the input can hold.
    fn len(&mut self, expected: &'static str) -> Result<usize, Broken> {
        let len = self.long(expected)?;
        usize::try_from(len).ok().filter(|&len| len <= self.left()).ok_or_else(|| self.broken(expected))
    }

    /// Avro `long` (and `int`): zigzag, then seven bits a byte, least first.
    pub(super) fn long(&mut self, expected: &'static str) -> Result<i64, Broken> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let mut bits = 0u64;
        for (index, &byte) in rest.iter().take(LONG_BYTES_MAX).enumerate() {
            let part = u64::from(byte & 0x7f);
            if index == LONG_BYTES_MAX - 1 && part > 1 {
                break;
            }
            bits |= part << (7 * index);
            if byte < 0x80 {
                self.at += index + 1;
                return Ok(unzigzag(bits));
            }
        }
        Err(self.broken(expected))
    }

    /// The index of a union's branch or an enum's symbol.
    pub(super) fn index(&mut self, count: usize, expected: &'static str) -> Result<usize, Broken> {
        let index = self.long(expected)?;
        usize::try_from(index).ok().filter(|&i| i < count).ok_or_else(|| self.broken(expected))
    }

    /// The items of an array, block by block. Every item takes at least a byte, so a count that lies
    /// runs into the end of the input; nothing is reserved for it in advance.
    pub(super) fn items(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), Broken>) -> Result<(), Broken> {
        const EXPECTED: &str = "the number of items of an array";
        loop {
            let mut count = self.long(EXPECTED)?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // The form with the block's size in bytes, which only serves to skip it.
                self.len(EXPECTED)?;
                count = count.checked_neg().ok_or_else(|| self.broken(EXPECTED))?;
            }
            for _ in 0..count {
                item(self)?;
            }
        }
    }
}

/// Appends an Avro `long` (and `int`).
pub(super) fn put_long(out: &mut Vec<u8>, number: i64) {
    let mut bits = zigzag(number);
    while bits >= 0x80 {
        out.push((bits & 0x7f) as u8 | 0x80);
        bits >>= 7;
    }
    out.push(bits as u8);
}

/// Appends counted bytes: Avro `bytes` and `string`.
pub(super) fn put_counted(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a length or a count.
pub(super) fn put_len(out: &mut Vec<u8>, len: usize) {
    put_long(out, len as u64 as i64);
}

const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)) as u64
}

const fn unzigzag(bits: u64) -> i64 {
    ((bits >> 1) as i64) ^ -((bits & 1) as i64)
}

/// Something with one Avro encoding.
pub(super) trait Wire: Sized {
    /// Appends it.
    fn put(&self, out: &mut Out<'_>);
    /// Reads it.
    fn take(input: &mut Input<'_>) -> Result<Self, Broken>;
}

/// A record: its fields in the order of its schema file. `field: module` names a module whose `put`
/// and `take` stand for the field's own; `head` is a field that only readers outside want.
/// The destructuring makes a new field of the type an error here until it has a place in a schema.
macro_rules! record {
    ($type:ident { $($field:ident $(: $with:ident)?),* $(,)? } $(head $head:ident)?) => {
        impl Wire for $type {
            fn put(&self, out: &mut Out<'_>) {
                let $type { $($field),* } = self;
                $($head::put(self, out);)?
                $(record!(@put $field out $($with)?);)*
            }

            fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
                $($head::take(input)?;)?
                $(let $field = record!(@take input $($with)?);)*
                Ok($type { $($field),* })
            }
        }
    };
    (@put $field:ident $out:ident) => { Wire::put($field, $out) };
    (@put $field:ident $out:ident $with:ident) => { $with::put($field, $out) };
    (@take $input:ident) => { Wire::take($input)? };
    (@take $input:ident $with:ident) => { $with::take($input)? };
}

/// An enum: its symbols in the order of its schema file.
macro_rules! symbols {
    ($type:ident { $($symbol:ident),* $(,)? }) => {
        impl Wire for $type {
            fn put(&self, out: &mut Out<'_>) {
                let index = [$($type::$symbol),*].iter().position(|s| s == self).unwrap_or(usize::MAX);
                super::wire::put_len(&mut out.bytes, index);
            }

            fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
                const ALL: &[$type] = &[$($type::$symbol),*];
                let index = input.index(ALL.len(), concat!("a symbol of ", stringify!($type)))?;
                ALL.get(index).copied().ok_or_else(|| input.broken("a symbol"))
            }
        }
    };
}

pub(super) use {record, symbols};

/// Numbers without sign travel as Avro's signed ones; above `i64::MAX` they show as negative there.
impl Wire for u64 {
    fn put(&self, out: &mut Out<'_>) {
        put_long(&mut out.bytes, self.cast_signed());
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
        input.long("a number").map(i64::cast_unsigned)
    }
}

macro_rules! small_number {
    ($($type:ident),*) => {$(
        impl Wire for $type {
            fn put(&self, out: &mut Out<'_>) {
                put_long(&mut out.bytes, i64::from(*self));
            }

            fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
                let number = input.long("a number")?;
                $type::try_from(number).map_err(|_| input.broken("a smaller number"))
            }
        }
    )*};
}
small_number!(u16, u32);

impl Wire for bool {
    fn put(&self, out: &mut Out<'_>) {
        out.bytes.push(u8::from(*self));
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
        match input.fixed("true or false")? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(input.broken("true or false")),
        }
    }
}

/// 16 bytes, highest first.
impl Wire for u128 {
    fn put(&self, out: &mut Out<'_>) {
        out.bytes.extend_from_slice(&self.to_be_bytes());
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
        input.fixed("16 bytes").map(u128::from_be_bytes)
    }
}

impl Wire for Bytes {
    fn put(&self, out: &mut Out<'_>) {
        put_counted(&mut out.bytes, self);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
        input.counted("bytes")
    }
}

impl Wire for Arc<str> {
    fn put(&self, out: &mut Out<'_>) {
        put_counted(&mut out.bytes, self.as_bytes());
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
        let bytes = input.counted("text")?;
        std::str::from_utf8(&bytes).map(Arc::from).map_err(|_| input.broken("UTF-8"))
    }
}

/// A union of null and the thing.
impl<T: Wire> Wire for Option<T> {
    fn put(&self, out: &mut Out<'_>) {
        match self {
            None => out.bytes.push(0),
            Some(thing) => {
                out.bytes.push(2);
                thing.put(out);
            }
        }
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
        match input.index(2, "null or a value")? {
            0 => Ok(None),
            _ => T::take(input).map(Some),
        }
    }
}

impl<T: Wire> Wire for Box<T> {
    fn put(&self, out: &mut Out<'_>) {
        T::put(self, out);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
        T::take(input).map(Box::new)
    }
}

impl<T: Wire> Wire for Arc<T> {
    fn put(&self, out: &mut Out<'_>) {
        T::put(self, out);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
        T::take(input).map(Arc::new)
    }
}

/// Appends a list as one block.
pub(super) fn put_items<'i, T: Wire + 'i>(items: impl ExactSizeIterator<Item = &'i T>, out: &mut Out<'_>) {
    if items.len() > 0 {
        put_len(&mut out.bytes, items.len());
        items.for_each(|item| item.put(out));
    }
    out.bytes.push(0);
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Out<'_>) {
        put_items(self.iter(), out);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
        let mut items = Vec::new();
        input.items(|input| T::take(input).map(|item| items.push(item)))?;
        Ok(items)
    }
}

impl<A: Array<Item: Wire>> Wire for SmallVec<A> {
    fn put(&self, out: &mut Out<'_>) {
        put_items(self.iter(), out);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
        let mut items = SmallVec::new();
        input.items(|input| Wire::take(input).map(|item| items.push(item)))?;
        Ok(items)
    }
}
