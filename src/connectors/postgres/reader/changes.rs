//! What a message of the log means for a dataset: rows of its collections, rows of the ledger, edits
//! a sink has put into the log. A table's form is what the log says at each place (`forms`).

use super::super::client::catalog::{self, Table};
use super::super::rows::ledger;
use super::super::values::Native;
use super::super::wire::cursor::Malformed;
use super::super::wire::pgoutput::{Column, Message, Oid, Old, Relation, Tuple};
use super::forms::Told;
use crate::connectors::contract::{Change, CollectionNo, Unreadable};
use crate::event::{Fp, Key, Row, Value};
use crate::runtime::error::{Code, Error, Result};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;

/// The collections of a dataset and where they lie.
#[derive(Clone, Debug)]
pub(crate) struct Tables {
    /// The schema of the ledger.
    pub ledger_schema: String,
    /// By collection number: the name in the ledger, partitions, table.
    pub list: Vec<Collection>,
}

/// One collection.
#[derive(Clone, Debug)]
pub(crate) struct Collection {
    /// Its name in the ledger.
    pub ledger_name: String,
    /// How many partitions its topics have.
    pub partitions: u32,
    /// Its table.
    pub table: Arc<Table>,
}

impl Tables {
    /// All that a publication must have, by schema and name: the data, and what sinks write beside it.
    pub(crate) fn published(&self) -> Vec<(String, String)> {
        let data = self.list.iter().map(|c| (c.table.namespace.clone(), c.table.name.clone()));
        let own = ["ledger", "observed"].map(|table| (self.ledger_schema.clone(), table.to_owned()));
        data.chain(own).collect()
    }

    /// The collection of a number.
    pub(crate) fn get(&self, no: CollectionNo) -> Result<&Collection> {
        self.list
            .get(usize::from(no))
            .ok_or_else(|| Error::new(Code::Unexpected, format!("there is no collection {no}")))
    }

    /// The collection of a name in the ledger.
    fn by_ledger_name(&self, name: &str) -> Option<(CollectionNo, &Collection)> {
        let found = self.list.iter().position(|c| c.ledger_name == name)?;
        Some((CollectionNo::try_from(found).ok()?, self.list.get(found)?))
    }
}

/// What a table of the log is to the dataset.
#[derive(Clone, Debug)]
enum Bound {
    Data(CollectionNo, Arc<Table>),
    Ledger,
    Observed,
    Other,
}

/// Translates messages; remembers the tables the log has described.
#[derive(Debug)]
pub(crate) struct Translator {
    pub(super) tables: Arc<Tables>,
    /// How the server's types are read, and whether rows come in binary form.
    pub(super) types: HashMap<Oid, Native>,
    pub(super) is_binary: bool,
    /// The form of each collection's table at this place, once the log has described it.
    pub(super) forms: HashMap<CollectionNo, Arc<Table>>,
    /// Descriptions whose tables have had no row since.
    described: HashMap<Oid, Relation>,
    relations: HashMap<Oid, Bound>,
}

impl Translator {
    /// Knows no relation yet.
    #[must_use]
    pub(crate) fn new(tables: Arc<Tables>, types: HashMap<Oid, Native>) -> Self {
        let is_binary = tables.list.iter().all(|c| c.table.has_binary());
        Translator {
            tables,
            types,
            is_binary,
            forms: HashMap::new(),
            described: HashMap::new(),
            relations: HashMap::new(),
        }
    }

    /// Whether values are asked for in binary form: only if all of them are understood so.
    #[must_use]
    pub(crate) fn is_binary(&self) -> bool {
        self.is_binary
    }

    /// Takes notice of a description. It counts from the first row of its table on: one that stands in a
    /// part that was rolled back has none, and the log describes the table anew.
    pub(crate) fn described(&mut self, relation: Relation) {
        self.described.insert(relation.oid, relation);
    }

