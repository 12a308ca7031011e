//! What is told of settled conflicts in the log of the process: that there was one, and how it ended.
//! The values stand in `.conflicts`, not here.

use super::Journal;
use crate::event::Canonical;
use crate::runtime::telemetry::CONFLICT;

impl Journal<'_> {
    /// A line for a conflict that is settled for good.
    pub(super) fn tell_conflict(&self, version: &Canonical) {
        let Some(conflict) = &version.conflict else { return };
        let (partition, seq, key) = (&self.resolver.parts.dataset, version.seq, &version.key);
        let (head, proposal) = (conflict.head.by, conflict.proposal.by);
        tracing::info!(
            target: CONFLICT, %partition, seq, ?key, rule = &*conflict.rule, loser = ?conflict.loser, %head, %proposal,
            open = conflict.open.as_deref(),
            "settled"
        );
    }
}
