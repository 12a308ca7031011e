//! The statements a sink runs, one row each: read, write, move the ledger, note, park.

use super::super::client::Placed;
use super::super::failure::failing;
use super::super::position;
use super::super::values::Native;
use super::install::{NOW_MS, op};
use super::ledger;
use super::table::{Column, listed, quoted};
use crate::connectors::contract::Planned;
use crate::event::{Fp, Key, LedgerEntry, Row};
use crate::runtime::error::Result;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

/// A key's ledger row.
pub(crate) fn entry(conn: &Connection, placed: &Placed, key: &Key) -> Result<Option<LedgerEntry>> {
    let sql = "SELECT seq, vv, fp, ts, tomb, schema FROM _driftless_ledger WHERE collection = ?1 AND key = ?2";
    let mut statement = conn.prepare_cached(sql).map_err(failing("reading the ledger"))?;
    let found = statement.query_row((placed.installed.collection, &*key.0), |row| ledger::entry(row, 0)).optional();
    found.map_err(failing("reading the ledger"))
}

/// What stands in the table for a key. Content that cannot be understood gets a fingerprint nobody
/// else has: it is not what the ledger says, so it is never overwritten unseen (P8, sink-3).
pub(crate) fn content(conn: &Connection, placed: &Placed, key: &Key) -> Result<Fp> {
    told_content(conn, placed, key).map(|(fp, _)| fp)
}

/// The same, and why it cannot be understood if so.
pub(crate) fn told_content(conn: &Connection, placed: &Placed, key: &Key) -> Result<(Fp, Option<String>)> {
    let table = &placed.table;
    let failing = || failing("reading a row");
    let values = table.key_values(key)?;
    let sql = format!("SELECT {} FROM {} WHERE {}", table.list(""), quoted(&table.name), by_key(placed));
    let mut statement = conn.prepare_cached(&sql).map_err(failing())?;
    let mut rows = statement.query(params_from_iter(table.key_natives(&values)?)).map_err(failing())?;
    let Some(row) = rows.next().map_err(failing())? else { return Ok((Fp::ABSENT, None)) };
    match table.row(|i| row.get_ref(i).ok()) {
        Ok(image) => Ok((Fp::of_row(&table.schema, &image), None)),
        Err(e) => {
            let raw: Vec<String> = (0..table.columns.len()).map(|i| format!("{:?}", row.get_ref(i))).collect();
            Ok((Fp::of_bytes(format!("undecodable {}", raw.join(",")).as_bytes()), Some(e.to_string())))
        }
    }
}

fn by_key(placed: &Placed) -> String {
    placed.table.keys().map(|c| format!("{} = ?", quoted(&c.name))).collect::<Vec<_>>().join(" AND ")
}

/// Writes or deletes the row; the inner result is SQLite's answer to that statement alone.
pub(crate) fn write_row(
    conn: &Connection,
    placed: &Placed,
    planned: &Planned,
    present: bool,
) -> Result<rusqlite::Result<usize>> {
    let (table, version) = (&placed.table, &planned.version);
    let name = quoted(&table.name);
    let key_values = table.key_values(&version.key)?;
    let execute = |sql: &str, params: Vec<Native<'_>>| {
        conn.prepare_cached(sql).and_then(|mut s| s.execute(params_from_iter(params)))
    };
    let Some(row) = version.after.as_ref().filter(|_| !version.tomb) else {
        let sql = format!("DELETE FROM {name} WHERE {}", by_key(placed));
        return Ok(execute(&sql, table.key_natives(&key_values)?));
    };
    let natives = table.natives(row)?;
    if !present {
        let marks = vec!["?"; natives.len()].join(", ");
        return Ok(execute(&format!("INSERT INTO {name}({}) VALUES({marks})", table.list("")), natives));
    }
    let keys = table.key_natives(&key_values)?;
    let set: Vec<String> =
        table.columns.iter().filter(|c| !c.key).map(|c| format!("{} = ?", quoted(&c.name))).collect();
    if set.is_empty() {
        // A row that is all key is written by being there.
        let first = listed(table.keys().take(1), "");
        return Ok(execute(&format!("UPDATE {name} SET {first} = {first} WHERE {}", by_key(placed)), keys));
    }
    let mut params: Vec<Native<'_>> =
        table.columns.iter().zip(natives).filter(|(c, _)| !c.key).map(|(_, n)| n).collect();
    params.extend(keys);
    Ok(execute(&format!("UPDATE {name} SET {} WHERE {}", set.join(", "), by_key(placed)), params))
}

/// Deletes a row, if it is there.
pub(crate) fn delete_row(conn: &Connection, placed: &Placed, key: &Key) -> Result<rusqlite::Result<usize>> {
    let values = placed.table.key_values(key)?;
    let keys = placed.table.key_natives(&values)?;
    let sql = format!("DELETE FROM {} WHERE {}", quoted(&placed.table.name), by_key(placed));
    Ok(conn.prepare_cached(&sql).and_then(|mut s| s.execute(params_from_iter(keys))))
}

