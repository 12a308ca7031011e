//! Which records of a partition count: the fold every reader runs (protocol.md §3). Pure.
//! It fences old owners with nothing but the order of the log.

use crate::event::{ActorId, Claim, Ctr, Dot, Record, Role, Seq, Stamp, Validity};

/// What of a record says whether it counts. Its writer keeps no more of what is on its way.
pub enum Proof {
    /// A bid for a role.
    Claim(Claim),
    /// The next change of an actor.
    Change(Dot, Stamp),
    /// A command, once.
    Command(u128),
    /// The next version of D.
    Version {
        /// Its number.
        seq: Seq,
        /// Its id.
        id: u64,
        /// The id of the one before.
        prev: u64,
        /// A copy for plain consumers.
        copy: bool,
    },
    /// Of the owner of the resolver's role.
    OfResolver(Stamp),
    /// Of the owner of a writer's role.
    OfWriter(Stamp),
    /// Counts without one.
    Free,
}

impl Proof {
    /// The proof of a record.
    #[must_use]
    pub fn of(record: &Record) -> Self {
        match record {
            Record::Claim(claim) => Proof::Claim(claim.clone()),
            Record::Proposal(proposal) => Proof::Change(proposal.dot, proposal.stamp),
            Record::Truncate(truncate) => Proof::Change(truncate.dot, truncate.stamp),
            Record::Control(input) => Proof::Command(input.command),
            Record::Review(review) => Proof::Command(review.asked.command),
            Record::Canonical(c) => Proof::Version { seq: c.seq, id: c.id, prev: c.prev, copy: c.copy },
            Record::State(state) => Proof::OfResolver(state.stamp),
            Record::ResolverMark(mark) => Proof::OfResolver(mark.stamp),
            Record::Known(known) => Proof::OfWriter(known.stamp),
            Record::ReaderMark(mark) => Proof::OfWriter(mark.stamp),
            Record::Ledger(ledger) => Proof::OfWriter(ledger.stamp),
            Record::AgentMark(mark) => Proof::OfWriter(mark.stamp),
            // A projection keyed so that duplicates collapse (resolve-4); written under no claim, and repeated
            // letters are the same letter.
            Record::Conflict(_) | Record::Dead(_) => Proof::Free,
        }
    }

    /// Whether it is of a copy for plain consumers, which never counts.
    #[must_use]
    pub fn is_copy(&self) -> bool {
        matches!(self, Proof::Version { copy: true, .. })
    }
}

/// Takes the next record of a partition and says whether it counts. Records must be given in the
/// order of their offsets, from the start of the partition or from a stored `Validity` on (claim-1).
pub fn admit(fold: &mut Validity, record: &Record) -> bool {
    prove(fold, &Proof::of(record))
}

/// The same, of what was kept of a record.
pub fn prove(fold: &mut Validity, proof: &Proof) -> bool {
    match *proof {
        Proof::Claim(ref claim) => admit_claim(fold, claim),
        Proof::Change(dot, stamp) => admit_change(fold, dot, stamp),
        Proof::Command(command) => fold.commands.insert(command, ()).is_none(),
        Proof::Version { seq, id, prev, copy } => !copy && admit_version(fold, seq, id, prev),
        Proof::OfResolver(stamp) => owns(fold, Role::Resolver, stamp),
        Proof::OfWriter(stamp) => owns_any_writer(fold, stamp),
        Proof::Free => true,
    }
}

/// The owner of a role at this point of the log.
#[must_use]
pub fn owner(fold: &Validity, role: Role) -> Stamp {
    fold.owners.get(&role).copied().unwrap_or_default()
}

/// A claim counts only if its epoch is new (claim-5: the first of two candidates wins).
fn admit_claim(fold: &mut Validity, claim: &Claim) -> bool {
    let accepted = claim.stamp.epoch > owner(fold, claim.role).epoch;
    if accepted {
        fold.owners.insert(claim.role, claim.stamp);
    }
    accepted
}

/// Stamped by the current owner, and the dense next of its actor: lower is a duplicate, higher
/// means an earlier one was lost (resolve-5).
fn admit_change(fold: &mut Validity, dot: Dot, stamp: Stamp) -> bool {
    let valid = owns(fold, Role::Writer(dot.actor.platform()), stamp) && dot.ctr == newest(fold, dot.actor) + 1;
    if valid {
        fold.last.insert(dot.actor, dot.ctr);
    }
    valid
}

