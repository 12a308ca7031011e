//! The form a table has at a place of the log (read-10): the log describes a table before its first row,
//! and again when it has changed. What a form means for the dataset is decided elsewhere; here only what
//! cannot be read is refused.

use super::super::client::catalog::{Column, Table};
use super::super::wire::pgoutput::{Relation, RelationColumn};
use super::changes::Translator;
use crate::connectors::contract::CollectionNo;
use crate::event::{Field, Schema, SchemaId, Type};
use crate::runtime::error::{Code, Error, Result};
use std::sync::Arc;

/// What is told of a form.
#[derive(Clone, Debug)]
pub(crate) struct Told {
    /// The form.
    pub schema: Arc<Schema>,
    /// The one before, if the log has described it.
    pub before: Option<Arc<Schema>>,
}

impl Translator {
    /// The form of a collection's table at this place.
    pub(super) fn form(&self, no: CollectionNo) -> Result<Arc<Table>> {
        match self.forms.get(&no) {
            Some(table) => Ok(table.clone()),
            None => Ok(self.tables.get(no)?.table.clone()),
        }
    }

    /// Takes over the form that the log describes. Nothing is told of the one the platform was opened with,
    /// if it has no other columns than the dataset has fields.
    pub(super) fn take(&mut self, no: CollectionNo, relation: &Relation) -> Result<Option<Told>> {
        let opened = self.tables.get(no)?.table.clone();
        let met = self.forms.get(&no).cloned();
        let table = met.clone().unwrap_or_else(|| opened.clone());
        let is_whole = !opened.lacks && opened.schema.fields.len() == opened.columns.len();
        if is_of(&table, relation) && (met.is_some() || is_whole) {
            self.forms.insert(no, table);
            return Ok(None);
        }
        let form = Arc::new(self.read(&opened, relation)?);
        let told = Told { schema: form.schema.clone(), before: met.map(|table| table.schema.clone()) };
        self.forms.insert(no, form);
        Ok(Some(told))
    }

    fn read(&self, opened: &Table, relation: &Relation) -> Result<Table> {
        let columns = relation.columns.iter().map(|c| self.column(c)).collect::<Result<Vec<_>>>()?;
        let key: Vec<Arc<str>> = opened.schema.key_fields().map(|f| f.name.clone()).collect();
        let (here, there) = keys(opened, relation);
        if here != there {
            let text = format!(
                "the key of the table changed to {here:?}; the dataset's is {there:?}. A key cannot change; make a new \
                 dataset with the new key"
            );
            return Err(Error::new(Code::SchemaUnsupported, text));
        }
        let field = |c: &Column| Field {
            name: c.name.as_str().into(),
            ty: c.native.event_type(),
            nullable: !there.contains(&&*c.name),
        };
        let fields: Vec<Field> = columns.iter().map(field).collect();
        let place = |name: &Arc<str>| {
            let lost = || {
                let text = format!("the column \"{name}\" of the key was dropped; make a new dataset with the new key");
                Error::new(Code::SchemaUnsupported, text)
            };
            fields.iter().position(|f| f.name == *name).ok_or_else(lost)
        };
        let key = key.iter().map(place).collect::<Result<_>>()?;
        let schema = Arc::new(Schema { id: SchemaId(0), name: opened.schema.name.clone(), fields, key });
        let oid = relation.oid;
        let mut table = Table { oid, columns, identity: relation.identity, ..opened.clone() };
        table.see(schema);
        Ok(table)
    }

    fn column(&self, column: &RelationColumn) -> Result<Column> {
        let again = |text: &str| Error::new(Code::StoreBusy, text).at("column", &column.name);
        let native = self.types.get(&column.ty).cloned();
        let native = native.ok_or_else(|| again("a type is younger than the reader, which begins anew to learn it"))?;
        if self.is_binary && !native.has_binary() {
            return Err(again("values of a new column only come as text: the reader begins anew to ask for it"));
        }
        let sql = String::new();
        Ok(Column {
            name: column.name.clone(),
            ty: column.ty,
            native,
            modifier: -1,
            not_null: false,
            sql,
            always: false,
        })
    }
}

fn is_of(table: &Table, relation: &Relation) -> bool {
    let known = table.columns.iter().map(|c| (&*c.name, c.ty));
    let (here, there) = keys(table, relation);
    relation.oid == table.oid && here == there && relation.columns.iter().map(|c| (&*c.name, c.ty)).eq(known)
}

/// The names of the key's columns that the log describes, and of the dataset's key, sorted.
fn keys<'a>(table: &'a Table, relation: &'a Relation) -> (Vec<&'a str>, Vec<&'a str>) {
    let mut there: Vec<&str> = table.schema.key_fields().map(|f| &*f.name).collect();
    there.sort_unstable();
    // With the whole row as identity every column counts as key.
    if relation.identity == b'f' {
        return (there.clone(), there);
    }
    let mut here: Vec<&str> = relation.columns.iter().filter(|c| c.key).map(|c| &*c.name).collect();
    here.sort_unstable();
    (here, there)
}

/// The type a destination's column is given for a field (read-10); `None` if there is none that holds it.
#[must_use]
pub(crate) fn sql_type(ty: &Type) -> Option<String> {
    Some(match ty {
        Type::Bool => "boolean".into(),
        Type::Int(16) => "smallint".into(),
        Type::Int(32) => "integer".into(),
        Type::Int(_) => "bigint".into(),
        Type::Float(32) => "real".into(),
        Type::Float(_) => "double precision".into(),
        Type::Decimal => "numeric".into(),
        Type::Text => "text".into(),
        Type::Bytes => "bytea".into(),
        Type::Uuid => "uuid".into(),
        Type::Date => "date".into(),
        Type::Time => "time".into(),
        Type::TimeTz => "timetz".into(),
        Type::Timestamp { zone: false } => "timestamp".into(),
        Type::Timestamp { zone: true } => "timestamptz".into(),
        Type::Interval => "interval".into(),
        Type::Json => "json".into(),
        Type::Array(item) if !matches!(**item, Type::Array(_)) => format!("{}[]", sql_type(item)?),
        Type::Array(_) | Type::Record(_) => return None,
    })
}