/// Inserts or replaces a row, whatever stands there.
pub(crate) fn put_row(conn: &Connection, placed: &Placed, row: &Row) -> Result<rusqlite::Result<usize>> {
    let table = &placed.table;
    let natives = table.natives(row)?;
    let marks = vec!["?"; natives.len()].join(", ");
    let keys = listed(table.keys(), "");
    let mut set: Vec<&Column> = table.columns.iter().filter(|c| !c.key).collect();
    if set.is_empty() {
        set.extend(table.keys().take(1));
    }
    let set: Vec<String> = set.iter().map(|c| format!("{0} = excluded.{0}", quoted(&c.name))).collect();
    let sql = format!(
        "INSERT INTO {}({}) VALUES({marks}) ON CONFLICT({keys}) DO UPDATE SET {}",
        quoted(&table.name),
        table.list(""),
        set.join(", ")
    );
    Ok(conn.prepare_cached(&sql).and_then(|mut s| s.execute(params_from_iter(natives))))
}

/// Moves the ledger to a version; a trigger puts that into the log (read-1).
pub(crate) fn settle(conn: &Connection, placed: &Placed, planned: &Planned) -> Result<LedgerEntry> {
    let version = &planned.version;
    let sql = "INSERT INTO _driftless_ledger(collection, key, seq, vv, fp, ts, tomb, schema) VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
        ON CONFLICT(collection, key) DO UPDATE SET seq = excluded.seq, vv = excluded.vv, fp = excluded.fp, ts = excluded.ts,
            tomb = excluded.tomb, schema = excluded.schema";
    let (seq, ts) = (version.seq.cast_signed(), version.ts.0.cast_signed());
    let params = (
        placed.installed.collection,
        &*version.key.0,
        seq,
        ledger::pack(&version.vv),
        &planned.fp.0[..],
        ts,
        version.tomb,
        version.schema.0,
    );
    conn.prepare_cached(sql).and_then(|mut s| s.execute(params)).map_err(failing("writing the ledger"))?;
    Ok(LedgerEntry {
        seq: version.seq,
        vv: version.vv.clone(),
        fp: planned.fp,
        ts: version.ts,
        tomb: version.tomb,
        schema: version.schema,
        token: None,
        pend: None,
    })
}

/// sink-8: the image as it stands goes into the log, copied by SQLite itself.
pub(crate) fn observe(conn: &Connection, placed: &Placed, key: &Key, present: bool) -> Result<()> {
    let (table, layout) = (&placed.table, placed.installed.layout);
    let failing = || failing("noting an edit no trigger saw");
    let values = table.key_values(key)?;
    let keys = table.key_natives(&values)?;
    let sql = if present {
        let slots = (0..table.columns.len()).map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ");
        format!(
            "INSERT INTO _driftless_changes(layout, op, ms, {slots}) SELECT {layout}, {}, {NOW_MS}, {} FROM {} WHERE {}",
            op::OBSERVED,
            table.list(""),
            quoted(&table.name),
            by_key(placed)
        )
    } else {
        let slots = table.schema.key.iter().map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ");
        let marks = vec!["?"; keys.len()].join(", ");
        format!(
            "INSERT INTO _driftless_changes(layout, op, ms, {slots}) VALUES({layout}, {}, {NOW_MS}, {marks})",
            op::OBSERVED_GONE
        )
    };
    conn.prepare_cached(&sql).and_then(|mut s| s.execute(params_from_iter(keys))).map_err(failing())?;
    Ok(())
}

/// sink-4: what waits is to be seen in the file as well.
pub(crate) fn park(conn: &Connection, placed: &Placed, planned: &Planned, fp: Fp) -> Result<()> {
    let sql = format!(
        "INSERT OR REPLACE INTO _driftless_parked(collection, key, seq, fp, newest, ms) VALUES(?1, ?2, ?3, ?4, ?5, {NOW_MS})"
    );
    let version = &planned.version;
    let params =
        (placed.installed.collection, &*version.key.0, version.seq.cast_signed(), &fp.0[..], position::newest(conn)?);
    conn.prepare_cached(&sql).and_then(|mut s| s.execute(params)).map_err(failing("parking a key"))?;
    Ok(())
}

pub(crate) fn has_parked(conn: &Connection, placed: &Placed) -> Result<bool> {
    conn.prepare_cached("SELECT EXISTS(SELECT 1 FROM _driftless_parked WHERE collection = ?1)")
        .and_then(|mut s| s.query_row([placed.installed.collection], |row| row.get(0)))
        .map_err(failing("reading the parked keys"))
}

pub(crate) fn unpark(conn: &Connection, placed: &Placed, key: &Key, parked: bool) -> Result<()> {
    if parked {
        conn.prepare_cached("DELETE FROM _driftless_parked WHERE collection = ?1 AND key = ?2")
            .and_then(|mut s| s.execute((placed.installed.collection, &*key.0)))
            .map_err(failing("removing a parked key"))?;
    }
    Ok(())
}
