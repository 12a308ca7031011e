//! Settings of a Postgres platform: where the server is, who connects, and what things made there are
//! called. Nothing is opened here.

use crate::runtime::error::{Code, Error, Result};
use secrecy::SecretString;
use serde::Deserialize;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr as _;

/// As written in the configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Settings {
    /// `postgres://user:password@host:port/database?sslmode=…`; single settings below win over it.
    url: Option<String>,
    /// Name or address of the server, or the absolute path of its socket folder.
    host: Option<String>,
    port: Option<u16>,
    user: Option<String>,
    password: Option<SecretString>,
    database: Option<String>,
    sslmode: Option<SslMode>,
    /// A PEM file of the authorities to trust; the machine's own if absent.
    sslrootcert: Option<PathBuf>,
    /// Name of the replication slot; `driftless_<dataset>` if absent.
    slot: Option<String>,
    /// Name of the publication; `driftless_<dataset>` if absent.
    publication: Option<String>,
    /// The schema that holds the ledger; `driftless` if absent.
    ledger_schema: Option<String>,
    /// Whether slot and publication are made if they are not there; true if absent.
    create: Option<bool>,
    /// Seconds between heartbeats in an idle log; 10 if absent, 0 for none.
    heartbeat_s: Option<u64>,
    /// Bytes of one transaction kept in memory before it goes to disk; 64 MiB if absent.
    spool_bytes: Option<usize>,
    /// Where large transactions go meanwhile; the machine's temporary folder if absent.
    spool_dir: Option<PathBuf>,
}

/// How a connection is encrypted, in libpq's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SslMode {
    /// Not.
    Disable,
    /// If the server can.
    Prefer,
    /// Always; the server's identity is not checked.
    Require,
    /// Always, and the server's certificate comes from a trusted authority.
    VerifyCa,
    /// Always, and the certificate is for this host as well.
    VerifyFull,
}

/// Where the server listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Host {
    /// A name or an address.
    Tcp(String),
    /// The folder of its socket.
    Unix(PathBuf),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Tcp(name) => f.write_str(name),
            Host::Unix(folder) => write!(f, "{}", folder.display()),
        }
    }
}

/// Settings that cannot be wrong any more.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    /// Where the server listens.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// Who connects.
    pub user: String,
    /// With what password, if any.
    pub password: Option<SecretString>,
    /// To which database.
    pub database: String,
    /// How it is encrypted.
    pub sslmode: SslMode,
    /// Which authorities are trusted.
    pub sslrootcert: Option<PathBuf>,
    /// The slot, if it was named.
    pub slot: Option<String>,
    /// The publication, if it was named.
    pub publication: Option<String>,
    /// The schema of the ledger.
    pub ledger_schema: String,
    /// Whether slot and publication may be made.
    pub create: bool,
    /// Seconds between heartbeats; 0 for none.
    pub heartbeat_s: u64,
    /// Bytes of a transaction kept in memory.
    pub spool_bytes: usize,
    /// Where larger ones go.
    pub spool_dir: PathBuf,
}

impl Checked {
    /// Checks settings; the error names the one that is wrong.
    pub(crate) fn parse(settings: serde_json::Value, platform: &str) -> Result<Self> {
        let wrong = |text: String| Error::new(Code::ConfigInvalid, text).at("platform", platform);
        let mut settings: Settings =
            serde_json::from_value(settings).map_err(|e| wrong(format!("settings of a postgres platform: {e}")))?;
        let mut base = tokio_postgres::Config::new();
        if let Some(url) = settings.url.take() {
            let url = settings.take_tls(&url).map_err(wrong)?;
            base = tokio_postgres::Config::from_str(&url)
                .map_err(|_| wrong("url: expected postgres://user:password@host:port/database".into()))?;
        }
        let host = settings.host.map(|h| if h.starts_with('/') { Host::Unix(h.into()) } else { Host::Tcp(h) });
        let host = host.or_else(|| base.get_hosts().first().map(of_url)).unwrap_or(Host::Tcp("localhost".into()));
        let user = settings.user.or_else(|| base.get_user().map(str::to_owned));
        let user = user.ok_or_else(|| wrong("user: is missing; name it, or give a url with it".into()))?;
        let in_url = base.get_password().map(|p| SecretString::from(String::from_utf8_lossy(p).into_owned()));
        let sslmode = settings.sslmode.unwrap_or(SslMode::Prefer);
        for (what, name) in [("slot", &settings.slot), ("ledger-schema", &settings.ledger_schema)] {
            if name.as_deref().is_some_and(|n| !is_plain(n)) {
                return Err(wrong(format!("{what}: expected up to 63 of a-z, 0-9 and _")));
            }
        }
        Ok(Checked {
            host,
            port: settings.port.or_else(|| base.get_ports().first().copied()).unwrap_or(5432),
            database: settings.database.or_else(|| base.get_dbname().map(str::to_owned)).unwrap_or(user.clone()),
            user,
            password: settings.password.or(in_url),
            sslmode,
            sslrootcert: settings.sslrootcert,
            slot: settings.slot,
            publication: settings.publication,
            ledger_schema: settings.ledger_schema.unwrap_or("driftless".into()),
            create: settings.create.unwrap_or(true),
            heartbeat_s: settings.heartbeat_s.unwrap_or(10),
            spool_bytes: settings.spool_bytes.unwrap_or(64 << 20),
            spool_dir: settings.spool_dir.unwrap_or_else(std::env::temp_dir),
        })
    }

