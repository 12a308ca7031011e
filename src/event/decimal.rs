//! Decimal numbers of any precision, with NaN and the infinities, exact.

use bigdecimal::BigDecimal;
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

impl Decimal {
    /// A finite number.
    #[must_use]
    pub fn finite(number: &BigDecimal) -> Self {
        Decimal::Finite(Box::new(number.normalized()))
    }

    /// The one text of this number: no exponent, no trailing zeros.
    #[must_use]
    pub fn canonical(&self) -> String {
        match self {
            Decimal::Finite(n) => n.to_plain_string(),
            Decimal::NaN => "NaN".into(),
            Decimal::Infinity => "Infinity".into(),
            Decimal::NegInfinity => "-Infinity".into(),
        }
    }
}

impl FromStr for Decimal {
    type Err = bigdecimal::ParseBigDecimalError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "NaN" => Ok(Decimal::NaN),
            "Infinity" | "inf" => Ok(Decimal::Infinity),
            "-Infinity" | "-inf" => Ok(Decimal::NegInfinity),
            number => BigDecimal::from_str(number).map(|n| Decimal::finite(&n)),
        }
    }
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
