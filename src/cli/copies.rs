//! How far first copies are, for who looks at a terminal: a line for each below the log lines, which go
//! when the copies are done. Without a terminal, or where machines read, nothing is shown at all; `status`
//! tells the same numbers.

use crate::node::View;
use crate::node::copies::Place;
use crate::runtime::clock::Clock;
use crate::runtime::progress::FirstCopy;
use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::{self, Write};

/// Milliseconds between two looks.
const LOOK_MS: u64 = 500;

/// How a copy of about known size looks.
const KNOWN: &str = "{bar:24} {percent:>3} % {msg}, of about {human_len}, {eta} left";

/// The lines of the copies under way.
#[derive(Clone)]
pub struct Copies(MultiProgress);

/// A line, and when it was begun with how many rows.
struct Line {
    bar: ProgressBar,
    begun: (u64, u64),
}

impl Line {
    fn text(&self, (dataset, platform, collection): &Place, rows: u64, now_ms: u64) -> String {
        let (before, begun_ms) = self.begun;
        let found = rows.saturating_sub(before).saturating_mul(1000);
        let rate = found.checked_div(now_ms.saturating_sub(begun_ms)).unwrap_or(0);
        let (rows, rate) = (HumanCount(rows), HumanCount(rate));
        format!("{dataset}: first copy of `{collection}` from {platform}: {rows} rows, {rate}/s")
    }
}

impl Copies {
    /// On stderr, if it is a terminal and nothing speaks against it.
    #[must_use]
    pub fn on_terminal(hidden: bool) -> Copies {
        // Without a terminal the target hides itself.
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        Copies(MultiProgress::with_draw_target(target))
    }

    /// What log lines are written with, so that they and these lines do not mix.
    pub fn beside(&self) -> impl Fn() -> Beside + Send + Sync + 'static + use<> {
        let bars = self.0.clone();
        move || Beside(bars.clone())
    }

    /// Shows them for ever.
    pub async fn show(&self, view: View, clock: &dyn Clock) -> Infallible {
        if self.0.is_hidden() {
            return std::future::pending().await;
        }
        let mut shown = BTreeMap::new();
        loop {
            self.draw(view.copies(), clock.now_ms(), &mut shown);
            clock.sleep_until(clock.now_ms() + LOOK_MS).await;
        }
    }

    fn draw(&self, now: BTreeMap<Place, FirstCopy>, now_ms: u64, shown: &mut BTreeMap<Place, Line>) {
        shown.retain(|place, Line { bar, .. }| {
            let goes_on = now.contains_key(place);
            if !goes_on {
                bar.finish_and_clear();
                self.0.remove(bar);
            }
            goes_on
        });
        for (place, FirstCopy { rows, expected }) in now {
            let line = shown.entry(place.clone()).or_insert_with(|| Line { bar: self.bar(), begun: (rows, now_ms) });
            line.bar.set_message(line.text(&place, rows, now_ms));
            // What is expected is a guess of the platform's; a bar that is full too early would tell a lie.
            line.bar.set_position(rows);
            match expected.filter(|expected| *expected >= rows) {
                Some(expected) => {
                    line.bar.set_style(ProgressStyle::with_template(KNOWN).unwrap_or_else(|_| unknown()));
                    line.bar.set_length(expected);
                }
                None => {
                    line.bar.set_style(unknown());
                    line.bar.unset_length();
                }
            }
            line.bar.tick();
        }
    }

    fn bar(&self) -> ProgressBar {
        self.0.add(ProgressBar::no_length())
    }

    /// Takes them away.
    pub fn clear(&self) {
        // A terminal that has gone shows nothing any more.
        drop(self.0.clear());
    }
}

fn unknown() -> ProgressStyle {
    ProgressStyle::default_spinner()
}

/// Writes to stderr while the lines are away.
pub struct Beside(MultiProgress);

impl Write for Beside {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write_all(bytes)).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stands_for_each_copy_under_way_and_goes_with_it() {
        let place = |collection: &str| ("d".to_owned(), "a".to_owned(), collection.to_owned());
        let (bars, mut shown) = (Copies::on_terminal(true), BTreeMap::new());
        let rows = |rows| FirstCopy { rows, expected: None };
        bars.draw([(place("c"), rows(5)), (place("e"), rows(0))].into(), 10_000, &mut shown);
        let texts = |shown: &BTreeMap<Place, Line>| shown.values().map(|line| line.bar.message()).collect::<Vec<_>>();
        assert_eq!(
            texts(&shown),
            ["d: first copy of `c` from a: 5 rows, 0/s", "d: first copy of `e` from a: 0 rows, 0/s"]
        );
        bars.draw([(place("c"), rows(1_200_005))].into(), 12_000, &mut shown);
        assert_eq!(texts(&shown), ["d: first copy of `c` from a: 1,200,005 rows, 600,000/s"]);
        bars.draw(BTreeMap::new(), 13_000, &mut shown);
        assert!(shown.is_empty() && bars.0.is_hidden());
    }

    #[test]
    fn a_copy_of_about_known_size_has_a_bar_until_there_is_more_than_was_expected() {
        assert!(ProgressStyle::with_template(KNOWN).is_ok());
        let (bars, mut shown) = (Copies::on_terminal(true), BTreeMap::new());
        let place = ("d".to_owned(), "a".to_owned(), "c".to_owned());
        let mut draw = |rows, now_ms| {
            bars.draw([(place.clone(), FirstCopy { rows, expected: Some(2_000) })].into(), now_ms, &mut shown);
            let bar = &shown[&place].bar;
            (bar.length(), bar.position())
        };
        assert_eq!(draw(0, 1_000), (Some(2_000), 0));
        assert_eq!(draw(1_000, 2_000), (Some(2_000), 1_000));
        assert_eq!(draw(2_001, 3_000), (None, 2_001));
    }
}
