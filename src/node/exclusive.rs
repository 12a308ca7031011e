//! The loops of a destination that nobody else writes (who-3): one sink per partition, nothing captured.

use super::board::Work;
use super::dataset::limit;
use super::loops::{Platform, numbered};
use crate::apply::exclusive::ExclusiveSink;
use crate::connectors::contract::Exclusive;
use crate::flow;
use std::sync::Arc;

/// Rows of a batch at least: each batch is one transaction, whatever it holds.
const BATCH_MIN: usize = 5_000;

impl Platform {
    /// Starts them all.
    pub(super) fn start_exclusive(&self, destination: &Arc<dyn Exclusive>) {
        for (collection, ready) in numbered(&self.dataset) {
            for index in 0..ready.topics.partitions {
                let dataset = ready.topics.dataset(index);
                let post = self.post(Work::Apply, Some(dataset.clone()));
                let sink = ExclusiveSink {
                    log: self.loops.typed(),
                    clock: self.loops.clock.clone(),
                    collection,
                    schema: ready.schema.clone(),
                    lineages: self.dataset.lineages.clone(),
                    dataset: dataset.clone(),
                    progress: post.progress.clone(),
                };
                let (loops, destination, group) = (self.loops.clone(), destination.clone(), self.group());
                let valve = self.loops.valve(&self.dataset, ready, true);
                let mut limit = limit(&self.dataset);
                limit.rows_max = limit.rows_max.max(BATCH_MIN);
                self.loops.tasks.spawn(async move {
                    let attempt = |_| async {
                        let member = sink.log.join(&group, std::slice::from_ref(&dataset.topic)).await?;
                        let writer = destination.writer(collection, index).await?;
                        flow::exclusive(&sink, writer, &*member, limit).await
                    };
                    loops.tend_gated(valve, post, attempt).await;
                });
            }
        }
    }
}
