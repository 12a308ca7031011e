//! The one canonical text of a JSON document: no spaces, names sorted by what they say, numbers as
//! written, no escape that is not needed. Every connector uses it, so a document has the same
//! fingerprint wherever it was read (P8, value-1). Numbers never pass through a float. It does not
//! compare numbers: `1.0` and `1` are two documents.

use std::fmt::Write as _;

/// Deeper documents are refused, so that no document exhausts the stack.
pub const DEPTH_MAX: usize = 500;

/// What is said of an object that has one name twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Twice {
    /// The document is refused: nobody can say which value counts.
    Refused,
    /// The last value counts: the platform itself reads its documents so.
    LastCounts,
}

/// Why a text has no canonical form.
type Wrong = &'static str;

/// The canonical text of a document, or why there is none.
pub fn canonical(text: &str, twice: Twice) -> Result<String, Wrong> {
    canonical_with(text, twice, |number| Ok(number.to_owned()))
}

/// The same for a platform that keeps numbers in a form of its own: `number` is given each one as
/// written and returns what stands there instead.
pub fn canonical_with<N>(text: &str, twice: Twice, number: N) -> Result<String, Wrong>
where
    N: Fn(&str) -> Result<String, Wrong>,
{
    // Most documents differ from their canonical text by spaces only.
    if let Some(plain) = plain(text, &number) {
        return Ok(plain);
    }
    the_long_way(text, twice, number)
}

fn the_long_way<N>(text: &str, twice: Twice, number: N) -> Result<String, Wrong>
where
    N: Fn(&str) -> Result<String, Wrong>,
{
    let mut parser = Parser { rest: text, twice, number };
    let mut out = String::with_capacity(text.len());
    parser.value(&mut out, 0)?;
    parser.blank();
    if parser.rest.is_empty() { Ok(out) } else { Err("JSON goes on behind its end") }
}

/// The canonical text of a document whose names stand in order already and that has no escapes: in one
/// pass, without a text per member. `None` for all others, also for broken ones.
fn plain<N>(text: &str, number: &N) -> Option<String>
where
    N: Fn(&str) -> Result<String, Wrong>,
{
    let mut plain = Plain { text, at: 0, out: String::with_capacity(text.len()), number };
    plain.value(0)?;
    plain.blank();
    (plain.at == text.len()).then_some(plain.out)
}

struct Plain<'a, N> {
    text: &'a str,
    at: usize,
    out: String,
    number: &'a N,
}

impl<'a, N: Fn(&str) -> Result<String, Wrong>> Plain<'a, N> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// What follows the next blanks, if it is one of two.
    fn either(&mut self, one: u8, other: u8) -> Option<u8> {
        self.blank();
        let found = self.peek().filter(|found| *found == one || *found == other)?;
        self.at += 1;
        self.out.push(char::from(found));
        Some(found)
    }

    fn value(&mut self, depth: usize) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.blank();
        match self.peek()? {
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'"' => self.string().map(drop),
            _ => self.word(),
        }
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        self.either(b'{', b'{')?;
        self.blank();
        if self.peek() == Some(b'}') {
            return self.either(b'}', b'}').map(drop);
        }
        let mut before = None;
        loop {
            self.blank();
            let name = self.string()?;
            // Names say what is written, for there are no escapes.
            if before.replace(name).is_some_and(|before| before >= name) {
                return None;
            }
            self.either(b':', b':')?;
            self.value(depth + 1)?;
            if self.either(b',', b'}')? == b'}' {
                return Some(());
            }
        }
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        self.either(b'[', b'[')?;
        self.blank();
        if self.peek() == Some(b']') {
            return self.either(b']', b']').map(drop);
        }
        loop {
            self.value(depth + 1)?;
            if self.either(b',', b']')? == b']' {
                return Some(());
            }
        }
    }

    /// A string without escapes; returns what stands between its quotes.
    fn string(&mut self) -> Option<&'a [u8]> {
        let inside = self.text.get(self.at..)?.strip_prefix('"')?;
        let length = inside.bytes().position(|b| b == b'"' || b == b'\\' || b < b' ')?;
        let written = inside.get(..length)?;
        if inside.as_bytes().get(length) != Some(&b'"') {
            return None;
        }
        self.out.push('"');
        self.out.push_str(written);
        self.out.push('"');
        self.at += length + 2;
        Some(written.as_bytes())
    }

    fn word(&mut self) -> Option<()> {
        let rest = self.text.get(self.at..)?;
        let ends = |b: u8| matches!(b, b',' | b']' | b'}' | b' ' | b'\t' | b'\n' | b'\r' | b':');
        let word = rest.get(..rest.bytes().position(ends).unwrap_or(rest.len()))?;
        match word {
            "true" | "false" | "null" => self.out.push_str(word),
            number if is_number(number) => self.out.push_str(&(self.number)(number).ok()?),
            _ => return None,
        }
        self.at += word.len();
        Some(())
    }
}

