//! Platforms that see a part of a dataset (read-11), and one that nobody else writes (who-3): the whole
//! program on SQLite files and a directory, both ways.

use super::world::{Running, World, connect};
use driftless::node::board::Report;
use rusqlite::Connection;
use serde_json::Value;
use std::fs;

const WHOLE: &str = "PRAGMA journal_mode = WAL;
    CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, mail TEXT NOT NULL, region TEXT)";
const PART: &str = "PRAGMA journal_mode = WAL;
    CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, region TEXT, own TEXT DEFAULT 'of b')";

/// `a` has everything, `b` some columns and rows, the directory a masked field.
fn world() -> World {
    let mut world = World::new("");
    for (name, sql) in [("a.db", WHOLE), ("b.db", PART)] {
        connect(&world.path(name)).execute_batch(sql).unwrap();
    }
    let (head, _) = world.config.split_once("datasets:").unwrap();
    world.config = format!(
        "{head}datasets:
  - name: people
    source: a
    destinations: [b, files]
    collections:
      - name: people
        on: {{ files: {{ path: '{{id}}.json' }} }}
        views:
          b: {{ columns: [id, name, region], row-filter: region = 'EU' }}
          files: {{ masks: {{ mail: hash }} }}
"
    );
    world
}

fn run(db: &Connection, sql: &str) {
    db.execute_batch(sql).unwrap();
}

fn whole(world: &World) -> Vec<String> {
    listed(&world.db("a"), "SELECT concat_ws(' ', id, name, mail, region) FROM people ORDER BY id")
}

fn part(world: &World) -> Vec<String> {
    listed(&world.db("b"), "SELECT concat_ws(' ', id, name, region, own) FROM people ORDER BY id")
}

