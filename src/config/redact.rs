//! Which values are secrets, and how they are shown without being told. Errs on the side of hiding.

use super::tree::{Content, Entry, Node, Text};
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::fmt;
use std::sync::Arc;

/// What is shown instead of a secret.
pub(super) const HIDDEN: &str = "***";

#[rustfmt::skip]
const SECRET_WORDS: [&str; 11] = [
    "password", "passwd", "passphrase", "secret", "token", "credential", "privatekey", "apikey", "accesskey", "accountkey",
    "encryptionkey",
];

/// Whether a key, or a variable of the environment, is called like a secret.
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase().replace(['_', '.', '-'], "");
    SECRET_WORDS.iter().any(|word| name.contains(word))
}

/// A text without the user part of a URL and without `password=…` and its like.
pub(super) fn redacted(text: &str) -> String {
    pairs_redacted(&userinfo_redacted(text))
}

/// Everything between `://` and the last `@` counts as user part, because passwords in the wild
/// contain unescaped slashes and at-signs.
fn userinfo_redacted(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.into() };
    let Some((user, host)) = rest.rsplit_once('@') else { return text.into() };
    match user.split_once(':') {
        Some((name, _)) => format!("{scheme}://{name}:{HIDDEN}@{host}"),
        None => format!("{scheme}://{HIDDEN}@{host}"),
    }
}

/// Blanks out `name=value` where the name is a secret's; a quoted value goes up to its quote, another
/// one up to a space, `&` or `;`.
fn pairs_redacted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(equals) = rest.find('=') {
        let (before, after) = rest.split_at(equals);
        let name = before.trim_end().rsplit([' ', '&', ';', '?', ',', '\n', '"', '\'']).next().unwrap_or_default();
        out.push_str(before);
        out.push('=');
        let after = after.get(1..).unwrap_or_default();
        rest = after;
        if is_secret_name(name) {
            let value = after.trim_start();
            let quote = value.chars().next().filter(|c| ['\'', '"'].contains(c));
            let end = match quote {
                Some(quote) => value.get(1..).and_then(|v| v.find(quote)).map_or(value.len(), |end| end + 2),
                None => value.find([' ', '&', ';', '\n']).unwrap_or(value.len()),
            };
            out.push_str(HIDDEN);
            rest = value.get(end..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    out
}

/// A value that may hold secrets: opened only where it is used, shown and logged without them.
#[derive(Clone, PartialEq)]
pub struct Settings(Arc<Forms>);

#[derive(PartialEq)]
struct Forms {
    open: Value,
    shown: Value,
}

impl Settings {
    pub(super) fn of(node: &Node) -> Self {
        Settings(Arc::new(Forms { open: json(node, &|text| text.value.clone()), shown: shown(node, false) }))
    }

    pub(super) fn of_entries<'a>(entries: impl Iterator<Item = (&'a str, &'a Node)>) -> Self {
        let (mut open, mut hidden) = (serde_json::Map::new(), serde_json::Map::new());
        for (key, node) in entries {
            open.insert(key.into(), json(node, &|text| text.value.clone()));
            hidden.insert(key.into(), shown(node, is_secret_name(key)));
        }
        Settings(Arc::new(Forms { open: Value::Object(open), shown: Value::Object(hidden) }))
    }

    /// The value itself, secrets included. Not for logs.
    #[must_use]
    pub fn open(&self) -> &Value {
        &self.0.open
    }

    /// The value as it may be shown.
    #[must_use]
    pub fn shown(&self) -> &Value {
        &self.0.shown
    }

    /// A text somebody made with these settings in hand, without their secrets.
    pub(super) fn cleaned(&self, text: &str) -> String {
        let mut text = text.to_owned();
        hide(&self.0.open, &self.0.shown, &mut text);
        redacted(&text)
    }
}

/// Blanks out in `text` every value that is shown differently from what it is.
fn hide(open: &Value, shown: &Value, text: &mut String) {
    match (open, shown) {
        (Value::Object(open), Value::Object(shown)) => {
            open.iter().for_each(|(key, value)| hide(value, shown.get(key).unwrap_or(&Value::Null), text));
        }
        (Value::Array(open), Value::Array(shown)) => open.iter().zip(shown).for_each(|(o, s)| hide(o, s, text)),
        (open, shown) if open != shown => {
            let plain = open.as_str().map_or_else(|| open.to_string(), str::to_owned);
            if !plain.is_empty() {
                *text = text.replace(&plain, HIDDEN);
            }
        }
        _ => {}
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.shown())
    }
}

impl Serialize for Settings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.shown().serialize(serializer)
    }
}

/// The node as JSON, secrets blanked out; `secret` says that its key is called like one.
fn shown(node: &Node, secret: bool) -> Value {
    match &node.content {
        Content::Map(entries) => {
            let entry = |e: &Entry| (e.key.clone(), shown(&e.node, secret || is_secret_name(&e.key)));
            Value::Object(entries.iter().map(entry).collect())
        }
        Content::List(items) => Value::Array(items.iter().map(|item| shown(item, secret)).collect()),
        Content::Null => Value::Null,
        _ if secret => HIDDEN.into(),
        _ => json(node, &|text| redacted(&text.shown)),
    }
}

/// The node as JSON; `text` says which form of a text is wanted.
fn json(node: &Node, text: &dyn Fn(&Text) -> String) -> Value {
    match &node.content {
        Content::Null => Value::Null,
        Content::Bool(b) => Value::Bool(*b),
        Content::Int(n) => i64::try_from(*n)
            .map(Value::from)
            .or_else(|_| u64::try_from(*n).map(Value::from))
            .unwrap_or_else(|_| Value::String(n.to_string())),
        Content::Float(x) => serde_json::Number::from_f64(*x).map_or(Value::Null, Value::Number),
        Content::Text(t) => Value::String(text(t)),
        Content::List(items) => Value::Array(items.iter().map(|item| json(item, text)).collect()),
        Content::Map(entries) => Value::Object(entries.iter().map(|e| (e.key.clone(), json(&e.node, text))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_texts_are_blanked_out() {
        let cases = [
            ("postgres://app:p@ss/w:rd@db:5432/shop", "postgres://app:***@db:5432/shop"),
            ("https://ghp_abc@host/x", "https://***@host/x"),
            ("host=db password=hunter2 user=app", "host=db password=*** user=app"),
            ("host=db password='two words' user=app", "host=db password=*** user=app"),
            ("host=db password = hunter2", "host=db password =***"),
            ("postgres://db/shop?password=x&user=app", "postgres://db/shop?password=***&user=app"),
            ("AccountName=a;SharedAccessKey=abc==;X=1", "AccountName=a;SharedAccessKey=***;X=1"),
            ("sasl.password=x", "sasl.password=***"),
            ("data/shop.db", "data/shop.db"),
        ];
        for (text, shown) in cases {
            assert_eq!(redacted(text), shown, "{text}");
        }
    }

    #[test]
    fn names_of_secrets_are_known() {
        for name in ["password", "PGPASSWORD", "sasl.password", "client_secret", "AWS_SECRET_ACCESS_KEY", "api_key"] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in ["key", "path", "user", "host", "table"] {
            assert!(!is_secret_name(name), "{name}");
        }
    }
}
