//! Rows brought together: what a change left out is filled in, and rows under several versions of a schema are read
//! under one (value-2, read-10, read-11). Pure.

use super::PartState;
use crate::event::lineage::Lens;
use crate::event::{Fp, Proposal, Row, Schema, SchemaId, Side, Value};
use crate::runtime::error::{Code, Error, Result};
use std::borrow::Cow;
use std::sync::Arc;

/// The proposal's value with its unchanged fields taken from `base` (value-2), and its fingerprint. Where
/// there is none and the writer does not see those fields (`unseen`), the record begins without them.
pub(super) fn filled(
    state: &PartState,
    proposal: &Proposal,
    base: Option<(&Row, SchemaId)>,
    unseen: bool,
) -> Result<(Option<Arc<Row>>, Fp)> {
    let Some(partial) = proposal.value.as_ref().filter(|v| v.is_partial()) else {
        return Ok((proposal.value.clone(), proposal.fp));
    };
    let full = match base {
        Some(base) => filled_from(state, partial, proposal.schema, base)?,
        None if unseen => Some(partial.completed_from(None)),
        None => None,
    };
    let full = full.map(Arc::new).ok_or_else(|| {
        let what = "a change leaves fields out as unchanged, and the version it changed is not in the log any more";
        Error::new(Code::HistoryLost, what).at("dot", format!("{:?}", proposal.dot))
    })?;
    let fp = fingerprint(state, Some(&full), proposal)?;
    Ok((Some(full), fp))
}

/// A row with its unchanged fields from a base of the same or another version of the schema.
pub(super) fn filled_from(
    state: &PartState,
    partial: &Row,
    of: SchemaId,
    base: (&Row, SchemaId),
) -> Result<Option<Row>> {
    let (base, schema) = base;
    if schema == of {
        return Ok(partial.filled_from(base));
    }
    // read-10: a field that the base's schema did not have yet was null there.
    let lens = Lens::new(known(state, schema)?, known(state, of)?);
    Ok(partial.filled_from(&lens.lift(base, &Value::Null)))
}

pub(super) fn fingerprint(state: &PartState, value: Option<&Row>, proposal: &Proposal) -> Result<Fp> {
    let Some(row) = value else { return Ok(Fp::ABSENT) };
    Ok(Fp::of_row(known(state, proposal.schema)?, row))
}

/// What is written under an earlier version of the schema says nothing of fields that came later: those stay
/// as the other side has them, or platforms that have them would differ for ever (read-10).
pub(super) fn grown(
    state: &PartState,
    won: (Option<Arc<Row>>, Fp, SchemaId),
    (theirs, schema): (Option<&Row>, SchemaId),
) -> Result<(Option<Arc<Row>>, Fp, SchemaId)> {
    let age = |id: SchemaId| state.schemas.iter().position(|s| s.id == id);
    let is_later = age(won.2).zip(age(schema)).is_some_and(|(won, other)| won < other);
    let (Some(row), Some(theirs), true) = (&won.0, theirs, is_later) else { return Ok(won) };
    let to = known(state, schema)?;
    let lens = Lens::new(known(state, won.2)?, to);
    let value =
        |i: usize| lens.place(i).map_or_else(|| theirs.get(i), |at| row.get(at)).unwrap_or(&Value::Null).clone();
    let row = Row((0..to.fields.len()).map(value).collect());
    let fp = Fp::of_row(to, &row);
    Ok((Some(Arc::new(row)), fp, schema))
}

/// read-10: announced in this partition before its first user.
pub(super) fn known(state: &PartState, id: SchemaId) -> Result<&Arc<Schema>> {
    state.schemas.iter().find(|s| s.id == id).ok_or_else(|| {
        Error::new(Code::ProposalsMissing, "a change uses a schema that was never announced").at("schema", id.0)
    })
}

/// The schema a merge of two sides is under: the later one (read-10). A deletion has no fields.
pub(super) fn common<'a>(state: &'a PartState, ours: &Side, theirs: &Side) -> Result<&'a Arc<Schema>> {
    let age = |side: &Side| {
        let at = state.schemas.iter().position(|s| s.id == side.schema);
        (side.value.is_some(), at)
    };
    known(state, if age(ours) > age(theirs) { ours } else { theirs }.schema)
}

/// A side with its row in another version of the schema: what it does not have it says nothing of.
pub(super) fn lifted<'a>(state: &PartState, side: &'a Side, to: &Arc<Schema>) -> Result<Cow<'a, Side>> {
    let Some(row) = side.value.as_deref().filter(|_| side.schema != to.id) else { return Ok(Cow::Borrowed(side)) };
    let row = Lens::new(known(state, side.schema)?, to).lift(row, &Value::Unchanged);
    Ok(Cow::Owned(Side { value: Some(Arc::new(row)), schema: to.id, ..side.clone() }))
}
