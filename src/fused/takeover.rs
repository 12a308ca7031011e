//! Taking over a fused platform (claim-5): one epoch above what L and S have seen is claimed in L, then in
//! S; then D is read to its end. D has no claims: the first append either extends its chain or is void,
//! and then it is taken over again.

use super::behind::Behind;
use super::checkpoint::Stage;
use super::lane::Lane;
use super::{Direct, Fused, Writing};
use crate::capture::letters::Letters;
use crate::event::{
    Canonical, Copying, Fp, Key, Offset, Origin, Position, ReaderMark, Record, ResolverMark, Role, Stamp, Validity,
};
use crate::guard;
use crate::runtime::error::{Code, Error, Result};
use crate::topic::name::Parts;
use crate::topic::owner::{Bid, Folded, Writer, claim};
use crate::topic::{Delivered, Partition, Session, Typed, claim as fold};
use futures_util::future::try_join_all;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// S of a partition, as far as it is read before it is claimed.
struct State<'a> {
    parts: &'a Parts,
    folded: Folded,
    mark: Option<ResolverMark>,
}

/// What was shown of rows, by collection and key.
type Shown = HashMap<(u16, Key), (Position, Fp)>;

impl Fused {
    /// Takes everything over. What D holds is folded; nothing is remembered from before.
    pub async fn take_over(&self) -> Result<(Direct<'_>, Vec<Behind<'_>>)> {
        let session = self.reader.log.session().await?;
        let owner = self.reader.clock.fresh_id();
        loop {
            if let Some(owned) = self.try_take_over(&session, owner).await? {
                return Ok(owned);
            }
        }
    }

    async fn try_take_over(
        &self,
        session: &Arc<dyn Session<Typed>>,
        owner: u128,
    ) -> Result<Option<(Direct<'_>, Vec<Behind<'_>>)>> {
        let log = &*self.reader.log;
        let Some(first) = self.reader.lanes.first() else {
            return Err(Error::new(Code::Unexpected, "a dataset without any partition"));
        };
        let role = Role::Writer(self.reader.me.platform());
        let mut mark = None;
        let mut ledger = Folded::open(log, &first.ledger, 0, Validity::default()).await?;
        ledger.read_to(log.bounds(&first.ledger).await?.high, |d| newest_mark(&mut mark, d)).await?;
        let mut states = self.read_states().await?;
        let seen = states.iter().map(|state| fold::owner(&state.folded.validity, Role::Resolver).epoch);
        let epoch = seen.fold(fold::owner(&ledger.validity, role).epoch, u64::max) + 1;
        let bid = Bid { at: &first.ledger, role, owner, epoch: Some(epoch) };
        let Some(stamp) = claim(log, session, &mut ledger, &bid, |d| newest_mark(&mut mark, d)).await? else {
            return Ok(None);
        };
        let ledger = Writer::sole(self.reader.log.clone(), session.clone(), first.ledger.clone(), &ledger);
        let claims = states.iter_mut().map(|State { parts, folded, mark }| async move {
            let bid = Bid { at: &parts.state, role: Role::Resolver, owner, epoch: Some(epoch) };
            let take = |d: &Delivered<Typed>| newest_state_mark(mark, d);
            let skipped = !guard!("fused-claims-state", true);
            Ok::<bool, Error>(skipped || claim(log, session, folded, &bid, take).await?.is_some())
        });
        if try_join_all(claims).await?.contains(&false) {
            return Ok(None);
        }
        let lanes = (0..self.parts.len()).map(|index| self.read_back(index, session, mark.as_ref()));
        let (lanes, shown): (Vec<_>, Vec<_>) = try_join_all(lanes).await?.into_iter().unzip();
        let shown = shown.into_iter().flatten().collect();
        let behind = states.into_iter().map(|State { parts, folded, mark }| {
            let projected = Writer::sole(self.reader.log.clone(), session.clone(), parts.state.clone(), &folded);
            Behind::new(self, parts, stamp, mark.as_ref(), projected)
        });
        let behind = behind.collect();
        Ok(Some((self.direct(mark.as_ref(), stamp, lanes, ledger, shown), behind)))
    }

