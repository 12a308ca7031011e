//! A LOG platform whose table changes (read-10): a column `x` with a default comes and goes on the first
//! platform, and the sinks of the others follow. What an application says of it is no business of the
//! judge, which counts tags only; but a fingerprint taken under the wrong schema looks like an edit.

use super::workload::{fp, schema};
use driftless::connectors::contract::{Form, Transaction};
use driftless::event::lineage::Lens;
use driftless::event::{Field, Fp, Key, Row, Schema, SchemaId, Type, Value};
use driftless::runtime::error::{Code, Error, Result};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// The form with the column.
pub(crate) fn wide() -> &'static Arc<Schema> {
    static WIDE: OnceLock<Arc<Schema>> = OnceLock::new();
    WIDE.get_or_init(|| {
        let mut wide = Schema::clone(schema());
        wide.id = SchemaId(0);
        wide.fields.push(Field { name: "x".into(), ty: Type::Int(64), nullable: true });
        Arc::new(wide)
    })
}

/// What the default of the column is where an application has added it.
const DEFAULT: Value = Value::Int(5);

/// The forms a platform's table has had.
#[derive(Default)]
pub(crate) struct Forms {
    /// From which commit on, and which; before the first it was as it was opened.
    all: Vec<(u64, Arc<Schema>)>,
    has_default: bool,
}

impl Forms {
    /// The form now.
    pub(crate) fn own(&self) -> &Arc<Schema> {
        self.all.last().map_or(schema(), |form| &form.1)
    }

    fn at(&self, commit: u64) -> &Arc<Schema> {
        self.all.iter().rev().find(|form| form.0 <= commit).map_or(schema(), |form| &form.1)
    }

    /// An application adds or drops the column. The log shows no row for it. A dropped column is not added a
    /// second time: with a default, and no write in between, its rows look like edited ones (see Limits in
    /// the connector's README).
    pub(crate) fn alter(&mut self, commit: u64, rows: &mut BTreeMap<Key, (Arc<Row>, Fp)>) {
        let is_narrow = self.own().fields.len() == schema().fields.len();
        if is_narrow && !self.all.is_empty() {
            return;
        }
        self.has_default = self.own().fields.len() == 2;
        let to = if self.has_default { wide() } else { schema() };
        self.take(commit, to, &DEFAULT, rows);
    }

    /// A sink adds the column if it is told to.
    pub(crate) fn give(&mut self, commit: u64, rows: &mut BTreeMap<Key, (Arc<Row>, Fp)>) {
        self.take(commit, wide(), &Value::Null, rows);
    }

    fn take(&mut self, commit: u64, to: &Arc<Schema>, new: &Value, rows: &mut BTreeMap<Key, (Arc<Row>, Fp)>) {
        let lens = Lens::new(self.own(), to);
        for (row, is) in rows.values_mut() {
            *row = Arc::new(lens.lift(row, new));
            *is = fp(Some(row));
        }
        self.all.push((commit + 1, to.clone()));
    }

    /// What an application's write makes of a row of tags: sometimes it says the column too.
    pub(crate) fn written(&self, row: Option<Arc<Row>>, before: Option<&Row>, says: Option<i64>) -> Option<Arc<Row>> {
        let mut row = Row::clone(&*row?);
        if self.own().fields.len() > 2 {
            let kept =
                before.and_then(|b| b.get(2)).cloned().unwrap_or(if self.has_default { DEFAULT } else { Value::Null });
            row.0.push(says.map_or(kept, Value::Int));
        }
        Some(Arc::new(row))
    }

    /// What a version makes of a row: fields its schema does not have stay.
    pub(crate) fn applied(&self, of: &Schema, after: Option<&Arc<Row>>, before: Option<&Row>) -> Option<Arc<Row>> {
        // The policy of these tests makes rows of tags only: what it leaves out is null.
        let mut whole = Row::clone(after?);
        whole.0.resize(of.fields.len(), Value::Null);
        let mut row = Lens::new(of, self.own()).lift(&whole, &Value::Unchanged);
        if let Some(slot @ Value::Unchanged) = row.0.get_mut(2) {
            let new = if self.has_default { DEFAULT } else { Value::Null };
            *slot = before.map_or(new, |b| b.get(2).cloned().unwrap_or(Value::Null));
        }
        Some(Arc::new(row))
    }

    /// The fingerprint a version's content has here once read back.
    pub(crate) fn norm(&self, of: &Schema, row: Option<&Arc<Row>>) -> Fp {
        let Some(row) = row else { return Fp::ABSENT };
        let part = if of.fields.len() > self.own().fields.len() { self.own() } else { &Arc::new(of.clone()) };
        Lens::new(of, part).fp(row)
    }

    /// A transaction as a reader returns it, which has told of `told`.
    pub(crate) fn told(&self, mut transaction: Transaction, told: &mut Option<Arc<Schema>>) -> Transaction {
        let form = self.at(transaction.commit);
        if told.as_ref().unwrap_or(schema()).fields != form.fields {
            let form = Form { from: 0, collection: 0, schema: form.clone(), before: told.replace(form.clone()) };
            transaction.forms.push(form);
        }
        transaction
    }
}

/// What a sink was told of, and how the table was then.
#[derive(Clone, Default)]
pub(crate) struct Told {
    versions: Vec<Arc<Schema>>,
    own: Option<Arc<Schema>>,
}

impl Told {
    /// Takes over what a sink is told; says whether the column is to be added.
    pub(crate) fn know(&mut self, forms: &Forms, versions: &[Arc<Schema>], add: &[Arc<str>]) -> bool {
        self.versions = versions.to_vec();
        let wanted = versions.last().is_some_and(|newest| newest.fields.len() > forms.own().fields.len());
        wanted && add.iter().any(|name| **name == *"x")
    }

    /// How the table is once that is done.
    pub(crate) fn see(&mut self, forms: &Forms) {
        self.own = Some(forms.own().clone());
    }

    /// A version's schema, as a sink finds it.
    pub(crate) fn schema(&self, id: SchemaId) -> &Arc<Schema> {
        self.versions.iter().find(|s| s.id == id).unwrap_or(schema())
    }

    /// A statement that names a column the table has not any more fails.
    pub(crate) fn check(&self, forms: &Forms) -> Result<()> {
        let had = self.own.as_ref().unwrap_or(schema()).fields.len();
        if had <= forms.own().fields.len() {
            return Ok(());
        }
        Err(Error::new(Code::StoreBusy, "the table lost a column meanwhile: its new form is taken"))
    }
}
