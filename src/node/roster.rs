//! Which platform has which number (who-7): kept in `__control`, written under a claim of the role
//! `control`, so that two nodes never give one number twice. Numbers count from 1 within a dataset; a
//! platform that was removed and comes back is a new incarnation. Nothing here is ever reused.

use super::gate::Switches;
use crate::event::{ActorId, Bootstrap, PlatformNo, Position, Resolution, Rules, SchemaId};
use crate::runtime::clock::Clock;
use crate::runtime::error::{Code, Error, Result};
use crate::topic::{Cleanup, Compression, Log, Message, Partition, Raw, TopicSpec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A record of `__control`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Entry {
    epoch: u64,
    owner: u128,
    #[serde(flatten)]
    what: What,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "record")]
enum What {
    Claim,
    Platform {
        dataset: String,
        platform: String,
        number: u16,
        incarnation: u16,
    },
    Removed {
        dataset: String,
        platform: String,
    },
    Rules {
        dataset: String,
        #[serde(flatten)]
        ruling: Ruling,
    },
    Schema {
        dataset: String,
        collection: String,
        id: u32,
        actor: u32,
        commit: u64,
        ordinal: u64,
    },
    Paused {
        dataset: String,
        collection: Option<String>,
    },
    /// The first write of a dataset that asks is agreed to, too.
    Resumed {
        dataset: String,
        collection: Option<String>,
    },
    /// Deletes found on a platform are meant, as many as this, until then.
    Believed {
        dataset: String,
        platform: String,
        count: usize,
        until_ms: u64,
    },
}

/// A version of a collection's schema, as it is written here (read-10): its id, whose table took it, where.
pub type Version = (SchemaId, ActorId, Position);

/// The rules of a dataset.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Ruling {
    /// Grows with every change.
    pub version: u64,
    /// Platforms by falling priority for equal times.
    pub priority: Vec<PlatformNo>,
    /// What happens when copies meet for the first time.
    pub bootstrap: Bootstrap,
    /// How concurrent writes are settled, by collection.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resolutions: BTreeMap<String, Resolution>,
}

impl Ruling {
    /// As the resolvers of a collection apply them.
    #[must_use]
    pub fn of(&self, collection: &str) -> Rules {
        Rules {
            version: self.version,
            priority: self.priority.clone(),
            bootstrap: self.bootstrap,
            resolution: self.resolutions.get(collection).cloned().unwrap_or_default(),
        }
    }
}

/// A platform's place in a dataset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Seat {
    number: u16,
    incarnation: u16,
    /// It was removed: the next time it is a new incarnation.
    gone: bool,
}

/// What `__control` says.
#[derive(Clone, Default, Debug)]
struct Told {
    owner: (u64, u128),
    seats: BTreeMap<(String, String), Seat>,
    rules: BTreeMap<String, Ruling>,
    switches: Switches,
    /// Who claimed first: no other log has that.
    first: Option<u128>,
    schemas: BTreeMap<(String, String), Vec<Version>>,
}

/// The numbers of the platforms of all datasets under one prefix.
pub struct Roster {
    log: Arc<dyn Log<Raw>>,
    clock: Arc<dyn Clock>,
    at: Partition,
    told: Told,
    next: u64,
    /// My claim, once I had to write.
    mine: Option<(u64, u128)>,
}

impl Told {
    /// The fold every reader runs: what counts is decided by the order of the records alone.
    fn take(&mut self, entry: Entry) {
        let stamp = (entry.epoch, entry.owner);
        match entry.what {
            What::Claim if entry.epoch > self.owner.0 => {
                self.first = self.first.or(Some(entry.owner));
                self.owner = stamp;
            }
            What::Claim => {}
            _ if stamp != self.owner => {}
            What::Platform { dataset, platform, number, incarnation } => {
                self.seats.insert((dataset, platform), Seat { number, incarnation, gone: false });
            }
            What::Removed { dataset, platform } => {
                if let Some(seat) = self.seats.get_mut(&(dataset, platform)) {
                    seat.gone = true;
                }
            }
            What::Rules { dataset, ruling } => _ = self.rules.insert(dataset, ruling),
            What::Paused { dataset, collection } => _ = self.switches.paused.insert((dataset, collection)),
            What::Resumed { dataset, collection } => {
                self.switches.agreed.insert(dataset.clone());
                // A dataset goes on with all its collections.
                let all = collection.is_none();
                self.switches.paused.retain(|(d, c)| *d != dataset || (!all && *c != collection));
            }
            What::Believed { dataset, platform, count, until_ms } => {
                self.switches.believed.insert((dataset, platform), (count, until_ms));
            }
            What::Schema { dataset, collection, id, actor, commit, ordinal } => {
                let versions = self.schemas.entry((dataset, collection)).or_default();
                versions.push((SchemaId(id), ActorId(actor), Position::new(commit, ordinal)));
            }
        }
    }

