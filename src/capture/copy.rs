//! The first copy of what a LOG platform already holds, while its log is being read (who-5, who-6).
//! A chunk of rows is read as of a position P, held until the log is folded up to P, and then
//! published but for the rows the log has shown since. So a copy can be interrupted and go on behind
//! the last key published, and never brings an old image back.

use super::Owned;
use crate::connectors::contract::{BatchLimit, CollectionNo, Copied, LogPlatform, Snapshot, Unreadable};
use crate::event::{Copying, Position};
use crate::runtime::error::Result;
use crate::runtime::progress::Progress;
use std::future::Future;
use std::sync::Arc;

/// Who reads a platform's log and publishes what a first copy finds there.
pub trait Copier {
    /// The platform.
    fn platform(&self) -> Arc<dyn LogPlatform>;

    /// Where it is told how far a copy is.
    fn progress(&self) -> &Progress;

    /// How far the first copy of each collection is.
    fn copied(&self) -> &[Copying];

    /// The next collection to be copied; `None` if there is nothing to copy now.
    fn to_copy(&self) -> Option<CollectionNo> {
        let open = self.copied().iter().position(|c| *c != Copying::Done);
        open.and_then(|c| CollectionNo::try_from(c).ok())
    }

    /// The log is folded up to here.
    fn through(&self) -> Position;

    /// Publishes rows found at a position, but for those the log has shown since (who-5).
    fn publish_copied(&mut self, rows: Vec<Copied>, at: Position) -> Result<()>;

    /// A row that cannot be told was found at a position.
    fn keep(&mut self, found: &Unreadable, at: Position);

    /// The first copy of a collection is so far now.
    fn note(&mut self, collection: CollectionNo, copying: Copying);
}

/// The collection being copied.
pub struct Copy {
    collection: CollectionNo,
    snapshot: Box<dyn Snapshot>,
    chunk: Option<Vec<Copied>>,
}

impl Copy {
    /// Begins, or goes on, where there is something to copy.
    pub fn begin<O: Copier>(owned: &O) -> impl Future<Output = Result<Option<Copy>>> + Send + use<O> {
        let collection = owned.to_copy();
        let after = match collection.and_then(|c| owned.copied().get(usize::from(c))) {
            Some(Copying::Through(key)) => Some(key.clone()),
            _ => None,
        };
        collection.into_iter().for_each(|c| owned.progress().copies(c, None));
        let platform = owned.platform();
        async move {
            let Some(collection) = collection else { return Ok(None) };
            let snapshot = platform.snapshot(collection, after.as_ref()).await?;
            Ok(Some(Copy { collection, snapshot, chunk: None }))
        }
    }

    /// Whether a chunk is held that the log has not reached yet.
    #[must_use]
    pub fn waits(&self, owned: &impl Copier) -> bool {
        self.chunk.is_some() && owned.through() < self.snapshot.position()
    }

    /// Reads a chunk, or publishes the one it holds. Returns whether the collection is finished.
    pub async fn proceed(&mut self, owned: &mut impl Copier, limit: BatchLimit) -> Result<bool> {
        let Some(rows) = self.chunk.take() else {
            self.chunk = self.snapshot.next(limit).await?;
            let at = self.snapshot.position();
            self.snapshot.unreadable().iter().for_each(|found| owned.keep(found, at));
            let finished = self.chunk.is_none();
            if finished {
                owned.note(self.collection, Copying::Done);
                owned.progress().copied_all(self.collection);
            }
            return Ok(finished);
        };
        owned.progress().copies(self.collection, self.snapshot.expected());
        owned.progress().copied(self.collection, rows.len());
        let through = rows.last().map(|row| Copying::Through(row.key.clone()));
        owned.publish_copied(rows, self.snapshot.position())?;
        through.into_iter().for_each(|through| owned.note(self.collection, through));
        Ok(false)
    }
}

impl Copier for Owned<'_> {
    fn platform(&self) -> Arc<dyn LogPlatform> {
        self.capture.platform.clone()
    }

    fn progress(&self) -> &Progress {
        &self.capture.progress
    }

    fn copied(&self) -> &[Copying] {
        &self.reached.copied
    }

    fn through(&self) -> Position {
        self.reached.through
    }

    fn publish_copied(&mut self, rows: Vec<Copied>, at: Position) -> Result<()> {
        self.rows.fetch_for(&mut self.fold, rows.iter().map(|row| (row.collection, &row.key)))?;
        let now_ms = self.capture.clock.now_ms();
        let proposals = self.fold.copied(&rows, at, now_ms, self.stamp);
        self.capture.progress.captured_bytes(rows.iter().map(|row| row.key.0.len() + row.row.size()).sum());
        self.capture.progress.captured(rows.len(), proposals.len(), self.reached.through.commit, now_ms);
        self.send(proposals);
        Ok(())
    }

    fn keep(&mut self, found: &Unreadable, at: Position) {
        self.letters.keep(self.capture, found, at);
    }

    fn note(&mut self, collection: CollectionNo, copying: Copying) {
        self.reached.note(collection, copying);
    }
}
