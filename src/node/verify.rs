//! Whether a platform belongs to this log. A log that was deleted, replaced by an empty one or restored
//! from an older copy would give its numbers a second time; platforms that know higher ones would take
//! new versions for old. So a platform that knows more than the log is told apart before anything is
//! read or written there.

use super::dataset::Ready;
use super::log::Opened;
use crate::connectors::contract::{CollectionNo, LogPlatform};
use crate::event::{Record, Seq};
use crate::runtime::error::{Code, Error, Result};
use crate::topic::{Log, Partition};
use std::collections::BTreeMap;

/// How many of the ledger's newest rows are looked at: enough to have some of every partition.
const TOPS: usize = 256;
/// How many records behind the end of a partition are looked at for the highest number.
const TAIL: u64 = 1_000;

/// Fails if the platform's ledger is ahead of the log.
pub(super) async fn same_log<'a>(
    log: &Opened,
    platform: &dyn LogPlatform,
    collections: impl Iterator<Item = (CollectionNo, &'a Ready)>,
) -> Result<()> {
    for (number, ready) in collections {
        let mut highest: BTreeMap<u32, Seq> = BTreeMap::new();
        for (key, seq) in platform.ledger_tops(number, TOPS).await? {
            let known = highest.entry(ready.topics.of(&key)).or_default();
            *known = seq.max(*known);
        }
        for (index, seq) in highest {
            let at = ready.topics.dataset(index);
            let end = last_seq(log, &at).await?;
            if end < seq {
                let text = "the platform knows of versions that the log does not have: the log was lost, replaced or restored \
                            from an older copy. Bring the right log back, or take the old ledgers away with `driftless remove` \
                            for each dataset and start again: all platforms are then compared anew";
                let error = Error::new(Code::LogLost, text).at("partition", at);
                return Err(error.at("newest version in the log", end).at("newest version on the platform", seq));
            }
        }
    }
    Ok(())
}

/// The highest number near the end of a partition. Copies repeat old ones, so it may have to look
/// further back; void ones may be too high, which only hides what is looked for, and never invents it.
async fn last_seq(log: &Opened, at: &Partition) -> Result<Seq> {
    let bounds = log.coded.bounds(at).await?;
    let mut room = TAIL;
    loop {
        let from = bounds.high.saturating_sub(room).max(bounds.low);
        let (mut last, mut found) = (0, false);
        if from < bounds.high {
            let mut reading = log.coded.read(at, from).await?;
            while reading.offset() < bounds.high {
                for delivered in reading.next(1000).await? {
                    if let Some(Record::Canonical(version)) = delivered.payload.as_deref() {
                        last = version.seq.max(last);
                        found |= !version.copy;
                    }
                }
            }
        }
        if found || from <= bounds.low {
            return Ok(last);
        }
        room = room.saturating_mul(10);
    }
}
