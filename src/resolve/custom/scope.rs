//! What a rule sees, as values of CEL. What CEL cannot hold exactly it sees as near as can be; a value it passes on
//! unchanged comes out as exact as it was (`outcome`).

use super::super::merge::field::same;
use super::super::policy::{Case, Decision, Merged, last_writer};
use crate::event::{ActorId, Canonical, Conflict, Field, Hlc, Loser, PlatformNo, Row, Side, Type, Value as Own};
use cel::Value;
use cel::objects::{Key, Map};
use chrono::{DateTime, FixedOffset, TimeDelta, Utc};
use std::collections::HashMap;
use std::sync::Arc;

/// Which side a value of CEL stands for.
pub(super) const SIDE: &str = "@side";

/// A name a rule may use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Seen {
    Stood,
    Came,
    Latest,
    Merged,
    Ancestor,
    Key,
    Conflicts,
}

impl Seen {
    pub(super) const ALL: [Seen; 7] =
        [Seen::Stood, Seen::Came, Seen::Latest, Seen::Merged, Seen::Ancestor, Seen::Key, Seen::Conflicts];

    pub(super) fn name(self) -> &'static str {
        match self {
            Seen::Stood => "stood",
            Seen::Came => "came",
            Seen::Latest => "latest",
            Seen::Merged => "merged",
            Seen::Ancestor => "ancestor",
            Seen::Key => "key",
            Seen::Conflicts => "conflicts",
        }
    }
}

/// What there is to see.
pub(super) struct Scope<'a> {
    pub case: &'a Case<'a>,
    pub names: &'a [(PlatformNo, Arc<str>)],
    /// What a merge makes of both, if the rule looks at that.
    pub merged: Option<Decision>,
}

impl Scope<'_> {
    pub(super) fn value(&self, seen: Seen) -> Value {
        let case = self.case;
        match seen {
            Seen::Stood => self.side(Seen::Stood, case.head),
            Seen::Came => self.side(Seen::Came, case.proposal),
            Seen::Latest => match last_writer(case.rules, case.head, case.proposal) {
                Merged::Proposal => self.side(Seen::Came, case.proposal),
                _ => self.side(Seen::Stood, case.head),
            },
            Seen::Ancestor => case.ancestor.map_or(Value::Null, |side| self.side(Seen::Ancestor, side)),
            Seen::Merged => {
                let row = self.merged_row().map_or(Value::Null, |row| record(&case.schema.fields, &row.0));
                map([(SIDE, Value::from(Seen::Merged.name())), ("value", row)])
            }
            Seen::Key => {
                let row = [case.head, case.proposal].into_iter().find_map(|side| side.value.as_deref());
                let named = |at: &usize| Some((case.schema.fields.get(*at)?, row?.get(*at)?));
                let fields = case.schema.key.iter().filter_map(named);
                map(fields.map(|(field, value)| (&*field.name, seen_as(&field.ty, value))))
            }
            Seen::Conflicts => case.past.iter().filter_map(|version| self.conflict(version)).collect::<Vec<_>>().into(),
        }
    }

    /// What a merge makes of both; `None` for a deletion.
    pub(super) fn merged_row(&self) -> Option<&Row> {
        match &self.merged.as_ref()?.merged {
            Merged::Head => self.case.head.value.as_deref(),
            Merged::Proposal => self.case.proposal.value.as_deref(),
            Merged::Both { value, .. } => value.as_deref(),
        }
    }

    fn side(&self, which: Seen, side: &Side) -> Value {
        let row = side.value.as_deref();
        let value = row.map_or(Value::Null, |row| record(&self.case.schema.fields, &row.0));
        let rank = self.case.rules.priority.iter().position(|p| *p == side.by.platform());
        let rank = rank.unwrap_or(self.case.rules.priority.len());
        map([
            (SIDE, Value::from(which.name())),
            ("value", value),
            ("deleted", Value::Bool(row.is_none())),
            ("platform", self.name(side.by)),
            ("time", time(side.ts)),
            ("version", number(side.seq)),
            ("priority", number(u64::try_from(rank).unwrap_or(u64::MAX))),
            ("changed", self.changed(side)),
        ])
    }

    /// The names of the fields a side changed; of those in which the sides differ, where nobody knows what they changed.
    fn changed(&self, side: &Side) -> Value {
        let other = if std::ptr::eq(side, self.case.head) { self.case.proposal } else { self.case.head };
        let base = self.case.ancestor.unwrap_or(other).value.as_deref();
        let is_changed = |at: usize| {
            let Some(value) = side.value.as_deref().and_then(|row| row.get(at)) else { return false };
            *value != Own::Unchanged && base.and_then(|row| row.get(at)).is_none_or(|base| !same(base, value))
        };
        let fields = self.case.schema.fields.iter().enumerate();
        fields.filter(|(at, _)| is_changed(*at)).map(|(_, field)| &*field.name).collect::<Vec<_>>().into()
    }

    fn conflict(&self, version: &Arc<Canonical>) -> Option<Value> {
        let Conflict { head, proposal, loser, rule, .. } = &**version.conflict.as_ref()?;
        let winner = match loser {
            Loser::Head => Seen::Came.name(),
            Loser::Proposal => Seen::Stood.name(),
            Loser::Neither => "both",
        };
        Some(map([
            ("version", number(version.seq)),
            ("time", time(version.ts)),
            ("stood", self.name(head.by)),
            ("came", self.name(proposal.by)),
            ("winner", Value::from(winner)),
            ("rule", Value::from(&**rule)),
        ]))
    }

    fn name(&self, by: ActorId) -> Value {
        let name = self.names.iter().find(|(number, _)| *number == by.platform()).map(|(_, name)| &**name);
        Value::from(if by == ActorId::RESOLVER { "driftless" } else { name.unwrap_or_default() })
    }
}

