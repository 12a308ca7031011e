//! What the server says of a table: its columns, how each is read, its key, its replica identity. A
//! table's form is read once, when the platform is opened; the log is compared with it.

use super::super::failure;
use super::super::values::Native;
use super::{Session, quoted};
use crate::connectors::contract::Place;
use crate::event::{Field, Schema, SchemaId, Type};
use crate::runtime::error::{Code, Error, Result};
use std::collections::HashMap;
use std::sync::Arc;

/// A column of a table; generated ones are left out everywhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Column {
    /// Its name.
    pub name: String,
    /// The number of its type, as the log names it.
    pub ty: u32,
    /// How it is read and written.
    pub native: Native,
    /// The type's own limit (length, precision, scale), -1 for none.
    pub modifier: i32,
    /// Whether it refuses null.
    pub not_null: bool,
    /// The type's name in SQL.
    pub sql: String,
    /// `GENERATED ALWAYS AS IDENTITY`: inserted, but never updated.
    pub always: bool,
}

/// A table that holds a collection.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// Its number.
    pub oid: u32,
    /// Its schema.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its replica identity: `d`, `n`, `f` or `i`.
    pub identity: u8,
    /// `p` for a partitioned table, `r` for an ordinary one.
    pub kind: u8,
    /// Its columns in order.
    pub columns: Vec<Column>,
    /// What its records look like.
    pub schema: Arc<Schema>,
    /// For each field of `schema` the index in `columns`.
    pub fields: Vec<usize>,
    /// Fields of the dataset have no column here.
    pub lacks: bool,
}

/// The columns, domains followed to what they stand on.
const COLUMNS: &str = "
WITH RECURSIVE base(att, ty, modifier, strict) AS (
    SELECT attnum, atttypid, atttypmod, attnotnull FROM pg_attribute
    WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
  UNION ALL
    SELECT b.att, t.typbasetype, CASE WHEN t.typtypmod >= 0 THEN t.typtypmod ELSE b.modifier END, b.strict OR t.typnotnull
    FROM base b JOIN pg_type t ON t.oid = b.ty WHERE t.typtype = 'd')
SELECT a.attname::text, a.atttypid, t.oid, b.modifier, b.strict, t.typtype = 'e', t.typcategory = 'A' AND t.typlen = -1,
       coalesce(e.oid, 0), coalesce(e.typtype::text, ''), coalesce(e.typdelim::text, ''),
       format_type(a.atttypid, -1), a.attidentity = 'a'
FROM base b JOIN pg_type t ON t.oid = b.ty AND t.typtype <> 'd'
JOIN pg_attribute a ON a.attrelid = $1 AND a.attnum = b.att
LEFT JOIN pg_type e ON e.oid = t.typelem
ORDER BY a.attnum";

/// All types, in the columns of `COLUMNS` as far as they say how a type is read.
const TYPES: &str = "
WITH RECURSIVE base(own, ty) AS (
    SELECT oid, oid FROM pg_type
  UNION ALL
    SELECT b.own, t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.ty WHERE t.typtype = 'd')
SELECT '', b.own, t.oid, 0, false, t.typtype = 'e', t.typcategory = 'A' AND t.typlen = -1,
       coalesce(e.oid, 0), coalesce(e.typtype::text, ''), coalesce(e.typdelim::text, '')
FROM base b JOIN pg_type t ON t.oid = b.ty AND t.typtype <> 'd'
LEFT JOIN pg_type e ON e.oid = t.typelem";

impl Table {
    /// Reads the table of `place`; `None` if it is not there.
    pub(crate) async fn read(session: &Session, place: &Place) -> Result<Option<Self>> {
        let (namespace, name) = address(place)?;
        let Some(mut table) = Table::named(session, &place.name, namespace, name).await? else { return Ok(None) };
        if let Some(wanted) = &place.schema {
            table.agree(wanted)?;
        }
        Ok(Some(table))
    }

