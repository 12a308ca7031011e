//! Mass disappearance (agent-7): an unmounted folder or a refused listing looks as if everything had
//! been deleted. Before such deletes are published the platform stops until a person has looked.

use crate::guard;
use crate::runtime::error::{Code, Error, Result};
use std::collections::VecDeque;

/// Deletes that are always believed within a window.
const DELETES_MIN: usize = 10;
/// The share of all records, in percent, that may disappear within a window.
const DELETES_PERCENT: usize = 5;
/// The window in milliseconds.
const WINDOW_MS: u64 = 60_000;

/// Counts deletes in a sliding window.
#[derive(Default, Debug)]
pub struct Breaker {
    deletes: VecDeque<(u64, usize)>,
    /// A person has said that so many are meant, until then.
    believed: Option<(usize, u64)>,
}

impl Breaker {
    /// A person has looked: up to `count` deletes are meant, until `until_ms`. What was said before counts no more.
    pub fn believe(&mut self, count: usize, until_ms: u64) {
        self.believed = Some((count, until_ms));
    }

    /// Counts `deletes` found at `now_ms` among `live` records; fails if they are too many.
    pub fn admit(&mut self, deletes: usize, live: usize, now_ms: u64) -> Result<()> {
        self.expect(deletes, live, now_ms)?;
        if deletes > 0 {
            self.deletes.push_back((now_ms, deletes));
        }
        Ok(())
    }

    /// Fails if `deletes` more at `now_ms` would be too many; counts nothing.
    pub fn expect(&mut self, deletes: usize, live: usize, now_ms: u64) -> Result<()> {
        while self.deletes.front().is_some_and(|(at, _)| at + WINDOW_MS < now_ms) {
            self.deletes.pop_front();
        }
        let all = deletes + self.deletes.iter().map(|(_, n)| n).sum::<usize>();
        let believed = self.believed.filter(|(_, until_ms)| now_ms < *until_ms).map_or(0, |(count, _)| count);
        if guard!("agent-7", all > believed.max(DELETES_MIN).max(live * DELETES_PERCENT / 100)) {
            return Err(too_many(all, live));
        }
        Ok(())
    }
}

fn too_many(all: usize, live: usize) -> Error {
    let what = "far more records have disappeared than usual; nothing was published. If they were deleted on \
                    purpose, say so with `driftless deletes confirm`; otherwise bring the platform's data back and say \
                    `driftless deletes refuse`";
    Error::new(Code::MassDelete, what).at("disappeared", all).at("records", live)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// agent-7
    #[test]
    fn more_than_a_twentieth_gone_within_a_minute_stops_the_platform() {
        let mut breaker = Breaker::default();
        assert!(breaker.admit(10, 20, 0).is_ok(), "a few deletes are always believed");
        let error = breaker.admit(1, 20, 1).unwrap_err();
        assert_eq!((error.code, error.remedy()), (Code::MassDelete, crate::runtime::error::Remedy::Halt));
        assert!(error.to_string().contains("`driftless deletes confirm`"), "{error}");
        assert!(breaker.admit(1, 20, WINDOW_MS + 2).is_ok(), "the window slides");
        assert!(Breaker::default().admit(50, 1000, 0).is_ok());
        assert!(Breaker::default().admit(51, 1000, 0).is_err());
        let mut believing = Breaker::default();
        believing.believe(51, 100);
        assert!(believing.admit(51, 1000, 99).is_ok(), "a person has looked");
        assert!(believing.admit(1, 1000, 99).is_err(), "at so many");
        let mut late = Breaker::default();
        late.believe(51, 100);
        assert!(late.admit(51, 1000, 100).is_err(), "and not for ever");
        late.believe(0, 0);
        assert!(late.admit(51, 1000, 99).is_err(), "and it may be taken back");
    }
}
