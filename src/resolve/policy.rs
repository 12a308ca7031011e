//! Who wins when two writes have not seen each other. A policy is pure and total: equal inputs give
//! equal outcomes on every node (resolve-8).

use super::custom::Custom;
use crate::event::{ActorId, Canonical, Loser, PlatformNo, Resolution, Row, Rules, Schema, Side};
use std::cmp::Reverse;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Two writes that have not seen each other. All rows are in one schema; a field that a side's own schema does not
/// have is `Unchanged` there.
pub struct Case<'a> {
    /// The rules in force.
    pub rules: &'a Rules,
    /// What the rows' fields are.
    pub schema: &'a Schema,
    /// What both started from; `None` if it could not be found.
    pub ancestor: Option<&'a Side>,
    /// The version that stands.
    pub head: &'a Side,
    /// The version that came.
    pub proposal: &'a Side,
    /// The versions that settled earlier conflicts of the record, the newest first, if the policy looks at them.
    pub past: &'a [Arc<Canonical>],
}

/// What becomes of a conflict.
#[derive(Clone, PartialEq, Debug)]
pub enum Merged {
    /// The version that stands stays; the proposal is the logged loser.
    Head,
    /// The proposal becomes the version; what stood is the logged loser.
    Proposal,
    /// A new value made of both.
    Both {
        /// The value; `None` deletes the record.
        value: Option<Arc<Row>>,
        /// Whose write it counts as (value-4).
        by: ActorId,
        /// The side of which something is not contained.
        loser: Loser,
    },
}

/// An outcome, and the words it is logged under.
#[derive(Clone, PartialEq, Debug)]
pub struct Decision {
    /// The outcome.
    pub merged: Merged,
    /// The rule that led to it.
    pub rule: Arc<str>,
    /// Why a person shall look at it; `None` if it is settled for good.
    pub open: Option<Arc<str>>,
}

/// Settles concurrent writes; asked only when neither had seen the other.
pub trait Policy: Send + Sync {
    /// Decides.
    fn merge(&self, case: &Case<'_>) -> Decision;

    /// Whether equal content from two sides is one and the same write. Not so for counters: two
    /// times "plus one" is not one (correctness.md §4.3).
    fn joins_equal_content(&self) -> bool {
        true
    }

    /// Whether it looks at earlier conflicts of the record.
    fn looks_back(&self) -> bool {
        false
    }
}

/// Rules, with the policy they ask for made ready: a rule of the user's own is compiled once.
#[derive(Clone)]
pub struct InForce {
    rules: Rules,
    policy: Arc<dyn Policy>,
}

impl InForce {
    /// What settles concurrent writes.
    #[must_use]
    pub fn policy(&self) -> &dyn Policy {
        &*self.policy
    }
}

impl From<Rules> for InForce {
    fn from(rules: Rules) -> Self {
        let policy: Arc<dyn Policy> = match &rules.resolution {
            Resolution::LastWriteWins => Arc::new(LastWriter),
            Resolution::Merge(merge) => Arc::new(merge.clone()),
            Resolution::Custom(custom) => Arc::new(Custom::of(custom)),
        };
        InForce { rules, policy }
    }
}

impl Default for InForce {
    fn default() -> Self {
        Rules::default().into()
    }
}

impl Deref for InForce {
    type Target = Rules;

    fn deref(&self) -> &Rules {
        &self.rules
    }
}

impl fmt::Debug for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rules.fmt(f)
    }
}

/// The most recent write wins (value-4). A delete is a write.
struct LastWriter;

impl Policy for LastWriter {
    fn merge(&self, case: &Case<'_>) -> Decision {
        let merged = last_writer(case.rules, case.head, case.proposal);
        Decision { merged, rule: "last-write-wins".into(), open: None }
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