/// The newest counter of an actor that counts.
#[must_use]
pub fn newest(fold: &Validity, actor: ActorId) -> Ctr {
    fold.last.get(&actor).copied().unwrap_or(0)
}

/// Whose changes are missing before a record that is next: the current owner of the role wrote it, and
/// an earlier one of its own is not there (resolve-5).
#[must_use]
pub fn gap_before(fold: &Validity, record: &Record) -> Option<(ActorId, Stamp)> {
    let (dot, stamp) = match record {
        Record::Proposal(proposal) => (proposal.dot, proposal.stamp),
        Record::Truncate(truncate) => (truncate.dot, truncate.stamp),
        _ => return None,
    };
    let gap = owns(fold, Role::Writer(dot.actor.platform()), stamp) && dot.ctr > newest(fold, dot.actor) + 1;
    gap.then_some((dot.actor, stamp))
}

/// D has a chain instead of claims: each record names the one before it.
fn admit_version(fold: &mut Validity, seq: Seq, id: u64, prev: u64) -> bool {
    let valid = (seq, prev) == (fold.tip.0 + 1, fold.tip.1);
    if valid {
        fold.tip = (seq, id);
    }
    valid
}

fn owns(fold: &Validity, role: Role, stamp: Stamp) -> bool {
    owner(fold, role) == stamp && stamp.epoch > 0
}

/// L belongs to one platform, so whoever is a writer there is its writer.
fn owns_any_writer(fold: &Validity, stamp: Stamp) -> bool {
    stamp.epoch > 0 && fold.owners.iter().any(|(role, owner)| matches!(role, Role::Writer(_)) && *owner == stamp)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Control, ControlInput, Hlc, PlatformNo, Position, Rules, Truncate, Txn};

    const ROLE: Role = Role::Writer(PlatformNo(1));

    fn stamp(epoch: u64, owner: u128) -> Stamp {
        Stamp { epoch, owner }
    }

    fn claimed(epoch: u64, owner: u128) -> Record {
        Record::Claim(Claim { role: ROLE, stamp: stamp(epoch, owner) })
    }

    fn change(stamp: Stamp, ctr: u64) -> Record {
        Record::Truncate(Box::new(Truncate {
            stamp,
            dot: Dot { actor: ActorId::new(PlatformNo(1), 1), ctr },
            ts: Hlc::default(),
            schema: Default::default(),
            txn: Txn { id: 0, idx: 0 },
            src_pos: Position::START,
            gone: Vec::new(),
        }))
    }

    /// claim-5
    #[test]
    fn claim_5_of_two_candidates_the_first_in_the_log_wins_and_the_old_owner_is_void() {
        let mut fold = Validity::default();
        assert!(admit(&mut fold, &claimed(1, 7)) && admit(&mut fold, &change(stamp(1, 7), 1)));
        assert!(admit(&mut fold, &claimed(2, 8)) && !admit(&mut fold, &claimed(2, 9)));
        assert_eq!(owner(&fold, ROLE), stamp(2, 8));
        for late in [stamp(1, 7), stamp(2, 9), stamp(0, 0)] {
            assert!(!admit(&mut fold, &change(late, 2)), "{late:?}");
        }
        assert!(admit(&mut fold, &change(stamp(2, 8), 2)));
    }

    /// resolve-5: neither a duplicate nor a change behind a gap counts.
    #[test]
    fn counters_are_dense() {
        let mut fold = Validity::default();
        admit(&mut fold, &claimed(1, 7));
        let counts: Vec<bool> = [1, 1, 3, 2, 3].map(|ctr| admit(&mut fold, &change(stamp(1, 7), ctr))).into();
        assert_eq!(counts, [true, false, false, true, true]);
    }

    /// claim-10
    #[test]
    fn claim_10_a_command_needs_no_claim_and_counts_once() {
        let mut fold = Validity::default();
        let input =
            |command| Record::Control(Box::new(ControlInput { command, control: Control::Rules(Rules::default()) }));
        let counts = [5, 5, 6].map(|command| admit(&mut fold, &input(command)));
        assert_eq!(counts, [true, false, true]);
    }
}
