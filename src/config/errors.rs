//! What is wrong with a configuration, in words for people: the file and line, the dotted path of the
//! key, what stands there and what is expected. All problems of all files are reported together.
//! No text here ever contains a resolved secret.

use crate::runtime::error::{Code, Error};
use serde::Serialize;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// A place in a configuration file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct At {
    /// The file as it was named.
    pub file: Arc<str>,
    /// The line, from 1; 0 for the file as a whole.
    pub line: u64,
}

impl At {
    /// A file as a whole.
    #[must_use]
    pub fn file(file: &str) -> Self {
        At { file: file.into(), line: 0 }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// Where.
    pub at: At,
    /// The dotted path of the key, such as `datasets[0].sync-mode`; empty for the file as a whole.
    pub path: String,
    /// The stable name of this kind of problem.
    pub code: Code,
    /// What is wrong and what is expected.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.at)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "{}", self.text)
    }
}

/// Everything that is wrong, in the order of files and lines; never empty where it is an error.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        self.0.iter().try_for_each(|problem| {
            write!(f, "{between}{problem}")?;
            between = "\n";
            Ok(())
        })
    }
}

impl std::error::Error for Problems {}

impl From<Problems> for Error {
    fn from(problems: Problems) -> Self {
        let code = problems.0.first().map_or(Code::ConfigInvalid, |first| first.code);
        Error::new(code, problems.to_string())
    }
}

/// Where problems are gathered, so that a reader goes on behind the first one.
#[derive(Default, Debug)]
pub(super) struct Sink(RefCell<Vec<Problem>>);

impl Sink {
    pub(super) fn report(&self, code: Code, at: &At, path: &str, text: impl Into<String>) {
        self.0.borrow_mut().push(Problem { at: at.clone(), path: path.into(), code, text: text.into() });
    }

    pub(super) fn invalid(&self, at: &At, path: &str, text: impl Into<String>) {
        self.report(Code::ConfigInvalid, at, path, text);
    }

    /// `Ok` if nothing was reported.
    pub(super) fn into_result(self) -> Result<(), Problems> {
        let mut problems = self.0.into_inner();
        problems.sort_by(|a, b| a.at.cmp(&b.at));
        problems.dedup();
        if problems.is_empty() { Ok(()) } else { Err(Problems(problems)) }
    }
}

/// `; did you mean …?` if one of `known` is close to `word`, else nothing.
pub(super) fn suggestion<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let limit = (word.chars().count() / 3).max(1);
    let near = known.into_iter().map(|k| (distance(word, k), k)).filter(|&(d, _)| d <= limit).min();
    near.map_or_else(String::new, |(_, k)| format!("; did you mean `{k}`?"))
}

/// `a, b or c`.
pub(super) fn alternatives<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    match words.split_last() {
        None => "nothing".into(),
        Some((only, [])) => (*only).into(),
        Some((last, others)) => format!("{} or {last}", others.join(", ")),
    }
}

/// Levenshtein's distance, case and `_` for `-` counting as equal; words far too long are far away.
fn distance(a: &str, b: &str) -> usize {
    let plain = |s: &str| -> Vec<char> {
        s.chars().map(|c| if c == '_' { '-' } else { c.to_ascii_lowercase() }).take(80).collect()
    };
    let (a, b) = (plain(a), plain(b));
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, (y, pair)) in b.iter().zip(row.windows(2)).enumerate() {
            let [diagonal, above] = pair else { continue };
            let left = next.get(j).copied().unwrap_or(usize::MAX - 1);
            next.push((diagonal + usize::from(x != y)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_is_not() {
        assert_eq!(suggestion("sync_mode", ["source", "sync-mode"]), "; did you mean `sync-mode`?");
        assert_eq!(suggestion("destination", ["destinations", "name"]), "; did you mean `destinations`?");
        assert_eq!(suggestion("colour", ["name", "key"]), "");
        assert_eq!(suggestion("", []), "");
    }

    #[test]
    fn distance_is_the_number_of_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
    }

    #[test]
    fn alternatives_read_like_a_sentence() {
        assert_eq!(alternatives(["a", "b", "c"]), "a, b or c");
        assert_eq!(alternatives(["a"]), "a");
    }
}
