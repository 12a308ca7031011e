//! What was last given to a platform, per key, and what that says about the content found there.
//! Pure. An entry lies beside the row in the store (LOG), or in `.ledger.<platform>` (HINT).

pub mod classify;
pub mod order;
pub mod pending;

use crate::event::{Canonical, Fp, Intent, LedgerEntry, Token};

/// The entry of a platform that holds `version`, its content looking like `fp` when read back.
#[must_use]
pub fn entry_of(version: &Canonical, fp: Fp, token: Option<Token>) -> LedgerEntry {
    LedgerEntry {
        seq: version.seq,
        vv: version.vv.clone(),
        fp,
        ts: version.ts,
        tomb: version.tomb,
        schema: version.schema,
        token,
        pend: None,
    }
}

/// The entry of a platform on which `intent` took effect.
#[must_use]
pub fn entry_of_intent(intent: &Intent, token: Option<Token>) -> LedgerEntry {
    LedgerEntry {
        seq: intent.seq,
        vv: intent.vv.clone(),
        fp: intent.fp,
        ts: intent.ts,
        tomb: intent.tomb,
        schema: intent.schema,
        token,
        pend: None,
    }
}
