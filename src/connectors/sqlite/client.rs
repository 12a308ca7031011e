//! Connections to the file, and the platform as `Connector` and `LogPlatform`. SQLite's calls block,
//! so each runs on a thread for blocking work; a call whose waiter has gone still ends in order.

use super::config::{Settings, table_of};
use super::failure::{failed, failing};
use super::position::{self, Epochs};
use super::reader::FileReader;
use super::rows::FileRows;
use super::rows::exclusive::{self, Destination};
use super::snapshot::FileSnapshot;
use super::wire::install::{self, Installed};
use super::wire::ledger;
use super::wire::table::Table;
use super::wire::views;
use crate::connectors::contract::{
    CollectionNo, Connector, Exclusive, Finding, LogPlatform, Opened, Place, Reader, Rows, Scope, Snapshot,
};
use crate::event::{Key, Position, Schema, Seq};
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The oldest page cache that does not thrash, in KiB (as SQLite's negative number).
const CACHE_KIB: i64 = 4096;
/// Statements kept prepared per connection.
const STATEMENTS: usize = 64;

/// `Descriptor::open`.
pub(super) fn open(settings: serde_json::Value, platform: &str) -> Result<Box<dyn Connector>> {
    let settings = Settings::checked(settings, platform)?;
    Ok(Box::new(Sqlite(Client { settings: Arc::new(settings), platform: platform.into() })))
}

/// Opens connections.
#[derive(Clone, Debug)]
pub(super) struct Client {
    settings: Arc<Settings>,
    platform: Arc<str>,
}

impl Client {
    /// A new connection. Never creates the file: a wrong path must not look like an empty database.
    pub(super) fn connect(&self) -> Result<Connection> {
        let opening = |cause| failed("opening the SQLite file", cause);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connect = || {
            let conn = Connection::open_with_flags(&self.settings.path, flags)?;
            conn.busy_timeout(Duration::from_millis(u64::from(self.settings.busy_timeout_ms)))?;
            conn.set_prepared_statement_cache_capacity(STATEMENTS);
            // FULL: a commit acknowledged to the protocol must survive a power cut.
            conn.execute_batch(&format!(
                "PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL; PRAGMA cache_size = -{CACHE_KIB}"
            ))?;
            Ok(conn)
        };
        connect().map_err(|e| self.here(opening(e)))
    }

    /// Runs `work` on a new connection.
    pub(super) async fn once<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let client = self.clone();
        let done = blocking(move || client.connect().and_then(|mut conn| work(&mut conn))).await;
        done.map_err(|e| self.here(e))
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.settings.path
    }

    /// Says where an error happened.
    pub(super) fn here(&self, error: Error) -> Error {
        if error.at.iter().any(|(what, _)| *what == "platform") {
            return error;
        }
        error.at("platform", &self.platform).at("file", self.settings.path.display())
    }
}

/// A connection that blocking calls share in turn.
pub(super) type Shared = Arc<Mutex<Connection>>;

/// Runs `work` where it may block.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::new(Code::Unexpected, "a call into SQLite did not come back").caused_by(e))?
}

/// A table of the dataset, as `open` found it.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    /// Its number in the dataset.
    pub(super) no: CollectionNo,
    /// Its numbers in the file.
    pub(super) installed: Installed,
    /// The table, as far as it has columns for the dataset's fields.
    pub(super) table: Table,
    /// The dataset's schema it was opened with.
    pub(super) wanted: Arc<Schema>,
}

/// What all connections of an opened dataset share.
#[derive(Debug)]
pub(super) struct Dataset {
    /// Opens connections.
    pub(super) client: Client,
    /// The dataset.
    pub(super) name: String,
    /// Its tables by number.
    pub(super) tables: Vec<Placed>,
}

impl Dataset {
    /// The table of a collection.
    pub(super) fn table(&self, no: CollectionNo) -> Result<&Placed> {
        self.tables
            .get(usize::from(no))
            .ok_or_else(|| Error::new(Code::Unexpected, format!("there is no collection {no}")))
    }
}

