//! A destination that nobody else writes (who-3): no ledger, no locks on rows, nothing read back. A batch is
//! one deletion and one upsert of whole arrays, and the partition's mark in `driftless.applied`, in one
//! transaction. The mark is moved first and only from where it was left: that row's lock is what two
//! sinks take turns by.
//!
//! Not checked here: whether a column without a binary form stored a value as it was sent, and whether
//! somebody else has written.

use super::super::client::{Session, quoted};
use super::super::config::Checked;
use super::super::failure;
use super::super::reader::changes::{Collection, Tables};
use super::sql::{Sent, upsert};
use super::{key_values, sent};
use crate::connectors::contract::{CollectionNo, Exclusive, ExclusiveWriter};
use crate::event::{Canonical, Key, Link, Row};
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use std::sync::Arc;
use tokio_postgres::Statement;
use tokio_postgres::types::ToSql;

/// An opened destination.
pub(crate) struct Destination {
    config: Arc<Checked>,
    tables: Arc<Tables>,
}

type Parameter<'a> = &'a (dyn ToSql + Sync);

impl Destination {
    /// Makes the marks, unless a table holds rows that no mark speaks of.
    pub(crate) async fn open(session: &mut Session, config: Arc<Checked>, tables: Tables) -> Result<Self> {
        let s = quoted(&config.ledger_schema);
        let make = format!(
            "BEGIN;
             SELECT pg_advisory_xact_lock(7254119036);
             CREATE SCHEMA IF NOT EXISTS {s};
             CREATE TABLE IF NOT EXISTS {s}.applied (
                 collection text COLLATE \"C\" NOT NULL, partition int4 NOT NULL, upto int8 NOT NULL, seq int8 NOT NULL,
                 id int8 NOT NULL, PRIMARY KEY (collection, partition)) WITH (fillfactor = 50);
             COMMIT;"
        );
        let there = format!("SELECT to_regclass('{s}.applied') IS NOT NULL");
        if session.text(&there).await? != "t" {
            let made = session.batch_execute(&make).await;
            if made.is_err() {
                session.batch_execute("ROLLBACK").await.map_err(failure::of)?;
            }
            made.map_err(failure::of)?;
        }
        for collection in &tables.list {
            admit(session, &s, collection).await?;
        }
        Ok(Destination { config, tables: Arc::new(tables) })
    }
}

/// Marks for all partitions, if the table is empty or was written here.
async fn admit(session: &mut Session, schema: &str, collection: &Collection) -> Result<()> {
    let transaction = session.transaction().await.map_err(failure::of)?;
    // Two nodes may start together: one looks and makes, the other finds.
    transaction.batch_execute("SELECT pg_advisory_xact_lock(7254119037)").await.map_err(failure::of)?;
    let name = &collection.ledger_name;
    let known = format!("SELECT EXISTS (SELECT FROM {schema}.applied WHERE collection = $1)");
    let known: bool = transaction.query_one(&known, &[name]).await.map_err(failure::of)?.get(0);
    let holds = format!("SELECT EXISTS (SELECT FROM {})", collection.table.quoted());
    if !known && transaction.query_one(&holds, &[]).await.map_err(failure::of)?.get::<_, bool>(0) {
        let text = "the table holds rows, and no mark says that they were written here: an exclusive destination \
                    begins empty, so that nothing of others is overwritten. Empty the table, or leave \
                    `guarantee: exclusive` out: then the rows are compared";
        return Err(Error::new(Code::SourceSettings, text).at("table", collection.table.shown()));
    }
    let marks = format!(
        "INSERT INTO {schema}.applied (collection, partition, upto, seq, id)
         SELECT $1, p, 0, 0, 0 FROM generate_series(0, $2::int4 - 1) AS p ON CONFLICT DO NOTHING"
    );
    let partitions = i32::try_from(collection.partitions).unwrap_or(i32::MAX);
    transaction.execute(&marks, &[name, &partitions]).await.map_err(failure::of)?;
    transaction.commit().await.map_err(failure::of)
}

#[async_trait]
impl Exclusive for Destination {
    async fn writer(&self, collection: CollectionNo, partition: u32) -> Result<Box<dyn ExclusiveWriter>> {
        let collection = self.tables.get(collection)?.clone();
        Ok(Box::new(Writer::open(&self.config, collection, partition).await?))
    }
}

/// One partition's writer.
struct Writer {
    session: Session,
    collection: Collection,
    partition: i32,
    mark: Statement,
    advance: Statement,
    upsert: Statement,
    delete: Statement,
}

impl Writer {
    async fn open(config: &Checked, collection: Collection, partition: u32) -> Result<Self> {
        let session = Session::open(config).await?;
        // Batches are arrays, of which the planner knows nothing: joins go through the index.
        let settings = "SET jit = off; SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_seqscan = off;
                        SET plan_cache_mode = force_generic_plan";
        session.batch_execute(settings).await.map_err(failure::of)?;
        // sink-5: triggers and foreign keys are left to the origin of the rows, if the role may.
        let replica = session.batch_execute("SET session_replication_role = replica").await;
        tracing::debug!(replica = replica.is_ok(), "an exclusive destination is opened");
        let texts = upsert(&collection.table);
        let s = quoted(&config.ledger_schema);
        let prepare = async |text: &str| session.prepare(text).await.map_err(failure::of);
        let here = "WHERE collection = $1 AND partition = $2";
        let mark = prepare(&format!("SELECT upto, seq, id FROM {s}.applied {here}")).await?;
        let advance = prepare(&format!(
            "UPDATE {s}.applied SET upto = $3, seq = $4, id = $5 {here} AND upto = $6 AND seq = $7 AND id = $8"
        ))
        .await?;
        let upsert = prepare(&texts.put).await?;
        let delete = prepare(&texts.delete).await?;
        let partition = i32::try_from(partition).unwrap_or(i32::MAX);
        Ok(Writer { session, collection, partition, mark, advance, upsert, delete })
    }

