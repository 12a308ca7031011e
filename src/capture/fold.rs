//! A LOG platform's committed changes become proposals: a pure fold over the log (protocol.md §5).
//! The context of a change comes from its place in the log, never from how the ledger looks now:
//! comparing an image with the *current* ledger makes echoes bounce for ever (correctness.md §3.1).

use super::image::Image;
use super::truncate::Truncates;
pub use super::view::{View, Views};
use crate::connectors::contract::{Change, CollectionNo, Copied, Transaction};
pub use crate::event::version::write_time;
use crate::event::{
    ActorId, Ctr, Dot, Fp, Key, Known, LedgerEntry, Op, Position, Proposal, Record, Row, Schema, Stamp, Txn, Vv,
};
use crate::guard;
use crate::runtime::error::Result;
use crate::state::view::{Noted, View as Entries, Weigh};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Which lane (partition of a collection) a key belongs to.
pub type LaneOf = Arc<dyn Fn(CollectionNo, &Key) -> usize + Send + Sync>;

/// RS of a row, and where L says so.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RowState {
    /// What the row contains.
    pub known: Known,
    /// Its newest record in L; `None` if it has none yet.
    pub noted: Option<Noted>,
}

impl Weigh for RowState {
    fn weight(&self) -> usize {
        self.known.weight()
    }
}

/// What the reader knows at its place in the log.
pub struct Fold {
    /// Whose changes these are.
    pub me: ActorId,
    /// The schema of each collection, in force at this place.
    pub schemas: Vec<Arc<Schema>>,
    /// What the platform sees of each collection (read-11).
    pub parts: Vec<Option<Part>>,
    /// The same as the platform was opened with: rows of a first copy are of these.
    pub opened: Vec<Arc<Schema>>,
    /// How the rows of collections whose tables are of another form are read (read-10).
    pub views: HashMap<CollectionNo, View>,
    /// The partition (of all collections' partitions) each key belongs to.
    pub partition_of: LaneOf,
    /// RS: what each row contains, per collection, of those that were fetched for what comes next.
    pub rows: Vec<Entries<RowState>>,
    /// Newest counter used, per partition.
    pub ctr: Vec<Ctr>,
    /// Newest position published, per partition.
    pub lastpos: Vec<Position>,
    /// Rows whose knowledge moved since the last checkpoint.
    pub moved: HashSet<(CollectionNo, Key)>,
    /// What was published already, in log order: read back, never computed again (read-12).
    pub published: Published,
    /// What is known of truncates.
    pub truncates: Truncates,
}

/// My own proposals, read back from C after a restart.
#[derive(Default)]
pub struct Published {
    /// Changes, by partition and position.
    pub changes: HashMap<(usize, Position), Known>,
    /// Copies, which stand in no log: they move RS at their position.
    pub copies: BTreeMap<Position, Vec<(CollectionNo, Key, Known)>>,
}

/// What a platform sees of a collection that it does not see all of (read-11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Some fields, of all records.
    Fields,
    /// Some records, with some of their fields or all.
    Rows,
}

/// A proposal, or keys that a truncate took away, and the partition it goes to.
pub type Addressed = (usize, Record);

impl Fold {
    /// Whether re-reading what was published is not finished yet (read-13).
    #[must_use]
    pub fn rereading(&self, through: Position) -> bool {
        self.lastpos.iter().any(|last| through < *last)
    }

    /// Whether the platform sees a part of a collection: it keeps to the version of the schema that its view was
    /// made for, and fingerprints are those of what it was given, under no version (read-11).
    pub(super) fn is_part(&self, collection: CollectionNo) -> bool {
        self.parts.get(usize::from(collection)).is_some_and(Option::is_some)
    }

    pub(super) fn known(&self, collection: CollectionNo, key: &Key) -> Option<&Known> {
        self.rows.get(usize::from(collection))?.get(key).map(|row| &row.known)
    }

