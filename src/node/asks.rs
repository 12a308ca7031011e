//! What a dataset that asks before its first write would write (who-4): counted from the versions the
//! copies were settled to, before any store was touched.

use super::View;
use super::log::Opened;
use crate::config::Bootstrap;
use crate::event::{ActorId, Canonical, Key, Record};
use crate::runtime::error::Result;
use crate::topic::{Log, Partition};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What a platform holds, compared with what the dataset was settled to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct Meeting {
    /// Records that are the same: nothing is written.
    pub same: u64,
    /// Records it does not have: they are created.
    pub missing: u64,
    /// Records that differ: they are overwritten, and what stood there is a logged loser.
    pub different: u64,
}

/// By platform.
pub type Meetings = BTreeMap<String, Meeting>;

impl View {
    /// What waits for an answer, by dataset and platform.
    ///
    /// # Errors
    /// As the log has them.
    pub async fn asks(&self) -> Result<BTreeMap<String, Meetings>> {
        let mut asks = BTreeMap::new();
        let agreed = self.control.said.borrow().agreed.clone();
        let asking = self.config.datasets.iter().filter(|d| d.bootstrap == Bootstrap::Ask && !agreed.contains(&d.name));
        for dataset in asking {
            let members: Vec<(String, ActorId)> = {
                let roster = self.control.roster.lock().await;
                let writes = |name: &&str| self.config.platforms.get(*name).is_some_and(|p| dataset.part(p).receives);
                let member = |name: &str| Some((name.to_owned(), roster.actor(&dataset.name, name)?));
                dataset.platforms().filter(writes).filter_map(member).collect()
            };
            let mut meetings: Meetings = members.iter().map(|(name, _)| (name.clone(), Meeting::default())).collect();
            for topics in super::dataset::topics(&self.log.prefix, dataset) {
                for index in 0..topics.partitions {
                    for head in heads(&self.log, &topics.dataset(index)).await?.values() {
                        members
                            .iter()
                            .for_each(|(name, actor)| meet(meetings.entry(name.clone()).or_default(), head, *actor));
                    }
                }
            }
            asks.insert(dataset.name.clone(), meetings);
        }
        Ok(asks)
    }
}

/// Who had something of a record is in its version's acknowledgements, with how it looked there.
fn meet(meeting: &mut Meeting, head: &Canonical, actor: ActorId) {
    match head.ack.iter().find(|join| join.actor == actor) {
        Some(join) if join.fp_local == head.fp => meeting.same += 1,
        Some(_) => meeting.different += 1,
        None if head.tomb => meeting.same += 1,
        None => meeting.missing += 1,
    }
}

/// The newest version of each key. The order of the partition's own chain is enough here: a number that
/// is off by a record somebody else overtook is put right at the next look.
async fn heads(log: &Opened, at: &Partition) -> Result<HashMap<Key, Arc<Canonical>>> {
    let bounds = log.coded.bounds(at).await?;
    let mut heads = HashMap::new();
    if bounds.low < bounds.high {
        let mut reading = log.coded.read(at, bounds.low).await?;
        while reading.offset() < bounds.high {
            for delivered in reading.next(1000).await? {
                if let Some(Record::Canonical(version)) = delivered.payload.as_deref() {
                    heads.insert(version.key.clone(), version.clone());
                }
            }
        }
    }
    Ok(heads)
}
