//! The loops of a HINT platform: a pump of hints per collection and an agent per partition (claim-9).

use super::board::{Post, Work};
use super::dataset::{Ready, limit};
use super::gate::Gate;
use super::hints::Fanout;
use super::loops::{Platform, numbered};
use crate::agent::{Agent, Part, Timing};
use crate::config;
use crate::connectors::contract::{CollectionNo, Store};
use crate::flow;
use std::sync::Arc;

/// Keys an agent works on together.
const AGENT_BATCH_MAX: usize = 256;
/// When agents act by themselves.
const TIMING: Timing =
    Timing { scan_every_ms: 600_000, mark_every_ms: 5_000, write_within_ms: 30_000, margin_ms: 120_000 };

impl Platform {
    pub(super) fn start_hint(&self, store: Arc<dyn Store>) {
        let topics = self.dataset.collections.iter().map(|ready| ready.topics.clone()).collect();
        let fanout = Fanout::new(store, topics);
        for (collection, ready) in numbered(&self.dataset) {
            let (post, loops, pump) = (self.post(Work::Hints, None), self.loops.clone(), fanout.clone());
            self.loops.tasks.spawn(async move { loops.tend(post, || pump.pump(collection)).await });
            for index in 0..ready.topics.partitions {
                self.agent(fanout.part(index), collection, ready, index);
            }
        }
    }

    fn agent(&self, store: Arc<dyn Store>, collection: CollectionNo, ready: &Ready, index: u32) {
        let post = self.post(Work::Agent, Some(ready.topics.dataset(index)));
        let (valve, limit) = (self.loops.valve(&self.dataset, ready, false), limit(&self.dataset));
        let (platform, ready, told) = (self.clone(), ready.clone(), post.clone());
        let attempt = move |gate| {
            let agent = platform.agent_of(store.clone(), collection, &ready, index, &told, gate);
            async move { flow::agent(&agent, limit).await }
        };
        let loops = self.loops.clone();
        self.loops.tasks.spawn(async move { loops.tend_gated(valve, post, attempt).await });
    }

    fn agent_of(
        &self,
        store: Arc<dyn Store>,
        collection: CollectionNo,
        ready: &Ready,
        index: u32,
        post: &Post,
        gate: Gate,
    ) -> Agent {
        let topics = ready.topics.clone();
        let config::Part { proposes, receives, .. } = self.member.part;
        Agent {
            log: self.loops.typed(),
            clock: self.loops.clock.clone(),
            store,
            me: self.actor,
            collection,
            lineages: self.dataset.lineages.clone(),
            index,
            changes: topics.changes(index),
            dataset: topics.dataset(index),
            ledger: self.ledger(ready, index),
            owns: Arc::new(move |key| topics.of(key) == index),
            timing: TIMING,
            batch_max: AGENT_BATCH_MAX,
            replay: false,
            // who-4: it tells what is there, and writes nothing.
            part: Part { proposes, receives: receives && gate == Gate::Open },
            dead_after_ms: u64::from(self.dataset.config.dead_after_s) * 1000,
            orders: post.orders.clone(),
            allowed: self.allowed(),
            memory: self.loops.memory.clone(),
            progress: post.progress.clone(),
        }
    }
}
