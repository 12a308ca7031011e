//! Schema changes on their way into the dataset (read-10): a table's new form becomes a version of the
//! dataset's schema, which stands in every partition of `.changes` before its first user. The version is
//! registered first, then announced, then used; whoever dies in between finds it registered, and announces
//! it again, which is void where it was announced before (claim-10).

use super::fold::Addressed;
use super::view::View;
use super::{Capture, Owned};
use crate::connectors::contract::{Change, CollectionNo, ReadBatch, Transaction};
use crate::event::lineage::{self, Form, Lens, Taken};
use crate::event::{Position, Schema, SchemaId};
use crate::guard;
use crate::runtime::error::Result;
use crate::topic::lineages::announcement;
use std::sync::Arc;

impl Owned<'_> {
    /// Folds a batch. If a form cannot be taken over, or a person has to allow a truncate, what stands before
    /// the place is published first.
    pub(super) async fn folded(&mut self, batch: &ReadBatch, now_ms: u64) -> Result<Vec<Addressed>> {
        let mut proposals = Vec::new();
        for transaction in &batch.transactions {
            self.letters.keep_all(self.capture, transaction);
            let folded = match self.views(transaction).await {
                Ok(views) => self.fold.transaction(transaction, &views, now_ms, self.stamp),
                Err(error) => Err(error),
            };
            match folded {
                Ok(folded) => proposals.extend(folded),
                Err(stopped) => {
                    self.send(proposals);
                    for writer in &mut self.changes {
                        writer.settle_all().await?;
                    }
                    return Err(stopped);
                }
            }
        }
        Ok(proposals)
    }

    /// What the forms of a transaction mean; when this returns, their schemas may be used.
    pub(super) async fn views(&mut self, transaction: &Transaction) -> Result<Vec<View>> {
        self.follow(transaction).await?;
        let mut views = Vec::with_capacity(transaction.forms.len());
        for form in &transaction.forms {
            views.push(self.view(transaction, form).await?);
        }
        Ok(views)
    }

    /// Our own sink gave a row in a version of the schema that another platform has made since: the form
    /// here is the same and means something else. Without it the sink's write would look like an edit.
    async fn follow(&mut self, transaction: &Transaction) -> Result<()> {
        for change in &transaction.changes {
            let Change::Ledger { collection, entry: Some(entry), .. } = change else { continue };
            if self.fold.is_part(*collection) {
                continue;
            }
            let opened = self.capture.schemas.get(usize::from(*collection));
            let is_known = match self.fold.views.get(collection) {
                Some(view) => view.all.contains_key(&entry.schema),
                None => opened.is_none_or(|schema| schema.id == entry.schema),
            };
            if is_known {
                continue;
            }
            let form = self.fold.views.get(collection).map(|view| view.form.clone());
            let Some(schema) = form.or_else(|| opened.cloned()) else { continue };
            let form = Form { from: 0, collection: *collection, schema, before: None };
            let view = self.view(transaction, &form).await?;
            self.fold.look(*collection, &view);
        }
        Ok(())
    }

    /// What ledger rows of earlier versions say counts under those, from the start on.
    pub(super) async fn first_views(&mut self) -> Result<()> {
        let collections: Vec<_> = (0..).zip(&self.capture.schemas).collect();
        for (collection, schema) in collections {
            let steps = self.capture.lineages.steps(collection).await?;
            if steps.len() > 1 && !self.fold.is_part(collection) {
                let all = steps.iter().map(|step| (step.schema.id, Lens::new(schema, &step.schema))).collect();
                let view = View { form: schema.clone(), now: Lens::new(schema, schema), all };
                self.fold.views.insert(collection, view);
            }
        }
        Ok(())
    }

    async fn view(&mut self, transaction: &Transaction, form: &Form) -> Result<View> {
        let view = self.capture.view_of(transaction, form).await?;
        if guard!("schema-first", true) {
            self.announce(form.collection, &view.now.to).await?;
        }
        Ok(view)
    }

    /// In every partition before its first user, and there before anything that depends on it (claim-3).
    async fn announce(&mut self, collection: CollectionNo, schema: &Arc<Schema>) -> Result<()> {
        let lanes = self.capture.lanes.iter().zip(&mut self.changes);
        for (_, writer) in lanes.filter(|(lane, _)| lane.collection == collection) {
            writer.send(vec![announcement(schema)]);
            writer.settle_all().await?;
        }
        Ok(())
    }
}

impl Capture {
    /// What a form means, registered if it is new, and not announced.
    pub(crate) async fn view_of(&self, transaction: &Transaction, form: &Form) -> Result<View> {
        let at = Position::new(transaction.commit, transaction.first + form.from as u64);
        let mut steps = self.lineages.steps(form.collection).await?;
        let listed = self.lineages.listed(form.collection, &form.schema)?;
        let now = loop {
            let before = form.before.as_deref();
            match lineage::take(&steps, self.me, at, before, &listed).map_err(|e| e.at("place", at.commit))? {
                Taken::As(schema) => break schema,
                Taken::New(schema) => {
                    let newest = steps.last().map_or(SchemaId(0), |step| step.schema.id);
                    steps = self.lineages.add(form.collection, newest, &schema, self.me, at).await?;
                }
            }
        };
        let all = steps.iter().map(|step| (step.schema.id, Lens::new(&form.schema, &step.schema))).collect();
        Ok(View { form: form.schema.clone(), now: Lens::new(&form.schema, &now), all })
    }
}
