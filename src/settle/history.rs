//! Old versions, found in D by their dense sequence number (value-2, correctness.md §4.2).

use crate::event::{Canonical, Key, Offset, Record, Seq, Validity};
use crate::runtime::error::Result;
use crate::topic::owner::Folded;
use crate::topic::{Delivered, Log, Partition, Typed};
use std::sync::Arc;

/// The valid version `seq` of `key`; `None` if D does not hold it any more. `voids` is how many
/// records of D do not count: version `seq` stands at offset `seq - 1` or up to so many behind it.
pub async fn version(
    log: &dyn Log<Typed>,
    dataset: &Partition,
    key: &Key,
    seq: Seq,
    voids: u64,
) -> Result<Option<Arc<Canonical>>> {
    let bounds = log.bounds(dataset).await?;
    let from = seq.saturating_sub(1).max(bounds.low);
    let end = (seq + voids).min(bounds.high);
    let mut candidates = candidates(log, dataset, key, seq, from, end).await?;
    if candidates.len() > 1 {
        // A void version has the same number: the chain tells them apart.
        return chained(log, dataset, bounds.low, key, seq, end).await;
    }
    Ok(candidates.pop())
}

async fn candidates(
    log: &dyn Log<Typed>,
    dataset: &Partition,
    key: &Key,
    seq: Seq,
    from: Offset,
    end: Offset,
) -> Result<Vec<Arc<Canonical>>> {
    let mut found = Vec::new();
    if from >= end {
        return Ok(found);
    }
    let mut reading = log.read(dataset, from).await?;
    while reading.offset() < end {
        let room = usize::try_from(end - reading.offset()).unwrap_or(1000).min(1000);
        for delivered in reading.next(room).await? {
            if let Some(Record::Canonical(c)) = delivered.payload.as_deref() {
                let wanted = c.seq == seq && c.key == *key && !c.copy;
                found.extend(wanted.then(|| c.clone()));
            }
        }
    }
    Ok(found)
}

/// The version as the fold over D from its oldest record on finds it.
async fn chained(
    log: &dyn Log<Typed>,
    dataset: &Partition,
    low: Offset,
    key: &Key,
    seq: Seq,
    end: Offset,
) -> Result<Option<Arc<Canonical>>> {
    // The chain begins at offset 0 with nothing before it; the first record there may well be void.
    let first = if low == 0 { Vec::new() } else { log.read(dataset, low).await?.next(1).await? };
    let tip = match first.first().and_then(|d| d.payload.as_deref()) {
        Some(Record::Canonical(c)) => (c.seq - 1, c.prev),
        _ => (0, 0),
    };
    let chain = Validity { tip, ..Validity::default() };
    let mut folded = Folded::open(log, dataset, low, chain).await?;
    let mut found = None;
    let take = |delivered: &Delivered<Typed>| {
        if let Some(Record::Canonical(c)) = delivered.payload.as_deref()
            && c.seq == seq
            && c.key == *key
        {
            found = Some(c.clone());
        }
    };
    folded.read_to(end, take).await?;
    Ok(found)
}