struct Sqlite(Client);

#[async_trait]
impl Connector for Sqlite {
    async fn check(&self, scope: Option<&Scope>) -> Result<Vec<Finding>> {
        let scope = scope.cloned();
        let client = self.0.clone();
        self.0.once(move |conn| check(conn, client.path(), scope.as_ref())).await
    }

    async fn schema(&self, place: &Place) -> Result<Option<Schema>> {
        let (table, name) = (table_of(&place.name, &place.on)?, place.name.clone());
        let found = self.0.once(move |conn| Table::load(conn, &table, &name, None)).await?;
        Ok(found.map(|table| Schema::clone(&table.schema)))
    }

    async fn open(&self, scope: &Scope) -> Result<Opened> {
        let wanted = scope.clone();
        let tables = self.0.once(move |conn| install_all(conn, &wanted)).await?;
        let dataset = Dataset { client: self.0.clone(), name: scope.dataset.clone(), tables };
        Ok(Opened::Log(Box::new(FilePlatform(Arc::new(dataset)))))
    }

    async fn exclusive(&self, scope: &Scope) -> Result<Arc<dyn Exclusive>> {
        let wanted = scope.clone();
        let tables = self.0.once(move |conn| admit_all(conn, &wanted)).await?;
        let dataset = Dataset { client: self.0.clone(), name: scope.dataset.clone(), tables };
        Ok(Arc::new(Destination(Arc::new(dataset))))
    }

    async fn remove(&self, scope: &Scope) -> Result<Vec<Finding>> {
        let dataset = scope.dataset.clone();
        let remove = move |tx: &Connection| {
            exclusive::remove(tx, &dataset)?;
            install::remove(tx, &dataset)
        };
        self.0.once(move |conn| immediate(conn, remove)).await?;
        Ok(Vec::new())
    }
}

/// Runs `work` in a write transaction.
pub(super) fn immediate<T>(conn: &mut Connection, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
    let tx = conn
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failing("taking the file's write lock"))?;
    let done = work(&tx)?;
    tx.commit().map_err(failing("committing"))?;
    Ok(done)
}

/// Makes tables and triggers for a whole dataset, all or nothing.
fn install_all(conn: &mut Connection, scope: &Scope) -> Result<Vec<Placed>> {
    immediate(conn, |tx| {
        install::tables(tx, &scope.dataset)?;
        let place = |(no, place): (CollectionNo, &Place)| {
            let name = table_of(&place.name, &place.on)?;
            // What may be missing is added when a version needs it (read-10).
            let part = place.schema.as_ref().map(|schema| views::part(tx, &name, schema)).transpose()?;
            let table = Table::load(tx, &name, &place.name, part)?.ok_or_else(|| {
                let text = format!("there is no table {name}; create it, or name another with on: {{ table: … }}");
                Error::new(Code::TableMissing, text).at("collection", &place.name)
            })?;
            let installed = install::collection(tx, &scope.dataset, &place.name, &table)?;
            let wanted = place.schema.clone().unwrap_or_else(|| table.schema.clone());
            Ok(Placed { no, installed, table, wanted })
        };
        (0..).zip(&scope.collections).map(place).collect()
    })
}

/// Makes the marks for a whole dataset that nobody else writes here, all or nothing.
fn admit_all(conn: &mut Connection, scope: &Scope) -> Result<Vec<Placed>> {
    immediate(conn, |tx| {
        let place = |(no, place): (CollectionNo, &Place)| {
            let table = found(tx, place)?;
            // The marks are kept under the name that the records' schema has.
            exclusive::admit(tx, &scope.dataset, &table.schema.name, &table.name, place.partitions)?;
            let wanted = table.schema.clone();
            Ok(Placed { no, installed: Installed { collection: 0, layout: 0 }, table, wanted })
        };
        (0..).zip(&scope.collections).map(place).collect()
    })
}

