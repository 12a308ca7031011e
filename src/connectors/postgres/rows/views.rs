//! A table seen under each version the dataset's schema has had (read-10). Columns that a version does
//! not have are not touched when it is written, and a fingerprint counts under its own version only.
//! Columns for new fields are made here, tagged as driftless' own; who may not make them is told the
//! statement.

use super::super::client::catalog::Table;
use super::super::client::{Session, quoted};
use super::super::failure;
use super::super::reader::PREFIX;
use super::super::reader::changes::Collection;
use super::super::reader::forms::sql_type;
use super::sql::Texts;
use crate::event::lineage::Lens;
use crate::event::{Canonical, Field, Fp, Row, Schema, SchemaId, Value};
use crate::runtime::error::{Code, Error, Result};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio_postgres::{Statement, Transaction};

/// All versions, for one collection.
pub(crate) struct Views {
    /// The table with all its columns: what is locked and read.
    pub own: Collection,
    by: HashMap<SchemaId, View>,
    ledger_schema: String,
    /// Statements to insert and to update, prepared when they are first needed.
    prepared: Mutex<HashMap<SchemaId, (Statement, Statement)>>,
}

/// One version.
pub(crate) struct View {
    /// The table as rows of what it has of this version.
    pub table: Table,
    /// From rows of the version to rows of the table.
    pub lens: Lens,
    /// From all columns to the version, for fingerprints.
    seen: Lens,
    has_lost: bool,
    /// The version that the ledger names: with a column lost, the one that has just what is here, if there
    /// is one. The column may come back with a default, which is no edit.
    pub given: SchemaId,
}

impl Views {
    /// Sees to it that the table can hold the newest version, and looks at it under all of them.
    pub(crate) async fn open(
        session: &Session,
        collection: &Collection,
        versions: &[Arc<Schema>],
        add: &[Arc<str>],
        ledger_schema: &str,
    ) -> Result<Self> {
        let mut own = read(session, collection).await?;
        let newest = versions.last().cloned().unwrap_or_else(|| own.schema.clone());
        let missing = |own: &Table| -> Vec<Field> {
            newest.fields.iter().filter(|f| !own.columns.iter().any(|c| c.name == *f.name)).cloned().collect()
        };
        let wanted: Vec<Field> = missing(&own).into_iter().filter(|f| add.contains(&f.name) || !f.nullable).collect();
        if !wanted.is_empty() {
            give(session, &own, &wanted, add).await?;
            own = read(session, collection).await?;
        }
        own.see(Arc::new(wide(&own, &newest)));
        let view = |version: &Arc<Schema>| {
            let mut table = own.clone();
            table.see(own.part_of(version));
            let has_lost = table.schema.fields.len() < version.fields.len();
            let (lens, seen) = (Lens::new(version, &table.schema), Lens::new(&own.schema, version));
            let same = |v: &&Arc<Schema>| v.fields == table.schema.fields;
            let given = versions.iter().rev().find(same).map_or(version.id, |v| v.id);
            (version.id, View { table, lens, seen, has_lost, given })
        };
        let by = versions.iter().map(view).collect();
        let own = Collection { table: Arc::new(own.clone()), ..collection.clone() };
        Ok(Views { own, by, ledger_schema: ledger_schema.into(), prepared: Mutex::default() })
    }

    /// How a version is seen.
    pub(crate) fn of(&self, schema: SchemaId) -> Result<&View> {
        self.by.get(&schema).ok_or_else(|| {
            let text = "a record is of a schema this platform was not told of; this is a bug, report it";
            Error::new(Code::Unexpected, text).at("schema", schema.0)
        })
    }

    /// The fingerprint of what stands there, under a version.
    pub(crate) fn fp(&self, row: Option<&Row>, schema: SchemaId) -> Fp {
        match (row, self.by.get(&schema)) {
            (Some(row), Some(view)) => view.seen.fp(row),
            (Some(row), None) => Fp::of_row(&self.own.table.schema, row),
            (None, _) => Fp::ABSENT,
        }
    }

