//! A collection of a dataset: its key and fields, where it lies on each platform, and what of it
//! travels. Fields may be left out; then the schema is taken from the source.

use super::custom::CustomRule;
use super::errors::{alternatives, suggestion};
use super::merge::MergeRules;
use super::redact::Settings;
use super::section::{Item, Section};
use super::tree::Content;
use crate::event::{Field, Schema, SchemaId, Type};
use crate::topic::name::RESERVED;
pub use crate::wrap::projection::Mask;
use crate::wrap::projection::{Excerpt, Projection, filter};
use indexmap::IndexMap;
use serde::{Serialize, Serializer};
use serde_json::Value;
use std::sync::Arc;

/// A collection.
#[derive(Clone, PartialEq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Collection {
    /// Its name.
    pub name: String,
    /// The names of its key's fields, in key order; `None` if the source tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Vec<String>>,
    /// Its fields in order; `None` if the source tells.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "fields_shown")]
    pub fields: Option<Vec<Field>>,
    /// Where it lies, by platform, in the connector's words; a platform left out uses its default.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub on: IndexMap<String, Settings>,
    /// The fields that travel; the others never enter the log. `None` for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub columns: Option<Vec<String>>,
    /// Fields that are masked everywhere but on the source, by name.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub masks: IndexMap<String, Mask>,
    /// Which rows the other platforms than the source have, as it was written; `None` for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row_filter: Option<String>,
    /// How its fields are merged, where that is not as the dataset says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merge: Option<MergeRules>,
    /// The rule its conflicts are settled by, where that is not the dataset's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom: Option<CustomRule>,
    /// What single platforms see of it; what is said here stands in place of what is said above.
    #[serde(skip_serializing_if = "IndexMap::is_empty")]
    pub views: IndexMap<String, Excerpt>,
}

impl Collection {
    /// The only collection of a dataset that names none: it is called like the dataset (who-1).
    pub(super) fn only(dataset: &str) -> Self {
        Collection {
            name: dataset.into(),
            key: None,
            fields: None,
            on: IndexMap::new(),
            columns: None,
            masks: IndexMap::new(),
            row_filter: None,
            merge: None,
            custom: None,
            views: IndexMap::new(),
        }
    }

    /// What `platform` sees of it (read-11). The source sees whole rows.
    #[must_use]
    pub fn excerpt(&self, platform: &str, is_source: bool) -> Excerpt {
        let own = self.views.get(platform).cloned().unwrap_or_default();
        let masks = (!is_source && !self.masks.is_empty()).then(|| self.masks.clone());
        let row_filter = self.row_filter.clone().filter(|_| !is_source);
        Excerpt { columns: own.columns, masks: own.masks.or(masks), row_filter: own.row_filter.or(row_filter) }
    }

    /// The schema of what travels, if the configuration gives the fields.
    #[must_use]
    pub fn schema(&self) -> Option<Schema> {
        let (mut fields, key) = (self.fields.clone()?, self.key.as_ref()?);
        fields.retain(|field| self.travels(&field.name));
        let key: Option<Vec<usize>> = key.iter().map(|k| fields.iter().position(|f| *f.name == **k)).collect();
        Some(Schema { id: SchemaId(0), name: self.name.as_str().into(), fields, key: key? })
    }

    /// Whether a field is part of the dataset at all.
    #[must_use]
    pub fn travels(&self, field: &str) -> bool {
        self.columns.as_ref().is_none_or(|columns| columns.iter().any(|c| c == field))
    }

    /// Where it lies on `platform`, in the connector's words; null for the connector's default.
    #[must_use]
    pub fn place(&self, platform: &str) -> Value {
        self.on.get(platform).map_or(Value::Null, |on| on.open().clone())
    }

