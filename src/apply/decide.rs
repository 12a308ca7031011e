//! What is done with a canonical version at a LOG platform: the one decision table, shared by all
//! stores (sink-3). Pure. Only content that the version already contains is ever overwritten.

use crate::connectors::contract::{Act, Seen};
use crate::event::{ActorId, Canonical, Fp, Known, LedgerEntry, SchemaId};
use crate::guard;
use crate::runtime::error::{Code, Error, Result};

/// Decides for one version; `fp` is how its content will look when read back from this store, and
/// `under` how what stands there looks under a schema.
#[must_use]
pub fn decide(me: ActorId, version: &Canonical, fp: Fp, seen: &Seen, under: impl Fn(SchemaId) -> Fp) -> Act {
    let Seen::Row { ledger, .. } = seen else { return Act::Defer };
    if guard!("sink-1", seq_of(ledger.as_ref()) >= version.seq) {
        return Act::Skip;
    }
    let content = under(version.schema);
    if content == fp {
        return Act::Adopt;
    }
    let given = ledger.as_ref().map_or(Fp::ABSENT, |l| l.fp);
    let as_given = ledger.as_ref().map_or(content, |l| under(l.schema)) == given;
    if untouched(me, version, content, as_given, ledger.as_ref()) || !guard!("sink-3", true) {
        return Act::Write;
    }
    Act::Dirty
}

/// Whether the content is what was last given, or the newest local write that the version contains.
/// If the version contains a local write made since, only that write counts: content that looks as
/// it was given *before* it was brought back by a later write, which the version does not contain
/// (docs/decisions/0006).
fn untouched(me: ActorId, version: &Canonical, content: Fp, as_given: bool, ledger: Option<&LedgerEntry>) -> bool {
    let contained = ledger.map_or(0, |l| l.vv.get(me));
    match version.ack.iter().find(|join| join.actor == me) {
        Some(join) if join.ctr > contained => content == join.fp_local || (as_given && !guard!("sink-3-newest", true)),
        _ => as_given,
    }
}

fn seq_of(ledger: Option<&LedgerEntry>) -> u64 {
    ledger.map_or(0, |l| l.seq)
}

/// How a DIRTY key goes on, once the reader has passed the position at which it was seen (sink-4).
/// By content, not by dots: deciding by dots overwrote edits that no log had shown.
#[must_use]
pub fn end_dirty(me: ActorId, version: &Canonical, content: Fp, known: Option<&Known>) -> Act {
    match known {
        // It is logged. If the version contains it, it may go; else the version that does will come,
        // and contain this one: waiting for it here would fill the set of those that wait.
        Some(known) if known.fp == content => {
            if known.vv.get(me) <= version.vv.get(me) {
                Act::Write
            } else {
                Act::Skip
            }
        }
        // Unlogged: put it into the log, so that it is proposed (sink-8).
        _ if guard!("sink-8", true) => Act::Observe,
        _ => Act::Write,
    }
}

/// A ledger at or beyond a version contains it (I7), if both are of the same log. Else the log was lost
/// or exchanged, and skipping would let the platforms drift apart unseen.
pub fn same_log(version: &Canonical, entry: &LedgerEntry) -> Result<()> {
    if version.vv.le(&entry.vv) && (version.seq < entry.seq || version.vv == entry.vv) {
        return Ok(());
    }
    let what = "the platform's ledger was written from another log: the log was lost, exchanged or restored. Nothing \
                more is written here. Take the old ledger away with `driftless remove`, then start again: all \
                platforms are then compared anew";
    Err(Error::new(Code::SourceIdentity, what).at("seq", version.seq).at("ledger seq", entry.seq))
}

#[cfg(test)]
mod tests {
    use super::same_log;
    use crate::event::{ActorId, Canonical, Dot, LedgerEntry, PlatformNo, Vv};

    fn version(seq: u64, vv: Vv) -> Canonical {
        Canonical { seq, vv, ..Canonical::blank() }
    }

    fn vv(ctr: u64) -> Vv {
        Vv::new().with(Dot { actor: ActorId::new(PlatformNo(1), 1), ctr })
    }

    /// sink-1, I7: what a ledger is beyond, it contains; else it is of another log.
    #[test]
    fn a_ledger_of_another_log_stops_the_sink_instead_of_skipping_versions() {
        let entry = |seq, ctr| LedgerEntry { seq, vv: vv(ctr), ..LedgerEntry::default() };
        let version = version(7, vv(3));
        assert!(same_log(&version, &entry(7, 3)).is_ok(), "a redelivery");
        assert!(same_log(&version, &entry(9, 4)).is_ok(), "a replay onto a newer platform");
        assert!(same_log(&version, &entry(50, 2)).is_err(), "ahead by number, behind by content");
        assert!(same_log(&version, &entry(7, 4)).is_err(), "the same number for other content");
    }
}
