//! What a rule says, and what becomes of it. A rule names a side, and may change fields of it; it may ask for a review
//! of that, or reject the write that came. Everything else is a failure of the rule.

use super::super::merge::field::{same, same_row};
use super::super::policy::{Decision, Merged, last_writer};
use super::scope::{SIDE, Scope, Seen, map, seen_as};
use crate::event::json::{Twice, canonical};
use crate::event::value::Text;
use crate::event::{ActorId, Field, Loser, Row, Type, Value as Own};
use cel::extractors::{Arguments, This};
use cel::{Context, DeclarationError, ExecutionError, Value};
use std::sync::Arc;

/// `SIDE.with({FIELD: VALUE, …})`: the side with other values in these fields.
pub(super) const WITH: &str = "with";
/// `review()`, `review(OUTCOME)`, `review(OUTCOME, WHY)`: a person shall look; until then the outcome stands.
pub(super) const REVIEW: &str = "review";
/// `reject(WHY)`: what came does not count; it is logged as the loser.
pub(super) const REJECT: &str = "reject";

const CHANGES: &str = "@with";
const WHY: &str = "@why";

type Told = Result<Value, ExecutionError>;

/// Makes the functions known with which outcomes are made.
pub(super) fn declare(context: &mut Context<'_, '_>) -> Result<(), DeclarationError> {
    let with = |This(side): This<Value>, changes: Value| -> Told {
        let failed = |why: &str| ExecutionError::function_error(WITH, why);
        let which = member(&side, SIDE).ok_or_else(|| failed("a side is not known here"))?;
        Ok(map([(SIDE, which.clone()), (CHANGES, changes)]))
    };
    let review = |Arguments(given): Arguments| -> Told {
        let mut given = given.iter().cloned();
        let outcome = given.next().unwrap_or(Value::Null);
        Ok(map([(REVIEW, outcome), (WHY, given.next().unwrap_or(Value::Null))]))
    };
    context.add_function(WITH, with)?;
    context.add_function(REVIEW, review)?;
    context.add_function(REJECT, |why: Arc<String>| -> Told { Ok(map([(REJECT, Value::String(why))])) })
}

fn member<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Map(map) => map.map.get(&cel::objects::Key::from(name)),
        _ => None,
    }
}

fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    match member(value, name)? {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// The decision a rule has come to.
pub(super) fn decision(said: &Value, scope: &Scope<'_>) -> Result<Decision, String> {
    if let Some(why) = text(said, REJECT) {
        return Ok(Decision { merged: Merged::Head, rule: format!("custom: rejected; {why}").into(), open: None });
    }
    let Some(inner) = member(said, REVIEW) else { return settled(said, scope) };
    let why: Arc<str> = text(said, WHY).unwrap_or("the rule asks for it").into();
    let told = |how: &str| format!("custom: review; {how}; {why}").into();
    let decision = match inner {
        Value::Null => {
            let merged = last_writer(scope.case.rules, scope.case.head, scope.case.proposal);
            Decision { merged, rule: told("last-write-wins"), open: None }
        }
        inner => {
            let decision = settled(inner, scope)?;
            Decision { rule: told(decision.rule.trim_start_matches("custom: ")), ..decision }
        }
    };
    Ok(Decision { open: Some(why), ..decision })
}

/// A side, or one with changes.
fn settled(said: &Value, scope: &Scope<'_>) -> Result<Decision, String> {
    let case = scope.case;
    let which = text(said, SIDE).and_then(|name| Seen::ALL.into_iter().find(|seen| seen.name() == name));
    let (whole, row, by, loser) = match which {
        Some(Seen::Stood) => (Merged::Head, case.head.value.as_deref(), case.head.by, Loser::Proposal),
        Some(Seen::Came) => (Merged::Proposal, case.proposal.value.as_deref(), case.proposal.by, Loser::Head),
        Some(Seen::Merged) => {
            let merged = scope.merged.as_ref().ok_or("the merge is not known here")?;
            let (by, loser) = whose(&merged.merged, scope);
            (merged.merged.clone(), scope.merged_row(), by, loser)
        }
        _ => return Err("it named no side".into()),
    };
    let name = which.map_or("", Seen::name);
    let how = scope.merged.as_ref().filter(|_| which == Some(Seen::Merged));
    let told = how.map_or_else(|| format!("custom: {name}"), |merged| format!("custom: {}", merged.rule));
    let open = how.and_then(|merged| merged.open.clone());
    let Some(changes) = member(said, CHANGES) else { return Ok(Decision { merged: whole, rule: told.into(), open }) };
    let row = row.ok_or("a record that is deleted has no fields to change")?;
    let changed = changed(row, changes, scope)?;
    if same_row(row, &changed) {
        return Ok(Decision { merged: whole, rule: told.into(), open });
    }
    let merged = Merged::Both { value: Some(Arc::new(changed)), by, loser };
    Ok(Decision { merged, rule: format!("{told}, changed").into(), open })
}

/// value-4: whose write it counts as, and of which side something is not contained.
fn whose(merged: &Merged, scope: &Scope<'_>) -> (ActorId, Loser) {
    match merged {
        Merged::Head => (scope.case.head.by, Loser::Proposal),
        Merged::Proposal => (scope.case.proposal.by, Loser::Head),
        Merged::Both { by, loser, .. } => (*by, *loser),
    }
}

/// A row with other values in some fields. What its own schema does not have is as the other side has it.
fn changed(row: &Row, changes: &Value, scope: &Scope<'_>) -> Result<Row, String> {
    let Value::Map(changes) = changes else { return Err("`with` was given no map".into()) };
    let schema = scope.case.schema;
    for key in changes.map.keys() {
        if !schema.fields.iter().any(|field| cel::objects::Key::from(&*field.name) == *key) {
            return Err("`with` names a field that is not there".into());
        }
    }
    let other = |at: usize| {
        let mut sides =
            [scope.case.head, scope.case.proposal].into_iter().filter_map(|side| side.value.as_deref()?.get(at));
        sides.find(|value| **value != Own::Unchanged).cloned().unwrap_or(Own::Null)
    };
    let mut values = Vec::with_capacity(row.0.len());
    for (at, (field, old)) in schema.fields.iter().zip(&row.0).enumerate() {
        values.push(match member(&Value::Map(changes.clone()), &field.name) {
            Some(new) => {
                let value = known(at, field, new, scope).map_or_else(|| taken(field, new), Ok)?;
                if schema.key.contains(&at) && !same(&value, old) {
                    return Err(format!("`{}` belongs to the key, which stays", field.name));
                }
                value
            }
            None if *old == Own::Unchanged => other(at),
            None => old.clone(),
        });
    }
    Ok(Row(values))
}

/// A value that is passed on as one of the sides has it, exactly.
fn known(at: usize, field: &Field, new: &Value, scope: &Scope<'_>) -> Option<Own> {
    let case = scope.case;
    let sides = [Some(case.head), Some(case.proposal), case.ancestor].into_iter().flatten();
    let rows = sides.filter_map(|side| side.value.as_deref()).chain(scope.merged_row());
    let mut values = rows.filter_map(|row| row.get(at)).filter(|value| **value != Own::Unchanged);
    values.find(|value| seen_as(&field.ty, value) == *new).cloned()
}

fn taken(field: &Field, new: &Value) -> Result<Own, String> {
    let wrong = || format!("`{}` cannot hold what the rule made of it", field.name);
    if *new == Value::Null && !field.nullable {
        return Err(wrong());
    }
    of_type(&field.ty, new).ok_or_else(wrong)
}

/// A value that a rule made, as a value of a type; `None` if the type cannot hold it exactly.
fn of_type(ty: &Type, new: &Value) -> Option<Own> {
    Some(match (ty, new) {
        (Type::Json, value) => Own::Json(Text::from(canonical(&json(value)?.to_string(), Twice::Refused).ok()?)),
        (_, Value::Null) => Own::Null,
        (Type::Bool, Value::Bool(flag)) => Own::Bool(*flag),
        (Type::Int(bits), Value::Int(number)) => Own::Int(fitting(*bits, *number)?),
        (Type::Int(bits), Value::UInt(number)) => Own::Int(fitting(*bits, i64::try_from(*number).ok()?)?),
        (Type::Float(64), Value::Float(number)) => Own::Float64(*number),
        #[expect(clippy::cast_possible_truncation, reason = "a float of 32 bits is rounded, as everywhere")]
        (Type::Float(_), Value::Float(number)) => Own::Float32(*number as f32),
        (Type::Decimal, Value::Int(number)) => Own::Decimal(number.to_string().parse().ok()?),
        (Type::Decimal, Value::UInt(number)) => Own::Decimal(number.to_string().parse().ok()?),
        (Type::Decimal, Value::Float(number)) if number.is_finite() => Own::Decimal(number.to_string().parse().ok()?),
        (Type::Text, Value::String(text)) => Own::text(text),
        (Type::Bytes, Value::Bytes(bytes)) => Own::Bytes(bytes.to_vec().into()),
        (Type::Uuid, Value::String(text)) => Own::Uuid(uuid::Uuid::parse_str(text).ok()?.into_bytes()),
        (Type::Timestamp { .. }, Value::Timestamp(at)) if at.timestamp_subsec_nanos() % 1_000 == 0 => {
            Own::Timestamp(at.timestamp_micros())
        }
        (Type::Date, Value::Timestamp(at)) if at.timestamp_micros().rem_euclid(86_400_000_000) == 0 => {
            Own::Date(i32::try_from(at.timestamp_micros() / 86_400_000_000).ok()?)
        }
        (Type::Time, Value::Duration(span)) => {
            Own::Time(span.num_microseconds().filter(|micros| (0..86_400_000_000).contains(micros))?)
        }
        (Type::Array(of), Value::List(items)) => {
            Own::Array(items.iter().map(|item| of_type(of, item)).collect::<Option<_>>()?)
        }
        (Type::Record(fields), Value::Map(_)) => {
            let value = |field: &Field| match member(new, &field.name) {
                Some(value) => of_type(&field.ty, value),
                None => Some(Own::Null),
            };
            Own::Record(fields.iter().map(value).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

fn fitting(bits: u8, number: i64) -> Option<i64> {
    let room = match bits {
        16 => i16::try_from(number).is_ok(),
        32 => i32::try_from(number).is_ok(),
        _ => true,
    };
    room.then_some(number)
}

fn json(value: &Value) -> Option<serde_json::Value> {
    Some(match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(flag) => (*flag).into(),
        Value::Int(number) => (*number).into(),
        Value::UInt(number) => (*number).into(),
        Value::Float(number) => serde_json::Number::from_f64(*number)?.into(),
        Value::String(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(json).collect::<Option<Vec<_>>>()?.into(),
        Value::Map(map) => {
            let member = |(key, value): (&cel::objects::Key, &Value)| match key {
                cel::objects::Key::String(name) => Some((name.to_string(), json(value)?)),
                _ => None,
            };
            map.map.iter().map(member).collect::<Option<serde_json::Map<_, _>>>()?.into()
        }
        _ => return None,
    })
}
