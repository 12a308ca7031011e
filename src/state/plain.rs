//! How values without rows become bytes: they need no schema. Readers and agents name what lies here.

use super::view::{Noted, Weigh};
use super::{Codec, damaged};
use crate::event::avro::plain;
use crate::event::{Known, LedgerEntry};
use crate::runtime::error::Result;
use bytes::{Buf, Bytes};

/// A value that becomes bytes without a schema.
pub trait Bare: Sized {
    /// Appends it.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads it and moves on behind it; `None` if the bytes are no such value.
    fn take(bytes: &mut Bytes) -> Option<Self>;
}

/// The codec of values that need no schema.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl<V: Bare> Codec<V> for Plain {
    fn encode(&self, value: &V, out: &mut Vec<u8>) -> Result<()> {
        value.put(out);
        Ok(())
    }

    fn decode(&self, mut bytes: Bytes) -> Result<V> {
        V::take(&mut bytes).filter(|_| bytes.is_empty()).ok_or_else(|| damaged("its form is another"))
    }
}

impl Bare for Noted {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&self.owner.to_be_bytes());
    }

    fn take(bytes: &mut Bytes) -> Option<Self> {
        Some(Noted { number: bytes.try_get_u64().ok()?, owner: bytes.try_get_u128().ok()? })
    }
}

impl Weigh for () {
    fn weight(&self) -> usize {
        0
    }
}

impl Bare for () {
    fn put(&self, _: &mut Vec<u8>) {}

    fn take(_: &mut Bytes) -> Option<Self> {
        Some(())
    }
}

impl Bare for u64 {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_be_bytes());
    }

    fn take(bytes: &mut Bytes) -> Option<Self> {
        bytes.try_get_u64().ok()
    }
}

impl Bare for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(bytes: &mut Bytes) -> Option<Self> {
        match bytes.try_get_u8().ok()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl<V: Bare> Bare for Option<V> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        self.iter().for_each(|value| value.put(out));
    }

    fn take(bytes: &mut Bytes) -> Option<Self> {
        if bool::take(bytes)? { V::take(bytes).map(Some) } else { Some(None) }
    }
}

impl Bare for Known {
    fn put(&self, out: &mut Vec<u8>) {
        plain::put_known(self, out);
    }

    fn take(bytes: &mut Bytes) -> Option<Self> {
        plain::take_known(bytes)
    }
}

impl Bare for LedgerEntry {
    fn put(&self, out: &mut Vec<u8>) {
        plain::put_entry(self, out);
    }

    fn take(bytes: &mut Bytes) -> Option<Self> {
        plain::take_entry(bytes)
    }
}
