//! What the content found in a HINT store is, seen from the ledger (correctness.md §3.3). Pure.

use crate::event::{Fp, Landed, LedgerEntry};
use crate::guard;

/// What the content is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    /// As last given.
    Clean,
    /// As our unfinished write would leave it: it took effect.
    Promote,
    /// Somebody else's write, made on top of what was last given.
    Local {
        /// The witness could not tell whether our write came in between (agent-9).
        ambiguous: bool,
    },
    /// Somebody else's write, made on top of our unfinished one.
    LocalOnIntent,
}

/// Classifies content with fingerprint `fp`; `landed` is the fate of the entry's intent, read in the
/// same snapshot. When in doubt it claims less: at worst that is a logged false conflict, while
/// claiming too much loses a write.
#[must_use]
pub fn classify(entry: &LedgerEntry, fp: Fp, landed: Landed) -> Sight {
    let Some(intent) = &entry.pend else {
        return if fp == entry.fp { Sight::Clean } else { Sight::Local { ambiguous: false } };
    };
    if guard!("promote", fp == intent.fp && landed != Landed::No) {
        Sight::Promote
    } else if landed == Landed::Yes || !guard!("under-claim", true) {
        Sight::LocalOnIntent
    } else if fp == entry.fp {
        Sight::Clean
    } else {
        Sight::Local { ambiguous: landed == Landed::Unknown }
    }
}
