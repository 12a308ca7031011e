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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Claim, Dot, Hlc, PlatformNo, Position, Truncate, Txn};

    const ACTOR: ActorId = ActorId::new(PlatformNo(3), 1);

    fn claimed(changes: &mut Validity, epoch: u64) {
        let stamp = Stamp { epoch, owner: u128::from(epoch) };
        claim::admit(changes, &Record::Claim(Claim { role: Role::Writer(PlatformNo(3)), stamp }));
    }

    fn change(epoch: u64, ctr: u64) -> Record {
        Record::Truncate(Box::new(Truncate {
            stamp: Stamp { epoch, owner: u128::from(epoch) },
            dot: Dot { actor: ACTOR, ctr },
            ts: Hlc::default(),
            schema: Default::default(),
            txn: Txn { id: 0, idx: 0 },
            src_pos: Position::START,
            gone: Vec::new(),
        }))
    }

    fn take(gaps: &mut Gaps, changes: &mut Validity, record: &Record, now_ms: u64) {
        gaps.note(changes, record, now_ms);
        claim::admit(changes, record);
    }

    /// resolve-5
    #[test]
    fn a_change_that_stays_away_stops_the_partition_and_names_itself() {
        let (mut gaps, mut changes) = (Gaps::default(), Validity::default());
        claimed(&mut changes, 1);
        take(&mut gaps, &mut changes, &change(1, 1), 100);
        assert_eq!(gaps.due_ms(60), u64::MAX);
        take(&mut gaps, &mut changes, &change(1, 3), 200);
        take(&mut gaps, &mut changes, &change(1, 4), 230);
        assert_eq!(gaps.due_ms(60), 260, "from the first sight on");
        gaps.postpone(300);
        assert_eq!(gaps.due_ms(60), 360);
        let error = gaps.check(&changes, &Partition::new("c", 0)).unwrap_err();
        assert_eq!(error.code, Code::ProposalsMissing);
        assert!(error.to_string().contains("missing change 2"), "{error}");
    }

    /// resolve-5: the next owner counts on from what is there.
    #[test]
    fn a_gap_is_closed_by_the_missing_change_or_by_a_takeover_and_old_owners_open_none() {
        let at = Partition::new("c", 0);
        let (mut gaps, mut changes) = (Gaps::default(), Validity::default());
        claimed(&mut changes, 1);
        take(&mut gaps, &mut changes, &change(1, 2), 200);
        take(&mut gaps, &mut changes, &change(1, 1), 210);
        assert!(gaps.check(&changes, &at).is_ok());
        take(&mut gaps, &mut changes, &change(1, 3), 220);
        assert_eq!(gaps.due_ms(0), 220);
        claimed(&mut changes, 2);
        assert!(gaps.check(&changes, &at).is_ok());
        take(&mut gaps, &mut changes, &change(1, 9), 230);
        assert_eq!(gaps.due_ms(0), u64::MAX);
    }
}
