//! The change table as a log. Sleeps until the file is written, then reads what was committed, whole
//! transactions at a time, ledger rows first (read-3).

use super::client::{Dataset, Placed, Shared, blocking, immediate};
use super::failure::failing;
use super::position::{self, Epochs, id_of};
use super::wire::install::op;
use super::wire::ledger;
use super::wire::table::quoted;
use crate::connectors::contract::{BatchLimit, Change, CollectionNo, ReadBatch, Reader, Transaction};
use crate::event::{Fp, Key, Position};
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use notify::{EventKind, RecursiveMode, Watcher};
use parking_lot::Mutex;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How often the file is looked at although nothing was heard: some file systems tell nothing.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long `next` waits before it answers with an empty batch.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Change rows deleted in one transaction, so that the application never waits long for it.
const RELEASE_ROWS: i64 = 500;
/// Columns of the change table before the image.
const IMAGE: usize = 4;

/// Reads one dataset's changes.
pub(super) struct FileReader {
    dataset: Arc<Dataset>,
    conn: Shared,
    layouts: Arc<Mutex<Layouts>>,
    at: Cursor,
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
        Ok(FileReader {
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
        let (batch, at, version) = read.map_err(|e| self.dataset.client.here(e))?;
        // Only now: a call that was given up is repeated from the same place.
        (self.at, self.version) = (at, version);
        Ok(batch)
    }

    /// Returns when another connection has committed.
    async fn changed(&self) -> Result<()> {
        loop {
            let conn = self.conn.clone();
            let version =
                blocking(move || data_version(&conn.lock())).await.map_err(|e| self.dataset.client.here(e))?;
            if Some(version) != self.version {
                return Ok(());
            }
            // Heard or not, the version decides.
            let _ = tokio::time::timeout(LOOK_EVERY, self.written.notified()).await;
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

/// What the slots of a change row mean; `None` for another dataset's.
type Layouts = HashMap<i64, Option<Layout>>;

/// A layout: for each field the slot that has it, if it was there already.
struct Layout {
    no: CollectionNo,
    slots: Vec<Option<usize>>,
}

fn layout<'l>(conn: &Connection, dataset: &Dataset, layouts: &'l mut Layouts, id: i64) -> Result<Option<&'l Layout>> {
    if let std::collections::hash_map::Entry::Vacant(unknown) = layouts.entry(id) {
        unknown.insert(load_layout(conn, dataset, id)?);
    }
    Ok(layouts.get(&id).and_then(Option::as_ref))
}

fn load_layout(conn: &Connection, dataset: &Dataset, id: i64) -> Result<Option<Layout>> {
    let placed = |collection: i64| dataset.tables.iter().find(|t| t.installed.collection == collection);
    if id < 0 {
        return Ok(placed(-id).map(|t| Layout { no: t.no, slots: Vec::new() }));
    }
    let found: Option<(i64, String)> = conn
        .query_row("SELECT collection, columns FROM _driftless_layouts WHERE id = ?1", [id], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
        .map_err(failing("reading the layout of a change"))?;
    let Some((placed, columns)) = found.and_then(|(collection, columns)| Some((placed(collection)?, columns))) else {
        return Ok(None);
    };
    let names: Vec<String> = serde_json::from_str(&columns)
        .map_err(|e| Error::new(Code::StoreCorrupt, "a layout in _driftless_layouts cannot be read").caused_by(e))?;
    let slots = placed.table.columns.iter().map(|c| names.iter().position(|n| *n == c.name)).collect();
    Ok(Some(Layout { no: placed.no, slots }))
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
            self.done.push(Transaction { commit, time_ms: group.time_ms, first, changes });
        }
    }
}

/// A change row as a change; `None` for another dataset's, and for an image that cannot be
/// understood but was replaced since.
fn change(conn: &Connection, dataset: &Dataset, layouts: &mut Layouts, row: &Row<'_>) -> Result<Option<Change>> {
    let failing = || failing("reading a change");
    let (id, layout_id, op): (i64, i64, i64) =
        (row.get(0).map_err(failing())?, row.get(1).map_err(failing())?, row.get(2).map_err(failing())?);
    let Some(layout) = layout(conn, dataset, layouts, layout_id)? else { return Ok(None) };
    if layout_id < 0 {
        let key = row.get_ref(IMAGE).ok().and_then(|k| k.as_blob().ok()).unwrap_or_default();
        let entry = if op == op::LEDGER { Some(ledger::entry(row, IMAGE + 1).map_err(failing())?) } else { None };
        return Ok(Some(Change::Ledger { collection: layout.no, key: Key(key.to_vec().into()), entry }));
    }
    let placed = dataset.table(layout.no)?;
    let gone = matches!(op, op::DELETE | op::MOVED_FROM | op::OBSERVED_GONE);
    if !gone && layout.slots.iter().any(Option::is_none) {
        return current(conn, placed, layout, row);
    }
    match image(placed, layout, row, op) {
        Ok(change) => Ok(Some(change)),
        Err(_) if is_replaced(conn, placed, layout, row, id, op)? => Ok(None),
        Err(e) => Err(e.at("change", id).at("row", shown_key(placed, layout, row))),
    }
}

fn image(placed: &Placed, layout: &Layout, row: &Row<'_>, op: i64) -> Result<Change> {
    let table = &placed.table;
    let whole = matches!(op, op::PUT | op::MOVED_TO | op::OBSERVED);
    let stored = |field: usize| row.get_ref(IMAGE + (*layout.slots.get(field)?)?).ok();
    // Only the key is noted of a row that is gone.
    let noted = |field: usize| if whole || table.schema.key.contains(&field) { stored(field) } else { None };
    let image = table.row(noted)?;
    let key = table.key_of(&image)?;
    let fp = if whole { Fp::of_row(&table.schema, &image) } else { Fp::ABSENT };
    let after = whole.then(|| Arc::new(image));
    let collection = layout.no;
    Ok(match op {
        op::OBSERVED | op::OBSERVED_GONE => Change::Observed { collection, key, image: after, fp },
        _ => Change::Row { collection, key, after, fp, before: None },
    })
}

/// Whether a change that cannot be understood does not matter: a later one of the same row follows,
/// or a row nobody could have published is gone. Otherwise reading halts there until the row is put
/// right, because nothing may be left out (P8).
fn is_replaced(conn: &Connection, placed: &Placed, layout: &Layout, row: &Row<'_>, id: i64, op: i64) -> Result<bool> {
    if matches!(op, op::DELETE | op::MOVED_FROM | op::OBSERVED_GONE) {
        return Ok(true);
    }
    let slots = key_slots(placed, layout)?;
    let same =
        slots.iter().enumerate().map(|(n, slot)| format!("c{slot} IS ?{}", n + 1)).collect::<Vec<_>>().join(" AND ");
    let sql = format!(
        "SELECT EXISTS(SELECT 1 FROM _driftless_changes WHERE id > {id} AND {same} AND layout IN
            (SELECT id FROM _driftless_layouts WHERE collection = {}))",
        placed.installed.collection
    );
    let failing = || failing("looking for a later change of a row");
    let key = stored_key(&slots, row).map_err(failing())?;
    conn.query_row(&sql, params_from_iter(key), |row| row.get(0)).map_err(failing())
}

