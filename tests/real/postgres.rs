//! A real Postgres 15 for these tests, started by scripts/services.sh on a free port, with an
//! application that owns it: `pgbench` writes at a fixed rate. It ends with the test process.

use super::journal::Journal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Every write carries a new token, and notes what it displaced in the same transaction; the journal is
/// no part of the dataset. A deletion has no token, but displaces one.
const SETUP: &str = "
CREATE TABLE notes (id bigint PRIMARY KEY, text text);
CREATE TABLE journal (number bigserial PRIMARY KEY, id bigint, token text, displaced text);
CREATE SEQUENCE tokens;
CREATE FUNCTION write_note(place text, wanted bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE mine text := place || '-' || nextval('tokens'); was text;
BEGIN
  LOOP
    SELECT n.text INTO was FROM notes n WHERE n.id = wanted FOR UPDATE;
    IF FOUND THEN UPDATE notes SET text = mine WHERE id = wanted; EXIT; END IF;
    INSERT INTO notes VALUES (wanted, mine) ON CONFLICT DO NOTHING;
    EXIT WHEN FOUND;
  END LOOP;
  INSERT INTO journal (id, token, displaced) VALUES (wanted, mine, was);
END $$;
CREATE FUNCTION delete_note(wanted bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE was text;
BEGIN
  DELETE FROM notes WHERE id = wanted RETURNING notes.text INTO was;
  IF FOUND THEN INSERT INTO journal (id, displaced) VALUES (wanted, was); END IF;
END $$;
";

/// A running server.
pub(crate) struct Server {
    port: u16,
    folder: tempfile::TempDir,
}

fn services() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/services.sh")
}

impl Server {
    /// Starts a server with empty tables.
    #[expect(clippy::zombie_processes, reason = "the watcher outlives this process")]
    pub(crate) fn start() -> Server {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Server { port, folder: tempfile::tempdir().unwrap() };
        let started = server.script(Command::new(services()).args(["up", "postgres15"])).output().unwrap();
        assert!(started.status.success(), "Postgres did not start:\n{}", String::from_utf8_lossy(&started.stderr));
        // Whoever outlives this process ends the server, also if the test is killed.
        let end = format!("tail --pid={} -f /dev/null; \"$0\" down postgres15; rm -rf \"$1\"", std::process::id());
        let mut watch = Command::new("setsid");
        watch.args(["sh", "-c", &end]).arg(services()).arg(server.folder.path());
        server.script(&mut watch).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        server.ask(SETUP);
        server
    }

    fn script<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("DRIFTLESS_SERVICES", self.folder.path()).env("DRIFTLESS_PG15_PORT", self.port.to_string());
        command.stdin(Stdio::null())
    }

    /// The settings of a platform that is this server.
    pub(crate) fn platform(&self) -> String {
        format!("{{ type: postgres, url: 'postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable' }}", self.port)
    }

    /// Runs statements, and returns what the last one answers.
    pub(crate) fn ask(&self, sql: &str) -> String {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        let answer = psql.args(["-U", "postgres", "-d", "postgres", "-c", sql]).output().unwrap();
        assert!(answer.status.success(), "{sql}: {}", String::from_utf8_lossy(&answer.stderr));
        String::from_utf8(answer.stdout).unwrap().trim().to_owned()
    }

    fn number(&self, sql: &str) -> u64 {
        self.ask(sql).parse().unwrap()
    }

    /// How many writes were acknowledged.
    pub(crate) fn writes(&self) -> u64 {
        self.number("SELECT count(*) FROM journal")
    }

    /// The number of the newest token of a place that has arrived here.
    pub(crate) fn newest_of(&self, place: &str) -> u64 {
        let of = format!("FROM notes WHERE text LIKE '{place}-%'");
        self.number(&format!("SELECT coalesce(max(split_part(text, '-', 2)::bigint), 0) {of}"))
    }

    /// The number of the newest token written here.
    pub(crate) fn newest_token(&self) -> u64 {
        self.number("SELECT last_value FROM tokens")
    }

    pub(crate) fn rows(&self) -> BTreeMap<i64, String> {
        serde_json::from_str(&self.ask("SELECT coalesce(json_object_agg(id, text), '{}') FROM notes")).unwrap()
    }

    pub(crate) fn journal(&self) -> Journal {
        let all: Vec<(Option<String>, Option<String>)> = serde_json::from_str::<Vec<Value>>(
            &self.ask("SELECT coalesce(json_agg(json_build_array(token, displaced)), '[]') FROM journal"),
        )
        .unwrap()
        .into_iter()
        .map(|pair| serde_json::from_value(pair).unwrap())
        .collect();
        let mut journal = Journal::default();
        all.into_iter().for_each(|(token, displaced)| journal.note(token, displaced));
        journal
    }

    /// Starts an application that writes shared keys and keys of its own, and sometimes deletes.
    pub(crate) fn writer(&self, place: &str, shared: u64, own_from: u64, rate: u64) -> Writer<'_> {
        let scripts = [
            ("shared.sql", format!("\\set id random(1, {shared})\nSELECT write_note('{place}', :id);\n"), 10),
            (
                "own.sql",
                format!("\\set id random({own_from}, {})\nSELECT write_note('{place}', :id);\n", own_from + 199),
                9,
            ),
            ("delete.sql", format!("\\set id random(1, {shared})\nSELECT delete_note(:id);\n"), 1),
        ];
        let mut bench = Command::new("pgbench");
        bench.args(["-n", "-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "postgres", "-c", "2"]);
        bench.args(["-R", &rate.to_string(), "-T", "1000000"]);
        for (name, text, weight) in scripts {
            let path = self.folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            bench.arg("-f").arg(format!("{}@{weight}", path.display()));
        }
        let said = std::fs::File::create(self.folder.path().join("pgbench.log")).unwrap();
        bench.arg("postgres").stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        Writer { server: self, pgbench: bench.spawn().unwrap() }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The watcher would end it too, but only after all tests.
        drop(self.script(Command::new(services()).args(["down", "postgres15"])).output());
    }
}

/// A running application.
pub(crate) struct Writer<'a> {
    server: &'a Server,
    pgbench: Child,
}

impl Writer<'_> {
    /// Stops it, and returns when what it had begun is over: what was committed is in the journal.
    pub(crate) fn stop(mut self) {
        let ended = self.pgbench.try_wait().unwrap();
        let said = std::fs::read_to_string(self.server.folder.path().join("pgbench.log")).unwrap_or_default();
        assert!(ended.is_none(), "the application ended by itself: {said}");
        self.pgbench.kill().unwrap();
        self.pgbench.wait().unwrap();
        let left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'";
        super::process::until("the application's sessions have ended", || self.server.number(left) == 0);
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        drop(self.pgbench.kill());
        drop(self.pgbench.wait());
    }
}
