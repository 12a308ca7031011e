//! A dataset that one LOG platform writes (resolve-9): its reader settles its own changes and appends
//! the canonical versions to D itself. An event is durable and known to count before its position (P1,
//! claim-4), a position before the source may discard (P2); what was published is read back from D,
//! never computed again (read-12). Memory does not grow with the dataset. Nothing of another writer
//! is expected: `node` refuses to start a dataset under another mode than the one it began in.
//!
//! Collections that people hold are passed over: their changes stay where they are, because no checkpoint
//! goes past the place this life began to read at. Whoever reads without holding them begins there, and
//! finds the other collections published already (read-12).

pub mod behind;
mod checkpoint;
pub mod heads;
pub mod lane;
mod rare;
mod takeover;

use crate::capture::Capture;
use crate::capture::copy::Copier;
use crate::capture::fold::View;
use crate::capture::letters::Letters;
use crate::capture::ownership::{Checkpoints, Ownership};
use crate::capture::reached::Reached;
use crate::connectors::contract::{Change, CollectionNo, Copied, LogPlatform, ReadBatch, Transaction, Unreadable};
use crate::event::{Copying, Fp, Key, Offset, Position, Record, Stamp};
use crate::guard;
use crate::runtime::error::Result;
use crate::runtime::progress::Progress;
use crate::settle::Projection;
use crate::topic::message::message;
use crate::topic::name::Parts;
use crate::topic::owner::Writer;
use crate::topic::{Message, Typed};
use checkpoint::Stage;
use futures_util::future::select_all;
use lane::{Image, Lane};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What a fused reader needs to know before it owns anything.
pub struct Fused {
    /// As a reader that proposes; of the ledger topics only the first one is written.
    pub reader: Capture,
    /// The partitions of each of its lanes.
    pub parts: Vec<Parts>,
    /// When S is written.
    pub projection: Projection,
    /// The collections of which nothing is published now.
    pub held: Vec<CollectionNo>,
}

/// A partition that is written.
struct Writing {
    lane: Lane,
    writer: Writer,
    /// Made, and not sent yet.
    batch: Vec<Message<Typed>>,
    /// Where my newest version known to count stands.
    newest: Offset,
    /// The same when what was sent before the writer's cut had settled: where the chain is taken up again.
    cut: Offset,
    /// Keys behind whose head something else may stand (claim-7).
    strays: HashSet<Key>,
}

/// An owned platform whose changes go straight to D.
pub struct Direct<'a> {
    fused: &'a Fused,
    stamp: Stamp,
    lanes: Vec<Writing>,
    /// The first L: checkpoints.
    ledger: Writer,
    reached: Reached,
    /// What the log has shown of rows while a first copy is under way (who-5).
    shown: HashMap<(CollectionNo, Key), (Position, Fp)>,
    /// Where each collection was truncated last.
    truncated: HashMap<CollectionNo, Position>,
    /// How the rows of tables that are of another form now are read (read-10).
    views: HashMap<CollectionNo, View>,
    /// The id of the newest version made; unique per append attempt.
    id: u64,
    /// Dead letters that are not durable yet.
    letters: Letters,
    looked_ms: u64,
    /// The checkpoint under way.
    stage: Stage,
}

/// Where an image was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    /// In the log.
    Log,
    /// In the log, and a first copy has to know of it (who-5).
    LogNoted,
    /// By a first copy.
    Copy,
}

impl Writing {
    /// Sends what was made.
    fn send(&mut self) {
        if !self.batch.is_empty() {
            self.writer.send(std::mem::take(&mut self.batch));
        }
    }

    /// Makes a cut behind everything sent until now.
    fn cut(&mut self) {
        self.writer.cut();
        self.cut = self.newest;
    }

    /// Waits for the answer of the oldest batch; its versions are known to count then (claim-4).
    async fn settle(&mut self) -> Result<usize> {
        let before_cut = self.writer.is_before_cut();
        let offsets = self.writer.settle().await?;
        self.newest = offsets.last().copied().unwrap_or(self.newest);
        if before_cut {
            self.cut = self.newest;
        }
        Ok(offsets.len())
    }
}

