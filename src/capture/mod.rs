//! A LOG platform's committed changes become proposals in `.changes`: the reader's ownership of its
//! platform (protocol.md §5, claim-9). An event is durable before its position (P1), a position is
//! durable and valid before the source may discard (P2), and what was published is read back from
//! the log, never computed again (read-12).

mod checkpoint;
pub mod copy;
pub mod fold;
pub mod forms;
mod image;
pub mod letters;
pub mod ownership;
pub mod reached;
mod rows;
pub mod truncate;
pub mod view;

use crate::connectors::contract::{Change, CollectionNo, LogPlatform, ReadBatch};
use crate::event::{ActorId, Op, Position, Proposal, Record, Role, Schema, Stamp, Validity};
use crate::guard;
use crate::runtime::clock::Clock;
use crate::runtime::error::Result;
use crate::runtime::progress::Progress;
use crate::state::Memory;
use crate::topic::lineages::Lineages;
use crate::topic::message::message;
use crate::topic::owner::{Bid, Folded, IN_FLIGHT_BYTES_MAX, Writer, claim};
use crate::topic::{Delivered, Log, Partition, Session, Typed};
use checkpoint::Stage;
pub use fold::LaneOf;
use fold::{Addressed, Fold, Published, known_after};
use futures_util::future::select_all;
use letters::Letters;
use ownership::{Checkpoints, Ownership};
use reached::Reached;
use rows::{Restored, Rows};
use std::collections::HashMap;
use std::sync::Arc;

/// Rows that may move while a checkpoint is under way; then the source is not read.
const MOVED_MAX: usize = 20_000;

/// One partition of one collection, as its writer sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lane {
    /// Its collection.
    pub collection: CollectionNo,
    /// C.
    pub changes: Partition,
    /// L of the platform.
    pub ledger: Partition,
}

/// What a reader needs to know before it owns anything.
pub struct Capture {
    /// The log.
    pub log: Arc<dyn Log<Typed>>,
    /// Time, and unique numbers.
    pub clock: Arc<dyn Clock>,
    /// The platform.
    pub platform: Arc<dyn LogPlatform>,
    /// Whose changes these are.
    pub me: ActorId,
    /// All partitions of all collections; the first one holds the checkpoint.
    pub lanes: Vec<Lane>,
    /// The lane of a key.
    pub lane_of: LaneOf,
    /// The schema of each collection, as the platform was opened with it.
    pub schemas: Vec<Arc<Schema>>,
    /// What the platform sees of each collection (read-11).
    pub parts: Vec<Option<fold::Part>>,
    /// The versions of these schemas.
    pub lineages: Arc<dyn Lineages>,
    /// Milliseconds between checkpoints.
    pub checkpoint_every_ms: u64,
    /// Where what is known of rows is kept.
    pub memory: Memory,
    /// How truncates are passed on.
    pub truncate: truncate::Limit,
    /// What is told of the work.
    pub progress: Arc<Progress>,
}

/// An owned platform.
pub struct Owned<'a> {
    capture: &'a Capture,
    stamp: Stamp,
    fold: Fold,
    changes: Vec<Writer>,
    ledgers: Vec<Writer>,
    rows: Rows,
    reached: Reached,
    /// What cannot be told, by partition of C; durable before the next checkpoint (P1, P4).
    letters: Letters,
    /// The checkpoint under way.
    stage: Stage,
}

