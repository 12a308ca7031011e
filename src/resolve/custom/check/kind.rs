//! What kind of value an expression comes to.

use super::super::scope::Seen;
use crate::event::{Field, Schema, Type};
use std::fmt;
use std::sync::Arc;

/// A kind of value. Every kind but a side may be null as well.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Kind {
    /// Nobody knows before it runs.
    Any,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    List(Box<Kind>),
    /// A map from text to anything.
    Map,
    /// A map whose names are known.
    Record(Arc<Vec<(Arc<str>, Kind)>>),
    /// A side of the conflict.
    Side {
        /// What it has.
        members: Arc<Vec<(Arc<str>, Kind)>>,
        /// Whether it can stand.
        stands: bool,
    },
    /// What a rule comes to.
    Outcome,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Any => "anything",
            Kind::Null => "null",
            Kind::Bool => "a bool",
            Kind::Int => "an int",
            Kind::Uint => "a uint",
            Kind::Double => "a double",
            Kind::String => "a string",
            Kind::Bytes => "bytes",
            Kind::Timestamp => "a timestamp",
            Kind::Duration => "a duration",
            Kind::List(_) => "a list",
            Kind::Map => "a map",
            Kind::Record(_) => "a record",
            Kind::Side { .. } => "a side",
            Kind::Outcome => "an outcome",
        })
    }
}

impl Kind {
    pub(super) fn list(item: Kind) -> Kind {
        Kind::List(Box::new(item))
    }

    /// What a name stands for.
    pub(super) fn seen(seen: Seen, schema: Option<&Schema>) -> Kind {
        let row = || schema.map_or(Kind::Map, |schema| Kind::record(&schema.fields));
        match seen {
            Seen::Stood | Seen::Came | Seen::Latest | Seen::Ancestor => {
                let members = vec![
                    ("value", row()),
                    ("deleted", Kind::Bool),
                    ("platform", Kind::String),
                    ("time", Kind::Timestamp),
                    ("version", Kind::Int),
                    ("priority", Kind::Int),
                    ("changed", Kind::list(Kind::String)),
                ];
                Kind::Side { members: named(members), stands: seen != Seen::Ancestor }
            }
            Seen::Merged => Kind::Side { members: named(vec![("value", row())]), stands: true },
            Seen::Key => {
                let fields = |schema: &Schema| Kind::record(&schema.key_fields().cloned().collect::<Vec<_>>());
                schema.map_or(Kind::Map, fields)
            }
            Seen::Conflicts => {
                let text = ["stood", "came", "winner", "rule"].map(|name| (name, Kind::String));
                let rest = [("version", Kind::Int), ("time", Kind::Timestamp)];
                Kind::list(Kind::Record(named(text.into_iter().chain(rest).collect())))
            }
        }
    }

    fn record(fields: &[Field]) -> Kind {
        Kind::Record(Arc::new(fields.iter().map(|field| (field.name.clone(), Kind::of(&field.ty))).collect()))
    }

    /// How a rule sees a field.
    pub(super) fn of(ty: &Type) -> Kind {
        match ty {
            Type::Bool => Kind::Bool,
            Type::Int(_) => Kind::Int,
            Type::Float(_) | Type::Decimal => Kind::Double,
            Type::Text | Type::Uuid | Type::TimeTz | Type::Interval => Kind::String,
            Type::Bytes => Kind::Bytes,
            Type::Date | Type::Timestamp { .. } => Kind::Timestamp,
            Type::Time => Kind::Duration,
            Type::Json => Kind::Any,
            Type::Array(of) => Kind::list(Kind::of(of)),
            Type::Record(fields) => Kind::record(fields),
        }
    }

    pub(super) fn is_outcome(&self) -> bool {
        matches!(self, Kind::Outcome | Kind::Side { stands: true, .. })
    }

    pub(super) fn is_number(&self) -> bool {
        matches!(self, Kind::Int | Kind::Uint | Kind::Double)
    }

    /// Whether a value of this kind can be one of the other.
    pub(super) fn may_be(&self, other: &Kind) -> bool {
        match (self, other) {
            (Kind::Any | Kind::Null, _) | (_, Kind::Any | Kind::Null) => true,
            (Kind::Map | Kind::Record(_), Kind::Map | Kind::Record(_)) => true,
            (Kind::List(one), Kind::List(other)) => one.may_be(other),
            (one, other) => one == other,
        }
    }

    /// What is one or the other; `None` if a rule could not tell what to do with it.
    pub(super) fn or(self, other: Kind) -> Option<Kind> {
        match (self, other) {
            (one, other) if one == other => Some(one),
            (Kind::Null, one) | (one, Kind::Null) => Some(one),
            (Kind::List(one), Kind::List(other)) => Some(Kind::list(one.or_any(*other))),
            (one, other) if one.is_outcome() && other.is_outcome() => Some(Kind::Outcome),
            (one, other) if one.is_outcome() || other.is_outcome() => None,
            (Kind::Any, _) | (_, Kind::Any) => Some(Kind::Any),
            (one, other) if one.may_be(&other) => Some(Kind::Any),
            _ => None,
        }
    }

    pub(super) fn or_any(self, other: Kind) -> Kind {
        self.or(other).unwrap_or(Kind::Any)
    }

    /// The member of that name, or why there is none.
    pub(super) fn member(&self, name: &str) -> Result<Kind, String> {
        match self {
            Kind::Any | Kind::Map => Ok(Kind::Any),
            Kind::Record(members) | Kind::Side { members, .. } => {
                let found = members.iter().find(|(member, _)| &**member == name).map(|(_, kind)| kind.clone());
                found.ok_or_else(|| {
                    let known: Vec<String> = members.iter().map(|(name, _)| format!("`{name}`")).collect();
                    format!("{self} has no `{name}` here; it has {}", known.join(", "))
                })
            }
            other => Err(format!("{other} has no members; found `.{name}`")),
        }
    }
}

fn named(members: Vec<(&str, Kind)>) -> Arc<Vec<(Arc<str>, Kind)>> {
    Arc::new(members.into_iter().map(|(name, kind)| (name.into(), kind)).collect())
}
