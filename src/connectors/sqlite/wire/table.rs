//! A table as SQLite describes it, and how its columns map onto a schema. SQLite's columns have no
//! types but *affinities*, so the declared type decides what a column means; a pair of type and
//! affinity that could change a value is refused here (P8).

use super::super::failure::failing;
use crate::event::{Field, Schema, SchemaId, Type};
use crate::runtime::error::{Code, Error, Result};
use rusqlite::Connection;
use std::sync::Arc;

/// What SQLite does to values stored in a column.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Affinity {
    /// Numbers become text.
    Text,
    /// Numeric text becomes a number, integral reals become integers.
    Numeric,
    /// As `Numeric`.
    Integer,
    /// Numeric text and integers become reals.
    Real,
    /// Nothing.
    Blob,
}

/// A column that carries a field of the schema.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Column {
    /// Its name in the table.
    pub(crate) name: String,
    /// Its type in the dataset.
    pub(crate) ty: Type,
    /// Its affinity.
    pub(crate) affinity: Affinity,
    /// Whether it is part of the key: then its form must be the canonical one (topic-4).
    pub(crate) key: bool,
}

/// A table's columns in the order of the schema's fields.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Table {
    /// The table.
    pub(crate) name: String,
    /// What its records look like in the dataset.
    pub(crate) schema: Arc<Schema>,
    /// One per field.
    pub(crate) columns: Vec<Column>,
}

/// A column as `PRAGMA table_xinfo` describes it.
struct Native {
    name: String,
    declared: String,
    not_null: bool,
    /// Place in the primary key, from 1; 0 if it is none of it.
    key: u32,
}

impl Table {
    /// The table as it stands in the file, under the dataset's schema if there is one; `None` if
    /// there is no such table.
    pub(crate) fn load(
        conn: &Connection,
        name: &str,
        collection: &str,
        schema: Option<Arc<Schema>>,
    ) -> Result<Option<Table>> {
        let natives = natives(conn, name)?;
        if natives.is_empty() {
            return Ok(None);
        }
        check_key(conn, name, &natives)?;
        let schema = match schema {
            Some(schema) => schema,
            None => Arc::new(derive(name, collection, &natives)?),
        };
        let columns =
            schema.fields.iter().enumerate().map(|(i, field)| column(name, field, schema.key.contains(&i), &natives));
        let table = Table { name: name.to_string(), columns: columns.collect::<Result<_>>()?, schema };
        table.check_same_key(&natives)?;
        Ok(Some(table))
    }

    /// The key's columns, in key order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &Column> {
        self.schema.key.iter().filter_map(|&i| self.columns.get(i))
    }

    /// The names of all columns as SQL, each behind `prefix`.
    pub(crate) fn list(&self, prefix: &str) -> String {
        listed(self.columns.iter(), prefix)
    }

    /// The dataset's key and the table's must be the same fields, or one row could be two records.
    fn check_same_key(&self, natives: &[Native]) -> Result<()> {
        let native = natives.iter().filter(|n| n.key > 0).count();
        let shared = self.keys().filter(|k| natives.iter().any(|n| n.key > 0 && n.name == k.name)).count();
        if shared == native && shared == self.schema.key.len() {
            return Ok(());
        }
        let fields: Vec<&str> = self.schema.key_fields().map(|f| &*f.name).collect();
        let text = format!("the primary key of the table is not the key of the dataset ({})", fields.join(", "));
        Err(Error::new(Code::SchemaUnsupported, text).at("table", &self.name))
    }
}

/// Column names as SQL, each behind `prefix`.
pub(crate) fn listed<'a>(columns: impl Iterator<Item = &'a Column>, prefix: &str) -> String {
    columns.map(|c| format!("{prefix}{}", quoted(&c.name))).collect::<Vec<_>>().join(", ")
}

