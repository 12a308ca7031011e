//! Changes that are missing (resolve-5). Counters are dense: a change with a counter above the next one
//! is void, because an earlier one of the same owner did not land. That owner learns it from its own
//! append, takes over again and publishes again. If nobody does, the log has lost a record it had
//! acknowledged, and going on would lose the change in silence.

use crate::event::{ActorId, Ctr, Record, Role, Stamp, Validity};
use crate::runtime::error::{Code, Error, Result};
use crate::topic::{Partition, claim};
use std::collections::BTreeMap;

/// The gaps that are open.
#[derive(Default, Debug)]
pub struct Gaps(BTreeMap<ActorId, Gap>);

#[derive(Debug)]
struct Gap {
    stamp: Stamp,
    missing: Ctr,
    since_ms: u64,
}

impl Gaps {
    /// Looks at the next record of C, before it is folded.
    pub fn note(&mut self, changes: &Validity, record: &Record, now_ms: u64) {
        if let Some((actor, stamp)) = claim::gap_before(changes, record) {
            let missing = claim::newest(changes, actor) + 1;
            self.0.entry(actor).or_insert(Gap { stamp, missing, since_ms: now_ms });
        }
        self.0.retain(|&actor, gap| gap.is_open(actor, changes));
    }

    /// When the oldest gap has been open for `after_ms`.
    #[must_use]
    pub fn due_ms(&self, after_ms: u64) -> u64 {
        self.0.values().map(|gap| gap.since_ms.saturating_add(after_ms)).min().unwrap_or(u64::MAX)
    }

    /// C is not read to its end: what closes a gap may stand there.
    pub fn postpone(&mut self, now_ms: u64) {
        self.0.values_mut().for_each(|gap| gap.since_ms = now_ms);
    }

    /// Fails if a gap is open; asked once it is due.
    pub fn check(&mut self, changes: &Validity, at: &Partition) -> Result<()> {
        self.0.retain(|&actor, gap| gap.is_open(actor, changes));
        let Some((actor, gap)) = self.0.first_key_value() else { return Ok(()) };
        let text = "a change that its writer believes to be in the log is not there, and nobody has published it \
                    again: the log has lost a record it had acknowledged. Nothing behind it is settled";
        let error = Error::new(Code::ProposalsMissing, text).at("partition", at);
        Err(error.at("platform", actor.platform().0).at("missing change", gap.missing))
    }
}

impl Gap {
    /// A takeover closes it: the next owner counts on from the last change that is there.
    fn is_open(&self, actor: ActorId, changes: &Validity) -> bool {
        let same_owner = claim::owner(changes, Role::Writer(actor.platform())) == self.stamp;
        same_owner && claim::newest(changes, actor) < self.missing
    }
}
