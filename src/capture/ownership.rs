//! What the path asks of who owns a LOG platform: to pass on what its log shows and to say when that is
//! durable. Two do: `Owned` proposes to C, `fused::Direct` appends to D.

use super::copy::Copier;
use crate::connectors::contract::ReadBatch;
use crate::event::Position;
use crate::guard;
use crate::runtime::error::{Error, Remedy, Result};
use crate::topic::owner::{IN_FLIGHT_BYTES_MAX, Writer};
use std::future::Future;

/// Its checkpoints, one at a time, each made while reading goes on (docs/decisions/0012).
pub trait Checkpoints: Send {
    /// When there is something to do for a checkpoint, in milliseconds since 1970; never while nothing moved, and
    /// never while published changes are still re-read (read-13).
    fn checkpoint_ms(&self) -> u64;

    /// Takes down what a checkpoint is to say, if none is under way.
    fn begin(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// Whether a checkpoint is under way.
    fn is_under_way(&self) -> bool;

    /// Goes on with the checkpoint as far as the answers allow; returns its position once it is durable.
    fn advance(&mut self) -> impl Future<Output = Result<Option<Position>>> + Send;
}

/// A LOG platform, owned.
pub trait Ownership: Copier + Checkpoints {
    /// Where to read the source from: behind the newest checkpoint. At the very first start that is
    /// where the log stands now, made durable before anything else happens.
    fn start(&mut self) -> impl Future<Output = Result<Position>> + Send;

    /// About how many bytes are on their way to the log.
    fn in_flight_bytes(&self) -> usize;

    /// Passes on what the source returned; on its way when this returns.
    fn publish(&mut self, batch: ReadBatch) -> impl Future<Output = Result<()>> + Send;

    /// Waits until some append is answered; for ever if none is in flight. Cancel-safe.
    fn acked(&mut self) -> impl Future<Output = ()> + Send;

    /// Takes the answers there are. An append that failed, or does not count, ends this ownership
    /// (claim-2): what was speculated on it is dropped, and the log is read again.
    fn confirm(&mut self) -> impl Future<Output = Result<()>> + Send;

    /// When `tend` has something to do, in milliseconds since 1970.
    fn due_ms(&self) -> u64;

    /// Does what is due: begins a checkpoint or goes on with it; returns the position the source may discard up to,
    /// once that is durable.
    fn tend(&mut self) -> impl Future<Output = Result<Option<Position>>> + Send;

    /// Waits for the checkpoint under way, if there is one.
    fn complete(&mut self) -> impl Future<Output = Result<Option<Position>>> + Send {
        async {
            loop {
                let durable = self.advance().await?;
                if durable.is_some() || !self.is_under_way() {
                    return Ok(durable);
                }
                self.acked().await;
                self.confirm().await?;
            }
        }
    }

    /// Writes a last checkpoint, if there is something to say (claim-9: draining).
    fn hand_over(&mut self) -> impl Future<Output = Result<Option<Position>>> + Send {
        async {
            let before = self.complete().await?;
            if self.checkpoint_ms() < u64::MAX {
                self.begin().await?;
            }
            Ok(self.complete().await?.or(before))
        }
    }

    /// The partition in which the epoch is elected, and the checkpoints stand.
    fn elected(&mut self) -> Option<&mut Writer>;

    /// Whether so much is on its way that the source is not read.
    fn is_full(&self) -> bool {
        self.in_flight_bytes() >= IN_FLIGHT_BYTES_MAX
    }

    /// The error, or that somebody else has taken over meanwhile, which explains it (read-6).
    fn unless_fenced(&mut self, error: Error) -> impl Future<Output = Error> + Send {
        async move {
            let Some(first) = self.elected() else { return error };
            if error.remedy() != Remedy::Halt || !guard!("read-6", true) {
                return error;
            }
            let fenced = match first.settle_all().await {
                Ok(()) => first.look_behind().await,
                failed => failed,
            };
            fenced.err().unwrap_or(error)
        }
    }
}
