//! `numeric` in the server's binary form, both ways; exact, whatever the number of digits.

use super::cursor::{Cursor, Malformed};
use crate::event::decimal::Decimal;
use bigdecimal::BigDecimal;
use bigdecimal::num_bigint::{BigInt, Sign};
use bytes::{BufMut as _, BytesMut};
use smallvec::SmallVec;

/// Digits to the base of 10 000, the first of weight 10 000^weight.
pub(crate) fn read_numeric(c: &mut Cursor<'_>) -> Result<Decimal, Malformed> {
    let (count, weight, sign) = (c.u16()?, c.i16()?, c.u16()?);
    c.u16()?;
    match sign {
        0xc000 => return Ok(Decimal::NaN),
        0xd000 => return Ok(Decimal::Infinity),
        0xf000 => return Ok(Decimal::NegInfinity),
        0 | 0x4000 => {}
        _ => return Err(Malformed("a numeric")),
    }
    let scale = 4 * (i64::from(count) - 1 - i64::from(weight));
    if count <= 4 {
        let mut sum: i64 = 0;
        for _ in 0..count {
            sum = sum * 10_000 + i64::from(c.u16()?);
        }
        return Ok(Decimal::short(if sign == 0x4000 { -sum } else { sum }, scale));
    }
    let digits = if count <= 9 {
        let mut sum: i128 = 0;
        for _ in 0..count {
            sum = sum * 10_000 + i128::from(c.u16()?);
        }
        BigInt::from(sum)
    } else {
        let mut text = String::with_capacity(usize::from(count) * 4);
        for _ in 0..count {
            text.push_str(&format!("{:04}", c.u16()?));
        }
        BigInt::parse_bytes(text.as_bytes(), 10).ok_or(Malformed("a numeric"))?
    };
    let digits = if sign == 0x4000 { -digits } else { digits };
    Ok(Decimal::finite(&BigDecimal::new(digits, scale)))
}

/// Writes a number in that form.
pub(crate) fn write_numeric(decimal: &Decimal, out: &mut BytesMut) -> Result<(), Malformed> {
    let head = |out: &mut BytesMut, count: u16, weight: i16, sign: u16, places: u16| {
        out.put_u16(count);
        out.put_i16(weight);
        out.put_u16(sign);
        out.put_u16(places);
        Ok(())
    };
    let number = match decimal {
        Decimal::NaN => return head(out, 0, 0, 0xc000, 0),
        Decimal::Infinity => return head(out, 0, 0, 0xd000, 0),
        Decimal::NegInfinity => return head(out, 0, 0, 0xf000, 0),
        Decimal::Finite(number) => number,
    };
    let large = Malformed("a numeric beyond what the server holds");
    let (digits, scale) = number.as_bigint_and_scale();
    if !(-131_072..=16_383).contains(&scale) {
        return Err(large);
    }
    let places = u16::try_from(scale.max(0)).map_err(|_| large)?;
    let sign = if digits.sign() == Sign::Minus { 0x4000 } else { 0 };
    if let (Ok(short), Ok(scale @ 0..=18)) = (u64::try_from(digits.magnitude()), u32::try_from(scale)) {
        let groups = short_groups(short, scale);
        let count = i16::try_from(groups.len()).map_err(|_| large)?;
        let behind = i16::try_from(scale.div_ceil(4)).map_err(|_| large)?;
        head(out, count.cast_unsigned(), count.max(1) - behind - 1, sign, places)?;
        groups.iter().rev().for_each(|g| out.put_u16(*g));
        return Ok(());
    }
    let mut text = digits.magnitude().to_string();
    // Zeros at the end until the point stands between two groups of four digits.
    let pad = if scale < 0 { -scale } else { (4 - scale % 4) % 4 };
    text.extend(std::iter::repeat_n('0', usize::try_from(pad).map_err(|_| large)?));
    let behind = (scale.max(0) + 3) / 4;
    let lead = (4 - text.len() % 4) % 4;
    text.insert_str(0, "000".get(..lead).unwrap_or_default());
    let groups = text.as_bytes().chunks(4).map(|g| g.iter().fold(0u16, |n, b| n * 10 + u16::from(b - b'0')));
    let groups: Vec<u16> = groups.collect();
    let weight = i16::try_from(i64::try_from(groups.len()).map_err(|_| large)? - behind - 1).map_err(|_| large)?;
    head(out, u16::try_from(groups.len()).map_err(|_| large)?, weight, sign, places)?;
    groups.into_iter().for_each(|g| out.put_u16(g));
    Ok(())
}

/// The groups of four digits of `digits / 10^scale`, the last one first.
fn short_groups(digits: u64, scale: u32) -> SmallVec<[u16; 10]> {
    let mut rest = u128::from(digits) * 10u128.pow((4 - scale % 4) % 4);
    let mut groups = SmallVec::new();
    while rest > 0 {
        groups.push((rest % 10_000) as u16);
        rest /= 10_000;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    fn written(number: &Decimal) -> Bytes {
        let mut out = BytesMut::new();
        write_numeric(number, &mut out).unwrap();
        out.freeze()
    }

    proptest! {
        #[test]
        fn numbers_short_and_long_are_read_as_they_were_written(digits in any::<i128>(), shift in 0u32..128, scale in -40i64..40) {
            let number = Decimal::finite(&BigDecimal::new(BigInt::from(digits >> shift), scale));
            let bytes = written(&number);
            prop_assert_eq!(read_numeric(&mut Cursor::new(&bytes)).unwrap(), number);
        }
    }

    /// The server's own form: no group of zeros at either end, and the weight of the first group.
    #[test]
    fn the_form_is_the_servers() {
        for (text, form) in [
            ("0", vec![0, 0, 0, 0]),
            ("1", vec![1, 0, 0, 0, 1]),
            ("-12345.678", vec![3, 1, 0x4000, 3, 1, 2345, 6780]),
            ("0.0001", vec![1, 0xffff, 0, 4, 1]),
            ("0.00000001", vec![1, 0xfffe, 0, 8, 1]),
        ] {
            let bytes = written(&text.parse().unwrap());
            let words: Vec<u16> = bytes.chunks(2).map(|w| u16::from_be_bytes([w[0], w[1]])).collect();
            assert_eq!(words, form, "{text}");
        }
    }
}
