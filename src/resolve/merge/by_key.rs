//! Arrays whose items are told apart by a member, such as the lines of an order: merged item by item.

use super::{Merging, json};
use crate::event::{Fp, Type, Value};
use std::collections::HashMap;

/// The items of one side by their key, in order.
struct Items<'a> {
    order: Vec<Fp>,
    of: HashMap<Fp, &'a Value>,
}

impl Merging<'_> {
    /// What both made of an array; `None` where an item has no key, or two have one.
    pub(super) fn by_key(
        &mut self,
        path: &str,
        member: &str,
        ty: &Type,
        base: Option<&Value>,
        head: &Value,
        proposal: &Value,
    ) -> Option<Value> {
        // In a document the items are JSON, whatever stands above them.
        let item = if let Type::Array(item) = ty { item } else { &Type::Json };
        let items = |value| items(value, item, member);
        let (ours, theirs) = (items(head)?, items(proposal)?);
        let seen = base.map(items).unwrap_or(Some(Items { order: Vec::new(), of: HashMap::new() }))?;
        let mut merged = Vec::new();
        let new = theirs.order.iter().filter(|key| !ours.of.contains_key(key));
        for key in ours.order.iter().chain(new) {
            let was = seen.of.get(key).copied();
            match (ours.of.get(key), theirs.of.get(key)) {
                (Some(ours), Some(theirs)) => merged.push(self.field(path, item, was, ours, theirs)),
                (Some(one), None) | (None, Some(one)) => match was {
                    // The other removed it, and nobody changed it.
                    Some(was) if super::field::same(was, one) => {}
                    Some(_) => {
                        self.lost.push(path.to_owned());
                        merged.push((*one).clone());
                    }
                    None => merged.push((*one).clone()),
                },
                (None, None) => {}
            }
        }
        Some(Value::Array(merged))
    }
}

fn items<'a>(value: &'a Value, item: &Type, member: &str) -> Option<Items<'a>> {
    let Value::Array(values) = value else { return None };
    let mut items = Items { order: Vec::with_capacity(values.len()), of: HashMap::with_capacity(values.len()) };
    for value in values {
        let key = key(value, item, member)?;
        items.order.push(key);
        if items.of.insert(key, value).is_some() {
            return None;
        }
    }
    Some(items)
}

fn key(item: &Value, ty: &Type, member: &str) -> Option<Fp> {
    match (item, ty) {
        (Value::Json(text), _) => {
            json::members(text.as_str())?.get(member).map(|raw| Fp::of_bytes(raw.get().as_bytes()))
        }
        (Value::Record(values), Type::Record(fields)) => {
            let at = fields.iter().position(|field| &*field.name == member)?;
            values.get(at).filter(|value| !value.is_null()).map(Fp::of_field)
        }
        _ => None,
    }
}
