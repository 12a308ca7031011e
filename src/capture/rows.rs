//! RS of all rows, beside the views a fold looks into: what is not in memory, and how it comes to be
//! from L. It is what was known at the newest checkpoint: what stands in L from behind it is of a
//! checkpoint that was never finished, the log is read again from there, and knowing more than the
//! log showed would claim too much.

use super::Owned;
use super::fold::{Fold, RowState};
use crate::connectors::contract::{Change, CollectionNo, Transaction};
use crate::event::{Key, Known, KnownRecord, Position, ReaderMark, Record};
use crate::guard;
use crate::runtime::error::{Error, Result};
use crate::state::view::View;
use crate::state::{Bare, Cold, Memory, Noted, Plain};
use crate::topic::message::{KNOWN, message, removal};
use crate::topic::{Delivered, Message, Typed};
use bytes::Bytes;
use std::sync::Arc;

/// What is written to a partition of L, and what that supersedes there.
pub(super) type Moved = (Vec<Message<Typed>>, Vec<Message<Typed>>);

/// Rows written to L, or taken from it, with one fetch.
const PAGE: usize = 4_096;

/// The rows of each collection that are not in memory.
pub(super) struct Rows(Vec<Cold<RowState>>);

impl Rows {
    pub(super) fn new(memory: &Memory, collections: usize) -> Self {
        Rows((0..collections).map(|_| memory.cold(Arc::new(Plain))).collect())
    }

    /// Brings rows into the views, where they stay until the next call.
    pub(super) fn fetch<'k>(
        &mut self,
        views: &mut [View<RowState>],
        keys: impl IntoIterator<Item = (CollectionNo, &'k Key)>,
    ) -> Result<()> {
        for (cold, view) in self.0.iter_mut().zip(views.iter_mut()) {
            cold.make_room(view)?;
        }
        keys.into_iter().try_for_each(|(collection, key)| self.bring(views, collection, key))
    }

    /// Brings the rows that transactions touch into the fold's views.
    pub(super) fn fetch_of(&mut self, fold: &mut Fold, transactions: &[Transaction]) -> Result<()> {
        let changes = || transactions.iter().flat_map(|txn| &txn.changes);
        let row = |change| match change {
            &Change::Row { collection, ref key, .. }
            | &Change::Observed { collection, ref key, .. }
            | &Change::Ledger { collection, ref key, .. } => Some((collection, key)),
            Change::Truncate(_) | Change::Unreadable(_) => None,
        };
        self.fetch_for(fold, changes().filter_map(row))?;
        // Each row of a truncated table is asked for; what is published names them all anyway (read-9).
        for change in changes() {
            if let Change::Truncate(collection) = *change
                && let (Some(cold), Some(view)) =
                    (self.0.get(usize::from(collection)), fold.rows.get_mut(usize::from(collection)))
            {
                cold.bring_all(view)?;
            }
        }
        Ok(())
    }

    /// Brings these rows into the fold's views, and those of copies that are about to move RS.
    pub(super) fn fetch_for<'k>(
        &mut self,
        fold: &mut Fold,
        keys: impl IntoIterator<Item = (CollectionNo, &'k Key)>,
    ) -> Result<()> {
        for (cold, view) in self.0.iter_mut().zip(&mut fold.rows) {
            cold.make_room(view)?;
        }
        for (collection, key) in keys {
            self.bring(&mut fold.rows, collection, key)?;
        }
        for (collection, key, _) in fold.published.copies.values().flatten() {
            self.bring(&mut fold.rows, *collection, key)?;
        }
        Ok(())
    }

    /// As `Cold::give_back`, for all of a fold's views.
    pub(super) fn give_back(&mut self, fold: &mut Fold) -> Result<()> {
        self.0.iter_mut().zip(&mut fold.rows).try_for_each(|(cold, view)| cold.give_back(view))
    }

    fn bring(&self, views: &mut [View<RowState>], collection: CollectionNo, key: &Key) -> Result<()> {
        match (self.0.get(usize::from(collection)), views.get_mut(usize::from(collection))) {
            (Some(cold), Some(view)) => cold.bring(view, key),
            _ => Ok(()),
        }
    }
}

impl Bare for RowState {
    fn put(&self, out: &mut Vec<u8>) {
        self.noted.put(out);
        self.known.put(out);
    }

    fn take(bytes: &mut Bytes) -> Option<Self> {
        let noted = Bare::take(bytes)?;
        Some(RowState { known: Bare::take(bytes)?, noted })
    }
}

