//! A place in the server's log. A transaction's position is the *end* of its commit record, so that a
//! position can be confirmed to the server as it is.

use crate::event::Position;
use crate::runtime::error::{Code, Error, Result};

/// Reads the server's `16/B374D848`.
pub(crate) fn read_lsn(text: &str) -> Result<u64> {
    let parts = text.split_once('/').and_then(|(high, low)| {
        Some(u64::from_str_radix(high, 16).ok()? << 32 | u64::from(u32::from_str_radix(low, 16).ok()?))
    });
    parts
        .ok_or_else(|| Error::new(Code::Unexpected, "the server sent a log position that is none").at("position", text))
}

/// Writes a position as the server does.
#[must_use]
pub(crate) fn write_lsn(lsn: u64) -> String {
    format!("{:X}/{:X}", lsn >> 32, lsn & 0xffff_ffff)
}

/// What the server may be told is finished. Inside of a transaction that is nothing new: a confirmed
/// end would lose the rest, and there is no smaller place that keeps it.
#[must_use]
pub(crate) fn confirmable(through: Position) -> Option<u64> {
    (through.ordinal == u64::MAX).then_some(through.commit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_written_as_the_server_does() {
        assert_eq!(read_lsn("16/B374D848").unwrap(), 0x16_b374_d848);
        assert_eq!(write_lsn(0x16_b374_d848), "16/B374D848");
        assert!(read_lsn("16").is_err());
    }

    #[test]
    fn the_inside_of_a_transaction_cannot_be_confirmed() {
        assert_eq!(confirmable(Position::new(7, 3)), None);
        assert_eq!(confirmable(Position::end_of(7)), Some(7));
    }
}