    fn seat(&self, dataset: &str, platform: &str) -> Option<Seat> {
        self.seats.get(&(dataset.to_owned(), platform.to_owned())).copied()
    }
}

/// The topic it is kept in.
pub(super) fn topic(prefix: &str) -> TopicSpec {
    let (partitions, cleanup, compression) = (1, Cleanup::Compact, Compression::None);
    TopicSpec { topic: format!("{prefix}.__control").into(), partitions, cleanup, compression }
}

impl Roster {
    /// Reads what is there; creates the topic if it is missing.
    ///
    /// # Errors
    /// As the log has them, or if a record cannot be understood.
    pub async fn open(log: Arc<dyn Log<Raw>>, clock: Arc<dyn Clock>, prefix: &str) -> Result<Self> {
        let spec = topic(prefix);
        log.create(&spec).await?;
        let at = Partition::new(spec.topic, 0);
        let mut roster = Roster { log, clock, at, told: Told::default(), next: 0, mine: None };
        roster.read_on().await?;
        Ok(roster)
    }

    /// The actor of a platform in a dataset, if it takes part.
    #[must_use]
    pub fn actor(&self, dataset: &str, platform: &str) -> Option<ActorId> {
        let seat = self.told.seat(dataset, platform).filter(|seat| !seat.gone)?;
        Some(ActorId::new(PlatformNo(seat.number), seat.incarnation))
    }

    /// The name of the platform with a number in a dataset.
    #[must_use]
    pub fn name_of(&self, dataset: &str, number: PlatformNo) -> Option<&str> {
        let found = self.told.seats.iter().find(|((d, _), seat)| d == dataset && seat.number == number.0);
        found.map(|((_, platform), _)| platform.as_str())
    }

    /// The platforms that take part in datasets, as the log has it.
    pub fn seated(&self) -> impl Iterator<Item = (&str, &str)> {
        let here = self.told.seats.iter().filter(|(_, seat)| !seat.gone);
        here.map(|((dataset, platform), _)| (dataset.as_str(), platform.as_str()))
    }

    /// The actor of a platform in a dataset; it gets a number if it has none.
    ///
    /// # Errors
    /// As the log has them, or if a dataset has no number left.
    pub async fn seat(&mut self, dataset: &str, platform: &str) -> Result<ActorId> {
        loop {
            if let Some(actor) = self.actor(dataset, platform) {
                return Ok(actor);
            }
            let seat = self.told.seat(dataset, platform);
            let highest = self.told.seats.iter().filter(|((d, _), _)| d == dataset).map(|(_, s)| s.number).max();
            let number = match seat {
                Some(seat) => Some(seat.number),
                None => highest.unwrap_or(0).checked_add(1),
            };
            let incarnation = seat.map_or(0, |seat| seat.incarnation).checked_add(1);
            let (Some(number), Some(incarnation)) = (number, incarnation) else {
                return Err(Error::new(Code::Unexpected, "all numbers of platforms are used up").at("dataset", dataset));
            };
            let (dataset, platform) = (dataset.to_owned(), platform.to_owned());
            self.write(What::Platform { dataset, platform, number, incarnation }).await?;
        }
    }

    /// A platform does not take part any more.
    ///
    /// # Errors
    /// As the log has them.
    pub async fn remove(&mut self, dataset: &str, platform: &str) -> Result<()> {
        while self.actor(dataset, platform).is_some() {
            self.write(What::Removed { dataset: dataset.into(), platform: platform.into() }).await?;
        }
        Ok(())
    }