/// The table of a place.
fn found(conn: &Connection, place: &Place) -> Result<Table> {
    let name = table_of(&place.name, &place.on)?;
    Table::load(conn, &name, &place.name, place.schema.clone())?.ok_or_else(|| {
        let text = format!("there is no table {name}; create it, or name another with on: {{ table: … }}");
        Error::new(Code::TableMissing, text).at("collection", &place.name)
    })
}

/// What `doctor` looks at.
fn check(conn: &mut Connection, path: &Path, scope: Option<&Scope>) -> Result<Vec<Finding>> {
    let mut found = Vec::new();
    let mut note = |code, fatal, text: String| found.push(Finding { code, fatal, text });
    let asked =
        |sql: &str| conn.query_row(sql, [], |row| row.get::<_, String>(0)).map_err(failing("checking the file"));
    let mode = asked("PRAGMA journal_mode")?;
    if mode != "wal" {
        let text = format!(
            "the journal mode is {mode}: a first copy holds up the application's commits, and the reverse. Run PRAGMA journal_mode = WAL once"
        );
        note("journal_mode", false, text);
    }
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    if folder.metadata().is_ok_and(|m| m.permissions().readonly()) {
        note(
            Code::SourceDenied.as_str(),
            true,
            format!("the directory {} is read-only; SQLite keeps its journal there", folder.display()),
        );
    }
    if let Err(e) = immediate(conn, |_| Ok(())) {
        note(e.code.as_str(), e.code != Code::StoreBusy, e.to_string());
    }
    for place in scope.map_or(&[][..], |s| &s.collections) {
        let table = table_of(&place.name, &place.on)?;
        match Table::load(conn, &table, &place.name, place.schema.clone()) {
            Ok(Some(_)) => {}
            Ok(None) => note(Code::TableMissing.as_str(), true, format!("there is no table {table}")),
            Err(e) => note(e.code.as_str(), true, e.to_string()),
        }
        let others: i64 = conn
            .query_row(
                "SELECT count(*) FROM pragma_index_list(?1) WHERE \"unique\" AND origin <> 'pk'",
                [&table],
                |row| row.get(0),
            )
            .map_err(failing("checking the table's indexes"))?;
        if others > 0 {
            let text = format!(
                "table {table} has unique columns besides its key: REPLACE that removes another row by them escapes triggers \
                 unless the application sets PRAGMA recursive_triggers = ON"
            );
            note("replace_escapes", false, text);
        }
    }
    Ok(found)
}

struct FilePlatform(Arc<Dataset>);

#[async_trait]
impl LogPlatform for FilePlatform {
    async fn position(&self) -> Result<Position> {
        self.0
            .client
            .once(|conn| {
                let tx = conn.transaction().map_err(failing("reading the position"))?;
                Ok(Epochs::load(&tx)?.end_of(position::newest(&tx)?))
            })
            .await
    }

    async fn reader(&self, from: Position) -> Result<Box<dyn Reader>> {
        let opened = self.0.clone();
        let noted = self.0.client.once(move |conn| views::noted(conn, &opened)).await?;
        Ok(Box::new(FileReader::open(Arc::new(noted), from).await?))
    }

    async fn snapshot(&self, collection: CollectionNo, after: Option<&Key>) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(FileSnapshot::open(self.0.clone(), collection, after.cloned()).await?))
    }

    async fn rows(&self) -> Result<Box<dyn Rows>> {
        Ok(Box::new(FileRows::open(self.0.clone()).await?))
    }

    async fn ledger_tops(&self, collection: CollectionNo, limit: usize) -> Result<Vec<(Key, Seq)>> {
        let dataset = self.0.clone();
        let read = move |conn: &mut Connection| {
            let placed = dataset.table(collection)?.installed.collection;
            ledger::tops(conn, placed, limit).map_err(failing("reading the newest of the ledger"))
        };
        self.0.client.once(read).await
    }
}