fn listed(db: &Connection, sql: &str) -> Vec<String> {
    let mut query = db.prepare(sql).unwrap();
    query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

fn document(world: &World, id: i64) -> Option<Value> {
    serde_json::from_slice(&fs::read(world.path(&format!("files/{id}.json"))).ok()?).ok()
}

fn edit_document(world: &World, id: i64, edit: impl FnOnce(&mut Value)) {
    let mut document = document(world, id).unwrap();
    edit(&mut document);
    let beside = world.path(&format!("{id}.new"));
    fs::write(&beside, document.to_string()).unwrap();
    fs::rename(beside, world.path(&format!("files/{id}.json"))).unwrap();
}

fn parked(report: &Report, platform: &str) -> Vec<String> {
    report.datasets["people"].platforms[platform].parked.iter().map(|parked| parked.why.clone()).collect()
}

async fn settled(node: &Running<'_>) {
    node.says("everything is settled", |report| {
        let people = &report.datasets["people"];
        people.unsettled == 0 && people.platforms.values().all(|p| p.lag_events == 0)
    })
    .await;
}

/// read-11
#[tokio::test(flavor = "multi_thread")]
async fn a_platform_that_sees_a_part_writes_that_part_and_changes_nothing_else() {
    let world = world();
    let (a, b) = (world.db("a"), world.db("b"));
    run(&a, "INSERT INTO people VALUES (1, 'ann', 'ann@x', 'EU'), (2, 'bob', 'bob@x', 'US')");
    let node = world.start().await;
    node.until("b has the row of its filter", || part(&world) == ["1 ann EU of b"]).await;
    node.until("the files have both", || document(&world, 1).is_some() && document(&world, 2).is_some()).await;
    let hashed = document(&world, 1).unwrap()["mail"].clone();
    assert_ne!(hashed, "ann@x");
    assert_ne!(hashed, document(&world, 2).unwrap()["mail"]);

    // An edit of what is seen leaves what is not seen, and what only b has.
    run(&b, "UPDATE people SET name = 'anna', own = 'kept' WHERE id = 1");
    node.until("a has it", || whole(&world) == ["1 anna ann@x EU", "2 bob bob@x US"]).await;
    edit_document(&world, 2, |document| document["name"] = "bobby".into());
    node.until("a has that too", || whole(&world) == ["1 anna ann@x EU", "2 bobby bob@x US"]).await;

    // A row leaves b's filter, another enters: both stay in the dataset.
    run(&a, "UPDATE people SET region = CASE id WHEN 1 THEN 'US' ELSE 'EU' END");
    node.until("they changed places", || part(&world) == ["2 bobby EU of b"]).await;
    assert_eq!(whole(&world), ["1 anna ann@x US", "2 bobby bob@x EU"]);
    assert_eq!(document(&world, 1).unwrap()["mail"], hashed, "equal values have equal hashes");

    // A row that begins at b begins without what b does not see: the source, where that may not be, says so.
    run(&b, "INSERT INTO people (id, name, region) VALUES (3, 'cid', 'EU')");
    node.until("the files have it", || document(&world, 3).is_some_and(|d| d["mail"].is_null())).await;
    node.says("the source cannot hold it", |report| !parked(report, "a").is_empty()).await;
    run(&b, "DELETE FROM people WHERE id = 3");
    node.until("it is gone", || document(&world, 3).is_none()).await;
    settled(&node).await;
    assert_eq!(node.report().await.datasets["people"].conflicts, 0);
    node.node.stop().await;
}

/// read-11, who-2
#[tokio::test(flavor = "multi_thread")]
async fn what_a_platform_may_not_say_stays_there_and_is_shown() {
    let world = world();
    let (a, b) = (world.db("a"), world.db("b"));
    run(&a, "INSERT INTO people VALUES (1, 'ann', 'ann@x', 'EU'), (2, 'bob', 'bob@x', 'US')");
    let node = world.start().await;
    node.until("b has its row", || part(&world) == ["1 ann EU of b"]).await;
    node.until("the files have both", || document(&world, 1).is_some() && document(&world, 2).is_some()).await;

    // Key 2 is in the dataset, where b does not see it. What b writes there is not carried, nor its deletion.
    run(&b, "INSERT INTO people (id, name, region) VALUES (2, 'other', 'US')");
    node.says("b's row is put aside", |report| parked(report, "b").iter().any(|why| why.contains("outside"))).await;
    run(&b, "DELETE FROM people WHERE id = 2");
    node.says("and forgotten", |report| parked(report, "b").is_empty()).await;
    run(&b, "UPDATE people SET region = 'US' WHERE id = 1");
    node.says("an edit out of the filter too", |report| !parked(report, "b").is_empty()).await;
    run(&a, "UPDATE people SET name = 'anne' WHERE id = 1; UPDATE people SET name = 'ben' WHERE id = 2");
    node.until("the files have a's edits", || document(&world, 2).is_some_and(|d| d["name"] == "ben")).await;
    node.says("b's sink waits for the row", |report| report.datasets["people"].platforms["b"].counts.held > 0).await;
    assert_eq!(whole(&world), ["1 anne ann@x EU", "2 ben bob@x US"]);
    assert_eq!(part(&world), ["1 ann US of b"], "what somebody wrote is not overwritten");
    // Put back into the filter it is an edit of what b was given.
    run(&b, "UPDATE people SET region = 'EU', name = 'anna' WHERE id = 1");
    node.until("a has it", || whole(&world) == ["1 anna ann@x EU", "2 ben bob@x US"]).await;

    // A masked field is read-only.
    edit_document(&world, 2, |document| document["mail"] = "typed@x".into());
    run(&a, "UPDATE people SET name = 'benno' WHERE id = 2");
    node.says("the file is put aside", |report| parked(report, "files").iter().any(|why| why.contains("masked"))).await;
    assert_eq!(document(&world, 2).unwrap()["mail"], "typed@x");
    assert_eq!(whole(&world), ["1 anna ann@x EU", "2 benno bob@x US"]);
    node.node.stop().await;
}

/// read-10, read-11: the view keeps to its fields while the dataset gets another, and tells no edit of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_view_stays_as_it_is_when_the_dataset_gets_a_field() {
    let world = world();
    let (a, b) = (world.db("a"), world.db("b"));
    run(&a, "INSERT INTO people VALUES (1, 'ann', 'ann@x', 'EU')");
    let node = world.start().await;
    node.until("both have it", || part(&world) == ["1 ann EU of b"] && document(&world, 1).is_some()).await;
    node.node.stop().await;

    run(&a, "ALTER TABLE people ADD COLUMN note TEXT; UPDATE people SET note = 'n', name = 'anne'");
    let node = world.start().await;
    node.until("b has the edit", || part(&world) == ["1 anne EU of b"]).await;
    node.until("the files have the field", || document(&world, 1).is_some_and(|d| d["note"] == "n")).await;
    run(&b, "UPDATE people SET name = 'anna'");
    node.until("a has b's edit", || whole(&world) == ["1 anna ann@x EU"]).await;
    run(&a, "UPDATE people SET name = 'annie'");
    node.until("b has a's", || part(&world) == ["1 annie EU of b"]).await;
    edit_document(&world, 1, |document| document["name"] = "ani".into());
    node.until("all have the file's", || part(&world) == ["1 ani EU of b"] && whole(&world) == ["1 ani ann@x EU"])
        .await;
    assert_eq!(listed(&a, "SELECT note FROM people"), ["n"]);
    settled(&node).await;
    let report = node.report().await;
    let proposed = |name: &str| report.datasets["people"].platforms[name].counts.proposed;
    // What came from the log is no edit: each platform said what was written there, and no more.
    assert_eq!((proposed("a"), proposed("b"), proposed("files")), (2, 1, 1));
    node.node.stop().await;
}

