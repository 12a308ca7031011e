//! The loops of a destination that nobody else writes (who-3): one sink per partition, nothing captured.

use super::board::Work;
use super::dataset::{Ready, limit};
use super::loops::{Platform, partitions};
use super::partition::{Lease, Unit};
use crate::apply::exclusive::ExclusiveSink;
use crate::connectors::contract::{CollectionNo, Exclusive};
use crate::flow;
use crate::topic::Partition;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Rows of a batch at least: each batch is one transaction, whatever it holds.
const BATCH_MIN: usize = 5_000;

impl Platform {
    /// Starts them all.
    pub(super) fn start_exclusive(&self, destination: &Arc<dyn Exclusive>) {
        let sink = |(collection, ready, index)| self.exclusive(destination.clone(), collection, ready, index);
        self.share("sink", partitions(&self.dataset).map(sink).collect());
    }

    fn exclusive(
        &self,
        destination: Arc<dyn Exclusive>,
        collection: CollectionNo,
        ready: &Ready,
        index: u32,
    ) -> (Partition, Unit) {
        let dataset = ready.topics.dataset(index);
        let post = self.post(Work::Apply, Some(dataset.clone()));
        let (valve, mut limit) = (self.loops.valve(&self.dataset, ready, true), limit(&self.dataset));
        limit.rows_max = limit.rows_max.max(BATCH_MIN);
        let (this, schema, shown, at) = (self.clone(), ready.schema.clone(), post.clone(), dataset.clone());
        let run = move |lease: Lease| -> BoxFuture<'static, ()> {
            let sink = ExclusiveSink {
                log: lease.log(this.loops.typed()),
                clock: this.loops.clock.clone(),
                collection,
                schema: schema.clone(),
                lineages: this.dataset.lineages.clone(),
                dataset: dataset.clone(),
                progress: shown.progress.clone(),
            };
            let (loops, valve, post, to) = (this.loops.clone(), valve.clone(), shown.clone(), destination.clone());
            Box::pin(async move {
                let attempt = |_| async {
                    let writer = to.writer(collection, index).await?;
                    flow::exclusive(&sink, writer, &*lease.member, limit, &lease.stop).await
                };
                loops.tend_gated(valve, &post, &lease, attempt).await;
            })
        };
        (at, Unit { post, run: Box::new(run) })
    }
}
