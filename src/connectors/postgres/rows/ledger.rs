//! The tables a sink keeps beside the data, and how their rows are read and written. `ledger` and
//! `observed` are captured, `parked`, `source` and `published` are not.

use super::super::client::{Session, quoted};
use super::super::failure;
use super::super::values::Native;
use crate::event::{ActorId, Dot, Fp, Hlc, Key, LedgerEntry, SchemaId, Seq, Value, Vv};
use crate::runtime::error::Result;
use bytes::Bytes;

/// The captured columns of `ledger` in order: name, type, how it is read.
pub(crate) const LEDGER: [(&str, u32, Native); 9] = [
    ("collection", 25, Native::Text),
    ("partition", 23, Native::Int(32)),
    ("key", 17, Native::Bytes),
    ("seq", 20, Native::Int(64)),
    ("vv", 17, Native::Bytes),
    ("fp", 17, Native::Bytes),
    ("ts", 20, Native::Int(64)),
    ("tomb", 16, Native::Bool),
    ("schema", 20, Native::Int(64)),
];

/// The captured columns of `observed`. The image holds the columns of the record in text form.
pub(crate) const OBSERVED: [(&str, u32); 4] = [("collection", 25), ("key", 17), ("present", 16), ("image", 1009)];

/// Makes what is not there yet. A user who may not make it can be given it.
pub(crate) async fn prepare(session: &Session, schema: &str) -> Result<()> {
    let all = format!(
        "SELECT count(*) = 5 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = '{schema}' AND c.relname IN ('ledger', 'observed', 'parked', 'source', 'published')"
    );
    if session.text(&all).await? == "t" {
        return Ok(());
    }
    let s = quoted(schema);
    // Two processes may start together; only one makes the tables.
    let statements = format!(
        "BEGIN;
         SELECT pg_advisory_xact_lock(7254119036);
         CREATE SCHEMA IF NOT EXISTS {s};
         CREATE TABLE IF NOT EXISTS {s}.ledger (
             collection text COLLATE \"C\" NOT NULL, partition int4 NOT NULL, key bytea NOT NULL, seq int8 NOT NULL,
             vv bytea NOT NULL, fp bytea NOT NULL, ts int8 NOT NULL, tomb bool NOT NULL, schema int8 NOT NULL,
             PRIMARY KEY (collection, key)) WITH (fillfactor = 80);
         CREATE TABLE IF NOT EXISTS {s}.observed (
             collection text COLLATE \"C\" NOT NULL, key bytea NOT NULL, present bool NOT NULL, image text[],
             PRIMARY KEY (collection, key));
         CREATE TABLE IF NOT EXISTS {s}.parked (
             collection text COLLATE \"C\" NOT NULL, key bytea NOT NULL, seq int8 NOT NULL, fp bytea NOT NULL,
             position pg_lsn NOT NULL, since timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (collection, key));
         CREATE TABLE IF NOT EXISTS {s}.source (
             dataset text COLLATE \"C\" PRIMARY KEY, system text NOT NULL, timeline text NOT NULL, slot text NOT NULL,
             since timestamptz NOT NULL DEFAULT now());
         CREATE TABLE IF NOT EXISTS {s}.published (
             dataset text COLLATE \"C\" NOT NULL, relation text COLLATE \"C\" NOT NULL, membership oid NOT NULL,
             PRIMARY KEY (dataset, relation));
         COMMIT;"
    );
    let made = session.batch_execute(&statements).await;
    if made.is_err() {
        // The failed transaction is over for the server only when it is told so.
        session.batch_execute("ROLLBACK").await.map_err(failure::of)?;
    }
    made.map_err(failure::of)
}

/// The keys of a collection with the highest numbers.
pub(crate) async fn tops(session: &Session, schema: &str, name: &str, limit: usize) -> Result<Vec<(Key, Seq)>> {
    let text =
        format!("SELECT key, seq FROM {}.ledger WHERE collection = $1 ORDER BY seq DESC LIMIT $2", quoted(schema));
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = session.query(&text, &[&name, &limit]).await.map_err(failure::of)?;
    let one = |row: &tokio_postgres::Row| {
        let (key, seq): (Vec<u8>, i64) = (row.try_get(0)?, row.try_get(1)?);
        Ok((Key(key.into()), seq.cast_unsigned()))
    };
    rows.iter().map(one).collect::<Result<_, tokio_postgres::Error>>().map_err(failure::of)
}

