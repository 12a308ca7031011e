//! What a group keeps beside an offset is text in Kafka; ours are bytes.

use bytes::Bytes;

/// Two digits a byte.
pub(super) fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes of such a text; `None` if it is none of ours.
pub(super) fn from_hex(text: &str) -> Option<Bytes> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect::<Option<Vec<u8>>>().map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn metadata_survive_being_text(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(from_hex(&to_hex(&bytes)), Some(Bytes::from(bytes)));
        }
    }

    #[test]
    fn metadata_of_others_are_no_metadata() {
        assert_eq!(from_hex("abc"), None);
        assert_eq!(from_hex("zz"), None);
        assert_eq!(from_hex(""), Some(Bytes::new()));
    }
}
