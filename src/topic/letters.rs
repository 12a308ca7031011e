//! Appending dead letters (`<c>.dead`). No claim is needed: a letter decides nothing, and a repeated
//! one is the same letter.

use super::message::message;
use super::name::dead_beside;
use super::{Log, Partition, Typed};
use crate::event::{DeadLetter, Record};
use crate::runtime::error::Result;
use std::sync::Arc;

/// Appends letters beside `at`, a partition of C or D; they are durable when this returns.
///
/// # Errors
/// As the log has them.
pub async fn send_letters(log: &dyn Log<Typed>, at: &Partition, letters: Vec<DeadLetter>) -> Result<()> {
    if letters.is_empty() {
        return Ok(());
    }
    let records = letters.into_iter().map(|letter| message(Arc::new(Record::Dead(Box::new(letter)))));
    log.session().await?.append(&dead_beside(at), records.collect()).await.map(|_| ())
}
