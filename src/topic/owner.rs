//! Owning a role in a partition: claim it, write under the claim, and know of each record whether it
//! counts (claim-1 to claim-5). An acknowledgement alone proves nothing, because the log does not
//! fence: a record is *valid* only if nobody else wrote between the owner's own appends, or if the
//! partition was read up to it and the fold accepted it.

use super::claim::Proof;
use super::message::message;
use super::{Appending, Delivered, Log, Message, Partition, Reading, Session, Typed, claim};
use crate::event::{Claim, Epoch, Key, Offset, Record, Role, Stamp, Validity};
use crate::guard;
use crate::runtime::error::{Code, Error, Result};
use futures_util::FutureExt;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

/// How many messages one read asks for.
const READ_MAX: usize = 1000;
/// About how many bytes one owner may have on their way to the log; then it takes nothing more in. Some ten
/// thousand small rows, so that a log that takes a tenth of a second to answer does not hold up its writer.
pub const IN_FLIGHT_BYTES_MAX: usize = 4 << 20;
/// About what a message takes besides the keys and the content it carries.
const MESSAGE_BYTES: usize = 256;

/// A partition read in order, with the fold that tells which records count.
pub struct Folded {
    reading: Box<dyn Reading<Typed>>,
    /// The fold over everything read so far.
    pub validity: Validity,
}

impl Folded {
    /// Reads `at` from `from` on; `validity` is the fold up to there (claim-1).
    pub async fn open(log: &dyn Log<Typed>, at: &Partition, from: Offset, validity: Validity) -> Result<Self> {
        Ok(Folded { reading: log.read(at, from).await?, validity })
    }

    /// The offset that comes next.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.reading.offset()
    }

    /// Waits for messages; each comes with whether it counts.
    pub async fn next(&mut self, limit: usize) -> Result<Vec<(Delivered<Typed>, bool)>> {
        let batch = self.reading.next(limit).await?;
        let admit = |d: Delivered<Typed>| {
            let valid = d.payload.as_ref().is_some_and(|record| claim::admit(&mut self.validity, record));
            (d, valid)
        };
        Ok(batch.into_iter().map(admit).collect())
    }

    /// Reads on up to and without `end`, giving every message that counts to `take`.
    pub async fn read_to(&mut self, end: Offset, mut take: impl FnMut(&Delivered<Typed>)) -> Result<()> {
        while self.offset() < end {
            for (delivered, valid) in self.next(room(self.offset(), end)).await? {
                if valid || guard_off_void() {
                    take(&delivered);
                }
            }
        }
        Ok(())
    }
}

/// Whether void records are taken for valid ones: only ever with the guard taken out.
fn guard_off_void() -> bool {
    !guard!("claim-void", true)
}

/// Bids for `role` until a claim of mine is accepted, reading the partition up to it. `take` gets
/// every record that counts. With `epoch` the claim must have that very epoch (claim-5: epochs are
/// elected in the first partition only) and `None` is returned if it was not accepted.
pub async fn claim(
    log: &dyn Log<Typed>,
    session: &Arc<dyn Session<Typed>>,
    folded: &mut Folded,
    bid: &Bid<'_>,
    mut take: impl FnMut(&Delivered<Typed>),
) -> Result<Option<Stamp>> {
    loop {
        if bid.epoch.is_none() {
            let high = log.bounds(bid.at).await?.high;
            folded.read_to(high, &mut take).await?;
        }
        let epoch = bid.epoch.unwrap_or_else(|| claim::owner(&folded.validity, bid.role).epoch + 1);
        let stamp = Stamp { epoch, owner: bid.owner };
        let record = Arc::new(Record::Claim(Claim { role: bid.role, stamp }));
        let offset = session.append(bid.at, vec![message(record)]).await?.first().copied().unwrap_or_default();
        folded.read_to(offset + 1, &mut take).await?;
        match (claim::owner(&folded.validity, bid.role) == stamp, bid.epoch) {
            (true, _) => return Ok(Some(stamp)),
            (false, Some(_)) => return Ok(None),
            (false, None) => {}
        }
    }
}

