//! D goes to a destination that nobody else writes (who-3): whole batches, the newest version of each key,
//! and the mark up to where they reach, in one transaction of the store. The mark is the only progress that
//! counts; what the group has committed is told to people and to the log, and never read.
//!
//! Two sinks at once do not go backwards: each moves the mark only from where it left it, so one of them
//! finds it moved, changes nothing and begins again behind it. A mark that the log does not hold means that
//! the log was lost or exchanged: then nothing is written any more.

use super::commits::committed_of;
use crate::connectors::contract::{CollectionNo, ExclusiveWriter};
use crate::event::lineage::Lens;
use crate::event::{Canonical, Key, Link, Record, Schema, SchemaId, Validity, Value};
use crate::guard;
use crate::runtime::clock::Clock;
use crate::runtime::error::{Code, Error, Result};
use crate::runtime::progress::Progress;
use crate::topic::lineages::Lineages;
use crate::topic::owner::Folded;
use crate::topic::{Delivered, Log, Membership, Partition, Typed};
use std::collections::HashMap;
use std::sync::Arc;

/// What an exclusive sink needs to know.
pub struct ExclusiveSink {
    /// The log.
    pub log: Arc<dyn Log<Typed>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The collection.
    pub collection: CollectionNo,
    /// Its schema, as the destination was opened with it.
    pub schema: Arc<Schema>,
    /// The versions of the schema.
    pub lineages: Arc<dyn Lineages>,
    /// D.
    pub dataset: Partition,
    /// What is told of the work.
    pub progress: Arc<Progress>,
}

/// An exclusive sink at work on its partition.
pub struct Writing<'a> {
    sink: &'a ExclusiveSink,
    writer: Box<dyn ExclusiveWriter>,
    /// Where the mark stands, as far as this sink knows.
    mark: Link,
    committed: Link,
    /// From older versions of the schema to the one the destination was opened with.
    older: HashMap<SchemaId, Lens>,
}

impl ExclusiveSink {
    /// Starts at the mark, and returns the place to read D from (claim-1).
    pub async fn start(&self, mut writer: Box<dyn ExclusiveWriter>) -> Result<(Writing<'_>, Folded)> {
        let mark = writer.mark().await?;
        self.holds(mark).await?;
        let chain = Validity { tip: (mark.seq, mark.id), ..Validity::default() };
        let folded = Folded::open(&*self.log, &self.dataset, mark.offset, chain).await?;
        self.progress.finished(mark.offset, 0, self.clock.now_ms());
        Ok((Writing { sink: self, writer, mark, committed: Link::default(), older: HashMap::new() }, folded))
    }

    /// The newest version the mark names must stand in the log where it was found.
    async fn holds(&self, mark: Link) -> Result<()> {
        let bounds = self.log.bounds(&self.dataset).await?;
        let Some(newest) = mark.offset.checked_sub(1) else { return Ok(()) };
        let found = if newest >= bounds.high || newest < bounds.low {
            None
        } else {
            self.log.read(&self.dataset, newest).await?.next(1).await?.into_iter().next()
        };
        let same = match found.as_ref().and_then(|delivered| delivered.payload.as_deref()) {
            Some(Record::Canonical(version)) => (version.seq, version.id) == (mark.seq, mark.id),
            // Deleted below the mark, which is no loss: what follows is there.
            None => newest < bounds.low && mark.offset >= bounds.low,
            Some(_) => false,
        };
        if guard!("exclusive-log", !same) {
            let what = "the destination was written from another log, or from one that held more: the log was lost, \
                        exchanged or restored. Nothing more is written here. Empty the destination's table, take the \
                        old mark away with `driftless remove`, then start again";
            return Err(Error::new(Code::HistoryLost, what).at("mark", mark.offset).at("seq", mark.seq));
        }
        Ok(())
    }
}

impl Writing<'_> {
    /// Applies a batch of D, whole or not at all.
    pub async fn apply(&mut self, batch: Vec<(Delivered<Typed>, bool)>) -> Result<()> {
        let (mut newest, mut at, mut to, mut taken) = (Vec::new(), HashMap::new(), self.mark, 0u64);
        for (delivered, valid) in &batch {
            let valid = *valid || !guard!("claim-void", true);
            let Some(Record::Canonical(version)) = delivered.payload.as_deref().filter(|_| valid) else { continue };
            to = Link { offset: delivered.offset + 1, seq: version.seq, id: version.id };
            taken += 1;
            replace(&mut newest, &mut at, version);
        }
        if taken == 0 {
            return Ok(());
        }
        self.bring_up(&mut newest).await?;
        let moved = self.writer.write(&newest, self.mark, to).await?;
        if guard!("exclusive-moved", !moved) {
            return Err(Error::new(Code::ClaimLost, "another sink writes this destination; beginning again behind it"));
        }
        self.mark = to;
        let applied = newest.len() as u64;
        self.sink.progress.applied(applied, taken - applied);
        if let Some(last) = newest.last() {
            self.sink.progress.delivered(last.ts.ms(), self.sink.clock.now_ms());
        }
        Ok(())
    }

    /// read-10: versions of an older schema are written as what they are under the destination's; a newer
    /// one stops here, because its fields would be missing from then on.
    async fn bring_up(&mut self, versions: &mut [Arc<Canonical>]) -> Result<()> {
        let ours = self.sink.schema.id;
        for version in versions.iter_mut().filter(|v| v.schema != ours) {
            let Some(row) = version.after.clone() else { continue };
            if !self.older.contains_key(&version.schema) {
                let steps = self.sink.lineages.steps(self.sink.collection).await?;
                let older = steps.iter().take_while(|step| step.schema.id != ours);
                self.older = older.map(|step| (step.schema.id, Lens::new(&step.schema, &self.sink.schema))).collect();
            }
            let lens = self.older.get(&version.schema).ok_or_else(|| {
                let text = "the dataset's schema has changed, and an exclusive destination keeps the form it was opened \
                            with: make its table hold the new form, and restart the node";
                Error::new(Code::SchemaUnsupported, text).at("schema", version.schema.0)
            })?;
            let after = Some(Arc::new(lens.lift(&row, &Value::Null)));
            *version = Arc::new(Canonical { after, schema: ours, conflict: None, ..Canonical::clone(version) });
        }
        Ok(())
    }

    /// Tells how far it is; nothing is ever read from there.
    pub async fn commit(&mut self, member: &dyn Membership) -> Result<()> {
        if self.mark != self.committed {
            member.commit(&self.sink.dataset, committed_of(self.mark)).await?;
            self.committed = self.mark;
        }
        self.sink.progress.finished(self.mark.offset, 0, self.sink.clock.now_ms());
        Ok(())
    }
}

/// Keeps the newest version of each key, in the order in which keys came first.
fn replace(newest: &mut Vec<Arc<Canonical>>, at: &mut HashMap<Key, usize>, version: &Arc<Canonical>) {
    match at.get(&version.key).and_then(|index| newest.get_mut(*index)) {
        Some(older) => older.clone_from(version),
        None => {
            at.insert(version.key.clone(), newest.len());
            newest.push(version.clone());
        }
    }
}
