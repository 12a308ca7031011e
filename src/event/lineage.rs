//! How the schema of a collection changes, and rows with it (read-10). Pure: what a table's new form
//! means for the dataset depends on the versions the schema had, on who introduced each, and on the
//! place in that platform's own log, never on when it is asked; so reading a log again decides the
//! same. Fields are known by their names: a renamed column is a dropped one and a new one.

use super::fingerprint::Fp;
use super::position::Position;
use super::row::Row;
use super::schema::{Field, Schema, SchemaId, Type};
use super::value::Value;
use super::version::ActorId;
use crate::runtime::error::{Code, Error, Result};
use std::sync::Arc;

/// A table's form, from one of a transaction's changes on: rows behind it, up to the next, are of this
/// schema, and their fingerprints count for it alone (read-10). It has no ordinal. A reader tells the
/// first form it meets unless that is exactly the schema the platform was opened with.
#[derive(Clone, PartialEq, Debug)]
pub struct Form {
    /// The number of the first change in `changes` it holds for.
    pub from: usize,
    /// The number of the collection.
    pub collection: u16,
    /// All columns of the table that a record may have; without an id.
    pub schema: Arc<Schema>,
    /// The form before, if this reader has met it.
    pub before: Option<Arc<Schema>>,
}

/// One version of a collection's schema.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The schema, with its id.
    pub schema: Arc<Schema>,
    /// Whose table took this form; `ActorId::RESOLVER` if the configuration says it.
    pub by: ActorId,
    /// Where in that platform's log; the start if it was so from the beginning.
    pub at: Position,
}

/// What a table's form means for the dataset.
#[derive(Clone, PartialEq, Debug)]
pub enum Taken {
    /// The dataset is of this schema there.
    As(Arc<Schema>),
    /// It needs a new version.
    New(Schema),
}

/// Takes the form of a table of `me`, met at `at` of its log: the versions of the dataset's schema in
/// order, the newest last. A form that the dataset cannot take over is an error, which stops the reader
/// there. `before` is the form it had, if this life of the reader has met it.
pub fn take(steps: &[Step], me: ActorId, at: Position, before: Option<&Schema>, form: &Schema) -> Result<Taken> {
    let unsupported = |text: String| Error::new(Code::SchemaUnsupported, text).at("collection", &form.name);
    // What I changed behind this place is not in force here: the log is being read again.
    let later = steps.iter().position(|step| step.by == me && step.at > at);
    let steps = steps.get(..later.unwrap_or(steps.len())).unwrap_or_default();
    let current = steps.last().ok_or_else(|| unsupported("the dataset has no schema yet".into()))?;
    let schema = &current.schema;
    if current.by == ActorId::RESOLVER {
        return fixed(schema, form);
    }
    let names = |s: &Schema| s.key_fields().map(|f| (f.name.clone(), f.ty.clone())).collect::<Vec<_>>();
    let (here, there) = (names(form), names(schema));
    if here.len() != there.len() || !there.iter().all(|k| here.iter().any(|h| h.0 == k.0 && fits(&h.1, &k.1))) {
        let text = format!(
            "the key of the table changed: it is {here:?}, the dataset's is {there:?}. A key cannot change; make a new \
             dataset with the new key"
        );
        return Err(unsupported(text));
    }
    let mut fields = Vec::with_capacity(form.fields.len());
    for field in &schema.fields {
        let there = before.is_some_and(|b| b.index_of(&field.name).is_some());
        fields.extend(kept(steps, me, field, there, form).map_err(unsupported)?);
    }
    for field in form.fields.iter().filter(|f| schema.index_of(&f.name).is_none()) {
        fields.extend(added(steps, me, field).map_err(unsupported)?);
    }
    if fields == schema.fields {
        return Ok(Taken::As(schema.clone()));
    }
    let index = |name: &Arc<str>| fields.iter().position(|f| f.name == *name);
    let key = schema.key_fields().filter_map(|f| index(&f.name)).collect();
    Ok(Taken::New(Schema { id: SchemaId(0), name: schema.name.clone(), fields, key }))
}

/// The configuration names the fields: other columns are none of the dataset's.
fn fixed(schema: &Arc<Schema>, form: &Schema) -> Result<Taken> {
    for field in &schema.fields {
        let problem = match form.index_of(&field.name).and_then(|i| form.fields.get(i)) {
            Some(column) if fits(&column.ty, &field.ty) => continue,
            Some(column) => format!("is of type {:?} there now, and of type {:?} in the dataset", column.ty, field.ty),
            None => "is not there any more".into(),
        };
        let text = format!(
            "the field `{}` that the configuration names {problem}; put the table back, or change `fields`",
            field.name
        );
        return Err(Error::new(Code::SchemaUnsupported, text).at("collection", &form.name));
    }
    Ok(Taken::As(schema.clone()))
}

