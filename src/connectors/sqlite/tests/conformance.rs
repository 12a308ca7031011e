//! A SQLite file for the behaviour suite of all connectors.

use super::super::DESCRIPTOR;
use crate::connectors::conformance::{self, Item, Subject};
use crate::connectors::contract::{Descriptor, Place};
use crate::event::{Row, Value};
use async_trait::async_trait;
use parking_lot::Mutex;
use rusqlite::{Connection, OptionalExtension};
use serde_json::json;

/// A file with an application's connection to it.
pub(in crate::connectors) struct Shop {
    dir: tempfile::TempDir,
    app: Mutex<Connection>,
}

const PUT: &str = "INSERT INTO items VALUES(?1, ?2, ?3, ?4) ON CONFLICT(id) DO UPDATE SET name = excluded.name,
    price = excluded.price, stock = excluded.stock";

fn put(app: &Connection, item: &Item) {
    app.execute(PUT, (item.id, &item.name, &item.price, item.stock)).unwrap();
}

#[async_trait]
impl Subject for Shop {
    const DESCRIPTOR: &'static Descriptor = &DESCRIPTOR;

    async fn fresh() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let app = Connection::open(dir.path().join("app.db")).unwrap();
        app.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
        app.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
             CREATE TABLE items(id INTEGER PRIMARY KEY NOT NULL, name TEXT NOT NULL, price DECIMAL, stock INT CHECK(stock >= 0))",
        )
        .unwrap();
        Shop { dir, app: Mutex::new(app) }
    }

    fn settings(&self) -> serde_json::Value {
        json!({ "path": self.dir.path().join("app.db") })
    }

    fn place(&self) -> Place {
        Place { name: "items".into(), on: json!(null), schema: None, partitions: 1 }
    }

    async fn put(&self, item: &Item) {
        put(&self.app.lock(), item);
    }

    async fn delete(&self, id: i64) {
        self.app.lock().execute("DELETE FROM items WHERE id = ?1", [id]).unwrap();
    }

    async fn find(&self, id: i64) -> Option<Item> {
        let read = "SELECT name, CAST(price AS TEXT), stock FROM items WHERE id = ?1";
        let item = |row: &rusqlite::Row<'_>| {
            let (name, price): (String, Option<String>) = (row.get(0)?, row.get(1)?);
            Ok(Item::new(id, &name, price.as_deref(), row.get(2)?))
        };
        self.app.lock().query_row(read, [id], item).optional().unwrap()
    }

    async fn abandon(&self, item: &Item) {
        let app = self.app.lock();
        app.execute_batch("BEGIN IMMEDIATE").unwrap();
        put(&app, item);
        app.execute_batch("ROLLBACK").unwrap();
    }

    fn refused(&self, id: i64) -> Row {
        Row(vec![Value::Int(id), Value::text("less than nothing"), Value::Null, Value::Int(-1)])
    }

    async fn traces(&self) -> Vec<String> {
        let app = self.app.lock();
        let mut ours =
            app.prepare("SELECT name FROM sqlite_schema WHERE name LIKE '%driftless%' ORDER BY name").unwrap();
        ours.query_map([], |row| row.get(0)).unwrap().map(|name| name.unwrap()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_behaves_as_every_connector_does() {
    conformance::run::<Shop>().await;
}