/// A name as SQL.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The stored columns of a table; generated ones cannot be written and are left out.
fn natives(conn: &Connection, table: &str) -> Result<Vec<Native>> {
    let failing = || failing("reading the table's columns");
    let sql = "SELECT name, type, \"notnull\", pk FROM pragma_table_xinfo(?1) WHERE hidden = 0 ORDER BY cid";
    let mut columns = conn.prepare(sql).map_err(failing())?;
    let native = |row: &rusqlite::Row<'_>| {
        Ok(Native { name: row.get(0)?, declared: row.get(1)?, not_null: row.get(2)?, key: row.get(3)? })
    };
    let all = columns.query_map([table], native).map_err(failing())?;
    all.collect::<rusqlite::Result<_>>().map_err(failing())
}

/// A primary key is needed, and it must tell apart what the dataset tells apart.
fn check_key(conn: &Connection, table: &str, natives: &[Native]) -> Result<()> {
    let kind: String = conn
        .query_row("SELECT type FROM pragma_table_list(?1) WHERE schema = 'main'", [table], |row| row.get(0))
        .map_err(failing("reading the kind of the table"))?;
    if kind != "table" {
        let text = format!("{table} is a {kind}; only ordinary tables can be captured: name the table behind it");
        return Err(Error::new(Code::TableWithoutKey, text).at("table", table));
    }
    if natives.iter().all(|n| n.key == 0) {
        let column = natives.first().map_or("id", |n| &n.name);
        let text = format!(
            "the table has no primary key. Make one: ALTER TABLE {0} RENAME TO old_{1}; CREATE TABLE {0} (…, PRIMARY KEY ({2})); \
             INSERT INTO {0} SELECT * FROM old_{1}; DROP TABLE old_{1};",
            quoted(table),
            table,
            quoted(column),
        );
        return Err(Error::new(Code::TableWithoutKey, text).at("table", table));
    }
    let folding = "SELECT x.name || ' ' || x.coll FROM pragma_index_list(?1) AS i, pragma_index_xinfo(i.name) AS x
        WHERE i.origin = 'pk' AND x.key AND x.coll <> 'BINARY' COLLATE NOCASE LIMIT 1";
    match conn.query_row(folding, [table], |row| row.get::<_, String>(0)) {
        Err(rusqlite::Error::QueryReturnedNoRows) => Ok(()),
        Err(cause) => Err(failing("reading the collation of the key")(cause)),
        Ok(found) => {
            let text =
                format!("a key column folds different keys into one ({found}); declare it COLLATE BINARY (topic-4)");
            Err(Error::new(Code::SchemaUnsupported, text).at("table", table))
        }
    }
}

/// The schema the declared types say.
fn derive(table: &str, collection: &str, natives: &[Native]) -> Result<Schema> {
    let field = |n: &Native| {
        let ty = declared_type(&n.declared).ok_or_else(|| {
            let text = format!(
                "column {} is declared {:?}, which says no type driftless knows; declare one of INTEGER, REAL, TEXT, BLOB, \
                 DECIMAL, BOOLEAN, DATE, TIME, DATETIME, TIMESTAMPTZ, UUID, JSON, or give the dataset a schema",
                n.name, n.declared
            );
            Error::new(Code::SchemaUnsupported, text).at("table", table)
        })?;
        Ok(Field { name: n.name.as_str().into(), ty, nullable: !n.not_null && n.key == 0 })
    };
    let fields = natives.iter().map(field).collect::<Result<_>>()?;
    let mut key: Vec<(u32, usize)> =
        natives.iter().enumerate().filter(|(_, n)| n.key > 0).map(|(i, n)| (n.key, i)).collect();
    key.sort_unstable();
    Ok(Schema { id: SchemaId(0), name: collection.into(), fields, key: key.into_iter().map(|(_, i)| i).collect() })
}