    /// The rules of a dataset with their version, which grows with every change.
    ///
    /// # Errors
    /// As the log has them.
    pub async fn rules(&mut self, dataset: &str, wanted: &Ruling) -> Result<Ruling> {
        loop {
            let told = self.told.rules.get(dataset);
            let version = told.map_or(0, |told| told.version);
            if let Some(told) = told.filter(|told| **told == Ruling { version, ..wanted.clone() }) {
                return Ok(told.clone());
            }
            let ruling = Ruling { version: version + 1, ..wanted.clone() };
            self.write(What::Rules { dataset: dataset.into(), ruling }).await?;
        }
    }

    /// A name of this log that no other has; `None` before anybody took part.
    pub(super) fn identity(&self) -> Option<u128> {
        self.told.first
    }

    /// What people have said of the datasets.
    #[must_use]
    pub(super) fn switches(&self) -> Switches {
        self.told.switches.clone()
    }

    /// Pauses a dataset or a collection of it, or resumes it; returns whether that changed anything.
    pub(super) async fn pause(&mut self, dataset: &str, collection: Option<&str>, paused: bool) -> Result<bool> {
        self.read_on().await?;
        let before = self.switches();
        let (dataset, collection) = (dataset.to_owned(), collection.map(ToOwned::to_owned));
        loop {
            let was = self.told.owner;
            let what = match paused {
                true => What::Paused { dataset: dataset.clone(), collection: collection.clone() },
                false => What::Resumed { dataset: dataset.clone(), collection: collection.clone() },
            };
            self.write(what).await?;
            // Written under my own claim it counts; else somebody else claimed meanwhile.
            let place = (dataset.clone(), collection.clone());
            let said =
                if paused { self.told.switches.paused.contains(&place) } else { self.mine == Some(self.told.owner) };
            if said || self.told.owner == was && self.mine == Some(was) {
                return Ok(self.switches() != before);
            }
        }
    }

    /// agent-7: a person has looked at what disappeared, and so many deletes are meant until then.
    pub(super) async fn believe(&mut self, dataset: &str, platform: &str, count: usize, until_ms: u64) -> Result<()> {
        self.read_on().await?;
        let place = (dataset.to_owned(), platform.to_owned());
        while self.told.switches.believed.get(&place) != Some(&(count, until_ms)) {
            let (dataset, platform) = place.clone();
            self.write(What::Believed { dataset, platform, count, until_ms }).await?;
        }
        Ok(())
    }

    /// Reads what comes behind what was read.
    pub(super) async fn follow(&self) -> Result<Box<dyn crate::topic::Reading<Raw>>> {
        self.log.read(&self.at, self.next).await
    }

    /// The versions of a collection's schema in order.
    ///
    /// # Errors
    /// As the log has them.
    pub async fn schemas(&mut self, dataset: &str, collection: &str) -> Result<Vec<Version>> {
        self.read_on().await?;
        let name = (dataset.to_owned(), collection.to_owned());
        Ok(self.told.schemas.get(&name).cloned().unwrap_or_default())
    }

    /// Adds a version behind `newest`; returns them all. Adds none if another one is the newest by now.
    ///
    /// # Errors
    /// As the log has them.
    pub async fn add_schema(
        &mut self,
        (dataset, collection): (&str, &str),
        newest: Option<SchemaId>,
        (id, actor, at): Version,
    ) -> Result<Vec<Version>> {
        loop {
            let versions = self.schemas(dataset, collection).await?;
            if versions.last().map(|version| version.0) != newest {
                return Ok(versions);
            }
            let (dataset, collection) = (dataset.to_owned(), collection.to_owned());
            let (commit, ordinal) = (at.commit, at.ordinal);
            self.write(What::Schema { dataset, collection, id: id.0, actor: actor.0, commit, ordinal }).await?;
        }
    }

    /// Writes a record under my claim and reads on behind it; whether it counted shows in what is told.
    async fn write(&mut self, what: What) -> Result<()> {
        if self.mine.is_none_or(|mine| mine != self.told.owner) {
            let (epoch, owner) = (self.told.owner.0 + 1, self.clock.fresh_id());
            self.mine = Some((epoch, owner));
            self.append(&Entry { epoch, owner, what: What::Claim }).await?;
        }
        let (epoch, owner) = self.mine.unwrap_or_default();
        self.append(&Entry { epoch, owner, what }).await
    }

