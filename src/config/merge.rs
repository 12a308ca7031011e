//! How `conflict-resolution: merge` settles the fields of a dataset or of one of its collections.

use super::section::{Item, Section};
use crate::event::{Deletes, FieldRule, Merge};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

const DELETES: [(&str, Deletes); 4] = [
    ("edit-wins", Deletes::EditWins),
    ("delete-wins", Deletes::DeleteWins),
    ("latest", Deletes::Latest),
    ("review", Deletes::Review),
];

/// A section `merge`.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct MergeRules {
    /// Edit against delete; `None` for what is said above, else the edit wins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deletes: Option<Deletes>,
    /// The rules of fields, by their path.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<Arc<str>, FieldRule>,
}

impl MergeRules {
    pub(super) fn read(section: Section<'_>) -> Self {
        let read = MergeRules {
            deletes: section.item("deletes").and_then(|item| item.choice(&DELETES)),
            fields: section.item("fields").map(|item| fields(&item)).unwrap_or_default(),
        };
        section.finish();
        read
    }

    /// These rules, and what `above` says of what they leave open.
    #[must_use]
    pub fn within(&self, above: &MergeRules) -> Merge {
        let fields = if self.fields.is_empty() { &above.fields } else { &self.fields };
        Merge { deletes: self.deletes.or(above.deletes).unwrap_or_default(), fields: fields.clone() }
    }
}

fn fields(item: &Item<'_>) -> BTreeMap<Arc<str>, FieldRule> {
    let mut rules = BTreeMap::new();
    let Some(section) = item.section("a map from fields to rules") else { return rules };
    for (entry, item) in section.entries() {
        let Some(text) = item.text("a rule such as `counter`") else { continue };
        match text.parse() {
            Ok(rule) => _ = rules.insert(entry.key.as_str().into(), rule),
            Err(words) => item.problem(format!("found {}; expected {words}", item.node.found())),
        }
    }
    rules
}
