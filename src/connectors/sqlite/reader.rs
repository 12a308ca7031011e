//! The change table as a log. Sleeps until the file is written, then reads what was committed, whole
//! transactions at a time, ledger rows first (read-3).

use super::client::{Dataset, Placed, Shared, blocking, immediate};
use super::failure::failing;
use super::position::{self, Epochs, id_of};
use super::wire::changes::{IMAGE, Layouts, change, size};
use super::wire::install::op;
use crate::connectors::contract::{BatchLimit, Change, Form, ReadBatch, Reader, Transaction};
use crate::event::Position;
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use notify::{EventKind, RecursiveMode, Watcher};
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension, Row};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How soon the file is looked at again after something was heard; then more and more seldom …
const LOOK_FIRST: Duration = Duration::from_millis(1);
/// … down to this, although nothing was heard: some file systems tell nothing.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long `next` waits before it answers with an empty batch.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Change rows deleted in one transaction, so that the application never waits long for it.
const RELEASE_ROWS: i64 = 500;

/// Reads one dataset's changes.
pub(super) struct FileReader {
    dataset: Arc<Dataset>,
    conn: Shared,
    layouts: Arc<Mutex<Layouts>>,
    at: Cursor,
    /// The forms of tables that are not just what the platform was opened with, until they are told.
    forms: Vec<Form>,
    /// `PRAGMA data_version` when the last batch was read.
    version: Option<i64>,
    written: Arc<Notify>,
    /// Only kept: dropping it would end the watch.
    _watcher: Option<notify::RecommendedWatcher>,
}

/// Where to go on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Cursor {
    /// Rows above this id are next.
    after: i64,
    /// Ordinals below this in the next transaction were returned before.
    skip: u64,
    through: Position,
}

impl FileReader {
    /// Checks that this file gave `from`, and renews its token (read-6).
    pub(super) async fn open(dataset: Arc<Dataset>, from: Position) -> Result<Self> {
        let shared = dataset.clone();
        let opened = blocking(move || {
            let mut conn = shared.client.connect()?;
            let at = immediate(&mut conn, |tx| begin(tx, &shared, from))?;
            Ok((conn, at))
        });
        let (conn, at) = opened.await.map_err(|e| dataset.client.here(e))?;
        let written = Arc::new(Notify::new());
        let watcher = watch(dataset.client.path(), written.clone());
        let layouts = Arc::new(Mutex::new(HashMap::new()));
        let differs = |p: &&Placed| p.table.schema.fields != p.wanted.fields;
        let form = |p: &Placed| Form { from: 0, collection: p.no, schema: p.table.schema.clone(), before: None };
        Ok(FileReader {
            forms: dataset.tables.iter().filter(differs).map(form).collect(),
            dataset,
            conn: Arc::new(Mutex::new(conn)),
            layouts,
            at,
            version: None,
            written,
            _watcher: watcher,
        })
    }

    /// Reads what is there; nothing is waited for.
    async fn read(&mut self, limit: BatchLimit) -> Result<ReadBatch> {
        let (conn, dataset, layouts, at) = (self.conn.clone(), self.dataset.clone(), self.layouts.clone(), self.at);
        let read = blocking(move || read(&conn.lock(), &dataset, &mut layouts.lock(), at, limit)).await;
        let (mut batch, at, version) = read.map_err(|e| self.dataset.client.here(e))?;
        if let Some(first) = batch.transactions.first_mut() {
            first.forms = std::mem::take(&mut self.forms);
        }
        // Only now: a call that was given up is repeated from the same place.
        (self.at, self.version) = (at, version);
        Ok(batch)
    }

    /// Returns when another connection has committed.
    async fn changed(&self) -> Result<()> {
        let mut wait = LOOK_FIRST;
        loop {
            let conn = self.conn.clone();
            let version =
                blocking(move || data_version(&conn.lock())).await.map_err(|e| self.dataset.client.here(e))?;
            if Some(version) != self.version {
                return Ok(());
            }
            // Heard or not, the version decides.
            let heard = tokio::time::timeout(wait, self.written.notified()).await.is_ok();
            // A write is heard before its commit is synced and shows: look again soon.
            wait = if heard { LOOK_FIRST } else { (wait * 2).min(LOOK_EVERY) };
        }
    }
}

