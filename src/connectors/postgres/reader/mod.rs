//! Reads a slot: committed transactions with the ledger rows in them, in commit order, each at its
//! position (read-3). Streamed transactions wait in a spool until they are committed. Confirms
//! nothing by itself: only `release` moves the slot (read-5).

pub(crate) mod changes;
pub(crate) mod forms;

use super::client::Session;
use super::client::setup::Setup;
use super::config::Checked;
use super::position::{confirmable, write_lsn};
use super::wire::cursor::Malformed;
use super::wire::pgoutput::{self, Commit, Message, Xid};
use super::wire::pump::{EPOCH_S, Frame, Pump};
use super::wire::spool::{Replay, Spool};
use crate::connectors::contract::{BatchLimit, Change, Form, ReadBatch, Reader, Transaction};
use crate::event::Position;
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use bytes::Bytes;
use changes::Translator;
use forms::Told;
use parking_lot::Mutex;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How long `next` waits before it returns with nothing.
const IDLE: Duration = Duration::from_secs(1);
/// Logical messages of this program carry this prefix. They prove nothing: any role can write one.
pub(crate) const PREFIX: &str = "driftless";

/// A slot that is being read.
pub(crate) struct LogReader {
    pump: Pump,
    translator: Translator,
    spools: Spools,
    playing: Option<Playing>,
    /// Where reading began: what is not behind it is left out.
    from: Position,
    through: Position,
    /// What stopped the reader, once all before it was returned.
    stopped: Option<Error>,
    /// What the heartbeat has found: something is missing in what comes.
    lost: Arc<Mutex<Option<Error>>>,
    _heartbeat: JoinSet<()>,
}

/// What is looked at beside the stream.
pub(crate) struct Watch {
    /// Settings of the platform.
    pub config: Arc<Checked>,
    /// The dataset.
    pub dataset: String,
    /// The tables its publication must have, by schema and name.
    pub published: Vec<(String, String)>,
}

/// A committed transaction on its way out.
struct Playing {
    replay: Replay,
    commit: Commit,
    streamed: bool,
    ordinal: u64,
    /// Whether a row of the ledger was met: it says which of the rows behind it a sink wrote.
    tagged: bool,
}

/// Transactions that are not committed yet.
struct Spools {
    limit_bytes: usize,
    folder: PathBuf,
    whole: Option<Spool>,
    parts: HashMap<Xid, Spool>,
    part: Option<Xid>,
}

impl LogReader {
    /// Reads what the pump brings, behind `from`.
    #[must_use]
    pub(crate) fn new(pump: Pump, translator: Translator, watch: Watch, from: Position) -> Self {
        let (lost, config): (Arc<Mutex<_>>, _) = (Arc::default(), &watch.config);
        let spools = Spools {
            limit_bytes: config.spool_bytes,
            folder: config.spool_dir.clone(),
            whole: None,
            parts: HashMap::new(),
            part: None,
        };
        LogReader {
            pump,
            translator,
            spools,
            playing: None,
            from,
            through: from,
            stopped: None,
            _heartbeat: heartbeat(watch, lost.clone()),
            lost,
        }
    }

    /// Takes what is there, until the limit. True if there may be more at once.
    fn collect(&mut self, limit: BatchLimit, batch: &mut ReadBatch) -> Result<bool> {
        let (mut rows, mut bytes) = (0, 0);
        loop {
            if let Some(playing) = self.playing.take() {
                let full = self.play(playing, limit, &mut rows, &mut bytes, batch)?;
                if full {
                    return Ok(true);
                }
            }
            match self.pump.ready()? {
                None => return Ok(false),
                Some(Frame::Keepalive(lsn)) => self.keepalive(lsn),
                Some(Frame::Data(payload)) => self.accept(payload)?,
            }
        }
    }

    /// Everything committed below `lsn` was sent, and what was sent was returned.
    fn keepalive(&mut self, lsn: u64) {
        if self.spools.whole.is_none() && self.playing.is_none() {
            self.through = self.through.max(Position::end_of(lsn));
        }
    }

