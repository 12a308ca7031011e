//! Who wins when two writes have not seen each other. A policy is pure and total: equal inputs give
//! equal outcomes on every node (resolve-8).

use crate::event::{PlatformNo, Row, Rules, Side};
use std::cmp::Reverse;
use std::sync::Arc;

/// What becomes of a conflict.
#[derive(Clone, PartialEq, Debug)]
pub enum Merged {
    /// The version that stands stays; the proposal is the logged loser.
    Head,
    /// The proposal becomes the version; what stood is the logged loser.
    Proposal,
    /// Both are contained in a new value.
    Both(Option<Arc<Row>>),
}

/// Settles concurrent writes; asked only when neither had seen the other.
pub trait Policy: Send + Sync {
    /// The name under which decisions are logged.
    fn name(&self) -> &'static str;

    /// Decides.
    fn merge(&self, rules: &Rules, ancestor: Option<&Side>, head: &Side, proposal: &Side) -> Merged;

    /// Whether equal content from two sides is one and the same write. Not so for counters: two
    /// times "plus one" is not one (correctness.md §4.3).
    fn joins_equal_content(&self) -> bool {
        true
    }
}

/// The most recent write wins (value-4). A delete is a write.
#[derive(Clone, Copy, Debug, Default)]
pub struct LastWriter;

impl Policy for LastWriter {
    fn name(&self) -> &'static str {
        "last-write-wins"
    }

    fn merge(&self, rules: &Rules, _ancestor: Option<&Side>, head: &Side, proposal: &Side) -> Merged {
        last_writer(rules, head, proposal)
    }
}

/// value-4: by (time, platform priority, actor, fingerprint), a total order.
#[must_use]
pub fn last_writer(rules: &Rules, head: &Side, proposal: &Side) -> Merged {
    let rank = |side: &Side| (side.ts, Reverse(priority(rules, side.by.platform())), side.by, side.fp);
    if rank(proposal) > rank(head) { Merged::Proposal } else { Merged::Head }
}

/// 0 for the platform named first; platforms not named come last.
fn priority(rules: &Rules, platform: PlatformNo) -> usize {
    rules.priority.iter().position(|p| *p == platform).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{ActorId, Fp, Hlc, SchemaId, Vv};

    fn side(platform: u16, incarnation: u16, ms: u64, fp: u8, value: Option<Row>) -> Side {
        Side {
            by: ActorId::new(PlatformNo(platform), incarnation),
            dot: None,
            vv: Vv::new(),
            seq: 0,
            ts: Hlc::from_ms(ms),
            fp: Fp([fp; 16]),
            schema: SchemaId(1),
            value: value.map(Arc::new),
        }
    }

    /// value-4
    #[test]
    fn value_4_time_decides_then_priority_then_actor_then_content_and_a_delete_is_a_write() {
        let rules = Rules { priority: vec![PlatformNo(3), PlatformNo(1)], ..Rules::default() };
        let row = || Some(Row(vec![]));
        // Each beats the one before it: by content, by actor, by priority, by time.
        let rising = [
            side(2, 1, 10, 1, row()),
            side(2, 1, 10, 2, row()),
            side(2, 2, 10, 1, row()),
            side(1, 1, 10, 1, row()),
            side(3, 1, 10, 1, row()),
            side(2, 1, 11, 1, None),
        ];
        for (at, low) in rising.iter().enumerate() {
            for high in &rising[at + 1..] {
                assert_eq!(last_writer(&rules, low, high), Merged::Proposal, "{low:?} {high:?}");
                assert_eq!(last_writer(&rules, high, low), Merged::Head, "{low:?} {high:?}");
            }
        }
    }
}
