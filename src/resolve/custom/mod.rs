//! The policy `custom`: a rule of the user's own, in CEL, decides. It sees both sides, what both changed, and the
//! earlier conflicts of the record, and says which side stands, what is made of both, that the write that came is
//! rejected, or that a person shall look. It is a function of what it sees and ends in bounded time (resolve-8); where
//! it fails a stated winner stands, provisionally, and a person is asked.

mod bounds;
mod check;
mod flaw;
mod outcome;
mod scope;
#[cfg(test)]
mod tests;

use super::policy::{Case, Decision, Policy, last_writer};
use crate::event::{self, Otherwise, Schema, Side};
use cel::{Context, Env, ExecutionError, Program, Value};
pub use flaw::Flaw;
use scope::{Scope, Seen};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Larger rows are not given to a rule (resolve-8).
const INPUT_BYTES_MAX: usize = 64 << 10;

/// A rule that can be asked.
pub struct Rule {
    program: Program,
    env: Arc<Env>,
    sees: BTreeSet<Seen>,
}

impl Rule {
    /// Compiles and checks a rule, as far as that can be without knowing the fields.
    ///
    /// # Errors
    /// Where it is wrong, and how.
    pub fn compile(text: &str) -> Result<Rule, Flaw> {
        let env = Arc::new(Env::stdlib().with_optional_support(false));
        let program = flaw::parsed(&env, text)?;
        bounds::check(&program)?;
        let sees = check::check(&program, None)?;
        Ok(Rule { program, env, sees })
    }

    /// Checks the rule against the fields of a collection.
    ///
    /// # Errors
    /// Where it is wrong, and how.
    pub fn fits(&self, schema: &Schema) -> Result<(), Flaw> {
        check::check(&self.program, Some(schema)).map(|_| ())
    }

    fn run(&self, scope: &Scope<'_>) -> Result<Value, String> {
        let mut context = Context::with_env(self.env.clone());
        for seen in &self.sees {
            context.add_variable_from_value(seen.name(), scope.value(*seen));
        }
        outcome::declare(&mut context).map_err(|error| error.to_string())?;
        self.program.execute(&context).map_err(|error| told(&error))
    }
}

/// Why a rule failed: never with values in it, which may be in any order (resolve-8) and are not for logs.
fn told(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(name) => format!("there is no `{name}` in this record"),
        ExecutionError::NoSuchOverload(error) => error.to_string(),
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => "division by zero".into(),
        ExecutionError::Overflow(..) => "a number has no room".into(),
        ExecutionError::IndexOutOfBounds(_) => "a list is shorter than that".into(),
        ExecutionError::FunctionError { function, message } if function == outcome::WITH => message.clone(),
        ExecutionError::FunctionError { function, .. } => format!("`{function}` failed"),
        _ => "two values do not go together".into(),
    }
}

/// The policy.
pub struct Custom {
    rules: event::Custom,
    rule: Result<Rule, Flaw>,
}

impl Custom {
    /// The policy of a rule. One that cannot be compiled, which no node would have put in force, fails each time.
    #[must_use]
    pub fn of(rules: &event::Custom) -> Self {
        Custom { rules: rules.clone(), rule: Rule::compile(&rules.rule) }
    }

    fn decided(&self, case: &Case<'_>) -> Result<Decision, String> {
        let rule = self.rule.as_ref().map_err(ToString::to_string)?;
        // resolve-8: what takes time takes it with the size of what is seen.
        if size(case) > INPUT_BYTES_MAX {
            return Err(format!("the record is larger than {} KiB", INPUT_BYTES_MAX >> 10));
        }
        let merged = rule.sees.contains(&Seen::Merged).then(|| self.rules.merge.merge(case));
        let scope = Scope { case, names: &self.rules.names, merged };
        outcome::decision(&rule.run(&scope)?, &scope)
    }

    /// What stands until a person has looked.
    fn provisional(&self, case: &Case<'_>, why: &str) -> Decision {
        let why = format!("the rule failed: {why}");
        let (merged, how) = match self.rules.otherwise {
            Otherwise::Latest => (last_writer(case.rules, case.head, case.proposal), "last-write-wins".into()),
            Otherwise::Merged => {
                let Decision { merged, rule, .. } = self.rules.merge.merge(case);
                (merged, rule)
            }
        };
        Decision { merged, rule: format!("custom: {how}; {why}").into(), open: Some(why.into()) }
    }
}

impl Policy for Custom {
    fn merge(&self, case: &Case<'_>) -> Decision {
        self.decided(case).unwrap_or_else(|why| self.provisional(case, &why))
    }

    fn joins_equal_content(&self) -> bool {
        self.rules.merge.joins_equal_content()
    }

    fn looks_back(&self) -> bool {
        self.rule.as_ref().is_ok_and(|rule| rule.sees.contains(&Seen::Conflicts))
    }
}

fn size(case: &Case<'_>) -> usize {
    let of = |side: &Side| side.value.as_ref().map_or(0, |row| row.size());
    [Some(case.head), Some(case.proposal), case.ancestor].into_iter().flatten().map(of).sum()
}
