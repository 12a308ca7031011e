//! What a sink cannot write: it stays parked for a while and is tried again, because what refuses it
//! may go away; then it becomes a dead letter, whole, and the partition goes on (P4, sink-5). A dead
//! letter may be taken up again; it then passes the same guards as a redelivery.

use super::Applying;
use crate::connectors::contract::{Act, Planned, Seen};
use crate::event::{Ack, ActorId, Canonical, Cause, DeadLetter, Dot, Fate, Fp, Hlc, Origin, SchemaId, Stage, Vv};
use crate::ledger::order::Order;
use crate::ledger::pending::Park;
use crate::runtime::error::Result;
use crate::runtime::progress::Parked;
use crate::topic::letters::send_letters;
use std::sync::Arc;

/// A parked version as it is told.
pub(super) fn told((version, park): (&Arc<Canonical>, &Park)) -> Parked {
    let Park { code, why, lasting, since_ms, .. } = park.clone();
    Parked { key: version.key.0.clone(), code, why, since_ms, lasting }
}

impl Applying<'_> {
    /// What was refused for too long becomes a dead letter. The letter is durable before the version
    /// counts as finished (P5).
    pub(super) async fn bury(&mut self, now_ms: u64) -> Result<()> {
        let expired = self.pending.expired(now_ms.saturating_sub(self.sink.dead_after_ms));
        let letter = |(version, offset, park): &(Arc<Canonical>, u64, Park)| {
            DeadLetter::applied(self.sink.me, version, *offset, park.code, &park.why)
        };
        let letters: Vec<DeadLetter> = expired.iter().map(letter).collect();
        self.sink.progress.died(letters.len());
        send_letters(&*self.sink.log, &self.sink.dataset, letters).await?;
        expired.iter().for_each(|(version, ..)| self.pending.settle(&version.key));
        Ok(())
    }

    /// Does what was asked.
    pub async fn obey(&mut self) -> Result<()> {
        for order in self.sink.orders.take() {
            match order {
                Order::RetryParked => {
                    self.pending.hurry();
                    self.retry().await?;
                }
                Order::Revive(letter) => self.revive(*letter).await?,
                Order::BelieveDeletes { .. } => {}
            }
        }
        Ok(())
    }

    async fn revive(&mut self, letter: DeadLetter) -> Result<()> {
        let taken = match (letter.stage, &letter.version) {
            (Stage::Apply, Some(version)) => {
                // A newer version of the key that waits already contains this one.
                if !self.pending.contains(&version.key) {
                    self.pending.take_over(version, letter.offset.unwrap_or(self.read.offset));
                    self.work(vec![version.clone()], false).await?;
                }
                true
            }
            _ => self.look_again(&letter).await?,
        };
        if taken {
            let ended = letter.ended(Fate::Retried);
            send_letters(&*self.sink.log, &self.sink.dataset, vec![ended]).await?;
        }
        Ok(())
    }

    /// The row of a change that could not be told is put into the log as it stands now, if it can be
    /// told now; the reader meets it there (sink-8).
    async fn look_again(&mut self, letter: &DeadLetter) -> Result<bool> {
        if letter.key.is_empty() {
            return Ok(false);
        }
        let keys = [letter.key.clone()];
        let locked = self.rows.lock(self.sink.collection, &keys).await?;
        let Seen::Row { fp, .. } = locked.seen(0) else { return Ok(false) };
        let version = Arc::new(nothing(letter));
        locked.write(&[Planned { version, fp, act: Act::Observe }]).await?;
        Ok(true)
    }
}

/// A version that says nothing but its key: only ever observed with, never written.
fn nothing(letter: &DeadLetter) -> Canonical {
    Canonical {
        key: letter.key.clone(),
        seq: 0,
        id: 0,
        prev: 0,
        origin: Origin::Input(0),
        idx: 0,
        last: true,
        dot: Dot { actor: ActorId::RESOLVER, ctr: 0 },
        vv: Vv::new(),
        ts: Hlc::default(),
        fp: Fp::ABSENT,
        tomb: true,
        schema: SchemaId::default(),
        after: None,
        by: letter.by,
        cause: Cause::Join,
        ack: Ack::new(),
        rctr: 0,
        conflicted: 0,
        conflict: None,
        asked: None,
        copy: false,
    }
}