/// What is bid for.
pub struct Bid<'a> {
    /// The partition.
    pub at: &'a Partition,
    /// The role.
    pub role: Role,
    /// My UUID for this ownership (claim-2).
    pub owner: u128,
    /// The epoch it must have; `None` to elect one here.
    pub epoch: Option<Epoch>,
}

/// Writes one partition and knows which of its records count.
pub struct Writer {
    log: Arc<dyn Log<Typed>>,
    session: Arc<dyn Session<Typed>>,
    at: Partition,
    /// The fold up to `verified`, my own records included once they are settled.
    validity: Validity,
    verified: Offset,
    /// Whether several roles write here: then records are acknowledged, not verified.
    shared: bool,
    sent: VecDeque<Sent>,
    /// About how many bytes `sent` holds.
    in_flight_bytes: usize,
    /// How many of `sent` stand before the cut, and how far the partition was known there.
    cut: (usize, Offset),
    /// Keys of void versions met between my own (claim-7).
    strays: Vec<Key>,
}

/// A batch on its way. Its records are given up as soon as they are encoded.
struct Sent {
    proofs: Vec<Option<Proof>>,
    bytes: usize,
    appending: Appending,
    outcome: Option<Result<Vec<Offset>>>,
}

impl Writer {
    /// Writes a partition in which only my role writes, from where `folded` has read it.
    #[must_use]
    pub fn sole(log: Arc<dyn Log<Typed>>, session: Arc<dyn Session<Typed>>, at: Partition, folded: &Folded) -> Self {
        let (validity, verified) = (folded.validity.clone(), folded.offset());
        let (sent, strays) = (VecDeque::new(), Vec::new());
        let (in_flight_bytes, cut) = (0, (0, verified));
        Writer { log, session, at, validity, verified, shared: false, sent, in_flight_bytes, cut, strays }
    }

    /// Writes a partition in which several roles write.
    #[must_use]
    pub fn shared(log: Arc<dyn Log<Typed>>, session: Arc<dyn Session<Typed>>, at: Partition, folded: &Folded) -> Self {
        Writer { shared: true, ..Self::sole(log, session, at, folded) }
    }

    /// Everything below this offset is known to me, and nothing of mine is on its way below it.
    #[must_use]
    pub fn verified(&self) -> Offset {
        self.verified
    }

    /// The chain of D as of the last settled record.
    #[must_use]
    pub fn tip(&self) -> (u64, u64) {
        self.validity.tip
    }

    /// Whether something was sent and is not settled.
    #[must_use]
    pub fn in_flight(&self) -> bool {
        !self.sent.is_empty()
    }

    /// About how many bytes were sent and are not settled.
    #[must_use]
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// Makes a cut behind everything sent until now, in place of the one before.
    pub fn cut(&mut self) {
        self.cut = (self.sent.len(), self.verified);
    }

    /// Whether something sent before the cut is not settled.
    #[must_use]
    pub fn is_before_cut(&self) -> bool {
        self.cut.0 > 0
    }

    /// How far the partition was known when what was sent before the cut had settled.
    #[must_use]
    pub fn cut_at(&self) -> Offset {
        self.cut.1
    }

    /// Whether the oldest batch sent is answered already.
    #[must_use]
    pub fn is_acked(&self) -> bool {
        self.sent.front().is_some_and(|sent| sent.outcome.is_some())
    }

    /// Reads what others wrote behind my newest record; only while nothing is in flight.
    pub async fn look_behind(&mut self) -> Result<()> {
        let high = self.log.bounds(&self.at).await?.high;
        if high > self.verified && !self.in_flight() { self.catch_up(high).await } else { Ok(()) }
    }

    /// The keys of void versions met since the last call.
    pub fn take_strays(&mut self) -> Vec<Key> {
        std::mem::take(&mut self.strays)
    }

    /// Sends a batch; it lands behind everything sent before.
    pub fn send(&mut self, messages: Vec<Message<Typed>>) {
        if !messages.is_empty() {
            let bytes = messages.iter().map(weight).sum();
            let proofs = messages.iter().map(|message| message.payload.as_deref().map(Proof::of)).collect();
            let appending = self.session.append(&self.at, messages);
            self.sent.push_back(Sent { proofs, bytes, appending, outcome: None });
            self.in_flight_bytes += bytes;
        }
    }

