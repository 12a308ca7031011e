//! Decimal numbers of any precision, with NaN and the infinities, exact.

use bigdecimal::{BigDecimal, ParseBigDecimalError};
use smallvec::SmallVec;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

/// A decimal number; equal numbers are equal, whatever zeros they were written with.
#[derive(Clone)]
pub enum Decimal {
    /// A number, kept without trailing zeros: make it with `Decimal::finite`.
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
            Decimal::Finite(n) if let Some(text) = print_short(n) => text.iter().map(|b| char::from(*b)).collect(),
            Decimal::Finite(n) if n.fractional_digit_count().unsigned_abs() <= ZEROS_MAX => n.to_plain_string(),
            Decimal::Finite(n) => {
                let (digits, scale) = n.as_bigint_and_scale();
                format!("{digits}e{}", scale.saturating_neg())
            }
            Decimal::NaN => "NaN".into(),
            Decimal::Infinity => "Infinity".into(),
            Decimal::NegInfinity => "-Infinity".into(),
        }
    }
}

impl Decimal {
    /// `number / 10^scale`.
    #[must_use]
    pub fn short(mut number: i64, mut scale: i64) -> Self {
        while number != 0 && number % 10 == 0 {
            number /= 10;
            scale -= 1;
        }
        let scale = if number == 0 { 0 } else { scale };
        Decimal::Finite(Box::new(BigDecimal::new(number.into(), scale)))
    }

    /// `canonical`, in a buffer that needs no memory of its own for an ordinary number.
    #[must_use]
    pub fn canonical_bytes(&self) -> Printed {
        match self {
            Decimal::Finite(n) if let Some(text) = print_short(n) => text,
            other => Printed::from_slice(other.canonical().as_bytes()),
        }
    }
}

/// Room for the text of an ordinary number.
pub type Printed = SmallVec<[u8; 48]>;

/// Numbers without trailing zeros are equal if digits and scale are; the library's comparison would
/// write out the zeros of a huge exponent.
impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Decimal::Finite(a), Decimal::Finite(b)) => a.as_bigint_and_scale() == b.as_bigint_and_scale(),
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl Eq for Decimal {}

impl Hash for Decimal {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        if let Decimal::Finite(number) = self {
            number.as_bigint_and_scale().hash(state);
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
            number if let Some(short) = parse_short(number) => Ok(short),
            number if is_number(number) => BigDecimal::from_str(number).map(|n| Decimal::finite(&n)),
            _ => Err(ParseBigDecimalError::Other(String::from("no decimal number"))),
        }
    }
}

/// The longest number that takes the short way, in digits: an `i64` holds it.
const SHORT_DIGITS_MAX: usize = 18;

/// Reads `-123.45` without the library, which makes and copies several texts on its way.
fn parse_short(text: &str) -> Option<Decimal> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    if digits.is_empty() || digits.len() > SHORT_DIGITS_MAX {
        return None;
    }
    let (mut number, mut scale, mut point, mut any) = (0i64, 0i64, false, false);
    for byte in digits.bytes() {
        match byte {
            b'0'..=b'9' => {
                number = number * 10 + i64::from(byte - b'0');
                scale += i64::from(point);
                any = true;
            }
            b'.' if !point => point = true,
            _ => return None,
        }
    }
    let number = if negative { -number } else { number };
    any.then(|| Decimal::short(number, scale))
}

/// Writes what `parse_short` reads.
fn print_short(number: &BigDecimal) -> Option<Printed> {
    let (digits, scale) = number.as_bigint_and_scale();
    let digits = i64::try_from(&*digits).ok()?;
    let scale = usize::try_from(scale).ok().filter(|&scale| scale <= SHORT_DIGITS_MAX)?;
    // The last digit first; at least one stands before the point.
    let (mut rest, mut out) = (digits.unsigned_abs(), Printed::new());
    while rest > 0 || out.len() <= scale + usize::from(scale > 0) {
        if scale > 0 && out.len() == scale {
            out.push(b'.');
        }
        out.push(b'0' + u8::try_from(rest % 10).unwrap_or_default());
        rest /= 10;
    }
    if digits < 0 {
        out.push(b'-');
    }
    out.reverse();
    Some(out)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn zeros_signs_and_exponents_do_not_make_another_number() {
        for (text, canonical) in [
            ("1.500", "1.5"),
            ("+1.5", "1.5"),
            ("15e-1", "1.5"),
            ("100", "100"),
            ("1E2", "100"),
            (".5", "0.5"),
            ("-0.00", "0"),
            ("0e9", "0"),
            ("NaN", "NaN"),
            ("-Infinity", "-Infinity"),
        ] {
            assert_eq!(number(text).canonical(), canonical, "{text}");
            assert_eq!(number(text), number(canonical));
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", ".", "-", "1_000", "1e", "e1", "0x1", " 1", "1 ", "1.2.3", "--1", "nan", "1e99999999999999"] {
            assert!(text.parse::<Decimal>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_huge_exponent_costs_nothing() {
        let huge = number("1e1000000000000");
        assert_eq!(huge.canonical(), "1e1000000000000");
        assert_eq!(number(&huge.canonical()), huge);
        assert_ne!(huge, number("1"));
        assert_eq!(number("12e-900000").canonical(), "12e-900000");
        std::collections::HashSet::new().insert(huge);
    }

    proptest! {
        /// The short way and the library agree.
        #[test]
        fn short_numbers_are_read_and_written_as_long_ones(digits in any::<i64>(), shift in 0u32..64, scale in -3i64..22) {
            let number = BigDecimal::new((digits >> shift).into(), scale).normalized();
            let printed = Decimal::finite(&number).canonical();
            prop_assert_eq!(&printed, &number.to_plain_string());
            prop_assert_eq!(printed.parse::<Decimal>().unwrap(), Decimal::finite(&number));
            if let Some(short) = parse_short(&printed) {
                prop_assert_eq!(short, Decimal::finite(&BigDecimal::from_str(&printed).unwrap()));
            }
        }

        #[test]
        fn printing_and_parsing_gives_the_same_number(digits in any::<i128>(), scale in -300i64..300, zeros in 0usize..5) {
            let number = Decimal::finite(&BigDecimal::new(digits.into(), scale));
            prop_assert_eq!(&number.canonical().parse::<Decimal>().unwrap(), &number);
            let padded = if scale > 0 { number.canonical() } else { format!("{}.", number.canonical()) };
            if padded.contains('.') {
                prop_assert_eq!(format!("{padded}{}", "0".repeat(zeros)).parse::<Decimal>().unwrap(), number);
            }
        }
    }
}