impl Capture {
    /// claim-5, claim-9: elected in the first L, then the same epoch in all other L, then all C.
    pub async fn take_over(&self) -> Result<Owned<'_>> {
        let session = self.log.session().await?;
        let owner = self.clock.fresh_id();
        loop {
            if let Some(owned) = self.try_take_over(&session, owner).await? {
                return Ok(owned);
            }
        }
    }

    async fn try_take_over(&self, session: &Arc<dyn Session<Typed>>, owner: u128) -> Result<Option<Owned<'_>>> {
        let role = Role::Writer(self.me.platform());
        let mut restored = Restored::new(&self.memory, self.schemas.len());
        let (mut ledgers, mut stamp) = (Vec::new(), None::<Stamp>);
        for Lane { ledger, collection, .. } in &self.lanes {
            let mut folded = Folded::open(&*self.log, ledger, 0, Validity::default()).await?;
            if let Some(stamp) = stamp {
                let high = self.log.bounds(ledger).await?.high;
                folded.read_to(high, |d| restored.take(*collection, d)).await?;
                if folded.validity.owners.get(&role).is_some_and(|o| o.epoch >= stamp.epoch) {
                    return Ok(None);
                }
            }
            let bid = Bid { at: ledger, role, owner, epoch: stamp.map(|s| s.epoch) };
            let won = claim(&*self.log, session, &mut folded, &bid, |d| restored.take(*collection, d)).await?;
            restored.settle()?;
            let Some(won) = won else { return Ok(None) };
            stamp = Some(won);
            ledgers.push(Writer::sole(self.log.clone(), session.clone(), ledger.clone(), &folded));
        }
        let stamp = stamp.unwrap_or_default();
        let mut fold = self.fold_of(&mut restored);
        let mut changes = Vec::new();
        for lane in 0..self.lanes.len() {
            let Some(writer) = self.claim_changes(lane, session, stamp, &restored, &mut fold).await? else {
                return Ok(None);
            };
            changes.push(writer);
        }
        Ok(Some(self.owned(restored, stamp, fold, changes, ledgers)))
    }

    /// Claims C of a lane, and reads back what I published there (read-12).
    async fn claim_changes(
        &self,
        lane: usize,
        session: &Arc<dyn Session<Typed>>,
        stamp: Stamp,
        restored: &Restored,
        fold: &mut Fold,
    ) -> Result<Option<Writer>> {
        let Some(Lane { changes, collection, .. }) = self.lanes.get(lane) else { return Ok(None) };
        let role = Role::Writer(self.me.platform());
        let (from, validity) = restored.mark.as_ref().map_or((0, Validity::default()), |mark| {
            let ctr = mark.ctr.get(lane).copied().unwrap_or(0);
            let validity =
                Validity { owners: [(role, mark.stamp)].into(), last: [(self.me, ctr)].into(), ..Validity::default() };
            (mark.cpos.get(lane).copied().unwrap_or(0), validity)
        });
        let mut folded = Folded::open(&*self.log, changes, from, validity).await?;
        let bid = Bid { at: changes, role, owner: stamp.owner, epoch: Some(stamp.epoch) };
        let mut take = |delivered: &Delivered<Typed>| match delivered.payload.as_deref() {
            Some(Record::Proposal(proposal)) if proposal.dot.actor == self.me => {
                read_back(fold, lane, *collection, proposal);
            }
            Some(Record::Truncate(truncate)) if truncate.dot.actor == self.me => fold.read_back(lane, truncate),
            _ => {}
        };
        let won = claim(&*self.log, session, &mut folded, &bid, &mut take).await?;
        Ok(won.map(|_| Writer::shared(self.log.clone(), session.clone(), changes.clone(), &folded)))
    }

    fn fold_of(&self, restored: &mut Restored) -> Fold {
        let lanes = self.lanes.len();
        let mark = restored.mark.as_ref();
        Fold {
            me: self.me,
            schemas: self.schemas.clone(),
            parts: self.parts.clone(),
            opened: self.schemas.clone(),
            views: HashMap::new(),
            partition_of: self.lane_of.clone(),
            ctr: mark.map_or_else(|| vec![0; lanes], |m| m.ctr.clone()),
            lastpos: mark.map_or_else(|| vec![Position::START; lanes], |m| m.lastpos.clone()),
            rows: std::mem::take(&mut restored.views),
            moved: Default::default(),
            published: Published::default(),
            truncates: truncate::Truncates::new(self.truncate),
        }
    }

    fn owned(
        &self,
        restored: Restored,
        stamp: Stamp,
        fold: Fold,
        changes: Vec<Writer>,
        ledgers: Vec<Writer>,
    ) -> Owned<'_> {
        let collections = self.schemas.len();
        let mark = restored.mark;
        Owned {
            capture: self,
            stamp,
            fold,
            changes,
            ledgers,
            rows: restored.rows,
            reached: Reached::behind(mark.as_ref(), collections, self.clock.now_ms()),
            letters: Letters::default(),
            stage: Stage::Idle,
        }
    }
}

