//! The tables and triggers driftless keeps in a file, made and removed in one transaction each.
//!
//! Images are kept as SQLite's own values in untyped columns `c0, c1, …` of the change table: nothing
//! is encoded, so nothing can be lost. A *layout* says which column stands in which slot; a new one
//! begins when the columns change, so that older rows can still be read.

use super::super::failure::failing;
use super::ledger;
use super::table::{Column, Table, listed, quoted};
use crate::runtime::error::{Code, Error, Result};
use rusqlite::{Connection, OptionalExtension};

/// What a row of the change table says.
pub(crate) mod op {
    /// The row is there, with this image.
    pub(crate) const PUT: i64 = 0;
    /// The row is gone; the image has its key.
    pub(crate) const DELETE: i64 = 1;
    /// The first half of a key change: the old key is gone (read-8).
    pub(crate) const MOVED_FROM: i64 = 2;
    /// The second half, always the next id.
    pub(crate) const MOVED_TO: i64 = 3;
    /// A ledger row, in the slots `key` and `ledger::COLUMNS`.
    pub(crate) const LEDGER: i64 = 4;
    /// A ledger row was removed.
    pub(crate) const LEDGER_GONE: i64 = 5;
    /// An edit no trigger saw (sink-8).
    pub(crate) const OBSERVED: i64 = 6;
    /// A deletion no trigger saw (sink-8).
    pub(crate) const OBSERVED_GONE: i64 = 7;
}

/// Milliseconds since 1970, in words that every SQLite since 3.0 understands: the application's own
/// library runs the triggers.
pub(crate) const NOW_MS: &str = "CAST((julianday('now') - 2440587.5) * 86400000.0 + 0.5 AS INTEGER)";

