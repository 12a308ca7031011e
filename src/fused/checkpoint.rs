//! Checkpoints of a fused reader. Each says how far the platform's log is published as of one moment: the versions
//! made until then are durable first, and count (P1), then the mark is (P2). Reading goes on meanwhile. While
//! collections are held, what the others published is noted, and the position stays.

use super::{Direct, Writing};
use crate::capture::ownership::Checkpoints;
use crate::event::{Position, ReaderMark, Record};
use crate::guard;
use crate::runtime::error::Result;
use crate::topic::message::message;
use std::sync::Arc;

/// What has to be answered before a checkpoint goes on.
#[derive(Default)]
pub(super) enum Stage {
    /// None is under way.
    #[default]
    Idle,
    /// What was published before it.
    Published(Box<ReaderMark>),
    /// The mark.
    Marked(Position),
}

impl Checkpoints for Direct<'_> {
    fn checkpoint_ms(&self) -> u64 {
        if self.is_under_way() {
            return if self.waits() { u64::MAX } else { 0 };
        }
        // read-13
        if self.reached.is_marked() || guard!("fused-read-13", self.is_rereading()) {
            u64::MAX
        } else {
            self.reached.due_ms(self.capture().checkpoint_every_ms)
        }
    }

    fn is_under_way(&self) -> bool {
        !matches!(self.stage, Stage::Idle)
    }

    async fn begin(&mut self) -> Result<()> {
        if self.is_under_way() {
            return Ok(());
        }
        self.letters.send(&self.fused.reader).await?;
        self.lanes.iter_mut().for_each(Writing::cut);
        let (me, now_ms) = (self.capture().me, self.capture().clock.now_ms());
        let ctr = self.lanes.iter().map(|writing| writing.lane.ctr(me)).collect();
        let lastpos = self.lanes.iter().map(|writing| writing.lane.lastpos()).collect();
        let mut mark = self.reached.mark(self.stamp, ctr, lastpos, now_ms);
        mark.pos = self.told();
        self.stage = Stage::Published(mark);
        Ok(())
    }

    async fn advance(&mut self) -> Result<Option<Position>> {
        while !self.waits() {
            self.stage = match std::mem::take(&mut self.stage) {
                Stage::Idle => return Ok(None),
                Stage::Published(mut mark) => {
                    self.reassert().await?;
                    mark.cpos = self.lanes.iter().map(|writing| writing.cut).collect();
                    let pos = mark.pos;
                    self.ledger.send(vec![message(Arc::new(Record::ReaderMark(mark)))]);
                    Stage::Marked(pos)
                }
                Stage::Marked(pos) => {
                    self.reached.confirm();
                    return Ok(Some(pos));
                }
            };
        }
        Ok(None)
    }
}

impl Direct<'_> {
    /// How far everything is published. P2: what is held is not, so the source must keep it.
    fn told(&self) -> Position {
        if self.fused.held.is_empty() || !guard!("fused-held", true) {
            self.reached.through
        } else {
            self.reached.began()
        }
    }

    /// P1, claim-3, claim-4: a checkpoint goes on once everything before it is acknowledged, and counts.
    fn waits(&self) -> bool {
        let before_cut = || self.lanes.iter().any(|writing| writing.writer.is_before_cut());
        match self.stage {
            Stage::Idle => true,
            Stage::Published(_) => guard!("fused-checkpoint-after-acks", before_cut()),
            Stage::Marked(_) => self.ledger.in_flight(),
        }
    }
}