    fn accept(&mut self, payload: Bytes) -> Result<()> {
        let Some(kind) = payload.first().copied() else { return Err(malformed(Malformed("an empty message"))) };
        if !matches!(kind, b'B' | b'C' | b'S' | b'E' | b'c' | b'A') {
            return self.spools.push(kind, payload);
        }
        match pgoutput::decode(&payload, false).map_err(malformed)? {
            Message::Begin => self.spools.whole = Some(self.spools.new_spool()),
            Message::Commit(commit) => {
                let spool = self.spools.whole.take();
                self.begin(spool, commit, false)?;
            }
            Message::StreamStart(xid) => self.spools.start(xid),
            Message::StreamStop => self.spools.part = None,
            Message::StreamCommit(xid, commit) => {
                let spool = self.spools.parts.remove(&xid);
                self.begin(spool, commit, true)?;
            }
            Message::StreamAbort { top, sub } => self.spools.abort(top, sub),
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, spool: Option<Spool>, commit: Commit, streamed: bool) -> Result<()> {
        let spool = spool.ok_or_else(|| malformed(Malformed("a commit of a transaction that never began")))?;
        self.playing = Some(Playing { replay: spool.finish()?, commit, streamed, ordinal: 0, tagged: false });
        Ok(())
    }

    /// Plays a transaction into the batch; true if the batch is full before it ends.
    fn play(
        &mut self,
        mut playing: Playing,
        limit: BatchLimit,
        rows: &mut usize,
        bytes: &mut usize,
        batch: &mut ReadBatch,
    ) -> Result<bool> {
        let commit = playing.commit;
        let time_ms = u64::try_from(commit.time / 1000 + EPOCH_S * 1000).unwrap_or(0);
        let mut out =
            Transaction { commit: commit.end, time_ms, first: playing.ordinal, changes: Vec::new(), forms: Vec::new() };
        let at = |e: Error| e.at("position", write_lsn(commit.end));
        loop {
            // Read-1, read-3: the ledger's rows and what they stand for are folded together, so what a sink
            // wrote is never told in parts; sinks write in batches, so it is bounded.
            if !playing.tagged && (*rows >= limit.rows_max || *bytes >= limit.bytes_max) {
                if out.first < playing.ordinal {
                    self.through = Position::new(commit.end, playing.ordinal - 1);
                }
                push(out, batch);
                self.playing = Some(playing);
                return Ok(true);
            }
            let Some(payload) = playing.replay.next().map_err(at)? else { break };
            let message = pgoutput::decode(&payload, playing.streamed).map_err(malformed).map_err(at)?;
            if let Message::Relation(relation) = message {
                self.translator.described(relation);
                continue;
            }
            for (collection, Told { schema, before }) in self.translator.settle(&message).map_err(at)? {
                out.forms.push(Form { from: out.changes.len(), collection, schema, before });
            }
            let before = out.changes.len();
            self.translator.changes(&message, &mut out.changes).map_err(at)?;
            // Ordinals count every change, so that they are the same whenever it is read again.
            let added = out.changes.len() - before;
            let old = old(self.from, commit.end, playing.ordinal, added);
            if old > 0 {
                out.changes.drain(before..before + old);
                out.first = playing.ordinal + old as u64;
            }
            playing.ordinal += added as u64;
            playing.tagged |= matches!(out.changes.last(), Some(Change::Ledger { .. }));
            if out.changes.len() > before {
                *rows += out.changes.len() - before;
                *bytes += payload.len();
            }
        }
        self.through = self.through.max(Position::end_of(commit.end));
        push(out, batch);
        Ok(false)
    }
}

/// How many of `count` changes from `ordinal` on are not behind `from`.
fn old(from: Position, commit: u64, ordinal: u64, count: usize) -> usize {
    match commit.cmp(&from.commit) {
        Ordering::Less => count,
        Ordering::Greater => 0,
        Ordering::Equal if ordinal > from.ordinal => 0,
        Ordering::Equal => usize::try_from((from.ordinal - ordinal).saturating_add(1)).unwrap_or(count).min(count),
    }
}

fn push(transaction: Transaction, batch: &mut ReadBatch) {
    if !transaction.changes.is_empty() || !transaction.forms.is_empty() {
        batch.transactions.push(transaction);
    }
}

impl Spools {
    fn new_spool(&self) -> Spool {
        Spool::new(self.limit_bytes / (1 + self.parts.len()), self.folder.clone())
    }

