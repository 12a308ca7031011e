//! The schemas known to this process: by their id for reading, by their text for writing. Whoever
//! keeps schemas (`topic::registry`) tells them here, so that encoding and decoding never wait.
//!
//! A text is only used if this release would write the same: a schema of a newer version is refused
//! as such, a foreign one as foreign.

use super::parse;
use super::schema::{Shape, shape_json};
use super::value::{put_image, put_row, take_image, take_row};
use super::wire::{Broken, Input, Refusal};
use super::{MAGIC, header};
use crate::event::{Row, Schema, SchemaId};
use crate::runtime::error::{Code, Error};
use bytes::Bytes;
use parking_lot::RwLock;
use serde_json::Value as Json;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, OnceLock};

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $kind:ident $name:literal $folder:literal),* $(,)?) => {
        /// The kinds of records; each has a folder in `schemas/`.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Kind { $($(#[doc = $doc])* $kind),* }

        impl Kind {
            /// All kinds.
            pub const ALL: &'static [Kind] = &[$(Kind::$kind),*];

            /// The full name of its record.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$kind => concat!("driftless.", $name)),* }
            }

            /// Its folder in `schemas/`.
            #[must_use]
            pub const fn folder(self) -> &'static str {
                match self { $(Kind::$kind => $folder),* }
            }

            /// The newest version's file.
            const fn file(self) -> &'static str {
                match self {
                    $(Kind::$kind => include_str!(concat!("../../../schemas/", $folder, "/v1.avsc"))),*
                }
            }
        }
    };
}

kinds! {
    /// `Record::Claim`.
    Claim "Claim" "claim",
    /// `Record::Proposal`.
    Proposal "Proposal" "proposal",
    /// `Record::Control`.
    Control "Control" "control",
    /// `Record::Canonical`.
    Canonical "Canonical" "canonical",
    /// `Record::State`.
    State "State" "state",
    /// `Record::ResolverMark`.
    ResolverMark "ResolverMark" "resolver-mark",
    /// `Record::Known`.
    Known "Known" "known",
    /// `Record::ReaderMark`.
    ReaderMark "ReaderMark" "reader-mark",
    /// `Record::Ledger`.
    Ledger "Ledger" "ledger",
    /// `Record::AgentMark`.
    AgentMark "AgentMark" "agent-mark",
    /// `Record::Conflict`.
    Conflict "Settled" "conflict",
    /// `Record::Truncate`.
    Truncate "Truncate" "truncate",
    /// `Record::Dead`.
    Dead "Dead" "dead",
    /// `Record::Review`.
    Review "Review" "review",
}

/// The newest version of the records' schemas; the one written here.
const VERSION: u64 = 1;

impl Kind {
    /// Which shape of row the record carries.
    const fn rows(self) -> Option<Shape> {
        match self {
            Kind::Proposal => Some(Shape::Image),
            Kind::Canonical | Kind::State | Kind::Conflict | Kind::Dead | Kind::Review => Some(Shape::Row),
            _ => None,
        }
    }

    /// The released schema with the collection's own types in their places.
    fn json(self, schema: Option<&Schema>) -> Json {
        static FILES: LazyLock<HashMap<Kind, Json>> = LazyLock::new(|| {
            Kind::ALL.iter().map(|&kind| (kind, serde_json::from_str(kind.file()).unwrap_or(Json::Null))).collect()
        });
        let mut json = FILES.get(&self).cloned().unwrap_or_default();
        if let (Some(shape), Some(schema)) = (self.rows(), schema) {
            fill(&mut json, shape_json(schema, shape), &mut false);
        }
        json
    }
}

/// Puts `row` in the place of the names `driftless.Row` and `driftless.Image`: whole at the first
/// place, by its name at the others, as Avro wants it.
fn fill(json: &mut Json, row: Json, placed: &mut bool) -> Json {
    match json {
        Json::String(text) if text == "driftless.Row" || text == "driftless.Image" => {
            let name = row.get("name").cloned().unwrap_or_default();
            *json = if std::mem::replace(placed, true) { name } else { row.clone() };
            row
        }
        Json::Array(items) => items.iter_mut().fold(row, |row, item| fill(item, row, placed)),
        Json::Object(map) => map.values_mut().fold(row, |row, value| fill(value, row, placed)),
        _ => row,
    }
}