    /// Reads a collection of a dataset on `platforms`.
    pub(super) fn read(section: Section<'_>, platforms: &[&str]) -> Option<Self> {
        let name = section.required("name", "the name of the collection").and_then(|item| name(&item));
        let key = section.item("key").and_then(|item| names(&item, "the key's field, or a list of them"));
        let fields = section.item("fields").and_then(|item| fields(&item, key.as_deref().unwrap_or_default()));
        let on = section.item("on").map(|item| on(&item, platforms)).unwrap_or_default();
        let columns = section.item("columns").and_then(|item| names(&item, "a list of fields"));
        let masks = section.item("masks").map(|item| masks(&item)).unwrap_or_default();
        let row_filter = section.item("row-filter").and_then(|item| row_filter(&item));
        let merge = section.item("merge").and_then(|item| item.section("rules of a merge")).map(MergeRules::read);
        let custom = section.item("custom").and_then(|item| item.section("a rule")).map(CustomRule::read);
        let views = section.item("views").map(|item| views(&item, platforms)).unwrap_or_default();
        let name = name.unwrap_or_default();
        let collection = Collection { name, key, fields, on, columns, masks, row_filter, merge, custom, views };
        collection.check(&section);
        section.finish();
        if collection.name.is_empty() { None } else { Some(collection) }
    }

    /// What can only be seen from several keys together.
    fn check(&self, section: &Section<'_>) {
        let key = self.key.as_deref().unwrap_or_default();
        if self.fields.is_some() && section.item("key").is_none() {
            section.problem("key", "missing; expected the names of the key's fields, because `fields` are given");
        }
        let views = self.views.values();
        let masks = || std::iter::once(&self.masks).chain(views.clone().filter_map(|view| view.masks.as_ref()));
        for k in key.iter().filter(|k| masks().any(|masks| masks.contains_key(*k))) {
            section.problem("masks", format!("`{k}` belongs to the key, which cannot be masked"));
        }
        let columns = self.columns.iter().chain(views.clone().filter_map(|view| view.columns.as_ref()));
        for columns in columns {
            for k in key.iter().filter(|k| !columns.contains(k)) {
                section.problem("columns", format!("`{k}` belongs to the key and must be among the columns"));
            }
        }
        let Some(fields) = &self.fields else { return };
        let known = || fields.iter().map(|f| &*f.name);
        let named = [("key", key), ("columns", self.columns.as_deref().unwrap_or_default())];
        let named = named.iter().flat_map(|(at, names)| names.iter().map(move |name| (*at, name)));
        for (at, name) in named.chain(self.masks.keys().map(|name| ("masks", name))) {
            if !known().any(|k| k == name) {
                let guess = suggestion(name, known());
                section.problem(
                    at,
                    format!("there is no field `{}`{guess}; expected one of `fields`", name.escape_debug()),
                );
            }
        }
        self.check_projections(section);
    }

    /// Masks, conditions and views against the fields, as far as those are given.
    fn check_projections(&self, section: &Section<'_>) {
        let Some(schema) = self.schema().map(Arc::new) else { return };
        let whole = Excerpt { row_filter: self.row_filter.clone(), ..Excerpt::default() };
        let masked = Excerpt { masks: Some(self.masks.clone()), ..Excerpt::default() };
        let is_named = |name: &String| schema.index_of(name).is_some();
        let masks = self.masks.keys().all(is_named).then_some(("masks", &masked));
        let all =
            [("row-filter", &whole)].into_iter().chain(masks).chain(self.views.values().map(|view| ("views", view)));
        for (at, excerpt) in all {
            if let Err(error) = Projection::of(excerpt, &schema) {
                section.problem(at, error.doing);
            }
        }
        for field in schema.fields.iter().filter(|f| self.masks.get(&*f.name) == Some(&Mask::Null) && !f.nullable) {
            section.problem("masks", format!("`{}` is not nullable, so it cannot be masked by null", field.name));
        }
    }
}

fn name(item: &Item<'_>) -> Option<String> {
    let name = item.name("collection")?;
    if RESERVED.contains(&name.as_str()) {
        // topic-1
        item.problem(format!("`{name}` is reserved for a topic; expected another name"));
        return None;
    }
    Some(name)
}

