//! How a dataset's changes are settled: by a resolver, or, if one LOG platform alone writes it, by that
//! platform's reader (resolve-9). A dataset keeps the mode it began in. Which one that is stands in its
//! topics, and is looked up before anything is written.

use super::dataset::{Member, topics};
use super::log::Opened;
use super::roster::Roster;
use crate::config;
use crate::event::{Origin, PlatformNo, Record, Role};
use crate::runtime::error::{Code, Error, Result};
use crate::topic::name::Topics;
use crate::topic::{Log as _, Partition, Typed};

/// Who settles.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// A resolver per partition.
    Separate,
    /// The reader of the member with this number.
    Fused(usize),
}

/// The mode a dataset began in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Began {
    Separate,
    Fused(PlatformNo),
}

/// The mode of a dataset as it is configured and as its topics say.
///
/// # Errors
/// `mode_changed` if it began with a single writer and is not that one's alone any more.
pub async fn mode(log: &Opened, roster: &Roster, config: &config::Dataset, members: &[Member]) -> Result<Mode> {
    let writers: Vec<usize> =
        (0..members.len()).filter(|at| members.get(*at).is_some_and(|m| m.part.proposes)).collect();
    let only = match writers.as_slice() {
        [only] => members.get(*only).filter(|m| m.is_log && sees_all(config, m)).map(|member| (*only, member)),
        _ => None,
    };
    let number = only.and_then(|(_, member)| roster.actor(&config.name, &member.name)).map(|actor| actor.platform());
    match (began(log, config, number).await?, only) {
        (None, Some((at, _))) => Ok(Mode::Fused(at)),
        (Some(Began::Fused(writer)), Some((at, _))) if Some(writer) == number => Ok(Mode::Fused(at)),
        (Some(Began::Fused(writer)), _) => Err(changed(config, roster.name_of(&config.name, writer))),
        // Who is the only writer now need not settle himself: going on as before is right, too.
        (None | Some(Began::Separate), _) => Ok(Mode::Separate),
    }
}

/// A platform that sees a part leaves the rest as it was, which is a resolver's to fill in (read-11).
fn sees_all(config: &config::Dataset, member: &Member) -> bool {
    let is_source = *member.name == *config.source;
    config.collections.iter().all(|collection| collection.excerpt(&member.name, is_source).is_whole())
}

fn changed(config: &config::Dataset, writer: Option<&str>) -> Error {
    let writer = writer.unwrap_or("another platform");
    let text = format!(
        "the dataset began with `{writer}` as its only writer, and another platform may write it now; this cannot be \
         changed yet. Configure `{writer}` as the only writer again, or start the dataset anew: `driftless remove \
         --dataset {} --topics`; the data stays, and all platforms are compared at the next start",
        config.name
    );
    Error::new(Code::ModeChanged, text).at("dataset", &config.name)
}

/// What the topics say; `writer` is the number of the only writer, if there is one and it has a number.
async fn began(log: &Opened, config: &config::Dataset, writer: Option<PlatformNo>) -> Result<Option<Began>> {
    let existing = log.raw.topics().await?;
    // Whoever made them may have died over it: each is there or not.
    let there = |at: &Partition| existing.iter().any(|spec| spec.topic == at.topic);
    let all: Vec<Topics> = topics(&log.prefix, config);
    for topics in all.iter().filter(|topics| there(&topics.dataset(0))) {
        for index in 0..topics.partitions {
            if let Some(Record::Canonical(first)) = first(log, &topics.dataset(index)).await?.as_deref() {
                return Ok(Some(match first.origin {
                    Origin::Input(_) => Began::Separate,
                    Origin::Source(_) => Began::Fused(first.dot.actor.platform()),
                }));
            }
        }
    }
    // Nothing is settled yet. A reader that proposes has claimed `.changes`; one that settles has not.
    for topics in all.iter().filter(|topics| there(&topics.changes(0))) {
        for index in 0..topics.partitions {
            if any_proposed(log, &topics.changes(index), writer).await? {
                return Ok(Some(Began::Separate));
            }
        }
    }
    Ok(None)
}

async fn first(log: &Opened, at: &Partition) -> Result<Option<Typed>> {
    let bounds = log.coded.bounds(at).await?;
    if bounds.low >= bounds.high {
        return Ok(None);
    }
    let batch = log.coded.read(at, bounds.low).await?.next(1).await?;
    Ok(batch.into_iter().next().and_then(|delivered| delivered.payload))
}

async fn any_proposed(log: &Opened, at: &Partition, writer: Option<PlatformNo>) -> Result<bool> {
    let bounds = log.coded.bounds(at).await?;
    if bounds.low >= bounds.high {
        return Ok(false);
    }
    let mut reading = log.coded.read(at, bounds.low).await?;
    while reading.offset() < bounds.high {
        let separate = reading.next(1000).await?.iter().any(|delivered| match delivered.payload.as_deref() {
            Some(Record::Proposal(_)) => true,
            Some(Record::Claim(claim)) => writer.is_some_and(|writer| claim.role == Role::Writer(writer)),
            _ => false,
        });
        if separate {
            return Ok(true);
        }
    }
    Ok(false)
}
