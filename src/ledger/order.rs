//! What a person may ask of a sink or an agent. An order is a request, never a decision: whatever it
//! leads to passes the same guards as everything else.

use crate::event::DeadLetter;

/// Something asked of a loop.
#[derive(Clone, PartialEq, Debug)]
pub enum Order {
    /// Try what is parked now.
    RetryParked,
    /// Take a dead letter up again.
    Revive(Box<DeadLetter>),
    /// Deletes are meant, as many as this, until then (agent-7).
    BelieveDeletes {
        /// At most so many.
        count: usize,
        /// In milliseconds since 1970.
        until_ms: u64,
    },
}