impl Fused {
    /// Whether nothing of a collection is to be published now.
    fn holds(&self, collection: CollectionNo) -> bool {
        self.held.contains(&collection)
    }
}

impl<'a> Direct<'a> {
    fn capture(&self) -> &'a Capture {
        &self.fused.reader
    }

    async fn transaction(&mut self, transaction: Transaction, now_ms: u64) -> Result<usize> {
        let mut views = self.views(&transaction).await?.into_iter().peekable();
        let Transaction { commit, time_ms, first, changes, .. } = transaction;
        let (mut versions, from) = (0, self.log_found());
        for (number, change) in changes.into_iter().enumerate() {
            if self.fused.holds(change.collection()) {
                continue;
            }
            while let Some((collection, _, view)) = views.next_if(|(_, from, _)| *from <= number) {
                self.look(collection, view);
            }
            let at = Position::new(commit, first + number as u64);
            if let Change::Truncate(collection) = change {
                versions += self.truncated(collection, at, time_ms, now_ms).await?;
                continue;
            }
            if let Change::Unreadable(found) = &change {
                // P8: nobody publishes a bent value; what it replaces in the same transaction tells the key.
                if !found.replaced {
                    self.letters.keep(&self.fused.reader, found, at);
                }
                continue;
            }
            let Some(mut image) = Image::of(change, at, time_ms) else { continue };
            let lane = (self.capture().lane_of)(image.collection, &image.key);
            if self.lanes.get(lane).is_none_or(|writing| writing.lane.is_published(at)) {
                continue;
            }
            if !self.views.is_empty() {
                image = self.seen(lane, image).await?;
            }
            if image.is_partial() {
                self.learn_heads(lane).await?;
            }
            self.settle(lane, image, now_ms, from)?;
            versions += 1;
        }
        views.for_each(|(collection, _, view)| self.look(collection, view));
        Ok(versions)
    }

    /// The next version of an image's key, to be sent with the batch.
    fn settle(&mut self, lane: usize, image: Image, now_ms: u64, from: Found) -> Result<()> {
        let (capture, collection, at) = (self.capture(), image.collection, image.at);
        let opened = capture.schemas.get(usize::from(image.collection));
        // A copy is read as the platform was opened.
        let schema = self.views.get(&collection).filter(|_| from != Found::Copy).map(|view| &view.now.to).or(opened);
        let schema = schema.map(|s| s.id).unwrap_or_default();
        let Some(writing) = self.lanes.get_mut(lane) else { return Ok(()) };
        self.id = self.id.wrapping_add(1);
        let version = writing.lane.settle(capture.me, schema, image, now_ms, self.id)?;
        if from == Found::LogNoted {
            self.shown.insert((collection, version.key.clone()), (at, version.fp));
        }
        writing.batch.push(message(Arc::new(Record::Canonical(version))));
        Ok(())
    }

    fn look_ms(&self) -> u64 {
        self.looked_ms.saturating_add(self.fused.projection.every_ms)
    }

    fn is_rereading(&self) -> bool {
        self.lanes.iter().any(|writing| self.reached.through < writing.lane.lastpos())
    }

    fn log_found(&self) -> Found {
        if self.reached.is_copying() { Found::LogNoted } else { Found::Log }
    }

    async fn settle_all(&mut self) -> Result<()> {
        for writing in &mut self.lanes {
            while writing.writer.in_flight() {
                let versions = writing.settle().await?;
                self.fused.reader.progress.settled(versions, 0, 0, self.fused.reader.clock.now_ms());
            }
        }
        Ok(())
    }
}

