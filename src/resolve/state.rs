//! What a resolver knows of its partition: a fold over the valid records of D and the control inputs
//! of C (resolve-1, resolve-2). Restored from S and the rest of D; nothing else is needed.

use super::policy::InForce;
use crate::event::{
    Canonical, Control, Ctr, Link, Offset, Origin, Record, Schema, SchemaId, Seq, StateRecord, Validity,
};
use crate::event::{ResolverMark, Stamp};
use crate::guard;
use crate::state::view::View;
use crate::topic::claim;
use std::sync::Arc;

/// The state of one partition.
#[derive(Clone, Default, Debug)]
pub struct PartState {
    /// The newest version of each key, of those that were fetched for what comes next.
    pub heads: View<Arc<Canonical>>,
    /// The chain of D: next offset, last sequence number, its id.
    pub link: Link,
    /// The resolver's counter of merge dots.
    pub rctr: Ctr,
    /// The rules in force.
    pub rules: InForce,
    /// The schemas announced, newest last.
    pub schemas: Vec<Arc<Schema>>,
    /// Which records of C count, up to `c_off`.
    pub changes: Validity,
    /// C is absorbed up to here.
    pub c_off: Offset,
    /// The offset behind the newest input of C that D settles.
    pub settled: Offset,
    /// The input of C of which D holds the first versions only, and how many (resolve-10).
    pub begun: Option<(Offset, u32)>,
}

impl PartState {
    /// Takes a head from S.
    pub fn restore_head(&mut self, state: &StateRecord) {
        let newest = self.heads.get(&state.head.key).map_or(0, |h| h.seq);
        if state.head.seq > newest {
            self.heads.put(state.head.key.clone(), state.head.clone());
        }
    }

    /// Takes the newest mark of S.
    pub fn restore_mark(&mut self, mark: &ResolverMark) {
        self.link = mark.link;
        self.rctr = mark.rctr;
        self.rules = mark.rules.clone().into();
        self.schemas.clone_from(&mark.schemas);
        self.changes = mark.changes.clone();
        self.c_off = mark.c_off;
        self.settled = mark.c_off;
    }

    /// Takes a valid record of D (resolve-1). `offset` is where it stands, if that is known.
    pub fn fold(&mut self, canonical: &Arc<Canonical>, offset: Option<Offset>) {
        self.link = Link { offset: offset.map_or(self.link.offset, |o| o + 1), seq: canonical.seq, id: canonical.id };
        self.rctr = self.rctr.max(canonical.rctr);
        self.begun = None;
        match canonical.origin {
            Origin::Input(input) if !guard!("group-last", !canonical.last) => {
                self.settled = self.settled.max(input + 1);
            }
            Origin::Input(input) => self.begun = Some((input, canonical.idx + 1)),
            Origin::Source(_) => {}
        }
        // An S entry may be newer than this record: guard seq.
        if self.heads.get(&canonical.key).is_none_or(|h| h.seq < canonical.seq) {
            self.heads.put(canonical.key.clone(), canonical.clone());
        }
    }

    /// Takes an input of C, at its offset, into what belongs to no key, and says whether it counts
    /// (resolve-12). Idempotent per offset: an offset below `c_off` was absorbed before.
    pub fn absorb(&mut self, offset: Offset, record: &Record) -> bool {
        if offset < self.c_off {
            return false;
        }
        self.c_off = offset + 1;
        let valid = claim::admit(&mut self.changes, record) || !guard!("claim-void", true);
        if let (true, Record::Control(input)) = (valid, record) {
            match &input.control {
                Control::Rules(rules) => self.rules = rules.clone().into(),
                Control::Schema(schema) => self.announce(schema),
            }
        }
        valid
    }

    fn announce(&mut self, schema: &Arc<Schema>) {
        let id: SchemaId = schema.id;
        self.schemas.retain(|s| s.id != id);
        self.schemas.push(schema.clone());
    }

    /// How many versions of the input at `offset` D holds already: the rest is decided again from the same
    /// state, because the keys of a group are different ones (resolve-10).
    #[must_use]
    pub fn done(&self, offset: Offset) -> u32 {
        self.begun.filter(|(input, _)| guard!("resolve-10", *input == offset)).map_or(0, |(_, done)| done)
    }

    /// Gives a version its place in the journal: number, unique id, and the id before (the chain).
    pub fn seal(&self, canonical: Canonical, id: u64) -> Canonical {
        Canonical { seq: self.link.seq + 1, id, prev: self.link.id, ..canonical }
    }

    /// The mark of this state under `stamp`; only true for what D holds up to `link`.
    #[must_use]
    pub fn mark(&self, stamp: Stamp, number: u64) -> ResolverMark {
        ResolverMark {
            stamp,
            number,
            link: self.link,
            c_off: self.c_off,
            changes: self.changes.clone(),
            rctr: self.rctr,
            rules: (*self.rules).clone(),
            schemas: self.schemas.clone(),
        }
    }

    /// The newest sequence number.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.link.seq
    }
}