    /// Folds a transaction; returns what is to be published, in order. `views` belong to its forms. Fails at a
    /// truncate that a person has to allow first (read-9).
    pub fn transaction(
        &mut self,
        txn: &Transaction,
        views: &Views,
        now_ms: u64,
        stamp: Stamp,
    ) -> Result<Vec<Addressed>> {
        self.pass_copies(|copied| copied < Position::new(txn.commit, txn.first));
        // read-3: ledger rows of a transaction fold first.
        let ledger: HashMap<(CollectionNo, &Key), &LedgerEntry> = txn
            .changes
            .iter()
            .filter_map(|change| match change {
                Change::Ledger { collection, key, entry: Some(entry) } => Some(((*collection, key), entry)),
                _ => None,
            })
            .collect();
        let last = last_images(txn);
        for (&(collection, key), entry) in &ledger {
            let image = last.contains_key(&(collection, key));
            self.sink_wrote(collection, key, entry, image, Position::new(txn.commit, txn.first));
        }
        let mut proposals = Vec::new();
        let mut forms = txn.forms.iter().zip(views).peekable();
        for (number, (ordinal, change)) in (txn.first..).zip(&txn.changes).enumerate() {
            while let Some((form, view)) = forms.next_if(|(form, _)| form.from <= number) {
                self.look(form.collection, view);
            }
            let at = Position::new(txn.commit, ordinal);
            if let Change::Truncate(collection) = change {
                proposals.extend(self.truncated(*collection, at, txn, now_ms, stamp)?);
                continue;
            }
            let Some(native) = Image::of(change) else { continue };
            let (row, tag) = ((native.collection, native.key), ledger.get(&(native.collection, native.key)));
            // read-1: beside a ledger row only the key's last image of the transaction counts …
            if tag.is_some() && last.get(&row) != Some(&ordinal) {
                continue;
            }
            // … and it is our own sink's if it is what the ledger row says, under the schema it says it in.
            let view = self.views.get(&native.collection);
            if guard!("read-1", tag.is_some_and(|entry| entry.fp == native.fp_under(view, entry.schema))) {
                continue;
            }
            let known = self.known(native.collection, native.key);
            let told = native.op == Op::Read && known.is_some_and(|k| k.fp == native.fp_under(view, k.schema));
            let new = known.is_none_or(|k| k.vv.is_empty() || k.fp == Fp::ABSENT);
            let earlier = known.filter(|_| !new).and_then(|k| native.still_of(view?, k.schema));
            let form = view.map(|view| &view.form).or_else(|| self.schemas.get(usize::from(native.collection)));
            let image = native.whose_ancestor_is(known, view, form).seen_through(view, earlier, new);
            // The sink put it into the log before it could know that the reader had told of it: the first copy
            // did, or an earlier change (who-5).
            if guard!("sink-8-told", told) {
                continue;
            }
            proposals.extend(self.local(&image, at, txn, now_ms, stamp));
        }
        forms.for_each(|(form, view)| self.look(form.collection, view));
        Ok(proposals)
    }

    /// From here on a table is of another form.
    pub(super) fn look(&mut self, collection: CollectionNo, view: &View) {
        if let Some(schema) = self.schemas.get_mut(usize::from(collection)) {
            *schema = view.now.to.clone();
        }
        self.views.insert(collection, view.clone());
    }

    /// Folds rows of a first copy, found at `at`; what the log has shown since is not published
    /// again (who-5).
    pub fn copied(&mut self, rows: &[Copied], at: Position, now_ms: u64, stamp: Stamp) -> Vec<Addressed> {
        self.pass_copies(|copied| copied <= at);
        let mut proposals = Vec::new();
        for row in rows {
            let known = self.known(row.collection, &row.key);
            let opened = self.opened.get(usize::from(row.collection)).map(|schema| schema.id);
            // Under another version of the schema the log alone has shown it, and fingerprints say nothing (read-10).
            let other = known.zip(opened).is_some_and(|(k, opened)| k.fp != Fp::ABSENT && k.schema != opened);
            if guard!("who-5", known.is_some_and(|k| k.pos > at || k.fp == row.fp) || other) {
                continue;
            }
            if self.truncates.passed(row.collection, at) {
                continue;
            }
            let image = Image {
                collection: row.collection,
                key: &row.key,
                op: Op::Read,
                value: Some(row.row.clone()),
                fp: row.fp,
                before: None,
                schema: self.opened.get(usize::from(row.collection)).cloned(),
            };
            proposals.push(self.propose(&image, at, None, row.time_ms, now_ms, stamp));
        }
        proposals
    }

    /// The sink put a canonical version there: the row contains what the ledger row says, and my own
    /// newest change; without the join my next write would conflict with my own last one (read-1).
    ///
    /// A row that is absent cannot be locked: an application may insert it while the sink adopts its absence.
    /// Then it stays, and a truncate takes it away (read-9).
    fn sink_wrote(&mut self, collection: CollectionNo, key: &Key, entry: &LedgerEntry, image: bool, at: Position) {
        let known = self.known(collection, key);
        let mine = Dot { actor: self.me, ctr: known.map_or(0, |known| known.vv.get(self.me)) };
        let vv = if guard!("read-1-join", true) { entry.vv.with(mine) } else { entry.vv.clone() };
        if guard!("read-11-hidden", entry.is_hidden()) {
            // What the platform is not shown, nobody there has in front of him: only his own writes.
            let known = Known { vv: Vv::new().with(mine), base_tomb: true, pos: at, ..Known::default() };
            return self.learn(collection, key, known);
        }
        let stays = known.filter(|_| guard!("read-9-adopted", !image && entry.fp == Fp::ABSENT));
        let (fp, schema) = stays.map_or((entry.fp, entry.schema), |known| (known.fp, known.schema));
        let (base_seq, base_tomb, ts) = (entry.seq, entry.tomb, entry.ts);
        self.learn(collection, key, Known { vv, base_seq, base_tomb, fp, schema, ts, pos: at });
    }

