//! The single steps a schedule is made of: a task, an append, a fault, an operation.

use super::{Simulation, Site, Zombie, land, platform_name};
use crate::executor::Stepped;
use crate::shared::{Count, trace};
use crate::workload::{Tags, Written, key, key_index, row, schema, tags};
use driftless::event::{Asked, Key, Record, Review, Row};
use driftless::topic::memory::Flight;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl Simulation<'_> {
    pub(super) fn run_a_task(&mut self) -> bool {
        let stepped = self.world.step(&mut self.rng);
        if let Stepped::Ended(task) = stepped {
            let role = self.cast.iter().find(|c| c.current.as_ref().is_some_and(|c| c.0 == task)).map(|c| c.role);
            trace!(self.shared, "{role:?} ended by itself");
            self.shared.count(Count::Ended);
        }
        stepped != Stepped::Idle
    }

    /// An append that may land now: batches of one session and partition land in order.
    pub(super) fn choose_flight(&mut self) -> Option<Flight> {
        let flights = self.log.flights();
        let first =
            |f: &&Flight| !flights.iter().any(|e| e.number < f.number && e.session == f.session && e.at == f.at);
        let eligible = flights.iter().filter(first).count();
        if eligible == 0 {
            return None;
        }
        let chosen = self.rng.below(eligible);
        flights.iter().filter(first).nth(chosen).cloned()
    }

    pub(super) fn land(&mut self, flight: &Flight) {
        trace!(self.shared, "append {} of session {} lands in {}", flight.number, flight.session, flight.at);
        self.shared.count(Count::Landed);
        if self.given_up.contains(&flight.number) {
            self.shared.count(Count::LateLanded);
        }
        self.log.land(flight.number);
        self.observe(flight);
    }

    /// A batch is ordered, not atomic: a part of it may land, and the rest later or never.
    fn land_part(&mut self, flight: &Flight) {
        let count = 1 + self.rng.below(flight.messages - 1);
        trace!(self.shared, "{count} messages of append {} land in {}", flight.number, flight.at);
        self.shared.count(Count::Parts);
        self.log.land_part(flight.number, count);
        self.observe(flight);
    }

    fn observe(&mut self, flight: &Flight) {
        if flight.at.topic == self.topics.changes(0).topic || flight.at.topic == self.topics.dataset(0).topic {
            self.oracle.observe(flight.at.index);
        }
    }

    pub(super) fn land_one(&mut self) -> bool {
        let Some(flight) = self.choose_flight() else { return false };
        if flight.messages > 1 && !self.shared.is_calm() && self.rng.chance(200) {
            self.land_part(&flight);
            return true;
        }
        if self.given_up.contains(&flight.number) && self.rng.chance(300) {
            self.lose(&flight);
        } else {
            self.land(&flight);
        }
        true
    }

    pub(super) fn lose(&mut self, flight: &Flight) {
        trace!(self.shared, "append {} to {} is lost", flight.number, flight.at);
        self.shared.count(Count::Lost);
        self.log.lose(flight.number);
    }

    pub(super) fn append_fault(&mut self) {
        let flights = self.log.flights();
        if flights.is_empty() {
            return;
        }
        let flight = &flights[self.rng.below(flights.len())];
        self.faults += 1;
        if self.rng.chance(500) {
            return self.lose(flight);
        }
        trace!(self.shared, "append {} to {} is given up", flight.number, flight.at);
        self.shared.count(Count::GaveUp);
        self.given_up.push(flight.number);
        self.log.give_up(flight.number);
    }

    pub(super) fn crash(&mut self) {
        let at = self.rng.below(self.cast.len());
        if let Some((task, ..)) = self.cast[at].current.take() {
            trace!(self.shared, "{:?} crashes", self.cast[at].role);
            self.shared.count(Count::Crashes);
            self.faults += 1;
            self.world.kill(task);
        }
    }

    /// A second instance of a role starts while the first is paused and does not know.
    pub(super) fn make_zombie(&mut self) {
        if self.zombies.len() >= 8 {
            return;
        }
        let at = self.rng.below(self.cast.len());
        let Some((task, assigned, stop)) = self.cast[at].current.take() else { return };
        trace!(self.shared, "{:?} is paused and replaced", self.cast[at].role);
        self.shared.count(Count::Zombies);
        self.faults += 1;
        let running = self.rng.chance(300);
        if !running {
            self.world.pause(task);
        }
        if self.rng.chance(700) {
            assigned.store(false, Relaxed);
            if self.config.stops && self.instances.is_multiple_of(2) {
                stop.ask();
            }
        }
        self.zombies.push(Zombie { task, running });
        self.launch(at);
    }

    pub(super) fn move_zombie(&mut self) {
        if self.zombies.is_empty() {
            return;
        }
        let at = self.rng.below(self.zombies.len());
        let zombie = &mut self.zombies[at];
        if !self.world.is_live(zombie.task) || zombie.running && self.rng.chance(500) {
            self.world.kill(zombie.task);
            self.zombies.swap_remove(at);
        } else if !zombie.running {
            trace!(self.shared, "a zombie goes on");
            self.shared.count(Count::Resumed);
            zombie.running = true;
            self.world.resume(zombie.task);
        }
    }

    /// As a broker would: of each key the newest stays, of the rest an arbitrary part.
    pub(super) fn compact(&mut self) {
        let which = self.rng.below(self.sites.len() + 2);
        let topic = match which {
            0 => self.topics.state(0).topic,
            1 => self.topics.conflicts(0).topic,
            p => self.topics.ledger(&platform_name(p - 2), 0).topic,
        };
        trace!(self.shared, "{topic} is compacted");
        self.shared.count(Count::Compactions);
        let keep = [0, 0, 300, 700][self.rng.below(4)];
        let rng = &mut self.rng;
        self.log.compact(&topic, |_| rng.chance(keep));
    }

    pub(super) fn jump(&mut self) {
        self.shared.count(Count::Jumps);
        let ms = [1, 50, 1_000, 20_000][self.rng.below(4)];
        trace!(self.shared, "time jumps by {ms} ms");
        self.time.jump(ms);
        let (skew, at) = (self.skew(), self.rng.below(self.site_clocks.len()));
        // An object store's own clock decides about expiry; it stays true.
        if matches!(self.sites[at], Site::Log(_)) {
            self.site_clocks[at].set_skew(skew);
        }
    }

    pub(super) fn late_write(&mut self) -> bool {
        let start = self.rng.below(self.sites.len());
        for i in 0..self.sites.len() {
            if let Site::Hint(store) = &self.sites[(start + i) % self.sites.len()]
                && store.late() > 0
            {
                let at = self.rng.below(store.late());
                store.settle_late(at, self.rng.chance(700));
                return true;
            }
        }
        false
    }

    /// How many platforms applications write, the first ones.
    fn writers(&self) -> usize {
        if self.config.fused { 1 } else { self.writable() }
    }

    /// Empties a platform's table, between two other writes of the same transaction.
    fn app_truncate(&mut self) -> bool {
        let platform = self.rng.below(self.writers());
        let Site::Log(store) = self.sites[platform].clone() else { return false };
        if store.is_locked() {
            return false;
        }
        let mut contents: Vec<Tags> = (0..self.config.keys).map(|index| store.tags(&key(index))).collect();
        let before = self.noted_edit(platform, &mut contents);
        let edited = before.as_ref().map(|(key, row)| (key.clone(), row.is_some()));
        let is_there = |index: usize| match &edited {
            Some((key, is_there)) if *key == self::key(index) => *is_there,
            _ => store.holds(&key(index)),
        };
        for (index, content) in contents.iter_mut().enumerate().filter(|(index, _)| is_there(*index)) {
            let (seen, left) = (std::mem::take(content), 0);
            self.shared.count(Count::Writes);
            self.shared.journal.lock().note(Written { platform, key: index, seen, left });
        }
        let after = self.noted_edit(platform, &mut contents);
        trace!(self.shared, "application at {platform}: {before:?}, truncate, {after:?}");
        self.shared.count(Count::Truncates);
        store.app_truncate(before, after);
        true
    }

    /// Sometimes an edit of some key, as an application that sees `contents` makes it.
    fn noted_edit(&mut self, platform: usize, contents: &mut [Tags]) -> Option<(Key, Option<Arc<Row>>)> {
        if !self.rng.chance(300) {
            return None;
        }
        let index = self.rng.below(contents.len());
        let seen = contents[index];
        let mut journal = self.shared.journal.lock();
        let left = journal.edit(self.config.policy, seen, &mut self.rng)?;
        journal.note(Written { platform, key: index, seen, left });
        self.shared.count(Count::Writes);
        contents[index] = left;
        Some((key(index), row(&key(index), left)))
    }

    pub(super) fn app_write(&mut self) -> bool {
        if self.config.truncates > 0 && self.rng.chance(self.config.truncates) {
            return self.app_truncate();
        }
        if self.config.reviews > 0 && self.rng.chance(self.config.reviews) && self.person_decides() {
            return true;
        }
        let (platform, index) = (self.rng.below(self.writers()), self.rng.below(self.config.keys));
        self.app_write_at(platform, index)
    }

    /// A person decides a conflict that may be decided or edited over by now; false if there was none yet. What is
    /// sent twice counts once.
    fn person_decides(&mut self) -> bool {
        let Some(version) = self.oracle.some_conflict(&mut self.rng) else { return false };
        let (platform, seen) = (self.sites.len(), tags(version.after.as_deref()));
        let mut journal = self.shared.journal.lock();
        let Some(left) = journal.edit(self.config.policy, seen, &mut self.rng) else { return false };
        journal.note(Written { platform, key: key_index(&version.key), seen, left });
        drop(journal);
        self.shared.count(Count::Writes);
        self.shared.count(Count::Reviews);
        trace!(self.shared, "a person decides version {} of {:?}: {left:#b}", version.seq, version.key);
        let command = u128::from(self.shared.counted(Count::Reviews));
        let asked = Asked { command, by: "ann".into(), why: "a test".into(), conflict: Some(version.seq) };
        let now_ms = self.time.now_ms();
        let review = Review::of(&version, row(&version.key, left), schema().id, asked, now_ms);
        let at = self.topics.changes(self.topics.of(&version.key));
        for _ in 0..=usize::from(self.rng.chance(300)) {
            land(&self.log, &at, Record::Review(Box::new(review.clone())));
        }
        true
    }

    pub(super) fn app_write_at(&mut self, platform: usize, index: usize) -> bool {
        let (site, key) = (self.sites[platform].clone(), key(index));
        if matches!(&site, Site::Log(store) if !store.can_write(&key)) {
            return false;
        }
        let seen = site.tags(&key);
        let mut journal = self.shared.journal.lock();
        let Some(left) = journal.edit(self.config.policy, seen, &mut self.rng) else { return true };
        journal.note(Written { platform, key: index, seen, left });
        drop(journal);
        self.shared.count(Count::Writes);
        let logged = self.shared.is_calm() || !self.rng.chance(self.config.log_gap);
        trace!(self.shared, "application at {platform}: {key:?} {seen:#b} -> {left:#b}, logged {logged}");
        match &site {
            Site::Log(store) => {
                store.app_write(&key, row(&key, left), logged);
                if !logged {
                    self.shared.count(Count::Unlogged);
                    self.unlogged.push((platform, index));
                }
            }
            Site::Hint(store) => store.app_write(&key, row(&key, left)),
            Site::Exclusive(_) => unreachable!("nobody else writes there"),
        }
        true
    }

    /// Somebody changes the first platform's table now and then (read-10).
    pub(super) fn app_alter(&mut self) {
        if let Some(Site::Log(store)) = self.sites.first()
            && self.rng.chance(self.config.alters)
            && store.app_alter()
        {
            trace!(self.shared, "application changes the table of 0");
            self.shared.count(Count::Altered);
        }
    }

    /// A write at the only writer that leaves the value as it was, and whose image leaves it out (value-2).
    pub(super) fn app_touch(&mut self) {
        let key = key(self.rng.below(self.config.keys));
        if let Site::Log(store) = &self.sites[0]
            && store.app_touch(&key)
        {
            trace!(self.shared, "application at 0: {key:?} is touched");
            self.shared.count(Count::Touched);
        }
    }

    pub(super) fn app_transaction(&mut self) {
        self.app_alter();
        if self.config.fused && self.rng.chance(300) {
            return self.app_touch();
        }
        let key = key(self.rng.below(self.config.keys));
        if let Site::Log(store) = &self.sites[self.rng.below(self.sites.len())] {
            match self.rng.below(5) {
                0 => store.foreign_commit(),
                1 => _ = store.app_hold(&key),
                _ => store.app_release(),
            }
        }
    }
}