/// What a schema id stands for.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Form {
    /// A full row of a collection.
    Row(Arc<Schema>),
    /// An image of one.
    Image(Arc<Schema>),
    /// A key; nobody needs to read it by its id here.
    Key,
    /// A record, with the schema of its rows if it can have some.
    Envelope(Kind, Option<Arc<Schema>>),
}

/// The ids under which records of one collection and schema are written.
#[derive(Debug)]
pub struct Collection {
    /// The schema of its rows, with its id.
    pub row: Arc<Schema>,
    /// The id of its key's schema.
    pub key: SchemaId,
    image: SchemaId,
    kinds: HashMap<Kind, SchemaId>,
}

impl Collection {
    /// The id of a record's schema.
    pub(super) fn kind(&self, kind: Kind) -> SchemaId {
        self.kinds.get(&kind).copied().unwrap_or_default()
    }
}

/// A schema to be registered before records of a collection can be written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// The full name of its record.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// The schemas whose ids must be known before records with this schema can be written; the rows'
/// own schema comes first, so that its id is the id of `schema`.
#[must_use]
pub fn wanted(schema: &Schema) -> Vec<Wanted> {
    let shapes = [Shape::Row, Shape::Image, Shape::Key].map(|shape| shape_json(schema, shape));
    let kinds = Kind::ALL.iter().map(|kind| kind.json(Some(schema)));
    let wanted = |json: Json| Wanted {
        name: json.get("name").and_then(Json::as_str).unwrap_or_default().to_string(),
        text: json.to_string(),
    };
    shapes.into_iter().chain(kinds).map(wanted).collect()
}

/// The schemas known, by id and by text.
#[derive(Default)]
pub struct Forms {
    by_id: RwLock<HashMap<SchemaId, Arc<Entry>>>,
    by_text: RwLock<HashMap<[u8; 32], SchemaId>>,
    collections: RwLock<HashMap<SchemaId, Arc<Collection>>>,
}

struct Entry {
    text: Arc<str>,
    form: OnceLock<Form>,
}

impl Forms {
    /// Takes note of a schema. Of two ids for one text the first one told is written from then on.
    pub fn learn(&self, id: SchemaId, text: &str) {
        let entry = || Arc::new(Entry { text: text.into(), form: OnceLock::new() });
        self.by_id.write().entry(id).or_insert_with(entry);
        self.by_text.write().entry(*blake3::hash(text.as_bytes()).as_bytes()).or_insert(id);
    }

    /// The id of a text.
    #[must_use]
    pub fn id_of(&self, text: &str) -> Option<SchemaId> {
        self.by_text.read().get(blake3::hash(text.as_bytes()).as_bytes()).copied()
    }

    /// The text of an id.
    #[must_use]
    pub fn text_of(&self, id: SchemaId) -> Option<Arc<str>> {
        self.by_id.read().get(&id).map(|entry| entry.text.clone())
    }

    /// The schema of rows called `id`; `None` if it is not known here or is no row's.
    #[must_use]
    pub fn row(&self, id: SchemaId) -> Option<Arc<Schema>> {
        match self.form(id) {
            Ok(Form::Row(schema)) => Some(schema),
            _ => None,
        }
    }

    /// What an id stands for, read at its first use.
    pub(super) fn form(&self, id: SchemaId) -> Result<Form, Broken> {
        let entry = self.by_id.read().get(&id).cloned().ok_or(Broken::UnknownSchema(id))?;
        if let Some(form) = entry.form.get() {
            return Ok(form.clone());
        }
        let form = read_form(id, &entry.text).map_err(Broken::Unusable)?;
        Ok(entry.form.get_or_init(|| form).clone())
    }

