//! What a fused writer does seldom: truncates, tables of another form, changes that leave fields out, and
//! records of D that would mislead a plain consumer. None of it costs anything until it is met.

use super::heads::Heads;
use super::lane::Image;
use super::{Direct, Writing};
use crate::capture::fold::View;
use crate::connectors::contract::{CollectionNo, Transaction};
use crate::event::{Canonical, Position, Record};
use crate::guard;
use crate::runtime::error::Result;
use crate::settle;
use crate::topic::message::message;
use crate::topic::owner::IN_FLIGHT_BYTES_MAX;
use std::sync::Arc;

/// Versions that a truncate sends together.
const TRUNCATED_MAX: usize = 1_000;

/// A form's collection, the first change it holds for, and what it means.
type Looked = (CollectionNo, usize, View);

impl Direct<'_> {
    /// read-10: what the forms of a transaction mean; when this returns, their schemas may be used.
    pub(super) async fn views(&mut self, transaction: &Transaction) -> Result<Vec<Looked>> {
        let mut views = Vec::with_capacity(transaction.forms.len());
        for form in transaction.forms.iter().filter(|form| !self.fused.holds(form.collection)) {
            let view = self.capture().view_of(transaction, form).await?;
            let capture = self.capture();
            for lane in capture.lanes.iter().filter(|lane| lane.collection == form.collection) {
                settle::announce(&*capture.log, &lane.changes, std::slice::from_ref(&view.now.to)).await?;
            }
            views.push((form.collection, form.from, view));
        }
        Ok(views)
    }

    /// From here on a table is of another form.
    pub(super) fn look(&mut self, collection: CollectionNo, view: View) {
        let lanes = self.capture().lanes.iter().zip(&mut self.lanes);
        lanes.filter(|(of, _)| of.collection == collection).for_each(|(_, w)| w.lane.announce(&view.now.to));
        self.views.insert(collection, view);
    }

    /// An image as a row of the dataset.
    pub(super) async fn seen(&mut self, lane: usize, image: Image) -> Result<Image> {
        let Some(view) = self.views.get(&image.collection).cloned() else { return Ok(image) };
        if !view.now.is_partial() {
            return Ok(image.seen_through(&view, true));
        }
        self.learn_heads(lane).await?;
        let new = self.lanes.get(lane).is_none_or(|writing| !writing.lane.holds(&image.key));
        Ok(image.seen_through(&view, new))
    }

    /// read-9: every row of a collection is gone, at one place in the log. Only what the dataset holds need be
    /// told; nobody else writes, so nothing can have been unseen.
    pub(super) async fn truncated(
        &mut self,
        collection: CollectionNo,
        at: Position,
        time_ms: u64,
        now_ms: u64,
    ) -> Result<usize> {
        let (mut versions, from) = (0, self.log_found());
        self.truncated.insert(collection, at);
        for lane in 0..self.lanes.len() {
            let mine = self.capture().lanes.get(lane).is_some_and(|of| of.collection == collection);
            let Some(writing) = self.lanes.get(lane).filter(|_| mine) else { continue };
            if writing.lane.is_truncated(at) {
                continue;
            }
            let known = writing.lane.knows_heads();
            self.learn_heads(lane).await?;
            let keys = self.lanes.get(lane).map(|writing| writing.lane.present()).unwrap_or_default();
            for key in keys {
                self.settle(lane, Image::gone(collection, key, at, time_ms), now_ms, from)?;
                versions += 1;
                if let Some(writing) = self.lanes.get_mut(lane) {
                    writing.relieve().await?;
                }
            }
            if let Some(writing) = self.lanes.get_mut(lane).filter(|_| !known) {
                writing.lane.forget_heads();
            }
        }
        Ok(versions)
    }

    /// value-2: a change that leaves fields out needs the version it changed. From the first one on the
    /// heads of its partition are kept.
    pub(super) async fn learn_heads(&mut self, lane: usize) -> Result<()> {
        let (Some(writing), Some(parts)) = (self.lanes.get_mut(lane), self.fused.parts.get(lane)) else {
            return Ok(());
        };
        if writing.lane.knows_heads() {
            return Ok(());
        }
        writing.send();
        while writing.writer.in_flight() {
            writing.settle().await?;
        }
        let heads = Heads::read(&*self.fused.reader.log, parts, None).await?;
        // They may hold what another owner made meanwhile: then this one is fenced (claim-2).
        writing.writer.look_behind().await?;
        writing.lane.learn_heads(heads.newest);
        Ok(())
    }

    /// claim-7: a plain upsert consumer must not be left with a void version as the last of its key. A
    /// checkpoint passes none, so that the next owner finds what this one did not get to.
    pub(super) async fn reassert(&mut self) -> Result<()> {
        self.lanes.iter_mut().for_each(|writing| writing.strays.extend(writing.writer.take_strays()));
        if self.lanes.iter().all(|writing| writing.strays.is_empty()) {
            return Ok(());
        }
        self.settle_all().await?;
        for (writing, parts) in self.lanes.iter_mut().zip(&self.fused.parts) {
            if writing.strays.is_empty() {
                continue;
            }
            let strays = std::mem::take(&mut writing.strays);
            let heads = Heads::read(&*self.fused.reader.log, parts, Some(&strays)).await?;
            let of = |copy: Canonical| message(Arc::new(Record::Canonical(Arc::new(copy))));
            if guard!("fused-claim-7", true) {
                writing.writer.send(heads.copies().into_iter().map(of).collect());
                writing.writer.settle_all().await?;
            }
        }
        Ok(())
    }
}

impl Writing {
    /// Sends what has become many, and waits while more than enough is on its way.
    async fn relieve(&mut self) -> Result<()> {
        if self.batch.len() < TRUNCATED_MAX {
            return Ok(());
        }
        self.send();
        while self.writer.in_flight_bytes() >= IN_FLIGHT_BYTES_MAX {
            self.settle().await?;
        }
        Ok(())
    }
}
