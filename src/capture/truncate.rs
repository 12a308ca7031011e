//! A truncate in a source's log (read-9): every row the reader knows of the collection is gone, at one
//! place in the log. It is published as one input per partition and `Limit::group_max` keys, each key with
//! what the row contained, so that the resolver tells an edit the source had not seen from one it had.
//! A newest number would not do: a version that waits at the source's sink, or is parked there, has a
//! lower number than others that are written (docs/decisions/0009).
//!
//! Nothing is published of a truncate that takes more keys than `Limit::keys_max`: a person decides.

use super::fold::{Addressed, Fold, write_time};
use crate::connectors::contract::{CollectionNo, Transaction};
use crate::event::{Dot, Fp, Gone, Key, Known, Position, Record, Stamp, Truncate, Txn};
use crate::guard;
use crate::runtime::error::{Code, Error, Result};
use std::collections::{BTreeMap, HashMap};

/// Bytes of keys in one input at most, whatever their number.
const GROUP_BYTES_MAX: usize = 256 << 10;

/// How truncates are passed on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limit {
    /// Keys a truncate may take away without being asked; more stop the reader at its place in the log.
    pub keys_max: usize,
    /// Keys of one input, and so versions of one group (resolve-10).
    pub group_max: usize,
}

impl Limit {
    /// Where somebody else writes too, and the dataset does not say `truncate: propagate`.
    pub const ASK: Limit = Limit { keys_max: 10, group_max: 1000 };
    /// Truncates of any size are passed on.
    pub const PROPAGATE: Limit = Limit { keys_max: usize::MAX, ..Limit::ASK };
}

/// What a reader knows of truncates.
pub struct Truncates {
    limit: Limit,
    /// What earlier lives published, by partition and position: read back, never computed again (read-12).
    published: HashMap<(usize, Position), Vec<(Key, Known)>>,
    /// The newest truncate of each collection that was folded.
    newest: HashMap<CollectionNo, Position>,
}

impl Truncates {
    /// Knows none yet.
    #[must_use]
    pub fn new(limit: Limit) -> Self {
        Truncates { limit, published: HashMap::new(), newest: HashMap::new() }
    }

    /// Whether what a first copy saw at `at` was truncated since (who-5).
    #[must_use]
    pub fn passed(&self, collection: CollectionNo, at: Position) -> bool {
        self.newest.get(&collection).is_some_and(|newest| *newest > at)
    }
}

/// The rows that a truncate took away, by partition, in the order of their keys.
type Lanes = BTreeMap<usize, Vec<Key>>;

impl Fold {
    /// Folds a truncate of a collection at `at`; returns what is to be published.
    pub(super) fn truncated(
        &mut self,
        collection: CollectionNo,
        at: Position,
        txn: &Transaction,
        now_ms: u64,
        stamp: Stamp,
    ) -> Result<Vec<Addressed>> {
        let lanes = self.present(collection);
        self.admit(collection, &lanes, at)?;
        self.truncates.newest.insert(collection, at);
        let mut inputs = Vec::new();
        for (lane, keys) in lanes {
            let last = self.lastpos.get(lane).copied().unwrap_or_default();
            for (key, known) in self.truncates.published.remove(&(lane, at)).unwrap_or_default() {
                self.learn(collection, &key, known);
            }
            // Published whole by an earlier life; at its very position perhaps in part.
            if guard!("read-12", at < last) {
                continue;
            }
            let open: Vec<Key> = keys.into_iter().filter(|key| self.is_present(collection, key)).collect();
            for chunk in self.chunks(&open) {
                let input = self.take_away(collection, lane, chunk, at, txn, now_ms, stamp);
                inputs.push((lane, Record::Truncate(Box::new(input))));
            }
        }
        Ok(inputs)
    }

    fn present(&self, collection: CollectionNo) -> Lanes {
        let mut lanes = Lanes::new();
        for ((no, key), known) in &self.known {
            if *no == collection && known.fp != Fp::ABSENT {
                lanes.entry((self.partition_of)(collection, key)).or_default().push(key.clone());
            }
        }
        lanes.values_mut().for_each(|keys| keys.sort_unstable());
        lanes
    }

