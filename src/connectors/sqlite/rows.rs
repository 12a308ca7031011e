//! Reads, locks and writes rows with their ledger rows. SQLite has one write lock for the file, so
//! `lock` takes that: nothing can change between what was seen and what is written.

pub(super) mod exclusive;

use super::client::{Dataset, Placed, Shared, blocking, immediate};
use super::failure::{failed, failing, refuses_row};
use super::position::{self, Epochs};
use super::wire::views::Views;
use super::wire::write::{content, entry, has_parked, observe, park, settle, told_content, unpark, write_row};
use crate::connectors::contract::{Act, CollectionNo, Locked, Planned, Rows, Seen, Written};
use crate::event::{Canonical, Fp, Key, LedgerEntry, Position, Schema, SchemaId, Seq};
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::Connection;
use std::collections::HashMap;
use std::sync::Arc;

/// A writer with its own connection.
pub(super) struct FileRows {
    dataset: Arc<Dataset>,
    conn: Shared,
    /// Of collections whose schema has had several versions, or whose table lacked columns (read-10).
    views: HashMap<CollectionNo, Arc<Views>>,
}

impl FileRows {
    /// Opens a connection.
    pub(super) async fn open(dataset: Arc<Dataset>) -> Result<Self> {
        let client = dataset.client.clone();
        let conn = blocking(move || client.connect()).await?;
        Ok(FileRows { dataset, conn: Arc::new(Mutex::new(conn)), views: HashMap::new() })
    }
}

#[async_trait]
impl Rows for FileRows {
    fn norm(&self, collection: CollectionNo, version: &Canonical) -> Result<Fp> {
        let here = |e| self.dataset.client.here(e);
        let Some(views) = self.views.get(&collection) else {
            return norm(self.dataset.table(collection)?, version).map_err(here);
        };
        let view = views.of(version.schema)?;
        let after = version.after.as_ref().map(|row| Arc::new(view.lifted(row)));
        norm(&view.placed, &Canonical { after, ..version.clone() }).map_err(here)
    }

    async fn know(&mut self, no: CollectionNo, versions: &[Arc<Schema>], add: &[Arc<str>]) -> Result<()> {
        let opened = &self.dataset.table(no)?.table;
        let covers = versions.iter().all(|version| version.fields.len() == opened.schema.fields.len());
        if versions.len() < 2 && covers && !self.views.contains_key(&no) {
            return Ok(());
        }
        let (conn, dataset) = (self.conn.clone(), self.dataset.clone());
        let (versions, add) = (versions.to_vec(), add.to_vec());
        let views = blocking(move || Views::open(&mut conn.lock(), &dataset, no, &versions, &add)).await;
        self.views.insert(no, Arc::new(views.map_err(|e| self.dataset.client.here(e))?));
        Ok(())
    }

    async fn ledger(&mut self, collection: CollectionNo, keys: &[Key]) -> Result<Vec<Option<LedgerEntry>>> {
        let (conn, dataset, keys) = (self.conn.clone(), self.dataset.clone(), keys.to_vec());
        let entries = blocking(move || {
            let placed = dataset.table(collection)?;
            let conn = conn.lock();
            keys.iter().map(|key| entry(&conn, placed, key)).collect()
        });
        entries.await.map_err(|e| self.dataset.client.here(e))
    }

    async fn lock(&mut self, collection: CollectionNo, keys: &[Key]) -> Result<Box<dyn Locked + '_>> {
        let (conn, dataset, keys) = (self.conn.clone(), self.dataset.clone(), keys.to_vec());
        let views = self.views.get(&collection).cloned();
        let held = blocking(move || Held::take(conn, dataset, views, collection, keys)).await;
        Ok(Box::new(held.map_err(|e| self.dataset.client.here(e))?))
    }
}

