//! A destination that nobody else writes (who-3): no triggers, no ledger. The rows of a batch and the
//! partition's mark in `_driftless_applied` are one transaction under the file's write lock.

use super::super::client::{Client, Dataset, Placed, Shared, blocking, immediate};
use super::super::failure::{failing, refuses_row};
use super::super::wire::table::quoted;
use super::super::wire::write::{delete_row, put_row};
use crate::connectors::contract::{CollectionNo, Exclusive, ExclusiveWriter};
use crate::event::{Canonical, Link};
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension};
use std::sync::Arc;

const APPLIED: &str = "
CREATE TABLE IF NOT EXISTS _driftless_applied(dataset TEXT NOT NULL, collection TEXT NOT NULL, part INTEGER NOT NULL,
    upto INTEGER NOT NULL, seq INTEGER NOT NULL, id INTEGER NOT NULL, PRIMARY KEY(dataset, collection, part)) WITHOUT ROWID;
";

/// Makes the marks of a collection, unless its table holds rows that no mark speaks of.
pub(in super::super) fn admit(
    conn: &Connection,
    dataset: &str,
    collection: &str,
    table: &str,
    partitions: u32,
) -> Result<()> {
    let failing = || failing("making an exclusive destination's marks");
    conn.execute_batch(APPLIED).map_err(failing())?;
    let known = "SELECT EXISTS(SELECT 1 FROM _driftless_applied WHERE dataset = ?1 AND collection = ?2)";
    let known: bool = conn.query_row(known, [dataset, collection], |row| row.get(0)).map_err(failing())?;
    let holds = format!("SELECT EXISTS(SELECT 1 FROM {})", quoted(table));
    if !known && conn.query_row(&holds, [], |row| row.get::<_, bool>(0)).map_err(failing())? {
        let text = "the table holds rows, and no mark says that they were written here: an exclusive destination \
                    begins empty, so that nothing of others is overwritten. Empty the table, or leave \
                    `guarantee: exclusive` out: then the rows are compared";
        return Err(Error::new(Code::SourceSettings, text).at("table", table));
    }
    for part in 0..partitions {
        conn.execute(
            "INSERT INTO _driftless_applied VALUES(?1, ?2, ?3, 0, 0, 0) ON CONFLICT DO NOTHING",
            (dataset, collection, part),
        )
        .map_err(failing())?;
    }
    Ok(())
}

/// Removes the marks of a dataset, and their table with the last of them (verb-9).
pub(in super::super) fn remove(conn: &Connection, dataset: &str) -> Result<()> {
    let failing = || failing("removing an exclusive destination's marks");
    let there = "SELECT EXISTS(SELECT 1 FROM sqlite_schema WHERE name = '_driftless_applied')";
    if !conn.query_row(there, [], |row| row.get::<_, bool>(0)).map_err(failing())? {
        return Ok(());
    }
    conn.execute("DELETE FROM _driftless_applied WHERE dataset = ?1", [dataset]).map_err(failing())?;
    let left: i64 =
        conn.query_row("SELECT count(*) FROM _driftless_applied", [], |row| row.get(0)).map_err(failing())?;
    if left == 0 {
        conn.execute_batch("DROP TABLE _driftless_applied").map_err(failing())?;
    }
    Ok(())
}

/// An opened destination; its tables have no triggers, so `installed` says nothing.
pub(in super::super) struct Destination(pub(in super::super) Arc<Dataset>);

#[async_trait]
impl Exclusive for Destination {
    async fn writer(&self, collection: CollectionNo, partition: u32) -> Result<Box<dyn ExclusiveWriter>> {
        self.0.table(collection)?;
        let client = self.0.client.clone();
        let conn = blocking(move || client.connect()).await?;
        Ok(Box::new(Writer { dataset: self.0.clone(), conn: Arc::new(Mutex::new(conn)), collection, partition }))
    }
}

struct Writer {
    dataset: Arc<Dataset>,
    conn: Shared,
    collection: CollectionNo,
    partition: u32,
}

#[async_trait]
impl ExclusiveWriter for Writer {
    async fn mark(&mut self) -> Result<Link> {
        let (conn, dataset, no, partition) = (self.conn.clone(), self.dataset.clone(), self.collection, self.partition);
        let read = blocking(move || mark(&conn.lock(), &dataset, dataset.table(no)?, partition)).await;
        read.map_err(|e| here(&self.dataset.client, e))
    }