/// A ledger row needs seven slots: the key and six columns.
const SLOTS_MIN: usize = 7;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS _driftless_changes(id INTEGER PRIMARY KEY AUTOINCREMENT, layout INTEGER NOT NULL, op INTEGER NOT NULL, ms INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS _driftless_ranges(last INTEGER PRIMARY KEY, first INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS _driftless_epochs(epoch INTEGER PRIMARY KEY, first INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS _driftless_datasets(name TEXT PRIMARY KEY, released INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _driftless_meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _driftless_collections(id INTEGER PRIMARY KEY AUTOINCREMENT, dataset TEXT NOT NULL, name TEXT NOT NULL, tbl TEXT NOT NULL, UNIQUE(dataset, name));
CREATE TABLE IF NOT EXISTS _driftless_layouts(id INTEGER PRIMARY KEY AUTOINCREMENT, collection INTEGER NOT NULL, columns TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS _driftless_ledger(collection INTEGER NOT NULL, key BLOB NOT NULL, seq INTEGER NOT NULL, vv BLOB NOT NULL, fp BLOB NOT NULL, ts INTEGER NOT NULL, tomb INTEGER NOT NULL, schema INTEGER NOT NULL, PRIMARY KEY(collection, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _driftless_parked(collection INTEGER NOT NULL, key BLOB NOT NULL, seq INTEGER NOT NULL, fp BLOB NOT NULL, newest INTEGER NOT NULL, ms INTEGER NOT NULL, PRIMARY KEY(collection, key)) WITHOUT ROWID;
";

const OWN: [&str; 9] =
    ["changes", "ranges", "epochs", "datasets", "meta", "collections", "layouts", "ledger", "parked"];

/// What `install` made for one collection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Installed {
    /// The collection's number in the file.
    pub(crate) collection: i64,
    /// The layout its triggers write now.
    pub(crate) layout: i64,
}

/// Makes the tables and the ledger's triggers.
pub(crate) fn tables(conn: &Connection, dataset: &str) -> Result<()> {
    let failing = || failing("making driftless' tables");
    conn.execute_batch(TABLES).map_err(failing())?;
    widen(conn, SLOTS_MIN)?;
    let slots = |count: usize| (0..count).map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ");
    let new = ledger::COLUMNS.split(", ").map(|c| format!("NEW.{c}")).collect::<Vec<_>>().join(", ");
    for event in ["INSERT", "UPDATE"] {
        let body = format!(
            "INSERT INTO _driftless_changes(layout, op, ms, {}) VALUES(-NEW.collection, {}, {NOW_MS}, NEW.key, {new})",
            slots(SLOTS_MIN),
            op::LEDGER,
        );
        trigger(
            conn,
            &format!("_driftless_ledger_{}", event.to_lowercase()),
            &format!("AFTER {event} ON _driftless_ledger"),
            &body,
        )?;
    }
    let gone = format!(
        "INSERT INTO _driftless_changes(layout, op, ms, c0) VALUES(-OLD.collection, {}, {NOW_MS}, OLD.key)",
        op::LEDGER_GONE
    );
    trigger(conn, "_driftless_ledger_delete", "AFTER DELETE ON _driftless_ledger", &gone)?;
    let known = "INSERT INTO _driftless_datasets(name, released) VALUES(?1, 0) ON CONFLICT DO NOTHING";
    conn.execute(known, [dataset]).map_err(failing())?;
    Ok(())
}

/// Makes the triggers of one collection.
pub(crate) fn collection(conn: &Connection, dataset: &str, name: &str, table: &Table) -> Result<Installed> {
    let failing = || failing("making a collection's triggers");
    let found: Option<(i64, String)> = conn
        .query_row(
            "SELECT id, tbl FROM _driftless_collections WHERE dataset = ?1 AND name = ?2",
            [dataset, name],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()
        .map_err(failing())?;
    let collection = match found {
        Some((id, tbl)) if tbl == table.name => id,
        Some((_, tbl)) => {
            let text = format!(
                "the collection lay in table {tbl} until now; remove it from this platform first, its ledger speaks of the old table"
            );
            return Err(Error::new(Code::ConfigInvalid, text).at("collection", name));
        }
        None => {
            let sql = "INSERT INTO _driftless_collections(dataset, name, tbl) VALUES(?1, ?2, ?3)";
            conn.execute(sql, [dataset, name, &table.name]).map_err(failing())?;
            conn.last_insert_rowid()
        }
    };
    let layout = layout(conn, collection, table)?;
    widen(conn, table.columns.len())?;
    triggers(conn, Installed { collection, layout }, table)?;
    Ok(Installed { collection, layout })
}

/// The newest layout, or a new one if the columns are no longer the same.
fn layout(conn: &Connection, collection: i64, table: &Table) -> Result<i64> {
    let failing = || failing("reading the layout of the changes");
    let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
    let columns = serde_json::json!(names).to_string();
    let sql = "SELECT id, columns FROM _driftless_layouts WHERE collection = ?1 ORDER BY id DESC LIMIT 1";
    let newest: Option<(i64, String)> =
        conn.query_row(sql, [collection], |row| Ok((row.get(0)?, row.get(1)?))).optional().map_err(failing())?;
    match newest {
        Some((id, known)) if known == columns => Ok(id),
        _ => {
            let sql = "INSERT INTO _driftless_layouts(collection, columns) VALUES(?1, ?2)";
            conn.execute(sql, (collection, columns)).map_err(failing())?;
            Ok(conn.last_insert_rowid())
        }
    }
}

/// Adds slots to the change table until it has `count`.
fn widen(conn: &Connection, count: usize) -> Result<()> {
    let failing = || failing("widening the change table");
    let sql = "SELECT count(*) FROM pragma_table_info('_driftless_changes') WHERE name GLOB 'c[0-9]*'";
    let has: i64 = conn.query_row(sql, [], |row| row.get(0)).map_err(failing())?;
    (usize::try_from(has).unwrap_or(0)..count).try_for_each(|i| {
        conn.execute_batch(&format!("ALTER TABLE _driftless_changes ADD COLUMN c{i}")).map_err(failing())
    })
}

/// The four triggers of a table.
///
/// They note the row as it *stands*, not `NEW`: another trigger of the application may have changed
/// it already, and then that change was noted first. So the last note of a key is always true.
fn triggers(conn: &Connection, installed: Installed, table: &Table) -> Result<()> {
    let on = quoted(&table.name);
    let slot = |i: usize| format!("c{i}");
    let all: Vec<String> = (0..table.columns.len()).map(slot).collect();
    let keys: Vec<String> = table.schema.key.iter().map(|&i| slot(i)).collect();
    let insert = |op: i64, slots: &[String], values: String| {
        let (layout, slots) = (installed.layout, slots.join(", "));
        format!("INSERT INTO _driftless_changes(layout, op, ms, {slots}) SELECT {layout}, {op}, {NOW_MS}, {values}")
    };
    let here = |whose: &str| matches(table.keys(), "", whose);
    let put = |op: i64| format!("{} FROM {on} WHERE {}", insert(op, &all, table.list("")), here("NEW."));
    // Another trigger may have put the row back; that was noted.
    let gone = |op: i64| {
        let values = insert(op, &keys, listed(table.keys(), "OLD."));
        format!("{values} WHERE NOT EXISTS (SELECT 1 FROM {on} WHERE {})", here("OLD."))
    };
    let same = matches(table.keys(), "NEW.", "OLD.");
    let name = |what: &str| format!("_driftless_{}_{what}", installed.collection);
    trigger(conn, &name("insert"), &format!("AFTER INSERT ON {on}"), &put(op::PUT))?;
    trigger(conn, &name("delete"), &format!("AFTER DELETE ON {on}"), &gone(op::DELETE))?;
    trigger(conn, &name("update"), &format!("AFTER UPDATE ON {on} WHEN {same}"), &put(op::PUT))?;
    let moved = format!("{}; {}", gone(op::MOVED_FROM), put(op::MOVED_TO));
    trigger(conn, &name("move"), &format!("AFTER UPDATE ON {on} WHEN NOT ({same})"), &moved)
}

/// That two rows have the same key. `IS` finds a null key as well: it must be refused, not missed.
fn matches<'a>(keys: impl Iterator<Item = &'a Column>, left: &str, right: &str) -> String {
    let same = |c: &Column| format!("{left}{0} IS {right}{0}", quoted(&c.name));
    keys.map(same).collect::<Vec<_>>().join(" AND ")
}

/// Makes a trigger unless it is there word for word: opening twice changes nothing.
fn trigger(conn: &Connection, name: &str, when: &str, body: &str) -> Result<()> {
    let failing = || failing("making a trigger");
    let sql = format!("CREATE TRIGGER {} {when} BEGIN {body}; END", quoted(name));
    let known: Option<String> = conn
        .query_row("SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = ?1", [name], |row| row.get(0))
        .optional()
        .map_err(failing())?;
    if known.as_ref() == Some(&sql) {
        return Ok(());
    }
    conn.execute_batch(&format!("DROP TRIGGER IF EXISTS {}; {sql}", quoted(name))).map_err(failing())
}

/// Removes what belongs to a dataset, and the tables themselves with the last dataset (verb-9).
pub(crate) fn remove(conn: &Connection, dataset: &str) -> Result<()> {
    let failing = || failing("removing driftless' triggers and tables");
    let present = "SELECT EXISTS(SELECT 1 FROM sqlite_schema WHERE name = '_driftless_datasets')";
    if !conn.query_row(present, [], |row| row.get::<_, bool>(0)).map_err(failing())? {
        return Ok(());
    }
    let ids: Vec<i64> = conn
        .prepare("SELECT id FROM _driftless_collections WHERE dataset = ?1")
        .and_then(|mut ids| ids.query_map([dataset], |row| row.get(0))?.collect())
        .map_err(failing())?;
    for id in ids {
        let drops: String = ["insert", "update", "delete", "move"]
            .map(|w| format!("DROP TRIGGER IF EXISTS _driftless_{id}_{w};"))
            .concat();
        let rows = format!(
            "DELETE FROM _driftless_ledger WHERE collection = {id}; DELETE FROM _driftless_parked WHERE collection = {id};
             DELETE FROM _driftless_changes WHERE layout = -{id} OR layout IN (SELECT id FROM _driftless_layouts WHERE collection = {id});
             DELETE FROM _driftless_layouts WHERE collection = {id}; DELETE FROM _driftless_collections WHERE id = {id};"
        );
        conn.execute_batch(&(drops + &rows)).map_err(failing())?;
    }
    conn.execute("DELETE FROM _driftless_datasets WHERE name = ?1", [dataset]).map_err(failing())?;
    let left: i64 =
        conn.query_row("SELECT count(*) FROM _driftless_datasets", [], |row| row.get(0)).map_err(failing())?;
    if left == 0 {
        let drops: String = OWN.map(|t| format!("DROP TABLE IF EXISTS _driftless_{t};")).concat();
        conn.execute_batch(&drops).map_err(failing())?;
    }
    Ok(())
}
