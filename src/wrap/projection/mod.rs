//! What a platform sees of a collection (read-11): some of its columns, some of them masked, some of its
//! rows. `project` is on the way to the platform, `lift` on the way back, both the same for all connectors.
//!
//! The canonical record never changes because a platform does not see all of it: what is hidden or
//! masked there comes back as `Unchanged` (value-2), and the resolver fills it. A row outside the filter
//! is away *there*; its ledger entry is neither a deletion nor a content (`LedgerEntry::is_hidden`).
//! What a platform may not say (a masked value edited, a row outside its filter written) is not carried:
//! it stays where it is, and the key is put aside with the reason (`aside`).
//!
//! Not done here: hiding values from the log. What must not be in the log is left out of the dataset by
//! the collection's own `columns`.

pub mod aside;
mod exclusive;
pub mod filter;
mod log;
mod mask;
mod store;

pub use aside::Aside;
pub use exclusive::exclusive;
pub use log::platform;
pub use mask::Mask;
pub use store::store;

use crate::event::{Canonical, Field, Fp, Row, Schema, Value};
use crate::runtime::error::{Code, Error, Result};
use filter::Filter;
use indexmap::IndexMap;
use mask::Cover;
use serde::Serialize;
use std::sync::Arc;

/// What a platform sees of a collection, as it was configured. The empty one: everything.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Excerpt {
    /// The fields it has; `None` for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// Fields that are masked there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub masks: Option<IndexMap<String, Mask>>,
    /// Which rows it has, as it was written; `None` for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row_filter: Option<String>,
}

impl Excerpt {
    /// Whether it hides or masks a field.
    #[must_use]
    pub fn hides(&self, field: &str) -> bool {
        let away = self.columns.as_ref().is_some_and(|columns| !columns.iter().any(|c| c == field));
        away || self.masks.as_ref().is_some_and(|masks| masks.contains_key(field))
    }

    /// Whether everything is seen as it is.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.columns.is_none() && self.masks.as_ref().is_none_or(IndexMap::is_empty) && self.row_filter.is_none()
    }
}

/// A field a platform has.
#[derive(Clone, Debug)]
struct Shown {
    /// Its place in the dataset's record.
    at: usize,
    name: Arc<str>,
    mask: Option<Cover>,
}

/// What a platform sees of a collection, ready for its rows.
#[derive(Debug)]
pub struct Projection {
    whole: Arc<Schema>,
    seen: Arc<Schema>,
    shown: Vec<Shown>,
    /// Whether it has every field, later ones too.
    all: bool,
    filter: Option<Filter>,
}

/// The projections of a platform's collections, by number; `None` where it sees everything.
pub type Projections = Arc<Vec<Option<Arc<Projection>>>>;

impl Projection {
    /// For a collection's records; `None` if the platform sees everything.
    ///
    /// # Errors
    /// If it names fields that are not there, hides the key, or says what cannot be.
    pub fn of(excerpt: &Excerpt, whole: &Arc<Schema>) -> Result<Option<Projection>> {
        if excerpt.is_whole() {
            return Ok(None);
        }
        let wrong = |text: String| Error::new(Code::ConfigInvalid, text).at("collection", &whole.name);
        let masks = excerpt.masks.clone().unwrap_or_default();
        let named = excerpt.columns.iter().flatten().chain(masks.keys());
        if let Some(name) = named.into_iter().find(|name| whole.index_of(name).is_none()) {
            return Err(wrong(format!("there is no field `{name}`")));
        }
        let is_shown =
            |field: &Field| excerpt.columns.as_ref().is_none_or(|columns| columns.iter().any(|c| **c == *field.name));
        let (mut shown, mut fields) = (Vec::new(), Vec::new());
        for (at, field) in whole.fields.iter().enumerate().filter(|(_, field)| is_shown(field)) {
            let mask = masks.get(&*field.name).map(|mask| mask.on(field)).transpose().map_err(wrong)?;
            let nullable = field.nullable || matches!(mask, Some(Cover::Null));
            fields.push(Field { nullable, ..field.clone() });
            shown.push(Shown { at, name: field.name.clone(), mask });
        }
        let place = |at: &usize| shown.iter().position(|s| s.at == *at && s.mask.is_none());
        let key: Option<Vec<usize>> = whole.key.iter().map(place).collect();
        let key = key.ok_or_else(|| wrong("a field of the key is hidden or masked".into()))?;
        let filter = excerpt.row_filter.as_deref().map(|text| Filter::of(text, whole)).transpose();
        let filter = filter.map_err(|why| wrong(format!("row-filter: {why}")))?;
        let seen = Arc::new(Schema { id: whole.id, name: whole.name.clone(), fields, key });
        Ok(Some(Projection { whole: whole.clone(), seen, shown, all: excerpt.columns.is_none(), filter }))
    }

