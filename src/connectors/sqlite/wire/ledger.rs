//! A ledger row's columns: `seq, vv, fp, ts, tomb, schema`. The vector is packed: per entry the
//! actor and the counter, seven bits a byte.

use crate::event::{ActorId, Dot, Fp, Hlc, Key, LedgerEntry, SchemaId, Seq, Vv};
use rusqlite::{Connection, Row};

/// The columns in their order, everywhere.
pub(crate) const COLUMNS: &str = "seq, vv, fp, ts, tomb, schema";

/// The keys of a collection with the highest numbers.
pub(crate) fn tops(conn: &Connection, collection: i64, limit: usize) -> rusqlite::Result<Vec<(Key, Seq)>> {
    let sql = "SELECT key, seq FROM _driftless_ledger WHERE collection = ?1 ORDER BY seq DESC LIMIT ?2";
    let mut statement = conn.prepare(sql)?;
    let one = |row: &Row<'_>| Ok((Key(row.get::<_, Vec<u8>>(0)?.into()), row.get::<_, i64>(1)?.cast_unsigned()));
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    statement.query_map((collection, limit), one)?.collect()
}

/// Packs a vector.
pub(crate) fn pack(vv: &Vv) -> Vec<u8> {
    let mut out = Vec::with_capacity(16);
    for dot in vv.iter() {
        number(&mut out, u64::from(dot.actor.0));
        number(&mut out, dot.ctr);
    }
    out
}

/// Unpacks a vector; `None` if that is none.
pub(crate) fn unpack(mut packed: &[u8]) -> Option<Vv> {
    let mut vv = Vv::new();
    while !packed.is_empty() {
        let actor = ActorId(u32::try_from(take(&mut packed)?).ok()?);
        vv.advance(Dot { actor, ctr: take(&mut packed)? });
    }
    Some(vv)
}

/// The entry whose columns begin at `first`.
pub(crate) fn entry(row: &Row<'_>, first: usize) -> rusqlite::Result<LedgerEntry> {
    let bad = |at: usize| rusqlite::Error::InvalidColumnType(at, "ledger".into(), rusqlite::types::Type::Blob);
    let at = |n: usize| first + n;
    let number = |n: usize| row.get::<_, i64>(at(n)).map(i64::cast_unsigned);
    let fp: [u8; 16] = row.get_ref(at(2))?.as_blob()?.try_into().map_err(|_| bad(at(2)))?;
    Ok(LedgerEntry {
        seq: number(0)?,
        vv: unpack(row.get_ref(at(1))?.as_blob()?).ok_or_else(|| bad(at(1)))?,
        fp: Fp(fp),
        ts: Hlc(number(3)?),
        tomb: row.get(at(4))?,
        schema: SchemaId(row.get(at(5))?),
        token: None,
        pend: None,
    })
}

fn number(out: &mut Vec<u8>, mut rest: u64) {
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn take(packed: &mut &[u8]) -> Option<u64> {
    let mut whole = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = packed.split_first()?;
        *packed = rest;
        let part = u64::from(byte & 0x7f);
        whole |= part << shift;
        if byte < 0x80 {
            return (part << shift >> shift == part).then_some(whole);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn vectors_survive_packing(dots in proptest::collection::vec((any::<u32>(), 1..u64::MAX), 0..8)) {
            let vv: Vv = dots.into_iter().map(|(a, ctr)| Dot { actor: ActorId(a), ctr }).collect();
            prop_assert_eq!(unpack(&pack(&vv)), Some(vv));
        }

        #[test]
        fn foreign_bytes_never_panic(bytes in any::<Vec<u8>>()) {
            unpack(&bytes);
        }
    }
}
