//! The canonical text of a document once `jsonb` has held it: as everywhere (`event/json`), but for its
//! numbers, which `jsonb` prints without exponent and without negative zero.

use crate::event::json::{Twice, canonical_with};

/// The canonical text of what `jsonb` makes of a document, or why it cannot hold it.
pub(crate) fn jsonb(text: &str) -> Result<String, &'static str> {
    canonical_with(text, Twice::LastCounts, plain)
}

/// A number as the server's `numeric` prints it: the digits given, without exponent.
fn plain(number: &str) -> Result<String, &'static str> {
    if number.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(number.to_owned());
    }
    let bad = "a JSON number is no number";
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i64 = exponent.parse().map_err(|_| bad)?;
    if exponent.abs() > 20_000 {
        return Err("a JSON number is beyond what jsonb holds");
    }
    let (sign, digits) = mantissa.strip_prefix('-').map_or(("", mantissa), |d| ("-", d));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let all: String = format!("{whole}{part}");
    let point = i64::try_from(whole.len()).map_err(|_| bad)? + exponent;
    let places = usize::try_from((i64::try_from(part.len()).map_err(|_| bad)? - exponent).max(0)).map_err(|_| bad)?;
    let at = |i: i64| usize::try_from(i).ok().and_then(|i| all.as_bytes().get(i)).map_or('0', |b| char::from(*b));
    let left: String = (0..point.max(0)).map(at).collect();
    let right: String = (point..point + i64::try_from(places).map_err(|_| bad)?).map(at).collect();
    let left = left.trim_start_matches('0');
    let sign = if all.bytes().all(|b| b == b'0') { "" } else { sign };
    let dot = if right.is_empty() { "" } else { "." };
    Ok(format!("{sign}{}{dot}{right}", if left.is_empty() { "0" } else { left }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::json::canonical;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_as_the_server_prints_them() {
        for (written, stored) in [
            ("1.5e3", "1500"),
            ("1.50", "1.50"),
            ("1.5e-3", "0.0015"),
            ("-0", "0"),
            ("-0.00", "0.00"),
            ("12e-1", "1.2"),
        ] {
            assert_eq!(jsonb(written).unwrap(), stored);
        }
        assert_eq!(jsonb("{\"b\":[1e2],\"a\":1,\"a\":2}").unwrap(), "{\"a\":2,\"b\":[100]}");
        assert!(jsonb("1e20001").is_err());
    }

    proptest! {
        #[test]
        fn what_jsonb_held_is_canonical_and_stays_as_it_is(text in "[\\[\\]{}:,\"a-c0-9 \\\\u.eE+-]{0,60}") {
            if let Ok(once) = jsonb(&text) {
                prop_assert_eq!(&jsonb(&once).unwrap(), &once);
                prop_assert_eq!(canonical(&once, Twice::Refused).unwrap(), once);
            }
        }
    }
}
