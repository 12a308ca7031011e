//! Where a verb's words go: its answer to stdout, as tables for people or JSON for machines; all talk
//! to stderr, so that a pipe gets the answer alone. Nobody else writes to either.

use serde_json::Value;
use std::io::{self, Write};

/// The two streams of a verb.
pub struct Output<'a> {
    json: bool,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
}

impl<'a> Output<'a> {
    /// Answers as JSON if `json`, else as text.
    pub fn new(json: bool, out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        Output { json, out, err }
    }

    /// Whether answers are JSON.
    #[must_use]
    pub const fn json(&self) -> bool {
        self.json
    }

    /// Gives the answer: one JSON document, or the text.
    pub fn answer(&mut self, json: &Value, text: &str) {
        let written = if self.json { writeln!(self.out, "{json:#}") } else { write!(self.out, "{}", ended(text)) };
        ignore_closed(written.and_then(|()| self.out.flush()));
    }

    /// Talks to the person at the terminal.
    pub fn say(&mut self, text: &str) {
        ignore_closed(write!(self.err, "{}", ended(text)).and_then(|()| self.err.flush()));
    }
}

/// A reader that has gone (`| head`) is no error of ours, and there is nobody left to tell.
fn ignore_closed(result: io::Result<()>) {
    drop(result);
}

fn ended(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.into() } else { format!("{text}\n") }
}

/// Columns aligned to the left under their headers.
#[must_use]
pub fn table<const N: usize>(headers: [&str; N], rows: &[[String; N]]) -> String {
    let headers = headers.map(str::to_owned);
    let lines = || std::iter::once(&headers).chain(rows);
    let mut widths = [0; N];
    for line in lines() {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in lines() {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let rows = [["a".into(), "long".into()], ["bcd".into(), String::new()]];
        assert_eq!(table(["NAME", "X"], &rows), "NAME  X\na     long\nbcd\n");
    }

    #[test]
    fn the_answer_goes_to_stdout_and_talk_to_stderr() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut output = Output::new(true, &mut out, &mut err);
        output.say("reading");
        output.answer(&serde_json::json!({"a": 1}), "a is 1");
        assert_eq!((out.as_slice(), err.as_slice()), (&b"{\n  \"a\": 1\n}\n"[..], &b"reading\n"[..]));
    }
}