    /// What a message's tables are from here on; returns the forms that rows are of now and were not.
    pub(crate) fn settle(&mut self, message: &Message) -> Result<Vec<(CollectionNo, Told)>> {
        let oids = match message {
            Message::Insert(oid, ..) | Message::Update(oid, ..) | Message::Delete(oid, ..) => std::slice::from_ref(oid),
            Message::Truncate(oids) => oids,
            _ => return Ok(Vec::new()),
        };
        let mut told = Vec::new();
        for oid in oids {
            if let Some(relation) = self.described.remove(oid) {
                told.extend(self.relation(&relation)?);
            }
        }
        Ok(told)
    }

    fn relation(&mut self, relation: &Relation) -> Result<Option<(CollectionNo, Told)>> {
        let is = |name: &str| relation.namespace == self.tables.ledger_schema && relation.name == name;
        let found = self.tables.list.iter().position(|c| {
            let t = &c.table;
            t.namespace == relation.namespace && t.name == relation.name
        });
        let shown = format!("{}.{}", relation.namespace, relation.name);
        let columns = relation.columns.iter().map(|c| (&*c.name, c.ty));
        let own = match found.and_then(|i| CollectionNo::try_from(i).ok()) {
            Some(no) => {
                if relation.identity == b'n' {
                    return Err(no_identity(&shown));
                }
                let told = self.take(no, relation).map_err(|e| e.at("table", shown))?;
                let table = self.form(no)?;
                self.relations.insert(relation.oid, Bound::Data(no, table));
                return Ok(told.map(|told| (no, told)));
            }
            None if is("ledger") => (Bound::Ledger, columns.eq(ledger::LEDGER.iter().map(|c| (c.0, c.1)))),
            None if is("observed") => (Bound::Observed, columns.eq(ledger::OBSERVED)),
            None => (Bound::Other, true),
        };
        if !own.1 {
            let text = "one of driftless' own tables has other columns than it was made with; remove the schema of the ledger and start the platform anew";
            return Err(Error::new(Code::SchemaUnsupported, text).at("table", shown));
        }
        self.relations.insert(relation.oid, own.0);
        Ok(None)
    }

    /// Adds the changes a message makes.
    pub(crate) fn changes(&self, message: &Message, into: &mut Vec<Change>) -> Result<()> {
        match message {
            Message::Insert(oid, new) => self.row(*oid, None, Some(new), into),
            Message::Update(oid, old, new) => self.row(*oid, old.as_deref(), Some(new), into),
            Message::Delete(oid, old) => self.row(*oid, Some(old), None, into),
            Message::Truncate(oids) => self.truncated(oids, into),
            _ => Ok(()),
        }
    }

    fn bound(&self, oid: Oid) -> Result<&Bound> {
        // A row of a table the log never described would be lost in silence otherwise.
        self.relations.get(&oid).ok_or_else(|| {
            Error::new(Code::Unexpected, format!("the log holds a row of table {oid} before its description"))
        })
    }

    /// Read-9: one statement may name several tables.
    fn truncated(&self, oids: &[Oid], into: &mut Vec<Change>) -> Result<()> {
        for oid in oids {
            if let Bound::Data(collection, _) = self.bound(*oid)? {
                into.push(Change::Truncate(*collection));
            }
        }
        Ok(())
    }

    fn row(&self, oid: Oid, old: Option<&Old>, new: Option<&Tuple>, into: &mut Vec<Change>) -> Result<()> {
        match self.bound(oid)? {
            Bound::Other => Ok(()),
            Bound::Ledger => self.ledger_row(old, new, into),
            Bound::Observed => self.observed_row(new, into),
            Bound::Data(no, table) => data_row(*no, table, old, new, into).map_err(|e| unreadable(&table.shown(), e)),
        }
    }

    fn ledger_row(&self, old: Option<&Old>, new: Option<&Tuple>, into: &mut Vec<Change>) -> Result<()> {
        let broken = |e| unreadable("the ledger", e);
        let Some(tuple) = new.or(old.map(Old::tuple)) else { return Ok(()) };
        let values: Vec<Value> = (0..)
            .zip(&ledger::LEDGER)
            .map(|(i, c)| c.2.read(tuple.column(i)))
            .collect::<Result<_, _>>()
            .map_err(broken)?;
        let (Some(Value::Text(name)), Some(Value::Bytes(key))) = (values.first(), values.get(2)) else {
            return Err(broken(Malformed("a row without collection or key")));
        };
        let Some((collection, _)) = self.tables.by_ledger_name(name.as_str()) else { return Ok(()) };
        let entry = match new {
            None => None,
            Some(_) => Some(ledger::read(&values).ok_or_else(|| broken(Malformed("a row somebody else wrote")))?.2),
        };
        into.push(Change::Ledger { collection, key: own(key), entry });
        Ok(())
    }