impl Copier for Direct<'_> {
    fn platform(&self) -> Arc<dyn LogPlatform> {
        self.capture().platform.clone()
    }

    fn progress(&self) -> &Progress {
        &self.fused.reader.progress
    }

    fn copied(&self) -> &[Copying] {
        &self.reached.copied
    }

    fn to_copy(&self) -> Option<CollectionNo> {
        let open = (0..).zip(&self.reached.copied).filter(|(_, copied)| **copied != Copying::Done);
        open.map(|(collection, _)| collection).find(|collection| !self.fused.holds(*collection))
    }

    fn through(&self) -> Position {
        self.reached.through
    }

    /// who-5: what the log has shown since is not published again.
    fn publish_copied(&mut self, rows: Vec<Copied>, at: Position) -> Result<()> {
        let now_ms = self.capture().clock.now_ms();
        let (found, mut versions) = (rows.len(), 0);
        self.capture().progress.captured_bytes(rows.iter().map(|row| row.key.0.len() + row.row.size()).sum());
        for row in rows {
            let shown = self.shown.get(&(row.collection, row.key.clone()));
            if guard!("fused-who-5", shown.is_some_and(|(pos, fp)| *pos > at || *fp == row.fp)) {
                continue;
            }
            if self.truncated.get(&row.collection).is_some_and(|newest| *newest > at) {
                continue;
            }
            let lane = (self.capture().lane_of)(row.collection, &row.key);
            self.settle(lane, Image::copied(row, at), now_ms, Found::Copy)?;
            versions += 1;
        }
        self.capture().progress.captured(found, versions, self.reached.through.commit, now_ms);
        self.lanes.iter_mut().for_each(Writing::send);
        Ok(())
    }

    fn keep(&mut self, found: &Unreadable, at: Position) {
        self.letters.keep(&self.fused.reader, found, at);
    }

    fn note(&mut self, collection: CollectionNo, copying: Copying) {
        self.reached.note(collection, copying);
        if !self.reached.is_copying() {
            self.shown = HashMap::new();
        }
    }
}

impl Ownership for Direct<'_> {
    async fn start(&mut self) -> Result<Position> {
        if self.reached.is_new() {
            self.reached.begin_at(self.capture().platform.position().await?);
            self.begin().await?;
            self.complete().await?;
        }
        Ok(self.reached.through)
    }

    fn in_flight_bytes(&self) -> usize {
        self.lanes.iter().map(|writing| writing.writer.in_flight_bytes()).sum()
    }

    /// Settles what the source returned.
    async fn publish(&mut self, batch: ReadBatch) -> Result<()> {
        let now_ms = self.capture().clock.now_ms();
        let (mut changes, mut versions, mut bytes) = (0, 0, 0);
        for transaction in batch.transactions {
            changes += transaction.changes.len();
            bytes += transaction.changes.iter().map(Change::size).sum::<usize>();
            match self.transaction(transaction, now_ms).await {
                Ok(made) => versions += made,
                Err(stopped) => {
                    // What stands before the place is not held up by it.
                    self.lanes.iter_mut().for_each(Writing::send);
                    self.settle_all().await?;
                    return Err(stopped);
                }
            }
        }
        self.reached.through = self.reached.through.max(batch.through);
        self.capture().progress.captured_bytes(bytes);
        self.capture().progress.captured(changes, versions, self.reached.through.commit, now_ms);
        self.lanes.iter_mut().for_each(Writing::send);
        Ok(())
    }

    async fn acked(&mut self) {
        let writers = self.lanes.iter_mut().map(|writing| &mut writing.writer).chain([&mut self.ledger]);
        select_all(writers.map(|writer| Box::pin(writer.acked()))).await;
    }

    async fn confirm(&mut self) -> Result<()> {
        let mut versions = 0;
        for writing in &mut self.lanes {
            while writing.writer.is_acked() {
                versions += writing.settle().await?;
            }
        }
        self.capture().progress.settled(versions, 0, 0, self.capture().clock.now_ms());
        while self.ledger.is_acked() {
            self.ledger.settle().await?;
        }
        Ok(())
    }

    fn due_ms(&self) -> u64 {
        self.checkpoint_ms().min(self.look_ms())
    }

    /// Looks behind what I wrote, too.
    async fn tend(&mut self) -> Result<Option<Position>> {
        let now_ms = self.capture().clock.now_ms();
        if now_ms >= self.look_ms() {
            self.looked_ms = now_ms;
            self.settle_all().await?;
            for writing in &mut self.lanes {
                writing.writer.look_behind().await?;
            }
            self.reassert().await?;
        }
        if now_ms < self.checkpoint_ms() {
            return Ok(None);
        }
        self.begin().await?;
        self.advance().await
    }

    fn elected(&mut self) -> Option<&mut Writer> {
        Some(&mut self.ledger)
    }
}
