//! What a reader finds in the log when it takes over: what it knew of each row at its checkpoint, and
//! its own proposals, which are read back and never computed again (read-12).

use super::fold::{Fold, known_after};
use crate::connectors::contract::CollectionNo;
use crate::event::{Key, Known, Op, Position, Proposal, ReaderMark, Record};
use crate::guard;
use crate::topic::message::Newest;
use crate::topic::{Delivered, Typed};
use std::collections::HashMap;

/// What L says.
#[derive(Default)]
pub(super) struct Restored {
    /// RS of each row, as of one checkpoint or several.
    pub(super) known: HashMap<(usize, Key), Vec<Known>>,
    pub(super) mark: Option<ReaderMark>,
    pub(super) newest: Newest,
}

impl Restored {
    /// Takes a valid record of L.
    pub(super) fn take(&mut self, lane: usize, delivered: &Delivered<Typed>) {
        match delivered.payload.as_deref() {
            Some(Record::Known(record)) => {
                self.known.entry((lane, record.key.clone())).or_default().push(record.known.clone());
                self.newest.replace(lane_key(lane, &record.key), &delivered.key);
            }
            Some(Record::ReaderMark(mark)) if self.mark.as_ref().is_none_or(|m| m.number < mark.number) => {
                self.mark = Some((**mark).clone());
            }
            _ => {}
        }
    }
}

/// What was known at the checkpoint. What stands in L from behind it is of a checkpoint that was never
/// finished: the log is read again from here, and knowing more than it shows would claim too much.
pub(super) fn as_of(all: &[Known], marked: Position) -> Option<Known> {
    let known = all.iter().filter(|known| !guard!("as-of-the-mark", known.pos > marked));
    known.max_by_key(|known| known.pos).cloned()
}

pub(super) fn lane_key(lane: usize, key: &Key) -> bytes::Bytes {
    [&lane.to_be_bytes()[..], &key.0].concat().into()
}

/// A proposal of an earlier life: its dot is used, its position published.
pub(super) fn read_back(fold: &mut Fold, lane: usize, collection: CollectionNo, proposal: &Proposal) {
    if let Some(ctr) = fold.ctr.get_mut(lane) {
        *ctr = proposal.dot.ctr.max(*ctr);
    }
    if let Some(last) = fold.lastpos.get_mut(lane) {
        *last = proposal.src_pos.max(*last);
    }
    let known = known_after(proposal);
    if proposal.op == Op::Read && proposal.txn.is_none() {
        let copies = fold.published.copies.entry(proposal.src_pos).or_default();
        copies.push((collection, proposal.key.clone(), known));
    } else {
        fold.published.changes.insert((lane, proposal.src_pos), known);
    }
}