/// The fingerprint a version has once stored: its own, if the table holds it exactly (P8).
fn norm(placed: &Placed, version: &Canonical) -> Result<Fp> {
    let table = &placed.table;
    let Some(row) = version.after.as_ref().filter(|_| !version.tomb) else { return Ok(Fp::ABSENT) };
    if table.schema.id.0 != 0 && version.schema.0 != 0 && table.schema.id != version.schema {
        let text =
            format!("the version has schema {}, this platform was opened with {}", version.schema.0, table.schema.id.0);
        return Err(Error::new(Code::SchemaUnsupported, text).at("table", &table.name));
    }
    table.natives(row)?;
    table.check_documents(row)?;
    if table.key_of(row)? != version.key {
        return Err(
            Error::new(Code::ValueRefused, "the key fields of the row are not its key").at("table", &table.name)
        );
    }
    Ok(Fp::of_row(&table.schema, row))
}

/// Where versions are written: each as its own version of the schema sees the table.
struct Places<'a> {
    /// The table under the newest.
    placed: &'a Placed,
    views: Option<&'a Views>,
}

impl Places<'_> {
    fn write_row(&self, conn: &Connection, planned: &Planned, present: bool) -> Result<rusqlite::Result<usize>> {
        match self.views.map(|views| views.of(planned.version.schema)).transpose()? {
            None => write_row(conn, self.placed, planned, present),
            Some(view) => write_row(conn, &view.placed, &view.planned(planned), present),
        }
    }
}

/// What was found for one key, kept up to date while a plan is carried out.
#[derive(Clone, PartialEq, Debug)]
struct Found {
    fp: Fp,
    ledger: Option<LedgerEntry>,
    /// Why the content cannot be understood, if so.
    unreadable: Option<String>,
}

impl Found {
    fn read(conn: &Connection, placed: &Placed, key: &Key) -> Result<Self> {
        let (fp, unreadable) = told_content(conn, placed, key)?;
        Ok(Found { fp, ledger: entry(conn, placed, key)?, unreadable })
    }

    fn seq(&self) -> Seq {
        self.ledger.as_ref().map_or(0, |l| l.seq)
    }
}

/// The file's write lock, with what was found under it.
struct Held {
    tx: Tx,
    dataset: Arc<Dataset>,
    views: Option<Arc<Views>>,
    collection: CollectionNo,
    keys: Vec<Key>,
    found: Vec<Found>,
    position: Position,
}

/// An open transaction. Dropping it rolls back, also when nobody waits for the lock any more.
struct Tx(Option<Shared>);

impl Drop for Tx {
    fn drop(&mut self) {
        if let Some(conn) = self.0.take() {
            let conn = conn.lock();
            if !conn.is_autocommit()
                && let Err(e) = conn.execute_batch("ROLLBACK")
            {
                tracing::warn!(error = %e, "a transaction could not be rolled back");
            }
        }
    }
}

impl Held {
    fn take(
        conn: Shared,
        dataset: Arc<Dataset>,
        views: Option<Arc<Views>>,
        collection: CollectionNo,
        keys: Vec<Key>,
    ) -> Result<Self> {
        let guard = conn.lock();
        guard.execute_batch("BEGIN IMMEDIATE").map_err(failing("taking the file's write lock"))?;
        let tx = Tx(Some(conn.clone()));
        let opened = dataset.table(collection)?;
        let placed = views.as_ref().map_or(opened, |views| views.newest(opened));
        let read = || {
            let found = keys.iter().map(|key| Found::read(&guard, placed, key)).collect::<Result<Vec<_>>>()?;
            Ok((found, Epochs::load(&guard)?.end_of(position::newest(&guard)?)))
        };
        let read: Result<_> = read();
        // Before `tx` can be dropped: it takes the same lock.
        drop(guard);
        let (found, position) = read?;
        Ok(Held { tx, dataset, views, collection, keys, found, position })
    }
}

#[async_trait]
impl Locked for Held {
    fn seen(&self, index: usize) -> Seen {
        match self.found.get(index) {
            None => Seen::Busy,
            Some(Found { unreadable: Some(why), .. }) => Seen::Unreadable(why.clone()),
            Some(Found { fp, ledger, .. }) => Seen::Row { fp: *fp, ledger: ledger.clone() },
        }
    }

