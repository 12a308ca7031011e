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

/// All fields there ever were, each as it was last, in the order they came: what a document may hold. It
/// only grows at its end. `None` of no version.
#[must_use]
pub fn union(steps: &[Step]) -> Option<Schema> {
    let newest = steps.last()?;
    let mut all = Schema { fields: Vec::new(), ..Schema::clone(&newest.schema) };
    for field in steps.iter().flat_map(|step| &step.schema.fields) {
        match all.index_of(&field.name).and_then(|i| all.fields.get_mut(i)) {
            Some(known) => known.ty = field.ty.clone(),
            None => all.fields.push(field.clone()),
        }
    }
    let index = |name: &Arc<str>| all.fields.iter().position(|f| f.name == *name);
    all.key = newest.schema.key_fields().filter_map(|f| index(&f.name)).collect();
    let current = |f: &mut Field| f.nullable |= newest.schema.index_of(&f.name).is_none();
    all.fields.iter_mut().for_each(current);
    Some(if all.fields == newest.schema.fields {
        Schema::clone(&newest.schema)
    } else {
        Schema { id: SchemaId(0), ..all }
    })
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
mod tests {
    use super::*;
    use crate::event::PlatformNo;
    use proptest::prelude::*;

    fn actor(platform: u16) -> ActorId {
        ActorId::new(PlatformNo(platform), 1)
    }

    fn field(name: &str, ty: Type) -> Field {
        Field { name: name.into(), ty, nullable: name != "id" }
    }

    /// A schema with the key `id` and these fields.
    fn schema(id: u32, fields: &[(&str, Type)]) -> Schema {
        let all = std::iter::once(("id", Type::Int(64))).chain(fields.iter().cloned());
        let fields = all.map(|(name, ty)| field(name, ty)).collect();
        Schema { id: SchemaId(id), name: "t".into(), fields, key: vec![0] }
    }

    fn step(id: u32, fields: &[(&str, Type)], by: u16, commit: u64) -> Step {
        let at = if commit == 0 { Position::START } else { Position::new(commit, 0) };
        let by = if by == 0 { ActorId::RESOLVER } else { actor(by) };
        Step { schema: Arc::new(schema(id, fields)), by, at }
    }

    fn at(commit: u64) -> Position {
        Position::new(commit, 0)
    }

    /// What is taken of a form, as the names of the fields; `=` if it is no new version.
    fn taken(steps: &[Step], me: u16, commit: u64, before: Option<&Schema>, form: &Schema) -> String {
        let names = |s: &Schema| s.fields.iter().map(|f| &*f.name).collect::<Vec<_>>().join(" ");
        match take(steps, actor(me), at(commit), before, form) {
            Ok(Taken::As(schema)) => format!("= {}", names(&schema)),
            Ok(Taken::New(schema)) => {
                assert!(schema.fields.iter().skip(steps[0].schema.fields.len()).all(|f| f.nullable), "{schema:?}");
                names(&schema)
            }
            Err(error) => {
                assert_eq!(error.code, Code::SchemaUnsupported);
                error.doing
            }
        }
    }

    const T: Type = Type::Text;

    /// read-10
    #[test]
    fn a_new_column_is_a_new_field_and_a_dropped_one_goes() {
        let steps = [step(1, &[("v", T)], 1, 0)];
        assert_eq!(taken(&steps, 1, 9, None, &schema(0, &[("v", T), ("n", Type::Int(32))])), "id v n");
        assert_eq!(taken(&steps, 2, 9, None, &schema(0, &[("v", T), ("n", Type::Int(32))])), "id v n");
        assert_eq!(taken(&steps, 1, 9, None, &schema(0, &[])), "id");
        assert_eq!(taken(&steps, 1, 9, None, &schema(0, &[("v", T)])), "= id v");
        // The order of columns is the table's own affair.
        assert_eq!(taken(&steps, 1, 9, None, &schema(0, &[("n", T), ("v", T)])), "id v n");
    }

    /// read-10: one platform's change reaches the others; they are not asked to take it back.
    #[test]
    fn what_another_platform_has_added_or_dropped_is_no_change_here() {
        let added = [step(1, &[("v", T)], 1, 0), step(2, &[("v", T), ("n", T)], 1, 5)];
        assert_eq!(taken(&added, 2, 9, None, &schema(0, &[("v", T)])), "= id v n", "it has not come here yet");
        assert_eq!(taken(&added, 2, 9, None, &schema(0, &[("v", T), ("n", T)])), "= id v n");
        let dropped = [step(1, &[("v", T)], 1, 0), step(2, &[], 1, 5)];
        assert_eq!(taken(&dropped, 2, 9, None, &schema(0, &[("v", T)])), "= id", "it stays here, outside the dataset");
        assert_eq!(taken(&dropped, 2, 9, None, &schema(0, &[("v", T), ("w", T)])), "id w");
        // Who dropped it itself adds it again.
        assert_eq!(taken(&dropped, 1, 9, None, &schema(0, &[("v", T)])), "id v");
    }

    /// read-10: the second of two that change one field differently stops and shows both.
    #[test]
    fn two_platforms_that_change_one_field_differently_are_told() {
        let steps = [step(1, &[], 1, 0), step(2, &[("n", T)], 1, 5)];
        let said = taken(&steps, 2, 9, None, &schema(0, &[("n", Type::Int(32))]));
        assert!(said.contains("`n` is of type Text in the dataset and of type Int(32)"), "{said}");
        let before = schema(0, &[("n", T)]);
        let said = taken(&steps, 2, 9, Some(&before), &schema(0, &[]));
        assert!(said.contains("`n` was dropped here") && said.contains("1.1"), "{said}");
    }

    #[test]
    fn a_wider_column_widens_the_field_and_a_narrower_one_stops_whose_it_is() {
        let steps = [step(1, &[("n", Type::Int(32))], 1, 0)];
        let wide = take(&steps, actor(1), at(9), None, &schema(0, &[("n", Type::Int(64))])).unwrap();
        assert!(matches!(wide, Taken::New(s) if s.fields[1].ty == Type::Int(64)));
        assert_eq!(
            taken(&steps, 2, 9, None, &schema(0, &[("n", Type::Int(64))])),
            "= id n",
            "its own way of holding it"
        );
        let said = taken(&steps, 1, 9, None, &schema(0, &[("n", Type::Int(16))]));
        assert!(said.contains("narrowed"), "{said}");
        let said = taken(&steps, 1, 9, None, &schema(0, &[("n", T)]));
        assert!(said.contains("needs another name"), "{said}");
        let dropped = [step(1, &[("n", T)], 1, 0), step(2, &[], 1, 5)];
        let said = taken(&dropped, 1, 9, None, &schema(0, &[("n", Type::Int(32))]));
        assert!(said.contains("before it was dropped"), "{said}");
    }

    #[test]
    fn a_key_never_changes() {
        let steps = [step(1, &[("v", T)], 1, 0)];
        let mut form = schema(0, &[("v", T)]);
        form.key = vec![0, 1];
        assert!(taken(&steps, 1, 9, None, &form).contains("key cannot change"));
        let mut form = schema(0, &[("v", T)]);
        form.fields[0].ty = T;
        assert!(taken(&steps, 1, 9, None, &form).contains("key cannot change"));
    }

    #[test]
    fn configured_fields_are_all_there_is() {
        let steps = [step(1, &[("v", T)], 0, 0)];
        assert_eq!(taken(&steps, 1, 9, None, &schema(0, &[("v", T), ("n", T)])), "= id v");
        assert!(taken(&steps, 1, 9, None, &schema(0, &[])).contains("is not there any more"));
    }

    /// read-12: a log that is read again means what it meant.
    #[test]
    fn what_i_changed_behind_a_place_is_not_in_force_there() {
        let steps = [
            step(1, &[("v", T)], 1, 0),
            step(2, &[("v", T), ("n", T)], 1, 5),
            step(3, &[("v", T), ("n", T), ("o", T)], 2, 3),
            step(4, &[("n", T), ("o", T)], 1, 7),
        ];
        assert_eq!(taken(&steps, 1, 4, None, &schema(0, &[("v", T)])), "= id v");
        assert_eq!(taken(&steps, 1, 5, None, &schema(0, &[("v", T), ("n", T)])), "= id v n o");
        assert_eq!(taken(&steps, 1, 8, None, &schema(0, &[("n", T)])), "= id n o");
        // Places in another platform's log mean nothing here.
        assert_eq!(taken(&steps, 2, 4, None, &schema(0, &[("v", T), ("n", T), ("o", T)])), "= id n o");
    }

    #[test]
    fn a_destination_is_given_what_others_have_added() {
        let steps = [step(1, &[("v", T)], 1, 0), step(2, &[("v", T), ("n", T)], 2, 5)];
        let names = |me| given_by_others(&steps, actor(me)).iter().map(|n| n.to_string()).collect::<Vec<_>>();
        assert_eq!(
            (names(1), names(2), names(3)),
            (vec!["n".into()], vec!["id".into(), "v".into()], vec!["id".into(), "v".into(), "n".into()])
        );
    }

    proptest! {
        /// read-10: whoever asks again gets no further version, wherever in the log it asks from.
        #[test]
        fn what_was_taken_once_is_taken_as_it_is(forms in prop::collection::vec(prop::collection::btree_set(0u8..5, 0..5), 1..6)) {
            let forms: Vec<Schema> = forms.iter().map(|names| {
                let names: Vec<String> = names.iter().map(|n| format!("f{n}")).collect();
                schema(0, &names.iter().map(|n| (n.as_str(), T)).collect::<Vec<_>>())
            }).collect();
            let first = Schema { id: SchemaId(1), ..forms[0].clone() };
            let mut steps = vec![Step { schema: Arc::new(first), by: actor(1), at: Position::START }];
            let mut meant = Vec::new();
            for (n, form) in forms.iter().enumerate() {
                let place = at(n as u64 + 1);
                if let Taken::New(new) = take(&steps, actor(1), place, None, form).unwrap() {
                    let id = SchemaId(steps.len() as u32 + 1);
                    steps.push(Step { schema: Arc::new(Schema { id, ..new }), by: actor(1), at: place });
                }
                let newest = steps.last().unwrap().schema.clone();
                let mut names = [newest.fields.clone(), form.fields.clone()].map(|f| f.into_iter().map(|f| f.name).collect::<Vec<_>>());
                names.iter_mut().for_each(|n| n.sort());
                prop_assert_eq!(&names[0], &names[1]);
                meant.push(newest);
            }
            for (n, form) in forms.iter().enumerate() {
                let again = take(&steps, actor(1), at(n as u64 + 1), None, form).unwrap();
                prop_assert_eq!(again, Taken::As(meant[n].clone()));
            }
        }

        /// read-10, value-1: a row seen under a version it was made in keeps its fingerprint, whatever columns
        /// come beside it.
        #[test]
        fn columns_a_schema_does_not_know_do_not_count(a in any::<i64>(), b in any::<Option<i64>>(), turn in any::<bool>()) {
            let one = Arc::new(schema(1, &[("a", Type::Int(64))]));
            let mut wide = schema(0, &[("a", Type::Int(64)), ("b", Type::Int(64))]);
            let mut values = vec![Value::Int(1), Value::Int(a), b.map_or(Value::Null, Value::Int)];
            if turn {
                wide.fields.swap(1, 2);
                values.swap(1, 2);
            }
            let row = Row(vec![Value::Int(1), Value::Int(a)]);
            let lens = Lens::new(&wide, &one);
            prop_assert_eq!(lens.fp(&Row(values.clone())), Fp::of_row(&one, &row));
            prop_assert_eq!(lens.lift(&Row(values), &Value::Null), row.clone());
            let back = Lens::new(&one, &Arc::new(wide));
            prop_assert!(back.is_partial());
            prop_assert_eq!(lens.lift(&back.lift(&row, &Value::Unchanged), &Value::Null), row);
        }
    }
}
