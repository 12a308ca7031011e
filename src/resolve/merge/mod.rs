//! The policy `merge`: what two writers changed in different fields is kept of both; what both changed is
//! settled by the field's rule, and where the rule cannot keep both by last write wins (correctness.md
//! §4.3). Everything a merge leaves out stands in the conflict's record, and the rule says where.

mod by_key;
pub(super) mod field;
mod fits;
mod json;

use super::policy::{Case, Decision, Merged, Policy, last_writer};
use crate::event::{ActorId, Deletes, Field, FieldRule, Loser, Merge, Row, Value};
pub use fits::{Misfit, misfits};
use std::sync::Arc;

/// Whose value stands where only one can.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Winner {
    Head,
    Proposal,
}

impl Winner {
    fn of<T>(self, head: T, proposal: T) -> T {
        if self == Winner::Head { head } else { proposal }
    }

    fn other(self) -> Winner {
        self.of(Winner::Proposal, Winner::Head)
    }

    fn loser(self) -> Loser {
        self.of(Loser::Proposal, Loser::Head)
    }
}

/// One merge under way.
struct Merging<'a> {
    rules: &'a Merge,
    winner: Winner,
    /// The paths at which something of one side is not in the result.
    lost: Vec<String>,
}

impl Policy for Merge {
    fn merge(&self, case: &Case<'_>) -> Decision {
        match (case.head.value.as_deref(), case.proposal.value.as_deref()) {
            (Some(head), Some(proposal)) => self.both_edited(case, head, proposal),
            (Some(head), None) => self.edit_and_delete(case, head, Winner::Head),
            (None, Some(proposal)) => self.edit_and_delete(case, proposal, Winner::Proposal),
            (None, None) => told(case, Merged::Head, ""),
        }
    }

    /// Two times "plus one" is not one.
    fn joins_equal_content(&self) -> bool {
        !self.fields.values().any(|rule| *rule == FieldRule::Counter)
    }
}

impl Merge {
    fn both_edited(&self, case: &Case<'_>, head: &Row, proposal: &Row) -> Decision {
        let mut merging = Merging { rules: self, winner: later(case), lost: Vec::new() };
        let row = merging.row(case, base(case), head, proposal);
        let Merging { winner, lost, .. } = merging;
        let (loser, how) = match lost.as_slice() {
            [] => (Loser::Neither, String::new()),
            paths => (winner.loser(), format!("; last-write-wins: {}", paths.join(", "))),
        };
        told(case, Merged::Both { value: Some(Arc::new(row)), by: by(case, winner), loser }, &how)
    }

    /// A delete against an edit: as if the deleter had emptied the sets and changed nothing else, if the edit wins.
    fn edit_and_delete(&self, case: &Case<'_>, edited: &Row, editor: Winner) -> Decision {
        let base = base(case);
        let edits = base.is_none_or(|base| !field::same_row(base, edited));
        let (winner, how) = match self.deletes {
            _ if !edits => (editor.other(), ""),
            Deletes::EditWins => (editor, "; edit-wins"),
            Deletes::DeleteWins => (editor.other(), "; delete-wins"),
            Deletes::Latest => (later(case), "; last-write-wins"),
            Deletes::Review => (editor, "; review"),
        };
        let open = (edits && self.deletes == Deletes::Review).then(|| "one deleted what the other edited".into());
        let told = |merged, how: &str| Decision { open, ..told(case, merged, how) };
        let whole = winner.of(Merged::Head, Merged::Proposal);
        let Some(base) = base.filter(|_| winner == editor && self.deletes == Deletes::EditWins) else {
            return told(whole, how);
        };
        let emptied = self.emptied(case, base);
        if field::same_row(base, &emptied) {
            return told(whole, how);
        }
        // In a set the sides say the same or what each changed: no winner is asked for.
        let mut merging = Merging { rules: self, winner: Winner::Head, lost: Vec::new() };
        let value = Some(Arc::new(merging.row(case, Some(base), edited, &emptied)));
        told(Merged::Both { value, by: by(case, editor), loser: editor.loser() }, how)
    }

    /// What the deleter leaves of what it saw.
    fn emptied(&self, case: &Case<'_>, seen: &Row) -> Row {
        let left = |(value, field): (&Value, &Field)| match value {
            Value::Array(_) if *self.of(&field.name) == FieldRule::Set => Value::Array(Vec::new()),
            other => other.clone(),
        };
        Row(seen.0.iter().zip(&case.schema.fields).map(left).collect())
    }
}

impl Merging<'_> {
    fn row(&mut self, case: &Case<'_>, base: Option<&Row>, head: &Row, proposal: &Row) -> Row {
        Row(self.fields("", &case.schema.fields, base.map(|row| row.0.as_slice()), &head.0, &proposal.0))
    }

    /// Fields one by one, of a row or of a record below `path`.
    fn fields(
        &mut self,
        path: &str,
        fields: &[Field],
        base: Option<&[Value]>,
        head: &[Value],
        proposal: &[Value],
    ) -> Vec<Value> {
        let mut merged = Vec::with_capacity(head.len());
        for (at, (field, (ours, theirs))) in fields.iter().zip(head.iter().zip(proposal)).enumerate() {
            let base = base.and_then(|values| values.get(at));
            merged.push(self.field(&below(path, &field.name), &field.ty, base, ours, theirs));
        }
        merged
    }

    /// The winner's value, and a note that the other's is lost.
    fn won<T>(&mut self, path: &str, head: T, proposal: T) -> T {
        self.lost.push(path.to_owned());
        self.winner.of(head, proposal)
    }
}

/// The path of a member.
fn below(path: &str, member: &str) -> String {
    if path.is_empty() { member.to_owned() } else { format!("{path}.{member}") }
}

fn base<'a>(case: &Case<'a>) -> Option<&'a Row> {
    case.ancestor.and_then(|a| a.value.as_deref())
}

fn later(case: &Case<'_>) -> Winner {
    match last_writer(case.rules, case.head, case.proposal) {
        Merged::Head => Winner::Head,
        _ => Winner::Proposal,
    }
}

/// value-4: a merge takes `by` of the winner.
fn by(case: &Case<'_>, winner: Winner) -> ActorId {
    winner.of(case.head, case.proposal).by
}

/// The decision with the words it is logged under.
fn told(case: &Case<'_>, merged: Merged, how: &str) -> Decision {
    let missing = if case.ancestor.is_none() { "; ancestor=missing" } else { "" };
    Decision { merged, rule: format!("merge{missing}{how}").into(), open: None }
}

#[cfg(test)]
mod tests;