    fn seen_as(&self, index: usize, schema: SchemaId) -> Fp {
        let fp = self.found.get(index).map_or(Fp::ABSENT, |f| f.fp);
        let view = self.views.as_ref().and_then(|views| views.of(schema).ok());
        let (Some(view), Some(key), Some(conn)) = (view, self.keys.get(index), &self.tx.0) else { return fp };
        // What cannot be read is nobody's, as in `content`.
        content(&conn.lock(), &view.placed, key).unwrap_or(fp)
    }

    fn has_lost(&self, schema: SchemaId) -> bool {
        self.views.as_ref().and_then(|views| views.of(schema).ok()).is_some_and(|view| view.has_lost)
    }

    fn position(&self) -> Position {
        self.position
    }

    async fn write(mut self: Box<Self>, plan: &[Planned]) -> Result<Vec<Written>> {
        let plan = plan.to_vec();
        let client = self.dataset.client.clone();
        let written = blocking(move || {
            let Some(conn) = self.tx.0.clone() else { return Ok(Vec::new()) };
            let mut conn = conn.lock();
            let done = self.write_all(&mut conn, &plan);
            if !conn.is_autocommit() {
                conn.execute_batch("ROLLBACK").map_err(failing("rolling back"))?;
            }
            drop(conn);
            // Nothing is open any more.
            self.tx.0 = None;
            done
        });
        written.await.map_err(|e| client.here(e))
    }
}

type Tried<T> = std::result::Result<T, Trouble>;

/// Why a plan could not be carried out in one go.
enum Trouble {
    /// One row was refused: each is tried on its own.
    Row,
    /// It is about more than one row.
    All(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::All(error)
    }
}

impl Held {
    /// One transaction for all rows; if a row is refused, one for each.
    fn write_all(&self, conn: &mut Connection, plan: &[Planned]) -> Result<Vec<Written>> {
        let opened = self.dataset.table(self.collection)?;
        let placed = self.views.as_ref().map_or(opened, |views| views.newest(opened));
        let placed = &Places { placed, views: self.views.as_deref() };
        let mut found: HashMap<&Key, Found> = self.keys.iter().zip(self.found.iter().cloned()).collect();
        let together = write_range(conn, placed, &mut found, plan).and_then(|written| {
            conn.execute_batch("COMMIT").map_err(trouble("committing"))?;
            Ok(written)
        });
        match together {
            Ok(written) => Ok(written),
            Err(Trouble::All(e)) => Err(e),
            Err(Trouble::Row) => {
                // RAISE(ROLLBACK) has ended the transaction already.
                if !conn.is_autocommit() {
                    conn.execute_batch("ROLLBACK").map_err(failing("rolling back"))?;
                }
                self.write_each(conn, placed, plan)
            }
        }
    }

    /// A transaction per row, deletions first (sink-6): what blocks another row may be among them.
    /// The lock was given up meanwhile, so each row must still be as it was seen (sink-2).
    fn write_each(&self, conn: &mut Connection, placed: &Places<'_>, plan: &[Planned]) -> Result<Vec<Written>> {
        let mut known: HashMap<&Key, Found> = self.keys.iter().zip(self.found.iter().cloned()).collect();
        let mut order: Vec<usize> = (0..plan.len()).collect();
        let mut seen = std::collections::HashSet::new();
        if plan.iter().all(|p| seen.insert(&p.version.key)) {
            order.sort_by_key(|&i| plan.get(i).is_none_or(|p| !p.version.tomb));
        }
        let mut written = vec![Written::Done; plan.len()];
        for i in order {
            let (Some(planned), Some(slot)) = (plan.get(i), written.get_mut(i)) else { continue };
            let key = &planned.version.key;
            let fate = immediate(conn, |tx| {
                let now = Found::read(tx, placed.placed, key)?;
                if known.get(key).is_some_and(|then| *then != now) {
                    return Ok(Written::Dirty);
                }
                let mut one = HashMap::from([(key, now)]);
                let fates = write_range(tx, placed, &mut one, std::slice::from_ref(planned));
                known.extend(one);
                match fates {
                    Ok(fates) => Ok(fates.into_iter().next().unwrap_or(Written::Done)),
                    Err(Trouble::All(e)) => Err(e),
                    Err(Trouble::Row) => Err(Error::new(Code::ConstraintViolated, "refused")),
                }
            });
            *slot = match fate {
                Ok(fate) => fate,
                Err(e) if e.code == Code::ConstraintViolated => {
                    known.insert(key, Found::read(conn, placed.placed, key)?);
                    Written::Refused(refusal(conn, placed, planned)?)
                }
                Err(e) => return Err(e),
            };
        }
        Ok(written)
    }
}