    /// Whether the connection goes through a socket of this machine, which is never encrypted.
    #[must_use]
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.host, Host::Unix(_))
    }

    /// The name of the slot for a dataset.
    #[must_use]
    pub(crate) fn slot_of(&self, dataset: &str) -> String {
        self.slot.clone().unwrap_or_else(|| derived(dataset))
    }

    /// The name of the publication for a dataset.
    #[must_use]
    pub(crate) fn publication_of(&self, dataset: &str) -> String {
        self.publication.clone().unwrap_or_else(|| derived(dataset))
    }
}

impl Settings {
    /// Takes the TLS settings out of a URL; they go further here than in the general client.
    fn take_tls(&mut self, url: &str) -> Result<String, String> {
        let Some((address, query)) = url.split_once('?') else { return Ok(url.to_owned()) };
        let mut rest = Vec::new();
        for pair in query.split('&') {
            match pair.split_once('=') {
                Some(("sslmode", mode)) => {
                    let mode = serde_json::from_value(mode.into());
                    let expected = "url: sslmode must be disable, prefer, require, verify-ca or verify-full";
                    self.sslmode = self.sslmode.or(Some(mode.map_err(|_| expected.to_owned())?));
                }
                Some(("sslrootcert", path)) => self.sslrootcert = self.sslrootcert.take().or(Some(path.into())),
                _ => rest.push(pair),
            }
        }
        Ok(if rest.is_empty() { address.to_owned() } else { format!("{address}?{}", rest.join("&")) })
    }
}

fn of_url(host: &tokio_postgres::config::Host) -> Host {
    match host {
        tokio_postgres::config::Host::Tcp(name) => Host::Tcp(name.clone()),
        tokio_postgres::config::Host::Unix(folder) => Host::Unix(folder.clone()),
    }
}

fn is_plain(name: &str) -> bool {
    let known = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    !name.is_empty() && name.len() <= 63 && name.bytes().all(known)
}

/// Two datasets never share a name: what does not fit is replaced by a hash.
fn derived(dataset: &str) -> String {
    let plain = format!("driftless_{}", dataset.replace('-', "_"));
    if plain.len() <= 63 && !dataset.contains('_') && is_plain(&plain) {
        return plain;
    }
    let hash = blake3::hash(dataset.as_bytes()).to_hex();
    format!("driftless_{}", hash.get(..32).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_url_and_single_settings_go_together() {
        let settings = json!({"url": "postgres://me:secret@db:5433/shop?sslmode=verify-full", "port": 6000});
        let checked = Checked::parse(settings, "p").unwrap();
        assert_eq!(checked.host, Host::Tcp("db".into()));
        assert_eq!((checked.port, &*checked.user, &*checked.database), (6000, "me", "shop"));
        assert_eq!(checked.sslmode, SslMode::VerifyFull);
        assert!(!format!("{checked:?}").contains("secret"));
    }

    #[test]
    fn an_unknown_setting_is_refused_by_name() {
        let error = Checked::parse(json!({"user": "me", "hots": "db"}), "p").unwrap_err();
        assert_eq!(error.code, Code::ConfigInvalid);
        assert!(error.to_string().contains("hots"));
    }

    #[test]
    fn names_made_from_datasets_are_plain_and_differ() {
        assert_eq!(derived("platform-config"), "driftless_platform_config");
        assert_ne!(derived("a-b"), derived("a_b"));
        assert!(is_plain(&derived(&"x".repeat(63))));
    }
}
