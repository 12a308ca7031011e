//! How `conflict-resolution: custom` settles what a dataset or one of its collections holds: by a rule.

use super::section::Section;
use crate::event::{Custom, Merge, Otherwise};
use crate::resolve::custom::Rule;
use serde::Serialize;

const OTHERWISE: [(&str, Otherwise); 2] = [("latest", Otherwise::Latest), ("merged", Otherwise::Merged)];

/// A section `custom`.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CustomRule {
    /// The rule, in CEL.
    pub rule: String,
    /// What stands, provisionally, where it fails.
    pub otherwise: Otherwise,
}

impl CustomRule {
    /// resolve-8: a rule that can never be asked, or for too long, is refused where it is written.
    pub(super) fn read(section: Section<'_>) -> Self {
        let item = section.required("rule", "a rule in CEL");
        let rule = item.as_ref().and_then(|item| item.text("a rule in CEL")).unwrap_or_default();
        if let (Some(item), false, Err(flaw)) = (&item, rule.is_empty(), Rule::compile(&rule)) {
            item.problem(flaw.to_string());
        }
        let otherwise = section.or("otherwise", Otherwise::default(), |item| item.choice(&OTHERWISE));
        section.finish();
        CustomRule { rule, otherwise }
    }

    /// As the resolver applies it, beside the rules of a merge. The platforms get their names when they have numbers.
    #[must_use]
    pub fn with(&self, merge: Merge) -> Custom {
        Custom { rule: self.rule.as_str().into(), otherwise: self.otherwise, merge, names: Vec::new() }
    }
}
