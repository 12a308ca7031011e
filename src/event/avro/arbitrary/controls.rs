//! What is asked of the resolver, from a seed, for tests.

use super::{Gen, Known};
use crate::event::*;

impl Gen {
    /// A control input.
    pub(super) fn control(&mut self, known: Known<'_>) -> Record {
        let control = match self.flag() {
            true => Control::Rules(self.rules()),
            false => Control::Schema(self.any_schema(known).clone()),
        };
        Record::Control(Box::new(ControlInput { command: self.id(), control }))
    }

    /// Keys that a truncate took away.
    pub(super) fn truncate(&mut self, stamp: Stamp) -> Record {
        let gone =
            |g: &mut Self| Gone { key: g.key(), ctx: g.vv(), base_seq: g.number(), base_tomb: g.flag(), fp: g.fp() };
        let (dot, ts, schema) = (self.dot(), self.ts(), self.schema_id());
        let txn = Txn { id: self.number(), idx: self.number() as u32 };
        let src_pos = self.position();
        Record::Truncate(Box::new(Truncate { stamp, dot, ts, schema, txn, src_pos, gone: self.list(4, gone) }))
    }

    /// A dead letter.
    pub(super) fn dead(&mut self, known: Known<'_>) -> DeadLetter {
        DeadLetter {
            id: self.id(),
            fate: [Fate::Open, Fate::Retried, Fate::Discarded][self.below(3) as usize],
            stage: [Stage::Capture, Stage::Apply][self.below(2) as usize],
            by: self.dot().actor,
            key: self.key(),
            code: self.string().into(),
            why: self.string().into(),
            pos: self.position(),
            offset: self.maybe(Self::number),
            version: self.maybe(|g| g.canonical(known)),
            native: self.maybe(|g| g.string().into()),
        }
    }
}
