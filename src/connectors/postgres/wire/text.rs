//! The server's text forms under the session settings of `connection::SESSION`: dates, times,
//! intervals, arrays. Both directions; what is written here is read back as the same value.

use super::cursor::Malformed;
use crate::event::value::Interval;
use std::fmt::Write as _;

const DAY_US: i64 = 86_400_000_000;

/// Days since 1970 of a date of the proleptic Gregorian calendar.
#[must_use]
pub(crate) fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a day since 1970.
#[must_use]
pub(crate) fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, of_year - (153 * shifted_month + 2) / 5 + 1)
}

/// Days since 1970; `i32::MIN` and `i32::MAX` for the infinities.
pub(crate) fn read_date(text: &str) -> Result<i32, Malformed> {
    let bad = Malformed("a date");
    match text {
        "infinity" => return Ok(i32::MAX),
        "-infinity" => return Ok(i32::MIN),
        _ => {}
    }
    let (text, bc) = text.strip_suffix(" BC").map_or((text, false), |t| (t, true));
    let mut parts = text.splitn(3, '-').map(|p| p.parse::<i64>().map_err(|_| bad));
    let mut part = || parts.next().ok_or(bad)?;
    let (year, month, day) = (part()?, part()?, part()?);
    if !(1..=12).contains(&month) || year > 10_000_000 {
        return Err(bad);
    }
    i32::try_from(days(if bc { 1 - year } else { year }, month, day)).map_err(|_| bad)
}

/// The text of a date.
pub(crate) fn write_date(out: &mut String, date: i32) {
    match date {
        i32::MAX => out.push_str("infinity"),
        i32::MIN => out.push_str("-infinity"),
        date => {
            let (year, month, day) = civil(i64::from(date));
            let shown = if year > 0 { year } else { 1 - year };
            let _ = write!(out, "{shown:04}-{month:02}-{day:02}");
            out.push_str(if year > 0 { "" } else { " BC" });
        }
    }
}

/// Microseconds since midnight.
pub(crate) fn read_time(text: &str) -> Result<i64, Malformed> {
    let bad = Malformed("a time");
    let mut parts = text.splitn(3, ':');
    let mut part = || parts.next().ok_or(bad);
    let number = |p: &str| p.parse::<i64>().map_err(|_| bad);
    let (hours, minutes) = (number(part()?)?, number(part()?)?);
    Ok((hours * 60 + minutes) * 60_000_000 + read_seconds(part()?).ok_or(bad)?)
}

/// Seconds with a fraction, in microseconds.
fn read_seconds(text: &str) -> Option<i64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let negative = whole.starts_with('-');
    let whole: i64 = whole.parse().ok()?;
    let mut micros: i64 = if part.is_empty() { 0 } else { part.get(..part.len().min(6))?.parse().ok()? };
    (part.len()..6).for_each(|_| micros *= 10);
    whole.checked_mul(1_000_000)?.checked_add(if negative { -micros } else { micros })
}

/// The text of a time of day.
pub(crate) fn write_time(out: &mut String, micros: i64) {
    let seconds = micros / 1_000_000;
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    write_fraction(out, micros % 1_000_000);
}