/// What L says, record by record.
pub(super) struct Restored {
    pub rows: Rows,
    pub views: Vec<View<RowState>>,
    pub mark: Option<ReaderMark>,
    /// What no checkpoint has confirmed yet.
    ahead: Vec<Found>,
    /// What is confirmed and not yet among the rows.
    ready: Vec<Found>,
    /// The first failure; what comes behind it is not taken.
    failed: Option<Error>,
}

/// A row as L has it.
type Found = (CollectionNo, Key, RowState);

impl Restored {
    pub(super) fn new(memory: &Memory, collections: usize) -> Self {
        let views = (0..collections).map(|_| View::default()).collect();
        Restored {
            rows: Rows::new(memory, collections),
            views,
            mark: None,
            ahead: Vec::new(),
            ready: Vec::new(),
            failed: None,
        }
    }

    /// Takes a valid record of an L of `collection`.
    pub(super) fn take(&mut self, collection: CollectionNo, delivered: &Delivered<Typed>) {
        if self.failed.is_none() {
            self.failed = self.try_take(collection, delivered).err();
        }
    }

    fn try_take(&mut self, collection: CollectionNo, delivered: &Delivered<Typed>) -> Result<()> {
        match delivered.payload.as_deref() {
            Some(Record::Known(record)) => {
                let KnownRecord { stamp, key, known } = &**record;
                let row = RowState { known: known.clone(), noted: Some(Noted::new(known.pos.commit, *stamp)) };
                let marked = self.mark.as_ref().map_or(Position::START, |m| m.pos);
                if guard!("as-of-the-mark", known.pos > marked) {
                    self.ahead.push((collection, key.clone(), row));
                    return Ok(());
                }
                self.ready.push((collection, key.clone(), row));
            }
            Some(Record::ReaderMark(mark)) if self.mark.as_ref().is_none_or(|m| m.number < mark.number) => {
                self.mark = Some((**mark).clone());
                let (ahead, confirmed): (Vec<_>, Vec<_>) =
                    std::mem::take(&mut self.ahead).into_iter().partition(|(_, _, row)| row.known.pos > mark.pos);
                self.ahead = ahead;
                self.ready.extend(confirmed);
            }
            _ => {}
        }
        if self.ready.len() >= PAGE { self.keep() } else { Ok(()) }
    }

    /// Everything taken is among the rows.
    pub(super) fn settle(&mut self) -> Result<()> {
        self.failed.take().map_or(Ok(()), Err)?;
        self.keep()
    }

    /// In the order of keys, because what lies side by side on the disk is found together.
    fn keep(&mut self) -> Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        ready.sort_by(|(_, a, _), (_, b, _)| a.cmp(b));
        for page in ready.chunks(PAGE) {
            self.rows.fetch(&mut self.views, page.iter().map(|(collection, key, _)| (*collection, key)))?;
            for (collection, key, row) in page {
                if let Some(view) = self.views.get_mut(usize::from(*collection))
                    && view.get(key).is_none_or(|older| older.known.pos <= row.known.pos)
                {
                    view.put(key.clone(), row.clone());
                }
            }
        }
        Ok(())
    }
}

impl Owned<'_> {
    /// What is known of the rows that moved, as messages per lane, and those that remove what they
    /// supersede.
    pub(super) fn take_moved(&mut self) -> Result<Vec<Moved>> {
        let mut lanes: Vec<_> = self.ledgers.iter().map(|_| (Vec::new(), Vec::new())).collect();
        let mut moved: Vec<(CollectionNo, Key)> = self.fold.moved.drain().collect();
        moved.sort_unstable();
        for page in moved.chunks(PAGE) {
            self.rows.fetch(&mut self.fold.rows, page.iter().map(|(collection, key)| (*collection, key)))?;
            for (collection, key) in page {
                let lane = (self.capture.lane_of)(*collection, key);
                let Some(view) = self.fold.rows.get_mut(usize::from(*collection)) else { continue };
                let (Some(RowState { known, noted }), Some((entries, removals))) =
                    (view.get(key).cloned(), lanes.get_mut(lane))
                else {
                    continue;
                };
                let newer = Noted::new(known.pos.commit, self.stamp);
                let older = noted.filter(|older| *older != newer);
                removals.extend(older.map(|older| removal(KNOWN, key, older.number, older.owner)));
                entries.push(message(known_record(self.stamp, key, &known)));
                view.put(key.clone(), RowState { known, noted: Some(newer) });
            }
        }
        Ok(lanes)
    }
}

fn known_record(stamp: crate::event::Stamp, key: &Key, known: &Known) -> Typed {
    Arc::new(Record::Known(Box::new(KnownRecord { stamp, key: key.clone(), known: known.clone() })))
}