#[async_trait]
impl Reader for FileReader {
    async fn next(&mut self, limit: BatchLimit) -> Result<ReadBatch> {
        loop {
            let before = self.at.through;
            let batch = self.read(limit).await?;
            if !batch.transactions.is_empty() || batch.through > before {
                return Ok(batch);
            }
            match tokio::time::timeout(HEARTBEAT, self.changed()).await {
                Ok(changed) => changed?,
                Err(_) => return Ok(batch),
            }
        }
    }

    async fn release(&mut self, through: Position) -> Result<()> {
        loop {
            let (conn, dataset) = (self.conn.clone(), self.dataset.clone());
            let released =
                blocking(move || immediate(&mut conn.lock(), |tx| release(tx, &dataset.name, through))).await;
            if released.map_err(|e| self.dataset.client.here(e))? < RELEASE_ROWS {
                return Ok(());
            }
        }
    }
}

/// Says whenever something beside the database file is written: the file, its log or its journal.
/// Without it (a full table of watches) the regular look is all there is.
fn watch(path: &Path, written: Arc<Notify>) -> Option<notify::RecommendedWatcher> {
    let path = path.canonicalize().ok()?;
    let name = path.file_name()?.to_string_lossy().into_owned();
    let heard = move |event: notify::Result<notify::Event>| {
        let ours = |p: &std::path::PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&name));
        let relevant = event.map_or(true, |e| !matches!(e.kind, EventKind::Access(_)) && e.paths.iter().any(ours));
        if relevant {
            written.notify_one();
        }
    };
    let mut watcher = notify::recommended_watcher(heard).ok()?;
    watcher.watch(path.parent()?, RecursiveMode::NonRecursive).ok()?;
    Some(watcher)
}

fn data_version(conn: &Connection) -> Result<i64> {
    conn.prepare_cached("PRAGMA data_version")
        .and_then(|mut version| version.query_row([], |row| row.get(0)))
        .map_err(failing("looking for changes"))
}

/// read-6: the position must come from this file, and from a life of it that this copy knows.
fn begin(tx: &Connection, dataset: &Dataset, from: Position) -> Result<Cursor> {
    let failing = || failing("checking the file's identity");
    let (id, newest, epochs) = (id_of(from), position::newest(tx)?, Epochs::load(tx)?);
    let released: i64 = tx
        .query_row("SELECT released FROM _driftless_datasets WHERE name = ?1", [&dataset.name], |row| row.get(0))
        .map_err(failing())?;
    let stranger = |what: &str| {
        let text = format!(
            "{what}: this is not the file the checkpoint {from:?} came from, or an older copy of it. Put the right file back, \
             or remove the platform from the dataset and add it again: its rows are then compared with the dataset"
        );
        Err(Error::new(Code::SourceIdentity, text))
    };
    if id > newest {
        return stranger(&format!("the file's newest change is {newest}, the checkpoint's {id}"));
    }
    if !epochs.know(from) {
        return stranger("the file does not know the token of the checkpoint");
    }
    let file = inode(dataset.client.path());
    let known: Option<i64> = tx
        .query_row("SELECT value FROM _driftless_meta WHERE name = 'inode'", [], |row| row.get(0))
        .optional()
        .map_err(failing())?;
    if from != Position::START && known.is_some() && file.is_some() && known != file {
        return stranger(
            "the file was replaced by another since the last start. If it was only moved, with nothing restored, run \
             DELETE FROM _driftless_meta WHERE name = 'inode'. Otherwise",
        );
    }
    if id < released {
        let text = format!(
            "the changes between {id} and {released} were released already; the checkpoint is older than the one they were released for"
        );
        return Err(Error::new(Code::HistoryLost, text));
    }
    position::renew(tx)?;
    tx.execute("INSERT OR REPLACE INTO _driftless_meta(name, value) VALUES('inode', ?1)", [file]).map_err(failing())?;
    let first = first_of(tx, id)?;
    Ok(if from.ordinal == u64::MAX || first == id {
        Cursor { after: id, skip: 0, through: from }
    } else {
        Cursor { after: first - 1, skip: from.ordinal + 1, through: from }
    })
}