fn write_fraction(out: &mut String, micros: i64) {
    if micros != 0 {
        let digits = format!("{micros:06}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
}

/// Microseconds since midnight, and seconds east of UTC.
pub(crate) fn read_time_tz(text: &str) -> Result<(i64, i32), Malformed> {
    let bad = Malformed("a time with its zone");
    let at = text.rfind(['+', '-']).ok_or(bad)?;
    let (time, zone) = text.split_at_checked(at).ok_or(bad)?;
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let mut seconds = 0;
    for (part, unit) in zone.get(1..).ok_or(bad)?.split(':').zip([3600, 60, 1]) {
        seconds += part.parse::<i32>().map_err(|_| bad)? * unit;
    }
    Ok((read_time(time)?, sign * seconds))
}

/// The text of a time of day with its zone.
pub(crate) fn write_time_tz(out: &mut String, micros: i64, east: i32) {
    write_time(out, micros);
    let zone = east.unsigned_abs();
    let _ =
        write!(out, "{}{:02}:{:02}:{:02}", if east < 0 { '-' } else { '+' }, zone / 3600, zone / 60 % 60, zone % 60);
}

/// Microseconds since 1970; the extremes for the infinities. A zone can only be UTC here.
pub(crate) fn read_timestamp(text: &str) -> Result<i64, Malformed> {
    let bad = Malformed("a timestamp");
    match text {
        "infinity" => return Ok(i64::MAX),
        "-infinity" => return Ok(i64::MIN),
        _ => {}
    }
    let (text, era) = text.strip_suffix(" BC").map_or((text, ""), |t| (t, " BC"));
    let (date, time) = text.split_once(' ').ok_or(bad)?;
    let time = read_time(time.strip_suffix("+00").unwrap_or(time))?;
    let date = read_date(&format!("{date}{era}"))?;
    i64::from(date).checked_mul(DAY_US).and_then(|d| d.checked_add(time)).ok_or(bad)
}

/// The text of a timestamp; with `zone` it says that it is UTC.
pub(crate) fn write_timestamp(out: &mut String, micros: i64, zone: bool) {
    match micros {
        i64::MAX => out.push_str("infinity"),
        i64::MIN => out.push_str("-infinity"),
        micros => {
            let date = micros.div_euclid(DAY_US);
            let (year, month, day) = civil(date);
            let shown = if year > 0 { year } else { 1 - year };
            let _ = write!(out, "{shown:04}-{month:02}-{day:02} ");
            write_time(out, micros.rem_euclid(DAY_US));
            out.push_str(if zone { "+00" } else { "" });
            out.push_str(if year > 0 { "" } else { " BC" });
        }
    }
}

/// An interval in ISO 8601 form, each part with its own sign.
pub(crate) fn read_interval(text: &str) -> Result<Interval, Malformed> {
    let bad = Malformed("an interval");
    match text {
        "infinity" => return Ok(Interval { months: i32::MAX, days: i32::MAX, micros: i64::MAX }),
        "-infinity" => return Ok(Interval { months: i32::MIN, days: i32::MIN, micros: i64::MIN }),
        _ => {}
    }
    let mut rest = text.strip_prefix('P').ok_or(bad)?;
    let (mut months, mut days, mut micros, mut time) = (0i64, 0i64, 0i64, false);
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('T') {
            (time, rest) = (true, after);
            continue;
        }
        let end = rest.find(|c: char| c.is_ascii_alphabetic()).ok_or(bad)?;
        let (number, after) = rest.split_at_checked(end).ok_or(bad)?;
        let unit = after.chars().next().ok_or(bad)?;
        rest = after.get(1..).ok_or(bad)?;
        let scaled = |unit: i64| number.parse::<i64>().ok().and_then(|n| n.checked_mul(unit)).ok_or(bad);
        let (sum, add) = match (unit, time) {
            ('Y', false) => (&mut months, scaled(12)?),
            ('M', false) => (&mut months, scaled(1)?),
            ('W', false) => (&mut days, scaled(7)?),
            ('D', false) => (&mut days, scaled(1)?),
            ('H', true) => (&mut micros, scaled(3_600_000_000)?),
            ('M', true) => (&mut micros, scaled(60_000_000)?),
            ('S', true) => (&mut micros, read_seconds(number).ok_or(bad)?),
            _ => return Err(bad),
        };
        *sum = sum.checked_add(add).ok_or(bad)?;
    }
    let narrow = |n: i64| i32::try_from(n).map_err(|_| bad);
    Ok(Interval { months: narrow(months)?, days: narrow(days)?, micros })
}

/// The text of an interval.
pub(crate) fn write_interval(out: &mut String, interval: Interval) {
    let Interval { months, days, micros } = interval;
    if (months, days, micros) == (i32::MAX, i32::MAX, i64::MAX) {
        return out.push_str("infinity");
    }
    if (months, days, micros) == (i32::MIN, i32::MIN, i64::MIN) {
        return out.push_str("-infinity");
    }
    let sign = if micros < 0 { "-" } else { "" };
    let size = micros.unsigned_abs();
    let _ = write!(out, "P{months}M{days}DT{sign}{}", size / 1_000_000);
    write_fraction(out, i64::try_from(size % 1_000_000).unwrap_or(0));
    out.push('S');
}

/// The elements of an array of one dimension that counts from 1; `None` for null.
pub(crate) fn read_array(text: &str) -> Result<Vec<Option<String>>, Malformed> {
    let bad = Malformed("an array: only arrays of one dimension that count from 1 are supported");
    let mut rest = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')).ok_or(bad)?.chars();
    let mut items = Vec::new();
    if rest.as_str().is_empty() {
        return Ok(items);
    }
    loop {
        let (mut item, mut quoted, mut inside) = (String::new(), false, false);
        let more = loop {
            match rest.next() {
                None if inside => return Err(bad),
                None => break false,
                Some('"') => (quoted, inside) = (true, !inside),
                Some('\\') => item.push(rest.next().ok_or(bad)?),
                Some(',') if !inside => break true,
                Some('{' | '}') if !inside => return Err(bad),
                Some(c) => item.push(c),
            }
        };
        items.push((quoted || item != "NULL").then_some(item));
        if !more {
            return Ok(items);
        }
    }
}

/// Adds an element to an array's text; begin with an empty `out` and close with `}`.
pub(crate) fn write_element(out: &mut String, item: Option<&str>) {
    out.push(if out.is_empty() { '{' } else { ',' });
    let Some(item) = item else { return out.push_str("NULL") };
    out.push('"');
    for c in item.chars() {
        if matches!(c, '"' | '\\') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(write: impl FnOnce(&mut String)) -> String {
        let mut out = String::new();
        write(&mut out);
        out
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            date in -2_400_000i32..2_000_000, time in 0i64..=DAY_US, zone in -57_599i32..57_599,
            at in -200_000_000_000_000_000i64..200_000_000_000_000_000,
            months in -100_000i32..100_000, day in any::<i32>(), micros in any::<i64>(),
            items in proptest::collection::vec(proptest::option::of(".{0,8}"), 0..6),
        ) {
            prop_assert_eq!(read_date(&written(|o| write_date(o, date))).unwrap(), date);
            prop_assert_eq!(read_time(&written(|o| write_time(o, time))).unwrap(), time);
            prop_assert_eq!(read_time_tz(&written(|o| write_time_tz(o, time, zone))).unwrap(), (time, zone));
            prop_assert_eq!(read_timestamp(&written(|o| write_timestamp(o, at, true))).unwrap(), at);
            let interval = Interval { months, days: day, micros: micros.max(i64::MIN + 1) };
            prop_assert_eq!(read_interval(&written(|o| write_interval(o, interval))).unwrap(), interval);
            let mut array = String::new();
            items.iter().for_each(|i| write_element(&mut array, i.as_deref()));
            let text = if array.is_empty() { "{}".to_owned() } else { array + "}" };
            prop_assert_eq!(read_array(&text).unwrap(), items);
        }

        #[test]
        fn no_text_makes_the_readers_panic(text in "[-+PTYMDHS0-9.: {}\",\\\\BC]{0,40}") {
            let _ = (read_date(&text), read_time(&text), read_time_tz(&text), read_timestamp(&text));
            let _ = (read_interval(&text), read_array(&text));
        }
    }
}