/// A field of the dataset as the form has it: kept, widened, or `None` if it was dropped.
fn kept(steps: &[Step], me: ActorId, field: &Field, there: bool, form: &Schema) -> Result<Option<Field>, String> {
    let owner = owner(steps, &field.name);
    let mine = owner.platform() == me.platform();
    let Some(column) = form.index_of(&field.name).and_then(|i| form.fields.get(i)) else {
        return match (mine, there) {
            (true, _) => Ok(None),
            // Who has not got it yet leaves it as it is in its writes (value-2).
            (false, false) => Ok(Some(field.clone())),
            (false, true) => Err(format!(
                "the column of the field `{}` was dropped here, and the field is of {owner:?}, which still has it. Add \
                 the column again ({:?}), or drop it there first",
                field.name, field.ty
            )),
        };
    };
    match (&field.ty, &column.ty) {
        (Type::Int(was), Type::Int(is)) | (Type::Float(was), Type::Float(is)) if mine && is > was => {
            Ok(Some(Field { ty: column.ty.clone(), ..field.clone() }))
        }
        (Type::Int(was), Type::Int(is)) | (Type::Float(was), Type::Float(is)) if mine && is < was => Err(format!(
            "the field `{}` was narrowed from {:?} to {:?}: what the dataset holds may not fit any more. Widen the \
             column again",
            field.name, field.ty, column.ty
        )),
        (was, is) if fits(is, was) => Ok(Some(field.clone())),
        (was, is) => Err(format!(
            "the field `{}` is of type {was:?} in the dataset and of type {is:?} in the table now. Give the column its \
             old type again; a field of another type needs another name",
            field.name
        )),
    }
}

/// A column that is no field: a new field, or none of the dataset's.
fn added(steps: &[Step], me: ActorId, column: &Field) -> Result<Option<Field>, String> {
    let Some((dropped, was)) = dropped(steps, &column.name) else {
        return Ok(Some(Field { nullable: true, ..column.clone() }));
    };
    if dropped.platform() != me.platform() {
        // Another platform dropped it: here it is left alone, and no part of the dataset.
        return Ok(None);
    }
    if was.ty != column.ty {
        return Err(format!(
            "the field `{}` was of type {:?} before it was dropped, and is of type {:?} now; a field of another type \
             needs another name",
            column.name, was.ty, column.ty
        ));
    }
    Ok(Some(Field { nullable: true, ..column.clone() }))
}

/// Who introduced a field of the newest version.
fn owner(steps: &[Step], name: &str) -> ActorId {
    let with = steps.iter().rev().take_while(|step| step.schema.index_of(name).is_some());
    with.last().map_or(ActorId::RESOLVER, |step| step.by)
}

/// Who dropped a field that an earlier version had, and what it was.
fn dropped<'a>(steps: &'a [Step], name: &str) -> Option<(ActorId, &'a Field)> {
    let newest = steps.iter().rposition(|step| step.schema.index_of(name).is_some())?;
    let had = steps.get(newest)?;
    let field = had.schema.fields.get(had.schema.index_of(name)?)?;
    Some((steps.get(newest + 1)?.by, field))
}

/// Whether a column of one type can hold what a field of another has; single values are looked at where
/// they occur.
fn fits(column: &Type, field: &Type) -> bool {
    match (column, field) {
        (Type::Int(_), Type::Int(_)) | (Type::Float(_), Type::Float(_)) => true,
        (Type::Array(column), Type::Array(field)) => fits(column, field),
        (column, field) => column == field,
    }
}

/// The names of the fields of the newest version that a platform may be given: those it did not
/// introduce itself. What is missing of its own was dropped there.
#[must_use]
pub fn given_by_others(steps: &[Step], me: ActorId) -> Vec<Arc<str>> {
    let fields = steps.last().map(|step| &step.schema.fields[..]).unwrap_or_default();
    let others = |f: &&Field| owner(steps, &f.name).platform() != me.platform();
    fields.iter().filter(others).map(|f| f.name.clone()).collect()
}

/// Rows of one schema as rows of another, by the names of their fields.
#[derive(Clone, PartialEq, Debug)]
pub struct Lens {
    /// What rows become.
    pub to: Arc<Schema>,
    /// Per field of `to` its place in the rows that come; `None` if they do not have it.
    from: Vec<Option<usize>>,
}

impl Lens {
    /// From one schema to another.
    #[must_use]
    pub fn new(from: &Schema, to: &Arc<Schema>) -> Self {
        Lens { to: to.clone(), from: to.fields.iter().map(|f| from.index_of(&f.name)).collect() }
    }

    /// The row; `missing` stands where it had no field.
    #[must_use]
    pub fn lift(&self, row: &Row, missing: &Value) -> Row {
        let value = |at: &Option<usize>| at.and_then(|at| row.get(at)).unwrap_or(missing).clone();
        Row(self.from.iter().map(value).collect())
    }

    /// Whether rows that come lack some field.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        self.from.iter().any(Option::is_none)
    }

    /// Its place in the rows that come, of a field of `to`.
    #[must_use]
    pub fn place(&self, field: usize) -> Option<usize> {
        self.from.get(field).copied().flatten()
    }

    /// The fingerprint the row has under the schema (value-1, read-10): a column that the schema does not
    /// know does not count.
    #[must_use]
    pub fn fp(&self, row: &Row) -> Fp {
        Fp::of_row(&self.to, &self.lift(row, &Value::Null))
    }
}

#[cfg(test)]
#[path = "lineage_tests.rs"]
mod tests;
