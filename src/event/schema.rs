//! What the fields of a collection are called, and of what type they are.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The id of a schema, as it stands in the wire format of records (topic-8).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct SchemaId(pub u32);

/// The type of a field, independent of any platform.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Type {
    /// True or false.
    Bool,
    /// A signed integer of 16, 32 or 64 bits.
    Int(u8),
    /// A float of 32 or 64 bits.
    Float(u8),
    /// A decimal number of any precision and scale.
    Decimal,
    /// UTF-8 text.
    Text,
    /// Bytes.
    Bytes,
    /// A UUID.
    Uuid,
    /// A calendar day.
    Date,
    /// A time of day.
    Time,
    /// A time of day with the offset of its zone.
    TimeTz,
    /// An instant (`zone`), or a local date and time; in microseconds.
    Timestamp {
        /// Whether it is an instant.
        zone: bool,
    },
    /// A calendar interval.
    Interval,
    /// A JSON document.
    Json,
    /// A list.
    Array(Box<Type>),
    /// A nested record.
    Record(Vec<Field>),
}

/// A named, typed field.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Field {
    /// The field's name in the dataset.
    pub name: Arc<str>,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: Type,
    /// Whether it may be null.
    pub nullable: bool,
}

/// The fields of a collection, in order, and which of them are its key (topic-4).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Schema {
    /// The id in the log, 0 while it has none.
    pub id: SchemaId,
    /// The collection's name.
    pub name: Arc<str>,
    /// The fields in order.
    pub fields: Vec<Field>,
    /// Indexes into `fields`, in key order; never empty.
    pub key: Vec<usize>,
}

impl Schema {
    /// Only the fields that stay; the name of a field of the key if it would not.
    pub fn only(mut self, stays: impl Fn(&str) -> bool) -> Result<Schema, Arc<str>> {
        if let Some(lost) = self.key_fields().find(|field| !stays(&field.name)) {
            return Err(lost.name.clone());
        }
        let key: Vec<Arc<str>> = self.key_fields().map(|field| field.name.clone()).collect();
        self.fields.retain(|field| stays(&field.name));
        self.key = key.iter().filter_map(|name| self.index_of(name)).collect();
        Ok(self)
    }

    /// The index of the field called `name`.
    #[must_use]
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|f| &*f.name == name)
    }

    /// The key's fields, in key order.
    pub fn key_fields(&self) -> impl Iterator<Item = &Field> {
        self.key.iter().filter_map(|&i| self.fields.get(i))
    }
}
