//! Tables change while the program runs and is killed (read-10): columns come and go on one Postgres, and
//! the other one, a SQLite file and a directory of documents follow. Through the embedded log.

use super::postgres::Server;
use super::process::{Configured, Process, comes_true, logged, typed};
use rusqlite::Connection;
use std::path::Path;

/// How long anything may take.
const WITHIN_MS: u64 = 60_000;

struct World {
    folder: tempfile::TempDir,
    config: String,
    left: Server,
    right: Server,
}

impl Configured for World {
    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn config(&self) -> &str {
        &self.config
    }
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let (left, right) = std::thread::scope(|scope| {
            let (left, right) = (scope.spawn(Server::start), scope.spawn(Server::start));
            (left.join().unwrap(), right.join().unwrap())
        });
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("files")).unwrap();
        let lite = "PRAGMA journal_mode = WAL; CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)";
        Connection::open(root.join("lite.db")).unwrap().execute_batch(lite).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "data-dir: {root}/node
http: {{ listen: '127.0.0.1:{port}' }}
platforms:
  left: {}
  right: {}
  lite: {{ type: sqlite, path: {root}/lite.db }}
  files: {{ type: filesystem, root: {root}/files }}
datasets:
  - name: notes
    source: left
    destinations: [right, lite, files]
    collections: [{{ name: notes, on: {{ files: {{ path: '{{id}}.json' }} }} }}]
",
            left.platform(),
            right.platform(),
            root = root.display(),
        );
        World { folder, config, left, right }
    }

    fn until(&self, what: &str, there: impl FnMut() -> bool) {
        if comes_true(WITHIN_MS, there) {
            return;
        }
        let log = logged(self);
        let tail: Vec<&str> = log.lines().rev().take(40).collect();
        panic!("{what}: not in time\n{:#}\n{}", typed(self, "status").1, tail.join("\n"));
    }

    fn lite(&self, sql: &str) -> String {
        let conn = Connection::open(self.folder.path().join("lite.db")).unwrap();
        conn.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        conn.query_row(sql, [], |row| row.get::<_, Option<String>>(0)).unwrap_or_default().unwrap_or_default()
    }

    fn file(&self, id: u64) -> String {
        let text = std::fs::read_to_string(self.folder.path().join(format!("files/{id}.json"))).unwrap_or_default();
        let Ok(serde_json::Value::Object(members)) = serde_json::from_str(&text) else { return String::new() };
        let shown = members.iter().filter(|(name, _)| *name != "id").map(|(name, value)| format!("{name}={value}"));
        let mut shown: Vec<String> = shown.collect();
        shown.sort();
        shown.join(" ")
    }

    /// Waits until a row is so everywhere; columns that are null do not show.
    fn shows(&self, columns: &str, id: u64, text: &str, file: &str) {
        let sql = format!("SELECT concat_ws(' ', {columns}) FROM notes WHERE id = {id}");
        let has = |server: &Server, column: &str| {
            let there = format!(
                "SELECT count(*) FROM pg_attribute WHERE attrelid = 'notes'::regclass AND attname = '{column}'"
            );
            server.ask(&there) == "1"
        };
        let all = |server: &Server| columns.split(", ").all(|column| has(server, column)) && server.ask(&sql) == text;
        self.until(&format!("left: {text}"), || all(&self.left));
        self.until(&format!("right: {text}"), || all(&self.right));
        let parts: Vec<String> = columns.split(", ").map(|c| format!("coalesce(' ' || {c}, '')")).collect();
        let lite = format!("SELECT ltrim({}) FROM notes WHERE id = {id}", parts.join(" || "));
        self.until(&format!("lite: {text}"), || self.lite(&lite) == text);
        self.until(&format!("files: {file}"), || self.file(id) == file);
    }
}

