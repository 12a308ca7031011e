//! Moves the frames of a slot's stream from the socket to the reader, and answers the server all the
//! while (read-5): it confirms what was released and nothing else, also while the reader is stuck.
//! It never looks into a change.

use super::super::failure;
use super::connection::Duplex;
use crate::runtime::error::{Code, Error, Result};
use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use postgres_protocol::message::backend::Message;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Chunks that may wait for the reader; with `CHUNK_BYTES` the bound on memory.
const CHUNKS_MAX: usize = 16;
const CHUNK_BYTES: usize = 1 << 18;
/// What is left of a buffer is read into while it has this much room: a new one for every read would be mostly empty,
/// and each costs fresh pages.
const ROOM_BYTES: usize = 1 << 15;
/// Seconds from 1970 to 2000, the server's epoch.
pub(crate) const EPOCH_S: i64 = 946_684_800;

/// A frame of the stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Frame {
    /// A message of the output plugin.
    Data(Bytes),
    /// Everything committed up to here was sent.
    Keepalive(u64),
}

/// The running stream of a slot. Dropping it ends the connection.
pub(crate) struct Pump {
    chunks: mpsc::Receiver<Result<Bytes>>,
    released: watch::Sender<u64>,
    current: Bytes,
    _task: JoinSet<()>,
}

impl Pump {
    /// Takes over a connection that has begun to stream; reports at least every `report_every`.
    #[must_use]
    pub(crate) fn new(stream: Box<dyn Duplex>, buffer: BytesMut, report_every: Duration) -> Self {
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        let (released, watched) = watch::channel(0);
        let mut ticks = interval(report_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut line = Line { stream, buffer, released: watched, ticks };
            if let Err(error) = line.run(&sender).await {
                // A reader that is gone does not want to know.
                let _ = sender.send(Err(error)).await;
            }
        });
        Pump { chunks, released, current: Bytes::new(), _task: task }
    }

    /// Lets the server discard its log up to `lsn`; never moves back.
    pub(crate) fn release(&self, lsn: u64) {
        self.released.send_if_modified(|now| {
            let later = lsn > *now;
            *now = lsn.max(*now);
            later
        });
    }

    /// The next frame that is there already.
    pub(crate) fn ready(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = frame(&mut self.current)? {
                return Ok(Some(frame));
            }
            match self.chunks.try_recv() {
                Ok(chunk) => self.current = chunk?,
                Err(_) => return Ok(None),
            }
        }
    }

    /// Waits until `ready` has something. Cancel-safe.
    pub(crate) async fn wait(&mut self) -> Result<()> {
        if self.current.is_empty() {
            self.current = self.chunks.recv().await.unwrap_or_else(|| Err(ended()))?;
        }
        Ok(())
    }
}

/// Takes the next frame out of a chunk of whole messages.
fn frame(chunk: &mut Bytes) -> Result<Option<Frame>> {
    while let Some(length) = whole(chunk) {
        let mut message = chunk.split_to(length);
        let tag = message.first().copied();
        message.advance(5);
        match (tag, message.first()) {
            (Some(b'd'), Some(b'w')) if message.len() >= 25 => return Ok(Some(Frame::Data(message.slice(25..)))),
            (Some(b'd'), Some(b'k')) if message.len() >= 18 => {
                return Ok(Some(Frame::Keepalive(message.get(1..9).map_or(0, |mut b| b.get_u64()))));
            }
            (Some(b'd'), _) => return Err(Error::new(Code::Unexpected, "the stream holds a frame of an unknown kind")),
            _ => {}
        }
    }
    Ok(None)
}

/// The length of the first message, if it is there in full.
fn whole(buffer: &[u8]) -> Option<usize> {
    let length = buffer.get(1..5)?.get_u32() as usize + 1;
    (length >= 5 && buffer.len() >= length).then_some(length)
}

struct Line {
    stream: Box<dyn Duplex>,
    buffer: BytesMut,
    released: watch::Receiver<u64>,
    ticks: Interval,
}

