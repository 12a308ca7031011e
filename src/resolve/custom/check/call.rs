//! The operators and functions a rule may use, and of which kinds of values.

use super::super::flaw::Flaw;
use super::super::outcome::{REJECT, REVIEW, WITH};
use super::Checker;
use super::kind::Kind;
use cel::IdedExpr;
use cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, operators as op};

/// Functions of CEL: the name, whether it is called on its first value, the kinds of its values by their letters, one
/// word for each form, and the kind it comes to. b bool, i int, u uint, d double, s string, y bytes, t timestamp,
/// p duration, l list, m map or record.
pub(in super::super) const FUNCTIONS: &[(&str, bool, &str, char)] = &[
    ("size", false, "s y l m", 'i'),
    ("size", true, "s y l m", 'i'),
    ("contains", true, "ss", 'b'),
    ("startsWith", true, "ss", 'b'),
    ("endsWith", true, "ss", 'b'),
    ("matches", true, "ss", 'b'),
    ("int", false, "i u d s t", 'i'),
    ("uint", false, "i u d s", 'u'),
    ("double", false, "i u d s", 'd'),
    ("string", false, "i u d s y t p b", 's'),
    ("bytes", false, "s y", 'y'),
    ("timestamp", false, "s t", 't'),
    ("duration", false, "s p", 'p'),
    ("getFullYear", true, "t", 'i'),
    ("getMonth", true, "t", 'i'),
    ("getDate", true, "t", 'i'),
    ("getDayOfMonth", true, "t", 'i'),
    ("getDayOfWeek", true, "t", 'i'),
    ("getDayOfYear", true, "t", 'i'),
    ("getHours", true, "t p", 'i'),
    ("getMinutes", true, "t p", 'i'),
    ("getSeconds", true, "t p", 'i'),
    ("getMilliseconds", true, "t p", 'i'),
];

/// Operators that come to another kind than a bool: the name, and each form with the kind it comes to.
pub(in super::super) const OPERATORS: &[(&str, &str)] = &[
    (op::ADD, "iii uuu ddd sss yyy ppp tpt ptt lll"),
    (op::SUBSTRACT, "iii uuu ddd ttp tpt ppp"),
    (op::MULTIPLY, "iii uuu ddd"),
    (op::DIVIDE, "iii uuu ddd"),
    (op::MODULO, "iii uuu"),
    (op::NEGATE, "ii dd"),
];

fn letter(kind: &Kind) -> char {
    match kind {
        Kind::Bool => 'b',
        Kind::Int => 'i',
        Kind::Uint => 'u',
        Kind::Double => 'd',
        Kind::String => 's',
        Kind::Bytes => 'y',
        Kind::Timestamp => 't',
        Kind::Duration => 'p',
        Kind::List(_) => 'l',
        Kind::Map | Kind::Record(_) => 'm',
        Kind::Any | Kind::Null => '*',
        Kind::Side { .. } | Kind::Outcome => '!',
    }
}

fn of_letter(letter: char) -> Kind {
    match letter {
        'b' => Kind::Bool,
        'i' => Kind::Int,
        'u' => Kind::Uint,
        'd' => Kind::Double,
        's' => Kind::String,
        'y' => Kind::Bytes,
        't' => Kind::Timestamp,
        'p' => Kind::Duration,
        'l' => Kind::list(Kind::Any),
        _ => Kind::Any,
    }
}

fn fits(form: &str, given: &[Kind]) -> bool {
    form.chars().count() == given.len()
        && form.chars().zip(given).all(|(wanted, kind)| letter(kind) == '*' || letter(kind) == wanted)
}

fn shown(given: &[Kind]) -> String {
    given.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and ")
}

/// An operator as it is written.
fn sign(name: &str) -> &str {
    name.trim_matches(['_', '@'])
}

