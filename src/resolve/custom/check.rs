//! Whether a rule can mean anything: each name is one it may use, each operation is one its values have, and what comes
//! out is an outcome. CEL finds these out when it runs; here they are found out before the rule is put in force.

mod call;
#[cfg(test)]
pub(super) use call::{FUNCTIONS, OPERATORS};
mod kind;

use super::flaw::Flaw;
use super::scope::Seen;
use crate::event::Schema;
use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr, LiteralValue, SelectExpr};
use cel::{IdedExpr, Program};
use kind::Kind;
use std::collections::BTreeSet;

/// Checks a rule, and says which names it uses. Without a schema every field may be there, and be anything.
pub(super) fn check(program: &Program, schema: Option<&Schema>) -> Result<BTreeSet<Seen>, Flaw> {
    let mut checker = Checker { program, schema, sees: BTreeSet::new(), local: Vec::new(), around: Vec::new() };
    let root = program.expression();
    let kind = checker.kind(root)?;
    if !kind.is_outcome() {
        checker.around.push(root.id);
        let why = format!(
            "the rule comes to {kind}; expected a side (`stood`, `came`, `latest`, `merged`), a side `.with({{…}})`, `review(…)` or \
             `reject(…)`"
        );
        return Err(checker.flaw(why));
    }
    Ok(checker.sees)
}

struct Checker<'a> {
    program: &'a Program,
    schema: Option<&'a Schema>,
    sees: BTreeSet<Seen>,
    /// The names that stand for items of lists, and what they are.
    local: Vec<(String, Kind)>,
    /// The expressions around the one that is looked at.
    around: Vec<u64>,
}

impl Checker<'_> {
    fn flaw(&self, why: impl Into<String>) -> Flaw {
        Flaw::at(self.program, &self.around, why)
    }

    fn kind(&mut self, part: &IdedExpr) -> Result<Kind, Flaw> {
        self.around.push(part.id);
        let kind = match &part.expr {
            Expr::Literal(literal) => Ok(of_literal(literal)),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                let kinds = list.elements.iter().map(|item| self.kind(item)).collect::<Result<Vec<_>, _>>()?;
                Ok(Kind::list(kinds.into_iter().reduce(Kind::or_any).unwrap_or(Kind::Any)))
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    self.entry(&entry.expr)?;
                }
                Ok(Kind::Map)
            }
            Expr::Comprehension(over) => self.comprehension(over),
            Expr::Struct(made) => Err(self.flaw(format!("there is no type `{}`", made.type_name))),
            Expr::Unspecified => Err(self.flaw("a part of the rule is missing")),
        }?;
        self.around.pop();
        Ok(kind)
    }

    fn entry(&mut self, entry: &EntryExpr) -> Result<(), Flaw> {
        let EntryExpr::MapEntry(entry) = entry else { return Err(self.flaw("a map has names and values")) };
        let key = self.kind(&entry.key)?;
        if !key.may_be(&Kind::String) {
            return Err(self.flaw(format!("the names in a map are text; found {key}")));
        }
        self.kind(&entry.value).map(|_| ())
    }

    fn name(&mut self, name: &str) -> Result<Kind, Flaw> {
        if let Some((_, kind)) = self.local.iter().rev().find(|(local, _)| local == name) {
            return Ok(kind.clone());
        }
        let Some(seen) = Seen::ALL.into_iter().find(|seen| seen.name() == name) else {
            let known: Vec<String> = Seen::ALL.into_iter().map(|seen| format!("`{}`", seen.name())).collect();
            return Err(self.flaw(format!("there is no `{name}`; a rule sees {}", known.join(", "))));
        };
        self.sees.insert(seen);
        Ok(Kind::seen(seen, self.schema))
    }

    fn select(&mut self, select: &SelectExpr) -> Result<Kind, Flaw> {
        let of = self.kind(&select.operand)?;
        let kind = of.member(&select.field).map_err(|why| self.flaw(why))?;
        Ok(if select.test { Kind::Bool } else { kind })
    }

    /// `all`, `exists`, `exists_one`, `filter` and `map`.
    fn comprehension(&mut self, over: &ComprehensionExpr) -> Result<Kind, Flaw> {
        let range = self.kind(&over.iter_range)?;
        let start = self.kind(&over.accu_init)?;
        let item = match (&range, &start) {
            (Kind::List(item), _) => (**item).clone(),
            // resolve-8: the names in an object have no order, and a list of them would have another one each time.
            (Kind::Any | Kind::Map, Kind::Bool | Kind::Int) => Kind::Any,
            // Without a schema nobody knows yet.
            (Kind::Any | Kind::Map, _) if self.schema.is_none() => Kind::Any,
            (Kind::Any | Kind::Map, _) => {
                let why = "what is gone over may be an object, whose names have no order; only `all`, `exists` and \
                           `exists_one` can go over it";
                return Err(self.flaw(why));
            }
            (other, _) => return Err(self.flaw(format!("only lists can be gone over; found {other}"))),
        };
        let locals = self.local.len();
        self.local.push((over.iter_var.clone(), item));
        self.local.push((over.accu_var.clone(), start));
        self.kind(&over.loop_cond)?;
        let step = self.kind(&over.loop_step)?;
        self.local.push((over.accu_var.clone(), step));
        let result = self.kind(&over.result)?;
        self.local.truncate(locals);
        Ok(result)
    }
}

fn of_literal(literal: &LiteralValue) -> Kind {
    match literal {
        LiteralValue::Boolean(_) => Kind::Bool,
        LiteralValue::Bytes(_) => Kind::Bytes,
        LiteralValue::Double(_) => Kind::Double,
        LiteralValue::Int(_) => Kind::Int,
        LiteralValue::Null => Kind::Null,
        LiteralValue::String(_) => Kind::String,
        LiteralValue::UInt(_) => Kind::Uint,
    }
}
