//! JSON documents in their canonical text, merged by path: objects member by member, all else whole or by
//! the rule of its path. Numbers stay as they are written. A member that one removed and the other changed stays.

use super::{Merging, below, field};
use crate::event::decimal::Decimal;
use crate::event::json::{Twice, canonical};
use crate::event::value::Text;
use crate::event::{FieldRule, Type, Value};
use serde_json::value::RawValue;
use std::collections::{BTreeMap, BTreeSet};

type Members<'a> = BTreeMap<String, &'a RawValue>;

/// What the base had in some place.
#[derive(Clone, Copy)]
enum Base<'a> {
    /// Nobody knows.
    Unknown,
    /// Nothing.
    Nothing,
    /// This text.
    Text(&'a str),
}

impl Merging<'_> {
    /// A whole document.
    pub(super) fn document(&mut self, path: &str, base: Option<&str>, head: &str, proposal: &str) -> String {
        let base = base.map_or(Base::Unknown, Base::Text);
        let merged = self.place(path, base, Some(head), Some(proposal)).unwrap_or_default();
        // All parts are canonical and in order; a name may need its escapes another way.
        canonical(&merged, Twice::LastCounts).unwrap_or(merged)
    }

    /// One place of the document: the text there, if there is any.
    fn place(&mut self, path: &str, base: Base<'_>, head: Option<&str>, proposal: Option<&str>) -> Option<String> {
        let is_base = |side: Option<&str>| match base {
            Base::Unknown => false,
            Base::Nothing => side.is_none(),
            Base::Text(text) => side == Some(text),
        };
        if is_base(proposal) {
            return head.map(str::to_owned);
        }
        if is_base(head) {
            return proposal.map(str::to_owned);
        }
        let (Some(ours), Some(theirs)) = (head, proposal) else {
            // Where nobody knows whether the member was removed or is new, it is taken for new.
            if head != proposal && !matches!(base, Base::Unknown) {
                self.lost.push(path.to_owned());
            }
            return head.or(proposal).map(str::to_owned);
        };
        Some(match (members(ours), members(theirs)) {
            (Some(ours), Some(theirs)) => self.object(path, base, &ours, &theirs),
            _ => self.scalar(path, base, ours, theirs),
        })
    }

    fn object(&mut self, path: &str, base: Base<'_>, head: &Members<'_>, proposal: &Members<'_>) -> String {
        let seen = match base {
            Base::Text(text) => members(text),
            _ => None,
        };
        let in_base = |name: &str| match (base, seen.as_ref().and_then(|members| members.get(name))) {
            (Base::Unknown, _) => Base::Unknown,
            (_, Some(raw)) => Base::Text(raw.get()),
            (_, None) => Base::Nothing,
        };
        let names: BTreeSet<&String> = head.keys().chain(proposal.keys()).collect();
        let mut text = String::from("{");
        for name in names {
            let (ours, theirs) = (head.get(name).map(|raw| raw.get()), proposal.get(name).map(|raw| raw.get()));
            if let Some(value) = self.place(&below(path, name), in_base(name), ours, theirs) {
                let comma = if text.len() > 1 { "," } else { "" };
                text.push_str(comma);
                text.push_str(&serde_json::Value::from(name.as_str()).to_string());
                text.push(':');
                text.push_str(&value);
            }
        }
        text.push('}');
        text
    }

    /// What is no object on both sides.
    fn scalar(&mut self, path: &str, base: Base<'_>, head: &str, proposal: &str) -> String {
        let rule = self.rules.of(path).clone();
        if rule != FieldRule::Counter && head == proposal {
            return head.to_owned();
        }
        let base = match base {
            Base::Text(text) => Some(value(text)),
            _ => None,
        };
        let (ours, theirs) = (value(head), value(proposal));
        let merged = self.by_rule(path, &rule, &Type::Json, base.as_ref(), &ours, &theirs);
        // As it was written, if it is one of both.
        match [(&ours, head), (&theirs, proposal)].into_iter().find(|(side, _)| field::same(side, &merged)) {
            Some((_, text)) => text.to_owned(),
            None => written(&merged),
        }
    }
}

/// The members of an object.
pub(super) fn members(text: &str) -> Option<Members<'_>> {
    serde_json::from_str(text).ok()
}

/// A JSON value for the rules of fields: items of arrays and objects stay JSON.
fn value(text: &str) -> Value {
    let json = || Value::Json(Text::from(text));
    match text.as_bytes().first() {
        Some(b'n') => Value::Null,
        Some(b't') => Value::Bool(true),
        Some(b'f') => Value::Bool(false),
        Some(b'"') => {
            serde_json::from_str::<String>(text).map_or_else(|_| json(), |text| Value::Text(Text::from(text)))
        }
        Some(b'[') => match serde_json::from_str::<Vec<&RawValue>>(text) {
            Ok(items) => Value::Array(items.iter().map(|item| Value::Json(Text::from(item.get()))).collect()),
            Err(_) => json(),
        },
        Some(b'{') | None => json(),
        Some(_) => text.parse::<Decimal>().map_or_else(|_| json(), Value::Decimal),
    }
}

fn written(value: &Value) -> String {
    match value {
        Value::Bool(is) => is.to_string(),
        Value::Decimal(number) => number.canonical(),
        Value::Text(text) => serde_json::Value::from(text.as_str()).to_string(),
        Value::Json(text) => text.as_str().to_owned(),
        Value::Array(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(",")),
        // A JSON text is nothing else (`value`).
        _ => "null".into(),
    }
}
