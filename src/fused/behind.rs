//! Behind a fused writer: the heads of a partition go to S, and what `.changes` asks for is taken
//! (resolve-4, resolve-9). A cursor of its own over the valid records of D, never the writer's memory;
//! at low priority, in parts, so that neither latency nor memory depends on how much is behind.

use super::Fused;
use crate::event::{Canonical, Key, Link, Record, ResolverMark, Stamp, StateRecord, Validity};
use crate::guard;
use crate::resolve::PartState;
use crate::runtime::error::Result;
use crate::topic::message::message;
use crate::topic::name::Parts;
use crate::topic::owner::{Folded, Writer};
use crate::topic::{Message, Typed};
use bytes::Bytes;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

/// Records of D taken into S together.
const PART_MAX: usize = 2_000;
/// Heads whose message is remembered, so that it can be removed when a newer one counts. What was
/// forgotten stays in S, below a newer one of its key: it takes room and misleads nobody (claim-6).
const REMEMBERED_MAX: usize = 10_000;
/// The longest pause between two looks at how much is behind, in milliseconds.
const LOOK_MS_MAX: u64 = 10_000;

/// The projection of one partition.
pub struct Behind<'a> {
    fused: &'a Fused,
    parts: &'a Parts,
    stamp: Stamp,
    state: PartState,
    projected: Writer,
    number: u64,
    remembered: HashMap<Key, Bytes>,
}

impl<'a> Behind<'a> {
    /// Goes on behind the newest mark of S; `projected` writes S under a claim.
    pub(super) fn new(
        fused: &'a Fused,
        parts: &'a Parts,
        stamp: Stamp,
        mark: Option<&ResolverMark>,
        projected: Writer,
    ) -> Self {
        let mut state = PartState::default();
        mark.iter().for_each(|mark| state.restore_mark(mark));
        let number = mark.map_or(0, |mark| mark.number);
        Behind { fused, parts, stamp, state, projected, number, remembered: HashMap::new() }
    }

    /// Works until it fails: fenced, or the log does not answer.
    pub async fn run(mut self) -> Result<Infallible> {
        let (log, clock) = (&*self.fused.reader.log, &*self.fused.reader.clock);
        let projection = self.fused.projection;
        let mut since_ms = None;
        loop {
            clock.sleep_until(clock.now_ms() + projection.every_ms.min(LOOK_MS_MAX)).await;
            let high = log.bounds(&self.parts.dataset).await?.high;
            let behind = usize::try_from(high.saturating_sub(self.state.link.offset)).unwrap_or(usize::MAX);
            if behind == 0 {
                since_ms = None;
                continue;
            }
            let now_ms = clock.now_ms();
            let waited_ms = now_ms.saturating_sub(*since_ms.get_or_insert(now_ms));
            if behind >= projection.versions_max || waited_ms >= projection.every_ms {
                since_ms = None;
                self.project(high).await?;
            }
        }
    }

    async fn project(&mut self, high: u64) -> Result<()> {
        self.absorb().await?;
        let link = self.state.link;
        let chain = Validity { tip: (link.seq, link.id), ..Validity::default() };
        let mut folded = Folded::open(&*self.fused.reader.log, &self.parts.dataset, link.offset, chain).await?;
        while folded.offset() < high {
            let mut heads: HashMap<Key, Arc<Canonical>> = HashMap::new();
            for (delivered, valid) in folded.next(PART_MAX).await? {
                let Some(Record::Canonical(version)) = delivered.payload.as_deref() else { continue };
                if valid || !guard!("claim-void", true) {
                    self.state.link = Link { offset: delivered.offset, seq: version.seq, id: version.id };
                    heads.insert(version.key.clone(), version.clone());
                }
            }
            self.state.link.offset = folded.offset();
            self.write(heads).await?;
        }
        Ok(())
    }

    /// Heads first, the mark once they are known to count, then what they supersede goes.
    async fn write(&mut self, heads: HashMap<Key, Arc<Canonical>>) -> Result<()> {
        if self.remembered.len() > REMEMBERED_MAX {
            self.remembered.clear();
        }
        let mut removals = Vec::new();
        let mut entries = Vec::with_capacity(heads.len());
        for (key, head) in heads {
            let entry = message(Arc::new(Record::State(Box::new(StateRecord { stamp: self.stamp, head }))));
            let older = self.remembered.insert(key, entry.key.clone()).filter(|older| *older != entry.key);
            removals.extend(older.map(|key| Message::<Typed> { key, payload: None }));
            entries.push(entry);
        }
        self.projected.send(entries);
        if guard!("fused-mark-after-acks", true) {
            self.projected.settle_all().await?;
        }
        self.number += 1;
        let mark = Record::ResolverMark(Box::new(self.state.mark(self.stamp, self.number)));
        self.projected.send(vec![message(Arc::new(mark))]);
        self.projected.settle_all().await?;
        self.projected.send(removals);
        self.projected.settle_all().await
    }

    /// Control inputs are taken into the mark: rules, schemas, and which commands were seen (resolve-2).
    async fn absorb(&mut self) -> Result<()> {
        let (log, at) = (&*self.fused.reader.log, &self.parts.changes);
        let high = log.bounds(at).await?.high;
        if self.state.c_off >= high {
            return Ok(());
        }
        let mut reading = log.read(at, self.state.c_off).await?;
        while reading.offset() < high {
            for delivered in reading.next(PART_MAX).await? {
                if let Some(record) = &delivered.payload {
                    self.state.absorb(delivered.offset, record);
                }
            }
        }
        Ok(())
    }
}
