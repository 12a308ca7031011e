//! Checkpoints of a reader that proposes. Each says how far the platform's log is published as of one moment:
//! what was published until then is durable first (P1), then what is known of the rows that moved, then the mark
//! itself (P2). Reading and publishing go on meanwhile.

use super::Owned;
use super::ownership::Checkpoints;
use super::rows::Moved;
use crate::event::{Position, ReaderMark, Record};
use crate::guard;
use crate::runtime::error::Result;
use crate::topic::message::message;
use crate::topic::owner::Writer;
use crate::topic::{Message, Typed};
use std::sync::Arc;

/// What has to be answered before a checkpoint goes on.
#[derive(Default)]
pub(super) enum Stage {
    /// None is under way.
    #[default]
    Idle,
    /// What was published before it, on its way to C.
    Published(Box<ReaderMark>, Vec<Moved>),
    /// What is known of the rows that moved, on its way to L; with what it supersedes.
    Known(Box<ReaderMark>, Vec<Vec<Message<Typed>>>),
    /// The mark, on its way to the first L; with what is superseded.
    Marked(Position, Vec<Vec<Message<Typed>>>),
}

impl Checkpoints for Owned<'_> {
    fn checkpoint_ms(&self) -> u64 {
        if self.is_under_way() {
            return if self.waits() { u64::MAX } else { 0 };
        }
        let idle = self.reached.is_marked() && self.fold.moved.is_empty();
        if idle || guard!("read-13", self.fold.rereading(self.reached.through)) {
            u64::MAX
        } else {
            self.reached.due_ms(self.capture.checkpoint_every_ms)
        }
    }

    fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Idle)
    }

    async fn begin(&mut self) -> Result<()> {
        if self.is_under_way() {
            return Ok(());
        }
        // read-13, P3: never while re-reading.
        if guard!("read-13", self.fold.rereading(self.reached.through)) {
            return Ok(());
        }
        self.letters.send(self.capture).await?;
        let moved = self.take_moved()?;
        self.changes.iter_mut().for_each(Writer::cut);
        let (ctr, lastpos) = (self.fold.ctr.clone(), self.fold.lastpos.clone());
        let mark = self.reached.mark(self.stamp, ctr, lastpos, self.capture.clock.now_ms());
        self.stage = Stage::Published(mark, moved);
        Ok(())
    }

    async fn advance(&mut self) -> Result<Option<Position>> {
        while !self.waits() {
            self.stage = match std::mem::take(&mut self.stage) {
                Stage::Idle => return Ok(None),
                Stage::Published(mut mark, moved) => {
                    mark.cpos = self.changes.iter().map(Writer::cut_at).collect();
                    let (known, superseded): (Vec<_>, Vec<_>) = moved.into_iter().unzip();
                    self.ledgers.iter_mut().zip(known).for_each(|(writer, batch)| writer.send(batch));
                    Stage::Known(mark, superseded)
                }
                Stage::Known(mark, superseded) => {
                    let pos = mark.pos;
                    let mark = vec![message(Arc::new(Record::ReaderMark(mark)))];
                    self.ledgers.iter_mut().take(1).for_each(|first| first.send(mark.clone()));
                    Stage::Marked(pos, superseded)
                }
                Stage::Marked(pos, superseded) => {
                    self.ledgers.iter_mut().zip(superseded).for_each(|(writer, batch)| writer.send(batch));
                    self.reached.confirm();
                    return Ok(Some(pos));
                }
            };
        }
        Ok(None)
    }
}

impl Owned<'_> {
    /// P1, claim-3, claim-4: a checkpoint goes on once everything before it is acknowledged, and counts.
    fn waits(&self) -> bool {
        match self.stage {
            Stage::Idle => true,
            Stage::Published(..) => guard!("checkpoint-after-acks", self.changes.iter().any(Writer::is_before_cut)),
            Stage::Known(..) | Stage::Marked(..) => self.ledgers.iter().any(Writer::in_flight),
        }
    }
}
