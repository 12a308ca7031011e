//! Dates and times as text (RFC 3339, years beyond four digits with a sign), exact over the whole
//! range of the values. Does not know time zones by name, and no leap seconds.

use std::fmt::Write;

const DAY_US: i64 = 86_400_000_000;

/// A day, or `infinity` and `-infinity` for the ends of the range.
pub(super) fn date_text(days: i32) -> String {
    match days {
        i32::MIN => "-infinity".into(),
        i32::MAX => "infinity".into(),
        days => ymd(i64::from(days)),
    }
}

/// The inverse of `date_text`.
pub(super) fn parse_date(text: &str) -> Option<i32> {
    match text {
        "-infinity" => Some(i32::MIN),
        "infinity" => Some(i32::MAX),
        text => {
            let mut rest = text;
            let days = i32::try_from(take_ymd(&mut rest)?).ok()?;
            (rest.is_empty() && days != i32::MIN && days != i32::MAX).then_some(days)
        }
    }
}

/// A time of day; `None` if `micros` is none. 24:00:00 is one.
pub(super) fn time_text(micros: i64) -> Option<String> {
    (0..=DAY_US).contains(&micros).then(|| hms(micros))
}

/// The inverse of `time_text`.
pub(super) fn parse_time(text: &str) -> Option<i64> {
    let mut rest = text;
    take_hms(&mut rest).filter(|_| rest.is_empty())
}

/// A time of day with its zone's offset in seconds east of UTC; `None` if it is none.
pub(super) fn time_tz_text(micros: i64, zone_s: i32) -> Option<String> {
    let away = zone_s.unsigned_abs();
    if away >= 86_400 {
        return None;
    }
    let mut text = time_text(micros)?;
    let sign = if zone_s < 0 { '-' } else { '+' };
    write!(text, "{sign}{:02}:{:02}", away / 3600, away / 60 % 60).ok()?;
    if !away.is_multiple_of(60) {
        write!(text, ":{:02}", away % 60).ok()?;
    }
    Some(text)
}

/// The inverse of `time_tz_text`; also takes `Z`.
pub(super) fn parse_time_tz(text: &str) -> Option<(i64, i32)> {
    let mut rest = text;
    let micros = take_hms(&mut rest)?;
    let zone_s = take_zone(&mut rest)?;
    rest.is_empty().then_some((micros, zone_s))
}

/// An instant with `Z` (`zone`), or a local date and time; the ends of the range are infinities.
pub(super) fn timestamp_text(micros: i64, zone: bool) -> String {
    match micros {
        i64::MIN => "-infinity".into(),
        i64::MAX => "infinity".into(),
        micros => {
            let (days, time) = (micros.div_euclid(DAY_US), micros.rem_euclid(DAY_US));
            format!("{}T{}{}", ymd(days), hms(time), if zone { "Z" } else { "" })
        }
    }
}

/// The inverse of `timestamp_text`; an instant may have any offset and loses it, a local time may
/// have none.
pub(super) fn parse_timestamp(text: &str, zone: bool) -> Option<i64> {
    match text {
        "-infinity" => return Some(i64::MIN),
        "infinity" => return Some(i64::MAX),
        _ => {}
    }
    let mut rest = text;
    let days = take_ymd(&mut rest)?;
    rest = rest.strip_prefix(['T', 't', ' '])?;
    let time = take_hms(&mut rest).filter(|&t| t < DAY_US)?;
    let offset_s = if zone { take_zone(&mut rest)? } else { 0 };
    let micros = i128::from(days) * i128::from(DAY_US) + i128::from(time) - i128::from(offset_s) * 1_000_000;
    let micros = i64::try_from(micros).ok()?;
    (rest.is_empty() && micros != i64::MIN && micros != i64::MAX).then_some(micros)
}

/// Days since 1970-01-01 as a date of the proleptic Gregorian calendar, in eras of 400 years that
/// begin on the first of March, so that the leap day is the last of its year.
fn ymd(days: i64) -> String {
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    if (0..=9999).contains(&year) {
        format!("{year:04}-{month:02}-{day_of_month:02}")
    } else {
        format!("{year:+05}-{month:02}-{day_of_month:02}")
    }
}

fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

fn hms(micros: i64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let mut text = format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if fraction != 0 {
        let digits = format!(".{fraction:06}");
        text.push_str(digits.trim_end_matches('0'));
    }
    text
}

