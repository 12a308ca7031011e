//! The connector against real directories: conditional writes under crashes at every step and under
//! an application that writes all the time, fences, torn files, links, listings, hints, clean-up.

pub(in crate::connectors) mod conformance;
mod documents;
mod seen;
mod storms;
mod upkeep;
mod writes;

use super::store::Directory;
use super::values::Layout;
use super::wire::stage::Step;
use super::{DESCRIPTOR, config::Config};
use crate::connectors::contract::*;
use crate::event::decimal::Decimal;
use crate::event::value::Interval;
use crate::event::*;
use crate::runtime::clock::{Clock, SystemClock};
use crate::runtime::error::{Code, Error};
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

fn field(name: &str, ty: Type, nullable: bool) -> Field {
    Field { name: name.into(), ty, nullable }
}

fn schema() -> Schema {
    Schema {
        id: SchemaId(1),
        name: "notes".into(),
        fields: vec![field("id", Type::Text, false), field("n", Type::Int(64), true)],
        key: vec![0],
    }
}

fn scope_with(on: serde_json::Value, schema: Schema) -> Scope {
    let place = Place { name: "notes".into(), on, schema: Some(Arc::new(schema)), partitions: 1 };
    Scope { dataset: "d".into(), collections: vec![place] }
}

fn scope() -> Scope {
    scope_with(json!({"path": "{id}.json"}), schema())
}

fn connector(root: &Path) -> Box<dyn Connector> {
    (DESCRIPTOR.open)(json!({"root": root}), "dir").unwrap()
}

fn key(id: &str) -> Key {
    Key::encode(&[Value::text(id)], &schema()).unwrap()
}

fn row(id: &str, n: i64) -> Row {
    Row(vec![Value::text(id), Value::Int(n)])
}

fn document(id: &str, n: i64) -> String {
    format!("{{\n  \"id\": \"{id}\",\n  \"n\": {n}\n}}\n")
}

const AT: Owned = Owned { collection: 0, partition: 0, epoch: 1 };

fn after(epoch: u64) -> Owned {
    Owned { epoch, ..AT }
}

fn intent(iid: u64, expect: Option<Token>) -> Intent {
    Intent {
        iid,
        seq: 1,
        vv: Vv::new(),
        fp: Fp::ABSENT,
        ts: Hlc(0),
        tomb: false,
        schema: SchemaId(1),
        expect,
        exp_ms: u64::MAX,
    }
}

/// Another process's view: nothing in memory is shared.
fn another(root: &Path) -> Directory {
    let config = Config::checked(json!({"root": root}), "dir").unwrap();
    let layouts = scope().collections.iter().map(|p| Layout::new(p).unwrap()).collect();
    Directory::new(config, "d", layouts)
}

struct Prepared {
    dir: tempfile::TempDir,
    store: Directory,
}

impl Prepared {
    /// A prepared directory, owned at epoch 1.
    async fn new() -> Prepared {
        let dir = tempfile::tempdir().unwrap();
        connector(dir.path()).open(&scope()).await.unwrap();
        let store = another(dir.path());
        store.fence(0, 0, 1).await.unwrap();
        Prepared { dir, store }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// As an application that replaces whole files does.
    fn replace(&self, name: &str, content: &str) {
        replace(self.dir.path(), name, content);
    }

    fn content(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.file(name)).ok()
    }

    async fn token(&self, id: &str) -> Option<Token> {
        self.store.read(AT, &key(id), None).await.unwrap().token
    }
}

fn replace(root: &Path, name: &str, content: &str) {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let outside = root.join(format!(".driftless/app{}", COUNT.fetch_add(1, Ordering::Relaxed)));
    std::fs::write(&outside, content).unwrap();
    std::fs::rename(outside, root.join(name)).unwrap();
}

/// Lets a time pass that a rule prescribes: quiet, grace.
async fn pass_ms(ms: u64) {
    SystemClock.sleep_until(SystemClock.now_ms() + ms).await;
}

fn stop(at: Step) -> impl Fn(Step) -> crate::runtime::error::Result<()> + Send + Sync {
    move |step| if step == at { Err(Error::new(Code::Unexpected, "the process ends here")) } else { Ok(()) }
}

/// All contents below a directory, ours and the application's.
fn everything(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(root).unwrap().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => found.append(&mut everything(&entry.path())),
            false => drop(found.insert(std::fs::read_to_string(entry.path()).unwrap())),
        }
    }
    found
}
