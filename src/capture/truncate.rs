//! A truncate in a source's log (read-9): every row the reader knows of the collection is gone, at one
//! place in the log. It is published as one input per partition and `Limit::group_max` keys, each key with
//! what the row contained, so that the resolver tells an edit the source had not seen from one it had.
//! A newest number would not do: a version that waits at the source's sink, or is parked there, has a
//! lower number than others that are written (docs/decisions/0008-a-truncate-names-its-keys.md).
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
        // All rows of a collection that is truncated were fetched.
        let rows = self.rows.get(usize::from(collection)).into_iter().flat_map(|rows| rows.iter());
        for (key, _) in rows.filter(|(_, row)| row.known.fp != Fp::ABSENT) {
            lanes.entry((self.partition_of)(collection, key)).or_default().push(key.clone());
        }
        lanes.values_mut().for_each(|keys| keys.sort_unstable());
        lanes
    }

    fn is_present(&self, collection: CollectionNo, key: &Key) -> bool {
        self.known(collection, key).is_some_and(|known| known.fp != Fp::ABSENT)
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
        let bases: Vec<(Key, Known)> =
            keys.iter().map(|key| (key.clone(), self.known(collection, key).cloned().unwrap_or_default())).collect();
        // One write has one time, later than all it takes away (value-3).
        let ts = bases.iter().map(|(_, base)| write_time(base.ts, txn.time_ms, now_ms)).max().unwrap_or_default();
        let gone = |(key, base): &(Key, Known)| Gone {
            key: key.clone(),
            ctx: base.vv.clone(),
            base_seq: base.base_seq,
            base_tomb: base.base_tomb,
            fp: base.fp,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::fold::{Published, RowState};
    use crate::connectors::contract::{Change, Copied};
    use crate::event::{ActorId, Hlc, PlatformNo, Row, Schema, SchemaId, Vv};
    use crate::state::view::View as Entries;
    use std::sync::Arc;

    const ME: ActorId = ActorId::new(PlatformNo(1), 1);
    const OTHER: ActorId = ActorId::new(PlatformNo(2), 1);

    fn known(ctr: u64, fp: Fp) -> Known {
        let vv = Vv::new().with(Dot { actor: OTHER, ctr });
        Known {
            vv,
            base_seq: ctr,
            base_tomb: false,
            fp,
            schema: Default::default(),
            ts: Hlc::from_ms(50 + ctr),
            pos: Position::new(1, 0),
        }
    }

    fn row(known: Known) -> RowState {
        RowState { known, noted: None }
    }

    /// Keys k0 to k4 in collection 0, odd ones in partition 1; k5 is gone already; another collection.
    fn fold(limit: Limit) -> Fold {
        let mut rows = vec![Entries::default(), Entries::default()];
        for (n, key) in (1..).zip(["k0", "k1", "k2", "k3", "k4"]) {
            rows[0].put(key.into(), row(known(n, Fp([1; 16]))));
        }
        rows[0].put("k5".into(), row(known(9, Fp::ABSENT)));
        rows[1].put("k0".into(), row(known(9, Fp([1; 16]))));
        let schema = |name: &str| Schema { id: Default::default(), name: name.into(), fields: vec![], key: vec![] };
        Fold {
            me: ME,
            parts: Vec::new(),
            opened: Vec::new(),
            schemas: vec![Arc::new(schema("items")), Arc::new(schema("others"))],
            partition_of: Arc::new(|_, key: &Key| usize::from(key.0.last().is_some_and(|digit| digit % 2 == 1))),
            views: HashMap::new(),
            rows,
            ctr: vec![7, 0],
            lastpos: vec![Position::START; 2],
            moved: Default::default(),
            published: Published::default(),
            truncates: Truncates::new(limit),
        }
    }

    fn truncate(commit: u64) -> Transaction {
        Transaction { commit, time_ms: 60, first: 0, forms: Vec::new(), changes: vec![Change::Truncate(0)] }
    }

    fn inputs(published: Vec<Addressed>) -> Vec<(usize, Truncate)> {
        let one = |(lane, record)| match record {
            Record::Truncate(truncate) => (lane, *truncate),
            other => panic!("{other:?}"),
        };
        published.into_iter().map(one).collect()
    }

    fn names(inputs: &[(usize, Truncate)]) -> Vec<(usize, u64, Vec<Key>)> {
        let keys = |t: &Truncate| t.gone.iter().map(|gone| gone.key.clone()).collect();
        inputs.iter().map(|(lane, t)| (*lane, t.dot.ctr, keys(t))).collect()
    }

    const TWO: Limit = Limit { keys_max: usize::MAX, group_max: 2 };

    #[test]
    fn read_9_a_truncate_says_of_each_row_what_it_contained_in_inputs_of_limited_size() {
        let mut fold = fold(TWO);
        let found = inputs(fold.transaction(&truncate(3), &[], 1000, Stamp::default()).unwrap());
        let keys = |names: &[&'static str]| names.iter().map(|name| Key::from(*name)).collect::<Vec<_>>();
        let expected = [(0, 8, keys(&["k0", "k2"])), (0, 9, keys(&["k4"])), (1, 1, keys(&["k1", "k3"]))];
        assert_eq!(names(&found), expected);
        let first = &found[0].1;
        // value-3: one write, one time, later than all it takes away.
        assert_eq!(first.ts, Hlc::from_ms(60));
        let expected =
            Gone { key: "k2".into(), ctx: known(3, Fp::ABSENT).vv, base_seq: 3, base_tomb: false, fp: Fp([1; 16]) };
        assert_eq!(first.gone[1], expected);
        // Later contexts contain it.
        let after = fold.known(0, &"k2".into()).unwrap();
        assert_eq!((after.vv.get(ME), after.vv.get(OTHER), after.fp), (8, 3, Fp::ABSENT));
        assert_eq!(fold.known(1, &"k0".into()), Some(&known(9, Fp([1; 16]))));
        let again = fold.transaction(&truncate(4), &[], 1000, Stamp::default()).unwrap();
        assert!(again.is_empty(), "an empty table was truncated: {again:?}");
    }

    /// read-12: after a crash that left only a part of it in the log.
    #[test]
    fn what_was_published_of_a_truncate_is_read_back_and_the_rest_is_published() {
        let found = inputs(fold(TWO).transaction(&truncate(3), &[], 1000, Stamp::default()).unwrap());
        for landed in 0..=found.len() {
            let mut successor = fold(TWO);
            found[..landed].iter().for_each(|(lane, truncate)| successor.read_back(*lane, truncate));
            let rest = inputs(successor.transaction(&truncate(3), &[], 2000, Stamp::default()).unwrap());
            assert_eq!(names(&rest), names(&found[landed..]), "after {landed}");
            let expected = Vv::new().with(Dot { actor: OTHER, ctr: 1 }).with(Dot { actor: ME, ctr: 8 });
            assert_eq!(successor.known(0, &"k0".into()).unwrap().vv, expected);
        }
    }

    #[test]
    fn read_9_a_large_truncate_waits_for_a_person_but_not_again_once_it_was_begun() {
        let few = Limit { keys_max: 4, group_max: 2 };
        let refused = fold(few).transaction(&truncate(3), &[], 1000, Stamp::default()).unwrap_err();
        assert_eq!(refused.code, Code::TruncateHeld);
        assert!(refused.to_string().contains("5 records") && refused.to_string().contains("items"), "{refused}");
        let begun = inputs(fold(TWO).transaction(&truncate(3), &[], 1000, Stamp::default()).unwrap());
        let mut successor = fold(few);
        successor.read_back(0, &begun[0].1);
        assert_eq!(successor.transaction(&truncate(3), &[], 1000, Stamp::default()).unwrap().len(), 2);
        assert_eq!(Limit::ASK.keys_max, 10);
    }

    /// read-4
    #[test]
    fn read_4_a_truncate_and_its_neighbours_say_their_places_in_their_transaction() {
        let mut fold = fold(Limit { keys_max: usize::MAX, group_max: 10 });
        let row = |key: &'static str| {
            let (key, after, fp) = (Key::from(key), Some(Arc::new(Row(vec![]))), Fp([3; 16]));
            Change::Row { collection: 0, key, after, fp, before: None }
        };
        let changes = vec![row("k6"), Change::Truncate(0), row("k0")];
        let txn = Transaction { commit: 3, time_ms: 60, first: 5, forms: Vec::new(), changes };
        let place = |(lane, record): &Addressed| match record {
            Record::Truncate(truncate) => (*lane, truncate.txn, truncate.gone.len()),
            Record::Proposal(proposal) => (*lane, proposal.txn.unwrap(), 0),
            other => panic!("{other:?}"),
        };
        let found = fold.transaction(&txn, &[], 1000, Stamp::default()).unwrap();
        let at = |idx| Txn { id: 3, idx };
        let expected = [(0, at(5), 0), (0, at(6), 4), (1, at(6), 2), (0, at(7), 0)];
        assert_eq!(found.iter().map(place).collect::<Vec<_>>(), expected);
        let Record::Proposal(anew) = &found[3].1 else { panic!() };
        assert!(anew.ctx.get(ME) == 9 && anew.ctx.get(OTHER) == 1, "a row made anew stands on the truncate");
    }

    /// who-5: the copy's snapshot stands before the truncate.
    #[test]
    fn a_row_that_was_copied_and_then_truncated_does_not_come_back() {
        let mut fold = fold(TWO);
        fold.transaction(&truncate(3), &[], 1000, Stamp::default()).unwrap();
        let copied = |key: &'static str| {
            let row = Arc::new(Row(vec![]));
            [Copied { collection: 0, key: key.into(), row, fp: Fp([2; 16]), time_ms: 0 }]
        };
        assert!(fold.copied(&copied("k8"), Position::end_of(2), 1000, Stamp::default()).is_empty());
        assert_eq!(fold.copied(&copied("k8"), Position::end_of(3), 1000, Stamp::default()).len(), 1);
    }

    /// who-5, read-10: a fingerprint under another version of the schema says nothing of the row.
    #[test]
    fn a_row_the_log_has_shown_in_another_form_is_not_copied() {
        let mut fold = fold(TWO);
        fold.opened.clone_from(&fold.schemas);
        let opened = fold.opened[0].id;
        let copied = |key: &'static str| {
            let row = Arc::new(Row(vec![]));
            [Copied { collection: 0, key: key.into(), row, fp: Fp([2; 16]), time_ms: 0 }]
        };
        for (schema, fp, published) in [
            (opened, [1; 16], 1),
            (opened, [2; 16], 0),
            (SchemaId(opened.0 + 1), [1; 16], 0),
            (SchemaId(opened.0 + 1), Fp::ABSENT.0, 1),
        ] {
            fold.rows[0].put("k8".into(), row(Known { schema, ..known(1, Fp(fp)) }));
            let found = fold.copied(&copied("k8"), Position::end_of(9), 1000, Stamp::default());
            assert_eq!(found.len(), published, "{schema:?} {fp:?}");
        }
    }

    #[test]
    fn long_keys_make_small_inputs() {
        let mut fold = fold(Limit::PROPAGATE);
        for n in 0..100u8 {
            let key = Key([&[b'x'; 4000][..], &[n * 2]].concat().into());
            fold.rows[0].put(key, row(known(1, Fp([1; 16]))));
        }
        let found = inputs(fold.transaction(&truncate(3), &[], 1000, Stamp::default()).unwrap());
        assert!(found.iter().all(|(_, t)| t.gone.iter().map(|g| g.key.0.len()).sum::<usize>() <= GROUP_BYTES_MAX));
        assert_eq!(found.iter().map(|(_, t)| t.gone.len()).sum::<usize>(), 105);
    }
}