/// The name of a collection in the ledger: datasets share the tables.
#[must_use]
pub(crate) fn name(dataset: &str, collection: &str) -> String {
    format!("{dataset}/{collection}")
}

/// Which collection, which key, and what the ledger says of it; from the values of `LEDGER`.
#[must_use]
pub(crate) fn read(values: &[Value]) -> Option<(&str, Key, LedgerEntry)> {
    let [
        Value::Text(collection),
        _,
        Value::Bytes(key),
        Value::Int(seq),
        Value::Bytes(vv),
        Value::Bytes(fp),
        Value::Int(ts),
        Value::Bool(tomb),
        Value::Int(schema),
    ] = values
    else {
        return None;
    };
    let entry = LedgerEntry {
        seq: seq.cast_unsigned(),
        vv: read_vv(vv)?,
        fp: Fp(fp.as_ref().try_into().ok()?),
        ts: Hlc(ts.cast_unsigned()),
        tomb: *tomb,
        schema: SchemaId(u32::try_from(*schema).ok()?),
        token: None,
        pend: None,
    };
    Some((collection.as_str(), Key(key.clone()), entry))
}

/// A vector as bytes: actor and counter of each entry.
#[must_use]
pub(crate) fn write_vv(vv: &Vv) -> Vec<u8> {
    vv.iter().flat_map(|dot| dot.actor.0.to_be_bytes().into_iter().chain(dot.ctr.to_be_bytes())).collect()
}

/// A vector from its bytes.
#[must_use]
pub(crate) fn read_vv(bytes: &[u8]) -> Option<Vv> {
    let dot = |entry: &[u8]| {
        let (actor, ctr) = entry.split_at_checked(4)?;
        let actor = ActorId(u32::from_be_bytes(actor.try_into().ok()?));
        Some(Dot { actor, ctr: u64::from_be_bytes(ctr.try_into().ok()?) })
    };
    bytes.chunks(12).map(dot).collect()
}

/// The columns of a row read by statement, in the order of `LEDGER`.
pub(crate) fn of_row(row: &tokio_postgres::Row, first: usize) -> Option<LedgerEntry> {
    let fp: Vec<u8> = row.try_get(first + 2).ok()?;
    Some(LedgerEntry {
        seq: row.try_get::<_, i64>(first).ok()?.cast_unsigned(),
        vv: read_vv(row.try_get(first + 1).ok()?)?,
        fp: Fp(fp.try_into().ok()?),
        ts: Hlc(row.try_get::<_, i64>(first + 3).ok()?.cast_unsigned()),
        tomb: row.try_get(first + 4).ok()?,
        schema: SchemaId(u32::try_from(row.try_get::<_, i64>(first + 5).ok()?).ok()?),
        token: None,
        pend: None,
    })
}

/// The partition of a key: Kafka's murmur2, as its own producers choose it (topic-2).
#[must_use]
pub(crate) fn partition(key: &Bytes, partitions: u32) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ u32::try_from(key.len()).unwrap_or(u32::MAX);
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut k = word.iter().rev().fold(0u32, |n, b| n << 8 | u32::from(*b)).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash = (hash ^ rest.iter().rev().fold(0u32, |n, b| n << 8 | u32::from(*b))).wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^= hash >> 15;
    i32::try_from((hash & 0x7fff_ffff) % partitions.max(1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partition_is_the_one_kafka_chooses() {
        // From the table in Apache Kafka's own tests of murmur2, masked to be positive.
        for (key, hash) in
            [("21", -973_932_308i32), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536)]
        {
            let whole = u32::try_from(hash & 0x7fff_ffff).unwrap();
            assert_eq!(partition(&Bytes::from(key), 1 << 30), i32::try_from(whole % (1 << 30)).unwrap(), "{key}");
        }
    }

    #[test]
    fn a_vector_is_read_back() {
        let vv: Vv = [Dot { actor: ActorId(65_537), ctr: 9 }, Dot { actor: ActorId(131_073), ctr: u64::MAX }]
            .into_iter()
            .collect();
        assert_eq!(read_vv(&write_vv(&vv)), Some(vv));
        assert_eq!(read_vv(&[1, 2, 3]), None);
    }
}
