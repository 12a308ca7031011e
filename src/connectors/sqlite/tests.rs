//! What the connector does to real SQLite files, with an application that writes beside it.

mod capture;
pub(in crate::connectors) mod conformance;
mod refusals;
mod sink;
mod types;

use super::DESCRIPTOR;
use crate::connectors::contract::*;
use crate::event::decimal::Decimal;
use crate::event::value::{Interval, Text};
use crate::event::*;
use crate::runtime::error::{Code, Result};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use rusqlite::Connection;
use serde_json::json;
use std::path::PathBuf;
use std::sync::Arc;

const LIMIT: BatchLimit = BatchLimit { rows_max: 1000, bytes_max: 1 << 20 };
const ITEMS: &str = "CREATE TABLE items(id INTEGER PRIMARY KEY, name TEXT, price REAL)";

/// A file with an application's connection to it.
struct Bench {
    _dir: tempfile::TempDir,
    path: PathBuf,
    app: Connection,
    scope: Scope,
}

impl Bench {
    fn new(sql: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("app.db");
        let app = Connection::open(&path).unwrap();
        app.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF").unwrap();
        app.execute_batch(sql).unwrap();
        let place = Place { name: "items".into(), on: serde_json::Value::Null, schema: None, partitions: 1 };
        let scope = Scope { dataset: "shop".into(), collections: vec![place] };
        Bench { _dir: dir, path, app, scope }
    }

    fn connector(&self) -> Box<dyn Connector> {
        (DESCRIPTOR.open)(json!({ "path": self.path, "busy-timeout-ms": 50 }), "till").unwrap()
    }

    async fn open(&self) -> Box<dyn LogPlatform> {
        self.try_open().await.unwrap()
    }

    async fn try_open(&self) -> Result<Box<dyn LogPlatform>> {
        match self.connector().open(&self.scope).await? {
            Opened::Log(platform) => Ok(platform),
            Opened::Hint(_) => panic!("SQLite is a LOG platform"),
        }
    }

    async fn schema(&self) -> Schema {
        self.connector().schema(&self.scope.collections[0]).await.unwrap().unwrap()
    }

    fn run(&self, sql: &str) {
        self.app.execute_batch(sql).unwrap();
    }

    fn count(&self, sql: &str) -> i64 {
        self.app.query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

fn item(id: i64, name: &str) -> Row {
    Row(vec![Value::Int(id), Value::text(name), Value::Null])
}

/// Zigzag of a small key, as Avro writes it.
fn key(id: u8) -> Key {
    Key(vec![id * 2].into())
}

fn version(schema: &Schema, key: &Key, seq: u64, row: Option<Row>) -> Planned {
    let fp = row.as_ref().map_or(Fp::ABSENT, |r| Fp::of_row(schema, r));
    let dot = Dot { actor: ActorId(9), ctr: seq };
    let canonical = Canonical {
        key: key.clone(),
        seq,
        id: seq,
        prev: seq - 1,
        origin: Origin::Input(seq),
        idx: 0,
        last: true,
        dot,
        vv: Vv::new().with(dot),
        ts: Hlc::from_ms(seq),
        fp,
        tomb: row.is_none(),
        schema: SchemaId(0),
        after: row.map(Arc::new),
        by: ActorId(9),
        cause: Cause::FastForward,
        ack: Ack::new(),
        rctr: 0,
        conflicted: 0,
        conflict: None,
        asked: None,
        copy: false,
    };
    Planned { version: Arc::new(canonical), fp, act: Act::Write }
}

async fn apply(rows: &mut Box<dyn Rows>, plan: &[Planned]) -> Vec<Written> {
    let keys: Vec<Key> = plan.iter().map(|p| p.version.key.clone()).collect();
    rows.lock(0, &keys).await.unwrap().write(plan).await.unwrap()
}

/// All changes there are, until the reader has nothing more.
async fn drain(reader: &mut Box<dyn Reader>) -> Vec<Transaction> {
    let mut all = Vec::new();
    loop {
        let batch = reader.next(LIMIT).await.unwrap();
        if batch.transactions.is_empty() {
            return all;
        }
        all.extend(batch.transactions);
    }
}

fn shown(transactions: &[Transaction]) -> Vec<String> {
    let one = |c: &Change| match c {
        Change::Row { key, after: Some(row), .. } => format!("put {key:?} {:?}", row.0[1]),
        Change::Row { key, .. } => format!("delete {key:?}"),
        Change::Ledger { key, entry, .. } => format!("ledger {key:?} {:?}", entry.as_ref().map(|e| e.seq)),
        Change::Observed { key, image, .. } => format!("observed {key:?} {}", image.is_some()),
        Change::Unreadable(found) => format!("unreadable {}", found.native),
        Change::Truncate(collection) => format!("truncate {collection}"),
    };
    transactions.iter().map(|t| t.changes.iter().map(one).collect::<Vec<_>>().join(" + ")).collect()
}

fn puts(transactions: &[Transaction]) -> Vec<Row> {
    let row = |c: &Change| match c {
        Change::Row { after: Some(row), .. } => Some((**row).clone()),
        _ => None,
    };
    transactions.iter().flat_map(|t| &t.changes).filter_map(row).collect()
}

async fn reader(platform: &dyn LogPlatform) -> Box<dyn Reader> {
    platform.reader(platform.position().await.unwrap()).await.unwrap()
}