    fn observed_row(&self, new: Option<&Tuple>, into: &mut Vec<Change>) -> Result<()> {
        let broken = |e| unreadable("the observed edits", e);
        let Some(tuple) = new else { return Ok(()) };
        let cell = |i: usize, native: &Native| native.read(tuple.column(i)).map_err(broken);
        let (name, key, image) =
            (cell(0, &Native::Text)?, cell(1, &Native::Bytes)?, cell(3, &Native::Array(Box::new(Native::Text)))?);
        let (Value::Text(name), Value::Bytes(key)) = (name, key) else {
            return Err(broken(Malformed("a row without collection or key")));
        };
        let Some((no, _)) = self.tables.by_ledger_name(name.as_str()) else { return Ok(()) };
        let table = self.form(no)?;
        let image = match image {
            Value::Array(items) => {
                let cells = printed_cells(&table, items);
                let read = table.field_columns().zip(&cells).map(|(column, cell)| column.native.read(cell.clone()));
                match read.collect::<Result<_, _>>() {
                    Ok(values) => Some(Arc::new(Row(values))),
                    Err(why) => {
                        let told = Unreadable { key: Some(own(&key)), ..table.untold(no, why, &cells) };
                        into.push(Change::Unreadable(Box::new(told)));
                        return Ok(());
                    }
                }
            }
            _ => None,
        };
        let fp = image.as_ref().map_or(Fp::ABSENT, |row| Fp::of_row(&table.schema, row));
        into.push(Change::Observed { collection: no, key: own(&key), image, fp });
        Ok(())
    }
}

/// The fields of a row of which the server has printed each column behind its name. What is not there was not
/// looked at.
fn printed_cells(table: &Table, items: Vec<Value>) -> Vec<Column> {
    let mut found: HashMap<String, Value> = HashMap::new();
    let mut items = items.into_iter();
    while let (Some(Value::Text(name)), Some(value)) = (items.next(), items.next()) {
        found.insert(name.as_str().to_owned(), value);
    }
    let cell = |column: &catalog::Column| match found.remove(&column.name) {
        Some(Value::Text(text)) => Column::Text(text.as_bytes().clone()),
        Some(_) => Column::Null,
        None => Column::Unchanged,
    };
    table.field_columns().map(cell).collect()
}

fn data_row(
    collection: CollectionNo,
    table: &Table,
    old: Option<&Old>,
    new: Option<&Tuple>,
    into: &mut Vec<Change>,
) -> Result<(), Malformed> {
    let tuples = || old.map(Old::tuple).into_iter().chain(new);
    if tuples().any(|tuple| tuple.len() != table.columns.len()) {
        return Err(Malformed("a row with another number of columns than its table"));
    }
    // What could not be told when it was written was told as such then.
    let before = match old {
        Some(Old::Row(tuple)) => row(table, tuple).ok().map(Arc::new),
        _ => None,
    };
    // Read-7: keys only, unless the replica identity is FULL.
    let key_before = old.map(|old| key(table, old.tuple()));
    let gone = |key: Key| Change::Row { collection, key, after: None, fp: Fp::ABSENT, before: before.clone() };
    let Some(tuple) = new else {
        into.push(match (key_before.ok_or(Malformed("a deletion without a key"))?, old) {
            // Nobody could publish it, so nothing is lost with it; it keeps its place in the transaction.
            (Err(why), Some(old)) => {
                let told = table.untold(collection, why, &cells(table, old.tuple(), None));
                Change::Unreadable(Box::new(Unreadable { replaced: true, ..told }))
            }
            (key, _) => gone(key?),
        });
        return Ok(());
    };
    let key_before = key_before.and_then(Result::ok);
    match whole(table, old, tuple) {
        Ok((now, after)) => {
            // Read-8: a changed key is a deletion and an insertion.
            let moved = key_before.filter(|before| *before != now);
            let before_of_new = if moved.is_none() { before.clone() } else { None };
            into.extend(moved.map(gone));
            let fp = Fp::of_row(&table.schema, &after);
            into.push(Change::Row { collection, key: now, after: Some(Arc::new(after)), fp, before: before_of_new });
        }
        // P8: this record alone cannot be told.
        Err(why) => {
            let told = table.untold(collection, why, &cells(table, tuple, old));
            into.extend(key_before.filter(|before| told.key.as_ref() != Some(before)).map(gone));
            into.push(Change::Unreadable(Box::new(told)));
        }
    }
    Ok(())
}

