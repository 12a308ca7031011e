//! Where each field of each record stands: the order of the schema files in `schemas/`, version 1.
//! A change here is a new version there; what a released version wrote must stay readable.

use super::value::{put_image, put_row, take_image, take_row};
use super::wire::{Broken, Input, Out, Wire, put_counted, put_items, put_len, record, symbols};
use crate::event::{
    ActorId, AgentMark, Asked, Canonical, Cause, Claim, Conflict, ControlInput, DeadLetter, Dot, Fate, Fp, Hlc, Intent,
    Join, Key, Known, KnownRecord, LedgerEntry, LedgerRecord, Link, Loser, Op, Origin, PlatformNo, Position, Proposal,
    ReaderMark, ResolverMark, Review, Role, Row, Rules, SchemaId, Side, Stage, Stamp, StateRecord, Token, Txn,
    Validity, Vv,
};
use std::collections::BTreeMap;
use std::sync::Arc;

record!(Stamp { epoch, owner });
record!(Claim { role, stamp });
record!(Txn { id, idx });
record!(Position { commit, ordinal });
record!(Dot { actor, ctr });
record!(Join { actor, ctr, seq, fp_local });
record!(Link { offset, seq, id });
record!(Intent { iid, seq, vv, fp, ts, tomb, schema, expect, exp_ms });
record!(LedgerEntry { seq, vv, fp, ts, tomb, schema, token, pend });
record!(Proposal {
    stamp,
    key,
    dot,
    ctx,
    base_seq,
    base_tomb,
    ts,
    op,
    fp,
    fp_local,
    schema,
    value: image,
    before: before_image,
    txn,
    src_pos,
    rev,
    entry,
    ambiguous_base,
});
record!(Conflict { ancestor, head, proposal, loser, rule, rules, ambiguous_base, earlier, open });
record!(Canonical {
    key,
    seq,
    id,
    prev,
    origin,
    idx,
    last,
    dot,
    vv,
    ts,
    fp,
    tomb,
    schema,
    after: row,
    by,
    cause,
    ack,
    rctr,
    conflicted,
    conflict,
    asked,
    copy,
} head effect);
record!(Asked { command, by, why, conflict });
record!(Review { key, ctx, base_seq, ts, schema, value: row, asked });
record!(Rules { version, priority, bootstrap, resolution });
record!(ControlInput { command, control });
record!(Known { vv, base_seq, base_tomb, fp, schema, ts, pos });
record!(KnownRecord { stamp, key, known });
record!(ReaderMark { stamp, number, pos, ctr, cpos, lastpos, copied });
record!(LedgerRecord { stamp, key, rev, entry, canon });
record!(AgentMark { stamp, cpos, ctr, rev, canon });
record!(StateRecord { stamp, head });
record!(Validity { owners: owners, last: dots, commands: ids, tip: tip });
record!(ResolverMark { stamp, number, link, c_off, changes, rctr, rules, schemas });
record!(DeadLetter { id, fate, stage, by, key, code, why, pos, offset, version, native });

symbols!(Fate { Open, Retried, Discarded });
symbols!(Stage { Capture, Apply });
symbols!(Op { Put, Delete, Read });
symbols!(Cause { FastForward, Join, Merge });
symbols!(Loser { Head, Proposal, Neither });

/// Types of one field stand as that field.
macro_rules! transparent {
    ($($type:ident),*) => {$(
        impl Wire for $type {
            fn put(&self, out: &mut Out<'_>) {
                self.0.put(out);
            }

            fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
                Wire::take(input).map($type)
            }
        }
    )*};
}
transparent!(ActorId, PlatformNo, Hlc, SchemaId, Key, Token);

impl Wire for Fp {
    fn put(&self, out: &mut Out<'_>) {
        out.bytes.extend_from_slice(&self.0);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
        input.fixed("a fingerprint").map(Fp)
    }
}

