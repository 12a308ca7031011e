//! The application's side: rows that carry unique tags, the edits an application makes to what it
//! sees on its platform, and the journal of them. The journal knows nothing of the protocol.

use super::executor::Rng;
use driftless::event::{Field, Fp, Key, Row, Schema, SchemaId, Type, Value};
use smallvec::SmallVec;
use std::sync::{Arc, OnceLock};

/// A set of tags, below 128; each application write makes a new one.
pub(crate) type Tags = u128;

/// What a row means, and with it how the resolver has to settle conflicts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Policy {
    /// The row is a set of tags: three-way set merge (`set_merge`).
    Set,
    /// The row is a register with one tag: last write wins.
    Register,
}

/// The schema of the rows: a key and the tags.
pub(crate) fn schema() -> &'static Arc<Schema> {
    static SCHEMA: OnceLock<Arc<Schema>> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let field = |name: &str, ty| Field { name: name.into(), ty, nullable: false };
        let fields = vec![field("k", Type::Text), field("v", Type::Array(Box::new(Type::Int(64))))];
        Arc::new(Schema { id: SchemaId(1), name: "rows".into(), fields, key: vec![0] })
    })
}

/// The key with number `index`.
pub(crate) fn key(index: usize) -> Key {
    const KEYS: [&str; 8] = ["k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"];
    Key::from(KEYS[index])
}

/// The number of a key made by `key`.
pub(crate) fn key_index(key: &Key) -> usize {
    key.0.get(1).map_or(0, |digit| usize::from(digit - b'0'))
}

/// The row of `key` that holds `tags`; none for no tags.
pub(crate) fn row(key: &Key, tags: Tags) -> Option<Arc<Row>> {
    let items: Vec<Value> = (0..128).filter(|t| tags >> t & 1 == 1).map(Value::Int).collect();
    let name = Value::text(std::str::from_utf8(&key.0).unwrap_or_default());
    (tags != 0).then(|| Arc::new(Row(vec![name, Value::Array(items)])))
}

/// The tags a row holds; none for no row.
pub(crate) fn tags(row: Option<&Row>) -> Tags {
    let Some(Value::Array(items)) = row.and_then(|r| r.get(1)) else { return 0 };
    let bit = |v: &Value| if let Value::Int(t @ 0..128) = v { 1 << *t } else { 0 };
    items.iter().map(bit).fold(0, |all, b| all | b)
}

/// The fingerprint of a row, or of none; whether it has the column that comes and goes shows in it.
pub(crate) fn fp(row: Option<&Row>) -> Fp {
    let of = |row: &Row| Fp::of_row(if row.0.len() > 2 { super::evolving::wide() } else { schema() }, row);
    row.map_or(Fp::ABSENT, of)
}

/// The set merge a product has to use under `Policy::Set`: what both kept and what either added.
pub(crate) fn set_merge(
    key: &Key,
    ancestor: Option<&Row>,
    head: Option<&Row>,
    incoming: Option<&Row>,
) -> Option<Arc<Row>> {
    let (anc, a, b) = (tags(ancestor), tags(head), tags(incoming));
    row(key, (anc & a & b) | (a & !anc) | (b & !anc))
}

/// One write of an application.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    /// Index of the platform.
    pub platform: usize,
    /// Index of the key.
    pub key: usize,
    /// What it saw and replaced.
    pub seen: Tags,
    /// What it left; none for a deletion.
    pub left: Tags,
}

/// Everything applications did, in order.
#[derive(Default)]
pub(crate) struct Journal {
    pub writes: Vec<Written>,
    /// All tags ever removed by somebody who saw them.
    pub removed: Tags,
    /// Per key: all tags ever added.
    pub added: SmallVec<[Tags; 8]>,
    /// Per platform: tags its own applications removed.
    removed_at: SmallVec<[Tags; 4]>,
    /// Tags that came back on the platform that had removed them, and that an application then kept.
    pub shown_again: Tags,
    next_tag: u32,
}

impl Journal {
    /// Chooses what an application makes of a row it sees. `None` if all tags are used up.
    pub(crate) fn edit(&mut self, policy: Policy, seen: Tags, rng: &mut Rng) -> Option<Tags> {
        let draw = rng.below(100);
        if seen != 0 && draw < 15 {
            return Some(0);
        }
        if policy == Policy::Set && seen != 0 && draw < 45 {
            let mut bits = seen;
            (0..rng.below(seen.count_ones() as usize)).for_each(|_| bits &= bits - 1);
            return Some(seen & !(bits & bits.wrapping_neg()));
        }
        if self.next_tag >= 128 {
            return None;
        }
        let tag = 1 << self.next_tag;
        self.next_tag += 1;
        Some(if policy == Policy::Set { seen | tag } else { tag })
    }

    /// Notes a write that was carried out.
    pub(crate) fn note(&mut self, write: Written) {
        if self.added.len() <= write.key {
            self.added.resize(write.key + 1, 0);
        }
        if self.removed_at.len() <= write.platform {
            self.removed_at.resize(write.platform + 1, 0);
        }
        self.added[write.key] |= write.left & !write.seen;
        self.shown_again |= write.seen & write.left & self.removed_at[write.platform];
        self.removed_at[write.platform] |= write.seen & !write.left;
        self.removed |= write.seen & !write.left;
        self.writes.push(write);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_carry_their_tags() {
        let mask = 1 | 1 << 77;
        assert_eq!(tags(row(&key(0), mask).as_deref()), mask);
        assert_eq!(row(&key(0), 0), None);
        assert_ne!(fp(row(&key(0), 1).as_deref()), fp(row(&key(0), 2).as_deref()));
    }

    #[test]
    fn the_set_merge_keeps_what_either_added_and_drops_what_either_removed() {
        let of = |t| row(&key(0), t);
        let merged = set_merge(&key(0), of(0b011).as_deref(), of(0b101).as_deref(), of(0b1001).as_deref());
        assert_eq!(tags(merged.as_deref()), 0b1101 & !0b0010);
    }

    #[test]
    fn a_set_edit_adds_one_tag_or_removes_tags_it_sees() {
        let (mut journal, mut rng) = (Journal::default(), Rng::new(5));
        let mut seen = 0;
        for _ in 0..200 {
            let Some(left) = journal.edit(Policy::Set, seen, &mut rng) else { break };
            assert!(left == 0 || (left ^ seen).count_ones() == 1, "{seen:b} -> {left:b}");
            journal.note(Written { platform: 0, key: 0, seen, left });
            seen = left;
        }
        assert_eq!(journal.added[0] & !journal.removed, seen);
    }
}
