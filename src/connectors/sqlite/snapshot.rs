//! The rows a table holds, in key order, as of one read transaction. It lasts until the snapshot is
//! dropped: in WAL mode that only keeps the log from being shortened, in the other modes it holds up
//! the application's commits.

use super::client::{Dataset, Placed, Shared, blocking};
use super::failure::failing;
use super::position::{self, Epochs};
use super::values::Native;
use super::wire::changes::size;
use super::wire::table::{listed, quoted};
use crate::connectors::contract::{BatchLimit, CollectionNo, Copied, Snapshot};
use crate::event::lineage::Lens;
use crate::event::{Fp, Key, Position, Value};
use crate::runtime::error::Result;
use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::{Connection, params_from_iter};
use std::sync::Arc;

/// A snapshot of one table.
pub(super) struct FileSnapshot {
    dataset: Arc<Dataset>,
    conn: Shared,
    collection: CollectionNo,
    position: Position,
    after: Option<Key>,
}

impl FileSnapshot {
    /// Begins the read transaction, and takes the position in it (who-5).
    pub(super) async fn open(dataset: Arc<Dataset>, collection: CollectionNo, after: Option<Key>) -> Result<Self> {
        dataset.table(collection)?;
        let client = dataset.client.clone();
        let (conn, position) = blocking(move || {
            let conn = client.connect()?;
            conn.execute_batch("BEGIN").map_err(failing("beginning a first copy"))?;
            let position = Epochs::load(&conn)?.end_of(position::newest(&conn)?);
            Ok((Arc::new(Mutex::new(conn)), position))
        })
        .await?;
        Ok(FileSnapshot { dataset, conn, collection, position, after })
    }
}

#[async_trait]
impl Snapshot for FileSnapshot {
    fn position(&self) -> Position {
        self.position
    }

    async fn next(&mut self, limit: BatchLimit) -> Result<Option<Vec<Copied>>> {
        let (conn, dataset, no, after) = (self.conn.clone(), self.dataset.clone(), self.collection, self.after.clone());
        let read = blocking(move || chunk(&conn.lock(), dataset.table(no)?, after.as_ref(), limit)).await;
        let rows = read.map_err(|e| self.dataset.client.here(e))?;
        // Only now: a call that was given up is repeated from the same key.
        let Some(last) = rows.last() else { return Ok(None) };
        self.after = Some(last.key.clone());
        Ok(Some(rows))
    }
}

/// The next rows behind `after`.
fn chunk(conn: &Connection, placed: &Placed, after: Option<&Key>, limit: BatchLimit) -> Result<Vec<Copied>> {
    let table = &placed.table;
    let keys = listed(table.keys(), "");
    let values = after.map(|key| table.key_values(key)).transpose()?.unwrap_or_default();
    let bound: Vec<Native<'_>> = table.key_natives(&values)?;
    let behind = match bound.len() {
        0 => String::new(),
        n => format!("WHERE ({keys}) > ({})", vec!["?"; n].join(", ")),
    };
    let sql = format!("SELECT {} FROM {} {behind} ORDER BY {keys}", table.list(""), quoted(&table.name));
    let failing = || failing("copying the table");
    let mut statement = conn.prepare_cached(&sql).map_err(failing())?;
    let mut found = statement.query(params_from_iter(bound)).map_err(failing())?;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    let lens = (table.schema.fields != placed.wanted.fields).then(|| Lens::new(&table.schema, &placed.wanted));
    while let Some(row) = found.next().map_err(failing())? {
        let image = table.row(|i| row.get_ref(i).ok())?;
        let key = table.key_of(&image)?;
        bytes += (0..table.columns.len()).map(|i| row.get_ref(i).map_or(0, size)).sum::<usize>();
        let fp = Fp::of_row(&table.schema, &image);
        // Of what the table has no column for, nothing is there.
        let image = match &lens {
            Some(lens) => lens.lift(&image, &Value::Null),
            None => image,
        };
        rows.push(Copied { collection: placed.no, key, row: Arc::new(image), fp, time_ms: 0 });
        if rows.len() >= limit.rows_max || bytes >= limit.bytes_max {
            break;
        }
    }
    Ok(rows)
}
