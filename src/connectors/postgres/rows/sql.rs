//! The statements of a sink, built once per table, and how whole batches travel in them: one array
//! per column, unnested by the server. Batches have no statistics, so joins are by index (session
//! settings in `rows`).

use super::super::client::catalog::{Column, Table};
use super::super::client::{literal, quoted};
use super::super::values::Native;
use super::super::wire::cursor::Malformed;
use crate::event::Value;
use bytes::{BufMut as _, Bytes, BytesMut};
use std::error::Error;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// A column's expression in the form `read` understands.
#[must_use]
pub(crate) fn readable(column: &Column, alias: &str) -> String {
    let name = format!("{alias}.{}", quoted(&column.name));
    if column.native.has_binary() { name } else { printed(&name) }
}

/// An expression as the server prints it. A cast to text is something else for some types (inet), and
/// a composite value of nulls `IS NULL` without being null.
fn printed(expression: &str) -> String {
    format!("CASE WHEN num_nonnulls({expression}) = 1 THEN format('%s', {expression}) END")
}

/// Reads a value that was selected by `readable`.
pub(crate) fn read(native: &Native, bytes: Bytes) -> Result<Value, Malformed> {
    if native.has_binary() { native.read_binary(bytes) } else { native.read_text(bytes) }
}

/// The statements of one table.
pub(crate) struct Texts {
    /// Rows of keys, locked; the number of the key, place and part of the table, then the columns.
    pub lock: String,
    /// The same without locks.
    pub read: String,
    /// Numbers of the keys that exist.
    pub exist: String,
    /// Inserts rows; the parameters are the fields.
    pub insert: String,
    /// Updates locked rows; the parameters are places, parts, then the fields.
    pub update: String,
    /// Deletes locked rows; the parameters are places and parts.
    pub delete: String,
    /// Puts rows of keys into `observed`: collection, canonical keys, then the keys' columns.
    pub observe: String,
}