#[cfg(unix)]
fn inode(path: &Path) -> Option<i64> {
    std::os::unix::fs::MetadataExt::ino(&path.metadata().ok()?).cast_signed().into()
}

#[cfg(not(unix))]
fn inode(_path: &Path) -> Option<i64> {
    None
}

/// The first change of the transaction whose last change is `last`.
fn first_of(conn: &Connection, last: i64) -> Result<i64> {
    let range = "SELECT first FROM _driftless_ranges WHERE last = ?1";
    let moved = "SELECT id FROM _driftless_changes WHERE id = ?1 - 1 AND op = ?2
        AND (SELECT op FROM _driftless_changes WHERE id = ?1) = ?3";
    let failing = || failing("reading a transaction's range");
    let first = conn.query_row(range, [last], |row| row.get(0)).optional().map_err(failing())?;
    let first = match first {
        None => conn
            .query_row(moved, [last, op::MOVED_FROM, op::MOVED_TO], |row| row.get(0))
            .optional()
            .map_err(failing())?,
        found => found,
    };
    Ok(first.unwrap_or(last))
}

/// Deletes some of the change rows of whole transactions up to `through`; answers how many.
fn release(tx: &Connection, dataset: &str, through: Position) -> Result<i64> {
    let id = id_of(through);
    let first = first_of(tx, id)?;
    // A position inside a transaction needs all of it again.
    let upto = if through.ordinal == u64::MAX || first == id { id } else { first - 1 };
    let rows = "DELETE FROM _driftless_changes WHERE id IN (SELECT c.id FROM _driftless_changes AS c WHERE c.id <= ?1 AND EXISTS
        (SELECT 1 FROM _driftless_collections AS o WHERE o.dataset = ?2 AND (c.layout = -o.id OR c.layout IN
            (SELECT l.id FROM _driftless_layouts AS l WHERE l.collection = o.id))) ORDER BY c.id LIMIT ?3)";
    let mark = "UPDATE _driftless_datasets SET released = max(released, ?2) WHERE name = ?1";
    let ranges = "DELETE FROM _driftless_ranges WHERE last <= (SELECT min(released) FROM _driftless_datasets)";
    let failing = || failing("releasing changes");
    tx.execute(mark, (dataset, upto)).map_err(failing())?;
    let deleted = tx.execute(rows, (upto, dataset, RELEASE_ROWS)).map_err(failing())?;
    tx.execute(ranges, []).map_err(failing())?;
    Ok(i64::try_from(deleted).unwrap_or(i64::MAX))
}

/// The changes of one transaction while it is read.
#[derive(Default)]
struct Group {
    /// Its last id.
    last: i64,
    time_ms: u64,
    ledger: Vec<Change>,
    rows: Vec<Change>,
}