    /// A change of somebody else than our sink: published, unless it was before.
    fn local(
        &mut self,
        image: &Image<'_>,
        at: Position,
        txn: &Transaction,
        now_ms: u64,
        stamp: Stamp,
    ) -> Option<Addressed> {
        let partition = (self.partition_of)(image.collection, image.key);
        let last = self.lastpos.get(partition).copied().unwrap_or_default();
        if guard!("read-12", at <= last) {
            // Published by an earlier life of this reader, or seen as no change by it.
            if let Some(known) = self.published.changes.remove(&(partition, at)) {
                self.learn(image.collection, image.key, known);
            }
            return None;
        }
        // read-11: a row that was put aside here is deleted here; the dataset's record was never seen.
        let away = self.parts.get(usize::from(image.collection)).is_some_and(|part| *part == Some(Part::Rows))
            && self.known(image.collection, image.key).is_none_or(|k| k.fp == Fp::ABSENT);
        if guard!("read-11-delete", image.op == Op::Delete && away) {
            return None;
        }
        let idx = u32::try_from(at.ordinal).unwrap_or(u32::MAX);
        // read-4: a proposal names its transaction and its place in it.
        let place = Some(Txn { id: txn.commit, idx });
        Some(self.propose(image, at, place, txn.time_ms, now_ms, stamp))
    }

    fn propose(
        &mut self,
        image: &Image<'_>,
        at: Position,
        txn: Option<Txn>,
        time_ms: u64,
        now_ms: u64,
        stamp: Stamp,
    ) -> Addressed {
        let partition = (self.partition_of)(image.collection, image.key);
        let base = self.known(image.collection, image.key).cloned().unwrap_or_default();
        let ctr = self.ctr.get(partition).copied().unwrap_or(0) + 1;
        if let Some(newest) = self.ctr.get_mut(partition) {
            *newest = ctr;
        }
        if let Some(last) = self.lastpos.get_mut(partition) {
            *last = at.max(*last);
        }
        let dot = Dot { actor: self.me, ctr };
        let schema = image.schema.as_ref().or_else(|| self.schemas.get(usize::from(image.collection)));
        // read-11: an image that is not what the store holds was lifted from a part of the record.
        let lifted = |value: &&Arc<Row>| value.is_partial() && schema.is_some_and(|s| Fp::of_row(s, value) != image.fp);
        let fp = if self.is_part(image.collection) && image.value.as_ref().filter(lifted).is_some() {
            image.fp.of_part()
        } else {
            image.fp
        };
        let proposal = Proposal {
            stamp,
            key: image.key.clone(),
            dot,
            ctx: base.vv.clone(),
            base_seq: base.base_seq,
            base_tomb: base.base_tomb,
            ts: write_time(base.ts, time_ms, now_ms),
            op: image.op,
            fp,
            fp_local: image.fp,
            schema: schema.map(|s| s.id).unwrap_or_default(),
            value: image.value.clone(),
            before: image.before.clone(),
            txn,
            src_pos: at,
            rev: 0,
            entry: None,
            ambiguous_base: false,
        };
        self.learn(image.collection, image.key, known_after(&proposal));
        (partition, Record::Proposal(Box::new(proposal)))
    }

    pub(super) fn learn(&mut self, collection: CollectionNo, key: &Key, known: Known) {
        if let Some(rows) = self.rows.get_mut(usize::from(collection)) {
            let noted = rows.get(key).and_then(|row| row.noted);
            rows.put(key.clone(), RowState { known, noted });
        }
        self.moved.insert((collection, key.clone()));
    }

    /// Copies of an earlier life move RS at their place in log order.
    fn pass_copies(&mut self, passed: impl Fn(Position) -> bool) {
        while let Some(entry) = self.published.copies.first_entry().filter(|e| passed(*e.key())) {
            for (collection, key, known) in entry.remove() {
                self.learn(collection, &key, known);
            }
        }
    }

    /// All copies of an earlier life move RS: nothing is left to re-read.
    pub fn pass_all_copies(&mut self) {
        self.pass_copies(|_| true);
    }
}

/// What is known of a row once `proposal` is published: its context and its dot (read-2).
#[must_use]
pub fn known_after(proposal: &Proposal) -> Known {
    Known {
        vv: proposal.ctx.with(proposal.dot),
        base_seq: proposal.base_seq,
        base_tomb: proposal.base_tomb,
        fp: proposal.fp_local,
        schema: proposal.schema,
        ts: proposal.ts,
        pos: proposal.src_pos,
    }
}

/// The ordinal of each row's last image in a transaction.
fn last_images(txn: &Transaction) -> HashMap<(CollectionNo, &Key), u64> {
    let images = (txn.first..).zip(&txn.changes);
    images.filter_map(|(ordinal, change)| Image::of(change).map(|i| ((i.collection, i.key), ordinal))).collect()
}
