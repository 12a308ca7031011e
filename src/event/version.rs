//! Versions: who wrote what, and what the writer had seen. The whole algebra of actors, dots,
//! version vectors and the hybrid clock stands here. Nothing in this file reads a clock.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use std::fmt;

/// Dense number of a canonical version within its partition, from 1; 0 means "none yet".
pub type Seq = u64;
/// Dense number of a published change of one actor in one partition, from 1.
pub type Ctr = u64;
/// Number of an ownership within a partition; grows with every accepted claim.
pub type Epoch = u64;

/// The number of a platform in a dataset, from 1, never reused (who-7). 0 is the resolver.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct PlatformNo(pub u16);

/// A platform in one of its incarnations (who-7). `ActorId::RESOLVER` mints merges only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ActorId(pub u32);

impl ActorId {
    /// The actor of merge and rollback dots.
    pub const RESOLVER: ActorId = ActorId(0);

    /// The actor of `platform` in `incarnation`.
    #[must_use]
    pub const fn new(platform: PlatformNo, incarnation: u16) -> Self {
        ActorId((platform.0 as u32) << 16 | incarnation as u32)
    }

    /// The platform this actor stands for.
    #[must_use]
    pub const fn platform(self) -> PlatformNo {
        PlatformNo((self.0 >> 16) as u16)
    }

    /// Which life of the platform this is.
    #[must_use]
    pub const fn incarnation(self) -> u16 {
        (self.0 & 0xffff) as u16
    }
}

impl fmt::Debug for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::RESOLVER => write!(f, "R"),
            a => write!(f, "{}.{}", a.platform().0, a.incarnation()),
        }
    }
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One event of one actor: the `ctr`-th change it published in a partition.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dot {
    /// Who.
    pub actor: ActorId,
    /// Which of the actor's changes, from 1.
    pub ctr: Ctr,
}

impl fmt::Debug for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{}", self.actor, self.ctr)
    }
}

/// How two version vectors stand to each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// Both have seen the same.
    Equal,
    /// The left one has seen less.
    Before,
    /// The left one has seen more.
    After,
    /// Each has seen something the other has not.
    Concurrent,
}

/// A version vector: the newest change seen of every actor. A missing actor counts as 0.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Vv(SmallVec<[(ActorId, Ctr); 4]>);

impl Vv {
    /// The vector of someone who has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The newest change seen of `actor`, 0 if none.
    #[must_use]
    pub fn get(&self, actor: ActorId) -> Ctr {
        self.0.iter().find(|e| e.0 == actor).map_or(0, |e| e.1)
    }

    /// Whether nothing has been seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Entries in the order of their actors.
    pub fn iter(&self) -> impl Iterator<Item = Dot> + '_ {
        self.0.iter().map(|&(actor, ctr)| Dot { actor, ctr })
    }

    /// Whether the change `dot` has been seen.
    #[must_use]
    pub fn contains(&self, dot: Dot) -> bool {
        self.get(dot.actor) >= dot.ctr
    }

    /// Whether everything seen here has been seen there as well.
    #[must_use]
    pub fn le(&self, other: &Self) -> bool {
        self.iter().all(|dot| other.contains(dot))
    }

    /// How this vector stands to another.
    #[must_use]
    pub fn order(&self, other: &Self) -> Order {
        match (self.le(other), other.le(self)) {
            (true, true) => Order::Equal,
            (true, false) => Order::Before,
            (false, true) => Order::After,
            (false, false) => Order::Concurrent,
        }
    }

    /// Also sees `dot` and all earlier changes of its actor.
    pub fn advance(&mut self, dot: Dot) {
        if dot.ctr == 0 {
            return;
        }
        match self.0.binary_search_by(|e| e.0.cmp(&dot.actor)) {
            Ok(at) => {
                if let Some(entry) = self.0.get_mut(at) {
                    entry.1 = entry.1.max(dot.ctr);
                }
            }
            Err(at) => self.0.insert(at, (dot.actor, dot.ctr)),
        }
    }

    /// Sees what either has seen.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        let mut joined = self.clone();
        other.iter().for_each(|dot| joined.advance(dot));
        joined
    }

    /// This vector with one more change.
    #[must_use]
    pub fn with(&self, dot: Dot) -> Self {
        let mut next = self.clone();
        next.advance(dot);
        next
    }
}