/// Reads from `at` on, up to `limit`, in one read transaction.
fn read(
    conn: &Connection,
    dataset: &Dataset,
    layouts: &mut Layouts,
    at: Cursor,
    limit: BatchLimit,
) -> Result<(ReadBatch, Cursor, Option<i64>)> {
    let failing = || failing("reading changes");
    let tx = conn.unchecked_transaction().map_err(failing())?;
    let version = data_version(&tx)?;
    let (epochs, newest) = (Epochs::load(&tx)?, position::newest(&tx)?);
    let mut scan = Scan { dataset, epochs, open: None, cursor: at, done: Vec::new(), rows: 0, bytes: 0 };
    let mut ranges = tx
        .prepare_cached("SELECT first, last FROM _driftless_ranges WHERE last > ?1 ORDER BY last")
        .map_err(failing())?;
    let mut ranges = ranges.query([at.after]).map_err(failing())?;
    let mut range = next_range(&mut ranges)?;
    let mut all = tx.prepare_cached("SELECT * FROM _driftless_changes WHERE id > ?1 ORDER BY id").map_err(failing())?;
    let mut found = all.query([at.after]).map_err(failing())?;
    let mut full = false;
    while let Some(row) = found.next().map_err(failing())? {
        let (id, op): (i64, i64) = (row.get(0).map_err(failing())?, row.get(2).map_err(failing())?);
        while range.is_some_and(|(_, last)| last < id) {
            range = next_range(&mut ranges)?;
        }
        let last = match range {
            Some((first, last)) if first <= id => last,
            _ if op == op::MOVED_FROM && is_moved_to(&tx, id + 1)? => id + 1,
            _ => id,
        };
        if scan.open.as_ref().is_some_and(|g| g.last < id) {
            scan.flush();
            full = scan.rows >= limit.rows_max || scan.bytes >= limit.bytes_max;
            if full {
                break;
            }
        }
        match scan.take(&tx, layouts, row, last) {
            Ok(()) => {}
            // What is whole goes first; the error is met again at the next call.
            Err(_) if !scan.done.is_empty() => {
                full = true;
                break;
            }
            Err(e) => return Err(e),
        }
    }
    if !full {
        scan.flush();
        scan.cursor = Cursor { after: newest, skip: 0, through: scan.epochs.end_of(newest).max(scan.cursor.through) };
    }
    let batch = ReadBatch { transactions: scan.done, through: scan.cursor.through };
    Ok((batch, scan.cursor, (!full).then_some(version)))
}

fn next_range(ranges: &mut rusqlite::Rows<'_>) -> Result<Option<(i64, i64)>> {
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    ranges.next().and_then(|row| row.map(read).transpose()).map_err(failing("reading the ranges of transactions"))
}

fn is_moved_to(conn: &Connection, id: i64) -> Result<bool> {
    conn.prepare_cached("SELECT EXISTS(SELECT 1 FROM _driftless_changes WHERE id = ?1 AND op = ?2)")
        .and_then(|mut moved| moved.query_row([id, op::MOVED_TO], |row| row.get(0)))
        .map_err(failing("reading a key change"))
}

/// The state of one pass over the change table.
struct Scan<'d> {
    dataset: &'d Dataset,
    epochs: Epochs,
    open: Option<Group>,
    cursor: Cursor,
    done: Vec<Transaction>,
    rows: usize,
    bytes: usize,
}

impl Scan<'_> {
    /// Adds a change row to the transaction that ends at `last`.
    fn take(&mut self, conn: &Connection, layouts: &mut Layouts, row: &Row<'_>, last: i64) -> Result<()> {
        let change = change(conn, self.dataset, layouts, row)?;
        let group = self.open.get_or_insert_with(|| Group { last, ..Group::default() });
        group.time_ms = row.get::<_, i64>(3).unwrap_or(0).max(0).cast_unsigned();
        match change {
            Some(ledger @ Change::Ledger { .. }) => group.ledger.push(ledger),
            Some(other) => group.rows.push(other),
            None => return Ok(()),
        }
        self.rows += 1;
        let width = row.as_ref().column_count();
        self.bytes += (IMAGE..width).map(|i| row.get_ref(i).map_or(0, size)).sum::<usize>();
        Ok(())
    }

    /// Closes the open transaction: ledger rows fold first (read-3).
    fn flush(&mut self) {
        let Some(group) = self.open.take() else { return };
        let mut changes = group.ledger;
        changes.extend(group.rows);
        let first = std::mem::take(&mut self.cursor.skip);
        changes.drain(..usize::try_from(first).unwrap_or(usize::MAX).min(changes.len()));
        let commit = self.epochs.commit_of(group.last);
        self.cursor = Cursor { after: group.last, skip: 0, through: Position::end_of(commit) };
        if !changes.is_empty() {
            let forms = Vec::new();
            self.done.push(Transaction { commit, time_ms: group.time_ms, first, changes, forms });
        }
    }
}