    /// One transaction. With `anew` all rows are removed first: a way through unique constraints (sink-6).
    async fn attempt(&mut self, batch: &Batch, from: Link, to: Link, anew: bool) -> Result<bool> {
        let table = &self.collection.table;
        let column = |(i, column)| Sent::new(column, batch.rows.iter().filter_map(move |row: &Row| row.get(i)));
        let fields: Vec<Sent<'_>> = table.field_columns().enumerate().map(column).collect();
        let fields: Vec<Parameter<'_>> = fields.iter().map(|s| s as Parameter<'_>).collect();
        let gone: Vec<Key> = if anew { batch.all.clone() } else { batch.gone.clone() };
        let values = key_values(&self.collection, &gone)?;
        let keys = sent(&self.collection, &values);
        let keys: Vec<Parameter<'_>> = keys.iter().map(|s| s as Parameter<'_>).collect();
        let number = |n: u64| n.cast_signed();
        let (upto, seq, id) = (number(to.offset), number(to.seq), number(to.id));
        let (was_upto, was_seq, was_id) = (number(from.offset), number(from.seq), number(from.id));
        let name = &self.collection.ledger_name;
        let mark: [Parameter<'_>; 8] = [name, &self.partition, &upto, &seq, &id, &was_upto, &was_seq, &was_id];
        let transaction = self.session.transaction().await.map_err(refused)?;
        let moved = transaction.execute(&self.advance, &mark);
        let delete = async { if gone.is_empty() { Ok(0) } else { transaction.execute(&self.delete, &keys).await } };
        let put =
            async { if batch.rows.is_empty() { Ok(0) } else { transaction.execute(&self.upsert, &fields).await } };
        // Sent one behind the other, answered together. The mark first: who has lost it waits here.
        let (moved, _, put) = futures_util::future::try_join3(moved, delete, put).await.map_err(refused)?;
        if moved != 1 {
            return Ok(false);
        }
        let wanted = batch.rows.len() as u64;
        if put != wanted {
            let text = format!("{put} of {wanted} rows were written: a trigger or rule of the table swallows writes");
            return Err(Error::new(Code::ConstraintViolated, text).at("table", table.shown()));
        }
        transaction.commit().await.map_err(refused)?;
        Ok(true)
    }
}

/// What a batch leaves.
struct Batch {
    rows: Vec<Row>,
    gone: Vec<Key>,
    all: Vec<Key>,
}

impl Batch {
    /// The rows as they will be read back, or the first that cannot be held exactly (P8).
    fn of(collection: &Collection, versions: &[Arc<Canonical>]) -> Result<Batch> {
        let table = &collection.table;
        let mut batch = Batch { rows: Vec::with_capacity(versions.len()), gone: Vec::new(), all: Vec::new() };
        for version in versions {
            let Some(after) = &version.after else {
                batch.gone.push(version.key.clone());
                batch.all.push(version.key.clone());
                continue;
            };
            let refused = |code, why: String| {
                Error::new(code, why).at("table", table.shown()).at("key", format!("{:?}", version.key))
            };
            let row = table.norm(after).map_err(|why| refused(Code::ValueRefused, why))?;
            let key = table.key_of(&row).map_err(|why| refused(Code::ValueRefused, why.0.into()))?;
            if key != version.key {
                return Err(refused(
                    Code::KeyCollision,
                    "the table would hold this key as another one (topic-4)".into(),
                ));
            }
            batch.rows.push(row);
            batch.all.push(key);
        }
        Ok(batch)
    }
}

/// A value that could not be encoded never reached the server.
fn refused(error: tokio_postgres::Error) -> Error {
    let reason = failure::reason(&error);
    if error.as_db_error().is_none() && !error.is_closed() && reason.contains("serializing") {
        return Error::new(Code::ValueRefused, "a value cannot be sent as its column has it").caused_by(error);
    }
    failure::of(error)
}

#[async_trait]
impl ExclusiveWriter for Writer {
    async fn mark(&mut self) -> Result<Link> {
        let name = &self.collection.ledger_name;
        let row = self.session.query_opt(&self.mark, &[name, &self.partition]).await.map_err(failure::of)?;
        let row = row.ok_or_else(|| {
            let text = "the mark of an exclusive destination is gone: what its table holds is not known any more. \
                        Restart the node with an empty table";
            Error::new(Code::SourceIdentity, text).at("table", self.collection.table.shown())
        })?;
        let number = |i: usize| row.get::<_, i64>(i).cast_unsigned();
        Ok(Link { offset: number(0), seq: number(1), id: number(2) })
    }

    async fn write(&mut self, versions: &[Arc<Canonical>], from: Link, to: Link) -> Result<bool> {
        let batch = Batch::of(&self.collection, versions)?;
        match self.attempt(&batch, from, to, false).await {
            Err(error) if error.code == Code::ConstraintViolated => self.attempt(&batch, from, to, true).await,
            done => done,
        }
    }
}