impl Checker<'_> {
    pub(super) fn call(&mut self, call: &CallExpr) -> Result<Kind, Flaw> {
        let values = call.target.as_deref().into_iter().chain(&call.args);
        let given = values.map(|part| self.kind(part)).collect::<Result<Vec<_>, _>>()?;
        let is_method = call.target.is_some();
        match (call.func_name.as_str(), is_method, given.as_slice()) {
            (WITH, true, [side, changes]) => {
                self.with(side, changes, call.args.first())?;
                Ok(Kind::Outcome)
            }
            (REVIEW, false, []) => Ok(Kind::Outcome),
            (REVIEW, false, [outcome] | [outcome, Kind::String]) if outcome.is_outcome() => Ok(Kind::Outcome),
            (REVIEW, false, given) => {
                let why =
                    format!("`review` takes an outcome and a reason, both may be left out; found {}", shown(given));
                Err(self.flaw(why))
            }
            (REJECT, false, [Kind::String]) => Ok(Kind::Outcome),
            (REJECT, false, _) => Err(self.flaw("`reject` takes a reason: `reject('…')`")),
            (name, is_method, given) => self.plain(name, is_method, given),
        }
    }

    /// What CEL itself has.
    fn plain(&self, name: &str, is_method: bool, given: &[Kind]) -> Result<Kind, Flaw> {
        let wrong = || {
            let why = format!("`{}` has no form for {}", sign(name), shown(given));
            let hint = match given {
                [one, other] if one.is_number() && other.is_number() => {
                    "; numbers of two kinds are not reckoned with: write `2.0` for `2`, or `double(…)`"
                }
                _ => "",
            };
            Err(self.flaw(format!("{why}{hint}")))
        };
        let compared = |one: &Kind, other: &Kind| one.may_be(other) || (one.is_number() && other.is_number());
        match (name, given) {
            (op::CONDITIONAL, [condition, one, other]) => {
                let kind = one.clone().or(other.clone()).filter(|_| condition.may_be(&Kind::Bool));
                kind.map_or_else(wrong, Ok)
            }
            (op::LOGICAL_AND | op::LOGICAL_OR | op::LOGICAL_NOT | op::NOT_STRICTLY_FALSE, given) => {
                if given.iter().all(|kind| kind.may_be(&Kind::Bool)) { Ok(Kind::Bool) } else { wrong() }
            }
            (op::EQUALS | op::NOT_EQUALS, [one, other]) if compared(one, other) => Ok(Kind::Bool),
            (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, [one, other]) => {
                let ordered = "biudsytp*";
                let both = ordered.contains(letter(one)) && ordered.contains(letter(other));
                if both && compared(one, other) { Ok(Kind::Bool) } else { wrong() }
            }
            (op::IN, [item, Kind::List(of)]) if item.may_be(of) => Ok(Kind::Bool),
            (op::IN, [item, Kind::Map | Kind::Record(_) | Kind::Any]) if item.may_be(&Kind::String) => Ok(Kind::Bool),
            (op::IN, [_, Kind::Any]) => Ok(Kind::Bool),
            (op::INDEX, [Kind::List(of), at]) if at.may_be(&Kind::Int) => Ok((**of).clone()),
            (op::INDEX, [Kind::Map | Kind::Record(_), at]) if at.may_be(&Kind::String) => Ok(Kind::Any),
            (op::INDEX, [Kind::Any, _]) => Ok(Kind::Any),
            ("dyn", [_]) if !is_method => Ok(Kind::Any),
            _ => self.listed(name, is_method, given).map_or_else(wrong, Ok),
        }
    }

    /// What stands in the tables.
    fn listed(&self, name: &str, is_method: bool, given: &[Kind]) -> Option<Kind> {
        if let Some((_, forms)) = OPERATORS.iter().find(|(operator, _)| *operator == name) {
            let mut results = forms.split(' ').filter_map(|form| {
                let (values, result) = form.split_at(form.len() - 1);
                fits(values, given).then(|| of_letter(result.chars().next().unwrap_or('*')))
            });
            let first = results.next()?;
            // A list keeps what its items are.
            if let (Kind::List(_), [one, other]) = (&first, given) {
                return Some(one.clone().or_any(other.clone()));
            }
            return Some(results.fold(first, Kind::or_any));
        }
        let function = |(listed, method, ..): &&(&str, bool, &str, char)| *listed == name && *method == is_method;
        let (_, _, forms, result) = FUNCTIONS.iter().find(function)?;
        forms.split(' ').any(|form| fits(form, given)).then(|| of_letter(*result))
    }

    /// A side with other values in some fields.
    fn with(&self, side: &Kind, changes: &Kind, written: Option<&IdedExpr>) -> Result<(), Flaw> {
        if !matches!(side, Kind::Side { stands: true, .. }) {
            return Err(self.flaw(format!("only `stood`, `came`, `latest` and `merged` can be changed; found {side}")));
        }
        if !changes.may_be(&Kind::Map) {
            return Err(self.flaw(format!("`with` takes a map from fields to values; found {changes}")));
        }
        let (Some(schema), Some(Expr::Map(map))) = (self.schema, written.map(|part| &part.expr)) else { return Ok(()) };
        for entry in &map.entries {
            let EntryExpr::MapEntry(entry) = &entry.expr else { continue };
            let Expr::Literal(LiteralValue::String(name)) = &entry.key.expr else { continue };
            let name = name.inner();
            let at = |why: String| Flaw::at(self.program, &[entry.key.id], why);
            let Some(index) = schema.index_of(name) else {
                let known: Vec<String> = schema.fields.iter().map(|field| format!("`{}`", field.name)).collect();
                return Err(at(format!("`{}` has no field `{name}`; it has {}", schema.name, known.join(", "))));
            };
            if schema.key.contains(&index) {
                return Err(at(format!("`{name}` belongs to the key, which stays")));
            }
        }
        Ok(())
    }
}
