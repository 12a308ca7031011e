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
    let given = ledger.as_ref().map_or(Fp::ABSENT, |l| l.fp);
    if *content == given || acknowledged(me, version) == Some(*content) || !guard!("sink-3", true) {
        return Act::Write;
    }
    Act::Dirty
}

fn seq_of(ledger: Option<&LedgerEntry>) -> u64 {
    ledger.map_or(0, |l| l.seq)
}

/// How the newest local write that the version contains looks here.
fn acknowledged(me: ActorId, version: &Canonical) -> Option<Fp> {
    version.ack.iter().find(|join| join.actor == me).map(|join| join.fp_local)
}

/// How a DIRTY key goes on, once the reader has passed the position at which it was seen (sink-4).
/// By content, not by dots: deciding by dots overwrote edits that no log had shown.
#[must_use]
pub fn end_dirty(me: ActorId, version: &Canonical, content: Fp, known: Option<&Known>) -> Act {
    match known {
        // It is logged. If the version contains it, it may go; else the version that does will come.
        Some(known) if known.fp == content => {
            if known.vv.get(me) <= version.vv.get(me) {
                Act::Write
            } else {
                Act::Dirty
            }
        }
        // Unlogged: put it into the log, so that it is proposed (sink-8).
        _ if guard!("sink-8", true) => Act::Observe,
        _ => Act::Write,
    }
}