impl Wire for Vv {
    fn put(&self, out: &mut Out<'_>) {
        let len = self.iter().count();
        if len > 0 {
            put_len(&mut out.bytes, len);
            self.iter().for_each(|dot| dot.put(out));
        }
        out.bytes.push(0);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
        let mut vv = Vv::new();
        input.items(|input| Dot::take(input).map(|dot| vv.advance(dot)))?;
        Ok(vv)
    }
}

/// Two fields, of which one is set.
impl Wire for Origin {
    fn put(&self, out: &mut Out<'_>) {
        let (input, source) = match *self {
            Origin::Input(offset) => (Some(offset), None),
            Origin::Source(position) => (None, Some(position)),
        };
        input.put(out);
        source.put(out);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
        match (Wire::take(input)?, Wire::take(input)?) {
            (Some(offset), None) => Ok(Origin::Input(offset)),
            (None, Some(position)) => Ok(Origin::Source(position)),
            _ => Err(input.broken("either an input or a source position")),
        }
    }
}

/// What is claimed, and the platform it is claimed for; 0 if for none.
impl Wire for Role {
    fn put(&self, out: &mut Out<'_>) {
        let (kind, platform) = match *self {
            Role::Writer(platform) => (0, platform),
            Role::Resolver => (1, PlatformNo(0)),
            Role::Control => (2, PlatformNo(0)),
        };
        put_len(&mut out.bytes, kind);
        platform.put(out);
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
        match (input.index(3, "a role")?, PlatformNo::take(input)?) {
            (0, platform) => Ok(Role::Writer(platform)),
            (1, PlatformNo(0)) => Ok(Role::Resolver),
            (2, PlatformNo(0)) => Ok(Role::Control),
            _ => Err(input.broken("a role without a platform")),
        }
    }
}

/// What a version does to the record, for consumers outside: put, delete or control (topic-5).
/// It follows from the other fields, so it is not read back.
mod effect {
    use super::*;

    pub(super) fn put(canonical: &Canonical, out: &mut Out<'_>) {
        let index = match (canonical.key.is_empty(), canonical.tomb) {
            (true, _) => 2,
            (false, true) => 1,
            (false, false) => 0,
        };
        put_len(&mut out.bytes, index);
    }

    pub(super) fn take(input: &mut Input<'_>) -> Result<(), Broken> {
        input.index(3, "put, delete or control").map(|_| ())
    }
}

/// A full row of the record's schema, or null.
mod row {
    use super::*;

    pub(super) fn put(row: &Option<Arc<Row>>, out: &mut Out<'_>) {
        match row {
            None => out.bytes.push(0),
            Some(row) => {
                out.bytes.push(2);
                let written = put_row(&mut out.bytes, out.row, row);
                out.check(written);
            }
        }
    }

    pub(super) fn take(input: &mut Input<'_>) -> Result<Option<Arc<Row>>, Broken> {
        if input.index(2, "null or a row")? == 0 {
            return Ok(None);
        }
        let schema = input.row.ok_or_else(|| input.broken("a record without rows"))?;
        take_row(input, schema).map(|row| Some(Arc::new(row)))
    }
}

/// An image: a row whose fields may be unchanged (value-2), or null.
mod image {
    use super::*;

    pub(super) fn put(row: &Option<Arc<Row>>, out: &mut Out<'_>) {
        put_checked(row, out, true);
    }

    pub(super) fn put_checked(row: &Option<Arc<Row>>, out: &mut Out<'_>, not_null: bool) {
        match row {
            None => out.bytes.push(0),
            Some(row) => {
                out.bytes.push(2);
                let written = put_image(&mut out.bytes, out.row, row, not_null);
                out.check(written);
            }
        }
    }

    pub(super) fn take(input: &mut Input<'_>) -> Result<Option<Arc<Row>>, Broken> {
        if input.index(2, "null or an image")? == 0 {
            return Ok(None);
        }
        let schema = input.row.ok_or_else(|| input.broken("a record without rows"))?;
        take_image(input, schema).map(|row| Some(Arc::new(row)))
    }
}