    /// Reads a table with all its columns; `None` if it is not there.
    pub(crate) async fn named(
        session: &Session,
        collection: &str,
        namespace: String,
        name: String,
    ) -> Result<Option<Self>> {
        let found = session
            .query_opt(
                "SELECT c.oid, c.relreplident::text, c.relkind::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p')",
                &[&namespace, &name],
            )
            .await
            .map_err(failure::of)?;
        let Some(found) = found else { return Ok(None) };
        let (oid, identity, kind): (u32, String, String) = (found.get(0), found.get(1), found.get(2));
        let first = |text: &str| text.bytes().next().unwrap_or_default();
        let columns = columns(session, oid).await?;
        let key = key_columns(session, oid, first(&identity) == b'i').await?;
        let own = Arc::new(own_schema(collection, &format!("{namespace}.{name}"), &columns, &key)?);
        let (identity, kind) = (first(&identity), first(&kind));
        let mut table =
            Table { oid, namespace, name, identity, kind, columns, schema: own, fields: Vec::new(), lacks: false };
        table.see(table.schema.clone());
        Ok(Some(table))
    }

    /// Shows its rows as those of a schema, all of whose fields it has columns for.
    pub(crate) fn see(&mut self, schema: Arc<Schema>) {
        self.fields = schema.fields.iter().filter_map(|f| self.index_of(&f.name)).collect();
        self.schema = schema;
    }

    /// Its full name in statements.
    #[must_use]
    pub(crate) fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.namespace), quoted(&self.name))
    }

    /// Its full name for people.
    #[must_use]
    pub(crate) fn shown(&self) -> String {
        format!("{}.{}", self.namespace, self.name)
    }

    /// The column of a field.
    #[must_use]
    pub(crate) fn column(&self, field: usize) -> Option<&Column> {
        self.columns.get(*self.fields.get(field)?)
    }

    /// The columns of the fields, in their order.
    pub(crate) fn field_columns(&self) -> impl Iterator<Item = &Column> {
        self.fields.iter().filter_map(|&i| self.columns.get(i))
    }

    /// The columns of the key, in key order.
    pub(crate) fn key_columns(&self) -> impl Iterator<Item = &Column> {
        self.schema.key.iter().filter_map(|&f| self.column(f))
    }

    /// Whether every column's binary form is understood.
    #[must_use]
    pub(crate) fn has_binary(&self) -> bool {
        self.columns.iter().all(|c| c.native.has_binary())
    }

    fn index_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name == name)
    }

    /// Takes the dataset's schema for its own, as far as the table has columns for it: what is missing
    /// may have been dropped here, or is not here yet (read-10).
    fn agree(&mut self, wanted: &Arc<Schema>) -> Result<()> {
        let shown = self.shown();
        let unsupported = |text: String| Error::new(Code::SchemaUnsupported, text).at("table", &shown);
        for field in &wanted.fields {
            match self.index_of(&field.name).and_then(|i| self.columns.get(i)) {
                None if field.nullable => {}
                None => {
                    return Err(unsupported(format!(
                        "the table has no column \"{}\" for a field of the dataset",
                        field.name
                    )));
                }
                Some(column) if !holds(&column.native, &field.ty) => {
                    let text = "is of type {type}, which does not hold what the dataset has there";
                    let text = text.replace("{type}", &column.sql);
                    return Err(unsupported(format!("column \"{}\" {text}", column.name)));
                }
                Some(_) => {}
            }
        }
        let names = |schema: &Schema| schema.key_fields().map(|f| f.name.clone()).collect::<Vec<_>>();
        let (mut here, mut there) = (names(&self.schema), names(wanted));
        here.sort();
        there.sort();
        if here != there {
            return Err(unsupported(format!(
                "the table's key is {here:?}, the dataset's is {there:?}; they must be equal"
            )));
        }
        let part = self.part_of(wanted);
        self.lacks = part.fields.len() < wanted.fields.len();
        self.see(part);
        Ok(())
    }

    /// The fields of a schema that the table has columns for.
    #[must_use]
    pub(crate) fn part_of(&self, wanted: &Arc<Schema>) -> Arc<Schema> {
        let here = |f: &&Field| {
            let column = self.index_of(&f.name).and_then(|i| self.columns.get(i));
            column.is_some_and(|column| holds(&column.native, &f.ty))
        };
        let fields: Vec<Field> = wanted.fields.iter().filter(here).cloned().collect();
        if fields.len() == wanted.fields.len() {
            return wanted.clone();
        }
        let index = |name: &Arc<str>| fields.iter().position(|f| f.name == *name);
        let key = wanted.key_fields().filter_map(|f| index(&f.name)).collect();
        Arc::new(Schema { id: wanted.id, name: wanted.name.clone(), key, fields })
    }
}