/// read-11: what the collection's `columns` leave out is in no record, now and when the table changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_is_left_out_of_the_dataset_never_enters_the_log() {
    let mut world = world();
    let (head, _) = world.config.split_once("        views:").unwrap();
    world.config = format!("{head}        columns: [id, name]\n");
    let b = world.db("b");
    run(&world.db("a"), "INSERT INTO people VALUES (1, 'ann', 'ann@x', 'EU')");
    let fields = |world: &World| {
        document(world, 1).map(|d| d.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" "))
    };
    for (life, name) in ["anne", "anna", "annie"].iter().enumerate() {
        let node = world.start().await;
        run(&world.db("a"), &format!("UPDATE people SET name = '{name}', mail = '{life}'"));
        node.until("the files have it", || document(&world, 1).is_some_and(|d| d["name"] == *name)).await;
        node.until("b has it", || listed(&b, "SELECT name FROM people") == [*name]).await;
        assert_eq!(fields(&world).as_deref(), Some("id name"));
        run(&b, "UPDATE people SET name = name || '!', own = 'kept'");
        node.until("a has b's edit", || listed(&world.db("a"), "SELECT name FROM people") == [format!("{name}!")])
            .await;
        assert_eq!(listed(&world.db("a"), "SELECT mail FROM people"), [life.to_string()]);
        settled(&node).await;
        assert_eq!(fields(&world).as_deref(), Some("id name"));
        node.node.stop().await;
        run(&world.db("a"), &format!("ALTER TABLE people ADD COLUMN more{life} TEXT DEFAULT 'secret'"));
    }
}

/// who-3
#[tokio::test(flavor = "multi_thread")]
async fn a_destination_nobody_else_writes_keeps_a_mark_and_no_ledger() {
    let mut world = World::new("    direction: one-way\n    guarantee: exclusive");
    world.config =
        world.config.replace("[b, files]", "[b]").replace("        on: { files: { path: '{id}.json' } }\n", "");
    for id in 0..200 {
        world.put("a", id, "first");
    }
    let node = world.start().await;
    node.until("b has all", || world.rows("b") == world.rows("a")).await;
    world.put("a", 7, "second");
    world.db("a").execute("DELETE FROM notes WHERE id = 8", []).unwrap();
    node.until("b has the changes", || world.rows("b") == world.rows("a")).await;
    let own = "SELECT group_concat(name, ' ') FROM sqlite_schema WHERE name LIKE '\\_driftless%' ESCAPE '\\' AND type = 'table'";
    assert_eq!(listed(&world.db("b"), own), ["_driftless_applied"]);
    assert_eq!(node.report().await.datasets["notes"].platforms["b"].guarantee, "exclusive");
    node.node.stop().await;

    // Another life goes on at the mark: what it wrote once it does not write again.
    world.db("b").execute("UPDATE notes SET text = 'seen' WHERE id = 1", []).unwrap();
    let node = world.start().await;
    world.put("a", 300, "later");
    node.until("b has it", || world.rows("b").contains_key(&300)).await;
    assert_eq!(world.rows("b")[&1], "seen");
    node.node.stop().await;

    // A log that was lost stops it instead of beginning anew over what is there.
    fs::remove_dir_all(world.path("node")).unwrap();
    let node = world.start().await;
    node.says("it halts", |report| {
        report.datasets["notes"].troubles.iter().any(|t| serde_json::to_value(t).unwrap()["code"] == "history_lost")
    })
    .await;
    node.node.stop().await;
}