    async fn read_states(&self) -> Result<Vec<State<'_>>> {
        let log = &*self.reader.log;
        let states = self.parts.iter().map(|parts| async move {
            let folded = Folded::open(log, &parts.state, 0, Validity::default()).await?;
            let mut state = State { parts, folded, mark: None };
            let high = log.bounds(&parts.state).await?.high;
            state.folded.read_to(high, |d| newest_state_mark(&mut state.mark, d)).await?;
            Ok(state)
        });
        try_join_all(states).await
    }

    /// resolve-1, read-12: what was published since the checkpoint stands in D.
    async fn read_back(
        &self,
        index: usize,
        session: &Arc<dyn Session<Typed>>,
        mark: Option<&ReaderMark>,
    ) -> Result<(Writing, Shown)> {
        let (Some(of), Some(parts)) = (self.reader.lanes.get(index), self.parts.get(index)) else {
            return Err(Error::new(Code::Unexpected, "a partition without its topics"));
        };
        let schema = self.reader.schemas.get(usize::from(of.collection)).cloned();
        let schema = schema.ok_or_else(|| Error::new(Code::Unexpected, "a collection without a schema"))?;
        let lastpos = mark.and_then(|m| m.lastpos.get(index)).copied().unwrap_or_default();
        let from = mark.and_then(|m| m.cpos.get(index)).copied().unwrap_or_default();
        let copying = mark.is_none_or(|m| m.copied.iter().any(|c| *c != Copying::Done));
        let (mut lane, mut newest, mut strays) = (Lane::new(schema, lastpos), from, HashSet::new());
        let mut shown = Shown::new();
        let mut folded = self.open_chain(&parts.dataset, from).await?;
        let high = self.reader.log.bounds(&parts.dataset).await?.high;
        while folded.offset() < high {
            for (delivered, valid) in folded.next(1000).await? {
                let Some(Record::Canonical(version)) = delivered.payload.as_deref() else { continue };
                if !valid && guard!("claim-void", true) {
                    strays.insert(version.key.clone());
                    continue;
                }
                let Some(at) = self.of_mine(version) else { return Err(settled_elsewhere(&parts.dataset)) };
                strays.remove(&version.key);
                // Positions of an earlier incarnation are of another log.
                if copying && version.dot.actor == self.reader.me {
                    shown.insert((of.collection, version.key.clone()), (at, version.fp));
                }
                newest = delivered.offset;
                if guard!("fused-read-back", true) {
                    lane.fold(self.reader.me, version);
                }
            }
        }
        let at = parts.dataset.clone();
        let writer = Writer::sole(self.reader.log.clone(), session.clone(), at, &folded);
        let writing = Writing { lane, writer, batch: Vec::new(), newest, cut: newest, strays };
        Ok((writing, shown))
    }

    /// Where the platform's own reader found what a version holds; none if it is somebody else's.
    fn of_mine(&self, version: &Canonical) -> Option<Position> {
        match version.origin {
            Origin::Source(at) if version.dot.actor.platform() == self.reader.me.platform() => Some(at),
            _ => None,
        }
    }

    /// D from a version of mine on that counted; from its start if there was none.
    async fn open_chain(&self, at: &Partition, from: Offset) -> Result<Folded> {
        let log = &*self.reader.log;
        if from == 0 {
            return Folded::open(log, at, 0, Validity::default()).await;
        }
        if log.bounds(at).await?.high <= from {
            let what = "the dataset's topic ends before what was published to it";
            return Err(Error::new(Code::HistoryLost, what).at("partition", at).at("offset", from));
        }
        let first = log.read(at, from).await?.next(1).await?;
        let tip = match first.first().and_then(|d| d.payload.as_deref()) {
            Some(Record::Canonical(version)) => (version.seq - 1, version.prev),
            _ => (0, 0),
        };
        Folded::open(log, at, from, Validity { tip, ..Validity::default() }).await
    }

    fn direct(
        &self,
        mark: Option<&ReaderMark>,
        stamp: Stamp,
        lanes: Vec<Writing>,
        ledger: Writer,
        shown: Shown,
    ) -> Direct<'_> {
        let now_ms = self.reader.clock.now_ms();
        let through = mark.map_or(Position::START, |m| m.pos);
        Direct {
            fused: self,
            stamp,
            lanes,
            ledger,
            number: mark.map_or(0, |m| m.number),
            copied: mark.map_or_else(|| vec![Copying::Todo; self.reader.schemas.len()], |m| m.copied.clone()),
            shown,
            truncated: HashMap::new(),
            views: HashMap::new(),
            id: u64::try_from(stamp.owner & u128::from(u64::MAX)).unwrap_or_default(),
            through,
            began: through,
            cut_at: through,
            marked: through,
            marked_ms: now_ms,
            letters: Letters::default(),
            looked_ms: now_ms,
            noted: false,
            stage: Stage::Idle,
        }
    }
}

fn newest_mark(newest: &mut Option<ReaderMark>, delivered: &Delivered<Typed>) {
    if let Some(Record::ReaderMark(found)) = delivered.payload.as_deref()
        && newest.as_ref().is_none_or(|mark| mark.number < found.number)
    {
        *newest = Some((**found).clone());
    }
}

fn newest_state_mark(newest: &mut Option<ResolverMark>, delivered: &Delivered<Typed>) {
    if let Some(Record::ResolverMark(found)) = delivered.payload.as_deref()
        && newest.as_ref().is_none_or(|mark| mark.number < found.number)
    {
        *newest = Some((**found).clone());
    }
}

fn settled_elsewhere(at: &Partition) -> Error {
    let what = "a version in the dataset's topic was not settled by the only writer this dataset has now";
    Error::new(Code::ModeChanged, what).at("partition", at)
}
