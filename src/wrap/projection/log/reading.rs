//! What a platform that shows a part tells: changes and copies, lifted.

use super::Lens;
use crate::connectors::contract::{
    BatchLimit, Change, CollectionNo, Copied, Form, ReadBatch, Reader, Snapshot, Transaction, Unreadable,
};
use crate::event::Position;
use crate::event::lineage::Lens as Between;
use crate::runtime::error::{Code, Error, Result};
use async_trait::async_trait;
use std::collections::HashMap;

/// A reader whose rows are lifted.
pub(super) fn lifting(inner: Box<dyn Reader>, lens: Lens) -> Box<dyn Reader> {
    Box::new(Lifting { inner, lens, forms: HashMap::new() })
}

/// A first copy whose rows are lifted.
pub(super) fn copying(inner: Box<dyn Snapshot>, lens: Lens) -> Box<dyn Snapshot> {
    Box::new(Copying { inner, lens, aside: Vec::new() })
}

struct Lifting {
    inner: Box<dyn Reader>,
    lens: Lens,
    /// How the rows of tables are read that have more columns than the platform shows.
    forms: HashMap<CollectionNo, Between>,
}

impl Lifting {
    fn carried(&mut self, transaction: &mut Transaction) -> Result<()> {
        let forms = std::mem::take(&mut transaction.forms);
        let (own, others): (Vec<Form>, Vec<Form>) =
            forms.into_iter().partition(|form| self.lens.of(form.collection).is_some());
        transaction.forms = others;
        let mut own = own.into_iter().peekable();
        let changes = std::mem::take(&mut transaction.changes);
        for (number, change) in changes.into_iter().enumerate() {
            while let Some(form) = own.next_if(|form| form.from <= number) {
                self.look(&form)?;
            }
            let change: Change = self.lens.change(change, &self.forms);
            transaction.changes.push(change);
        }
        own.try_for_each(|form| self.look(&form))
    }

    /// A table took another form: its other columns are its own, those shown must stay as they are.
    fn look(&mut self, form: &Form) -> Result<()> {
        let Some(projection) = self.lens.of(form.collection) else { return Ok(()) };
        let seen = projection.schema();
        if let Some(field) = seen.fields.iter().find(|field| form.schema.index_of(&field.name).is_none()) {
            let text = format!(
                "the column `{}` was dropped, and the platform's view shows it; bring it back, or leave it out of the \
                 view, then restart",
                field.name
            );
            return Err(Error::new(Code::SchemaUnsupported, text).at("collection", &seen.name));
        }
        let between = Between::new(&form.schema, seen);
        self.forms.insert(form.collection, between);
        Ok(())
    }
}

#[async_trait]
impl Reader for Lifting {
    async fn next(&mut self, limit: BatchLimit) -> Result<ReadBatch> {
        let mut batch = self.inner.next(limit).await?;
        batch.transactions.iter_mut().try_for_each(|transaction| self.carried(transaction))?;
        Ok(batch)
    }

    async fn release(&mut self, through: Position) -> Result<()> {
        self.inner.release(through).await
    }
}

struct Copying {
    inner: Box<dyn Snapshot>,
    lens: Lens,
    aside: Vec<Unreadable>,
}

#[async_trait]
impl Snapshot for Copying {
    fn position(&self) -> Position {
        self.inner.position()
    }

    async fn next(&mut self, limit: BatchLimit) -> Result<Option<Vec<Copied>>> {
        let Some(rows) = self.inner.next(limit).await? else { return Ok(None) };
        let mut carried = Vec::with_capacity(rows.len());
        for copied in rows {
            let Some(projection) = self.lens.of(copied.collection) else { continue };
            match self.lens.lift(projection, copied.collection, &copied.key, &copied.row, copied.fp) {
                Ok((row, fp)) => carried.push(Copied { row, fp, ..copied }),
                Err(unreadable) => self.aside.push(unreadable),
            }
        }
        Ok(Some(carried))
    }

    fn unreadable(&mut self) -> Vec<Unreadable> {
        let mut all = self.inner.unreadable();
        all.append(&mut self.aside);
        all
    }

    fn expected(&self) -> Option<u64> {
        self.inner.expected()
    }
}
