//! What is wrong with a rule, and where.

use cel::{Env, Program};
use std::fmt;

/// Longer rules are not read.
const TEXT_BYTES_MAX: usize = 16 << 10;

/// A mistake in a rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flaw {
    /// Its line in the rule's text, from 1.
    pub line: usize,
    /// Its column, from 1.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub why: String,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {} of the rule: {}", self.line, self.column, self.why)
    }
}

impl std::error::Error for Flaw {}

impl Flaw {
    /// A mistake in the expression `id` of a program, or where the nearest one around it with a place stands.
    pub(super) fn at(program: &Program, around: &[u64], why: impl Into<String>) -> Self {
        let info = program.source_info();
        let start = around.iter().rev().find_map(|id| info.offset_for(*id)).map_or(0, |(start, _)| start);
        let before: Vec<char> = info.source.chars().take(usize::try_from(start).unwrap_or(0)).collect();
        let line = before.iter().filter(|c| **c == '\n').count() + 1;
        let column = before.iter().rev().take_while(|c| **c != '\n').count() + 1;
        Flaw { line, column, why: why.into() }
    }
}

/// The program of a text.
pub(super) fn parsed(env: &Env, text: &str) -> Result<Program, Flaw> {
    if text.len() > TEXT_BYTES_MAX {
        let why = format!("the rule has {} bytes; {TEXT_BYTES_MAX} at most", text.len());
        return Err(Flaw { line: 1, column: 1, why });
    }
    env.compile(text).map_err(|errors| {
        // What could not be read leaves parts behind that are incomplete.
        let mut errors = errors.errors;
        errors.sort_by_key(|error| !error.msg.starts_with("Syntax error"));
        let first = errors.into_iter().next();
        let (pos, why) = first.map_or(((1, 1), String::new()), |error| (error.pos, error.msg));
        let from_one = |at: isize| usize::try_from(at).unwrap_or(0).max(1);
        Flaw { line: from_one(pos.0), column: from_one(pos.1), why: format!("this is no CEL: {}", why.trim()) }
    })
}
