//! The newest version of a key, found in the log: S up to its mark, D behind it. Rarely asked for, so
//! nothing is kept for it: for a change that leaves fields out (value-2), and for records of D that do
//! not count and would mislead a plain consumer (claim-7).

use crate::event::{Canonical, Key, Link, Record, Seq, Validity};
use crate::runtime::error::Result;
use crate::topic::name::Parts;
use crate::topic::owner::Folded;
use crate::topic::{Delivered, Log, Typed};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What the log says of some keys.
#[derive(Default)]
pub struct Heads {
    /// The newest version of each.
    pub newest: HashMap<Key, Arc<Canonical>>,
    /// The number and id of the last record of each behind the mark of S, whether it counts or not.
    pub last: HashMap<Key, (Seq, u64)>,
}

impl Heads {
    /// Reads those of `wanted`, or of all keys.
    pub async fn read(log: &dyn Log<Typed>, parts: &Parts, wanted: Option<&HashSet<Key>>) -> Result<Self> {
        let mut heads = Heads::default();
        let asked = |key: &Key| wanted.is_none_or(|wanted| wanted.contains(key));
        let (mut link, mut number) = (Link::default(), 0);
        let high = log.bounds(&parts.state).await?.high;
        let mut folded = Folded::open(log, &parts.state, 0, Validity::default()).await?;
        let take = |delivered: &Delivered<Typed>| match delivered.payload.as_deref() {
            Some(Record::State(state)) if asked(&state.head.key) => heads.take(&state.head),
            Some(Record::ResolverMark(mark)) if mark.number > number => (link, number) = (mark.link, mark.number),
            _ => {}
        };
        folded.read_to(high, take).await?;
        let chain = Validity { tip: (link.seq, link.id), ..Validity::default() };
        let mut folded = Folded::open(log, &parts.dataset, link.offset, chain).await?;
        let high = log.bounds(&parts.dataset).await?.high;
        while folded.offset() < high {
            for (delivered, valid) in folded.next(1000).await? {
                let Some(Record::Canonical(version)) = delivered.payload.as_deref() else { continue };
                if asked(&version.key) {
                    heads.last.insert(version.key.clone(), (version.seq, version.id));
                    if valid {
                        heads.take(version);
                    }
                }
            }
        }
        Ok(heads)
    }

    fn take(&mut self, version: &Arc<Canonical>) {
        if self.newest.get(&version.key).is_none_or(|known| known.seq < version.seq) {
            self.newest.insert(version.key.clone(), version.clone());
        }
    }

    /// claim-7: copies of the heads behind which something else stands last.
    #[must_use]
    pub fn copies(&self) -> Vec<Canonical> {
        let misleading = self.newest.values().filter(|h| self.last.get(&h.key) != Some(&(h.seq, h.id)));
        misleading.map(|head| Canonical { copy: true, ..(**head).clone() }).collect()
    }
}