/// Whether a column can hold every kind of value of a type (its limits are checked value by value).
fn holds(native: &Native, ty: &Type) -> bool {
    match (native, ty) {
        (Native::Int(_), Type::Int(_)) => true,
        (Native::Array(native), Type::Array(ty)) => holds(native, ty),
        (native, ty) => native.event_type() == *ty,
    }
}

/// Where a place's table is: `{table: "schema.name"}`, `{schema: …, table: …}`, or by the collection's name.
fn address(place: &Place) -> Result<(String, String)> {
    let wrong = |text: &str| Error::new(Code::ConfigInvalid, text).at("collection", &place.name);
    let text = |key: &str| match place.on.get(key) {
        None => Ok(None),
        Some(serde_json::Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(wrong("on: `table` and `schema` are names")),
    };
    if place.on.as_object().is_some_and(|on| on.keys().any(|k| k != "table" && k != "schema")) {
        return Err(wrong("on: a table of Postgres is named by `table` and, if need be, `schema`"));
    }
    let table = text("table")?.unwrap_or_else(|| place.name.clone());
    Ok(match (text("schema")?, table.split_once('.')) {
        (Some(schema), _) => (schema, table),
        (None, Some((schema, name))) => (schema.to_owned(), name.to_owned()),
        (None, None) => ("public".into(), table),
    })
}

/// How every type of the database is read: the log names types only by their numbers.
pub(crate) async fn types(session: &Session) -> Result<HashMap<u32, Native>> {
    let rows = session.query(TYPES, &[]).await.map_err(failure::of)?;
    Ok(rows.iter().map(|row| (row.get(1), native(row))).collect())
}

/// From a row of `COLUMNS` or `TYPES`.
fn native(row: &tokio_postgres::Row) -> Native {
    let (base, element, delimiter): (u32, u32, String) = (row.get(2), row.get(7), row.get(9));
    match (row.get::<_, bool>(5), row.get::<_, bool>(6), row.get::<_, String>(8).as_str()) {
        (true, ..) => Native::Text,
        (_, true, "e") => Native::Array(Box::new(Native::Text)),
        (_, true, "b") if delimiter == "," => Native::Array(Box::new(Native::of_scalar(element))),
        (_, true, _) => Native::Printed,
        _ => Native::of_scalar(base),
    }
}

async fn columns(session: &Session, oid: u32) -> Result<Vec<Column>> {
    let rows = session.query(COLUMNS, &[&oid]).await.map_err(failure::of)?;
    let column = |row: &tokio_postgres::Row| {
        let native = native(row);
        Column {
            name: row.get(0),
            ty: row.get(1),
            native,
            modifier: row.get(3),
            not_null: row.get(4),
            sql: row.get(10),
            always: row.get(11),
        }
    };
    Ok(rows.iter().map(column).collect())
}

/// The names of the key's columns in order: the replica identity's index, or the primary key.
async fn key_columns(session: &Session, oid: u32, by_index: bool) -> Result<Vec<String>> {
    let which = if by_index { "i.indisreplident" } else { "i.indisprimary" };
    let statement = format!(
        "SELECT a.attname::text FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(att, n)
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.att
         WHERE i.indrelid = $1 AND {which} AND k.n <= i.indnkeyatts ORDER BY k.n"
    );
    let rows = session.query(&statement, &[&oid]).await.map_err(failure::of)?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn own_schema(collection: &str, at: &str, columns: &[Column], key: &[String]) -> Result<Schema> {
    let of = |key: &String| columns.iter().position(|c| c.name == *key);
    let key: Vec<usize> = key.iter().filter_map(of).collect();
    if key.is_empty() {
        let text = "the table has no primary key: add one, or a unique index on NOT NULL columns and REPLICA IDENTITY USING INDEX";
        return Err(Error::new(Code::TableWithoutKey, text).at("table", at));
    }
    let odd = |c: &&Column| {
        matches!(c.native, Native::Float(_) | Native::Array(_) | Native::Json(_) | Native::Interval | Native::TimeTz)
    };
    if let Some(column) = key.iter().filter_map(|&i| columns.get(i)).find(odd) {
        let text =
            format!("column \"{}\" of the key is of type {}, which has no exact key form", column.name, column.sql);
        return Err(Error::new(Code::SchemaUnsupported, text).at("table", at));
    }
    let field = |c: &Column| Field { name: c.name.as_str().into(), ty: c.native.event_type(), nullable: !c.not_null };
    let fields = columns.iter().map(field).collect();
    Ok(Schema { id: SchemaId(0), name: collection.into(), fields, key })
}
