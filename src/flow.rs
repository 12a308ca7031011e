//! The path. A change on a platform is captured and proposed; the resolver settles proposals into
//! the journal D; sinks and agents apply D to every platform. Each loop owns its partition by a claim
//! in the log and holds nothing that the log does not: whatever fails, it is taken over again from
//! there. One append is the transaction; no step writes two partitions atomically (protocol.md §3).
//!
//! The loops only call stages. What may be overwritten, what is an echo, who wins is decided in the
//! pure functions of `capture::fold`, `resolve::step`, `apply::decide` and `agent::step`.

use crate::agent::Agent;
use crate::apply::Sink;
use crate::apply::exclusive::ExclusiveSink;
use crate::capture::Capture;
use crate::capture::copy::Copy;
use crate::capture::ownership::Ownership;
use crate::connectors::contract::{BatchLimit, ExclusiveWriter, LogPlatform};
use crate::fused::Fused;
use crate::runtime::clock::Clock;
use crate::runtime::error::{Error, Remedy, Result};
use crate::settle::Resolver;
use crate::topic::Membership;
use futures_util::future::select_all;
use futures_util::{FutureExt, select_biased};
use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;

/// The longest pause between two tries.
const PAUSE_MS_MAX: u64 = 60_000;

/// Runs a loop until it fails for good; what passes by itself is tried again (error::remedy).
pub async fn keep<F>(clock: &dyn Clock, mut told: impl FnMut(&Error), mut attempt: impl FnMut() -> F) -> Error
where
    F: Future<Output = Result<Infallible>>,
{
    let mut pause_ms = 0;
    loop {
        let begun_ms = clock.now_ms();
        let Err(error) = attempt().await;
        let Remedy::Retry { after } = error.remedy() else { return error };
        told(&error);
        let lasted_ms = clock.now_ms().saturating_sub(begun_ms);
        let first_ms = u64::try_from(after.as_millis()).unwrap_or(PAUSE_MS_MAX);
        pause_ms = if lasted_ms > PAUSE_MS_MAX { first_ms } else { first_ms.max(pause_ms * 2).min(PAUSE_MS_MAX) };
        clock.sleep_until(clock.now_ms() + pause_ms).await;
    }
}

/// LOG platform → C: changes are read, folded and published; a position follows its events (P1), and
/// the source may discard only below a durable, valid checkpoint (P2).
pub async fn capture(capture: &Capture, limit: BatchLimit) -> Result<Infallible> {
    let mut owned = capture.take_over().await?;
    let Err(error) = read_on(&mut owned, &*capture.clock, limit).await;
    // read-6: who is no longer the owner stops silently; the new owner has moved the source on.
    Err(owned.unless_fenced(error).await)
}

/// Reads a source's log, and copies what it held before, for as long as the log takes what is found.
async fn read_on(owned: &mut impl Ownership, clock: &dyn Clock, limit: BatchLimit) -> Result<Infallible> {
    let platform = owned.platform();
    let mut reader = platform.reader(owned.start().await?).await?;
    let mut copy = Copy::begin(owned).await?;
    loop {
        let full = owned.is_full();
        if let Some(chunk) = copy.as_mut().filter(|chunk| !full && !chunk.waits(owned))
            && chunk.proceed(owned, limit).await?
        {
            copy = Copy::begin(owned).await?;
        }
        let (due, full) = (owned.due_ms(), owned.is_full());
        let copying = !full && copy.as_ref().is_some_and(|chunk| !chunk.waits(owned));
        select_biased! {
            () = owned.acked().fuse() => owned.confirm().await?,
            () = clock.sleep_until(due).fuse() => {
                if let Some(durable) = owned.tend().await? {
                    reader.release(durable).await?;
                }
            }
            batch = unless(full, reader.next(limit)).fuse() => owned.publish(batch?).await?,
            () = ready_if(copying).fuse() => {}
        }
    }
}