impl Texts {
    /// For a table and the schema of the ledger.
    #[must_use]
    pub(crate) fn new(table: &Table, ledger_schema: &str) -> Self {
        let t = table.quoted();
        let keys = unnest(table.key_columns(), 1);
        let key_names = names(table.key_columns().count());
        let on = same(table);
        let read: Vec<String> = table.field_columns().map(|c| readable(c, "t")).collect();
        let named = |(i, expression): (usize, &String)| format!("{expression} AS v{i}");
        let read_named = read.iter().enumerate().map(named).collect::<Vec<_>>().join(", ");
        let outer: String = (0..read.len()).map(|i| format!(", r.v{i}")).collect();
        let fields = unnest(table.field_columns(), 3);
        let field_names = names(table.field_columns().count());
        let columns: Vec<String> = table.field_columns().map(|c| quoted(&c.name)).collect();
        let values: Vec<String> = table.field_columns().enumerate().map(|(i, c)| cast(i, c)).collect();
        // All columns are set, equal ones too: so the reader knows a sink's image by its fingerprint (read-1).
        let set = table.field_columns().enumerate().filter(|(_, c)| !c.always);
        let set: Vec<String> = set.map(|(i, c)| format!("{} = {}", quoted(&c.name), cast(i, c))).collect();
        let set =
            if set.is_empty() { format!("{0} = t.{0}", columns.first().map_or("", |c| c)) } else { set.join(", ") };
        let conflict: Vec<String> = table.key_columns().map(|c| quoted(&c.name)).collect();
        // Each value behind its column's name: the table may be of another form when the log is read.
        let named_value = |c: &Column| format!("{}, {}", literal(&c.name), printed(&format!("t.{}", quoted(&c.name))));
        let image: Vec<String> = table.field_columns().map(named_value).collect();
        let keyed = unnest(table.key_columns(), 3);
        let numbered = format!("{keys} WITH ORDINALITY AS k({key_names}, i)");
        let inserted = unnest(table.field_columns(), 1);
        // The inner select cannot be pulled up: keys are always looked up one by one in the index,
        // whatever the planner believes the size of the table to be.
        Texts {
            lock: format!(
                "SELECT k.i, r.place, r.part{outer} FROM {numbered} CROSS JOIN LATERAL
                 (SELECT t.ctid::text AS place, t.tableoid AS part, {read_named} FROM {t} t WHERE {on} FOR UPDATE SKIP LOCKED) r"
            ),
            read: format!(
                "SELECT k.i, NULL::text, NULL::oid{outer} FROM {numbered} CROSS JOIN LATERAL
                 (SELECT {read_named} FROM {t} t WHERE {on} OFFSET 0) r"
            ),
            exist: format!("SELECT k.i FROM {numbered} CROSS JOIN LATERAL (SELECT FROM {t} t WHERE {on} OFFSET 0) r"),
            insert: format!(
                "INSERT INTO {t} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {inserted} AS k({field_names}) ON CONFLICT ({}) DO NOTHING",
                columns.join(", "),
                values.join(", "),
                conflict.join(", ")
            ),
            update: format!(
                "UPDATE {t} t SET {set} FROM unnest($1::text[], $2::oid[], {} AS k(place, part, {field_names}) WHERE {PLACED}",
                fields.trim_start_matches("unnest(")
            ),
            delete: format!("DELETE FROM {t} t USING unnest($1::text[], $2::oid[]) AS k(place, part) WHERE {PLACED}"),
            observe: format!(
                "INSERT INTO {}.observed (collection, key, present, image)
                 SELECT $1, k.key, r.present IS NOT NULL, r.image
                 FROM unnest($2::bytea[], {} AS k(key, {key_names}) LEFT JOIN LATERAL
                 (SELECT true AS present, ARRAY[{}] AS image FROM {t} t WHERE {on} OFFSET 0) r ON true
                 ON CONFLICT (collection, key) DO UPDATE SET present = excluded.present, image = excluded.image",
                quoted(ledger_schema),
                keyed.trim_start_matches("unnest("),
                image.join(", "),
            ),
        }
    }
}

/// The statements of an exclusive destination.
pub(crate) struct Blind {
    /// Inserts or replaces rows; the parameters are the fields.
    pub put: String,
    /// Deletes rows, if they are there; the parameters are the keys' columns.
    pub delete: String,
}

/// For a table that nobody else writes.
#[must_use]
pub(crate) fn upsert(table: &Table) -> Blind {
    let t = table.quoted();
    let columns: Vec<String> = table.field_columns().map(|c| quoted(&c.name)).collect();
    let values: Vec<String> = table.field_columns().enumerate().map(|(i, c)| cast(i, c)).collect();
    let key: Vec<String> = table.key_columns().map(|c| quoted(&c.name)).collect();
    let set = columns.iter().zip(table.field_columns()).filter(|(name, c)| !c.always && !key.contains(name));
    let mut set: Vec<String> = set.map(|(name, _)| format!("{name} = excluded.{name}")).collect();
    if set.is_empty() {
        // A row that is all key is written by being there, and counted as the others are.
        set.extend(key.first().map(|name| format!("{name} = excluded.{name}")));
    }
    Blind {
        put: format!(
            "INSERT INTO {t} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} AS k({}) ON CONFLICT ({}) DO UPDATE SET {}",
            columns.join(", "),
            values.join(", "),
            unnest(table.field_columns(), 1),
            names(columns.len()),
            key.join(", "),
            set.join(", ")
        ),
        delete: format!(
            "DELETE FROM {t} t USING {} AS k({}) WHERE {}",
            unnest(table.key_columns(), 1),
            names(key.len()),
            same(table)
        ),
    }
}

/// A locked row is where it was when it was locked: its place finds it again. (A join by key would
/// be turned around by the planner as long as it takes the table for small.)
const PLACED: &str = "t.ctid = k.place::tid AND t.tableoid = k.part";

/// `unnest($1::int8[], …)`, parameters counted from `first`.
fn unnest<'a>(columns: impl Iterator<Item = &'a Column>, first: usize) -> String {
    let array = |(i, c): (usize, &Column)| format!("${}::{}[]", i + first, c.native.sent_as().1);
    format!("unnest({})", columns.enumerate().map(array).collect::<Vec<_>>().join(", "))
}

fn names(count: usize) -> String {
    (0..count).map(|i| format!("c{i}")).collect::<Vec<_>>().join(", ")
}

/// A batch's value as its column's type.
fn cast(index: usize, column: &Column) -> String {
    match column.native.sent_as().1 {
        "text" if column.sql != "text" => format!("k.c{index}::{}", column.sql),
        _ => format!("k.c{index}"),
    }
}

/// The row's key is the batch's.
fn same(table: &Table) -> String {
    let one = |(i, c): (usize, &Column)| format!("t.{} = {}", quoted(&c.name), cast(i, c));
    table.key_columns().enumerate().map(one).collect::<Vec<_>>().join(" AND ")
}

/// One column of a batch, as an array of the type it is sent as.
#[derive(Debug)]
pub(crate) struct Sent<'a> {
    native: &'a Native,
    values: Vec<&'a Value>,
}

impl<'a> Sent<'a> {
    /// Of these values.
    pub(crate) fn new(column: &'a Column, values: impl Iterator<Item = &'a Value>) -> Self {
        Sent { native: &column.native, values: values.collect() }
    }
}

impl ToSql for Sent<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i32(i32::from(!self.values.is_empty()));
        out.put_i32(i32::from(self.values.iter().any(|v| v.is_null())));
        out.put_u32(self.native.sent_as().0);
        if !self.values.is_empty() {
            out.put_i32(i32::try_from(self.values.len())?);
            out.put_i32(1);
        }
        for value in &self.values {
            let at = out.len();
            out.put_i32(-1);
            if !value.is_null() {
                self.native.write_binary(value, out)?;
                let length = i32::try_from(out.len() - at - 4)?.to_be_bytes();
                if let Some(slot) = out.get_mut(at..at + 4) {
                    slot.copy_from_slice(&length);
                }
            }
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// A column of an answer, as it came.
pub(crate) struct Raw<'a>(pub Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Raw(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
