//! Reads the rows a table holds, as of an exact place in the log: a temporary slot exports the
//! snapshot of its own beginning, and one COPY in key order reads under it.

use super::client::catalog::Table;
use super::client::{Session, literal};
use super::config::Checked;
use super::failure;
use super::position::read_lsn;
use super::reader::changes::Collection;
use super::rows::sql;
use super::values::Native;
use super::wire::connection::Connection;
use super::wire::cursor::{Cursor, Malformed};
use super::wire::pgoutput::Column;
use crate::connectors::contract::{BatchLimit, CollectionNo, Copied, Snapshot, Unreadable};
use crate::event::lineage::Lens;
use crate::event::{Fp, Key, Position, Row, Schema, Value};
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use std::pin::Pin;
use std::sync::Arc;
use tokio_postgres::CopyOutStream;

/// A running copy.
pub(crate) struct TableSnapshot {
    position: Position,
    no: CollectionNo,
    collection: Collection,
    /// To the schema the platform was opened with, if the table lacks columns for it.
    lens: Option<Lens>,
    with_time: bool,
    stream: Pin<Box<CopyOutStream>>,
    begun: bool,
    ended: bool,
    unreadable: Vec<Unreadable>,
    expected: Option<u64>,
    _session: Session,
}

impl TableSnapshot {
    /// Begins behind `after`.
    pub(crate) async fn open(
        config: &Checked,
        no: CollectionNo,
        collection: &Collection,
        after: Option<&Key>,
        wanted: Option<&Arc<Schema>>,
    ) -> Result<Self> {
        let mut exporter = Connection::open(config).await?;
        let name = format!("driftless_copy_{}", uuid::Uuid::new_v4().simple());
        let rows = exporter
            .query(&format!("CREATE_REPLICATION_SLOT \"{name}\" TEMPORARY LOGICAL pgoutput EXPORT_SNAPSHOT"))
            .await?;
        let cells = rows.into_iter().next().unwrap_or_default();
        let cell = |i: usize| cells.get(i).cloned().flatten();
        let (Some(point), Some(snapshot)) = (cell(1), cell(2)) else {
            return Err(Error::new(Code::Unexpected, "the server exported no snapshot"));
        };
        let position = Position::end_of(read_lsn(&point)?);
        let session = Session::open(config).await?;
        let begin =
            format!("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}", literal(&snapshot));
        session.batch_execute(&begin).await.map_err(failure::of)?;
        // The transaction holds the snapshot now; the slot may go, so that it keeps no log.
        drop(exporter);
        let with_time = collection.table.kind == b'r' && session.text("SHOW track_commit_timestamp").await? == "on";
        // Of the rest behind a key nothing is known.
        let expected = if after.is_none() { estimated_rows(&session, &collection.table).await? } else { None };
        let statement = statement(collection, after, with_time)?;
        let stream = session.copy_out(&statement).await.map_err(failure::of)?;
        Ok(TableSnapshot {
            position,
            no,
            lens: wanted
                .filter(|wanted| wanted.fields.len() > collection.table.schema.fields.len())
                .map(|wanted| Lens::new(&collection.table.schema, wanted)),
            collection: collection.clone(),
            with_time,
            stream: Box::pin(stream),
            begun: false,
            ended: false,
            unreadable: Vec::new(),
            expected,
            _session: session,
        })
    }

    /// Reads the rows of one message; the first begins with a header, the last is a mark.
    fn rows(&mut self, chunk: &Bytes, out: &mut Vec<Copied>) -> Result<()> {
        let shown = self.collection.table.shown();
        let broken = |e: Malformed| {
            Error::new(Code::Unexpected, "the server's copy cannot be understood").at("table", &shown).caused_by(e)
        };
        let mut c = Cursor::new(chunk);
        if !std::mem::replace(&mut self.begun, true) {
            c.slice(15).map_err(broken)?;
            let extension = c.u32().map_err(broken)?;
            c.slice(extension as usize).map_err(broken)?;
        }
        while c.remaining() > 0 {
            if c.i16().map_err(broken)? < 0 {
                self.ended = true;
                return Ok(());
            }
            let begin = c.clone();
            match self.row(&mut c) {
                Ok(row) => out.push(row),
                // P8: this record alone cannot be told.
                Err(why) => {
                    c = begin;
                    let cells = self.cells(&mut c).map_err(broken)?;
                    self.unreadable.push(self.collection.table.untold(self.no, why, &cells));
                }
            }
        }
        Ok(())
    }