/// A proposal of an earlier life: its dot is used, its position published.
fn read_back(fold: &mut Fold, lane: usize, collection: CollectionNo, proposal: &Proposal) {
    if let Some(ctr) = fold.ctr.get_mut(lane) {
        *ctr = proposal.dot.ctr.max(*ctr);
    }
    if let Some(last) = fold.lastpos.get_mut(lane) {
        *last = proposal.src_pos.max(*last);
    }
    let known = known_after(proposal);
    if proposal.op == Op::Read && proposal.txn.is_none() {
        let copies = fold.published.copies.entry(proposal.src_pos).or_default();
        copies.push((collection, proposal.key.clone(), known));
    } else {
        fold.published.changes.insert((lane, proposal.src_pos), known);
    }
}

impl Owned<'_> {
    /// Copies of an earlier life move RS before a checkpoint says that nothing is left to re-read.
    fn pass_copies(&mut self) {
        if guard!("copies-first", !self.fold.rereading(self.reached.through)) {
            self.fold.pass_all_copies();
        }
    }

    fn send(&mut self, proposals: Vec<Addressed>) {
        let mut batches: Vec<Vec<_>> = self.changes.iter().map(|_| Vec::new()).collect();
        for (lane, record) in proposals {
            if let Some(batch) = batches.get_mut(lane) {
                batch.push(message(Arc::new(record)));
            }
        }
        self.changes.iter_mut().zip(batches).for_each(|(writer, batch)| writer.send(batch));
    }
}

impl Ownership for Owned<'_> {
    async fn start(&mut self) -> Result<Position> {
        if self.reached.is_new() {
            self.reached.begin_at(self.capture.platform.position().await?);
            self.begin().await?;
            self.complete().await?;
        }
        self.rows.fetch_for(&mut self.fold, [])?;
        self.pass_copies();
        self.first_views().await?;
        Ok(self.reached.through)
    }

    fn in_flight_bytes(&self) -> usize {
        self.changes.iter().chain(&self.ledgers).map(Writer::in_flight_bytes).sum()
    }

    /// The rows that move while a checkpoint is under way wait for the next one, and must not become more and more.
    fn is_full(&self) -> bool {
        let waits = self.is_under_way() && self.fold.moved.len() >= MOVED_MAX;
        waits || self.in_flight_bytes() >= IN_FLIGHT_BYTES_MAX
    }

    /// Folds what the source returned and publishes it, up to what stops it.
    async fn publish(&mut self, batch: ReadBatch) -> Result<()> {
        if batch.transactions.is_empty() {
            self.rows.give_back(&mut self.fold)?;
        }
        self.rows.fetch_of(&mut self.fold, &batch.transactions)?;
        let now_ms = self.capture.clock.now_ms();
        let proposals = self.folded(&batch, now_ms).await?;
        self.reached.through = self.reached.through.max(batch.through);
        let changes = || batch.transactions.iter().flat_map(|t| &t.changes);
        self.capture.progress.captured_bytes(changes().map(Change::size).sum());
        self.capture.progress.captured(changes().count(), proposals.len(), self.reached.through.commit, now_ms);
        self.pass_copies();
        self.send(proposals);
        Ok(())
    }

    async fn acked(&mut self) {
        let writers = self.changes.iter_mut().chain(&mut self.ledgers);
        select_all(writers.map(|writer| Box::pin(writer.acked()))).await;
    }

    async fn confirm(&mut self) -> Result<()> {
        for writer in self.changes.iter_mut().chain(&mut self.ledgers) {
            while writer.is_acked() {
                writer.settle().await?;
            }
        }
        Ok(())
    }

    fn due_ms(&self) -> u64 {
        self.checkpoint_ms()
    }

    async fn tend(&mut self) -> Result<Option<Position>> {
        self.begin().await?;
        self.advance().await
    }

    fn elected(&mut self) -> Option<&mut Writer> {
        self.ledgers.first_mut()
    }
}
