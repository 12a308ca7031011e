//! A YAML document as a tree in which every key and value knows its line. Typed reading happens in
//! `section`, which can then report all problems of a file at once with their places; serde's derived
//! readers stop at the first one.
//!
//! Booleans are `true` and `false` only, and what has leading zeros or underscores stays text, so
//! that `on`, `no` and `007` mean what they say.

use super::errors::{At, Sink};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{DuplicateKeyPolicy, Spanned};
use std::fmt;
use std::sync::Arc;

/// Nesting of lists and maps in a document at most; keeps recursion over the tree bounded.
const DEPTH_MAX: usize = 40;

/// Text as it is used, and as it may be shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub value: String,
    /// The same with secrets blanked out.
    pub shown: String,
    /// Whether a part of it came from the environment or a file; then it may stand for a number.
    pub resolved: bool,
}

#[derive(Clone)]
pub(super) enum Content {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(Text),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone)]
pub(super) struct Node {
    pub at: At,
    pub content: Content,
}

#[derive(Clone)]
pub(super) struct Entry {
    pub key: String,
    pub at: At,
    pub node: Node,
}

impl Node {
    /// What stands here, in a few words.
    pub(super) fn found(&self) -> String {
        match &self.content {
            Content::Null => "nothing".into(),
            Content::Bool(b) => format!("the truth value {b}"),
            Content::Int(n) => format!("the number {n}"),
            Content::Float(x) => format!("the number {x}"),
            Content::Text(text) if text.shown.chars().count() > 60 => "a long text".into(),
            Content::Text(text) => format!("`{}`", text.shown.escape_debug()),
            Content::List(_) => "a list".into(),
            Content::Map(_) => "a map".into(),
        }
    }
}

/// The documents of a file; a syntax error is reported and gives none.
pub(super) fn parse(file: &Arc<str>, text: &str, sink: &Sink) -> Vec<Node> {
    let mut options = serde_saphyr::options! {
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        with_snippet: false,
    };
    if let Some(budget) = options.budget.as_mut() {
        budget.max_depth = DEPTH_MAX;
    }
    match serde_saphyr::from_multiple_with_options::<Spanned<Bare>>(text, options) {
        Ok(documents) => documents.into_iter().map(|document| place(file, document)).collect(),
        Err(error) => {
            let line = error.location().map_or(0, |location| location.line());
            let at = At { file: file.clone(), line };
            sink.invalid(&at, "", format!("this is not YAML that can be read: {}", error.without_snippet()));
            Vec::new()
        }
    }
}

fn place(file: &Arc<str>, bare: Spanned<Bare>) -> Node {
    let at = |line| At { file: file.clone(), line };
    let content = match bare.value {
        Bare::Null => Content::Null,
        Bare::Bool(b) => Content::Bool(b),
        Bare::Int(n) => Content::Int(n),
        Bare::Float(x) => Content::Float(x),
        Bare::Text(value) => Content::Text(Text { shown: value.clone(), value, resolved: false }),
        Bare::List(items) => Content::List(items.into_iter().map(|item| place(file, item)).collect()),
        Bare::Map(entries) => {
            let entry = |(key, value): (Spanned<String>, _)| Entry {
                at: at(key.referenced.line()),
                key: key.value,
                node: place(file, value),
            };
            Content::Map(entries.into_iter().map(entry).collect())
        }
    };
    Node { at: at(bare.referenced.line()), content }
}

enum Bare {
    Null,
    Bool(bool),
    Int(i128),
    Float(f64),
    Text(String),
    List(Vec<Spanned<Bare>>),
    Map(Vec<(Spanned<String>, Spanned<Bare>)>),
}

impl<'de> Deserialize<'de> for Bare {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Bare;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Bare, E> {
        Ok(Bare::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Bare, E> {
        Ok(Bare::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Bare, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Bare, E> {
        Ok(Bare::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Bare, E> {
        Ok(Bare::Int(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Bare, E> {
        Ok(Bare::Int(value.into()))
    }

    fn visit_i128<E: de::Error>(self, value: i128) -> Result<Bare, E> {
        Ok(Bare::Int(value))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Bare, E> {
        Ok(Bare::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Bare, E> {
        Ok(Bare::Text(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Bare, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Bare::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Bare, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Bare::Map(map))
    }
}