    /// Whether the table has no column any more for a field of a version.
    pub(crate) fn has_lost(&self, schema: SchemaId) -> bool {
        self.by.get(&schema).is_some_and(|view| view.has_lost)
    }

    /// Inserts, or updates, rows of one version.
    pub(crate) async fn statement(
        &self,
        transaction: &Transaction<'_>,
        schema: SchemaId,
        update: bool,
    ) -> Result<Statement, tokio_postgres::Error> {
        let chosen = |both: &(Statement, Statement)| if update { both.1.clone() } else { both.0.clone() };
        if let Some(both) = self.prepared.lock().get(&schema) {
            return Ok(chosen(both));
        }
        let table = self.by.get(&schema).map_or(&*self.own.table, |view| &view.table);
        let texts = Texts::new(table, &self.ledger_schema);
        let both = (transaction.prepare(&texts.insert).await?, transaction.prepare(&texts.update).await?);
        let statement = chosen(&both);
        self.prepared.lock().insert(schema, both);
        Ok(statement)
    }
}

impl View {
    /// A field of a version's content, by its number in the table's rows.
    pub(crate) fn field<'v>(&self, version: &'v Canonical, index: usize) -> &'v Value {
        let row = version.after.as_ref();
        row.and_then(|row| row.get(self.lens.place(index)?)).unwrap_or(&Value::Null)
    }
}

async fn read(session: &Session, collection: &Collection) -> Result<Table> {
    let Table { namespace, name, schema, .. } = &*collection.table;
    let found = Table::named(session, &schema.name, namespace.clone(), name.clone()).await?;
    found.ok_or_else(|| {
        let text = "the table is not there any more; create it again";
        Error::new(Code::TableMissing, text).at("table", collection.table.shown())
    })
}

/// All columns, with the dataset's types and key where it has them.
fn wide(own: &Table, newest: &Schema) -> Schema {
    let known = |f: &Field| newest.index_of(&f.name).and_then(|i| newest.fields.get(i)).unwrap_or(f).clone();
    let fields: Vec<Field> = own.schema.fields.iter().map(known).collect();
    let key = newest.key_fields().filter_map(|k| fields.iter().position(|f| f.name == k.name)).collect();
    Schema { id: SchemaId(0), name: newest.name.clone(), fields, key }
}

/// Gives the table columns for new fields.
async fn give(session: &Session, table: &Table, fields: &[Field], add: &[Arc<str>]) -> Result<()> {
    let column = |f: &Field| Some(format!("ADD COLUMN IF NOT EXISTS {} {}", quoted(&f.name), sql_type(&f.ty)?));
    let columns: Option<Vec<String>> = fields.iter().map(column).collect();
    let names = fields.iter().map(|f| &*f.name).collect::<Vec<_>>().join(", ");
    let missing = |what: String| {
        let text = format!("the table lacks columns for fields of the dataset ({names}){what}");
        Error::new(Code::ColumnMissing, text).at("table", table.shown())
    };
    let Some(columns) = columns else {
        return Err(missing(
            ": add columns of your choice for them, for lists of lists and records have no type here".into(),
        ));
    };
    let alter = format!("ALTER TABLE {} {}", table.quoted(), columns.join(", "));
    if fields.iter().any(|f| !f.nullable || !add.contains(&f.name)) {
        return Err(missing(format!("; run {alter}")));
    }
    // Sinks of several partitions come here at once. The message is the tag: a hint, never proof.
    let statement = format!(
        "BEGIN; SELECT pg_advisory_xact_lock(7254119037); SELECT pg_logical_emit_message(true, '{PREFIX}', 'schema');
         {alter}; COMMIT"
    );
    let Err(error) = session.batch_execute(&statement).await else { return Ok(()) };
    session.batch_execute("ROLLBACK").await.map_err(failure::of)?;
    if error.code().is_some_and(|state| state.code() == "42501") {
        return Err(missing(format!(", and the user may not add them; run {alter}")).caused_by(error));
    }
    Err(failure::of(error))
}
