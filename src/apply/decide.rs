//! What is done with a canonical version at a LOG platform: the one decision table, shared by all
//! stores (sink-3). Pure. Only content that the version already contains is ever overwritten.

use crate::connectors::contract::{Act, Seen};
use crate::event::{ActorId, Canonical, Fp, Known, LedgerEntry};
use crate::guard;

/// Decides for one version; `fp` is how its content will look when read back from this store.
#[must_use]
pub fn decide(me: ActorId, version: &Canonical, fp: Fp, seen: &Seen) -> Act {
    let Seen::Row { fp: content, ledger } = seen else { return Act::Defer };
    if guard!("sink-1", seq_of(ledger.as_ref()) >= version.seq) {
        return Act::Skip;
    }
    if *content == fp {
        return Act::Adopt;
    }
    if untouched(me, version, *content, ledger.as_ref()) || !guard!("sink-3", true) {
        return Act::Write;
    }
    Act::Dirty
}

/// Whether the content is what was last given, or the newest local write that the version contains.
/// If the version contains a local write made since, only that write counts: content that looks as
/// it was given *before* it was brought back by a later write, which the version does not contain
/// (docs/decisions/0006).
fn untouched(me: ActorId, version: &Canonical, content: Fp, ledger: Option<&LedgerEntry>) -> bool {
    let given = ledger.map_or(Fp::ABSENT, |l| l.fp);
    let contained = ledger.map_or(0, |l| l.vv.get(me));
    match version.ack.iter().find(|join| join.actor == me) {
        Some(join) if join.ctr > contained => {
            content == join.fp_local || (content == given && !guard!("sink-3-newest", true))
        }
        _ => content == given,
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