    fn start(&mut self, xid: Xid) {
        self.part = Some(xid);
        if !self.parts.contains_key(&xid) {
            self.parts.insert(xid, self.new_spool());
        }
    }

    fn abort(&mut self, top: Xid, sub: Xid) {
        if top == sub {
            self.parts.remove(&top);
        } else if let Some(spool) = self.parts.get_mut(&top) {
            spool.abort(sub);
        }
    }

    fn push(&mut self, kind: u8, payload: Bytes) -> Result<()> {
        if let Some(top) = self.part {
            let xid = pgoutput::streamed_xid(&payload).map_err(malformed)?;
            let spool = self.parts.get_mut(&top).ok_or_else(|| malformed(Malformed("a part of no transaction")))?;
            return spool.push(xid, payload);
        }
        match &mut self.whole {
            Some(spool) => spool.push(0, payload),
            // Messages outside of transactions are heartbeats; descriptions come with their rows.
            None if matches!(kind, b'M' | b'O') => Ok(()),
            None => Err(malformed(Malformed("a change outside of a transaction"))),
        }
    }
}

#[async_trait]
impl Reader for LogReader {
    async fn next(&mut self, limit: BatchLimit) -> Result<ReadBatch> {
        if let Some(error) = self.stopped.take().or_else(|| self.lost.lock().take()) {
            return Err(error);
        }
        let began = self.through;
        let mut batch = ReadBatch::default();
        loop {
            match self.collect(limit, &mut batch) {
                Ok(_) => {}
                Err(error) if batch.transactions.is_empty() => return Err(error),
                Err(error) => self.stopped = Some(error),
            }
            let moved = !batch.transactions.is_empty() || self.through != began;
            if moved {
                break;
            }
            match timeout(IDLE, self.pump.wait()).await {
                Ok(arrived) => arrived?,
                Err(_) => break,
            }
        }
        batch.through = self.through;
        Ok(batch)
    }

    async fn release(&mut self, through: Position) -> Result<()> {
        if let Some(lsn) = confirmable(through) {
            self.pump.release(lsn);
        }
        Ok(())
    }
}

fn malformed(cause: Malformed) -> Error {
    Error::new(Code::Unexpected, "the replication stream holds something that is not understood").caused_by(cause)
}

/// Writes a small message into the log now and then, so that the slot of a quiet server can move on, and
/// looks whether the publication still has all tables: one that is taken out just falls silent.
fn heartbeat(watch: Watch, lost: Arc<Mutex<Option<Error>>>) -> JoinSet<()> {
    let mut task = JoinSet::new();
    let Watch { config, dataset, published } = watch;
    if config.heartbeat_s == 0 {
        return task;
    }
    task.spawn(async move {
        let mut ticks = interval(Duration::from_secs(config.heartbeat_s));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut session = None;
        loop {
            ticks.tick().await;
            let beat = async {
                let open = match session.take() {
                    Some(open) => open,
                    None => Session::open(&config).await?,
                };
                open.text(&format!("SELECT pg_logical_emit_message(false, '{PREFIX}', 'heartbeat')")).await?;
                Setup { config: &config, dataset: &dataset }.published(&open, &published).await?;
                Ok::<_, Error>(open)
            };
            match beat.await {
                Ok(open) => session = Some(open),
                Err(error) if error.code == Code::SourceIdentity => *lost.lock() = Some(error),
                Err(error) => tracing::debug!(%error, "no heartbeat could be written"),
            }
        }
    });
    task
}
