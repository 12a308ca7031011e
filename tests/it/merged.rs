//! `conflict-resolution: merge` on real platforms: what teams changed at the same time is kept of all.

use super::world::{Running, World, connect};
use driftless::node::board::{State, Work};
use rusqlite::Connection;
use serde_json::{Value, json};
use std::fs;

/// A product as all three have it.
fn world(merge: &str) -> World {
    let mut world = World::new("");
    for name in ["a.db", "b.db"] {
        let make = "PRAGMA journal_mode = WAL; CREATE TABLE products
            (id INTEGER PRIMARY KEY, name TEXT, stock INTEGER, doc TEXT, note TEXT)";
        connect(&world.path(name)).execute_batch(make).unwrap();
    }
    let (head, _) = world.config.split_once("datasets:").unwrap();
    world.config = format!(
        "{head}datasets:
  - name: notes
    source: a
    destinations: [b, files]
    conflict-resolution: merge
    merge: {merge}
    collections:
      - name: products
        key: id
        fields:
          - {{ name: id, type: long }}
          - {{ name: name, type: text }}
          - {{ name: stock, type: long }}
          - {{ name: doc, type: json }}
          - {{ name: note, type: text }}
        on: {{ files: {{ path: '{{id}}.json' }} }}
"
    );
    world
}

const RULES: &str = "{ fields: { stock: counter, note: lines, doc.tags: set } }";

fn run(db: &Connection, sql: &str) {
    db.execute_batch(sql).unwrap();
}

fn listed(db: &Connection) -> Vec<Value> {
    let mut query = db.prepare("SELECT id, name, stock, doc, note FROM products ORDER BY id").unwrap();
    let row = |row: &rusqlite::Row<'_>| {
        let doc: String = row.get(3)?;
        let doc: Value = serde_json::from_str(&doc).unwrap();
        let (id, name, stock): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        Ok(json!({ "id": id, "name": name, "stock": stock, "doc": doc, "note": row.get::<_, String>(4)? }))
    };
    query.query_map([], row).unwrap().map(Result::unwrap).collect()
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

async fn all_hold(node: &Running<'_>, world: &World, wanted: &[Value]) {
    let (a, b) = (world.db("a"), world.db("b"));
    let is_file = |row: &Value| document(world, row["id"].as_i64().unwrap()).as_ref() == Some(row);
    let there = || listed(&a) == wanted && listed(&b) == wanted && wanted.iter().all(is_file);
    node.until("all three hold it", there).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_three_changed_at_the_same_time_is_kept_of_all() {
    let world = world(RULES);
    let (a, b) = (world.db("a"), world.db("b"));
    run(
        &a,
        r#"INSERT INTO products VALUES (1, 'chair', 10, '{"tags":["wood"],"size":{"h":80,"w":40}}', 'one' || x'0a' || 'two' || x'0a')"#,
    );
    let first = json!({"id": 1, "name": "chair", "stock": 10, "doc": {"tags": ["wood"], "size": {"h": 80, "w": 40}}, "note": "one\ntwo\n"});
    let node = world.start().await;
    all_hold(&node, &world, &[first]).await;
    node.quiet().await;
    node.node.stop().await;

    // While nobody looks, all three edit the same record.
    run(
        &a,
        r#"UPDATE products SET stock = stock - 3, doc = '{"tags":["wood","oak"],"size":{"h":80,"w":40}}', note = 'One' || x'0a' || 'two' || x'0a'"#,
    );
    run(&b, r#"UPDATE products SET stock = stock - 2, doc = '{"tags":[],"size":{"h":81,"w":40}}', name = 'stool'"#);
    edit_document(&world, 1, |document| {
        document["note"] = "one\ntwo\nthree\n".into();
        document["doc"]["size"]["w"] = 41.into();
    });
    let node = world.start().await;
    let merged = json!({"id": 1, "name": "stool", "stock": 5, "doc": {"tags": ["oak"], "size": {"h": 81, "w": 41}}, "note": "One\ntwo\nthree\n"});
    all_hold(&node, &world, &[merged]).await;
    node.quiet().await;
    let conflicts = node.conflicts().await;
    let told: Vec<(&str, Option<&str>)> = conflicts.iter().map(|c| (c.rule.as_str(), c.loser.as_deref())).collect();
    assert_eq!(told, [("merge", None), ("merge", None)], "each conflict is logged once, and nothing was lost");
    node.node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_wins_over_a_delete_unless_the_dataset_says_otherwise() {
    for (deletes, stays) in [("edit-wins", true), ("delete-wins", false)] {
        let world = world(&format!("{{ deletes: {deletes} }}"));
        let (a, b) = (world.db("a"), world.db("b"));
        run(&a, "INSERT INTO products VALUES (1, 'chair', 10, '{}', '')");
        let row = |name: &str| json!({"id": 1, "name": name, "stock": 10, "doc": {}, "note": ""});
        let node = world.start().await;
        all_hold(&node, &world, &[row("chair")]).await;
        node.quiet().await;
        node.node.stop().await;
        run(&a, "UPDATE products SET name = 'stool'");
        run(&b, "DELETE FROM products");
        let node = world.start().await;
        let wanted = if stays { vec![row("stool")] } else { vec![] };
        all_hold(&node, &world, &wanted).await;
        node.until("the file too", || document(&world, 1).is_some() == stays).await;
        node.quiet().await;
        let conflicts = node.conflicts().await;
        assert_eq!(conflicts.len(), 1, "{deletes}");
        assert_eq!(conflicts[0].rule, format!("merge; {deletes}"));
        assert!(conflicts[0].loser.is_some(), "{deletes}");
        node.node.stop().await;
    }
}

/// Rules are checked against the schema the source has before a platform is touched.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_cannot_hold_is_refused_before_anything_is_touched() {
    for (rules, why) in [
        ("stok: counter", "`products` has no field of this name; it has `id`"),
        ("name: counter", "integers and decimals"),
    ] {
        let mut world = world(&format!("{{ fields: {{ {rules} }} }}"));
        let (head, tail) = world.config.split_once("        key: id\n").unwrap();
        let on = tail.find("        on:").unwrap();
        world.config = format!("{head}{}", &tail[on..]);
        run(&world.db("a"), "INSERT INTO products VALUES (1, 'chair', 10, '{}', '')");
        let node = world.start().await;
        let report = node.says("it stops", |report| !report.datasets["notes"].troubles.is_empty()).await;
        let trouble = &report.datasets["notes"].troubles[0];
        let State::Halted(found) = &trouble.state else { panic!("{trouble:?}") };
        assert_eq!((trouble.work, found.code), (Work::Prepare, "config_invalid"));
        let text = format!("{found:?}");
        assert!(text.contains(why) && text.contains("c.yaml:"), "{text}");
        assert!(listed(&world.db("b")).is_empty() && document(&world, 1).is_none());
        node.node.stop().await;
    }
}
