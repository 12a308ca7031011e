//! The applications of the demo: they own the data and know nothing of driftless.

use crate::runtime::error::{Code, Error, Result};
use parking_lot::Mutex;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A product, as every application has it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Product {
    pub(super) id: i64,
    pub(super) name: String,
    /// All digits, no trailing zeros.
    pub(super) price: String,
    pub(super) stock: i64,
}

impl Product {
    pub(super) fn new(id: i64, name: &str, price: &str, stock: i64) -> Self {
        Product { id, name: name.into(), price: price.into(), stock }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} at {}, {} left", self.id, self.name, self.price, self.stock)
    }
}

/// A table in a SQLite file.
pub(super) struct Table(Mutex<Connection>);

fn failed(error: rusqlite::Error) -> Error {
    Error::new(Code::Unexpected, "the demo's database failed").caused_by(error)
}

fn text_of(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into_owned(),
        ValueRef::Null => String::new(),
    }
}

const PUT: &str = "INSERT INTO products (id, name, price, stock) VALUES (?1, ?2, ?3, ?4)
                   ON CONFLICT (id) DO UPDATE SET name = ?2, price = ?3, stock = ?4";

impl Table {
    pub(super) fn create(path: &Path) -> Result<Table> {
        let connection = Connection::open(path).map_err(failed)?;
        connection.busy_timeout(Duration::from_secs(5)).map_err(failed)?;
        let make = "PRAGMA journal_mode = WAL;
                    CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT, price DECIMAL, stock INTEGER);";
        connection.execute_batch(make).map_err(failed)?;
        Ok(Table(Mutex::new(connection)))
    }

    pub(super) fn write(&self, products: &[Product]) -> Result<()> {
        let mut connection = self.0.lock();
        let transaction = connection.transaction().map_err(failed)?;
        for p in products {
            transaction.execute(PUT, params![p.id, p.name, p.price, p.stock]).map_err(failed)?;
        }
        transaction.commit().map_err(failed)
    }

    pub(super) fn delete(&self, id: i64) -> Result<()> {
        self.0.lock().execute("DELETE FROM products WHERE id = ?1", [id]).map(|_| ()).map_err(failed)
    }

    pub(super) fn read(&self) -> Result<Vec<Product>> {
        let connection = self.0.lock();
        let mut query =
            connection.prepare_cached("SELECT id, name, price, stock FROM products ORDER BY id").map_err(failed)?;
        let product = |row: &rusqlite::Row<'_>| {
            let price = text_of(row.get_ref(2)?);
            Ok(Product { id: row.get(0)?, name: row.get(1)?, price, stock: row.get(3)? })
        };
        query.query_map([], product).map_err(failed)?.collect::<rusqlite::Result<_>>().map_err(failed)
    }
}

/// Writes a product in two tables at the same moment: both hold their file's write lock before
/// either commits, so that nothing can come between.
pub(super) fn write_both(one: (&Table, &Product), other: (&Table, &Product)) -> Result<()> {
    let (first, second) = (one.0.0.lock(), other.0.0.lock());
    for (connection, p) in [(&first, one.1), (&second, other.1)] {
        connection.execute_batch("BEGIN IMMEDIATE").map_err(failed)?;
        connection.execute(PUT, params![p.id, p.name, p.price, p.stock]).map_err(failed)?;
    }
    first.execute_batch("COMMIT").and_then(|()| second.execute_batch("COMMIT")).map_err(failed)
}

/// One JSON document per product in a directory.
pub(super) struct Application {
    folder: PathBuf,
}

impl Application {
    pub(super) fn documents(folder: PathBuf) -> Self {
        Application { folder }
    }

    /// As editors do: the new document is written beside the old one and takes its place.
    pub(super) fn write(&self, p: &Product) -> Result<()> {
        let failed = |error| Error::new(Code::Unexpected, "the demo's document cannot be written").caused_by(error);
        let document = json!({"id": p.id, "name": p.name, "price": p.price, "stock": p.stock});
        let beside = self.folder.join(format!(".{}.new", p.id));
        std::fs::write(&beside, format!("{document:#}\n")).map_err(failed)?;
        std::fs::rename(beside, self.folder.join(format!("{}.json", p.id))).map_err(failed)
    }

    pub(super) fn read(&self) -> Result<Vec<Product>> {
        let mut found: Vec<Product> = Vec::new();
        // The folder comes with the first document; a document may go while it is looked for.
        for entry in self.folder.read_dir().into_iter().flatten().flatten() {
            let path = entry.path();
            let document = path.extension().filter(|e| *e == "json").and_then(|_| std::fs::read(&path).ok());
            let value: Option<Value> = document.and_then(|bytes| serde_json::from_slice(&bytes).ok());
            found.extend(value.as_ref().and_then(product));
        }
        found.sort();
        Ok(found)
    }
}

fn product(value: &Value) -> Option<Product> {
    let price = value["price"].as_str().map_or_else(|| value["price"].to_string(), Into::into);
    Some(Product {
        id: value["id"].as_i64()?,
        name: value["name"].as_str()?.into(),
        price,
        stock: value["stock"].as_i64()?,
    })
}