    /// The ids for writing records whose rows have the schema `id`; all of `wanted` must be known.
    pub fn collection(&self, id: SchemaId) -> Result<Arc<Collection>, Error> {
        if let Some(known) = self.collections.read().get(&id) {
            return Ok(known.clone());
        }
        let row = self.row(id).ok_or_else(|| unprepared(id))?;
        let mut ids = Vec::new();
        for Wanted { text, .. } in wanted(&row) {
            ids.push(self.id_of(&text).ok_or_else(|| unprepared(id))?);
        }
        let mut ids = ids.into_iter().skip(1);
        let (Some(image), Some(key)) = (ids.next(), ids.next()) else { return Err(unprepared(id)) };
        let kinds = Kind::ALL.iter().copied().zip(ids).collect();
        let collection = Arc::new(Collection { row, key, image, kinds });
        Ok(self.collections.write().entry(id).or_insert(collection).clone())
    }

    /// A row as a message of its own, under the schema `id`.
    pub(super) fn enclose(&self, id: SchemaId, row: &Row) -> Result<Vec<u8>, Refusal> {
        let collection = self.collection(id).map_err(Box::new)?;
        let mut message = Vec::with_capacity(64);
        if row.is_partial() {
            message.extend_from_slice(&header(collection.image));
            put_image(&mut message, &collection.row, row, false)?;
        } else {
            message.extend_from_slice(&header(id));
            put_row(&mut message, &collection.row, row)?;
        }
        Ok(message)
    }

    /// The row of a message of its own.
    pub(super) fn disclose(&self, message: &Bytes) -> Result<Row, Broken> {
        let mut input = Input::new(message, 0, self, None);
        let [magic, id @ ..] = input.fixed::<5>("an enclosed message")?;
        if magic != MAGIC {
            return Err(input.broken("an enclosed message"));
        }
        let row = match self.form(SchemaId(u32::from_be_bytes(id)))? {
            Form::Row(schema) => take_row(&mut input, &schema)?,
            Form::Image(schema) => take_image(&mut input, &schema)?,
            _ => return Err(input.broken("the schema of a row")),
        };
        if input.left() > 0 { Err(input.broken("the end of an enclosed message")) } else { Ok(row) }
    }
}

fn unprepared(id: SchemaId) -> Error {
    let problem = "a record was to be written under a schema that was never registered; this is a bug, report it";
    Error::new(Code::Unexpected, problem).at("schema", id.0)
}

fn read_form(id: SchemaId, text: &str) -> Result<Form, Error> {
    let json: Json = serde_json::from_str(text).map_err(|cause| parse::foreign("is no JSON", id).caused_by(cause))?;
    let name = json.get("name").and_then(Json::as_str).unwrap_or_default();
    if let Some(&kind) = Kind::ALL.iter().find(|kind| kind.name() == name) {
        return read_envelope(kind, &json, id);
    }
    match name.rsplit_once('.').map(|(namespace, _)| namespace) {
        Some("driftless.row") => parse::shape(&json, Shape::Row, id).map(|schema| Form::Row(Arc::new(schema))),
        Some("driftless.image") => parse::shape(&json, Shape::Image, id).map(|schema| Form::Image(Arc::new(schema))),
        Some("driftless.key") => parse::shape(&json, Shape::Key, id).map(|_| Form::Key),
        // A kind of record that only a newer release has says so by its version.
        _ => {
            parse::check_version(&json, 0, id)?;
            Err(parse::foreign("is of no kind known here", id))
        }
    }
}

fn read_envelope(kind: Kind, json: &Json, id: SchemaId) -> Result<Form, Error> {
    parse::check_version(json, VERSION, id)?;
    let row = match (kind.rows(), parse::rows_within(json)) {
        (Some(shape), Some(rows)) => Some(Arc::new(parse::shape(rows, shape, id)?)),
        _ => None,
    };
    if kind.json(row.as_deref()) != *json {
        return Err(parse::foreign("differs from what this release writes", id));
    }
    Ok(Form::Envelope(kind, row))
}
