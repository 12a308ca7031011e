//! A `TRUNCATE` on one of two Postgres servers that both may write: it waits for a person, then deletes
//! what the server had, and an edit it had not seen is settled like any other.

use super::postgres::Server;
use super::process::{Configured, Process, comes_true, is_settled, logged, typed};
use std::collections::BTreeMap;
use std::path::Path;

/// How long anything may take.
const WITHIN_MS: u64 = 90_000;

struct Pair {
    folder: tempfile::TempDir,
    config: String,
    left: Server,
    right: Server,
}

impl Configured for Pair {
    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn config(&self) -> &str {
        &self.config
    }
}

impl Pair {
    fn new() -> Pair {
        let folder = tempfile::tempdir().unwrap();
        let (left, right) = std::thread::scope(|scope| {
            let (left, right) = (scope.spawn(Server::start), scope.spawn(Server::start));
            (left.join().unwrap(), right.join().unwrap())
        });
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "data-dir: {}/node
http: {{ listen: '127.0.0.1:{port}' }}
platforms:
  left: {}
  right: {}
datasets:
  - name: notes
    source: left
    destinations: [right]
    partitions: 3
    collections:
      - {{ name: notes }}
      - {{ name: aside }}
",
            folder.path().canonicalize().unwrap().display(),
            left.platform(),
            right.platform(),
        );
        let aside = "CREATE TABLE aside (id bigint PRIMARY KEY); INSERT INTO aside VALUES (1), (2)";
        left.ask(aside);
        right.ask("CREATE TABLE aside (id bigint PRIMARY KEY)");
        left.ask("INSERT INTO notes SELECT i, 'first ' || i FROM generate_series(1, 20) i");
        Pair { folder, config, left, right }
    }

    fn until(&self, what: &str, there: impl FnMut() -> bool) {
        if !comes_true(WITHIN_MS, there) {
            let (left, right) = (self.left.rows(), self.right.rows());
            panic!("{what}: not in time\n{left:?}\n{right:?}\n{:#}\n{}", typed(self, "status").1, logged(self));
        }
    }

    fn both_hold(&self, rows: &[(i64, &str)]) {
        let rows: BTreeMap<i64, String> = rows.iter().map(|(id, text)| (*id, (*text).to_owned())).collect();
        self.until("both hold the same", || {
            [self.left.rows(), self.right.rows()].iter().all(|held| *held == rows) && is_settled(self)
        });
    }

    fn aside(&self) -> String {
        self.right.ask("SELECT count(*) FROM aside")
    }
}

/// read-9, resolve-10
#[test]
fn a_truncate_waits_for_a_person_and_then_deletes_what_the_server_had() {
    let mut pair = Pair::new();
    let node = Process::start(&pair);
    pair.until("the first copy arrives", || pair.right.rows() == pair.left.rows() && pair.aside() == "2");
    // A small one is passed on at once, among the other changes of its transaction.
    pair.left.ask("BEGIN; INSERT INTO aside VALUES (3); TRUNCATE aside; INSERT INTO aside VALUES (4); COMMIT");
    pair.until("a small truncate arrives", || pair.right.ask("SELECT string_agg(id::text, ' ') FROM aside") == "4");
    // A large one stops its reader, and nothing is deleted.
    pair.left.ask("TRUNCATE notes, aside");
    pair.until("the truncate is held", || typed(&pair, "status").1.to_string().contains("truncate_held"));
    assert_eq!((pair.right.rows().len(), pair.aside().as_str()), (20, "1"));
    node.kill();
    // Two edits the server had not seen: one older than the truncate, one younger.
    pair.right.ask("UPDATE notes SET text = 'younger' WHERE id = 7");
    pair.config = pair.config.replace("    partitions", "    truncate: propagate\n    partitions");
    let node = Process::start(&pair);
    pair.both_hold(&[(7, "younger")]);
    assert_eq!((pair.aside().as_str(), pair.left.ask("SELECT count(*) FROM aside").as_str()), ("0", "0"));
    node.kill();
    pair.right.ask("INSERT INTO notes SELECT i, 'second ' || i FROM generate_series(1, 20) i WHERE i <> 7");
    let node = Process::start(&pair);
    pair.until("the second filling arrives", || pair.left.rows().len() == 20 && is_settled(&pair));
    node.kill();
    pair.right.ask("UPDATE notes SET text = 'older' WHERE id = 8");
    pair.left.ask("BEGIN; TRUNCATE notes; INSERT INTO notes VALUES (9, 'anew'); COMMIT");
    let node = Process::start(&pair);
    pair.both_hold(&[(9, "anew")]);
    let (_, conflicts) = typed(&pair, "conflicts list");
    let conflicts = conflicts.as_array().unwrap();
    // Both met an edit the truncating server had not seen; the value that lost is kept.
    assert_eq!(conflicts.len(), 2, "{conflicts:?}");
    assert!(conflicts.iter().any(|c| c.to_string().contains("older")), "{conflicts:?}");
    drop(node);
}