fn take_ymd(rest: &mut &str) -> Option<i64> {
    let (sign, signed) = match rest.as_bytes().first()? {
        b'-' => (-1, true),
        b'+' => (1, true),
        _ => (1, false),
    };
    if signed {
        *rest = rest.get(1..)?;
    }
    let end = rest.find('-')?;
    if !(4..=9).contains(&end) || (!signed && end > 4) {
        return None;
    }
    let year = sign * take_digits(rest, end)?;
    let month = take_two(take_char(rest, '-')?)?;
    let day = take_two(take_char(rest, '-')?)?;
    let days = days_of(year, month, day);
    // A day that the month does not have comes back as another date.
    let back = ymd(days);
    let valid = (1..=12).contains(&month) && day >= 1 && back.ends_with(&format!("-{month:02}-{day:02}"));
    valid.then_some(days)
}

fn take_hms(rest: &mut &str) -> Option<i64> {
    let hours = take_two(rest)?;
    let minutes = take_two(take_char(rest, ':')?)?;
    let seconds = take_two(take_char(rest, ':')?)?;
    let mut micros = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000;
    if let Some(after) = rest.strip_prefix('.') {
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let digits = after.get(..end).filter(|d| !d.is_empty())?;
        let (kept, dropped) = digits.split_at(digits.len().min(6));
        if dropped.bytes().any(|d| d != b'0') {
            return None; // P8: finer than a microsecond is not held.
        }
        micros += format!("{kept:0<6}").parse::<i64>().ok()?;
        *rest = after.get(end..)?;
    }
    (minutes < 60 && seconds < 60 && micros <= DAY_US).then_some(micros)
}

fn take_zone(rest: &mut &str) -> Option<i32> {
    if let Some(after) = rest.strip_prefix(['Z', 'z']) {
        *rest = after;
        return Some(0);
    }
    let sign = match rest.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    *rest = rest.get(1..)?;
    let (hours, minutes) = (take_two(rest)?, take_two(take_char(rest, ':')?)?);
    let seconds = if rest.starts_with(':') { take_two(take_char(rest, ':')?)? } else { 0 };
    let offset_s = i32::try_from(hours * 3600 + minutes * 60 + seconds).ok()?;
    (hours < 24 && minutes < 60 && seconds < 60).then_some(sign * offset_s)
}

fn take_char<'a, 'b>(rest: &'a mut &'b str, expected: char) -> Option<&'a mut &'b str> {
    *rest = rest.strip_prefix(expected)?;
    Some(rest)
}

fn take_two(rest: &mut &str) -> Option<i64> {
    take_digits(rest, 2)
}

fn take_digits(rest: &mut &str, count: usize) -> Option<i64> {
    let digits = rest.get(..count).filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
    *rest = rest.get(count..)?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_date_comes_back(days in any::<i32>()) {
            prop_assert_eq!(parse_date(&date_text(days)), Some(days));
        }

        #[test]
        fn every_timestamp_comes_back(micros in any::<i64>(), zone in any::<bool>()) {
            prop_assert_eq!(parse_timestamp(&timestamp_text(micros, zone), zone), Some(micros));
        }

        #[test]
        fn every_time_of_day_comes_back(micros in 0..=DAY_US, zone in -86_399..86_400) {
            prop_assert_eq!(parse_time(&time_text(micros).unwrap()), Some(micros));
            prop_assert_eq!(parse_time_tz(&time_tz_text(micros, zone).unwrap()), Some((micros, zone)));
        }
    }

    #[test]
    fn known_texts_mean_known_instants() {
        assert_eq!(timestamp_text(0, true), "1970-01-01T00:00:00Z");
        assert_eq!(parse_timestamp("2000-02-29T23:59:59.5+02:00", true), Some(951_861_599_500_000));
        assert_eq!(date_text(-719_529), "-0001-12-31");
        assert_eq!(parse_date("2024-02-29"), Some(19_782));
    }

    /// P8
    #[test]
    fn what_is_no_exact_time_is_refused() {
        for text in ["2023-02-29", "2023-13-01", "2023-00-10", "2023-1-01", "12023-01-01", "", "-", "2023-01-01x"] {
            assert_eq!(parse_date(text), None, "{text}");
        }
        for text in
            ["2023-01-01T00:00:00", "2023-01-01T24:00:00Z", "2023-01-01T00:00:60Z", "2023-01-01T00:00:00.0000001Z"]
        {
            assert_eq!(parse_timestamp(text, true), None, "{text}");
        }
        assert_eq!(parse_timestamp("2023-01-01T00:00:00Z", false), None);
    }
}