/// The image before: sources leave out what is not in the key, so null says nothing there.
mod before_image {
    use super::*;

    pub(super) fn put(row: &Option<Arc<Row>>, out: &mut Out<'_>) {
        image::put_checked(row, out, false);
    }

    pub(super) use super::image::take;
}

/// A side's value has a schema of its own: the two sides of a conflict may be of different versions.
/// It stands as a whole message (0x00, schema id, Avro), so that any consumer's deserializer reads it.
impl Wire for Side {
    fn put(&self, out: &mut Out<'_>) {
        let Side { by, dot, vv, seq, ts, fp, schema, value } = self;
        by.put(out);
        dot.put(out);
        vv.put(out);
        seq.put(out);
        ts.put(out);
        fp.put(out);
        schema.put(out);
        match value {
            None => out.bytes.push(0),
            Some(row) => {
                out.bytes.push(2);
                let written = out.forms.enclose(*schema, row).map(|message| put_counted(&mut out.bytes, &message));
                out.check(written);
            }
        }
    }

    fn take(input: &mut Input<'_>) -> Result<Self, Broken> {
        let by = Wire::take(input)?;
        let dot = Wire::take(input)?;
        let vv = Wire::take(input)?;
        let seq = Wire::take(input)?;
        let ts = Wire::take(input)?;
        let fp = Wire::take(input)?;
        let schema = Wire::take(input)?;
        let value = match input.index(2, "null or a value")? {
            0 => None,
            _ => {
                let message = input.counted("an enclosed value")?;
                Some(Arc::new(input.forms.disclose(&message)?))
            }
        };
        Ok(Side { by, dot, vv, seq, ts, fp, schema, value })
    }
}

/// The owners of the roles.
mod owners {
    use super::*;

    pub(super) fn put(owners: &BTreeMap<Role, Stamp>, out: &mut Out<'_>) {
        let claims: Vec<Claim> = owners.iter().map(|(&role, &stamp)| Claim { role, stamp }).collect();
        put_items(claims.iter(), out);
    }

    pub(super) fn take(input: &mut Input<'_>) -> Result<BTreeMap<Role, Stamp>, Broken> {
        Ok(Vec::<Claim>::take(input)?.into_iter().map(|claim| (claim.role, claim.stamp)).collect())
    }
}

/// The newest counter of each actor.
mod dots {
    use super::*;
    use crate::event::Ctr;

    pub(super) fn put(last: &BTreeMap<ActorId, Ctr>, out: &mut Out<'_>) {
        let dots: Vec<Dot> = last.iter().map(|(&actor, &ctr)| Dot { actor, ctr }).collect();
        put_items(dots.iter(), out);
    }

    pub(super) fn take(input: &mut Input<'_>) -> Result<BTreeMap<ActorId, Ctr>, Broken> {
        Ok(Vec::<Dot>::take(input)?.into_iter().map(|dot| (dot.actor, dot.ctr)).collect())
    }
}

/// The command ids taken.
mod ids {
    use super::*;

    pub(super) fn put(commands: &BTreeMap<u128, ()>, out: &mut Out<'_>) {
        put_items(commands.keys(), out);
    }

    pub(super) fn take(input: &mut Input<'_>) -> Result<BTreeMap<u128, ()>, Broken> {
        Ok(Vec::<u128>::take(input)?.into_iter().map(|id| (id, ())).collect())
    }
}

/// The end of the chain of D.
mod tip {
    use super::*;

    pub(super) fn put(tip: &(u64, u64), out: &mut Out<'_>) {
        tip.0.put(out);
        tip.1.put(out);
    }

    pub(super) fn take(input: &mut Input<'_>) -> Result<(u64, u64), Broken> {
        Ok((u64::take(input)?, u64::take(input)?))
    }
}
