//! What settles concurrent writes, as data: a control input, so that replays use the rules of their time (resolve-8).
//! What the words do stands in `resolve::policy` and `resolve::merge`.

use super::schema::Schema;
use super::version::PlatformNo;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Rules of a collection as the resolver applies them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rules {
    /// Grows with every change.
    pub version: u64,
    /// Platforms by falling priority for equal times (value-4).
    pub priority: Vec<PlatformNo>,
    /// What happens when copies of two platforms meet for the first time.
    pub bootstrap: Bootstrap,
    /// What happens when two writes had not seen each other.
    pub resolution: Resolution,
}

/// What is asked of the resolver through `.changes` (resolve-3).
#[derive(Clone, PartialEq, Debug)]
pub enum Control {
    /// New rules.
    Rules(Rules),
    /// A schema, before its first user (read-10).
    Schema(Arc<Schema>),
}

/// A control input, made idempotent by its command id (claim-10).
#[derive(Clone, PartialEq, Debug)]
pub struct ControlInput {
    /// The command; a second input with the same id is void.
    pub command: u128,
    /// What is asked.
    pub control: Control,
}

/// How a copy that meets other content is settled (who-4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bootstrap {
    /// Like every other conflict, by the resolution.
    #[default]
    Policy,
    /// The source's copy wins.
    Source(PlatformNo),
    /// The most recent write wins.
    Latest,
}

/// How concurrent writes are settled.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resolution {
    /// The most recent write wins (value-4).
    #[default]
    LastWriteWins,
    /// Field by field, against the version both changed.
    Merge(Merge),
    /// By a rule of the user's own.
    Custom(Custom),
}

/// A rule of the user's own.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Custom {
    /// The rule, in CEL.
    pub rule: Arc<str>,
    /// What stands, provisionally, where the rule fails.
    pub otherwise: Otherwise,
    /// What the rule sees as `merged`.
    pub merge: Merge,
    /// The platforms by the names the rule sees.
    pub names: Vec<(PlatformNo, Arc<str>)>,
}

/// What stands until a person has looked, where a rule could not decide.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Otherwise {
    /// The most recent write.
    #[default]
    Latest,
    /// What a merge makes of both.
    Merged,
}

/// How fields are merged, and edits with deletes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Merge {
    /// Edit against delete.
    pub deletes: Deletes,
    /// Rules by the field's name, or for a member of a JSON document by the names on the way to it with dots between.
    /// Without one JSON is merged by path, and of all else the last write wins.
    pub fields: BTreeMap<Arc<str>, FieldRule>,
}

/// What becomes of a record that one deleted and another edited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deletes {
    /// The edit stays. Of an array under the rule `set` what the deleter saw stays removed.
    #[default]
    EditWins,
    /// The record stays deleted.
    DeleteWins,
    /// The later of both.
    Latest,
    /// The edit stays until a person has looked.
    Review,
}

/// How a field is settled that both writers changed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum FieldRule {
    /// JSON objects member by member; of all else the last write.
    #[default]
    Latest,
    /// A number to which both added: both additions count. Integers and decimals.
    Counter,
    /// An array without order: what either added is in, what either removed is out.
    Set,
    /// The larger value.
    Max,
    /// The smaller value.
    Min,
    /// An array or text that only grows at its end: first what the head has more, then what the proposal has.
    Append,
    /// Text, line by line; where both changed the same lines, the last write.
    Lines,
    /// An array of records or JSON objects that are told apart by this member, merged one by one.
    ByKey(Arc<str>),
}

/// The rules without a parameter, by the word they have in configurations and records.
const WORDS: [(&str, FieldRule); 7] = [
    ("latest", FieldRule::Latest),
    ("counter", FieldRule::Counter),
    ("set", FieldRule::Set),
    ("max", FieldRule::Max),
    ("min", FieldRule::Min),
    ("append", FieldRule::Append),
    ("lines", FieldRule::Lines),
];

const BY_KEY: &str = "by-key ";

impl fmt::Display for FieldRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldRule::ByKey(member) => write!(f, "{BY_KEY}{member}"),
            plain => f.write_str(WORDS.iter().find(|(_, rule)| rule == plain).map_or("", |(word, _)| word)),
        }
    }
}

impl From<FieldRule> for String {
    fn from(rule: FieldRule) -> Self {
        rule.to_string()
    }
}

impl TryFrom<String> for FieldRule {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for FieldRule {
    type Err = String;

    /// The rule of a word.
    ///
    /// # Errors
    /// The words there are.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(member) = text.strip_prefix(BY_KEY).map(str::trim).filter(|member| !member.is_empty()) {
            return Ok(FieldRule::ByKey(member.into()));
        }
        WORDS.iter().find(|(word, _)| *word == text).map(|(_, rule)| rule.clone()).ok_or_else(|| {
            let words: Vec<String> = WORDS.iter().map(|(word, _)| format!("`{word}`")).collect();
            format!("{} or `by-key MEMBER`", words.join(", "))
        })
    }
}

impl Merge {
    /// The rule of a whole field.
    #[must_use]
    pub fn of(&self, field: &str) -> &FieldRule {
        self.fields.get(field).unwrap_or(&FieldRule::Latest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_read_as_it_is_shown_and_a_word_that_is_none_names_all() {
        for rule in WORDS.map(|(_, rule)| rule).into_iter().chain([FieldRule::ByKey("a b".into())]) {
            assert_eq!(rule.to_string().parse(), Ok(rule));
        }
        for text in ["", "by-key", "by-key  ", "Set"] {
            let error = text.parse::<FieldRule>().unwrap_err();
            assert!(error.starts_with("`latest`, `counter`") && error.ends_with("`by-key MEMBER`"), "{error}");
        }
    }
}
