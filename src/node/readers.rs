//! The loop that reads a LOG platform: one for a dataset and platform, wherever its partitions lie
//! (claim-9). It proposes, or, if the platform alone writes the dataset, it settles too (resolve-9); of
//! a platform that is only written it throws away what nobody wants.

use super::board::{Post, Work};
use super::dataset::limit;
use super::gate::Gate;
use super::loops::{Platform, partitions};
use super::partition::{Lease, Unit};
use super::project::View;
use crate::capture::Capture;
use crate::capture::truncate::Limit;
use crate::config;
use crate::connectors::contract::{BatchLimit, CollectionNo, LogPlatform};
use crate::event::Key;
use crate::flow;
use crate::fused::Fused;
use crate::runtime::error::Result;
use crate::runtime::stop::Stop;
use crate::settle::Projection;
use crate::topic::{Log, Typed};
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// Milliseconds between a reader's checkpoints: a conflict on its platform waits for the next one (sink-4).
const CHECKPOINT_EVERY_MS: u64 = 100;
/// The same where nothing waits for it: what a takeover reads of D is what a second brings.
const FUSED_CHECKPOINT_EVERY_MS: u64 = 1_000;
/// When a reader that settles has the heads written to S: about as often as a gigabyte is written (resolve-4).
const FUSED_PROJECTION: Projection = Projection { versions_max: 1_000_000, every_ms: 600_000 };

impl Platform {
    pub(super) fn capture(&self, platform: Arc<dyn LogPlatform>, view: &View) -> Unit {
        let post = self.post(Work::Capture, None);
        view.aside().tell(post.progress.clone());
        let (this, view, shown) = (self.clone(), view.clone(), post.clone());
        let run = move |lease: Lease| -> BoxFuture<'static, ()> {
            let capture = this.reader(lease.log(this.loops.typed()), platform.clone(), &view, &shown);
            let (loops, post, limit) = (this.loops.clone(), shown.clone(), limit(&this.dataset));
            Box::pin(async move {
                let attempt = || flow::capture(&capture, limit, &lease.stop);
                loops.tend_leased(&post, &lease, attempt).await;
            })
        };
        Unit { post, run: Box::new(run) }
    }

    pub(super) fn fused(&self, platform: Arc<dyn LogPlatform>, view: &View) -> Unit {
        let post = self.post(Work::Fused, None);
        view.aside().tell(post.progress.clone());
        let (this, view, shown) = (self.clone(), view.clone(), post.clone());
        let run = move |lease: Lease| -> BoxFuture<'static, ()> {
            let (this, view, post) = (this.clone(), view.clone(), shown.clone());
            let (platform, limit, valve) =
                (platform.clone(), limit(&this.dataset), this.loops.valve_of_all(&this.dataset));
            Box::pin(async move {
                let attempt = |gate| {
                    let reader = this.reader(lease.log(this.loops.typed()), platform.clone(), &view, &post);
                    let (fused, stop) = (this.fused_of(reader, gate), &lease.stop);
                    async move { flow::fused(&fused, limit, stop).await }
                };
                this.loops.tend_gated(valve, &post, &lease, attempt).await;
            })
        };
        Unit { post, run: Box::new(run) }
    }

    fn fused_of(&self, reader: Capture, gate: Gate) -> Fused {
        Fused {
            reader: Capture { checkpoint_every_ms: FUSED_CHECKPOINT_EVERY_MS, ..reader },
            parts: partitions(&self.dataset).map(|(_, ready, index)| ready.topics.parts(index)).collect(),
            projection: FUSED_PROJECTION,
            held: if let Gate::Without(held) = gate { held } else { Vec::new() },
        }
    }

    fn reader(&self, log: Arc<dyn Log<Typed>>, platform: Arc<dyn LogPlatform>, view: &View, post: &Post) -> Capture {
        let topics: Vec<_> = self.dataset.collections.iter().map(|ready| ready.topics.clone()).collect();
        let lane_of = move |collection: CollectionNo, key: &Key| {
            let (before, this) = topics.split_at(usize::from(collection).min(topics.len()));
            let first: u32 = before.iter().map(|topics| topics.partitions).sum();
            (first + this.first().map_or(0, |topics| topics.of(key))) as usize
        };
        Capture {
            log,
            clock: self.loops.clock.clone(),
            platform,
            me: self.actor,
            lanes: self.lanes(),
            lane_of: Arc::new(lane_of),
            schemas: self.dataset.collections.iter().map(|ready| ready.schema.clone()).collect(),
            parts: view.parts(),
            lineages: self.dataset.lineages.clone(),
            checkpoint_every_ms: CHECKPOINT_EVERY_MS,
            memory: self.loops.memory.clone(),
            truncate: self.truncate(),
            progress: post.progress.clone(),
        }
    }

    /// read-9: where others write too, a large truncate is passed on only if the dataset says so.
    fn truncate(&self) -> Limit {
        let writers = self.dataset.members.iter().filter(|member| member.part.proposes).count();
        let propagate = self.dataset.config.truncate == config::Truncate::Propagate;
        if propagate || writers < 2 { Limit::PROPAGATE } else { Limit::ASK }
    }

    /// A platform that is only written still notes changes for a reader; nobody wants them.
    pub(super) fn discard(&self, platform: Arc<dyn LogPlatform>) -> Unit {
        let post = self.post(Work::Discard, None);
        let (loops, limit, shown) = (self.loops.clone(), limit(&self.dataset), post.clone());
        let run = move |lease: Lease| -> BoxFuture<'static, ()> {
            let (loops, post, platform) = (loops.clone(), shown.clone(), platform.clone());
            Box::pin(async move {
                let attempt = || discard_all(&*platform, limit, &lease.stop);
                loops.tend_leased(&post, &lease, attempt).await;
            })
        };
        Unit { post, run: Box::new(run) }
    }
}

async fn discard_all(platform: &dyn LogPlatform, limit: BatchLimit, stop: &Stop) -> Result<()> {
    let mut reader = platform.reader(platform.position().await?).await?;
    loop {
        let batch = tokio::select! {
            () = stop.asked() => return Ok(()),
            batch = reader.next(limit) => batch?,
        };
        reader.release(batch.through).await?;
    }
}
