//! What is asked of a loop at work, from outside. An order waits until its loop takes it; it is not
//! kept beyond the process, and decides nothing by itself.

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The orders of one loop.
pub struct Orders<T> {
    given: Mutex<Vec<T>>,
    news: Notify,
}

impl<T> Default for Orders<T> {
    fn default() -> Self {
        Orders { given: Mutex::default(), news: Notify::new() }
    }
}

impl<T> Orders<T> {
    /// Asks for something.
    pub fn give(&self, order: T) {
        self.given.lock().push(order);
        self.news.notify_one();
    }

    /// Returns once there is an order. Cancel-safe.
    pub async fn news(&self) {
        while self.given.lock().is_empty() {
            self.news.notified().await;
        }
    }

    /// What was asked, in order; each is taken once.
    #[must_use]
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut *self.given.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_order_waits_for_its_loop_and_is_taken_once() {
        let orders = Orders::default();
        orders.give("retry");
        orders.news().await;
        assert_eq!(orders.take(), ["retry"]);
        assert!(orders.take().is_empty());
    }
}
