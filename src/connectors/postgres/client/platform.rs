//! The platform as the rest of the program sees it: its schema, opening it for a dataset, removing
//! what was made there.

use super::super::config::Checked;
use super::super::position::{read_lsn, write_lsn};
use super::super::reader::changes::{Collection, Tables, Translator, no_identity};
use super::super::reader::{LogReader, Watch};
use super::super::rows::Sink;
use super::super::rows::exclusive::Destination;
use super::super::rows::ledger;
use super::super::snapshot::TableSnapshot;
use super::super::wire::connection::Connection;
use super::super::wire::pump::Pump;
use super::catalog::{Table, types};
use super::check;
use super::setup::{Setup, Slot, identify};
use super::{Session, quoted};
use crate::connectors::contract::{
    CollectionNo, Connector, Exclusive, Finding, LogPlatform, Opened, Place, Reader, Rows, Scope, Snapshot,
};
use crate::event::{Key, Position, Schema, Seq};
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

/// A configured Postgres.
pub(crate) struct Postgres {
    config: Arc<Checked>,
}

/// Checks the settings and makes the connector.
pub(crate) fn open(settings: serde_json::Value, platform: &str) -> Result<Box<dyn Connector>> {
    Ok(Box::new(Postgres { config: Arc::new(Checked::parse(settings, platform)?) }))
}

/// A Postgres opened for one dataset.
pub(crate) struct PostgresLog {
    config: Arc<Checked>,
    dataset: String,
    scope: Scope,
    tables: Arc<Tables>,
}

impl Tables {
    /// As they are now.
    async fn read(session: &Session, scope: &Scope, config: &Checked) -> Result<Tables> {
        let mut list = Vec::with_capacity(scope.collections.len());
        for place in &scope.collections {
            let table = Table::read(session, place).await?.ok_or_else(|| {
                let text = "the table is not there, or the user may not see it; create it, or name it with on: { table: schema.name }";
                Error::new(Code::TableMissing, text).at("collection", &place.name).at("on", &place.on)
            })?;
            list.push(Collection {
                ledger_name: ledger::name(&scope.dataset, &place.name),
                partitions: place.partitions,
                table: Arc::new(table),
            });
        }
        Ok(Tables { ledger_schema: config.ledger_schema.clone(), list })
    }
}

async fn supported(session: &Session, config: &Checked) -> Result<()> {
    let version: i64 = session.text("SHOW server_version_num").await?.parse().unwrap_or(0);
    if version < 140_000 {
        let text = "the server is older than Postgres 14, whose log lacks what is needed; upgrade it";
        return Err(Error::new(Code::ConfigUnsupported, text).at("server", &config.host));
    }
    Ok(())
}

#[async_trait]
impl Connector for Postgres {
    async fn check(&self, scope: Option<&Scope>) -> Result<Vec<Finding>> {
        let session = match Session::open(&self.config).await {
            Ok(session) => session,
            Err(error) => return Ok(vec![check::of_error(&error)]),
        };
        let mut findings = check::server(&session).await?;
        if let Some(scope) = scope {
            for place in &scope.collections {
                match Table::read(&session, place).await {
                    Ok(Some(table)) => findings.extend(check::table(&session, &table, &self.config).await?),
                    Ok(None) => findings.push(check::missing(place)),
                    Err(error) => findings.push(check::of_error(&error)),
                }
            }
            findings.extend(check::slot(&session, &self.config.slot_of(&scope.dataset)).await?);
        }
        Ok(findings)
    }

    fn tells_forms(&self) -> bool {
        true
    }

    async fn schema(&self, place: &Place) -> Result<Option<Schema>> {
        let session = Session::open(&self.config).await?;
        let place = Place { schema: None, ..place.clone() };
        Ok(Table::read(&session, &place).await?.map(|table| Schema::clone(&table.schema)))
    }

    async fn open(&self, scope: &Scope) -> Result<Opened> {
        let session = Session::open(&self.config).await?;
        supported(&session, &self.config).await?;
        let tables = Tables::read(&session, scope, &self.config).await?;
        ledger::prepare(&session, &self.config.ledger_schema).await?;
        Ok(Opened::Log(Box::new(PostgresLog {
            config: self.config.clone(),
            dataset: scope.dataset.clone(),
            scope: scope.clone(),
            tables: Arc::new(tables),
        })))
    }

    async fn exclusive(&self, scope: &Scope) -> Result<Arc<dyn Exclusive>> {
        let mut session = Session::open(&self.config).await?;
        supported(&session, &self.config).await?;
        let tables = Tables::read(&session, scope, &self.config).await?;
        Ok(Arc::new(Destination::open(&mut session, self.config.clone(), tables).await?))
    }