/// The column of a field, if the pair can hold every value unchanged.
fn column(table: &str, field: &Field, key: bool, natives: &[Native]) -> Result<Column> {
    let unsupported = |text: String| Error::new(Code::SchemaUnsupported, text).at("table", table);
    let native = natives
        .iter()
        .find(|n| *n.name == *field.name)
        .or_else(|| natives.iter().find(|n| n.name.eq_ignore_ascii_case(&field.name)))
        .ok_or_else(|| {
            unsupported(format!(
                "the table has no column for field {0}: ALTER TABLE {1} ADD COLUMN {2}",
                field.name,
                quoted(table),
                quoted(&field.name)
            ))
        })?;
    let affinity = affinity(&native.declared);
    if !holds(&field.ty, affinity) {
        let text = format!(
            "column {} is declared {:?}; SQLite would change values of type {:?} stored in it; declare it {}",
            native.name,
            native.declared,
            field.ty,
            suggestion(&field.ty)
        );
        return Err(unsupported(text));
    }
    Ok(Column { name: native.name.clone(), ty: field.ty.clone(), affinity, key })
}

/// SQLite's own rule (datatype3.html §3.1).
pub(crate) fn affinity(declared: &str) -> Affinity {
    let declared = declared.to_ascii_uppercase();
    let has = |parts: &[&str]| parts.iter().any(|p| declared.contains(p));
    if has(&["INT"]) {
        Affinity::Integer
    } else if has(&["CHAR", "CLOB", "TEXT"]) {
        Affinity::Text
    } else if has(&["BLOB"]) || declared.is_empty() || declared == "ANY" {
        Affinity::Blob
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}

/// The type a declaration says; sizes in brackets mean nothing to SQLite.
pub(crate) fn declared_type(declared: &str) -> Option<Type> {
    let upper = declared.to_ascii_uppercase();
    let name = upper.split('(').next().unwrap_or_default().trim();
    match name {
        "BOOLEAN" | "BOOL" => Some(Type::Bool),
        "NUMERIC" | "DECIMAL" | "NUMBER" | "MONEY" => Some(Type::Decimal),
        "DATE" => Some(Type::Date),
        "TIME" => Some(Type::Time),
        "TIMETZ" => Some(Type::TimeTz),
        "DATETIME" | "TIMESTAMP" => Some(if upper.ends_with("WITH TIME ZONE") { ZONED } else { LOCAL }),
        "TIMESTAMPTZ" | "TIMESTAMP WITH TIME ZONE" => Some(ZONED),
        "UUID" | "GUID" => Some(Type::Uuid),
        "JSON" => Some(Type::Json),
        "INTERVAL" => Some(Type::Interval),
        "" | "ANY" => None,
        _ => match affinity(name) {
            Affinity::Integer => Some(Type::Int(64)),
            Affinity::Real => Some(Type::Float(64)),
            Affinity::Text => Some(Type::Text),
            Affinity::Blob => Some(Type::Bytes),
            // STRING and the like: SQLite would store '007' as 7.
            Affinity::Numeric => None,
        },
    }
}

const ZONED: Type = Type::Timestamp { zone: true };
const LOCAL: Type = Type::Timestamp { zone: false };

/// Whether a column of this affinity can hold values of that type without changing them; single
/// values it cannot hold are refused where they occur.
fn holds(ty: &Type, affinity: Affinity) -> bool {
    use Affinity::{Blob, Integer, Numeric, Text};
    match ty {
        Type::Bool | Type::Int(_) => matches!(affinity, Integer | Numeric | Blob),
        Type::Float(_) => affinity != Text,
        Type::Text => matches!(affinity, Text | Blob),
        Type::Json => matches!(affinity, Text | Blob | Numeric),
        Type::Decimal | Type::Bytes | Type::Uuid | Type::Date | Type::Time | Type::TimeTz => true,
        Type::Timestamp { .. } | Type::Interval => true,
        Type::Array(_) | Type::Record(_) => false,
    }
}

fn suggestion(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "BOOLEAN",
        Type::Int(_) => "INTEGER",
        Type::Float(_) => "REAL",
        Type::Decimal => "DECIMAL",
        Type::Bytes => "BLOB",
        Type::Array(_) | Type::Record(_) => {
            "JSON, and the field json: lists and nested records have no column type in SQLite"
        }
        _ => "TEXT",
    }
}
