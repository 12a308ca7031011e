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
