//! What an agent cannot write, and what it cannot tell: parked, tried again, and told. What the store
//! refuses for too long becomes a dead letter, whole (P4); content that nobody can tell stays parked
//! for as long as it is there, because nothing may overwrite it (agent-6).

use super::Owned;
use crate::event::{DeadLetter, Fate, Key};
use crate::ledger::order::Order;
use crate::ledger::pending::{Park, Why};
use crate::runtime::error::Result;
use crate::runtime::progress::{Disappeared, Parked};
use crate::topic::letters::send_letters;

/// How many of the keys that disappeared are shown.
const SAMPLE_MAX: usize = 5;

impl Owned<'_> {
    /// What is parked, as it is told.
    pub(super) fn parked(&self) -> impl Iterator<Item = Parked> {
        let waiting = self.pending.parked().map(|(version, park)| (&version.key, park));
        waiting.chain(&self.odd).map(|(key, park)| {
            let Park { code, why, lasting, since_ms, .. } = park.clone();
            Parked { key: key.0.clone(), code, why, since_ms, lasting }
        })
    }

    /// The parked keys that are to be tried again.
    pub(super) fn parked_due(&self) -> Vec<Key> {
        let now_ms = self.agent.clock.now_ms();
        let due = self.pending.parked().filter(|(_, park)| park.again_ms <= now_ms);
        due.map(|(version, _)| version.key.clone()).collect()
    }

    /// A key cannot go on. If a version waits for it, that is parked; else the key itself is shown.
    pub(super) fn park(&mut self, key: Key, code: &'static str, why: String, lasting: bool) {
        let park = Park::new(code, why, lasting, self.agent.clock.now_ms());
        match self.pending.version(&key).cloned() {
            Some(version) => self.pending.hold(version, Why::Parked(park)),
            None => {
                let park = match self.odd.get(&key) {
                    Some(before) => park.again(before),
                    None => park,
                };
                self.odd.insert(key, park);
            }
        }
    }

    /// What was refused for too long becomes a dead letter, durable before it counts as finished (P5).
    pub(super) async fn bury(&mut self, now_ms: u64) -> Result<()> {
        let expired = self.pending.expired(now_ms.saturating_sub(self.agent.dead_after_ms));
        let mut letters = Vec::with_capacity(expired.len());
        for (version, offset, park) in &expired {
            letters.push(DeadLetter::applied(self.agent.me, version, *offset, park.code, &park.why));
        }
        self.agent.progress.died(letters.len());
        send_letters(&*self.agent.log, &self.agent.dataset, letters).await?;
        expired.iter().for_each(|(version, ..)| self.pending.settle(&version.key));
        Ok(())
    }

    /// Does what was asked; returns the keys to work on.
    pub async fn obey(&mut self) -> Result<Vec<Key>> {
        let mut keys = Vec::new();
        for order in self.agent.orders.take() {
            match order {
                Order::RetryParked => {
                    self.pending.hurry();
                    keys.extend(self.parked_due());
                    keys.extend(self.odd.keys().cloned());
                }
                Order::Revive(letter) => keys.extend(self.revive(&letter).await?),
                Order::BelieveDeletes { count, until_ms } => self.breaker.believe(count, until_ms),
            }
        }
        Ok(keys)
    }

    /// Fails if so many keys disappeared that a person must look first, and shows which (agent-7).
    pub(super) fn believable(&mut self, missing: &[&Key], expected: usize, counted: bool) -> Result<()> {
        let now_ms = self.agent.clock.now_ms();
        let judged = match counted {
            true => self.breaker.admit(missing.len(), expected, now_ms),
            false => self.breaker.expect(missing.len(), expected, now_ms),
        };
        let shown = judged.as_ref().err().map(|_| Disappeared {
            count: missing.len(),
            records: expected,
            sample: missing.iter().take(SAMPLE_MAX).map(|key| key.0.clone()).collect(),
        });
        self.agent.progress.disappeared(shown);
        judged
    }

    async fn revive(&mut self, letter: &DeadLetter) -> Result<Option<Key>> {
        let Some(version) = &letter.version else { return Ok(None) };
        // A newer version of the key that waits already contains this one.
        if !self.pending.contains(&version.key) {
            self.pending.take_over(version, letter.offset.unwrap_or(self.read.offset));
            self.pending.hold(version.clone(), Why::Busy);
        }
        send_letters(&*self.agent.log, &self.agent.dataset, vec![letter.ended(Fate::Retried)]).await?;
        Ok(Some(version.key.clone()))
    }
}