impl FromIterator<Dot> for Vv {
    fn from_iter<T: IntoIterator<Item = Dot>>(iter: T) -> Self {
        let mut vv = Vv::new();
        iter.into_iter().for_each(|dot| vv.advance(dot));
        vv
    }
}

impl fmt::Debug for Vv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Hybrid time: 48 bits of milliseconds since 1970, 16 bits of logical count (value-3).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hlc(pub u64);

impl Hlc {
    /// The first instant of a millisecond.
    #[must_use]
    pub const fn from_ms(ms: u64) -> Self {
        Hlc(ms << 16)
    }

    /// Milliseconds since 1970, UTC.
    #[must_use]
    pub const fn ms(self) -> u64 {
        self.0 >> 16
    }

    /// The next instant: one logical tick later.
    #[must_use]
    pub const fn tick(self) -> Self {
        Hlc(self.0.saturating_add(1))
    }
}

impl fmt::Debug for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}ms+{}", self.ms(), self.0 & 0xffff)
    }
}

/// How far a source's clock may be ahead of ours before its times are clamped (value-3).
pub const CLOCK_AHEAD_MAX_MS: u64 = 500;

/// value-3: the source's time, but after the version it changes and not far ahead of our clock.
/// Where the two bounds cross, the lower one wins.
#[must_use]
pub fn write_time(base: Hlc, time_ms: u64, now_ms: u64) -> Hlc {
    Hlc::from_ms(time_ms.min(now_ms + CLOCK_AHEAD_MAX_MS)).max(base.tick())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vv() -> impl Strategy<Value = Vv> {
        let dot = (0u32..6, 0u64..5).prop_map(|(actor, ctr)| Dot { actor: ActorId(actor), ctr });
        prop::collection::vec(dot, 0..6).prop_map(|dots| dots.into_iter().collect())
    }

    proptest! {
        #[test]
        fn joins_commute_associate_and_repeat_without_effect(a in vv(), b in vv(), c in vv()) {
            prop_assert_eq!(a.join(&b), b.join(&a));
            prop_assert_eq!(a.join(&b).join(&c), a.join(&b.join(&c)));
            prop_assert_eq!(a.join(&a), a.clone());
            prop_assert_eq!(a.join(&Vv::new()), a);
        }

        #[test]
        fn a_join_is_the_least_that_has_seen_both(a in vv(), b in vv(), c in vv()) {
            let joined = a.join(&b);
            prop_assert!(a.le(&joined) && b.le(&joined));
            prop_assert!(!(a.le(&c) && b.le(&c)) || joined.le(&c));
        }

        #[test]
        fn having_seen_less_is_a_partial_order(a in vv(), b in vv(), c in vv()) {
            prop_assert!(a.le(&a));
            prop_assert_eq!(a.le(&b) && b.le(&a), a == b);
            prop_assert!(!(a.le(&b) && b.le(&c)) || a.le(&c));
        }

        #[test]
        fn order_says_what_le_says(a in vv(), b in vv()) {
            let (expected, mirrored) = match (a.le(&b), b.le(&a)) {
                (true, true) => (Order::Equal, Order::Equal),
                (true, false) => (Order::Before, Order::After),
                (false, true) => (Order::After, Order::Before),
                (false, false) => (Order::Concurrent, Order::Concurrent),
            };
            prop_assert_eq!(a.order(&b), expected);
            prop_assert_eq!(b.order(&a), mirrored);
        }

        #[test]
        fn a_dot_taken_is_contained_and_nothing_else_changes(a in vv(), actor in 0u32..6, ctr in 0u64..9) {
            let dot = Dot { actor: ActorId(actor), ctr };
            let next = a.with(dot);
            prop_assert!(next.contains(dot) && a.le(&next));
            prop_assert_eq!(next.get(dot.actor), a.get(dot.actor).max(ctr));
            for other in (0..6).filter(|&other| other != actor).map(ActorId) {
                prop_assert_eq!(next.get(other), a.get(other));
            }
        }

        #[test]
        fn actors_keep_platform_and_incarnation(platform in any::<u16>(), incarnation in any::<u16>()) {
            let actor = ActorId::new(PlatformNo(platform), incarnation);
            prop_assert_eq!((actor.platform(), actor.incarnation()), (PlatformNo(platform), incarnation));
        }
    }
}
