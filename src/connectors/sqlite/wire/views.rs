//! A table seen under each version the dataset's schema has had (read-10): as `wire::table` reads it, with
//! those of a version's fields that it has columns for. Columns for new fields are made here.

use super::super::client::{Dataset, Placed, immediate};
use super::super::failure::failing;
use super::install::{self, Installed};
use super::table::{Table, quoted};
use crate::connectors::contract::{CollectionNo, Planned};
use crate::event::lineage::Lens;
use crate::event::{Canonical, Field, Row, Schema, SchemaId, Type, Value};
use crate::runtime::error::{Code, Error, Result};
use rusqlite::Connection;
use std::collections::HashMap;
use std::sync::Arc;

/// All versions, for one collection.
#[derive(Debug)]
pub(crate) struct Views {
    by: HashMap<SchemaId, View>,
    newest: SchemaId,
}

/// One version.
#[derive(Debug)]
pub(crate) struct View {
    /// The table, as rows of what it has of this version.
    pub(crate) placed: Placed,
    /// From rows of the version to rows of the table.
    lens: Lens,
    /// Whether columns of the version are missing.
    pub(crate) has_lost: bool,
    /// The version that the ledger names: the one that has just what is here, if there is one.
    given: SchemaId,
}

impl Views {
    /// Sees to it that the table can hold the newest version, and looks at it under all of them.
    pub(crate) fn open(
        conn: &mut Connection,
        dataset: &Dataset,
        no: CollectionNo,
        versions: &[Arc<Schema>],
        add: &[Arc<str>],
    ) -> Result<Self> {
        let opened = dataset.table(no)?;
        immediate(conn, |tx| {
            let names = names(tx, &opened.table.name)?;
            let newest = versions.last().cloned().unwrap_or_else(|| opened.table.schema.clone());
            let missing = |f: &&Field| !names.iter().any(|n| n.eq_ignore_ascii_case(&f.name)) && add.contains(&f.name);
            newest.fields.iter().filter(missing).try_for_each(|field| give(tx, &opened.table.name, field))?;
            let by: Result<HashMap<_, _>> =
                versions.iter().map(|v| Ok((v.id, view(tx, opened, v, versions)?))).collect();
            let mut views = Views { by: by?, newest: newest.id };
            // The triggers note what the newest version has; a new layout begins (read-12).
            let table = &views.newest(opened).table;
            let installed = install::collection(tx, &dataset.name, &newest.name, table)?;
            views.by.values_mut().for_each(|view| view.placed.installed = installed);
            Ok(views)
        })
    }

    /// How a version is seen.
    pub(crate) fn of(&self, schema: SchemaId) -> Result<&View> {
        self.by.get(&schema).ok_or_else(|| {
            let text = "a record is of a schema this platform was not told of; this is a bug, report it";
            Error::new(Code::Unexpected, text).at("schema", schema.0)
        })
    }

    /// The table under the newest version.
    pub(crate) fn newest<'a>(&'a self, opened: &'a Placed) -> &'a Placed {
        self.by.get(&self.newest).map_or(opened, |view| &view.placed)
    }
}

impl View {
    /// A version as the ledger notes it.
    pub(crate) fn noted(&self, planned: &Planned) -> Planned {
        let version = Canonical { schema: self.given, ..Canonical::clone(&planned.version) };
        Planned { version: Arc::new(version), ..planned.clone() }
    }

    /// A row of the version as a row of the table.
    pub(crate) fn lifted(&self, row: &Row) -> Row {
        self.lens.lift(row, &Value::Null)
    }

    /// The same of what is planned.
    pub(crate) fn planned(&self, planned: &Planned) -> Planned {
        let Some(row) = &planned.version.after else { return planned.clone() };
        let after = Some(Arc::new(self.lifted(row)));
        Planned { version: Arc::new(Canonical { after, ..Canonical::clone(&planned.version) }), ..planned.clone() }
    }
}

fn view(conn: &Connection, opened: &Placed, version: &Arc<Schema>, all: &[Arc<Schema>]) -> Result<View> {
    let part = part(conn, &opened.table.name, version)?;
    let has_lost = part.fields.len() < version.fields.len();
    let table = load(conn, &opened.table.name, &part)?;
    let given = all.iter().rev().find(|v| v.fields == part.fields).map_or(version.id, |v| v.id);
    Ok(View { placed: Placed { table, ..opened.clone() }, lens: Lens::new(version, &part), has_lost, given })
}

fn load(conn: &Connection, table: &str, schema: &Arc<Schema>) -> Result<Table> {
    Table::load(conn, table, &schema.name, Some(schema.clone()))?.ok_or_else(|| {
        Error::new(Code::TableMissing, "the table is not there any more; create it again").at("table", table)
    })
}

