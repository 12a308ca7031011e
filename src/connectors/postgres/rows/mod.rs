//! Locks rows and reads what stands there (sink-1, sink-2). What is done with them is decided
//! elsewhere and carried out in `write`.

pub(crate) mod exclusive;
pub(crate) mod ledger;
pub(crate) mod norm;
pub(crate) mod sql;
pub(crate) mod untold;
pub(crate) mod views;
pub(crate) mod write;

use super::client::catalog::Table;
use super::client::{Session, quoted};
use super::config::Checked;
use super::failure;
use super::position::read_lsn;
use super::reader::changes::{Collection, Tables};
use crate::connectors::contract::{CollectionNo, Locked, Rows, Seen};
use crate::event::{Canonical, Fp, Key, LedgerEntry, Position, Row, Schema, Value};
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use bytes::Bytes;
use sql::{Raw, Sent, Texts, read};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;
use views::Views;
use write::Batch;

/// A writer with a connection of its own.
pub(crate) struct Sink {
    session: Session,
    tables: Arc<Tables>,
    prepared: HashMap<CollectionNo, Arc<Statements>>,
    /// Of collections whose schema has had several versions, or whose table is not just their fields.
    views: HashMap<CollectionNo, Arc<Views>>,
    /// Whether triggers and foreign keys are left to the origin of the rows (sink-5).
    replica: bool,
}

/// Statements of one collection, prepared.
pub(crate) struct Statements {
    pub(super) lock: Statement,
    pub(super) read: Statement,
    pub(super) exist: Statement,
    pub(super) insert: Statement,
    pub(super) update: Statement,
    pub(super) delete: Statement,
    pub(super) observe: Statement,
    pub(super) observed_gone: Statement,
    pub(super) ledger_lock: Statement,
    pub(super) ledger_read: Statement,
    pub(super) ledger_write: Statement,
    pub(super) park: Statement,
    pub(super) unpark: Statement,
    pub(super) position: Statement,
    /// Whether some columns can only be compared with what is read back.
    pub(super) check: bool,
}

type Parameter<'a> = &'a (dyn ToSql + Sync);

impl Sink {
    /// Connects. Locks are waited for only where an insert meets another one, and less long than
    /// the server takes to look for a deadlock (sink-2).
    pub(crate) async fn open(config: &Checked, tables: Arc<Tables>) -> Result<Self> {
        let session = Session::open(config).await?;
        // Batches are arrays, of which the planner knows nothing: joins go through the index.
        let settings =
            "SET lock_timeout = '500ms'; SET jit = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
                        SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan";
        session.batch_execute(settings).await.map_err(failure::of)?;
        let replica = session.batch_execute("SET session_replication_role = replica").await.is_ok();
        Ok(Sink { session, tables, prepared: HashMap::new(), views: HashMap::new(), replica })
    }

    /// The collection as it is locked and read.
    fn collection(&self, no: CollectionNo) -> Result<&Collection> {
        self.views.get(&no).map_or_else(|| self.tables.get(no), |views| Ok(&views.own))
    }

