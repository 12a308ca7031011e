//! Asks a loop to finish what it has begun and to hand its work over. A request, no more: a loop
//! that does not hear it is ended where it stands, which loses nothing either.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// A request to stop. Clones share it; it is never taken back.
#[derive(Clone, Default, Debug)]
pub struct Stop(Arc<Inner>);

#[derive(Default, Debug)]
struct Inner {
    asked: AtomicBool,
    news: Notify,
}

impl Stop {
    /// Asks.
    pub fn ask(&self) {
        self.0.asked.store(true, Ordering::Release);
        self.0.news.notify_waiters();
    }

    /// Whether it was asked.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Acquire)
    }

    /// Returns once it is asked; at once if it was. Cancel-safe.
    pub async fn asked(&self) {
        // Made before the look, so that nothing asked in between is missed.
        let news = self.0.news.notified();
        if !self.is_asked() {
            news.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test]
    async fn everybody_hears_a_request_before_or_after_it_was_made() {
        let stop = Stop::default();
        let (mut one, two) = (Box::pin(stop.asked()), stop.clone());
        assert!((&mut one).now_or_never().is_none() && !two.is_asked());
        stop.ask();
        one.await;
        two.asked().await;
        assert!(two.is_asked());
    }
}
