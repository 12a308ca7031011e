//! Field values, typed and independent of any platform. A value is exact: what cannot be held
//! exactly is refused by the connector, never bent (P8).

use super::decimal::Decimal;
use bytes::Bytes;
use std::fmt;

/// Text that shares its buffer with the batch it was read from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text(Bytes);

impl Text {
    /// Takes a buffer, if it is UTF-8.
    pub fn from_utf8(bytes: Bytes) -> Result<Self, std::str::Utf8Error> {
        std::str::from_utf8(&bytes)?;
        Ok(Text(bytes))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // SAFETY: every constructor checked that the buffer is UTF-8, and it is never changed.
        #[expect(unsafe_code, reason = "the constructors checked it; a second check per read costs")]
        unsafe {
            std::str::from_utf8_unchecked(&self.0)
        }
    }

    /// The buffer.
    #[must_use]
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Text(Bytes::from(text.into_bytes()))
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A calendar interval, its three parts kept apart as SQL does.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Interval {
    /// Months.
    pub months: i32,
    /// Days.
    pub days: i32,
    /// Microseconds.
    pub micros: i64,
}

/// One field of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// SQL's null. In a row the same as an absent field (value-1).
    Null,
    /// "As it was in my base": an image that does not carry the field (value-2). Only in proposals.
    Unchanged,
    /// True or false.
    Bool(bool),
    /// Any integer of up to 64 bits.
    Int(i64),
    /// IEEE 754 single precision.
    Float32(f32),
    /// IEEE 754 double precision.
    Float64(f64),
    /// A decimal number of any precision, NaN and the infinities.
    Decimal(Decimal),
    /// UTF-8 text.
    Text(Text),
    /// Bytes.
    Bytes(Bytes),
    /// A UUID.
    Uuid([u8; 16]),
    /// Days since 1970-01-01; `i32::MIN` and `i32::MAX` are the infinities.
    Date(i32),
    /// Microseconds since midnight.
    Time(i64),
    /// Microseconds since midnight, and the zone's offset in seconds east of UTC.
    TimeTz(i64, i32),
    /// Microseconds since 1970-01-01 (UTC where the type has a zone, else local); `i64::MIN` and
    /// `i64::MAX` are the infinities.
    Timestamp(i64),
    /// A calendar interval.
    Interval(Interval),
    /// A JSON document in canonical text: no spaces, keys sorted, numbers as written.
    Json(Text),
    /// A list of values of one type.
    Array(Vec<Value>),
    /// A nested record, by position in its type.
    Record(Vec<Value>),
}

impl Value {
    /// About how large it is in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Value::Null | Value::Unchanged => 0,
            Value::Bool(_) => 1,
            Value::Float32(_) | Value::Date(_) => 4,
            Value::Int(_) | Value::Float64(_) | Value::Time(_) | Value::Timestamp(_) => 8,
            Value::TimeTz(..) => 12,
            Value::Decimal(_) | Value::Uuid(_) | Value::Interval(_) => 16,
            Value::Text(text) | Value::Json(text) => text.as_bytes().len(),
            Value::Bytes(bytes) => bytes.len(),
            Value::Array(values) | Value::Record(values) => values.iter().map(Value::size).sum(),
        }
    }

    /// Text from a string.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Value::Text(Text::from(text))
    }

    /// Whether this is SQL's null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_is_what_was_given_and_shares_its_buffer(text in ".*") {
            let bytes = Bytes::from(text.clone());
            let shared = Text::from_utf8(bytes.clone()).unwrap();
            prop_assert_eq!(shared.as_str(), &text);
            prop_assert_eq!(shared.as_bytes().as_ptr(), bytes.as_ptr());
            prop_assert_eq!(shared, Text::from(text.as_str()));
        }

        #[test]
        fn bytes_that_are_no_utf8_are_no_text(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            let valid = std::str::from_utf8(&bytes).is_ok();
            prop_assert_eq!(Text::from_utf8(bytes.into()).is_ok(), valid);
        }
    }
}
