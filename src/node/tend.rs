//! Keeps one loop running, and its post on the board true. What is tried again, put aside or given up
//! is decided by the error's remedy alone.

use super::board::Post;
use super::loops::{BLOCKED_MS, Loops};
use crate::flow;
use crate::runtime::error::{Error, Remedy, Result};
use crate::runtime::telemetry::{ERROR, count_error};
use std::future::Future;
use std::sync::Arc;

impl Loops {
    /// Keeps a loop running until it hands over or its errors forbid it, and its post true.
    pub(super) async fn tend<T, F>(&self, post: Arc<Post>, mut attempt: impl FnMut() -> F)
    where
        F: Future<Output = Result<T>>,
    {
        loop {
            let told = |error: &Error| tell(&post, error);
            let kept = flow::keep(&*self.clock, told, || {
                post.trying();
                attempt()
            });
            let Err(error) = kept.await else { return };
            tell(&post, &error);
            if error.remedy() == Remedy::Halt {
                return;
            }
            // A single record is in the way: a person may put it right at any time.
            self.clock.sleep_until(self.clock.now_ms() + BLOCKED_MS).await;
        }
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
            tracing::debug!(target: ERROR, dataset, platform, ?work, partition, %error, "taking over again");
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
