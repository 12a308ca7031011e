//! A connection for statements: the general client with this platform's encryption and the session
//! settings that give each value one text form. The connection ends with its `Session`.

pub(crate) mod catalog;
pub(crate) mod check;
pub(crate) mod platform;
pub(crate) mod setup;

use super::config::{Checked, Host, SslMode};
use super::failure;
use super::wire::connection::SESSION;
use super::wire::tls;
use crate::runtime::error::Result;
use secrecy::ExposeSecret as _;
use std::ops::Deref;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_postgres::{Client, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// A connection and the task that drives it.
pub(crate) struct Session {
    client: Client,
    _task: JoinSet<()>,
}

impl Session {
    /// Connects and sets the session up.
    pub(crate) async fn open(config: &Checked) -> Result<Self> {
        let mut general = tokio_postgres::Config::new();
        match &config.host {
            Host::Tcp(name) => general.host(name),
            Host::Unix(folder) => general.host_path(folder),
        };
        general.port(config.port).user(&config.user).dbname(&config.database).application_name("driftless");
        general.connect_timeout(Duration::from_secs(10));
        if let Some(password) = &config.password {
            general.password(password.expose_secret());
        }
        let at_server =
            |e| failure::of(e).at("server", format!("{}:{}", config.host, config.port)).at("user", &config.user);
        let mut task = JoinSet::new();
        // An end of the connection is told by the statement that meets it.
        let client = match tls::client(config)? {
            None => {
                general.ssl_mode(tokio_postgres::config::SslMode::Disable);
                let (client, connection) = general.connect(NoTls).await.map_err(at_server)?;
                task.spawn(async move { connection.await.unwrap_or(()) });
                client
            }
            Some(tls) => {
                general.ssl_mode(match config.sslmode {
                    SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
                    _ => tokio_postgres::config::SslMode::Require,
                });
                let (client, connection) = general.connect(MakeRustlsConnect::new(tls)).await.map_err(at_server)?;
                task.spawn(async move { connection.await.unwrap_or(()) });
                client
            }
        };
        let settings: String =
            SESSION.iter().map(|(name, value)| format!("SET {name} = {};", literal(value))).collect();
        client.batch_execute(&settings).await.map_err(failure::of)?;
        Ok(Session { client, _task: task })
    }

    /// The one text of a query with one row of one column, empty if there is no row.
    pub(crate) async fn text(&self, statement: &str) -> Result<String> {
        let messages = self.client.simple_query(statement).await.map_err(failure::of)?;
        let found = messages.iter().find_map(|m| match m {
            tokio_postgres::SimpleQueryMessage::Row(row) => Some(row.get(0).unwrap_or_default().to_owned()),
            _ => None,
        });
        Ok(found.unwrap_or_default())
    }
}

impl Deref for Session {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl std::ops::DerefMut for Session {
    fn deref_mut(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// A name in a statement.
#[must_use]
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in a statement.
#[must_use]
pub(crate) fn literal(text: &str) -> String {
    postgres_protocol::escape::escape_literal(text)
}