/// read-10, read-12
#[test]
fn columns_come_and_go_everywhere_and_nothing_is_published_twice() {
    let world = World::new();
    let mut node = Process::start(&world);
    world.left.ask("INSERT INTO notes VALUES (1, 'a'), (2, 'b')");
    world.shows("text", 2, "b", r#"text="b""#);
    // A constant and a volatile default: what stands there is no edit, what is written next has the field.
    world.left.ask("ALTER TABLE notes ADD n int DEFAULT 5, ADD r text DEFAULT 'r' || (random() * 0)::int");
    world.left.ask("INSERT INTO notes (id, text) VALUES (3, 'c')");
    world.shows("text, n, r", 3, "c 5 r0", r#"n=5 r="r0" text="c""#);
    assert_eq!(
        world.right.ask("SELECT count(*) FROM notes WHERE n IS NOT NULL"),
        "1",
        "a default was taken for an edit"
    );
    // From the others, back; a row from before keeps what only one platform has.
    world.right.ask("UPDATE notes SET text = 'B' WHERE id = 2");
    world.until("left has B", || world.left.ask("SELECT concat_ws(' ', text, n) FROM notes WHERE id = 2") == "B 5");
    world.right.ask("UPDATE notes SET n = 6 WHERE id = 3");
    world.shows("text, n, r", 3, "c 6 r0", r#"n=6 r="r0" text="c""#);
    let path = world.folder.path().join("files/3.json");
    std::fs::write(&path, r#"{"text": "C", "n": 7, "r": "r1"}"#).unwrap();
    world.shows("text, n, r", 3, "C 7 r1", r#"n=7 r="r1" text="C""#);
    // Killed where a new form has just been written; what was published stays as it was.
    for (round, column) in ["k1", "k2", "k3"].into_iter().enumerate() {
        let id = 10 + round as u64;
        world.left.ask(&format!(
            "ALTER TABLE notes ADD {column} int; INSERT INTO notes (id, text, {column}) VALUES ({id}, 'k', {id})"
        ));
        node.kill();
        node = Process::start(&world);
        world.until("right follows", || {
            let there = format!(
                "SELECT count(*) FROM pg_attribute WHERE attrelid = 'notes'::regclass AND attname = '{column}'"
            );
            world.right.ask(&there) == "1"
                && world.right.ask(&format!("SELECT {column} FROM notes WHERE id = {id}")) == id.to_string()
        });
    }
    // A dropped column stays where others have it, and comes with no row that is written later.
    world.left.ask("ALTER TABLE notes DROP n, DROP r");
    world.left.ask("UPDATE notes SET text = 'd' WHERE id = 3; INSERT INTO notes (id, text) VALUES (4, 'e')");
    world
        .until("right: 3", || world.right.ask("SELECT concat_ws(' ', text, n, r) FROM notes WHERE id = 3") == "d 7 r1");
    world.until("right: 4", || world.right.ask("SELECT concat_ws(' ', text, n, r) FROM notes WHERE id = 4") == "e");
    world.until("files: 4", || world.file(4) == r#"text="e""#);
    world.right.ask("UPDATE notes SET text = 'f', n = 1 WHERE id = 4");
    world.until("left: 4", || world.left.ask("SELECT text FROM notes WHERE id = 4") == "f");
    world.right.ask("UPDATE notes SET text = 'g' WHERE id = 3");
    world.until("left: 3", || world.left.ask("SELECT text FROM notes WHERE id = 3") == "g");
    world.until("lite: 3", || world.lite("SELECT text FROM notes WHERE id = 3") == "g");
    node.kill();
    let _node = Process::start(&world);
    world.left.ask("INSERT INTO notes (id, text) VALUES (5, 'last')");
    world.until("right: last", || world.right.ask("SELECT text FROM notes WHERE id = 5") == "last");
    assert_eq!(
        typed(&world, "conflicts list").1.as_array().map_or(0, Vec::len),
        0,
        "{:#}",
        typed(&world, "conflicts list").1
    );
    // Every write is one version: 3 rows, 5 updates, 3 rows, 1 update, 1 row, 2 updates, 1 row.
    let (_, topics) = typed(&world, "topics");
    let written = topics.as_array().unwrap().iter().filter(|t| t["topic"] == "driftless.notes");
    let versions: u64 = written.map(|t| t["messages"].as_u64().or(t["high"].as_u64()).unwrap_or_default()).sum();
    println!("{versions} versions: {topics:#}");
}

/// The second of two that change one field differently stops and shows both; the rest goes on when it is put right.
#[test]
fn what_cannot_be_taken_over_stops_its_reader_and_says_what_to_do() {
    let world = World::new();
    let node = Process::start(&world);
    world.left.ask("INSERT INTO notes VALUES (1, 'a')");
    world.shows("text", 1, "a", r#"text="a""#);
    world.left.ask("ALTER TABLE notes ALTER text TYPE int USING 7; UPDATE notes SET text = 8");
    let said = || typed(&world, "status").1.to_string();
    world.until("the reader stops", || {
        said().contains("schema_unsupported") && said().contains("`text` is of type Text in the dataset")
    });
    world.left.ask("ALTER TABLE notes ALTER text TYPE text USING 'x'; UPDATE notes SET text = 'y'");
    drop(node);
    drop(world);
}
