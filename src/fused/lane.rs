//! One partition of D as its only writer knows it (resolve-9). Pure. Everything in it was made from the
//! writer's own log, so a change always had the newest version in front of it: what a version contains
//! follows from the partition alone, and nothing is kept per key. Only a change that leaves fields out
//! needs the version it changed (value-2); from the first such change on the heads are kept.

use crate::capture::fold::{View, write_time};
use crate::connectors::contract::{Change, CollectionNo, Copied};
use crate::event::{
    ActorId, Canonical, Dot, Fp, Hlc, Key, Link, Op, Origin, Position, Proposal, Row, Schema, SchemaId, Stamp, Value,
    Vv,
};
use crate::guard;
use crate::resolve::{self, History, PartState};
use crate::runtime::error::Result;
use crate::state::view::View as Heads;
use std::collections::HashMap;
use std::sync::Arc;

/// What a row was seen to be.
pub struct Image {
    /// Its collection.
    pub collection: CollectionNo,
    /// Its key.
    pub key: Key,
    /// A change, or a copy.
    pub op: Op,
    /// The row; `None` if it is gone.
    pub value: Option<Arc<Row>>,
    /// Its fingerprint.
    pub fp: Fp,
    /// Where it was seen.
    pub at: Position,
    /// When it was written.
    pub time_ms: u64,
}

impl Image {
    /// The image a change shows; none for what a sink left in the log, because there is no sink here.
    #[must_use]
    pub fn of(change: Change, at: Position, time_ms: u64) -> Option<Self> {
        let (collection, key, op, value, fp) = match change {
            Change::Row { collection, key, after, fp, .. } => {
                (collection, key, if after.is_some() { Op::Put } else { Op::Delete }, after, fp)
            }
            Change::Observed { collection, key, image, fp } => (collection, key, Op::Read, image, fp),
            Change::Ledger { .. } | Change::Truncate(_) | Change::Unreadable(_) => return None,
        };
        Some(Image { collection, key, op, value, fp, at, time_ms })
    }

    /// The image a first copy found.
    #[must_use]
    pub fn copied(row: Copied, at: Position) -> Self {
        let Copied { collection, key, row, fp, time_ms } = row;
        Image { collection, key, op: Op::Read, value: Some(row), fp, at, time_ms }
    }

    /// A row that a truncate took away.
    #[must_use]
    pub fn gone(collection: CollectionNo, key: Key, at: Position, time_ms: u64) -> Self {
        Image { collection, key, op: Op::Delete, value: None, fp: Fp::ABSENT, at, time_ms }
    }

    /// read-10: the same as a row of the dataset. What the table has no column for is left as it was, or
    /// null in a record that is `new`.
    #[must_use]
    pub fn seen_through(self, view: &View, new: bool) -> Self {
        let missing = if new { Value::Null } else { Value::Unchanged };
        let fp = self.value.as_ref().map_or(Fp::ABSENT, |row| view.now.fp(row));
        Image { value: self.value.map(|row| Arc::new(view.now.lift(&row, &missing))), fp, ..self }
    }

    /// Whether fields were left out as unchanged.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.value.as_ref().is_some_and(|row| row.is_partial())
    }
}

/// What the writer knows of a partition.
pub struct Lane {
    state: PartState,
    /// What the newest version contains, and with it what every version does.
    seen: Vv,
    /// The time of the newest version.
    ts: Hlc,
    /// The newest position published (read-12).
    lastpos: Position,
    knows_heads: bool,
}

impl Lane {
    /// A partition nothing is known of but how its rows look, and how far it was published at the checkpoint.
    #[must_use]
    pub fn new(schema: Arc<Schema>, lastpos: Position) -> Self {
        let state = PartState { schemas: vec![schema], ..PartState::default() };
        Lane { state, seen: Vv::new(), ts: Hlc::default(), lastpos, knows_heads: false }
    }

    /// The newest counter used.
    #[must_use]
    pub fn ctr(&self, me: ActorId) -> u64 {
        self.seen.get(me)
    }

    /// The newest position published.
    #[must_use]
    pub fn lastpos(&self) -> Position {
        self.lastpos
    }

    /// Whether the heads are kept.
    #[must_use]
    pub fn knows_heads(&self) -> bool {
        self.knows_heads
    }

    /// Keeps the heads from now on.
    pub fn learn_heads(&mut self, heads: HashMap<Key, Arc<Canonical>>) {
        self.state.heads = Heads::default();
        heads.into_iter().for_each(|(key, head)| self.state.heads.put(key, head));
        self.knows_heads = true;
    }

    /// Keeps the heads no longer.
    pub fn forget_heads(&mut self) {
        self.state.heads = Heads::default();
        self.knows_heads = false;
    }

    /// The keys that are there, in their order; only while the heads are kept.
    #[must_use]
    pub fn present(&self) -> Vec<Key> {
        let there = self.state.heads.iter().map(|(_, head)| head).filter(|head| !head.tomb);
        let mut keys: Vec<Key> = there.map(|head| head.key.clone()).collect();
        keys.sort_unstable();
        keys
    }

    /// Whether a key is there; only while the heads are kept.
    #[must_use]
    pub fn holds(&self, key: &Key) -> bool {
        self.state.heads.get(key).is_some_and(|head| !head.tomb)
    }

    /// Rows may be of this schema, too, from now on (read-10).
    pub fn announce(&mut self, schema: &Arc<Schema>) {
        self.state.schemas.retain(|known| known.id != schema.id);
        self.state.schemas.push(schema.clone());
    }

