//! Keeps one loop running, and its post on the board true. What is tried again, put aside or given up
//! is decided by the error's remedy alone.

use super::board::Post;
use super::loops::{BLOCKED_MS, Loops};
use super::partition::Lease;
use crate::flow;
use crate::runtime::error::{Error, Remedy, Result};
use crate::runtime::stop::Stop;
use crate::runtime::telemetry::{ERROR, count_error};
use std::future::Future;

impl Loops {
    /// Keeps a loop running, and its post true. Returns true when it has handed over, or was asked to
    /// while it had nothing to hand over; false if its errors forbid that it goes on.
    pub(super) async fn tend<T, F>(&self, post: &Post, stop: &Stop, mut attempt: impl FnMut() -> F) -> bool
    where
        F: Future<Output = Result<T>>,
    {
        loop {
            let told = |error: &Error| tell(post, error);
            let kept = flow::keep(&*self.clock, stop, told, || {
                post.trying();
                attempt()
            });
            let Err(error) = kept.await else { return true };
            tell(post, &error);
            if error.remedy() == Remedy::Halt {
                return false;
            }
            // A single record is in the way: a person may put it right at any time.
            tokio::select! {
                () = stop.asked() => return true,
                () = self.clock.sleep_until(self.clock.now_ms() + BLOCKED_MS) => {}
            }
        }
    }

    /// The same for a loop that a group assigned: it works only while its partition is held (claim-8).
    pub(super) async fn tend_leased<F>(&self, post: &Post, lease: &Lease, mut attempt: impl FnMut() -> F) -> bool
    where
        F: Future<Output = Result<()>>,
    {
        let attempt = || {
            let attempt = attempt();
            async { if lease.held().await { attempt.await } else { Ok(()) } }
        };
        self.tend(post, &lease.stop, attempt).await
    }
}

/// An error is logged and counted here, once.
pub(super) fn tell(post: &Post, error: &Error) {
    count_error(error.code);
    let (dataset, platform, work) = (&*post.dataset, &*post.platform, post.work);
    let partition = post.input.as_ref().map(tracing::field::display);
    match error.remedy() {
        // Another owner took over, or an append has to be looked up: part of normal work.
        Remedy::Retry { after } if after.is_zero() => {
            tracing::info!(target: ERROR, dataset, platform, ?work, partition, %error, "taking over again");
        }
        Remedy::Retry { .. } => {
            tracing::warn!(target: ERROR, dataset, platform, ?work, partition, ?error, "trying again");
        }
        Remedy::Park | Remedy::Halt => {
            tracing::error!(target: ERROR, dataset, platform, ?work, partition, ?error, "stopped");
        }
    }
    post.failed(error);
}