    async fn statements(&mut self, no: CollectionNo) -> Result<Arc<Statements>> {
        if let Some(found) = self.prepared.get(&no) {
            return Ok(found.clone());
        }
        let collection = self.collection(no)?;
        let texts = Texts::new(&collection.table, &self.tables.ledger_schema);
        let l = format!("{}.ledger", quoted(&self.tables.ledger_schema));
        let parked = format!("{}.parked", quoted(&self.tables.ledger_schema));
        let observed = format!("{}.observed", quoted(&self.tables.ledger_schema));
        let ledger_read = format!(
            "SELECT k.i, l.* FROM unnest($2::bytea[]) WITH ORDINALITY AS k(key, i) CROSS JOIN LATERAL
             (SELECT l.seq, l.vv, l.fp, l.ts, l.tomb, l.schema FROM {l} l WHERE l.collection = $1 AND l.key = k.key"
        );
        let prepare = async |text: &str| self.session.prepare(text).await.map_err(failure::of);
        let made = Statements {
            lock: prepare(&texts.lock).await?,
            read: prepare(&texts.read).await?,
            exist: prepare(&texts.exist).await?,
            insert: prepare(&texts.insert).await?,
            update: prepare(&texts.update).await?,
            delete: prepare(&texts.delete).await?,
            observe: prepare(&texts.observe).await?,
            observed_gone: prepare(&format!("DELETE FROM {observed} WHERE collection = $1 AND key = ANY($2::bytea[])")).await?,
            ledger_lock: prepare(&format!("{ledger_read} FOR UPDATE SKIP LOCKED) l")).await?,
            ledger_read: prepare(&format!("{ledger_read} OFFSET 0) l")).await?,
            // The guard of sink-1, once more: a sink that was overtaken changes nothing.
            ledger_write: prepare(&format!(
                "INSERT INTO {l} (collection, partition, key, seq, vv, fp, ts, tomb, schema)
                 SELECT $1, k.* FROM unnest($2::int4[], $3::bytea[], $4::int8[], $5::bytea[], $6::bytea[], $7::int8[], $8::bool[], $9::int8[]) AS k
                 ON CONFLICT (collection, key) DO UPDATE SET partition = excluded.partition, seq = excluded.seq, vv = excluded.vv,
                   fp = excluded.fp, ts = excluded.ts, tomb = excluded.tomb, schema = excluded.schema WHERE ledger.seq < excluded.seq"
            ))
            .await?,
            park: prepare(&format!(
                "INSERT INTO {parked} (collection, key, seq, fp, position) SELECT $1, k.key, k.seq, k.fp, $5::text::pg_lsn
                 FROM unnest($2::bytea[], $3::int8[], $4::bytea[]) AS k(key, seq, fp)
                 ON CONFLICT (collection, key) DO UPDATE SET seq = excluded.seq, fp = excluded.fp, position = excluded.position"
            ))
            .await?,
            unpark: prepare(&format!("DELETE FROM {parked} WHERE collection = $1 AND key = ANY($2::bytea[])")).await?,
            position: prepare("SELECT pg_current_wal_insert_lsn()::text").await?,
            check: !collection.table.has_binary(),
        };
        let made = Arc::new(made);
        self.prepared.insert(no, made.clone());
        Ok(made)
    }
}

/// The key columns of a batch of keys, one vector per column.
pub(crate) fn key_values(collection: &Collection, keys: &[Key]) -> Result<Vec<Vec<Value>>> {
    let mut columns: Vec<Vec<Value>> = collection.table.key_columns().map(|_| Vec::with_capacity(keys.len())).collect();
    for key in keys {
        let values = collection.table.read_key(key).map_err(|e| {
            Error::new(Code::Unexpected, "a key does not have the form of the collection's keys").caused_by(e)
        })?;
        columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
    }
    Ok(columns)
}

/// As parameters.
pub(crate) fn sent<'a>(collection: &'a Collection, columns: &'a [Vec<Value>]) -> Vec<Sent<'a>> {
    collection.table.key_columns().zip(columns).map(|(column, values)| Sent::new(column, values.iter())).collect()
}

/// A row that was found, or why it cannot be told.
pub(crate) type Stored = std::result::Result<Row, String>;

/// By number of the key, from 0: rows that an answer to `lock` or `read` holds.
pub(crate) fn read_rows(collection: &Collection, answer: &[tokio_postgres::Row]) -> Result<HashMap<usize, Stored>> {
    answer.iter().map(|row| Ok((number(row)?, stored(collection, row)?))).collect()
}

fn stored(collection: &Collection, row: &tokio_postgres::Row) -> Result<Stored> {
    let mut values = Vec::with_capacity(collection.table.fields.len());
    for (i, column) in collection.table.field_columns().enumerate() {
        let raw: Raw<'_> = row.try_get(i + 3).map_err(failure::of)?;
        match raw.0.map_or(Ok(Value::Null), |raw| read(&column.native, Bytes::copy_from_slice(raw))) {
            Ok(value) => values.push(value),
            Err(why) => return Ok(Err(format!("column \"{}\" ({}): {}", column.name, column.sql, why.0))),
        }
    }
    Ok(Ok(Row(values)))
}

/// The number of the key a row belongs to, from 0.
fn number(row: &tokio_postgres::Row) -> Result<usize> {
    let number: i64 = row.try_get(0).map_err(failure::of)?;
    usize::try_from(number - 1).map_err(|_| Error::new(Code::Unexpected, "the server counts keys from nowhere"))
}

fn numbers(answer: &[tokio_postgres::Row]) -> Result<HashSet<usize>> {
    answer.iter().map(number).collect()
}

/// The keys an answer does not hold, with their numbers.
fn missing(answer: &[tokio_postgres::Row], keys: &[Key]) -> Result<(Vec<usize>, Vec<Key>)> {
    let held = numbers(answer)?;
    Ok(keys.iter().enumerate().filter(|(i, _)| !held.contains(i)).map(|(i, key)| (i, key.clone())).unzip())
}

fn seen(table: &Table, row: Option<&Stored>, ledger: Option<LedgerEntry>) -> Seen {
    match row {
        None => Seen::Row { fp: Fp::ABSENT, ledger },
        Some(Ok(row)) => Seen::Row { fp: Fp::of_row(&table.schema, row), ledger },
        Some(Err(why)) => Seen::Unreadable(why.clone()),
    }
}

fn told(rows: HashMap<usize, Stored>) -> HashMap<usize, Row> {
    rows.into_iter().filter_map(|(i, row)| Some((i, row.ok()?))).collect()
}

/// Which of the keys numbered `of` a query finds.
async fn there(
    transaction: &tokio_postgres::Transaction<'_>,
    (statement, parameters): (&tokio_postgres::Statement, &[Parameter<'_>]),
    of: &[usize],
) -> Result<Vec<usize>> {
    let answer = transaction.query(statement, parameters).await.map_err(failure::of)?;
    Ok(numbers(&answer)?.iter().filter_map(|i| of.get(*i).copied()).collect())
}

/// Where a locked row lies: in which place of which part of the table.
fn place(row: &tokio_postgres::Row) -> Result<(String, u32)> {
    Ok((row.try_get(1).map_err(failure::of)?, row.try_get(2).map_err(failure::of)?))
}

fn read_ledger(answer: &[tokio_postgres::Row]) -> Result<HashMap<usize, LedgerEntry>> {
    let one = |row: &tokio_postgres::Row| {
        let entry = ledger::of_row(row, 1);
        let entry =
            entry.ok_or_else(|| Error::new(Code::LogCorrupt, "the ledger holds a row that driftless did not write"))?;
        Ok((number(row)?, entry))
    };
    answer.iter().map(one).collect()
}

fn bytes_of(keys: &[Key]) -> Vec<&[u8]> {
    keys.iter().map(|k| k.0.as_ref()).collect()
}

#[async_trait]
impl Rows for Sink {
    fn norm(&self, collection: CollectionNo, version: &Canonical) -> Result<Fp> {
        let Some(after) = &version.after else { return Ok(Fp::ABSENT) };
        let view = self.views.get(&collection).map(|views| views.of(version.schema)).transpose()?;
        let table = match view {
            Some(view) => &view.table,
            None => &self.tables.get(collection)?.table,
        };
        let refused = |why: String| Error::new(Code::ValueRefused, why).at("table", table.shown());
        let row = match view {
            Some(view) => table.norm(&view.lens.lift(after, &Value::Null)),
            None => table.norm(after),
        };
        let row = row.map_err(refused)?;
        if table.key_of(&row).map_err(|e| refused(e.0.into()))? != version.key {
            let text = "the table would hold this key as another one (topic-4)";
            return Err(Error::new(Code::KeyCollision, text).at("table", table.shown()));
        }
        Ok(Fp::of_row(&table.schema, &row))
    }

    async fn know(&mut self, no: CollectionNo, versions: &[Arc<Schema>], add: &[Arc<str>]) -> Result<()> {
        let collection = self.tables.get(no)?;
        let covers = versions.iter().all(|version| version.fields.len() == collection.table.schema.fields.len());
        if versions.len() < 2 && covers && !self.views.contains_key(&no) {
            return Ok(());
        }
        let views = Views::open(&self.session, collection, versions, add, &self.tables.ledger_schema).await?;
        self.views.insert(no, Arc::new(views));
        self.prepared.remove(&no);
        Ok(())
    }

    async fn ledger(&mut self, collection: CollectionNo, keys: &[Key]) -> Result<Vec<Option<LedgerEntry>>> {
        let statements = self.statements(collection).await?;
        let name = &self.tables.get(collection)?.ledger_name;
        let answer =
            self.session.query(&statements.ledger_read, &[name, &bytes_of(keys)]).await.map_err(failure::of)?;
        let mut found = read_ledger(&answer)?;
        Ok((0..keys.len()).map(|i| found.remove(&i)).collect())
    }

    async fn lock(&mut self, no: CollectionNo, keys: &[Key]) -> Result<Box<dyn Locked + '_>> {
        let statements = self.statements(no).await?;
        let collection = self.collection(no)?.clone();
        let views = self.views.get(&no).cloned();
        // READ COMMITTED: each statement sees what is committed when it begins.
        let transaction = self.session.transaction().await.map_err(failure::of)?;
        let name = collection.ledger_name.clone();
        let bytes = bytes_of(keys);
        let values = key_values(&collection, keys)?;
        let sent_keys = sent(&collection, &values);
        let parameters: Vec<Parameter<'_>> = sent_keys.iter().map(|s| s as Parameter<'_>).collect();
        let of_ledger: [Parameter<'_>; 2] = [&name, &bytes];
        // Ledger rows first (sink-2). The place is asked after the locks: whatever they show was committed
        // before it.
        let (ledger, rows, position) = futures_util::future::try_join3(
            transaction.query(&statements.ledger_lock, &of_ledger),
            transaction.query(&statements.lock, &parameters),
            transaction.query_one(&statements.position, &[]),
        )
        .await
        .map_err(failure::of)?;
        // Then, unlocked, what of the rest exists: not returned under lock, it is somebody else's for the moment.
        let (no_entry, no_row) = (missing(&ledger, keys)?, missing(&rows, keys)?);
        let bytes = bytes_of(&no_entry.1);
        let values = key_values(&collection, &no_row.1)?;
        let sent_keys = sent(&collection, &values);
        let parameters: Vec<Parameter<'_>> = sent_keys.iter().map(|s| s as Parameter<'_>).collect();
        let mut busy = HashSet::new();
        if !no_entry.0.is_empty() {
            busy.extend(there(&transaction, (&statements.ledger_read, &[&name, &bytes]), &no_entry.0).await?);
        }
        if !no_row.0.is_empty() {
            busy.extend(there(&transaction, (&statements.exist, &parameters), &no_row.0).await?);
        }
        let position = Position::end_of(read_lsn(position.try_get(0).map_err(failure::of)?)?);
        let places = rows.iter().map(|row| Ok((number(row)?, place(row)?))).collect::<Result<_>>()?;
        let (mut ledger, rows) = (read_ledger(&ledger)?, read_rows(&collection, &rows)?);
        let seen = |i: usize| {
            let entry = ledger.remove(&i);
            if busy.contains(&i) { Seen::Busy } else { seen(&collection.table, rows.get(&i), entry) }
        };
        let seen = (0..keys.len()).map(seen).collect();
        let index = keys.iter().cloned().enumerate().map(|(i, k)| (k, i)).collect();
        Ok(Box::new(Batch {
            transaction,
            statements,
            collection,
            seen,
            index,
            places,
            position,
            replica: self.replica,
            rows: if views.is_some() { told(rows) } else { HashMap::new() },
            views,
        }))
    }
}
