//! How long a rule may take (resolve-8): the language has no loops but those over lists, and a list that is gone over
//! inside another would take time with the square of its length.

use super::flaw::Flaw;
use cel::common::ast::{EntryExpr, Expr};
use cel::{IdedExpr, Program};

/// Larger rules are refused.
const NODES_MAX: usize = 1_000;

/// Refuses a rule that could take too long.
pub(super) fn check(program: &Program) -> Result<(), Flaw> {
    let mut walk = Walk { program, nodes: 0 };
    walk.expression(program.expression(), false)?;
    if walk.nodes > NODES_MAX {
        let why = format!("the rule has {} parts; {NODES_MAX} at most", walk.nodes);
        return Err(Flaw { line: 1, column: 1, why });
    }
    Ok(())
}

struct Walk<'a> {
    program: &'a Program,
    nodes: usize,
}

impl Walk<'_> {
    fn expression(&mut self, part: &IdedExpr, in_list: bool) -> Result<(), Flaw> {
        self.nodes += 1;
        if let Expr::Comprehension(over) = &part.expr {
            if in_list {
                let why = "a list is gone over inside another: that may take too long; go over one at a time";
                return Err(Flaw::at(self.program, &[part.id], why));
            }
            self.expression(&over.iter_range, in_list)?;
            let inside = [&over.accu_init, &over.loop_cond, &over.loop_step, &over.result];
            return inside.into_iter().try_for_each(|part| self.expression(part, true));
        }
        parts(part).into_iter().try_for_each(|part| self.expression(part, in_list))
    }
}

/// The parts of an expression that is no comprehension.
fn parts(part: &IdedExpr) -> Vec<&IdedExpr> {
    match &part.expr {
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
        Expr::Struct(made) => made.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::Comprehension(_) | Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Vec::new(),
    }
}

fn entry_parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}