/// A list of different names, not empty.
fn names(item: &Item<'_>, what: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    for (name, item) in item.texts(what)? {
        if names.contains(&name) {
            item.problem(format!("{} is named twice", item.node.found()));
        } else {
            names.push(name);
        }
    }
    if names.is_empty() {
        item.problem(format!("expected {what}, found an empty list"));
        return None;
    }
    Some(names)
}

fn fields(item: &Item<'_>, key: &[String]) -> Option<Vec<Field>> {
    let mut fields: Vec<Field> = Vec::new();
    let items = item.list("a list of fields, each with `name` and `type`")?;
    if items.is_empty() {
        item.problem("expected at least one field, found an empty list");
    }
    for item in items {
        let Some(section) = item.section("a field: `{name: …, type: …}`") else { continue };
        let name =
            section.required("name", "the name of the field").and_then(|item| item.text("the name of the field"));
        let ty = section.required("type", "the type of the field").and_then(|item| field_type(&item));
        let nullable = section.item("nullable").and_then(|item| item.flag());
        let in_key = name.as_ref().is_some_and(|name| key.contains(name));
        if in_key && nullable == Some(true) {
            section.problem("nullable", "a field of the key cannot be null");
        }
        if let Some(ty) = ty.as_ref().filter(|ty| in_key && !can_be_key(ty)) {
            section.problem("type", format!("a field of the key cannot be of type {}", type_name(ty)));
        }
        if name.as_ref().is_some_and(|name| fields.iter().any(|f| *f.name == **name)) {
            section.problem("name", "another field has this name; expected different names");
        }
        section.finish();
        if let (Some(name), Some(ty)) = (name, ty) {
            fields.push(Field { name: name.into(), ty, nullable: nullable.unwrap_or(!in_key) && !in_key });
        }
    }
    if fields.is_empty() { None } else { Some(fields) }
}

/// topic-4: a key must map one to one everywhere; these types have values that are written in more
/// than one way, or rounded.
const fn can_be_key(ty: &Type) -> bool {
    !matches!(ty, Type::Float(_) | Type::Json | Type::Array(_) | Type::Interval | Type::Record(_))
}

/// The types by their names in the configuration; `array<…>` of each comes on top.
static TYPES: [(&str, Type); 17] = [
    ("bool", Type::Bool),
    ("short", Type::Int(16)),
    ("int", Type::Int(32)),
    ("long", Type::Int(64)),
    ("float", Type::Float(32)),
    ("double", Type::Float(64)),
    ("decimal", Type::Decimal),
    ("text", Type::Text),
    ("bytes", Type::Bytes),
    ("uuid", Type::Uuid),
    ("date", Type::Date),
    ("time", Type::Time),
    ("timetz", Type::TimeTz),
    ("timestamp", Type::Timestamp { zone: false }),
    ("timestamptz", Type::Timestamp { zone: true }),
    ("interval", Type::Interval),
    ("json", Type::Json),
];

fn field_type(item: &Item<'_>) -> Option<Type> {
    let text = item.text("a type such as `text`")?;
    let found = parse_type(&text, 0);
    if found.is_none() {
        let names = || TYPES.iter().map(|(name, _)| *name);
        let guess = suggestion(&text, names());
        let expected = alternatives(names().chain(["array<…>"]));
        item.problem(format!("unknown type {}{guess}; expected {expected}", item.node.found()));
    }
    found
}

/// Arrays nest six deep at most: that is what a database can hold.
fn parse_type(text: &str, depth: usize) -> Option<Type> {
    let text = text.trim();
    if let Some(inner) = text.strip_prefix("array<").and_then(|rest| rest.strip_suffix('>')) {
        return if depth < 6 { parse_type(inner, depth + 1).map(|ty| Type::Array(Box::new(ty))) } else { None };
    }
    TYPES.iter().find(|(name, _)| *name == text).map(|(_, ty)| ty.clone())
}