    /// Waits until the oldest batch sent is answered; for ever if there is none. Cancel-safe.
    pub async fn acked(&mut self) {
        poll_fn(|context| match self.sent.front_mut() {
            None => Poll::Pending,
            Some(sent) if sent.outcome.is_some() => Poll::Ready(()),
            Some(sent) => sent.appending.poll_unpin(context).map(|outcome| sent.outcome = Some(outcome)),
        })
        .await;
    }

    /// Waits for the oldest batch sent and returns the offsets of its records, once each is known to
    /// count (claim-4). Not cancel-safe. Fails with `claim_lost` if one is void, or if a record of
    /// somebody else counts in between: then drop everything and take over again.
    pub async fn settle(&mut self) -> Result<Vec<Offset>> {
        self.acked().await;
        let Some(Sent { proofs, bytes, outcome: Some(outcome), .. }) = self.sent.pop_front() else {
            return Ok(Vec::new());
        };
        self.in_flight_bytes -= bytes;
        let offsets = outcome?;
        if self.shared {
            self.verified = offsets.last().map_or(self.verified, |last| last + 1);
        } else {
            self.verify(&proofs, &offsets).await?;
        }
        if self.cut.0 > 0 {
            self.cut = (self.cut.0 - 1, self.verified);
        }
        Ok(offsets)
    }

    /// Waits until everything sent is settled.
    pub async fn settle_all(&mut self) -> Result<()> {
        while self.in_flight() {
            self.settle().await?;
        }
        Ok(())
    }

    async fn verify(&mut self, proofs: &[Option<Proof>], offsets: &[Offset]) -> Result<()> {
        for (proof, &offset) in proofs.iter().zip(offsets) {
            if offset != self.verified {
                self.catch_up(offset).await?;
            }
            self.verified = offset + 1;
            let void = proof.as_ref().is_some_and(|proof| !claim::prove(&mut self.validity, proof) && !proof.is_copy());
            if guard!("claim-4", void) {
                return Err(lost(&self.at, "a record of mine does not count: another owner has taken over"));
            }
        }
        Ok(())
    }

    /// Somebody wrote between my records: read what it was (claim-4).
    async fn catch_up(&mut self, end: Offset) -> Result<()> {
        let mut between = Folded::open(&*self.log, &self.at, self.verified, std::mem::take(&mut self.validity)).await?;
        let mut foreign = false;
        while between.offset() < end {
            for (delivered, valid) in between.next(room(between.offset(), end)).await? {
                foreign |= valid && counts_against(&delivered);
                self.strays.extend((!valid).then(|| stray(&delivered)).flatten());
            }
        }
        self.verified = between.offset();
        self.validity = between.validity;
        if guard!("claim-4", foreign) {
            return Err(lost(&self.at, "a record of another owner counts"));
        }
        Ok(())
    }
}

fn weight(message: &Message<Typed>) -> usize {
    MESSAGE_BYTES + message.payload.as_ref().map_or(0, |record| record.size())
}

fn room(from: Offset, end: Offset) -> usize {
    usize::try_from(end.saturating_sub(from)).unwrap_or(READ_MAX).min(READ_MAX)
}

/// The key of a void version of D that an upsert consumer would take for the newest (claim-7).
#[must_use]
pub fn stray(delivered: &Delivered<Typed>) -> Option<Key> {
    match delivered.payload.as_deref() {
        Some(Record::Canonical(c)) => Some(c.key.clone()),
        _ => None,
    }
}

/// A valid canonical version or claim of somebody else means that I am not the owner any more.
fn counts_against(delivered: &Delivered<Typed>) -> bool {
    matches!(delivered.payload.as_deref(), Some(Record::Canonical(_) | Record::Claim(_)))
}

fn lost(at: &Partition, what: &str) -> Error {
    Error::new(Code::ClaimLost, what).at("partition", at)
}