    fn row(&self, c: &mut Cursor<'_>) -> Result<Copied, Malformed> {
        let table = &self.collection.table;
        let mut values = Vec::with_capacity(table.fields.len());
        for column in table.field_columns() {
            values.push(match field(c)? {
                None => Value::Null,
                Some(bytes) => sql::read(&column.native, bytes)?,
            });
        }
        let time_ms = self.time_ms(c)?;
        let row = Row(values);
        let (key, fp) = (table.key_of(&row)?, Fp::of_row(&table.schema, &row));
        let row = match &self.lens {
            Some(lens) => lens.lift(&row, &Value::Null),
            None => row,
        };
        Ok(Copied { collection: self.no, key, row: Arc::new(row), fp, time_ms })
    }

    /// When the row was written, if the server tells.
    fn time_ms(&self, c: &mut Cursor<'_>) -> Result<u64, Malformed> {
        let Some(bytes) = (if self.with_time { field(c)? } else { None }) else { return Ok(0) };
        match Native::Timestamp(true).read_binary(bytes)? {
            Value::Timestamp(micros) => Ok(u64::try_from(micros / 1000).unwrap_or(0)),
            _ => Ok(0),
        }
    }

    /// A row as the server sent it.
    fn cells(&self, c: &mut Cursor<'_>) -> Result<Vec<Column>, Malformed> {
        let cell = |native: &Native| {
            let form = if native.has_binary() { Column::Binary } else { Column::Text };
            Ok(field(c)?.map_or(Column::Null, form))
        };
        let cells = self.collection.table.field_columns().map(|column| &column.native).map(cell).collect();
        self.time_ms(c)?;
        cells
    }
}

/// The next field of a row; `None` is SQL's null.
fn field(c: &mut Cursor<'_>) -> Result<Option<Bytes>, Malformed> {
    match c.i32()? {
        -1 => Ok(None),
        length => c.take(usize::try_from(length).map_err(|_| Malformed("a row"))?).map(Some),
    }
}

/// How many rows the server believes a table has with all its parts; nothing where one was never analysed.
async fn estimated_rows(session: &Session, table: &Table) -> Result<Option<u64>> {
    let of = format!("{}::regclass", literal(&table.quoted()));
    let statement = format!(
        "SELECT CASE WHEN bool_and(reltuples >= 0) THEN sum(reltuples::bigint) END::text FROM pg_class \
         WHERE relkind <> 'p' AND (oid = {of} OR oid IN (SELECT relid FROM pg_partition_tree({of}) WHERE isleaf))"
    );
    let row = session.query_one(&statement, &[]).await.map_err(failure::of)?;
    let told: Option<String> = row.try_get(0).map_err(failure::of)?;
    Ok(told.and_then(|rows| rows.parse().ok()))
}

fn statement(collection: &Collection, after: Option<&Key>, with_time: bool) -> Result<String> {
    let table = &collection.table;
    let key: Vec<String> = table.key_columns().map(|c| super::client::quoted(&c.name)).collect();
    let mut columns: Vec<String> = table.field_columns().map(|c| sql::readable(c, "t")).collect();
    if with_time {
        columns.push("pg_xact_commit_timestamp(t.xmin)".into());
    }
    let behind = match after {
        None => String::new(),
        Some(after) => {
            let broken = |e: Malformed| {
                Error::new(Code::Unexpected, "the place of a first copy is not a key of the table").caused_by(e)
            };
            let values = table.read_key(after).map_err(broken)?;
            let written = table
                .key_columns()
                .zip(&values)
                .map(|(column, value)| Ok(format!("{}::{}", literal(&column.native.write_text(value)?), column.sql)));
            let written = written.collect::<Result<Vec<_>, Malformed>>().map_err(broken)?;
            format!(" WHERE ({}) > ({})", key.join(", "), written.join(", "))
        }
    };
    Ok(format!(
        "COPY (SELECT {} FROM {} t{behind} ORDER BY {}) TO STDOUT (FORMAT binary)",
        columns.join(", "),
        table.quoted(),
        key.join(", ")
    ))
}

#[async_trait]
impl Snapshot for TableSnapshot {
    fn position(&self) -> Position {
        self.position
    }

    async fn next(&mut self, limit: BatchLimit) -> Result<Option<Vec<Copied>>> {
        let (mut out, mut bytes) = (Vec::new(), 0);
        while !self.ended && out.len() < limit.rows_max.max(1) && bytes < limit.bytes_max {
            let Some(chunk) = self.stream.next().await else {
                self.ended = true;
                break;
            };
            let chunk = chunk.map_err(failure::of)?;
            bytes += chunk.len();
            self.rows(&chunk, &mut out)?;
        }
        // A chunk may hold nothing but rows that cannot be told.
        Ok((!out.is_empty() || !self.ended).then_some(out))
    }

    fn unreadable(&mut self) -> Vec<Unreadable> {
        std::mem::take(&mut self.unreadable)
    }

    fn expected(&self) -> Option<u64> {
        self.expected
    }
}
