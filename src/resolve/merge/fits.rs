//! Whether the rules of a configuration can hold for a collection: asked before it begins, so that no
//! rule is found out to be of no use at the first conflict.

use crate::event::{FieldRule, Merge, Schema, Type};
use std::sync::Arc;

/// A rule that cannot hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Misfit {
    /// The path as it is written.
    pub path: String,
    /// What is wrong with it, and what would be right.
    pub why: String,
}

/// The rules that cannot hold for rows of `schema`.
#[must_use]
pub fn misfits(merge: &Merge, schema: &Schema) -> Vec<Misfit> {
    let misfit = |(path, rule): (&Arc<str>, &FieldRule)| {
        wrong(path, rule, schema).map(|why| Misfit { path: path.to_string(), why })
    };
    merge.fields.iter().filter_map(misfit).collect()
}

fn wrong(path: &str, rule: &FieldRule, schema: &Schema) -> Option<String> {
    let Some((name, ty)) = found(path, schema) else {
        let known: Vec<String> = schema.fields.iter().map(|field| format!("`{}`", field.name)).collect();
        return Some(format!("`{}` has no field of this name; it has {}", schema.name, known.join(", ")));
    };
    if schema.key_fields().any(|field| *field.name == *name) {
        return Some("a field of the key is the same on both sides; take the rule away".into());
    }
    let fits = match (rule, ty) {
        // What stands in a document is seen when it is merged.
        (_, Type::Json) | (FieldRule::Latest, _) => true,
        (FieldRule::Counter, Type::Int(_) | Type::Decimal) => true,
        (FieldRule::Set, Type::Array(_)) => true,
        (FieldRule::Append, Type::Array(_) | Type::Text) => true,
        (FieldRule::Lines, Type::Text) => true,
        (FieldRule::Max | FieldRule::Min, ty) => is_ordered(ty),
        (FieldRule::ByKey(member), Type::Array(item)) => match &**item {
            Type::Json => true,
            Type::Record(fields) => fields.iter().any(|field| *field.name == **member),
            _ => false,
        },
        _ => false,
    };
    (!fits).then(|| format!("the rule `{rule}` is for {}", meant_for(rule)))
}

/// The field a path leads to, by the longest name that fits, and the type at the path's end.
fn found<'a>(path: &str, schema: &'a Schema) -> Option<(&'a str, &'a Type)> {
    let leads = |name: &str| path == name || path.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
    let field = schema.fields.iter().filter(|field| leads(&field.name)).max_by_key(|field| field.name.len())?;
    let rest = path[field.name.len()..].strip_prefix('.');
    Some((&field.name, rest.map_or(Some(&field.ty), |rest| inside(rest, &field.ty))?))
}

/// The type at a path in a record, an array of them, or a document.
fn inside<'a>(path: &str, ty: &'a Type) -> Option<&'a Type> {
    match ty {
        Type::Json => Some(ty),
        Type::Array(item) => inside(path, item),
        Type::Record(fields) => {
            let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
            let field = fields.iter().find(|field| *field.name == *name)?;
            rest.map_or(Some(&field.ty), |rest| inside(rest, &field.ty))
        }
        _ => None,
    }
}

fn is_ordered(ty: &Type) -> bool {
    matches!(
        ty,
        Type::Bool
            | Type::Int(_)
            | Type::Float(_)
            | Type::Decimal
            | Type::Text
            | Type::Date
            | Type::Time
            | Type::Timestamp { .. }
    )
}

fn meant_for(rule: &FieldRule) -> &'static str {
    match rule {
        FieldRule::Latest => "every field",
        FieldRule::Counter => "integers and decimals",
        FieldRule::Set => "arrays",
        FieldRule::Max | FieldRule::Min => "numbers, text, truth values, dates and times",
        FieldRule::Append => "arrays and text",
        FieldRule::Lines => "text",
        FieldRule::ByKey(_) => "arrays of records that have this member, or of JSON objects",
    }
}
