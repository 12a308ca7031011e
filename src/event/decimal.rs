//! Decimal numbers of any precision, with NaN and the infinities, exact.

use bigdecimal::{BigDecimal, ParseBigDecimalError};
use std::fmt;
use std::str::FromStr;

/// A decimal number; equal numbers are equal, whatever zeros they were written with.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Decimal {
    /// A number, kept without trailing zeros.
    Finite(Box<BigDecimal>),
    /// Not a number.
    NaN,
    /// Positive infinity.
    Infinity,
    /// Negative infinity.
    NegInfinity,
}

/// Up to this many zeros are written out. Above, the text has an exponent, so that a few bytes of
/// input cannot ask for gigabytes. Beyond what any SQL database holds.
const ZEROS_MAX: u64 = 200_000;
/// The largest exponent read.
const EXPONENT_MAX: i64 = 1 << 40;

impl Decimal {
    /// A finite number.
    #[must_use]
    pub fn finite(number: &BigDecimal) -> Self {
        Decimal::Finite(Box::new(number.normalized()))
    }

    /// The one text of this number: no trailing zeros, and no exponent unless the number is of a
    /// size that no database holds.
    #[must_use]
    pub fn canonical(&self) -> String {
        match self {
            Decimal::Finite(n) if n.fractional_digit_count().unsigned_abs() <= ZEROS_MAX => n.to_plain_string(),
            Decimal::Finite(n) => {
                let (digits, scale) = n.as_bigint_and_exponent();
                format!("{digits}e{}", scale.saturating_neg())
            }
            Decimal::NaN => "NaN".into(),
            Decimal::Infinity => "Infinity".into(),
            Decimal::NegInfinity => "-Infinity".into(),
        }
    }
}

impl FromStr for Decimal {
    type Err = ParseBigDecimalError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "NaN" => Ok(Decimal::NaN),
            "Infinity" | "inf" => Ok(Decimal::Infinity),
            "-Infinity" | "-inf" => Ok(Decimal::NegInfinity),
            number if is_number(number) => BigDecimal::from_str(number).map(|n| Decimal::finite(&n)),
            _ => Err(ParseBigDecimalError::Other(String::from("no decimal number"))),
        }
    }
}

/// Sign, digits with at most one point among them, exponent: the library takes more (`1_000`).
fn is_number(text: &str) -> bool {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, Some(exponent)),
        None => (text, None),
    };
    let number = number.strip_prefix(['-', '+']).unwrap_or(number);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let in_range = |exponent: &str| exponent.parse().is_ok_and(|e: i64| (-EXPONENT_MAX..=EXPONENT_MAX).contains(&e));
    digits(whole) && digits(part) && !(whole.is_empty() && part.is_empty()) && exponent.is_none_or(in_range)
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}
