//! Typed reading of located trees. Every value that is read notes its key, so that `finish` can tell
//! which keys nobody knows: the list of known keys cannot differ from what is read. Each mistake is
//! reported to the sink and reading goes on.

use super::errors::{At, Sink, alternatives, suggestion};
use super::redact::Settings;
use super::tree::{Content, Entry, Node, Text};
use crate::govern::Labels;
use crate::runtime::error::Code;
use crate::topic::name;
use std::cell::RefCell;

/// A map with a fixed set of keys.
pub(super) struct Section<'a> {
    pub at: &'a At,
    pub path: String,
    entries: &'a [Entry],
    known: RefCell<Vec<&'static str>>,
    sink: &'a Sink,
}

/// A value at its place.
#[derive(Clone)]
pub(super) struct Item<'a> {
    pub node: &'a Node,
    pub path: String,
    /// Where its key stands, or the value itself in a list.
    head: &'a At,
    sink: &'a Sink,
}

impl<'a> Section<'a> {
    fn new(at: &'a At, path: String, entries: &'a [Entry], sink: &'a Sink) -> Self {
        for (i, entry) in entries.iter().enumerate() {
            let earlier = entries.iter().take(i).find(|other| other.key == entry.key);
            if let Some(earlier) = earlier {
                let text = format!("this key stands on line {} already; expected once", earlier.at.line);
                sink.invalid(&entry.at, &join(&path, &entry.key), text);
            }
        }
        Section { at, path, entries, known: RefCell::default(), sink }
    }

    /// The value of `key`, if the key is there.
    pub(super) fn item(&self, key: &'static str) -> Option<Item<'a>> {
        self.known.borrow_mut().push(key);
        self.entries.iter().find(|e| e.key == key).map(|e| self.make(e))
    }

    /// The value of `key`; its absence is reported.
    pub(super) fn required(&self, key: &'static str, expected: &str) -> Option<Item<'a>> {
        let item = self.item(key);
        if item.is_none() {
            self.sink.invalid(self.at, &self.path_of(key), format!("missing; expected {expected}"));
        }
        item
    }

    /// Reads `key` with `read` if it is there and right, else gives `default`.
    pub(super) fn or<T>(&self, key: &'static str, default: T, read: impl FnOnce(&Item<'a>) -> Option<T>) -> T {
        self.item(key).and_then(|item| read(&item)).unwrap_or(default)
    }

    /// The governance labels every platform and dataset may carry.
    pub(super) fn labels(&self) -> Labels {
        let text = |key| self.item(key).and_then(|item| item.text("a text"));
        Labels { layer: text("layer"), classification: text("classification"), owner: text("owner") }
    }

    /// All entries, for maps whose keys are names.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a Entry, Item<'a>)> {
        self.entries.iter().map(|e| (e, self.make(e)))
    }

    /// The keys nobody has asked for yet, as settings of somebody else.
    pub(super) fn rest(&self) -> Settings {
        let known = self.known.borrow();
        let rest = self.entries.iter().filter(|e| !known.contains(&e.key.as_str()));
        Settings::of_entries(rest.map(|e| (e.key.as_str(), &e.node)))
    }

    /// Reports the keys nobody has asked for.
    pub(super) fn finish(self) {
        let known = self.known.borrow();
        for entry in self.entries.iter().filter(|e| !known.contains(&e.key.as_str())) {
            let guess = suggestion(&entry.key, known.iter().copied());
            let text = format!("unknown key{guess}; expected {}", alternatives(known.iter().copied()));
            self.sink.invalid(&entry.at, &self.path_of(&entry.key), text);
        }
    }

    /// Reports a problem with `key`, or with the section if the key is not there.
    pub(super) fn problem(&self, key: &str, text: impl Into<String>) {
        self.problem_of(Code::ConfigInvalid, key, text);
    }

    /// The same under another code.
    pub(super) fn problem_of(&self, code: Code, key: &str, text: impl Into<String>) {
        self.sink.report(code, self.line_of(key), &self.path_of(key), text);
    }

    /// Reports a problem with the section as a whole.
    pub(super) fn report(&self, code: Code, text: impl Into<String>) {
        self.sink.report(code, self.at, &self.path, text);
    }

    /// Where `key` stands, or the section.
    pub(super) fn line_of(&self, key: &str) -> &'a At {
        self.entries.iter().find(|e| e.key == key).map_or(self.at, |e| &e.at)
    }

    fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    fn make(&self, entry: &'a Entry) -> Item<'a> {
        Item { node: &entry.node, path: self.path_of(&entry.key), head: &entry.at, sink: self.sink }
    }
}