    async fn write(&mut self, versions: &[Arc<Canonical>], from: Link, to: Link) -> Result<bool> {
        let (conn, dataset, no, partition) = (self.conn.clone(), self.dataset.clone(), self.collection, self.partition);
        let versions = versions.to_vec();
        let written = blocking(move || {
            let (mut conn, placed) = (conn.lock(), dataset.table(no)?);
            let mut attempt = |anew| {
                immediate(&mut conn, |tx| {
                    if mark(tx, &dataset, placed, partition)? != from {
                        return Ok(false);
                    }
                    write_all(tx, placed, &versions, anew)?;
                    advance(tx, &dataset, placed, partition, to)?;
                    Ok(true)
                })
            };
            match attempt(false) {
                // sink-6: all rows are removed first, which is a way through unique constraints.
                Err(error) if error.code == Code::ConstraintViolated => attempt(true),
                done => done,
            }
        });
        written.await.map_err(|e| here(&self.dataset.client, e))
    }
}

fn here(client: &Client, error: Error) -> Error {
    client.here(error)
}

fn mark(conn: &Connection, dataset: &Dataset, placed: &Placed, partition: u32) -> Result<Link> {
    let sql = "SELECT upto, seq, id FROM _driftless_applied WHERE dataset = ?1 AND collection = ?2 AND part = ?3";
    let number = |row: &rusqlite::Row<'_>, i| row.get::<_, i64>(i).map(i64::cast_unsigned);
    let link =
        |row: &rusqlite::Row<'_>| Ok(Link { offset: number(row, 0)?, seq: number(row, 1)?, id: number(row, 2)? });
    let found = conn
        .prepare_cached(sql)
        .and_then(|mut s| s.query_row((&dataset.name, &*placed.table.schema.name, partition), link).optional());
    found.map_err(failing("reading the mark"))?.ok_or_else(|| {
        let text = "the mark of an exclusive destination is gone: what its table holds is not known any more. Restart \
                    the node with an empty table";
        Error::new(Code::SourceIdentity, text).at("table", &placed.table.name)
    })
}

fn advance(conn: &Connection, dataset: &Dataset, placed: &Placed, partition: u32, to: Link) -> Result<()> {
    let sql = "UPDATE _driftless_applied SET upto = ?4, seq = ?5, id = ?6 WHERE dataset = ?1 AND collection = ?2 AND part = ?3";
    let (upto, seq, id) = (to.offset.cast_signed(), to.seq.cast_signed(), to.id.cast_signed());
    let params = (&dataset.name, &*placed.table.schema.name, partition, upto, seq, id);
    conn.prepare_cached(sql).and_then(|mut s| s.execute(params)).map_err(failing("moving the mark"))?;
    Ok(())
}

/// Deletions, then rows.
fn write_all(conn: &Connection, placed: &Placed, versions: &[Arc<Canonical>], anew: bool) -> Result<()> {
    let table = &placed.table;
    for version in versions.iter().filter(|v| anew || v.after.is_none()) {
        delete_row(conn, placed, &version.key)?.map_err(failing("deleting a row"))?;
    }
    for version in versions {
        let Some(row) = &version.after else { continue };
        let about = |error: Error| error.at("key", format!("{:?}", version.key));
        table.check_documents(row).map_err(about)?;
        if table.key_of(row)? != version.key {
            let text = "the key fields of the row are not its key";
            return Err(about(Error::new(Code::ValueRefused, text).at("table", &table.name)));
        }
        match put_row(conn, placed, row).map_err(about)? {
            Ok(1) => {}
            Ok(_) => {
                let text = "a trigger of the application ignores the write (RAISE(IGNORE))";
                return Err(about(Error::new(Code::ConstraintViolated, text).at("table", &table.name)));
            }
            Err(cause) if refuses_row(&cause) => {
                let error = Error::new(Code::ConstraintViolated, "the table refuses a row").caused_by(cause);
                return Err(about(error.at("table", &table.name)));
            }
            Err(cause) => return Err(failing("writing a row")(cause)),
        }
    }
    Ok(())
}
