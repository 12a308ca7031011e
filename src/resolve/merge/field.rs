//! The rules for one value. Each is pure and total: a rule that does not fit the values, such as a
//! counter of text, keeps the winner's and says that something was lost.

use super::Merging;
use crate::event::decimal::Decimal;
use crate::event::value::Text;
use crate::event::{FieldRule, Fp, Row, Type, Value};
use std::cmp::Ordering;
use std::collections::HashSet;

/// Decimals with more digits than this behind or before the point are not reckoned with: their zeros would be
/// written out.
const DIGITS_MAX: u64 = 10_000;

/// Longer texts are not compared by lines: it may take time with the square of their lines.
const LINES_BYTES_MAX: usize = 256 << 10;

impl Merging<'_> {
    /// What two writers made of the value at `path`.
    pub(super) fn field(
        &mut self,
        path: &str,
        ty: &Type,
        base: Option<&Value>,
        head: &Value,
        proposal: &Value,
    ) -> Value {
        // Who does not have the field says nothing of it (read-10).
        let base = base.filter(|value| **value != Value::Unchanged);
        let rule = self.rules.of(path).clone();
        let changed = |side: &Value| *side != Value::Unchanged && base.is_none_or(|base| !same(base, side));
        // Whether equal changes are one: a document may have counters further in.
        let adds = base.is_some() && (rule == FieldRule::Counter || matches!(head, Value::Json(_) | Value::Record(_)));
        match (changed(head), changed(proposal)) {
            (true, true) if adds || !same(head, proposal) => {}
            (true, _) => return head.clone(),
            (false, true) => return proposal.clone(),
            (false, false) => return if *head == Value::Unchanged { proposal } else { head }.clone(),
        }
        match (ty, base, head, proposal) {
            (_, base, Value::Json(ours), Value::Json(theirs)) => {
                let base = match base {
                    Some(Value::Json(base)) => Some(base.as_str()),
                    _ => None,
                };
                Value::Json(Text::from(self.document(path, base, ours.as_str(), theirs.as_str())))
            }
            (Type::Record(fields), base, Value::Record(ours), Value::Record(theirs)) => {
                let base = match base {
                    Some(Value::Record(base)) => Some(base.as_slice()),
                    _ => None,
                };
                Value::Record(self.fields(path, fields, base, ours, theirs))
            }
            _ => self.by_rule(path, &rule, ty, base, head, proposal),
        }
    }

    /// What the rule makes of a value that both changed.
    pub(super) fn by_rule(
        &mut self,
        path: &str,
        rule: &FieldRule,
        ty: &Type,
        base: Option<&Value>,
        head: &Value,
        proposal: &Value,
    ) -> Value {
        let merged = match rule {
            FieldRule::Latest => None,
            FieldRule::Counter => base.and_then(|base| counter(ty, base, head, proposal)),
            FieldRule::Set => set(base, head, proposal),
            FieldRule::Max => extreme(head, proposal, Ordering::Greater),
            FieldRule::Min => extreme(head, proposal, Ordering::Less),
            FieldRule::Append => base.and_then(|base| append(base, head, proposal)),
            FieldRule::Lines => base.and_then(|base| lines(base, head, proposal)),
            FieldRule::ByKey(member) => self.by_key(path, member, ty, base, head, proposal),
        };
        match merged {
            Some(value) => value,
            None if same(head, proposal) => head.clone(),
            None => self.won(path, head, proposal).clone(),
        }
    }
}

/// Whether two values are the same to the last bit: NaN is itself, and 0 is not -0.
pub(in crate::resolve) fn same(a: &Value, b: &Value) -> bool {
    match a {
        Value::Float32(_) | Value::Float64(_) | Value::Array(_) | Value::Record(_) => {
            Fp::of_field(a) == Fp::of_field(b)
        }
        _ => a == b,
    }
}

/// Whether two rows of one schema are the same where both say something.
pub(in crate::resolve) fn same_row(a: &Row, b: &Row) -> bool {
    let silent = |value: &Value| *value == Value::Unchanged;
    a.0.len() == b.0.len() && a.0.iter().zip(&b.0).all(|(a, b)| silent(a) || silent(b) || same(a, b))
}

