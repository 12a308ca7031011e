//! The rows the suite works with: as an application knows them, and as records of the dataset.

use crate::event::decimal::Decimal;
use crate::event::{Field, Row, Schema, SchemaId, Type, Value};
use std::str::FromStr;

/// A row of the collection `items`, as an application knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// The key.
    pub id: i64,
    /// Never null.
    pub name: String,
    /// A decimal number in its canonical text, or null.
    pub price: Option<String>,
    /// How many there are.
    pub stock: i64,
}

impl Item {
    /// An item; the price may have any form a platform gives.
    #[must_use]
    pub fn new(id: i64, name: &str, price: Option<&str>, stock: i64) -> Self {
        let price = price.map(|text| decimal(text).canonical());
        Item { id, name: name.to_owned(), price, stock }
    }

    /// The item as a row of `item_schema`.
    #[must_use]
    pub fn row(&self) -> Row {
        let price = self.price.as_deref().map_or(Value::Null, |text| Value::Decimal(decimal(text)));
        Row(vec![Value::Int(self.id), Value::text(&self.name), price, Value::Int(self.stock)])
    }
}

fn decimal(text: &str) -> Decimal {
    Decimal::from_str(text).unwrap_or_else(|e| panic!("{text:?} is no decimal number: {e}"))
}

/// What the collection `items` looks like; stores without a schema of their own are given it.
#[must_use]
pub fn item_schema() -> Schema {
    let field = |name: &str, ty, nullable| Field { name: name.into(), ty, nullable };
    let fields = vec![
        field("id", Type::Int(64), false),
        field("name", Type::Text, false),
        field("price", Type::Decimal, true),
        field("stock", Type::Int(64), true),
    ];
    Schema { id: SchemaId(0), name: "items".into(), fields, key: vec![0] }
}

pub(super) fn items(ids: impl Iterator<Item = i64>) -> Vec<Item> {
    ids.map(|id| Item::new(id, &format!("item {id}"), Some("1.5"), id)).collect()
}

/// Ordinary items and odd ones, in the order of their ids.
pub(super) fn samples() -> Vec<Item> {
    vec![
        Item::new(i64::MIN, "the first", Some("0"), 0),
        Item::new(-64, "two\nlines \"quoted\" \\", Some("-3.75"), 1),
        Item::new(0, "", None, 7),
        Item::new(1, "Grüße, 世界 🚲", Some("12.340"), 2),
        Item::new(300, "price", Some("1000"), i64::MAX),
        Item::new(i64::MAX, "the last", Some("0.125"), 3),
    ]
}