/// The fields of a version that a table has columns for. What may not be null must be there.
pub(crate) fn part(conn: &Connection, table: &str, version: &Arc<Schema>) -> Result<Arc<Schema>> {
    let names = names(conn, table)?;
    let here = |f: &&Field| !f.nullable || names.iter().any(|n| n.eq_ignore_ascii_case(&f.name));
    let fields: Vec<Field> = version.fields.iter().filter(here).cloned().collect();
    let index = |name: &Arc<str>| fields.iter().position(|f| f.name == *name);
    let key = version.key_fields().filter_map(|f| index(&f.name)).collect();
    Ok(Arc::new(Schema { id: version.id, name: version.name.clone(), key, fields }))
}

/// The dataset's tables as their triggers note them now: a sink may have added columns since it was opened.
pub(crate) fn noted(conn: &mut Connection, opened: &Dataset) -> Result<Dataset> {
    let failing = || failing("reading what the triggers note");
    let mut tables = Vec::with_capacity(opened.tables.len());
    for placed in &opened.tables {
        let sql = "SELECT id, columns FROM _driftless_layouts WHERE collection = ?1 ORDER BY id DESC LIMIT 1";
        let found: (i64, String) = conn
            .query_row(sql, [placed.installed.collection], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(failing())?;
        let columns: Vec<String> = serde_json::from_str(&found.1).map_err(|e| {
            Error::new(Code::StoreCorrupt, "a layout in _driftless_layouts cannot be read").caused_by(e)
        })?;
        let has = |schema: &Schema| columns.len() == schema.fields.len();
        if found.0 == placed.installed.layout && has(&placed.table.schema) {
            tables.push(placed.clone());
            continue;
        }
        let name = &placed.table.name;
        let own = Table::load(conn, name, &placed.wanted.name, None)?.map(|table| table.schema);
        let field = |column: &String| {
            let known = |s: &Schema| s.fields.iter().find(|f| f.name.eq_ignore_ascii_case(column)).cloned();
            known(&placed.wanted).or_else(|| own.as_deref().and_then(known))
        };
        let fields: Vec<Field> = columns.iter().filter_map(field).collect();
        let index = |key: &Arc<str>| fields.iter().position(|f| f.name == *key);
        let key = placed.wanted.key_fields().filter_map(|f| index(&f.name)).collect();
        let schema = Arc::new(Schema { id: SchemaId(0), name: placed.wanted.name.clone(), key, fields });
        let installed = Installed { layout: found.0, ..placed.installed };
        tables.push(Placed { table: load(conn, name, &schema)?, installed, ..placed.clone() });
    }
    Ok(Dataset { client: opened.client.clone(), name: opened.name.clone(), tables })
}

fn names(conn: &Connection, table: &str) -> Result<Vec<String>> {
    let failing = || failing("reading the table's columns");
    let mut names = conn.prepare("SELECT name FROM pragma_table_xinfo(?1) WHERE hidden = 0").map_err(failing())?;
    let all = names.query_map([table], |row| row.get(0)).map_err(failing())?;
    all.collect::<rusqlite::Result<_>>().map_err(failing())
}

/// Gives the table a column for a new field.
fn give(conn: &Connection, table: &str, field: &Field) -> Result<()> {
    let missing = |what: String| {
        let text = format!("the table lacks a column for the field `{}` of the dataset; {what}", field.name);
        Error::new(Code::ColumnMissing, text).at("table", table)
    };
    let Some(declared) = declared(&field.ty) else {
        return Err(missing("lists and nested records have no column type in SQLite: leave the platform out".into()));
    };
    let alter = format!("ALTER TABLE {} ADD COLUMN {} {declared}", quoted(table), quoted(&field.name));
    if !field.nullable {
        return Err(missing(format!("run {alter} NOT NULL DEFAULT …")));
    }
    conn.execute_batch(&alter).map_err(failing("adding a column for a new field"))
}

/// A declared type from which the type is read again.
fn declared(ty: &Type) -> Option<&'static str> {
    Some(match ty {
        Type::Bool => "BOOLEAN",
        Type::Int(_) => "INTEGER",
        Type::Float(_) => "REAL",
        Type::Decimal => "DECIMAL",
        Type::Text => "TEXT",
        Type::Bytes => "BLOB",
        Type::Uuid => "UUID",
        Type::Date => "DATE",
        Type::Time => "TIME",
        Type::TimeTz => "TIMETZ",
        Type::Timestamp { zone: false } => "TIMESTAMP",
        Type::Timestamp { zone: true } => "TIMESTAMPTZ",
        Type::Interval => "INTERVAL",
        Type::Json => "JSON",
        Type::Array(_) | Type::Record(_) => return None,
    })
}