/// SQLite's own words for why it refuses a row: asked once more, and undone.
fn refusal(conn: &mut Connection, places: &Places<'_>, planned: &Planned) -> Result<String> {
    let tx = conn.transaction().map_err(failing("asking for the reason"))?;
    let present = content(&tx, places.placed, &planned.version.key)? != Fp::ABSENT;
    Ok(match places.write_row(&tx, planned, present)? {
        Err(cause) => cause.to_string(),
        Ok(0) => IGNORED.into(),
        // Only the commit refuses: a deferred foreign key.
        Ok(_) => "a foreign key has no row to point to, or another row still points here".into(),
    })
}

const IGNORED: &str = "a trigger of the application ignores the write (RAISE(IGNORE))";

fn trouble(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Trouble {
    move |cause| if refuses_row(&cause) { Trouble::Row } else { Trouble::All(failed(doing, cause)) }
}

/// Carries out a plan in the open transaction, and records the range of its change rows: all of them
/// are one transaction to the reader (read-1).
fn write_range<'k>(
    conn: &Connection,
    places: &Places<'_>,
    found: &mut HashMap<&'k Key, Found>,
    plan: &'k [Planned],
) -> Tried<Vec<Written>> {
    let before = position::newest(conn)?;
    let parked = has_parked(conn, places.placed)?;
    let written = plan.iter().map(|p| write_one(conn, places, found, p, parked)).collect::<Tried<Vec<_>>>()?;
    let after = position::newest(conn)?;
    if after > before {
        conn.prepare_cached("INSERT INTO _driftless_ranges(last, first) VALUES(?1, ?2)")
            .and_then(|mut range| range.execute([after, before + 1]))
            .map_err(failing("recording the range of a transaction"))?;
    }
    Ok(written)
}

fn write_one<'k>(
    conn: &Connection,
    places: &Places<'_>,
    found: &mut HashMap<&'k Key, Found>,
    planned: &'k Planned,
    parked: bool,
) -> Tried<Written> {
    let (version, placed) = (&planned.version, places.placed);
    let now = match found.get(&version.key) {
        Some(known) => known.clone(),
        None => Found::read(conn, placed, &version.key)?,
    };
    // sink-1: these guards are the only fence of a sink, so they stand on every path that writes.
    let stale = now.seq() >= version.seq;
    match planned.act {
        Act::Skip | Act::Defer => return Ok(Written::Done),
        Act::Dirty => {
            park(conn, placed, planned, now.fp)?;
            return Ok(Written::Done);
        }
        Act::Observe => {
            observe(conn, placed, &version.key, now.fp != Fp::ABSENT)?;
            return Ok(Written::Done);
        }
        Act::Adopt | Act::Write if stale => {
            unpark(conn, placed, &version.key, parked)?;
            return Ok(Written::Done);
        }
        Act::Adopt => {}
        Act::Write => {
            let present = now.fp != Fp::ABSENT;
            let expected = usize::from(present || !version.tomb);
            match places.write_row(conn, planned, present)? {
                Ok(rows) if rows == expected => {}
                // Nobody else can have written under the lock: a trigger swallowed it.
                Ok(_) => return Err(Trouble::Row),
                Err(cause) => return Err(trouble("writing a row")(cause)),
            }
        }
    }
    let view = places.views.map(|views| views.of(version.schema)).transpose()?;
    let entry = settle(conn, placed, &view.map_or_else(|| planned.clone(), |view| view.noted(planned)))?;
    unpark(conn, placed, &version.key, parked)?;
    found.insert(&version.key, Found { fp: planned.fp, ledger: Some(entry), unreadable: None });
    Ok(Written::Done)
}
