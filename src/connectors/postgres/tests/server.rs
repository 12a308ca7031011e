//! Starts a private server for this test process, gives each test a database of its own, and ends the
//! server when the process ends, however it ends: the server's guard waits on a pipe.

use super::super::client::Session;
use super::super::client::platform;
use super::super::config::Checked;
use crate::connectors::contract::*;
use crate::event::*;
use crate::runtime::error::Result;
use serde_json::{Value as Json, json};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

pub(crate) struct Server {
    pub port: u16,
    pub folder: String,
    _child: Child,
    _stdin: ChildStdin,
}

const SCRIPT: &str = r#"
set -e
trap '' TERM HUP INT   # whoever ends the tests ends the pipe too, and there is a folder to remove
B=$1; PORT=$2; EXTRA=$3; PRELOAD=$4
D=$(mktemp -d /tmp/driftless-pg-XXXXXX)
"$B/initdb" -D "$D/data" -U postgres --auth=trust --no-sync --encoding=UTF8 --no-locale >/dev/null 2>&1
cat >> "$D/data/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
port = $PORT
unix_socket_directories = '$D'
wal_level = logical
fsync = off
max_connections = 200
max_wal_senders = 200
max_replication_slots = 200
$EXTRA
CONF
if command -v openssl >/dev/null; then
  openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
    -keyout "$D/data/server.key" -out "$D/data/server.crt" >/dev/null 2>&1
  chmod 600 "$D/data/server.key"; cp "$D/data/server.crt" "$D/root.crt"; chmod 644 "$D/root.crt"
  echo "ssl = on" >> "$D/data/postgresql.conf"
fi
cat > "$D/data/pg_hba.conf" <<CONF
local all all trust
host all scram 127.0.0.1/32 scram-sha-256
host all md5 127.0.0.1/32 md5
host all plain 127.0.0.1/32 password
host all all 127.0.0.1/32 trust
local replication all trust
CONF
chmod 755 "$D"
if [ -n "$PRELOAD" ]; then
  printf '%s' "$PRELOAD" | cc -shared -fPIC -w -x c -o "$D/preload.so" "-DPLACE=\"$D\"" -
  export LD_PRELOAD="$D/preload.so"
fi
"$B/postgres" -D "$D/data" >"$D/log" 2>&1 </dev/null &
P=$!
unset LD_PRELOAD
for _ in $(seq 200); do
  if "$B/pg_ctl" -D "$D/data" status >/dev/null 2>&1 && grep -q "ready to accept" "$D/log"; then break; fi
  sleep 0.05
done
echo "$D"
read -r _ || true
kill -INT $P; wait $P || true
rm -rf "$D"
"#;

const CLOCK: &str = include_str!("preload/clock.c");
const DISK: &str = include_str!("preload/disk.c");

impl Server {
    pub(crate) fn start(extra: &str) -> Server {
        Server::start_under("", extra)
    }

    /// A server whose clock is so many seconds ahead of this machine's.
    pub(crate) fn start_with_clock(off_s: i64) -> Server {
        Server::start_under(&CLOCK.replace("OFF_S", &off_s.to_string()), "")
    }

    /// A server whose tables and indexes find no room to grow while a file `full` lies in its folder.
    pub(crate) fn start_with_small_disk() -> Server {
        Server::start_under(DISK, "")
    }

    /// A server that calls these functions where it would call those of the C library.
    fn start_under(preload: &str, extra: &str) -> Server {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
        let mut command = Command::new(if root { "runuser" } else { "sh" });
        if root {
            command.args(["-u", "postgres", "--", "sh"]);
        }
        command.args(["-c", SCRIPT, "server", &binaries(), &port.to_string(), extra, preload]).current_dir("/");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("postgres must be installed");
        let mut folder = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut folder).unwrap();
        let folder = folder.trim().to_owned();
        assert!(!folder.is_empty(), "the server did not start");
        Server { port, folder, _stdin: child.stdin.take().unwrap(), _child: child }
    }

    pub(crate) fn shared() -> &'static Server {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(|| Server::start(""))
    }

    pub(crate) fn settings(&self, database: &str) -> Json {
        json!({"host": self.folder, "port": self.port, "user": "postgres", "database": database, "heartbeat-s": 1})
    }
}

/// The newest server installed, or the one the environment names.
fn binaries() -> String {
    #[expect(clippy::disallowed_methods, reason = "the tests choose the server by it")]
    let named = std::env::var("DRIFTLESS_TEST_POSTGRES_BIN").ok();
    named.unwrap_or_else(|| {
        let found = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        found.map(|e| e.path().join("bin")).max().expect("postgres must be installed").display().to_string()
    })
}

/// One test's database, and a dataset in it.
pub(crate) struct Db {
    pub server: &'static Server,
    pub settings: Json,
    pub dataset: String,
    pub sql: Session,
}

impl Db {
    pub(crate) async fn new(setup: &str) -> Db {
        Db::on(Server::shared(), setup).await
    }