    /// What the platform's records look like.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.seen
    }

    /// Whether some rows are away from the platform.
    #[must_use]
    pub fn is_filtered(&self) -> bool {
        self.filter.is_some()
    }

    /// Whether a later version of the schema has a field that the platform should have too.
    pub(super) fn lacks(&self, newer: &Schema) -> Option<String> {
        let new = newer.fields.iter().find(|field| self.all && self.whole.index_of(&field.name).is_none());
        new.map(|field| field.name.to_string())
    }

    /// What the records of the dataset look like.
    pub(super) fn whole(&self) -> &Arc<Schema> {
        &self.whole
    }

    /// A version as the platform gets it. One without content that is no deletion either is outside its
    /// filter: it goes there, and only there.
    #[must_use]
    pub fn version(&self, version: &Canonical) -> Canonical {
        let after = version.after.as_ref().and_then(|row| self.row(row)).map(Arc::new);
        // The conflict is not the platform's business, and may be large.
        Canonical { after, conflict: None, ..Canonical::clone(version) }
    }

    /// A row as the platform gets it; `None` if it is outside the filter.
    #[must_use]
    pub fn row(&self, whole: &Row) -> Option<Row> {
        if self.filter.as_ref().is_some_and(|filter| !filter.admits(whole)) {
            return None;
        }
        let value = |shown: &Shown| {
            let value = whole.get(shown.at).unwrap_or(&Value::Null);
            shown.mask.as_ref().map_or_else(|| value.clone(), |mask| mask.cover(value))
        };
        Some(Row(self.shown.iter().map(value).collect()))
    }

    /// A row of the platform as a proposal carries it, or why it is not carried.
    pub fn lift(&self, here: &Row) -> Result<Row, String> {
        let mut whole = vec![Value::Unchanged; self.whole.fields.len()];
        for (shown, value) in self.shown.iter().zip(&here.0) {
            match &shown.mask {
                Some(mask) if !mask.could_be(value) => {
                    let name = &shown.name;
                    return Err(format!("`{name}` is masked here and was edited; put it back, or delete the row"));
                }
                Some(_) => {}
                None => whole.get_mut(shown.at).into_iter().for_each(|slot| *slot = value.clone()),
            }
        }
        let whole = Row(whole);
        match &self.filter {
            Some(filter) if filter.excludes(&whole) => {
                Err(format!("the row is outside this platform's filter ({filter}); change it, or delete it here"))
            }
            _ => Ok(whole),
        }
    }

    /// The fingerprint that goes with a lifted image: that of the row the platform holds. An image that
    /// lacks what the platform does see (value-2: a large value its log left out) is like any other such
    /// image instead: only the version it changed can fill it.
    fn fp(&self, here: &Row, fp: Fp, lifted: &Row) -> Fp {
        let mut unmasked = self.shown.iter().zip(&here.0).filter(|(shown, _)| shown.mask.is_none());
        let lacks = unmasked.any(|(_, value)| *value == Value::Unchanged);
        if lacks { Fp::of_row(&self.whole, lifted) } else { fp }
    }
}

/// A row for people, by the fields the platform has.
fn shown_row(schema: &Schema, row: &Row) -> String {
    let one = |(field, value): (&Field, &Value)| match value {
        Value::Text(text) => format!("{}: {:?}", field.name, text.as_str()),
        Value::Int(int) => format!("{}: {int}", field.name),
        other => format!("{}: {other:?}", field.name),
    };
    schema.fields.iter().zip(&row.0).map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
