//! Reads counted bytes without ever reading past their end: whatever a server sends, the answer is a
//! value or an error, never a panic.

use bytes::Bytes;
use std::fmt;

/// What was expected and not found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed message: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// A place in a buffer.
#[derive(Clone, Debug)]
pub(crate) struct Cursor<'a> {
    whole: &'a Bytes,
    at: usize,
}

impl<'a> Cursor<'a> {
    /// At the beginning of `whole`.
    #[must_use]
    pub(crate) fn new(whole: &'a Bytes) -> Self {
        Cursor { whole, at: 0 }
    }

    /// How many bytes were read.
    #[must_use]
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// How many bytes are left.
    #[must_use]
    pub(crate) fn remaining(&self) -> usize {
        self.whole.len().saturating_sub(self.at)
    }

    /// The next `n` bytes, borrowed.
    pub(crate) fn slice(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(n).ok_or(Malformed("a length overflows"))?;
        let found = self.whole.get(self.at..end).ok_or(Malformed("it ends too early"))?;
        self.at = end;
        Ok(found)
    }

    /// The next `n` bytes, sharing the buffer.
    pub(crate) fn take(&mut self, n: usize) -> Result<Bytes, Malformed> {
        let start = self.at;
        self.slice(n)?;
        Ok(self.whole.slice(start..self.at))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.slice(N)?.try_into().map_err(|_| Malformed("it ends too early"))
    }

    /// One byte.
    pub(crate) fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    /// Two bytes, unsigned.
    pub(crate) fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// Two bytes.
    pub(crate) fn i16(&mut self) -> Result<i16, Malformed> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    /// Four bytes, unsigned.
    pub(crate) fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Four bytes.
    pub(crate) fn i32(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// Eight bytes, unsigned.
    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Eight bytes.
    pub(crate) fn i64(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A text that ends with a zero byte.
    pub(crate) fn text(&mut self) -> Result<String, Malformed> {
        let rest = self.whole.get(self.at..).unwrap_or_default();
        let length = rest.iter().position(|b| *b == 0).ok_or(Malformed("a text has no end"))?;
        let text = std::str::from_utf8(self.slice(length)?).map_err(|_| Malformed("a text is not UTF-8"))?;
        self.u8()?;
        Ok(text.to_owned())
    }
}
