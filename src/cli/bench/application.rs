//! The applications that own the databases: they make tables, load them, write at a steady rate, and
//! look at what is there.

use crate::runtime::error::{Code, Error, Result};
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};

const TABLES: &str = include_str!("tables.sql");
const LOAD: &str = include_str!("load.sql");
const CLEAN: &str = include_str!("clean.sql");
const DROP_SLOTS: &str = "select pg_drop_replication_slot(slot_name) from pg_replication_slots
    where slot_name like 'driftless\\_bench\\_%' and database = current_database()";

/// A connection to a database.
pub(super) struct Application {
    client: Client,
    _connection: JoinSet<()>,
}

impl Application {
    /// Connects.
    pub(super) async fn connect(url: &str) -> Result<Self> {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.map_err(|error| {
            let text = "the database to measure with cannot be reached; give its address as postgres://user@host:port/database";
            Error::new(Code::SourceUnreachable, text).caused_by(error)
        })?;
        let mut task = JoinSet::new();
        task.spawn(async move {
            // What went wrong is told to whoever asks next.
            drop(connection.await);
        });
        Ok(Application { client, _connection: task })
    }

    /// Runs statements.
    pub(super) async fn run(&self, sql: &str) -> Result<()> {
        self.client.batch_execute(sql).await.map_err(refused)
    }

    /// What a query answers in its one row, as a number.
    pub(super) async fn number(&self, sql: &str) -> Result<i64> {
        let row = self.client.query_one(sql, &[]).await.map_err(refused)?;
        row.try_get(0).map_err(refused)
    }

    /// The rows a query answers, of three numbers each.
    pub(super) async fn numbers(&self, sql: &str, from: i64) -> Result<Vec<[i64; 3]>> {
        let rows = self.client.query(sql, &[&from]).await.map_err(refused)?;
        rows.iter()
            .map(|row| Ok([row.try_get(0)?, row.try_get(1)?, row.try_get(2)?]))
            .collect::<Result<_, _>>()
            .map_err(refused)
    }

    /// Makes the tables anew, empty.
    pub(super) async fn tables(&self) -> Result<()> {
        self.clean().await?;
        self.run(TABLES).await
    }

    /// Loads the first `thousands` thousand rows.
    pub(super) async fn load(&self, thousands: u64) -> Result<()> {
        self.run(&LOAD.replace("{rows}", &(thousands * 1000).to_string())).await
    }

    /// Takes everything away again.
    pub(super) async fn clean(&self) -> Result<()> {
        self.run(CLEAN).await?;
        // A sender that was ended needs a moment to let its slot go.
        let mut left = 100;
        while let Err(error) = self.run(DROP_SLOTS).await {
            left -= 1;
            if left == 0 {
                return Err(error);
            }
            self.run("select pg_sleep(0.05)").await?;
        }
        Ok(())
    }
}

fn refused(error: tokio_postgres::Error) -> Error {
    Error::new(
        Code::SourceUnreachable,
        "the database refuses what the measurement needs; it must be a superuser's, or one made for this",
    )
    .caused_by(error)
}
