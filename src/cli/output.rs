//! Where a verb's words go: its answer to stdout, as tables for people or JSON for machines; all talk
//! to stderr, so that a pipe gets the answer alone. Nobody else writes to either.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
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

/// How far long work is, on a terminal; nothing is shown elsewhere, and nothing with `--json`.
pub struct Bar(ProgressBar);

impl Output<'_> {
    /// A bar for `steps` steps. It goes when it is dropped.
    #[must_use]
    pub fn bar(&self, steps: usize) -> Bar {
        // Without a terminal the target hides itself.
        let target = if self.json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(u64::try_from(steps).unwrap_or(u64::MAX)), target);
        let style = ProgressStyle::with_template("{pos}/{len} {bar:30} {msg}");
        Bar(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
    }
}

impl Bar {
    /// The next step begins.
    pub fn step(&self, what: &str) {
        self.0.set_message(what.to_owned());
        self.0.inc(1);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
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
    fn a_bar_shows_nothing_where_nobody_looks() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let output = Output::new(true, &mut out, &mut err);
        let bar = output.bar(2);
        bar.step("a platform");
        assert!(bar.0.is_hidden() && bar.0.position() == 1);
        drop(bar);
        assert!(out.is_empty() && err.is_empty());
    }

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
