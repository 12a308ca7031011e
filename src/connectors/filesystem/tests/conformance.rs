//! A directory for the behaviour suite of all connectors.

use super::super::DESCRIPTOR;
use crate::connectors::conformance::{self, Item, Subject, item_schema};
use crate::connectors::contract::{Descriptor, Place};
use crate::event::{Row, Value};
use async_trait::async_trait;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A directory with an application that replaces whole files.
pub(in crate::connectors) struct Shop(tempfile::TempDir);

impl Shop {
    fn file(&self, id: i64) -> PathBuf {
        self.0.path().join(format!("root/items/{id}.json"))
    }
}

#[async_trait]
impl Subject for Shop {
    const DESCRIPTOR: &'static Descriptor = &DESCRIPTOR;

    async fn fresh() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root/items")).unwrap();
        Shop(dir)
    }

    fn settings(&self) -> serde_json::Value {
        json!({ "root": self.0.path().join("root") })
    }

    fn place(&self) -> Place {
        Place { name: "items".into(), on: json!(null), schema: Some(Arc::new(item_schema())), partitions: 1 }
    }

    async fn put(&self, item: &Item) {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let outside = self.0.path().join(format!("new{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let document = json!({"name": item.name, "stock": item.stock, "id": item.id, "price": item.price});
        std::fs::write(&outside, document.to_string()).unwrap();
        std::fs::rename(outside, self.file(item.id)).unwrap();
    }

    async fn delete(&self, id: i64) {
        std::fs::remove_file(self.file(id)).unwrap();
    }

    async fn find(&self, id: i64) -> Option<Item> {
        let text = std::fs::read_to_string(self.file(id)).ok()?;
        let document: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert!(document["id"].as_i64().is_none_or(|said| said == id));
        let stock = document["stock"].as_i64().unwrap();
        Some(Item::new(id, document["name"].as_str().unwrap(), document["price"].as_str(), stock))
    }

    fn refused(&self, id: i64) -> Row {
        Row(vec![Value::Int(id), Value::Null, Value::Null, Value::Int(1)])
    }

    async fn traces(&self) -> Vec<String> {
        let names = std::fs::read_dir(self.0.path().join("root")).unwrap().map(|e| e.unwrap().file_name());
        names.map(|n| n.to_string_lossy().into_owned()).filter(|n| n != "items").collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_behaves_as_every_connector_does() {
    conformance::run::<Shop>().await;
}
