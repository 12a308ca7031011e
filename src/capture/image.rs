//! What a change shows of a row: its content as the platform has it, and as a row of the dataset (read-10). Pure.

use super::view::View;
use crate::connectors::contract::{Change, CollectionNo};
use crate::event::lineage::Lens;
use crate::event::{Fp, Key, Known, Op, Row, Schema, SchemaId, Value};
use crate::guard;
use std::sync::Arc;

/// A change that shows content.
pub(super) struct Image<'a> {
    pub(super) collection: CollectionNo,
    pub(super) key: &'a Key,
    pub(super) op: Op,
    pub(super) value: Option<Arc<Row>>,
    pub(super) fp: Fp,
    pub(super) before: Option<Arc<Row>>,
    /// An earlier version of the schema that it is still of.
    pub(super) schema: Option<Arc<Schema>>,
}

impl<'a> Image<'a> {
    pub(super) fn of(change: &'a Change) -> Option<Self> {
        match change {
            Change::Row { collection, key, after, fp, before } => Some(Image {
                collection: *collection,
                key,
                op: if after.is_some() { Op::Put } else { Op::Delete },
                value: after.clone(),
                fp: *fp,
                before: before.clone(),
                schema: None,
            }),
            // sink-8: an edit no log showed is met here, in log order.
            Change::Observed { collection, key, image, fp } => {
                let (collection, value) = (*collection, image.clone());
                Some(Image { collection, key, op: Op::Read, value, fp: *fp, before: None, schema: None })
            }
            Change::Ledger { .. } | Change::Truncate(_) | Change::Unreadable(_) => None,
        }
    }

    /// read-10: how the content looks under a version of the schema.
    pub(super) fn fp_under(&self, view: Option<&View>, schema: SchemaId) -> Fp {
        match (&self.value, view.and_then(|view| view.all.get(&schema))) {
            (Some(row), Some(lens)) if guard!("read-10", true) => lens.fp(row),
            _ => self.fp,
        }
    }

    /// The image before is the ancestor only if the dataset knows it: not what a first copy has not reached
    /// yet, nor an edit that no log showed. What is known was said under a version of the schema, though the
    /// table may be of another form since (read-10).
    pub(super) fn whose_ancestor_is(
        self,
        known: Option<&Known>,
        view: Option<&View>,
        form: Option<&Arc<Schema>>,
    ) -> Self {
        let lens = known.zip(view).and_then(|(known, view)| view.all.get(&known.schema));
        let fp = |row: &Row| match (lens, form) {
            (Some(lens), _) if guard!("read-10-before", true) => Some(lens.fp(row)),
            (_, form) => form.map(|form| Fp::of_row(form, row)),
        };
        let is_known = |before: &Arc<Row>| fp(before) == known.map(|known| known.fp);
        Image { before: self.before.filter(|before| !guard!("before-known", !is_known(before))), ..self }
    }

    /// A row keeps its version of the schema until a field that came later is written: nobody has said
    /// here that it is null, and another platform may have a default there.
    pub(super) fn still_of<'v>(&self, view: &'v View, known: SchemaId) -> Option<&'v Lens> {
        let (row, earlier) = (self.value.as_ref()?, view.all.get(&known)?);
        let now = &view.now.to;
        let has = |s: &Schema, name: &str| s.index_of(name).is_some();
        let is_part = known != now.id && earlier.to.fields.iter().all(|f| has(now, &f.name));
        let unwritten = |(i, f): (usize, &crate::event::Field)| {
            let value = view.now.place(i).and_then(|at| row.get(at));
            has(&earlier.to, &f.name) || value.is_none_or(Value::is_null)
        };
        (is_part && now.fields.iter().enumerate().all(unwritten)).then_some(earlier)
    }

    /// The same as a row of the dataset. What the table has no column for is left as it was (value-2),
    /// or null in a record that is `new`.
    pub(super) fn seen_through(self, view: Option<&View>, earlier: Option<&Lens>, new: bool) -> Self {
        let Some(view) = view else { return self };
        let lens = earlier.unwrap_or(&view.now);
        let missing = if new { Value::Null } else { Value::Unchanged };
        let lift = |row: Arc<Row>| Arc::new(lens.lift(&row, &missing));
        let fp = self.value.as_ref().map_or(Fp::ABSENT, |row| lens.fp(row));
        // An image before that lacks fields is not the whole of what was changed.
        let before = self.before.filter(|_| !lens.is_partial()).map(lift);
        Image { value: self.value.map(lift), fp, before, schema: earlier.map(|lens| lens.to.clone()), ..self }
    }
}