/// A change noted before a column was added does not have that column, whatever the application
/// wrote there; so the row is taken as it stands. If it is gone, that was noted too, later.
fn current(conn: &Connection, placed: &Placed, layout: &Layout, row: &Row<'_>) -> Result<Option<Change>> {
    let table = &placed.table;
    let failing = || failing("reading a row whose table was altered");
    let key = stored_key(&key_slots(placed, layout)?, row).map_err(failing())?;
    let here = table.keys().map(|c| format!("{} IS ?", quoted(&c.name))).collect::<Vec<_>>().join(" AND ");
    let sql = format!("SELECT {} FROM {} WHERE {here}", table.list(""), quoted(&table.name));
    let mut statement = conn.prepare_cached(&sql).map_err(failing())?;
    let mut rows = statement.query(params_from_iter(key)).map_err(failing())?;
    let Some(row) = rows.next().map_err(failing())? else { return Ok(None) };
    let image = table.row(|i| row.get_ref(i).ok())?;
    let (key, fp) = (table.key_of(&image)?, Fp::of_row(&table.schema, &image));
    Ok(Some(Change::Row { collection: placed.no, key, after: Some(Arc::new(image)), fp, before: None }))
}

/// The slots of the key, in key order.
fn key_slots(placed: &Placed, layout: &Layout) -> Result<Vec<usize>> {
    let slot = |&i: &usize| layout.slots.get(i).copied().flatten();
    placed.table.schema.key.iter().map(slot).collect::<Option<_>>().ok_or_else(|| {
        let text = "a key column was renamed while changes under its old name were not read yet";
        Error::new(Code::SchemaUnsupported, text).at("table", &placed.table.name)
    })
}

fn stored_key(slots: &[usize], row: &Row<'_>) -> rusqlite::Result<Vec<rusqlite::types::Value>> {
    slots.iter().map(|slot| row.get(IMAGE + slot)).collect()
}

/// The key of a change row for people, as SQLite has it.
fn shown_key(placed: &Placed, layout: &Layout, row: &Row<'_>) -> String {
    let shown = |&i: &usize| {
        let name = placed.table.columns.get(i).map_or("", |c| &c.name);
        let value: Option<rusqlite::types::Value> = layout.slots.get(i).and_then(|s| row.get(IMAGE + (*s)?).ok());
        format!("{name} = {value:?}")
    };
    placed.table.schema.key.iter().map(shown).collect::<Vec<_>>().join(", ")
}

/// The size of a stored value in bytes.
pub(super) fn size(stored: ValueRef<'_>) -> usize {
    match stored {
        ValueRef::Null => 0,
        ValueRef::Integer(_) | ValueRef::Real(_) => 8,
        ValueRef::Text(t) | ValueRef::Blob(t) => t.len(),
    }
}