    async fn append(&mut self, entry: &Entry) -> Result<()> {
        let text = serde_json::to_vec(entry)
            .map_err(|error| Error::new(Code::Unexpected, "a control record cannot be written").caused_by(error))?;
        // Unique per attempt, so that compaction takes no record that counts for one that does not (claim-6).
        let key = [&entry.epoch.to_be_bytes()[..], &self.clock.fresh_id().to_be_bytes()].concat();
        let message = Message { key: key.into(), payload: Some(Raw::from(text)) };
        self.log.session().await?.append(&self.at, vec![message]).await?;
        self.read_on().await
    }

    /// Takes everything written since.
    pub(super) async fn read_on(&mut self) -> Result<()> {
        let high = self.log.bounds(&self.at).await?.high;
        if self.next >= high {
            return Ok(());
        }
        let mut reading = self.log.read(&self.at, self.next).await?;
        while reading.offset() < high {
            for delivered in reading.next(1000).await? {
                let Some(payload) = &delivered.payload else { continue };
                let entry = serde_json::from_slice(payload).map_err(|error| {
                    let text =
                        "a control record cannot be understood: a later version of driftless may have written it";
                    let error = Error::new(Code::RecordUndecodable, text).caused_by(error);
                    error.at("topic", &self.at.topic).at("offset", delivered.offset)
                })?;
                self.told.take(entry);
            }
        }
        self.next = reading.offset();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{FieldRule, Merge};
    use crate::runtime::clock::SystemClock;
    use crate::topic::memory::MemoryLog;

    async fn open(log: &MemoryLog<Raw>) -> Roster {
        Roster::open(Arc::new(log.clone()), Arc::new(SystemClock), "p").await.unwrap()
    }

    fn log() -> MemoryLog<Raw> {
        MemoryLog::new(Arc::new(SystemClock))
    }

    /// who-7
    #[tokio::test]
    async fn numbers_start_at_one_and_are_never_given_twice() {
        let log = log();
        let mut roster = open(&log).await;
        let a = roster.seat("d", "a").await.unwrap();
        let b = roster.seat("d", "b").await.unwrap();
        assert_eq!((a.platform().0, b.platform().0, a.incarnation()), (1, 2, 1));
        assert_eq!(roster.seat("other", "b").await.unwrap().platform().0, 1);
        roster.remove("d", "b").await.unwrap();
        assert_eq!(roster.actor("d", "b"), None);
        let mut again = open(&log).await;
        assert_eq!(again.seat("d", "c").await.unwrap().platform().0, 3);
        let back = again.seat("d", "b").await.unwrap();
        assert_eq!((back.platform().0, back.incarnation()), (2, 2));
        assert_eq!(again.name_of("d", PlatformNo(3)), Some("c"));
    }

    /// who-7: the claim decides; what the older owner writes does not count.
    #[tokio::test]
    async fn of_two_nodes_that_give_numbers_at_once_only_one_counts() {
        let log = log();
        let (mut first, mut second) = (open(&log).await, open(&log).await);
        first.seat("d", "a").await.unwrap();
        let b = second.seat("d", "b").await.unwrap();
        let c = first.seat("d", "c").await.unwrap();
        assert_eq!((b.platform().0, c.platform().0), (2, 3));
        assert_eq!(open(&log).await.seat("d", "b").await.unwrap(), b);
    }

    #[tokio::test]
    async fn rules_get_a_new_version_when_they_change_and_only_then() {
        let log = log();
        let mut roster = open(&log).await;
        let one =
            Ruling { priority: vec![PlatformNo(1), PlatformNo(2)], bootstrap: Bootstrap::Latest, ..Ruling::default() };
        let two = Ruling { priority: vec![PlatformNo(2), PlatformNo(1)], ..one.clone() };
        let three = Ruling { bootstrap: Bootstrap::Source(PlatformNo(1)), ..two.clone() };
        let merge = Resolution::Merge(Merge { fields: [("n".into(), FieldRule::Counter)].into(), ..Merge::default() });
        let four = Ruling { resolutions: [("c".into(), merge.clone())].into(), ..three.clone() };
        for (version, wanted) in (1..).zip([&one, &two, &three, &four]) {
            assert_eq!(roster.rules("d", wanted).await.unwrap().version, version);
            let again = open(&log).await.rules("d", wanted).await.unwrap();
            assert_eq!(again, Ruling { version, ..wanted.clone() });
        }
        let rules = open(&log).await.rules("d", &four).await.unwrap();
        assert_eq!((rules.of("c").resolution, rules.of("other").resolution), (merge, Resolution::LastWriteWins));
    }
}
