//! A Postgres database for the behaviour suite of all connectors.

use super::super::DESCRIPTOR;
use super::server::Db;
use crate::connectors::conformance::{self, Item, Subject};
use crate::connectors::contract::{Descriptor, Place};
use crate::event::{Row, Value};
use async_trait::async_trait;

/// A database with an application's session.
pub(in crate::connectors) struct Shop(Db);

const TABLE: &str =
    "CREATE TABLE items(id bigint PRIMARY KEY, name text NOT NULL, price numeric, stock bigint CHECK (stock >= 0))";

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn put(item: &Item) -> String {
    let price = item.price.as_deref().unwrap_or("NULL");
    format!(
        "INSERT INTO items VALUES ({}::bigint, {}, {price}, {}) ON CONFLICT (id) DO UPDATE SET name = excluded.name,
         price = excluded.price, stock = excluded.stock",
        quoted(&item.id.to_string()),
        quoted(&item.name),
        item.stock
    )
}

impl Shop {
    async fn text(&self, query: &str) -> String {
        self.0.sql.text(query).await.unwrap()
    }
}

#[async_trait]
impl Subject for Shop {
    const DESCRIPTOR: &'static Descriptor = &DESCRIPTOR;

    async fn fresh() -> Self {
        Shop(Db::new(TABLE).await)
    }

    fn settings(&self) -> serde_json::Value {
        self.0.settings.clone()
    }

    fn place(&self) -> Place {
        Db::place("items")
    }

    fn dataset(&self) -> String {
        self.0.dataset.clone()
    }

    async fn put(&self, item: &Item) {
        self.0.run(&put(item)).await;
    }

    async fn delete(&self, id: i64) {
        self.0.run(&format!("DELETE FROM items WHERE id = {id}")).await;
    }

    async fn find(&self, id: i64) -> Option<Item> {
        let query = format!(
            "SELECT coalesce((SELECT to_jsonb(i) FROM (SELECT name, price::text, stock FROM public.items WHERE id = '{id}') i), 'null')::text"
        );
        let found: serde_json::Value = serde_json::from_str(&self.text(&query).await).unwrap();
        let name = found["name"].as_str()?;
        Some(Item::new(id, name, found["price"].as_str(), found["stock"].as_i64().unwrap()))
    }

    async fn abandon(&self, item: &Item) {
        self.0.run(&format!("BEGIN; {}; ROLLBACK", put(item))).await;
    }

    fn refused(&self, id: i64) -> Row {
        Row(vec![Value::Int(id), Value::text("less than nothing"), Value::Null, Value::Int(-1)])
    }

    async fn traces(&self) -> Vec<String> {
        let query = "SELECT coalesce(string_agg(x, ' ' ORDER BY x), '') FROM (
            SELECT 'slot ' || slot_name FROM pg_replication_slots WHERE database = current_database() AND NOT temporary
            UNION ALL SELECT 'publication ' || pubname FROM pg_publication
            UNION ALL SELECT 'relation ' || n.nspname || '.' || relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace
              WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'public')
            UNION ALL SELECT 'schema ' || nspname FROM pg_namespace
              WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'public')
            UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE NOT tgisinternal) t(x)";
        let found = self.text(query).await;
        if found.is_empty() { Vec::new() } else { vec![found] }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_behaves_as_every_connector_does() {
    conformance::run::<Shop>().await;
}
