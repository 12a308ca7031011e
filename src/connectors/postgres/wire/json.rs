//! JSON in canonical text: no spaces, keys sorted, the last of equal keys, numbers as written. The
//! same document is the same text whether it was stored as `json` or as `jsonb`, but for its numbers.

use super::cursor::Malformed;
use std::fmt::Write as _;

/// Deeper documents are refused; the server's own limit is its stack.
const DEPTH_MAX: usize = 500;

/// What is done with numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Numbers {
    /// Left as they are.
    AsWritten,
    /// As `jsonb` prints them: no exponent, no negative zero.
    Jsonb,
}

/// The canonical text of a document.
pub(crate) fn canonical(text: &str, numbers: Numbers) -> Result<String, Malformed> {
    let mut parser = Parser { rest: text, numbers };
    let mut out = String::with_capacity(text.len());
    parser.value(&mut out, 0)?;
    parser.blank();
    if parser.rest.is_empty() { Ok(out) } else { Err(Malformed("JSON goes on behind its end")) }
}

struct Parser<'a> {
    rest: &'a str,
    numbers: Numbers,
}

impl<'a> Parser<'a> {
    fn blank(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn eat(&mut self, what: &str) -> bool {
        self.blank();
        let found = self.rest.strip_prefix(what);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn value(&mut self, out: &mut String, depth: usize) -> Result<(), Malformed> {
        if depth > DEPTH_MAX {
            return Err(Malformed("JSON nested deeper than 500 levels"));
        }
        self.blank();
        match self.rest.as_bytes().first() {
            Some(b'{') => self.object(out, depth),
            Some(b'[') => self.array(out, depth),
            Some(b'"') => {
                self.string(out)?;
                Ok(())
            }
            _ => self.word(out),
        }
    }

    fn object(&mut self, out: &mut String, depth: usize) -> Result<(), Malformed> {
        self.eat("{");
        let mut members: Vec<(String, String, String)> = Vec::new();
        while !self.eat("}") {
            if !members.is_empty() && !self.eat(",") {
                return Err(Malformed("a JSON object lacks a comma"));
            }
            self.blank();
            let (mut written, mut value) = (String::new(), String::new());
            let key = self.string(&mut written)?;
            if !self.eat(":") {
                return Err(Malformed("a JSON object lacks a colon"));
            }
            self.value(&mut value, depth + 1)?;
            members.push((key, written, value));
        }
        members.sort_by(|a, b| a.0.cmp(&b.0));
        out.push('{');
        let mut first = true;
        for (i, (key, written, value)) in members.iter().enumerate() {
            if members.get(i + 1).is_some_and(|next| next.0 == *key) {
                continue;
            }
            if !std::mem::take(&mut first) {
                out.push(',');
            }
            out.push_str(written);
            out.push(':');
            out.push_str(value);
        }
        out.push('}');
        Ok(())
    }

    fn array(&mut self, out: &mut String, depth: usize) -> Result<(), Malformed> {
        self.eat("[");
        out.push('[');
        let mut first = true;
        while !self.eat("]") {
            if !std::mem::take(&mut first) {
                if !self.eat(",") {
                    return Err(Malformed("a JSON array lacks a comma"));
                }
                out.push(',');
            }
            self.value(out, depth + 1)?;
        }
        out.push(']');
        Ok(())
    }

    /// Writes the string as it is written canonically, and returns what it says.
    fn string(&mut self, out: &mut String) -> Result<String, Malformed> {
        self.rest = self.rest.strip_prefix('"').ok_or(Malformed("a JSON key is no string"))?;
        let mut said = String::new();
        out.push('"');
        loop {
            let mut characters = self.rest.chars();
            let c = characters.next().ok_or(Malformed("a JSON string has no end"))?;
            self.rest = characters.as_str();
            match c {
                '"' => break,
                '\\' => self.escape(out, &mut said)?,
                c => put(c, out, &mut said),
            }
        }
        out.push('"');
        Ok(said)
    }

    fn escape(&mut self, out: &mut String, said: &mut String) -> Result<(), Malformed> {
        let mut characters = self.rest.chars();
        let c = characters.next().ok_or(Malformed("a JSON string has no end"))?;
        self.rest = characters.as_str();
        match c {
            'n' => put('\n', out, said),
            'r' => put('\r', out, said),
            't' => put('\t', out, said),
            'b' => put('\u{8}', out, said),
            'f' => put('\u{c}', out, said),
            'u' => {
                let first = self.hex()?;
                if let Some(c) = char::from_u32(first) {
                    put(c, out, said);
                } else if let Some(c) = self.second_half(first) {
                    put(c, out, said);
                } else {
                    // Half a character: `json` can hold it, so it is kept as it is.
                    let _ = write!(out, "\\u{first:04x}");
                    said.push(char::REPLACEMENT_CHARACTER);
                }
            }
            '"' | '\\' | '/' => put(c, out, said),
            _ => return Err(Malformed("a JSON string has an unknown escape")),
        }
        Ok(())
    }

    fn hex(&mut self) -> Result<u32, Malformed> {
        let bad = Malformed("a JSON string has a broken escape");
        let (digits, rest) = self.rest.split_at_checked(4).ok_or(bad)?;
        self.rest = rest;
        u32::from_str_radix(digits, 16).map_err(|_| bad)
    }

    fn second_half(&mut self, first: u32) -> Option<char> {
        let before = self.rest;
        let second = self.rest.strip_prefix("\\u").and_then(|rest| {
            self.rest = rest;
            self.hex().ok()
        });
        let whole = second.filter(|s| (0xdc00..0xe000).contains(s) && (0xd800..0xdc00).contains(&first));
        let c = whole.and_then(|s| char::from_u32(0x10000 + ((first - 0xd800) << 10) + (s - 0xdc00)));
        if c.is_none() {
            self.rest = before;
        }
        c
    }

    fn word(&mut self, out: &mut String) -> Result<(), Malformed> {
        let end = self.rest.find([',', ']', '}', ' ', '\t', '\n', '\r', ':']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        match word {
            "true" | "false" | "null" => out.push_str(word),
            number if is_number(number) => match self.numbers {
                Numbers::AsWritten => out.push_str(number),
                Numbers::Jsonb => out.push_str(&plain(number)?),
            },
            _ => return Err(Malformed("a JSON value is no value")),
        }
        Ok(())
    }
}

fn put(c: char, out: &mut String, said: &mut String) {
    said.push(c);
    match c {
        '"' => out.push_str("\\\""),
        '\\' => out.push_str("\\\\"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        c if c < ' ' => {
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        }
        c => out.push(c),
    }
}

fn is_number(word: &str) -> bool {
    word.starts_with(|c: char| c == '-' || c.is_ascii_digit())
        && word.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'-' | b'+' | b'.' | b'e' | b'E'))
}

/// A number as the server's `numeric` prints it: the digits given, without exponent.
fn plain(number: &str) -> Result<String, Malformed> {
    let bad = Malformed("a JSON number is no number");
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i64 = exponent.parse().map_err(|_| bad)?;
    if exponent.abs() > 20_000 {
        return Err(Malformed("a JSON number is beyond what jsonb holds"));
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
    use proptest::prelude::*;

    #[test]
    fn a_document_has_one_text() {
        let written = " {\"b\" : [1, 2.50 ,-0.0e2, {}], \"a\":\"\\u00e9\\u0001\\ud83d\\ude00/\\/\", \"b\\u0062\":null, \"a\": true}";
        assert_eq!(
            canonical(written, Numbers::AsWritten).unwrap(),
            "{\"a\":true,\"b\":[1,2.50,-0.0e2,{}],\"bb\":null}"
        );
        assert_eq!(canonical("\"\\u00e9\\ud83d\\ude00\\/\\u001f\"", Numbers::AsWritten).unwrap(), "\"é😀/\\u001f\"");
        assert_eq!(canonical("\"\\ud800x\"", Numbers::AsWritten).unwrap(), "\"\\ud800x\"");
        for (written, stored) in [
            ("1.5e3", "1500"),
            ("1.50", "1.50"),
            ("1.5e-3", "0.0015"),
            ("-0", "0"),
            ("-0.00", "0.00"),
            ("12e-1", "1.2"),
        ] {
            assert_eq!(canonical(written, Numbers::Jsonb).unwrap(), stored);
        }
    }

    proptest! {
        #[test]
        fn canonical_text_stays_as_it_is(text in "[\\[\\]{}:,\"a-c0-9 \\\\u.eE+-]{0,60}") {
            if let Ok(once) = canonical(&text, Numbers::AsWritten) {
                prop_assert_eq!(canonical(&once, Numbers::AsWritten).unwrap(), once);
            }
            let _ = canonical(&text, Numbers::Jsonb);
        }
    }
}
