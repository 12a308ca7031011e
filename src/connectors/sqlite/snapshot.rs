//! The rows a table holds, in key order, as of one read transaction. It lasts until the snapshot is
//! dropped: in WAL mode that only keeps the log from being shortened, in the other modes it holds up
//! the application's commits.

use super::client::{Dataset, Placed, Shared, blocking};
use super::failure::failing;
use super::position::{self, Epochs};
use super::values::Native;
use super::wire::changes::size;
use super::wire::table::{listed, quoted};
use crate::connectors::contract::{BatchLimit, CollectionNo, Copied, Snapshot, Unreadable};
use crate::event::lineage::Lens;
use crate::event::{Fp, Key, Position, Value};
use crate::runtime::error::{Remedy, Result};
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
    ended: bool,
    unreadable: Vec<Unreadable>,
}

/// Some rows in key order.
#[derive(Default)]
struct Chunk {
    rows: Vec<Copied>,
    unreadable: Vec<Unreadable>,
    /// The last key that could be told.
    last: Option<Key>,
    /// No row is left behind it.
    ended: bool,
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
        Ok(FileSnapshot { dataset, conn, collection, position, after, ended: false, unreadable: Vec::new() })
    }
}

#[async_trait]
impl Snapshot for FileSnapshot {
    fn position(&self) -> Position {
        self.position
    }

    async fn next(&mut self, limit: BatchLimit) -> Result<Option<Vec<Copied>>> {
        if self.ended {
            return Ok(None);
        }
        let (conn, dataset, no, after) = (self.conn.clone(), self.dataset.clone(), self.collection, self.after.clone());
        let read = blocking(move || chunk(&conn.lock(), dataset.table(no)?, after.as_ref(), limit)).await;
        let chunk = read.map_err(|e| self.dataset.client.here(e))?;
        // Only now: a call that was given up is repeated from the same key.
        self.after = chunk.last.or(self.after.take());
        self.ended = chunk.ended;
        self.unreadable.extend(chunk.unreadable);
        Ok((!chunk.ended || !chunk.rows.is_empty()).then_some(chunk.rows))
    }

    fn unreadable(&mut self) -> Vec<Unreadable> {
        std::mem::take(&mut self.unreadable)
    }
}

/// The next rows behind `after`.
fn chunk(conn: &Connection, placed: &Placed, after: Option<&Key>, limit: BatchLimit) -> Result<Chunk> {
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
    let (mut chunk, mut bytes) = (Chunk { ended: true, ..Chunk::default() }, 0);
    let lens = (table.schema.fields != placed.wanted.fields).then(|| Lens::new(&table.schema, &placed.wanted));
    while let Some(row) = found.next().map_err(failing())? {
        let stored = |i: usize| row.get_ref(i).ok();
        bytes += (0..table.columns.len()).map(|i| stored(i).map_or(0, size)).sum::<usize>();
        let key = table.row(|i| if table.schema.key.contains(&i) { stored(i) } else { None });
        let key = key.and_then(|row| table.key_of(&row));
        chunk.last = key.as_ref().ok().cloned().or(chunk.last);
        let readable = key.is_ok();
        match key.and_then(|key| Ok((key, table.row(stored)?))) {
            Ok((key, image)) => {
                let fp = Fp::of_row(&table.schema, &image);
                // Of what the table has no column for, nothing is there.
                let image = match &lens {
                    Some(lens) => lens.lift(&image, &Value::Null),
                    None => image,
                };
                chunk.rows.push(Copied { collection: placed.no, key, row: Arc::new(image), fp, time_ms: 0 });
            }
            Err(e) if e.remedy() == Remedy::Park => {
                let key = chunk.last.clone().filter(|_| readable);
                chunk.unreadable.push(Unreadable::new(placed.no, key, &e, table.native(stored)));
            }
            Err(e) => return Err(e),
        }
        let count = chunk.rows.len() + chunk.unreadable.len();
        // Behind a key that cannot be told nothing can be asked for.
        if readable && (count >= limit.rows_max || bytes >= limit.bytes_max) {
            chunk.ended = false;
            break;
        }
    }
    Ok(chunk)
}