/// A map from names.
pub(super) fn map<'n>(members: impl IntoIterator<Item = (&'n str, Value)>) -> Value {
    let map: HashMap<Key, Value> = members.into_iter().map(|(name, value)| (Key::from(name), value)).collect();
    Value::Map(Map { map: Arc::new(map) })
}

fn record(fields: &[Field], values: &[Own]) -> Value {
    let seen = fields.iter().zip(values).filter(|(_, value)| **value != Own::Unchanged);
    map(seen.map(|(field, value)| (&*field.name, seen_as(&field.ty, value))))
}

/// How a rule sees a value.
pub(super) fn seen_as(ty: &Type, value: &Own) -> Value {
    match value {
        Own::Null | Own::Unchanged => Value::Null,
        Own::Bool(flag) => Value::Bool(*flag),
        Own::Int(number) => Value::Int(*number),
        Own::Float32(number) => Value::Float(f64::from(*number)),
        Own::Float64(number) => Value::Float(*number),
        Own::Decimal(number) => Value::Float(number.to_string().parse().unwrap_or(f64::NAN)),
        Own::Text(text) => Value::from(text.as_str()),
        Own::Bytes(bytes) => Value::Bytes(Arc::new(bytes.to_vec())),
        Own::Uuid(bytes) => Value::from(uuid::Uuid::from_bytes(*bytes).to_string()),
        Own::Date(days) => Value::Timestamp(date(*days)),
        Own::Time(micros) => Value::Duration(TimeDelta::microseconds(*micros)),
        Own::TimeTz(micros, east) => Value::from(format!("{micros} {east}")),
        Own::Timestamp(micros) => Value::Timestamp(instant(*micros)),
        Own::Interval(span) => Value::from(format!("{} {} {}", span.months, span.days, span.micros)),
        Own::Json(text) => serde_json::from_str(text.as_str()).map_or(Value::Null, |json| document(&json)),
        Own::Array(items) => {
            let of = if let Type::Array(of) = ty { of } else { ty };
            items.iter().map(|item| seen_as(of, item)).collect::<Vec<_>>().into()
        }
        Own::Record(values) => match ty {
            Type::Record(fields) => record(fields, values),
            _ => Value::Null,
        },
    }
}

fn document(json: &serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(flag) => Value::Bool(*flag),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::UInt(number),
            _ => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::from(text.as_str()),
        serde_json::Value::Array(items) => items.iter().map(document).collect::<Vec<_>>().into(),
        serde_json::Value::Object(members) => map(members.iter().map(|(name, value)| (name.as_str(), document(value)))),
    }
}

fn number(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn time(ts: Hlc) -> Value {
    Value::Timestamp(instant(i64::try_from(ts.ms()).unwrap_or(i64::MAX).saturating_mul(1_000)))
}

fn instant(micros: i64) -> DateTime<FixedOffset> {
    let nearest = if micros < 0 { DateTime::<Utc>::MIN_UTC } else { DateTime::<Utc>::MAX_UTC };
    DateTime::from_timestamp_micros(micros).unwrap_or(nearest).fixed_offset()
}

fn date(days: i32) -> DateTime<FixedOffset> {
    instant(i64::from(days).saturating_mul(86_400_000_000))
}