    async fn remove(&self, scope: &Scope) -> Result<Vec<Finding>> {
        let session = Session::open(&self.config).await?;
        let names: Vec<String> = scope.collections.iter().map(|c| ledger::name(&scope.dataset, &c.name)).collect();
        Setup { config: &self.config, dataset: &scope.dataset }.remove(&session, &names).await
    }
}

impl PostgresLog {
    /// Sees to it that changes are kept for this dataset from now on (read-6, read-7).
    async fn captured(&self) -> Result<(Session, Connection, Slot)> {
        if let Some(c) = self.tables.list.iter().find(|c| c.table.identity == b'n') {
            return Err(no_identity(&c.table.shown()));
        }
        let session = Session::open(&self.config).await?;
        let mut connection = Connection::open(&self.config).await?;
        let identity = identify(&mut connection).await?;
        let slot = self.setup().capture(&session, &self.tables, &identity).await?;
        Ok((session, connection, slot))
    }

    fn setup(&self) -> Setup<'_> {
        Setup { config: &self.config, dataset: &self.dataset }
    }

    /// The statement that begins the stream. Binary values only if all of them are understood.
    fn start(&self, is_binary: bool, version: u32, from: Position) -> String {
        let protocol = match version {
            160_000.. => 4,
            150_000.. => 3,
            _ => 2,
        };
        let publication = quoted(&self.config.publication_of(&self.dataset)).replace('\'', "''");
        // A transaction read in part is asked for again, so the slot's own beginning is taken then.
        let from = if from.ordinal == u64::MAX { from.commit } else { 0 };
        format!(
            "START_REPLICATION SLOT {} LOGICAL {} (proto_version '{protocol}', publication_names '{publication}', \
             messages 'true', streaming 'on', binary '{is_binary}')",
            quoted(&self.config.slot_of(&self.dataset)),
            write_lsn(from)
        )
    }
}

#[async_trait]
impl LogPlatform for PostgresLog {
    async fn position(&self) -> Result<Position> {
        let (session, _, slot) = self.captured().await?;
        let now = read_lsn(&session.text("SELECT pg_current_wal_insert_lsn()").await?)?;
        Ok(Position::end_of(now.max(slot.confirmed)))
    }

    async fn reader(&self, from: Position) -> Result<Box<dyn Reader>> {
        let (session, connection, slot) = self.captured().await?;
        self.setup().admits(&session, &slot, from).await?;
        let version = session.text("SHOW server_version_num").await?.parse().unwrap_or(0);
        let patience = session.text("SELECT setting FROM pg_settings WHERE name = 'wal_sender_timeout'").await?;
        let patience_ms: u64 = patience.parse().unwrap_or(60_000);
        let report_ms = if patience_ms == 0 { 10_000 } else { (patience_ms / 4).clamp(100, 10_000) };
        // As the tables are now: what they were at a place of the log, the log tells.
        let tables = Tables::read(&session, &self.scope, &self.config).await?;
        let (config, dataset, published) = (self.config.clone(), self.dataset.clone(), tables.published());
        let translator = Translator::new(Arc::new(tables), types(&session).await?);
        let (stream, buffer) = connection.start(&self.start(translator.is_binary(), version, from)).await?;
        let pump = Pump::new(stream, buffer, Duration::from_millis(report_ms));
        Ok(Box::new(LogReader::new(pump, translator, Watch { config, dataset, published }, from)))
    }

    async fn snapshot(&self, collection: CollectionNo, after: Option<&Key>) -> Result<Box<dyn Snapshot>> {
        // The slot first: what is committed behind the snapshot must be kept.
        let (session, _, _) = self.captured().await?;
        let tables = Tables::read(&session, &self.scope, &self.config).await?;
        let wanted = self.scope.collections.get(usize::from(collection)).and_then(|place| place.schema.clone());
        let copy = TableSnapshot::open(&self.config, collection, tables.get(collection)?, after, wanted.as_ref());
        Ok(Box::new(copy.await?))
    }

    async fn rows(&self) -> Result<Box<dyn Rows>> {
        Ok(Box::new(Sink::open(&self.config, self.tables.clone()).await?))
    }

    async fn ledger_tops(&self, collection: CollectionNo, limit: usize) -> Result<Vec<(Key, Seq)>> {
        let session = Session::open(&self.config).await?;
        ledger::tops(&session, &self.tables.ledger_schema, &self.tables.get(collection)?.ledger_name, limit).await
    }
}
