//! Dates, times and intervals as text: the form SQLite's own functions understand, with up to six
//! digits of fraction. What has more, or no such date, is refused.

use crate::event::value::Interval;

const DAY_US: i64 = 86_400_000_000;
const FOREVER: &str = "infinity";
const ALWAYS: &str = "-infinity";

/// `YYYY-MM-DD`, with a sign if the year has not four digits.
pub(crate) fn date_text(days: i32) -> String {
    match days {
        i32::MAX => FOREVER.into(),
        i32::MIN => ALWAYS.into(),
        days => civil_text(i64::from(days)),
    }
}

/// The days since 1970-01-01.
pub(crate) fn date_of(text: &str) -> Option<i32> {
    match text {
        FOREVER => Some(i32::MAX),
        ALWAYS => Some(i32::MIN),
        text => i32::try_from(civil_of(text)?).ok().filter(|d| !matches!(*d, i32::MIN | i32::MAX)),
    }
}

/// `HH:MM:SS[.ffffff]`.
pub(crate) fn time_text(us: i64) -> String {
    let (seconds, fraction) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    match fraction {
        0 => clock,
        f if f % 1000 == 0 => format!("{clock}.{:03}", f / 1000),
        f => format!("{clock}.{f:06}"),
    }
}

/// Whether a count of microseconds is a time of day; midnight at the end of the day is one.
pub(crate) fn is_time(us: i64) -> bool {
    (0..=DAY_US).contains(&us)
}

/// Microseconds since midnight.
pub(crate) fn time_of(text: &str) -> Option<i64> {
    let (clock, fraction) = text.split_once('.').map_or((text, None), |(c, f)| (c, Some(f)));
    let mut parts = clock.split(':').map(|p| digits(p, 2));
    let (h, m, s) = (parts.next()??, parts.next()??, parts.next().unwrap_or(Some(0))?);
    let us = fraction.map_or(Some(0), fraction_of)?;
    let whole = ((h * 60 + m) * 60 + s) * 1_000_000 + us;
    (parts.next().is_none() && m < 60 && s < 60 && is_time(whole)).then_some(whole)
}

/// A time of day with its zone.
pub(crate) fn time_tz_text(us: i64, zone_s: i32) -> String {
    format!("{}{}", time_text(us), zone_text(zone_s))
}

/// A time of day and its zone's offset in seconds.
pub(crate) fn time_tz_of(text: &str) -> Option<(i64, i32)> {
    let (time, zone) = split_zone(text);
    Some((time_of(time)?, zone_of(zone?)?))
}

/// `YYYY-MM-DD HH:MM:SS[.ffffff]`, with `+00:00` if it is an instant.
pub(crate) fn timestamp_text(us: i64, zone: bool) -> String {
    match us {
        i64::MAX => FOREVER.into(),
        i64::MIN => ALWAYS.into(),
        us => {
            let suffix = if zone { "+00:00" } else { "" };
            format!("{} {}{suffix}", civil_text(us.div_euclid(DAY_US)), time_text(us.rem_euclid(DAY_US)))
        }
    }
}

/// Microseconds since 1970. An instant without a zone is UTC, as SQLite's own functions say; a local
/// time with a zone is refused.
pub(crate) fn timestamp_of(text: &str, zone: bool) -> Option<i64> {
    match text {
        FOREVER => return Some(i64::MAX),
        ALWAYS => return Some(i64::MIN),
        _ => {}
    }
    let (day, clock) = text.split_once([' ', 'T'])?;
    let (clock, offset) = split_zone(clock);
    let offset_s = match (zone, offset) {
        (_, None) => 0,
        (true, Some(offset)) => zone_of(offset)?,
        (false, Some(_)) => return None,
    };
    let days_us = civil_of(day)?.checked_mul(DAY_US)?;
    let us = days_us.checked_add(time_of(clock)?)?.checked_sub(i64::from(offset_s) * 1_000_000)?;
    (!matches!(us, i64::MIN | i64::MAX)).then_some(us)
}

/// `P<months>M<days>DT<seconds>S`, each with its sign.
pub(crate) fn interval_text(i: Interval) -> String {
    let (sign, us) = (if i.micros < 0 { "-" } else { "" }, i.micros.unsigned_abs());
    format!("P{}M{}DT{sign}{}.{:06}S", i.months, i.days, us / 1_000_000, us % 1_000_000)
}

/// What `interval_text` wrote.
pub(crate) fn interval_of(text: &str) -> Option<Interval> {
    let (months, rest) = text.strip_prefix('P')?.split_once('M')?;
    let (days, rest) = rest.split_once("DT")?;
    let (seconds, fraction) = rest.strip_suffix('S')?.split_once('.')?;
    let negative = seconds.starts_with('-');
    let whole = i128::from(digits(seconds.strip_prefix('-').unwrap_or(seconds), 0)?) * 1_000_000;
    let us = whole + i128::from(digits(fraction, 6)?);
    let micros = i64::try_from(if negative { -us } else { us }).ok()?;
    let interval = Interval { months: months.parse().ok()?, days: days.parse().ok()?, micros };
    (interval_text(interval) == text).then_some(interval)
}

