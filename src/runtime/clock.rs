//! Time as a parameter: the simulation brings its own.

use async_trait::async_trait;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Where "now" comes from, and how to wait.
#[async_trait]
pub trait Clock: Send + Sync {
    /// Milliseconds since 1970, UTC.
    fn now_ms(&self) -> u64;

    /// Returns when `now_ms` is at least `at_ms`; `u64::MAX` is never.
    async fn sleep_until(&self, at_ms: u64);

    /// A number nobody has had before: owners, intents, append attempts.
    fn fresh_id(&self) -> u128;
}

/// The machine's clock.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        #[expect(clippy::disallowed_methods, reason = "this is the clock")]
        let now = std::time::SystemTime::now();
        now.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }

    async fn sleep_until(&self, at_ms: u64) {
        if at_ms == u64::MAX {
            return std::future::pending().await;
        }
        let wait = at_ms.saturating_sub(self.now_ms());
        #[expect(clippy::disallowed_methods, reason = "this is the clock")]
        tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
    }

    fn fresh_id(&self) -> u128 {
        // Random once per process, then counted: a version takes one, and the system's random numbers
        // cost a call each.
        static FIRST: LazyLock<u128> = LazyLock::new(|| uuid::Uuid::new_v4().as_u128());
        static COUNT: AtomicU64 = AtomicU64::new(0);
        FIRST.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed).into())
    }
}