    fn is_present(&self, collection: CollectionNo, key: &Key) -> bool {
        self.known.get(&(collection, key.clone())).is_some_and(|known| known.fp != Fp::ABSENT)
    }

    /// A truncate that an earlier life began to publish was admitted then.
    fn admit(&self, collection: CollectionNo, lanes: &Lanes, at: Position) -> Result<()> {
        let keys: usize = lanes.values().map(Vec::len).sum();
        if keys <= self.truncates.limit.keys_max || self.lastpos.iter().any(|last| at <= *last) {
            return Ok(());
        }
        let text = format!(
            "a truncate would take {keys} records away on every platform of the dataset. Nothing of it was passed on. \
             If that is meant, set `truncate: propagate` for the dataset and start again"
        );
        let name = self.schemas.get(usize::from(collection)).map(|schema| schema.name.clone()).unwrap_or_default();
        Err(Error::new(Code::TruncateHeld, text).at("collection", name).at("position", format!("{at:?}")))
    }

    fn chunks<'k>(&self, keys: &'k [Key]) -> Vec<&'k [Key]> {
        let (mut chunks, mut rest) = (Vec::new(), keys);
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |key: &&Key| {
                bytes += key.0.len();
                bytes <= GROUP_BYTES_MAX
            };
            let len = rest.iter().take(self.truncates.limit.group_max).take_while(fits).count().max(1);
            let (chunk, behind) = rest.split_at(len.min(rest.len()));
            chunks.push(chunk);
            rest = behind;
        }
        chunks
    }

    #[expect(clippy::too_many_arguments, reason = "what a change is made of")]
    fn take_away(
        &mut self,
        collection: CollectionNo,
        lane: usize,
        keys: &[Key],
        at: Position,
        txn: &Transaction,
        now_ms: u64,
        stamp: Stamp,
    ) -> Truncate {
        let ctr = self.ctr.get(lane).copied().unwrap_or(0) + 1;
        if let Some(newest) = self.ctr.get_mut(lane) {
            *newest = ctr;
        }
        if let Some(last) = self.lastpos.get_mut(lane) {
            *last = at.max(*last);
        }
        let dot = Dot { actor: self.me, ctr };
        let bases: Vec<(Key, Known)> = keys
            .iter()
            .map(|key| (key.clone(), self.known.get(&(collection, key.clone())).cloned().unwrap_or_default()))
            .collect();
        // One write has one time, later than all it takes away (value-3).
        let ts = bases.iter().map(|(_, base)| write_time(base.ts, txn.time_ms, now_ms)).max().unwrap_or_default();
        let gone = |(key, base): &(Key, Known)| Gone {
            key: key.clone(),
            ctx: base.vv.clone(),
            base_seq: base.base_seq,
            base_tomb: base.base_tomb,
        };
        let truncate = Truncate {
            stamp,
            dot,
            ts,
            schema: self.schemas.get(usize::from(collection)).map(|s| s.id).unwrap_or_default(),
            txn: Txn { id: txn.commit, idx: u32::try_from(at.ordinal).unwrap_or(u32::MAX) },
            src_pos: at,
            gone: bases.iter().map(gone).collect(),
        };
        for (key, known) in known_after(&truncate) {
            self.learn(collection, &key, known);
        }
        truncate
    }

    /// What an earlier life of this reader published.
    pub(super) fn read_back(&mut self, lane: usize, truncate: &Truncate) {
        if let Some(ctr) = self.ctr.get_mut(lane) {
            *ctr = truncate.dot.ctr.max(*ctr);
        }
        if let Some(last) = self.lastpos.get_mut(lane) {
            *last = truncate.src_pos.max(*last);
        }
        self.truncates.published.entry((lane, truncate.src_pos)).or_default().extend(known_after(truncate));
    }
}

/// What is known of the rows once they are gone: later contexts contain the truncate (read-9).
fn known_after(truncate: &Truncate) -> impl Iterator<Item = (Key, Known)> {
    truncate.gone.iter().map(|gone| {
        let known = Known {
            vv: gone.ctx.with(truncate.dot),
            base_seq: gone.base_seq,
            base_tomb: gone.base_tomb,
            fp: Fp::ABSENT,
            ts: truncate.ts,
            pos: truncate.src_pos,
            schema: truncate.schema,
        };
        (gone.key.clone(), known)
    })
}
