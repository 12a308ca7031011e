//! What a sink has finished is recorded in its group now and then, while it goes on: a commit costs as much as an
//! append, and an offset may be behind its effects (P5), because replays are free (sink-1).

use crate::event::Link;
use crate::runtime::error::{Code, Error, Result};
use crate::topic::{Committed, Membership, Partition};
use futures_util::future::BoxFuture;

/// Milliseconds between commits.
const COMMIT_EVERY_MS: u64 = 500;

/// What a group was told of a partition.
pub(super) struct Commits<'a> {
    member: &'a dyn Membership,
    at: &'a Partition,
    committed: Link,
    begun_ms: u64,
    under_way: Option<(Link, BoxFuture<'a, Result<()>>)>,
}

impl<'a> Commits<'a> {
    /// Goes on behind what the group knows.
    pub(super) fn new(member: &'a dyn Membership, at: &'a Partition, committed: Link) -> Self {
        Commits { member, at, committed, begun_ms: 0, under_way: None }
    }

    /// When `finished` is to be recorded, in milliseconds since 1970; never while the commit before is under way.
    pub(super) fn due_ms(&self, finished: Link) -> u64 {
        let is_known = finished == self.committed || self.under_way.is_some();
        if is_known { u64::MAX } else { self.begun_ms + COMMIT_EVERY_MS }
    }

    /// Begins to record what is finished.
    pub(super) fn begin(&mut self, finished: Link, now_ms: u64) {
        self.under_way = Some((finished, self.member.commit(self.at, committed_of(finished))));
        self.begun_ms = now_ms;
    }

    /// Waits for the commit under way; for ever if there is none. Cancel-safe.
    pub(super) async fn done(&mut self) -> Result<()> {
        let Some((link, commit)) = &mut self.under_way else { return std::future::pending().await };
        commit.await?;
        (self.committed, self.under_way) = (*link, None);
        Ok(())
    }

    /// Records what is finished, and returns when the group knows it.
    pub(super) async fn complete(&mut self, finished: Link, now_ms: u64) -> Result<()> {
        if self.under_way.is_some() {
            self.done().await?;
        }
        if finished != self.committed {
            self.begin(finished, now_ms);
            self.done().await?;
        }
        Ok(())
    }
}

/// What a group keeps of a link.
pub(super) fn committed_of(link: Link) -> Committed {
    let metadata = [link.seq.to_be_bytes(), link.id.to_be_bytes()].concat().into();
    Committed { offset: link.offset, metadata }
}

/// The link a group keeps.
pub(super) fn link_of(committed: &Committed) -> Result<Link> {
    let number = |range: std::ops::Range<usize>| {
        let bytes: Option<[u8; 8]> = committed.metadata.get(range).and_then(|b| b.try_into().ok());
        bytes.map(u64::from_be_bytes).ok_or_else(|| {
            let what = "the group's committed metadata is not driftless' own: another consumer uses its name";
            Error::new(Code::RecordUndecodable, what)
        })
    };
    Ok(Link { offset: committed.offset, seq: number(0..8)?, id: number(8..16)? })
}