impl Line {
    async fn run(&mut self, sender: &mpsc::Sender<Result<Bytes>>) -> Result<()> {
        loop {
            let scan = scan(&self.buffer)?;
            if scan.reply {
                self.report().await?;
            }
            if scan.length > 0 {
                let chunk = self.buffer.split_to(scan.length).freeze();
                if !self.hand_over(sender, chunk).await? {
                    return Ok(());
                }
                if let Some(error) = scan.error {
                    return Err(error);
                }
            }
            let missing = scan.wanted.saturating_sub(self.buffer.len());
            if self.buffer.capacity() - self.buffer.len() < missing.max(ROOM_BYTES) {
                self.buffer.reserve(missing.max(CHUNK_BYTES));
            }
            tokio::select! {
                read = self.stream.read_buf(&mut self.buffer) => match read {
                    Ok(0) => return Err(ended()),
                    Ok(_) => {}
                    Err(e) => return Err(ended().caused_by(e)),
                },
                _ = self.ticks.tick() => self.report().await?,
                changed = self.released.changed() => {
                    if changed.is_err() { return Ok(()) }
                    self.report().await?;
                }
            }
        }
    }

    /// Waits for room, reporting meanwhile; false if the reader is gone.
    async fn hand_over(&mut self, sender: &mpsc::Sender<Result<Bytes>>, chunk: Bytes) -> Result<bool> {
        loop {
            tokio::select! {
                permit = sender.reserve() => {
                    let Ok(permit) = permit else { return Ok(false) };
                    permit.send(Ok(chunk));
                    return Ok(true);
                }
                _ = self.ticks.tick() => self.report().await?,
                changed = self.released.changed() => {
                    if changed.is_err() { return Ok(false) }
                    self.report().await?;
                }
            }
        }
    }

    /// Tells the server what was released. "Written" is not reported further than that: the server
    /// then sends keepalives as soon as it is idle, and they move the reader's position.
    async fn report(&mut self) -> Result<()> {
        let lsn = *self.released.borrow_and_update();
        let mut out = BytesMut::with_capacity(39);
        out.put_u8(b'd');
        out.put_u32(38);
        out.put_u8(b'r');
        (0..3).for_each(|_| out.put_u64(lsn));
        out.put_i64(0);
        out.put_u8(0);
        self.stream.write_all(&out).await.map_err(|e| ended().caused_by(e))?;
        self.stream.flush().await.map_err(|e| ended().caused_by(e))
    }
}

struct Scan {
    /// Bytes of whole messages.
    length: usize,
    /// The server wants an answer.
    reply: bool,
    /// The stream has ended with this.
    error: Option<Error>,
    /// Bytes the message that is not whole yet will need.
    wanted: usize,
}

fn scan(buffer: &[u8]) -> Result<Scan> {
    let mut scan = Scan { length: 0, reply: false, error: None, wanted: 0 };
    loop {
        let rest = buffer.get(scan.length..).unwrap_or_default();
        let Some(length) = whole(rest) else {
            scan.wanted = rest.get(1..5).map_or(0, |mut b| b.get_u32() as usize + 1);
            return Ok(scan);
        };
        match rest.first() {
            Some(b'd') if rest.get(5) == Some(&b'k') => scan.reply |= rest.get(22) == Some(&1),
            Some(b'E') => {
                let mut message = BytesMut::from(rest.get(..length).unwrap_or_default());
                scan.length += length;
                scan.error = Some(match Message::parse(&mut message) {
                    Ok(Some(Message::ErrorResponse(body))) => failure::response(&body),
                    _ => ended(),
                });
                return Ok(scan);
            }
            Some(b'c') => {
                scan.length += length;
                scan.error = Some(ended());
                return Ok(scan);
            }
            _ => {}
        }
        scan.length += length;
    }
}

fn ended() -> Error {
    Error::new(Code::SourceUnreachable, "the server ended the replication stream")
}