    pub(crate) async fn on(server: &'static Server, setup: &str) -> Db {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}", COUNT.fetch_add(1, Ordering::Relaxed));
        session(server.settings("postgres")).await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        let settings = server.settings(&name);
        let sql = session(settings.clone()).await;
        sql.batch_execute("SET search_path = public").await.unwrap();
        sql.batch_execute(setup).await.unwrap();
        Db { server, settings, dataset: name, sql }
    }

    pub(crate) async fn run(&self, statement: &str) {
        self.sql.batch_execute(statement).await.unwrap();
    }

    pub(crate) fn connector(&self) -> Box<dyn Connector> {
        platform::open(self.settings.clone(), "here").unwrap()
    }

    pub(crate) fn place(name: &str) -> Place {
        Place { name: name.into(), on: json!({}), schema: None, partitions: 6 }
    }

    pub(crate) fn scope(&self, tables: &[&str]) -> Scope {
        Scope { dataset: self.dataset.clone(), collections: tables.iter().map(|t| Db::place(t)).collect() }
    }

    pub(crate) async fn open(&self, tables: &[&str]) -> Box<dyn LogPlatform> {
        log(self.connector().open(&self.scope(tables)).await.unwrap())
    }

    /// A platform and a reader from now on.
    pub(crate) async fn reading(&self, tables: &[&str]) -> (Box<dyn LogPlatform>, Box<dyn Reader>) {
        let platform = self.open(tables).await;
        let from = platform.position().await.unwrap();
        let reader = platform.reader(from).await.unwrap();
        (platform, reader)
    }

    pub(crate) async fn schema(&self, table: &str) -> Schema {
        self.connector().schema(&Db::place(table)).await.unwrap().unwrap()
    }

    pub(crate) async fn confirmed(&self) -> u64 {
        let slot = Checked::parse(self.settings.clone(), "here").unwrap().slot_of(&self.dataset);
        let query = format!("SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{slot}'");
        super::super::position::read_lsn(&self.sql.text(&query).await.unwrap()).unwrap()
    }
}

pub(crate) async fn session(settings: Json) -> Session {
    Session::open(&Checked::parse(settings, "here").unwrap()).await.unwrap()
}

pub(crate) fn log(opened: Opened) -> Box<dyn LogPlatform> {
    match opened {
        Opened::Log(platform) => platform,
        Opened::Hint(_) => panic!("a log platform was expected"),
    }
}

pub(crate) const LONG: Duration = Duration::from_secs(60);

/// Reads until `enough` says so.
pub(crate) async fn read_until(
    reader: &mut dyn Reader,
    enough: impl Fn(&[Transaction]) -> bool,
) -> (Vec<Transaction>, Position) {
    let reading = async {
        let mut found = Vec::new();
        loop {
            let batch = reader.next(BatchLimit::default()).await.unwrap();
            found.extend(batch.transactions);
            if enough(&found) {
                return (found, batch.through);
            }
        }
    };
    tokio::time::timeout(LONG, reading).await.expect("the changes did not come")
}

/// Reads that many changes.
pub(crate) async fn read(reader: &mut dyn Reader, count: usize) -> Vec<Change> {
    let (found, _) = read_until(reader, |t| t.iter().map(|t| t.changes.len()).sum::<usize>() >= count).await;
    let changes: Vec<Change> = found.into_iter().flat_map(|t| t.changes).collect();
    assert_eq!(changes.len(), count, "{changes:?}");
    changes
}

/// The first error of a reader.
pub(crate) async fn read_error(reader: &mut dyn Reader) -> crate::runtime::error::Error {
    let reading = async {
        loop {
            if let Err(error) = reader.next(BatchLimit::default()).await {
                return error;
            }
        }
    };
    tokio::time::timeout(LONG, reading).await.expect("no error came")
}

/// Waits until a query answers with `wanted`.
pub(crate) async fn until(sql: &Session, query: &str, wanted: &str) {
    let waiting = async { while sql.text(query).await.unwrap() != wanted {} };
    tokio::time::timeout(LONG, waiting).await.unwrap_or_else(|_| panic!("{query} never became {wanted}"));
}

/// Everything a snapshot holds.
pub(crate) async fn copy(snapshot: &mut dyn Snapshot) -> Vec<Copied> {
    let mut all = Vec::new();
    while let Some(rows) = snapshot.next(BatchLimit { rows_max: 100, bytes_max: 1 << 20 }).await.unwrap() {
        all.extend(rows);
    }
    all
}

/// The refusal of a call that must not succeed.
pub(crate) fn refused<T>(result: Result<T>) -> crate::runtime::error::Error {
    match result {
        Ok(_) => panic!("it was not refused"),
        Err(error) => error,
    }
}

pub(crate) fn row(change: &Change) -> (&Key, Option<&Row>) {
    match change {
        Change::Row { key, after, .. } => (key, after.as_deref()),
        other => panic!("a row was expected: {other:?}"),
    }
}