/// A row as it is now, and its key. A large value that did not change stands in the old image only: all of them
/// under REPLICA IDENTITY FULL, else those of the key.
fn whole(table: &Table, old: Option<&Old>, tuple: &Tuple) -> Result<(Key, Row), Malformed> {
    let mut after = row(table, tuple)?;
    if let (Some(old), true) = (old, after.is_partial()) {
        for (field, slot) in after.0.iter_mut().enumerate().filter(|(_, value)| **value == Value::Unchanged) {
            if stands(table, old, field) {
                *slot = cell(table, old.tuple(), field)?;
            }
        }
    }
    Ok((table.key_of(&after)?, after))
}

/// Whether the old image has a field.
fn stands(table: &Table, old: &Old, field: usize) -> bool {
    matches!(old, Old::Row(_)) || table.schema.key.contains(&field)
}

fn row(table: &Table, tuple: &Tuple) -> Result<Row, Malformed> {
    let mut values = Vec::with_capacity(table.fields.len());
    for field in 0..table.fields.len() {
        values.push(cell(table, tuple, field)?);
    }
    Ok(Row(values))
}

fn cell(table: &Table, tuple: &Tuple, field: usize) -> Result<Value, Malformed> {
    let missing = Malformed("a column is missing");
    let &index = table.fields.get(field).ok_or(missing)?;
    table.columns.get(index).ok_or(missing)?.native.read(tuple.column(index))
}

/// The fields of a row as the log has them, with what of it stands in the old image only.
fn cells(table: &Table, tuple: &Tuple, old: Option<&Old>) -> Vec<Column> {
    let cell = |(field, &index): (usize, &usize)| match (tuple.column(index), old) {
        (Column::Unchanged, Some(old)) if stands(table, old, field) => old.tuple().column(index),
        (cell, _) => cell,
    };
    table.fields.iter().enumerate().map(cell).collect()
}

/// What is known of a key is kept long after what the server sent is done with: it must not hold that.
fn own(key: &[u8]) -> Key {
    Key(Bytes::copy_from_slice(key))
}

fn key(table: &Table, tuple: &Tuple) -> Result<Key, Malformed> {
    table.key_of(&key_row(table, tuple)?)
}

/// A row of which only the key's fields are known.
fn key_row(table: &Table, tuple: &Tuple) -> Result<Row, Malformed> {
    let mut sparse = Row(vec![Value::Null; table.fields.len()]);
    for &field in &table.schema.key {
        if let Some(slot) = sparse.0.get_mut(field) {
            *slot = cell(table, tuple, field)?;
        }
    }
    Ok(sparse)
}

fn unreadable(table: &str, cause: Malformed) -> Error {
    let text = format!("the log holds a row that cannot be understood: {}", cause.0);
    Error::new(Code::SchemaUnsupported, text).at("table", table)
}

/// The refusal of read-7, with the statement that repairs it.
#[must_use]
pub(crate) fn no_identity(table: &str) -> Error {
    let text = format!(
        "the table has REPLICA IDENTITY NOTHING: deletions would not be seen; run ALTER TABLE {table} REPLICA IDENTITY DEFAULT"
    );
    Error::new(Code::SourceSettings, text).at("table", table)
}
