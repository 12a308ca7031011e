//! A row of the change table as a change: which slot has which field, what an image says, and what
//! becomes of one that cannot be understood.

use super::super::client::{Dataset, Placed};
use super::super::failure::failing;
use super::install::op;
use super::ledger;
use super::table::quoted;
use crate::connectors::contract::{Change, CollectionNo, Unreadable};
use crate::event::{Fp, Key};
use crate::runtime::error::{Code, Error, Remedy, Result};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, params_from_iter};
use std::collections::HashMap;
use std::sync::Arc;

/// Columns of the change table before the image.
pub(crate) const IMAGE: usize = 4;

/// What the slots of a change row mean; `None` for another dataset's.
pub(crate) type Layouts = HashMap<i64, Option<Layout>>;

/// A layout: for each field the slot that has it, if it was there already.
pub(crate) struct Layout {
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
    if id > placed.installed.layout {
        let text = "columns were added to the table: the reader begins anew to read them";
        return Err(Error::new(Code::StoreBusy, text).at("table", &placed.table.name));
    }
    let slots = placed.table.columns.iter().map(|c| names.iter().position(|n| *n == c.name)).collect();
    Ok(Some(Layout { no: placed.no, slots }))
}

/// A change row as a change; `None` for another dataset's. An image that cannot be understood is told
/// as such, so that its place in the transaction stays its own.
pub(crate) fn change(
    conn: &Connection,
    dataset: &Dataset,
    layouts: &mut Layouts,
    row: &Row<'_>,
) -> Result<Option<Change>> {
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
        // Only what is wrong with this row: anything else stops the reader.
        Err(e) if e.remedy() == Remedy::Park => {
            let replaced = is_replaced(conn, placed, layout, row, id, op)?;
            let key = key(placed, layout, row).ok();
            let error = e.at("change", id).at("row", shown_key(placed, layout, row));
            let unreadable = Unreadable::new(layout.no, key, &error, native(placed, layout, row));
            Ok(Some(Change::Unreadable(Box::new(Unreadable { replaced, ..unreadable }))))
        }
        Err(e) => Err(e),
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

/// The key alone, which can be told although another column cannot.
fn key(placed: &Placed, layout: &Layout, row: &Row<'_>) -> Result<Key> {
    let table = &placed.table;
    let stored = |field: usize| row.get_ref(IMAGE + (*layout.slots.get(field)?)?).ok();
    table.key_of(&table.row(|field| if table.schema.key.contains(&field) { stored(field) } else { None })?)
}

/// A change row as SQLite holds it, by column.
fn native(placed: &Placed, layout: &Layout, row: &Row<'_>) -> String {
    let stored = |field: usize| row.get_ref(IMAGE + (*layout.slots.get(field)?)?).ok();
    placed.table.native(stored)
}

/// Whether a change that cannot be understood does not matter: a later one of the same row follows,
/// or a row nobody could have published is gone.
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
pub(crate) fn size(stored: ValueRef<'_>) -> usize {
    match stored {
        ValueRef::Null => 0,
        ValueRef::Integer(_) | ValueRef::Real(_) => 8,
        ValueRef::Text(t) | ValueRef::Blob(t) => t.len(),
    }
}