/// LOG platform → D, where it is the only one that writes (resolve-9): changes are read, settled and appended
/// by one owner; positions follow as in `capture`. Behind it the heads go to S.
pub async fn fused(fused: &Fused, limit: BatchLimit) -> Result<Infallible> {
    let (mut owned, behind) = fused.take_over().await?;
    let projected = select_all(behind.into_iter().map(|behind| behind.run().boxed()));
    let Err(error) = select_biased! {
        ended = read_on(&mut owned, &*fused.reader.clock, limit).fuse() => ended,
        (ended, ..) = projected.fuse() => ended,
    };
    Err(owned.unless_fenced(error).await)
}

/// C → D: each proposal becomes the next canonical version of its key, or a settled conflict.
pub async fn resolve(resolver: &Resolver, limit: BatchLimit) -> Result<Infallible> {
    let mut journal = resolver.take_over().await?;
    let mut inputs = resolver.log.read(&resolver.parts.changes, journal.inputs_from()).await?;
    loop {
        journal.tend().await?;
        let (due, full) = (journal.due_ms(), journal.is_full());
        select_biased! {
            () = journal.acked().fuse() => { journal.confirm().await?; }
            batch = unless(full, inputs.next(limit.rows_max)).fuse() => journal.settle(batch?).await?,
            () = resolver.clock.sleep_until(due).fuse() => {}
        }
    }
}

/// D → LOG platform: lock, decide, write row and ledger in one transaction, then commit the offset.
pub async fn apply(
    sink: &Sink,
    platform: &dyn LogPlatform,
    member: &dyn Membership,
    limit: BatchLimit,
) -> Result<Infallible> {
    let (mut applying, mut dataset) = sink.start(platform.rows().await?, member).await?;
    loop {
        let due = applying.due_ms();
        let full = applying.is_full();
        select_biased! {
            () = sink.orders.news().fuse() => applying.obey().await?,
            () = sink.clock.sleep_until(due).fuse() => applying.retry().await?,
            batch = unless(full, dataset.next(limit.rows_max)).fuse() => applying.apply(batch?).await?,
        }
        applying.commit(member).await?;
    }
}

/// D → a destination nobody else writes: rows and mark in one transaction, while the next batch is read.
pub async fn exclusive(
    sink: &ExclusiveSink,
    writer: Box<dyn ExclusiveWriter>,
    member: &dyn Membership,
    limit: BatchLimit,
) -> Result<Infallible> {
    let (mut writing, mut dataset) = sink.start(writer).await?;
    writing.commit(member).await?;
    let mut batch = dataset.next(limit.rows_max).await?;
    loop {
        let mut next = None;
        let mut reading = pin!(dataset.next(limit.rows_max).fuse());
        {
            let mut applying = pin!(writing.apply(batch).fuse());
            loop {
                select_biased! {
                    done = applying => break done?,
                    read = reading => next = Some(read?),
                }
            }
        }
        writing.commit(member).await?;
        batch = match next {
            Some(batch) => batch,
            None => reading.await?,
        };
    }
}

/// D ⇄ HINT platform: one owner observes and applies, because both move the same ledger entry.
pub async fn agent(agent: &Agent, limit: BatchLimit) -> Result<Infallible> {
    let (mut owned, mut dataset) = agent.take_over().await?;
    loop {
        if agent.clock.now_ms() >= owned.scan_due_ms() {
            owned.scan().await?;
        }
        owned.mark().await?;
        let due = owned.due_ms();
        let keys = select_biased! {
            () = agent.orders.news().fuse() => owned.obey().await?,
            () = agent.clock.sleep_until(due).fuse() => owned.released(),
            batch = unless(!agent.part.receives, dataset.next(limit.rows_max)).fuse() => owned.receive(batch?).await?,
            hints = agent.store.hints(agent.collection).fuse() => owned.hinted(hints?),
        };
        owned.work(keys).await?;
    }
}

/// What comes next, unless so much is on its way or waits that nothing more may be taken in.
async fn unless<T>(full: bool, next: impl Future<Output = Result<T>>) -> Result<T> {
    if full { std::future::pending().await } else { next.await }
}

/// Ready at once, or never.
async fn ready_if(ready: bool) {
    if !ready {
        pin!(std::future::pending::<()>()).await;
    }
}