/// The name of a type in the configuration.
fn type_name(ty: &Type) -> String {
    match ty {
        Type::Array(inner) => format!("array<{}>", type_name(inner)),
        ty => TYPES.iter().find(|(_, t)| t == ty).map_or_else(|| format!("{ty:?}"), |(name, _)| (*name).into()),
    }
}

fn fields_shown<S: Serializer>(fields: &Option<Vec<Field>>, serializer: S) -> Result<S::Ok, S::Error> {
    let shown = |f: &Field| serde_json::json!({"name": f.name, "type": type_name(&f.ty), "nullable": f.nullable});
    serializer.collect_seq(fields.iter().flatten().map(shown))
}

fn on(item: &Item<'_>, platforms: &[&str]) -> IndexMap<String, Settings> {
    let mut places = IndexMap::new();
    let Some(section) = item.section("a map from platforms to places") else { return places };
    for (entry, item) in section.entries() {
        if !platforms.contains(&entry.key.as_str()) {
            let guess = suggestion(&entry.key, platforms.iter().copied());
            let expected = alternatives(platforms.iter().copied());
            section.problem(&entry.key, format!("no platform of this dataset{guess}; expected {expected}"));
        } else if let Some(place) = item.section("where the collection lies, such as `{table: products}`") {
            // `section` reports keys that stand twice.
            places.insert(
                entry.key.clone(),
                Settings::of_entries(place.entries().map(|(e, i)| (e.key.as_str(), i.node))),
            );
        }
    }
    places
}

/// A condition, as far as it can be understood without the fields.
fn row_filter(item: &Item<'_>) -> Option<String> {
    let text = item.text("a condition such as `region = 'EU'`")?;
    match filter::parse(&text) {
        Ok(_) => Some(text),
        Err(why) => {
            item.problem(why);
            None
        }
    }
}

fn views(item: &Item<'_>, platforms: &[&str]) -> IndexMap<String, Excerpt> {
    let mut views = IndexMap::new();
    let Some(section) = item.section("a map from platforms to what they see") else { return views };
    for (entry, item) in section.entries() {
        if !platforms.contains(&entry.key.as_str()) {
            let guess = suggestion(&entry.key, platforms.iter().copied());
            let expected = alternatives(platforms.iter().copied());
            section.problem(&entry.key, format!("no platform of this dataset{guess}; expected {expected}"));
        } else if let Some(view) = item.section("what the platform sees: `columns`, `masks`, `row-filter`") {
            let excerpt = Excerpt {
                columns: view.item("columns").and_then(|item| names(&item, "a list of fields")),
                masks: view.item("masks").map(|item| masks(&item)),
                row_filter: view.item("row-filter").and_then(|item| row_filter(&item)),
            };
            view.finish();
            views.insert(entry.key.clone(), excerpt);
        }
    }
    views
}

fn masks(item: &Item<'_>) -> IndexMap<String, Mask> {
    let mut masks = IndexMap::new();
    let Some(section) = item.section("a map from fields to masks") else { return masks };
    for (entry, item) in section.entries() {
        if let Some(mask) = mask(&item) {
            masks.insert(entry.key.clone(), mask);
        }
    }
    masks
}

fn mask(item: &Item<'_>) -> Option<Mask> {
    let text = item.raw_text().map(|text| text.value.as_str());
    match &item.node.content {
        Content::Null => Some(Mask::Null),
        Content::Text(_) if text == Some("hash") => Some(Mask::Hash),
        Content::Text(_) if text == Some("null") => Some(Mask::Null),
        Content::Map(_) => {
            let section = item.section("a mask")?;
            let fixed = section.required("fixed", "the value to send")?;
            section.finish();
            Some(Mask::Fixed(Settings::of(fixed.node).open().clone()))
        }
        _ => {
            item.problem(format!("expected hash, null or `{{fixed: value}}`, found {}", item.node.found()));
            None
        }
    }
}
