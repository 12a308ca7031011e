//! What a file of a collection holds: its key from its path, its row from its content, both ways.
//! A row is written only if it reads back with the same fingerprint (P8), so norm is the identity
//! and lift has nothing to restore. Pure; the files themselves are `client`'s.

use super::config::{Format, On};
use super::wire::json;
use super::wire::path::Template;
use crate::connectors::contract::Place;
use crate::event::{Fp, Key, Row, Schema, Type, Value};
use crate::runtime::error::{Code, Error, Result};
use bytes::Bytes;
use parking_lot::RwLock;
use std::sync::Arc;

/// One collection in the directory.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// The collection's name.
    pub(super) name: String,
    /// The schema it was opened with: of its keys for ever, of its rows until `know`.
    pub(super) schema: Arc<Schema>,
    /// The schema of its rows (read-10); all clones share it.
    rows: Arc<RwLock<Arc<Schema>>>,
    /// Where its files lie.
    pub(super) template: Template,
    format: Format,
}

impl Layout {
    /// Checks where a collection lies and that its rows fit the format.
    pub(super) fn new(place: &Place) -> Result<Layout> {
        let wrong = |text: String| Error::new(Code::ConfigInvalid, text).at("collection", &place.name);
        let on = On::parse(&place.on).map_err(wrong)?;
        let schema = place.schema.clone().ok_or_else(|| {
            Error::new(Code::SchemaUnsupported, "a directory does not say what its records look like: give the collection a schema, or another platform that has one")
                .at("collection", &place.name)
        })?;
        let text = on.path_of(&place.name);
        let template = Template::parse(&text, &schema).map_err(|e| wrong(format!("on.path: {text:?}: {e}")))?;
        let rows = Arc::new(RwLock::new(schema.clone()));
        let layout = Layout { name: place.name.clone(), schema, rows, template, format: on.format };
        if layout.format == Format::Bytes && layout.content_field().is_none() {
            return Err(wrong(
                "on.format: bytes needs a schema with exactly one field besides the key, of type bytes or text".into(),
            ));
        }
        Ok(layout)
    }

    /// The path of a key's file below the root.
    pub(super) fn path(&self, key: &Key) -> Result<String> {
        let values = key.decode(&self.schema)?;
        self.template.path(&values).map_err(|e| Error::new(Code::KeyTooLong, e).at("collection", &self.name))
    }

    /// The key whose file lies there.
    pub(super) fn key(&self, path: &str) -> Option<Key> {
        Key::encode(&self.template.values(path)?, &self.schema).ok()
    }

    /// The schema of its rows.
    fn rows(&self) -> Arc<Schema> {
        self.rows.read().clone()
    }

    /// Rows are of this schema from here on.
    pub(super) fn know(&self, schema: &Arc<Schema>) -> Result<()> {
        if self.format == Format::Bytes && schema.fields.len() != self.schema.fields.len() {
            let text = "the dataset has a new field, and a file of raw bytes has no place for it: use `format: json`";
            return Err(Error::new(Code::SchemaUnsupported, text).at("collection", &self.name));
        }
        let mut rows = self.rows.write();
        // It only grows: who tells of less has not heard yet.
        if schema.fields.len() >= rows.fields.len() {
            rows.clone_from(schema);
        }
        Ok(())
    }

    /// The row of a file's content, or why it is none.
    pub(super) fn decode(&self, key: &Key, content: &[u8]) -> std::result::Result<Row, String> {
        let in_path = key.decode(&self.schema).map_err(|_| "its key does not fit the schema")?;
        let schema = self.rows();
        let values = match self.format {
            Format::Json => {
                let text = std::str::from_utf8(content).map_err(|_| "it is not UTF-8")?;
                let mut fields = schema.fields.clone();
                schema.key.iter().filter_map(|&at| fields.get_mut(at).map(|f| f.nullable = true)).for_each(drop);
                json::decode(&fields, text)?
            }
            Format::Bytes => self.whole_file(content)?,
        };
        self.with_key(values, in_path)
    }

    /// The content of a row's file, or why there can be none.
    pub(super) fn encode(&self, row: &Row) -> Result<Vec<u8>> {
        let refused = |reason: String| Error::new(Code::ValueRefused, reason).at("collection", &self.name);
        let schema = self.rows();
        if row.0.len() > schema.fields.len() {
            return Err(refused("the row does not have the fields of its schema".into()));
        }
        // A row of an earlier time lacks what came later.
        let mut row = row.clone();
        row.0.resize(schema.fields.len(), Value::Null);
        let lacking = schema.fields.iter().zip(&row.0).find(|(f, v)| v.is_null() && !f.nullable);
        if let Some((field, _)) = lacking {
            return Err(refused(format!("field {} may not be null", field.name)));
        }
        match (self.format, self.content_field().and_then(|at| row.get(at))) {
            (Format::Json, _) => json::encode(&schema.fields, &row.0).map(String::into_bytes).map_err(refused),
            (Format::Bytes, Some(Value::Bytes(bytes))) => Ok(bytes.to_vec()),
            (Format::Bytes, Some(Value::Text(text))) => Ok(text.as_bytes().to_vec()),
            (Format::Bytes, _) => Err(refused("a file cannot hold a null: its content is bytes".into())),
        }
    }

    /// The fingerprint the row will have once read back: its own, or it is refused (P8).
    pub(super) fn norm(&self, key: &Key, row: &Row) -> Result<Fp> {
        let refused = |reason: String| Error::new(Code::ValueRefused, reason).at("collection", &self.name);
        let content = self.encode(row)?;
        let back = self.decode(key, &content).map_err(refused)?;
        let fp = self.fp(row);
        if self.fp(&back) != fp {
            return Err(refused("the row would not read back as it is".into()));
        }
        Ok(fp)
    }

    /// The fingerprint of a row.
    pub(super) fn fp(&self, row: &Row) -> Fp {
        Fp::of_row(&self.rows(), row)
    }

    /// The one field besides the key that a raw file's bytes are.
    fn content_field(&self) -> Option<usize> {
        let mut others = (0..self.schema.fields.len()).filter(|at| !self.schema.key.contains(at));
        let at = others.next().filter(|_| others.next().is_none())?;
        matches!(self.schema.fields.get(at)?.ty, Type::Bytes | Type::Text).then_some(at)
    }

    fn whole_file(&self, content: &[u8]) -> std::result::Result<Vec<Value>, String> {
        let mut values = vec![Value::Null; self.schema.fields.len()];
        let at = self.content_field().ok_or("the schema has no field for a whole file")?;
        let text = self.schema.fields.get(at).is_some_and(|f| f.ty == Type::Text);
        if let Some(value) = values.get_mut(at) {
            *value = if text {
                Value::text(std::str::from_utf8(content).map_err(|_| "it is not UTF-8")?)
            } else {
                Value::Bytes(Bytes::copy_from_slice(content))
            };
        }
        Ok(values)
    }

    /// Puts the key of the path into the row; a document may repeat it, but not contradict it.
    fn with_key(&self, mut values: Vec<Value>, in_path: Vec<Value>) -> std::result::Result<Row, String> {
        let schema = self.rows();
        for (&at, key_value) in schema.key.iter().zip(in_path) {
            let Some(value) = values.get_mut(at) else { continue };
            if !value.is_null() && *value != key_value {
                let name = schema.fields.get(at).map_or("", |f| &f.name);
                return Err(format!("member {name:?} is {value:?}, but the path says {key_value:?}"));
            }
            *value = key_value;
        }
        Ok(Row(values))
    }
}
