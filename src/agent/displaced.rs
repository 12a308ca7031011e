//! Edits that a conditional write moved aside unseen. They stand in no key's place, so they reach the
//! log only here: proposed with an empty context, because what their writer had seen is unknown, and
//! forgotten by the store once that is durable. The ledger's entry stays as it is.

use super::Owned;
use crate::connectors::contract::{Content, Displaced};
use crate::event::{Dot, Hlc, Op, Position, Proposal, Record, Vv};
use crate::runtime::error::Result;
use crate::topic::message::message;
use crate::topic::{Message, Typed};
use std::sync::Arc;

impl Owned<'_> {
    /// Proposes what the store has moved aside. What is no record stays with the store, which tells it.
    pub(super) async fn propose_displaced(&mut self) -> Result<()> {
        if !self.agent.part.proposes {
            return Ok(());
        }
        let (store, place) = (self.agent.store.clone(), self.place());
        let mut displaced = store.displaced(place).await?;
        displaced.retain(|found| matches!(found.content, Content::Row(_)));
        if displaced.is_empty() {
            return Ok(());
        }
        let proposals: Vec<_> = displaced.iter().map(|found| self.propose_one_displaced(found)).collect();
        self.agent.progress.captured(proposals.len(), proposals.len(), 0, self.agent.clock.now_ms());
        self.changes.send(proposals);
        self.changes.settle_all().await?;
        for found in &displaced {
            store.settle(place, found).await?;
        }
        Ok(())
    }

    fn propose_one_displaced(&mut self, found: &Displaced) -> Message<Typed> {
        self.ctr += 1;
        let value = match &found.content {
            Content::Row(row) => Some(row.clone()),
            Content::Absent | Content::Undecodable(_) => None,
        };
        let (value, fp, schema) = self.schemas.proposed(value, found.fp, self.schemas.newest);
        let part = value.as_ref().is_some_and(|row| row.is_partial());
        let proposal = Proposal {
            stamp: self.stamp,
            key: found.key.clone(),
            dot: Dot { actor: self.agent.me, ctr: self.ctr },
            ctx: Vv::new(),
            base_seq: 0,
            base_tomb: false,
            ts: Hlc::from_ms(found.time_ms.min(self.agent.clock.now_ms())),
            op: Op::Put,
            fp: if part { found.fp.of_part() } else { fp },
            fp_local: found.fp,
            schema,
            value,
            before: None,
            txn: None,
            src_pos: Position::START,
            rev: 0,
            entry: None,
            ambiguous_base: true,
        };
        message(Arc::new(Record::Proposal(Box::new(proposal))))
    }
}