    /// Whether all that a truncate at `at` took away was published by an earlier life. At the newest position
    /// itself perhaps a part: the rest is still there (read-12).
    #[must_use]
    pub fn is_truncated(&self, at: Position) -> bool {
        guard!("fused-read-12", at < self.lastpos)
    }

    /// Whether a change was published by an earlier life of the reader: read back, never computed (read-12).
    #[must_use]
    pub fn is_published(&self, at: Position) -> bool {
        guard!("fused-read-12", at <= self.lastpos)
    }

    /// Takes a valid version of D, read back or just made.
    pub fn fold(&mut self, me: ActorId, version: &Arc<Canonical>) {
        if self.knows_heads {
            self.state.fold(version, None);
        }
        self.state.link = Link { seq: version.seq, id: version.id, ..self.state.link };
        self.seen = self.seen.join(&version.vv);
        self.ts = self.ts.max(version.ts);
        if let (Origin::Source(at), true) = (version.origin, version.dot.actor == me) {
            self.lastpos = self.lastpos.max(at);
        }
    }

    /// Makes the next version of an image's key: proposed and settled in one go, by the same step as elsewhere.
    pub fn settle(
        &mut self,
        me: ActorId,
        schema: SchemaId,
        image: Image,
        now_ms: u64,
        id: u64,
    ) -> Result<Arc<Canonical>> {
        let at = image.at;
        let proposal = Proposal {
            stamp: Stamp::default(),
            key: image.key,
            dot: Dot { actor: me, ctr: self.ctr(me) + 1 },
            ctx: self.seen.clone(),
            base_seq: self.state.seq(),
            base_tomb: false,
            ts: write_time(self.ts, image.time_ms, now_ms),
            op: image.op,
            fp: image.fp,
            fp_local: image.fp,
            schema,
            value: image.value,
            before: None,
            txn: None,
            src_pos: at,
            rev: 0,
            entry: None,
            ambiguous_base: false,
        };
        let version = resolve::step(&self.state, 0, &proposal, &History::default())?;
        let version = Arc::new(self.state.seal(Canonical { origin: Origin::Source(at), ..version }, id));
        self.fold(me, &version);
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Cause, Field, PlatformNo, Type, Value};

    const ME: ActorId = ActorId::new(PlatformNo(1), 1);

    fn schema() -> Arc<Schema> {
        let field = |name: &str| Field { name: name.into(), ty: Type::Text, nullable: true };
        Arc::new(Schema {
            id: SchemaId(1),
            name: "t".into(),
            fields: vec![field("k"), field("a"), field("b")],
            key: vec![0],
        })
    }

    fn image(values: [Value; 3], commit: u64) -> Image {
        let row = Arc::new(Row(values.to_vec()));
        let fp = Fp::of_row(&schema(), &row);
        let at = Position::new(commit, 0);
        Image { collection: 0, key: "k".into(), op: Op::Put, value: Some(row), fp, at, time_ms: 1000 }
    }

    fn lane() -> Lane {
        Lane::new(schema(), Position::START)
    }

    fn settle(lane: &mut Lane, image: Image) -> Result<Arc<Canonical>> {
        let id = image.at.commit + 100;
        lane.settle(ME, SchemaId(1), image, 1000, id)
    }

    /// resolve-9: no head is known, and still each version contains the one before it.
    #[test]
    fn versions_form_a_chain_and_contain_each_other_without_any_state_per_key() {
        let mut lane = lane();
        let of = |text: &str| [Value::text("k"), Value::text(text), Value::Null];
        let one = settle(&mut lane, image(of("1"), 1)).unwrap();
        let two = settle(&mut lane, image(of("2"), 2)).unwrap();
        assert_eq!((one.seq, two.seq, two.prev, two.cause), (1, 2, one.id, Cause::FastForward));
        assert!(one.vv.le(&two.vv) && one.ts < two.ts && two.dot.ctr == 2);
        assert_eq!(two.origin, Origin::Source(Position::new(2, 0)));
        assert!(lane.is_published(Position::new(2, 0)) && !lane.is_published(Position::new(2, 1)));
        assert!(lane.state.heads.bytes() == 0);
    }

    /// read-12: what is read back is continued, under the same dots.
    #[test]
    fn a_lane_read_back_goes_on_where_the_other_ended() {
        let of = |text: &str| [Value::text("k"), Value::text(text), Value::Null];
        let (mut first, mut second) = (lane(), lane());
        second.fold(ME, &settle(&mut first, image(of("1"), 1)).unwrap());
        assert_eq!(settle(&mut first, image(of("2"), 2)).unwrap(), settle(&mut second, image(of("2"), 2)).unwrap());
    }

    /// value-2
    #[test]
    fn a_field_that_was_left_out_is_filled_from_the_head_once_it_is_known() {
        let mut lane = lane();
        let whole = settle(&mut lane, image([Value::text("k"), Value::text("big"), Value::text("1")], 1)).unwrap();
        let partial = || image([Value::text("k"), Value::Unchanged, Value::text("2")], 2);
        assert!(partial().is_partial() && settle(&mut lane, partial()).is_err());
        lane.learn_heads([(whole.key.clone(), whole)].into());
        let filled = settle(&mut lane, partial()).unwrap();
        let row = Row(vec![Value::text("k"), Value::text("big"), Value::text("2")]);
        assert_eq!((filled.after.as_deref(), filled.fp), (Some(&row), Fp::of_row(&schema(), &row)));
    }
}
