//! What each platform of a dataset sees of its collections (read-11), worked out once when the dataset is
//! made ready, and put around the platforms when they are opened.

use super::dataset::{Dataset, Member};
use crate::capture::fold::Part;
use crate::config::{self, Collection};
use crate::connectors::contract::{Exclusive, LogPlatform, Store};
use crate::event::Schema;
use crate::runtime::clock::Clock;
use crate::runtime::error::{Code, Error, Result};
use crate::wrap::projection::{self, Aside, Projection, Projections};
use std::sync::Arc;

/// A platform's projections, and what it said that is not carried.
#[derive(Clone)]
pub(super) struct View {
    projections: Projections,
    aside: Arc<Aside>,
}

impl View {
    /// What `member` sees of a dataset that is ready.
    pub(super) fn of(dataset: &Dataset, member: &Member, clock: Arc<dyn Clock>) -> Result<View> {
        let is_source = *member.name == *dataset.config.source;
        let of = |(collection, schema): (&Collection, &Arc<Schema>)| {
            let projection = Projection::of(&collection.excerpt(&member.name, is_source), schema);
            projection.map(|p| p.map(Arc::new)).map_err(|error| error.at("platform", &member.name))
        };
        let schemas = dataset.collections.iter().map(|ready| &ready.schema);
        let all = dataset.config.collections.iter().zip(schemas).map(of).collect::<Result<Vec<_>>>()?;
        Ok(View { projections: Arc::new(all), aside: Arc::new(Aside::new(clock)) })
    }

    /// The schema a platform has of a collection.
    pub(super) fn schema(&self, collection: usize, whole: &Arc<Schema>) -> Arc<Schema> {
        self.projections.get(collection).and_then(Option::as_ref).map_or(whole, |p| p.schema()).clone()
    }

    /// What the platform sees of each collection, for its reader.
    pub(super) fn parts(&self) -> Vec<Option<Part>> {
        let part = |p: &Arc<Projection>| if p.is_filtered() { Part::Rows } else { Part::Fields };
        self.projections.iter().map(|p| p.as_ref().map(part)).collect()
    }

    pub(super) fn aside(&self) -> &Aside {
        &self.aside
    }

    pub(super) fn log(&self, platform: Arc<dyn LogPlatform>) -> Arc<dyn LogPlatform> {
        projection::platform(platform, &self.projections, &self.aside)
    }

    pub(super) fn hint(&self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        projection::store(store, &self.projections, &self.aside)
    }

    pub(super) fn exclusive(&self, destination: Arc<dyn Exclusive>) -> Arc<dyn Exclusive> {
        projection::exclusive(destination, &self.projections)
    }
}

/// The schema as it travels: without what is left out of the dataset, and nullable where a platform that
/// may write does not see the field: a row that begins there begins without it.
pub(super) fn travelling(
    schema: Schema,
    config: &config::Dataset,
    collection: &Collection,
    members: &[Member],
) -> Result<Schema> {
    let named = collection.columns.iter().flatten();
    if let Some(name) = named.into_iter().find(|name| schema.index_of(name).is_none()) {
        let text = format!("`columns` names the field `{name}`, which the collection does not have");
        return Err(Error::new(Code::ConfigInvalid, text).at("collection", &collection.name));
    }
    let mut schema = listed(schema, collection)?;
    let key: Vec<Arc<str>> = schema.key_fields().map(|field| field.name.clone()).collect();
    for member in members.iter().filter(|member| member.part.proposes) {
        let excerpt = collection.excerpt(&member.name, *member.name == *config.source);
        let in_key = |field: &Arc<str>| key.contains(field);
        let hidden = schema.fields.iter_mut().filter(|field| !in_key(&field.name) && excerpt.hides(&field.name));
        hidden.for_each(|field| field.nullable = true);
    }
    Ok(schema)
}

/// read-11: a table's form without what the configuration leaves out of the dataset. That never enters the log,
/// whatever is read of the table.
pub(super) fn listed(schema: Schema, collection: &Collection) -> Result<Schema> {
    schema.only(|name| collection.travels(name)).map_err(|name| {
        let text = format!("`{name}` belongs to the key and must be among the `columns`");
        Error::new(Code::ConfigInvalid, text).at("collection", &collection.name)
    })
}