impl<'a> Item<'a> {
    /// The root of a document.
    pub(super) const fn root(node: &'a Node, sink: &'a Sink) -> Self {
        Item { node, path: String::new(), head: &node.at, sink }
    }

    /// Reports a problem with this value.
    pub(super) fn problem(&self, text: impl Into<String>) {
        self.sink.invalid(&self.node.at, &self.path, text);
    }

    fn expected<T>(&self, what: &str) -> Option<T> {
        self.problem(format!("expected {what}, found {}", self.node.found()));
        None
    }

    pub(super) fn section(&self, what: &str) -> Option<Section<'a>> {
        match &self.node.content {
            Content::Map(entries) => Some(Section::new(self.head, self.path.clone(), entries, self.sink)),
            _ => self.expected(what),
        }
    }

    pub(super) fn list(&self, what: &str) -> Option<Vec<Item<'a>>> {
        match &self.node.content {
            Content::List(items) => {
                let item =
                    |(i, node)| Item { node, path: format!("{}[{i}]", self.path), head: &node.at, sink: self.sink };
                Some(items.iter().enumerate().map(item).collect())
            }
            _ => self.expected(what),
        }
    }

    /// The value itself, if it is text.
    pub(super) fn raw_text(&self) -> Option<&'a Text> {
        match &self.node.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Text that is not empty.
    pub(super) fn text(&self, what: &str) -> Option<String> {
        match &self.node.content {
            Content::Text(text) if !text.value.is_empty() => Some(text.value.clone()),
            Content::Int(_) | Content::Float(_) | Content::Bool(_) => {
                self.expected(&format!("{what} (put it in quotes)"))
            }
            _ => self.expected(what),
        }
    }

    /// A list of texts, or one text.
    pub(super) fn texts(&self, what: &str) -> Option<Vec<(String, Item<'a>)>> {
        if self.raw_text().is_some() {
            return self.text(what).map(|text| vec![(text, self.clone())]);
        }
        let items = self.list(what)?;
        Some(items.into_iter().filter_map(|item| item.text("a text").map(|text| (text, item))).collect())
    }

    /// topic-1: a name that can stand in a topic's name.
    pub(super) fn name(&self, of: &str) -> Option<String> {
        let text = self.text(&format!("the name of a {of}"))?;
        let checked = check_name(&text, &self.node.found(), of).map_err(|why| self.problem(why));
        checked.is_ok().then_some(text)
    }

    pub(super) fn flag(&self) -> Option<bool> {
        match &self.node.content {
            Content::Bool(b) => Some(*b),
            Content::Text(text) if text.resolved && text.value == "true" => Some(true),
            Content::Text(text) if text.resolved && text.value == "false" => Some(false),
            _ => self.expected("true or false"),
        }
    }

    pub(super) fn number(&self, low: u32, high: u32) -> Option<u32> {
        let number = match &self.node.content {
            Content::Int(n) => u32::try_from(*n).ok(),
            Content::Text(text) if text.resolved => text.value.parse().ok(),
            _ => None,
        };
        match number.filter(|n| (low..=high).contains(n)) {
            Some(number) => Some(number),
            None => self.expected(&format!("a whole number from {low} to {high}")),
        }
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, words: &[(&'static str, T)]) -> Option<T> {
        let names = || words.iter().map(|(word, _)| *word);
        let text = self.raw_text().map(|text| text.value.as_str());
        let hit = words.iter().find(|(word, _)| Some(*word) == text);
        if hit.is_none() {
            let guess = text.map_or_else(String::new, |text| suggestion(text, names()));
            self.problem(format!("expected {}, found {}{guess}", alternatives(names()), self.node.found()));
        }
        hit.map(|(_, value)| *value)
    }
}

/// topic-1: whether a dataset, collection or platform may be called `text`, or why not; `shown` is how
/// the text may be shown.
pub(super) fn check_name(text: &str, shown: &str, of: &str) -> Result<(), String> {
    if name::is_valid(text) {
        return Ok(());
    }
    Err(format!("{shown} cannot be the name of a {of}: expected 1 to 63 of a-z, 0-9 and `-`, not beginning with `-`"))
}

fn join(path: &str, key: &str) -> String {
    let key: String = key.chars().take(80).collect();
    let key = if key.is_empty() { "''".into() } else { key };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}