/// A non-negative number of `width` digits, or of any width for 0.
fn digits(text: &str, width: usize) -> Option<i64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (width == 0 || text.len() == width);
    if plain { text.parse().ok() } else { None }
}

/// Microseconds of a fraction; digits beyond the sixth must be zeros.
fn fraction_of(text: &str) -> Option<i64> {
    digits(text, 0)?;
    let (kept, beyond) = text.split_at(text.len().min(6));
    let missing = u32::try_from(6 - kept.len()).ok()?;
    beyond.bytes().all(|b| b == b'0').then_some(kept.parse::<i64>().ok()? * 10_i64.pow(missing))
}

fn zone_text(seconds: i32) -> String {
    let (sign, s) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs());
    let hours = format!("{sign}{:02}:{:02}", s / 3600, s / 60 % 60);
    if s % 60 == 0 { hours } else { format!("{hours}:{:02}", s % 60) }
}

fn zone_of(text: &str) -> Option<i32> {
    if text == "Z" {
        return Some(0);
    }
    let negative = text.starts_with('-');
    let us = time_of(text.get(1..)?)?;
    let seconds = i32::try_from(us / 1_000_000).ok().filter(|_| us % 1_000_000 == 0)?;
    Some(if negative { -seconds } else { seconds })
}

/// Splits a clock from its zone.
fn split_zone(text: &str) -> (&str, Option<&str>) {
    match text.find(['Z', '+', '-']) {
        Some(at) => (&text[..at], Some(&text[at..])),
        None => (text, None),
    }
}

fn civil_text(days: i64) -> String {
    let (y, m, d) = civil(days);
    if (0..=9999).contains(&y) { format!("{y:04}-{m:02}-{d:02}") } else { format!("{y:+05}-{m:02}-{d:02}") }
}

fn civil_of(text: &str) -> Option<i64> {
    let (negative, plain) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut parts = plain.split('-');
    let (y, m, d) = (parts.next()?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    let y = digits(y, 0).filter(|n| (4..=7).contains(&y.len()) && *n < 6_000_000)?;
    let y = if negative { -y } else { y };
    let days = days_of(y, m, d);
    (parts.next().is_none() && civil(days) == (y, m, d)).then_some(days)
}

/// Days since 1970-01-01 of a date in the Gregorian calendar; years begin in March, so that the day
/// that may be missing is the last one.
fn days_of(y: i64, m: i64, d: i64) -> i64 {
    let y = if m <= 2 { y - 1 } else { y };
    let (era, of_era) = (y.div_euclid(400), y.rem_euclid(400));
    let of_year = (153 * ((m + 9) % 12) + 2) / 5 + d - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date of a count of days since 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month, of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_date_time_and_interval_survives_its_text(
            days in any::<i32>().prop_map(|d| d / 4), us in 0..=DAY_US, at in any::<i64>(), zone in -57_599..57_600_i32,
            months in any::<i32>(), micros in any::<i64>(),
        ) {
            prop_assert_eq!(date_of(&date_text(days)), Some(days));
            prop_assert_eq!(time_of(&time_text(us)), Some(us));
            prop_assert_eq!(time_tz_of(&time_tz_text(us, zone)), Some((us, zone)));
            prop_assert_eq!(timestamp_of(&timestamp_text(at, true), true), Some(at));
            prop_assert_eq!(timestamp_of(&timestamp_text(at, false), false), Some(at));
            let interval = Interval { months, days, micros };
            prop_assert_eq!(interval_of(&interval_text(interval)), Some(interval));
        }
    }

    #[test]
    fn dates_that_do_not_exist_and_finer_times_are_refused() {
        for text in ["2023-02-29", "2023-13-01", "2023-1-1", "today", "2023-01-01 ", "-infinit"] {
            assert_eq!(date_of(text), None, "{text}");
        }
        for text in ["24:00:01", "12:60", "1:00", "12:00:00.1234567", "12:00:00."] {
            assert_eq!(time_of(text), None, "{text}");
        }
        assert_eq!(timestamp_of("2024-02-29 10:00:00+02:00", false), None, "a zone on a local time");
    }

    #[test]
    fn the_forms_sqlite_writes_are_understood() {
        assert_eq!(date_of("2000-03-01"), Some(11_017));
        assert_eq!(time_of("12:34"), Some(45_240_000_000));
        assert_eq!(timestamp_of("1970-01-02T00:00:00.5Z", true), Some(DAY_US + 500_000));
        assert_eq!(timestamp_of("1970-01-01 02:00:00+02:00", true), Some(0));
        assert_eq!(timestamp_text(0, false), "1970-01-01 00:00:00");
    }
}