/// The head's value, and what the proposal added to the base. `None` if it has no place in the type.
fn counter(ty: &Type, base: &Value, head: &Value, proposal: &Value) -> Option<Value> {
    match (base, head, proposal) {
        (Value::Int(base), Value::Int(head), Value::Int(proposal)) => {
            let sum = i128::from(*head) + i128::from(*proposal) - i128::from(*base);
            let bits = if let Type::Int(bits) = ty { u32::from(*bits) } else { i64::BITS };
            let fits = sum.unsigned_abs() < 1 << (bits - 1);
            i64::try_from(sum).ok().filter(|_| fits).map(Value::Int)
        }
        (Value::Decimal(base), Value::Decimal(head), Value::Decimal(proposal)) => {
            let sum = number(head)? + number(proposal)? - number(base)?;
            Some(Value::Decimal(Decimal::finite(&sum)))
        }
        _ => None,
    }
}

fn number(decimal: &Decimal) -> Option<&bigdecimal::BigDecimal> {
    match decimal {
        Decimal::Finite(number) if number.fractional_digit_count().unsigned_abs() <= DIGITS_MAX => Some(number),
        _ => None,
    }
}

/// What all kept and what either added; the head's order, then what is new in the proposal's.
fn set(base: Option<&Value>, head: &Value, proposal: &Value) -> Option<Value> {
    let (Value::Array(ours), Value::Array(theirs)) = (head, proposal) else { return None };
    let base = match base {
        Some(Value::Array(base)) => base.as_slice(),
        _ => &[],
    };
    let known = |values: &[Value]| values.iter().map(Fp::of_field).collect::<HashSet<Fp>>();
    let (seen, in_ours, in_theirs) = (known(base), known(ours), known(theirs));
    let mut taken = HashSet::new();
    let stays = |value: &&Value| {
        let fp = Fp::of_field(value);
        let removed = seen.contains(&fp) && !(in_ours.contains(&fp) && in_theirs.contains(&fp));
        !removed && taken.insert(fp)
    };
    Some(Value::Array(ours.iter().chain(theirs).filter(stays).cloned().collect()))
}

/// The one that stands on the wanted side of the other; null says nothing.
fn extreme(head: &Value, proposal: &Value, wanted: Ordering) -> Option<Value> {
    let order = match (head, proposal) {
        (Value::Null, _) => wanted.reverse(),
        (_, Value::Null) => wanted,
        _ => compare(head, proposal)?,
    };
    Some(if order == wanted { head } else { proposal }.clone())
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Int(b))
        | (Value::Time(a), Value::Time(b))
        | (Value::Timestamp(a), Value::Timestamp(b)) => Some(a.cmp(b)),
        (Value::Date(a), Value::Date(b)) => Some(a.cmp(b)),
        (Value::Float32(a), Value::Float32(b)) => a.partial_cmp(b),
        (Value::Float64(a), Value::Float64(b)) => a.partial_cmp(b),
        (Value::Decimal(a), Value::Decimal(b)) => Some(number(a)?.cmp(number(b)?)),
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        _ => None,
    }
}

/// Both are the base with something behind it.
fn append(base: &Value, head: &Value, proposal: &Value) -> Option<Value> {
    match (base, head, proposal) {
        (Value::Array(base), Value::Array(ours), Value::Array(theirs)) => {
            let begins = |side: &[Value]| side.len() >= base.len() && base.iter().zip(side).all(|(a, b)| same(a, b));
            let all = || ours.iter().chain(&theirs[base.len()..]).cloned().collect();
            (begins(ours) && begins(theirs)).then(|| Value::Array(all()))
        }
        (Value::Text(base), Value::Text(ours), Value::Text(theirs)) => {
            ours.as_str().strip_prefix(base.as_str())?;
            let added = theirs.as_str().strip_prefix(base.as_str())?;
            Some(Value::Text(Text::from(format!("{}{added}", ours.as_str()))))
        }
        _ => None,
    }
}

/// `None` where both changed the same lines.
fn lines(base: &Value, head: &Value, proposal: &Value) -> Option<Value> {
    let (Value::Text(base), Value::Text(ours), Value::Text(theirs)) = (base, head, proposal) else { return None };
    let sides = [base, ours, theirs];
    let short = sides.iter().all(|side| side.as_bytes().len() <= LINES_BYTES_MAX);
    let merged = short.then(|| diffy::merge(base.as_str(), ours.as_str(), theirs.as_str()))?;
    merged.ok().map(|text| Value::Text(Text::from(text)))
}
