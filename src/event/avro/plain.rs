//! Parts of records that carry no rows, as bytes without a header: for states that this process alone
//! reads again. The forms are those of the records themselves.

use super::forms::Forms;
use super::wire::{Input, Out, Wire};
use crate::event::{Known, LedgerEntry, Schema, SchemaId};
use bytes::{Buf, Bytes};
use std::sync::LazyLock;

static FORMS: LazyLock<Forms> = LazyLock::new(Forms::default);
static NO_ROW: LazyLock<Schema> =
    LazyLock::new(|| Schema { id: SchemaId::default(), name: "".into(), fields: Vec::new(), key: Vec::new() });

fn put(part: &impl Wire, out: &mut Vec<u8>) {
    let mut writer = Out { bytes: std::mem::take(out), forms: &FORMS, row: &NO_ROW, failed: None };
    part.put(&mut writer);
    *out = writer.bytes;
}

fn take<T: Wire>(bytes: &mut Bytes) -> Option<T> {
    let mut input = Input::new(bytes, 0, &FORMS, None);
    let part = T::take(&mut input).ok()?;
    let left = input.left();
    bytes.advance(bytes.len().saturating_sub(left));
    Some(part)
}

/// Appends what a reader knows of a row.
pub fn put_known(known: &Known, out: &mut Vec<u8>) {
    put(known, out);
}

/// Reads what a reader knows of a row and moves on behind it; `None` if the bytes are no such thing.
pub fn take_known(bytes: &mut Bytes) -> Option<Known> {
    take(bytes)
}

/// Appends a ledger entry.
pub fn put_entry(entry: &LedgerEntry, out: &mut Vec<u8>) {
    put(entry, out);
}

/// Reads a ledger entry and moves on behind it; `None` if the bytes are no such thing.
pub fn take_entry(bytes: &mut Bytes) -> Option<LedgerEntry> {
    take(bytes)
}