struct Parser<'a, N> {
    rest: &'a str,
    twice: Twice,
    number: N,
}

/// What a name says, its canonical text, and the canonical text of its value.
type Member = (Vec<u8>, String, String);

impl<N: Fn(&str) -> Result<String, Wrong>> Parser<'_, N> {
    fn blank(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\t', '\n', '\r']);
    }

    fn eat(&mut self, what: &str) -> bool {
        self.blank();
        let found = self.rest.strip_prefix(what);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn value(&mut self, out: &mut String, depth: usize) -> Result<(), Wrong> {
        if depth > DEPTH_MAX {
            return Err("JSON nested deeper than 500 levels");
        }
        self.blank();
        match self.rest.as_bytes().first() {
            Some(b'{') => self.object(out, depth),
            Some(b'[') => self.array(out, depth),
            Some(b'"') => self.string(out).map(drop),
            _ => self.word(out),
        }
    }

    fn object(&mut self, out: &mut String, depth: usize) -> Result<(), Wrong> {
        self.eat("{");
        let mut members: Vec<Member> = Vec::new();
        while !self.eat("}") {
            if !members.is_empty() && !self.eat(",") {
                return Err("a JSON object lacks a comma");
            }
            self.blank();
            let (mut written, mut value) = (String::new(), String::new());
            let name = self.string(&mut written)?;
            if !self.eat(":") {
                return Err("a JSON object lacks a colon");
            }
            self.value(&mut value, depth + 1)?;
            members.push((name, written, value));
        }
        // The order of equal names is kept: the last one may have to be found.
        members.sort_by(|a, b| a.0.cmp(&b.0));
        out.push('{');
        let mut first = true;
        for (i, (name, written, value)) in members.iter().enumerate() {
            if members.get(i + 1).is_some_and(|next| next.0 == *name) {
                match self.twice {
                    Twice::Refused => return Err("a name occurs twice in a JSON object"),
                    Twice::LastCounts => continue,
                }
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

    fn array(&mut self, out: &mut String, depth: usize) -> Result<(), Wrong> {
        self.eat("[");
        out.push('[');
        let mut first = true;
        while !self.eat("]") {
            if !std::mem::take(&mut first) {
                if !self.eat(",") {
                    return Err("a JSON array lacks a comma");
                }
                out.push(',');
            }
            self.value(out, depth + 1)?;
        }
        out.push(']');
        Ok(())
    }

    /// Writes the string canonically, and returns what it says: UTF-8, where half a character has the
    /// bytes it would have, so that different names never look equal.
    fn string(&mut self, out: &mut String) -> Result<Vec<u8>, Wrong> {
        self.rest = self.rest.strip_prefix('"').ok_or("a JSON name is no string")?;
        let mut said = Vec::new();
        out.push('"');
        loop {
            match self.next()? {
                '"' => break,
                '\\' => self.escape(out, &mut said)?,
                c if c < ' ' => return Err("a JSON string has a control character"),
                c => put(c, out, &mut said),
            }
        }
        out.push('"');
        Ok(said)
    }

    fn next(&mut self) -> Result<char, Wrong> {
        let mut characters = self.rest.chars();
        let c = characters.next().ok_or("a JSON string has no end")?;
        self.rest = characters.as_str();
        Ok(c)
    }

    fn escape(&mut self, out: &mut String, said: &mut Vec<u8>) -> Result<(), Wrong> {
        match self.next()? {
            'n' => put('\n', out, said),
            'r' => put('\r', out, said),
            't' => put('\t', out, said),
            'b' => put('\u{8}', out, said),
            'f' => put('\u{c}', out, said),
            'u' => {
                let first = self.hex()?;
                match char::from_u32(first.into()).or_else(|| self.second_half(first)) {
                    Some(c) => put(c, out, said),
                    None => {
                        // Half a character: documents can hold it, so it is kept as it is.
                        let _ = write!(out, "\\u{first:04x}");
                        let low = |shift: u16| u8::try_from(first >> shift & 0x3f).unwrap_or(0) | 0x80;
                        said.extend([0xed, low(6), low(0)]);
                    }
                }
            }
            c @ ('"' | '\\' | '/') => put(c, out, said),
            _ => return Err("a JSON string has an unknown escape"),
        }
        Ok(())
    }

    fn hex(&mut self) -> Result<u16, Wrong> {
        const BAD: Wrong = "a JSON string has a broken escape";
        let (digits, rest) = self.rest.split_at_checked(4).ok_or(BAD)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(BAD);
        }
        self.rest = rest;
        u16::from_str_radix(digits, 16).map_err(|_| BAD)
    }

    /// The character whose first half was read, if its second half follows.
    fn second_half(&mut self, first: u16) -> Option<char> {
        let before = self.rest;
        let second = self.rest.strip_prefix("\\u").and_then(|rest| {
            self.rest = rest;
            self.hex().ok()
        });
        let whole = second.and_then(|second| char::decode_utf16([first, second]).next()?.ok());
        if whole.is_none() {
            self.rest = before;
        }
        whole
    }

    fn word(&mut self, out: &mut String) -> Result<(), Wrong> {
        let end = self.rest.find([',', ']', '}', ' ', '\t', '\n', '\r', ':']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        match word {
            "true" | "false" | "null" => out.push_str(word),
            number if is_number(number) => out.push_str(&(self.number)(number)?),
            _ => return Err("a JSON value is no value"),
        }
        Ok(())
    }
}

fn put(c: char, out: &mut String, said: &mut Vec<u8>) {
    said.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
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
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (mantissa, exponent) = word.split_once(['e', 'E']).map_or((word, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    let whole = whole.strip_prefix('-').unwrap_or(whole);
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|e| digits(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value as Json;

    fn one(text: &str) -> String {
        canonical(text, Twice::Refused).unwrap()
    }

    #[test]
    fn a_document_has_one_text() {
        let written =
            " { \"b\" : [ 1.50 , 1e400 ,-0.0e2, {} , [] ] ,\"a\":\"\\u00e9\\u0001\\ud83d\\ude00/\\/\\n\", \"\":null } ";
        assert_eq!(one(written), "{\"\":null,\"a\":\"é\\u0001😀//\\n\",\"b\":[1.50,1e400,-0.0e2,{},[]]}");
        assert_eq!(one(" true "), "true");
        assert_eq!(one("\"\\uD800x\""), "\"\\ud800x\"");
    }

    #[test]
    fn names_are_sorted_by_what_they_say_and_not_by_how_it_is_written() {
        assert_eq!(one("{\"b\":1,\"\\u0061\":2,\"\\\"\":3}"), "{\"\\\"\":3,\"a\":2,\"b\":1}");
        assert_eq!(one("{\"\u{ffff}\":1,\"\\ud801\":2,\"\\ud800\":3}"), "{\"\\ud800\":3,\"\\ud801\":2,\"\u{ffff}\":1}");
    }

    #[test]
    fn of_a_name_that_occurs_twice_the_last_counts_or_the_document_is_refused() {
        let text = "{\"a\":1,\"b\":2,\"\\u0061\":3}";
        assert!(canonical(text, Twice::Refused).unwrap_err().contains("twice"));
        assert_eq!(canonical(text, Twice::LastCounts).unwrap(), "{\"a\":3,\"b\":2}");
    }

    #[test]
    fn broken_documents_are_refused() {
        let broken = [
            "",
            "{",
            "[1,]",
            "[,1]",
            "{\"a\":1,}",
            "{a:1}",
            "nul",
            "1 2",
            "01",
            "1.",
            ".5",
            "+1",
            "-",
            "1e",
            "1-2",
            "\"a",
            "\"\u{1}\"",
            "\"\\x\"",
            "\"\\u+0ff\"",
            "\"\\u00e\"",
            "[1 2]",
            "{\"a\" 1}",
            "\u{a0}1",
        ];
        for text in broken {
            assert!(canonical(text, Twice::LastCounts).is_err(), "{text}");
        }
    }

    #[test]
    fn a_document_may_be_deep_but_not_without_end() {
        let deep = |levels| "[".repeat(levels) + &"]".repeat(levels);
        assert!(canonical(&deep(DEPTH_MAX), Twice::Refused).is_ok());
        assert!(canonical(&deep(1_000_000), Twice::Refused).is_err());
    }

    fn documents() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            // Numbers that are exact as floats: the reader of this test makes them floats.
            any::<i32>().prop_map(|quarters| Json::from(f64::from(quarters) / 4.0)),
            any::<String>().prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
                prop::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|members| Json::Object(members.into_iter().collect())),
            ]
        })
    }

    /// The same document written another way: spaces, escapes, members backwards.
    fn otherwise(json: &Json) -> String {
        let text = |text: &str| {
            let escaped: String = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
            format!("\"{escaped}\"")
        };
        match json {
            Json::String(string) => text(string),
            Json::Array(items) => format!("[ {} ]", items.iter().map(otherwise).collect::<Vec<_>>().join(" ,\n")),
            Json::Object(members) => {
                let member = |(name, value): (&String, &Json)| format!("{}\t: {}", text(name), otherwise(value));
                format!("{{ {}\r}}", members.iter().rev().map(member).collect::<Vec<_>>().join(" , "))
            }
            word => word.to_string(),
        }
    }

    fn as_written(number: &str) -> Result<String, Wrong> {
        Ok(number.to_owned())
    }

    proptest! {
        #[test]
        fn the_short_way_ends_where_the_long_one_does(json in documents(), text in "[\\[\\]{}:,\"a-c0-9 \\\\u.eE+-]{0,40}") {
            for text in [json.to_string(), serde_json::to_string_pretty(&json).unwrap(), otherwise(&json), text] {
                if let Some(short) = plain(&text, &as_written) {
                    prop_assert_eq!(Ok(short), the_long_way(&text, Twice::Refused, as_written));
                }
            }
            let canonical = one(&json.to_string());
            prop_assert!(canonical.contains('\\') || plain(&canonical, &as_written).as_ref() == Some(&canonical));
        }

        #[test]
        fn however_a_document_is_written_its_text_is_one_and_says_the_same(json in documents()) {
            let canonical = one(&json.to_string());
            prop_assert_eq!(&one(&otherwise(&json)), &canonical);
            prop_assert_eq!(&one(&serde_json::to_string_pretty(&json).unwrap()), &canonical);
            prop_assert_eq!(&one(&canonical), &canonical);
            let back: Json = serde_json::from_str(&canonical).unwrap();
            prop_assert_eq!(back, json);
        }

        #[test]
        fn what_is_taken_is_json_and_canonical_text_stays_as_it_is(text in "[\\[\\]{}:,\"a-c0-9 \\\\u.eE+-]{0,60}") {
            let raw = serde_json::from_str::<&serde_json::value::RawValue>(&text);
            let once = canonical(&text, Twice::LastCounts);
            prop_assert_eq!(once.is_ok(), raw.is_ok());
            if let Ok(once) = once {
                prop_assert_eq!(canonical(&once, Twice::Refused), Ok(once));
            }
        }
    }
}
