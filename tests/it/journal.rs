//! What applications wrote and what they overwrote by it, and the account that is settled with it:
//! every write is there, was knowingly overwritten, or is a logged loser.

use serde_json::Value;
use std::collections::HashSet;

/// What one writer did. Every text that is written is unique: a token.
#[derive(Default)]
pub(crate) struct Journal {
    pub written: Vec<String>,
    pub displaced: HashSet<String>,
}

impl Journal {
    /// Notes a write, or a deletion, with the token it displaced.
    pub(crate) fn note(&mut self, token: Option<String>, displaced: Option<String>) {
        self.written.extend(token);
        self.displaced.extend(displaced);
    }
}

/// The tokens that are neither there, nor knowingly overwritten, nor logged as losers.
pub(crate) fn missing<'a>(journals: &'a [Journal], stands: &HashSet<String>, conflicts: &Value) -> Vec<&'a str> {
    let lost: HashSet<&str> = conflicts.as_array().unwrap().iter().filter_map(loser).collect();
    let accounted = |token: &str| {
        stands.contains(token) || lost.contains(token) || journals.iter().any(|j| j.displaced.contains(token))
    };
    journals.iter().flat_map(|j| &j.written).map(String::as_str).filter(|token| !accounted(token)).collect()
}

/// The value a conflict displaced.
pub(crate) fn loser(conflict: &Value) -> Option<&str> {
    let loser = conflict["loser"].as_str()?;
    let side = [&conflict["head"], &conflict["proposal"]].into_iter().find(|side| side["platform"] == loser)?;
    side["value"]["text"].as_str()
}
