//! The loops of a HINT platform: a pump of hints per collection and an agent per partition (claim-9).

use super::board::{Post, Work};
use super::dataset::{Ready, limit};
use super::gate::Gate;
use super::hints::Fanout;
use super::loops::{Platform, numbered, partitions};
use super::partition::{Lease, Unit};
use crate::agent::{Agent, Part, Timing};
use crate::config;
use crate::connectors::contract::{CollectionNo, Store};
use crate::flow;
use crate::topic::Partition;
use futures_util::future::BoxFuture;
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
        for (collection, _) in numbered(&self.dataset) {
            let (post, loops, pump) = (self.post(Work::Hints, None), self.loops.clone(), fanout.clone());
            self.loops.tasks.spawn(async move {
                loops.tend(&post, &loops.stop, || pump.pump(collection)).await;
            });
        }
        let agent = |(collection, ready, index)| self.agent(fanout.clone(), collection, ready, index);
        self.share("agent", partitions(&self.dataset).map(agent).collect());
    }

    fn agent(&self, fanout: Arc<Fanout>, collection: CollectionNo, ready: &Ready, index: u32) -> (Partition, Unit) {
        let dataset = ready.topics.dataset(index);
        let post = self.post(Work::Agent, Some(dataset.clone()));
        let (valve, limit) = (self.loops.valve(&self.dataset, ready, false), limit(&self.dataset));
        let (this, ready, shown) = (self.clone(), ready.clone(), post.clone());
        let run = move |lease: Lease| -> BoxFuture<'static, ()> {
            // Hints wait for it while it is this node's.
            let store = fanout.part(collection, index);
            let (this, ready, valve, post) = (this.clone(), ready.clone(), valve.clone(), shown.clone());
            Box::pin(async move {
                let attempt = |gate| {
                    // What was said before this life began still counts (agent-7).
                    let believed = this.loops.control.believed(&this.dataset.config.name, &this.member.name);
                    believed.into_iter().for_each(|order| post.orders.give(order));
                    let agent = this.agent_of(&lease, store.clone(), collection, &ready, index, &post, gate);
                    let stop = &lease.stop;
                    async move { flow::agent(&agent, limit, stop).await }
                };
                this.loops.tend_gated(valve, &post, &lease, attempt).await;
            })
        };
        (dataset, Unit { post, run: Box::new(run) })
    }

    #[expect(clippy::too_many_arguments, reason = "one place in a group, one partition, one gate")]
    fn agent_of(
        &self,
        lease: &Lease,
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
            log: lease.log(self.loops.typed()),
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
