//! Schema changes on their way into the dataset (read-10): a table's new form becomes a version of the
//! dataset's schema, which stands in every partition of `.changes` before its first user. The version is
//! registered first, then announced, then used; whoever dies in between finds it registered, and announces
//! it again, which is void where it was announced before (claim-10).

use super::Owned;
use super::fold::View;
use crate::connectors::contract::{CollectionNo, Transaction};
use crate::event::lineage::{self, Form, Lens, Taken};
use crate::event::{Position, Schema, SchemaId};
use crate::guard;
use crate::runtime::error::Result;
use crate::settle::announcement;
use std::sync::Arc;

impl Owned<'_> {
    /// What the forms of a transaction mean; when this returns, their schemas may be used.
    pub(super) async fn views(&mut self, transaction: &Transaction) -> Result<Vec<View>> {
        let mut views = Vec::with_capacity(transaction.forms.len());
        for form in &transaction.forms {
            views.push(self.view(transaction, form).await?);
        }
        Ok(views)
    }

    async fn view(&mut self, transaction: &Transaction, form: &Form) -> Result<View> {
        let capture = self.capture;
        let at = Position::new(transaction.commit, transaction.first + form.from as u64);
        let mut steps = capture.lineages.steps(form.collection).await?;
        let now = loop {
            let before = form.before.as_deref();
            match lineage::take(&steps, capture.me, at, before, &form.schema).map_err(|e| e.at("place", at.commit))? {
                Taken::As(schema) => break schema,
                Taken::New(schema) => {
                    let newest = steps.last().map_or(SchemaId(0), |step| step.schema.id);
                    steps = capture.lineages.add(form.collection, newest, &schema, capture.me, at).await?;
                }
            }
        };
        if guard!("schema-first", true) {
            self.announce(form.collection, &now).await?;
        }
        let all = steps.iter().map(|step| (step.schema.id, Lens::new(&form.schema, &step.schema))).collect();
        Ok(View { form: form.schema.clone(), now: Lens::new(&form.schema, &now), all })
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
