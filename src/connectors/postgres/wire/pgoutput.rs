//! Decodes `pgoutput`, protocol versions 1 to 4 with streamed transactions. Column values stay in the
//! buffer they came in. Two-phase messages are not asked for and not known here: a prepared
//! transaction arrives at its COMMIT PREPARED like any other (read-3).

use super::cursor::{Cursor, Malformed};
use bytes::Bytes;
use smallvec::SmallVec;

/// A transaction's number at the server.
pub(crate) type Xid = u32;
/// A table's number at the server.
pub(crate) type Oid = u32;

/// Where a transaction was committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Commit {
    /// The end of its commit record: the position of the transaction.
    pub end: u64,
    /// Microseconds since 2000-01-01.
    pub time: i64,
}

/// One message.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// A transaction begins; it comes whole.
    Begin,
    /// It is complete.
    Commit(Commit),
    /// A table as it is from here on.
    Relation(Relation),
    /// A row was inserted.
    Insert(Oid, Tuple),
    /// A row was updated; the old key or row, where the replica identity gives it.
    Update(Oid, Option<Box<Old>>, Tuple),
    /// A row was deleted.
    Delete(Oid, Old),
    /// Tables were emptied.
    Truncate(Vec<Oid>),
    /// A part of a transaction that is not committed yet begins.
    StreamStart(Xid),
    /// The part ends.
    StreamStop,
    /// A transaction that came in parts is complete.
    StreamCommit(Xid, Commit),
    /// A transaction that came in parts, or a part of it, did not happen.
    StreamAbort {
        /// The transaction.
        top: Xid,
        /// Itself, or a subtransaction.
        sub: Xid,
    },
    /// Nothing that matters: a type's name, an origin, a message a client wrote into the log (a hint at
    /// most, never proof: any role can write one).
    Other,
}

/// A table's name and columns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Relation {
    /// Its number.
    pub oid: Oid,
    /// Its schema; empty means `pg_catalog`.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `d`, `n`, `f` or `i`.
    pub identity: u8,
    /// Its columns in order.
    pub columns: Vec<RelationColumn>,
}

/// A column in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RelationColumn {
    /// Whether it is part of the replica identity.
    pub key: bool,
    /// Its name.
    pub name: String,
    /// Its type.
    pub ty: Oid,
}

/// What is known of the row before.
#[derive(Clone, Debug)]
pub(crate) enum Old {
    /// Its replica identity only; other columns are null.
    Key(Tuple),
    /// All of it (REPLICA IDENTITY FULL).
    Row(Tuple),
}

impl Old {
    /// The tuple.
    #[must_use]
    pub(crate) fn tuple(&self) -> &Tuple {
        match self {
            Old::Key(tuple) | Old::Row(tuple) => tuple,
        }
    }
}

/// A row as it stands in the buffer.
#[derive(Clone, Debug)]
pub(crate) struct Tuple {
    raw: Bytes,
    cells: SmallVec<[Cell; 16]>,
}

#[derive(Clone, Copy, Debug)]
struct Cell {
    kind: u8,
    start: u32,
    length: u32,
}

/// One column of a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Column {
    /// SQL's null.
    Null,
    /// Not in the image: a large value that did not change (value-2).
    Unchanged,
    /// In text form.
    Text(Bytes),
    /// In binary form.
    Binary(Bytes),
}

impl Tuple {
    /// How many columns it has.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    /// The column at `index`; `Null` if there is none.
    #[must_use]
    pub(crate) fn column(&self, index: usize) -> Column {
        let Some(cell) = self.cells.get(index) else { return Column::Null };
        let bytes = || self.raw.slice(cell.start as usize..(cell.start + cell.length) as usize);
        match cell.kind {
            b't' => Column::Text(bytes()),
            b'b' => Column::Binary(bytes()),
            b'u' => Column::Unchanged,
            _ => Column::Null,
        }
    }
}

/// Decodes one message; `streamed` while inside of a part of an uncommitted transaction.
pub(crate) fn decode(payload: &Bytes, streamed: bool) -> Result<Message, Malformed> {
    let mut c = Cursor::new(payload);
    let kind = c.u8()?;
    if streamed && matches!(kind, b'R' | b'Y' | b'I' | b'U' | b'D' | b'T' | b'M') {
        c.u32()?;
    }
    Ok(match kind {
        b'B' => Message::Begin,
        b'C' => {
            c.u8()?;
            Message::Commit(commit(&mut c)?)
        }
        b'R' => Message::Relation(relation(&mut c)?),
        b'I' => {
            let oid = c.u32()?;
            expect(&mut c, b'N')?;
            Message::Insert(oid, tuple(&mut c, payload)?)
        }
        b'U' => update(&mut c, payload)?,
        b'D' => {
            let oid = c.u32()?;
            let kind = c.u8()?;
            Message::Delete(oid, old(kind, tuple(&mut c, payload)?)?)
        }
        b'T' => {
            let count = c.u32()?;
            c.u8()?;
            Message::Truncate((0..count).map(|_| c.u32()).collect::<Result<_, _>>()?)
        }
        b'S' => Message::StreamStart(c.u32()?),
        b'E' => Message::StreamStop,
        b'c' => {
            let xid = c.u32()?;
            c.u8()?;
            Message::StreamCommit(xid, commit(&mut c)?)
        }
        b'A' => Message::StreamAbort { top: c.u32()?, sub: c.u32()? },
        b'Y' | b'O' | b'M' => Message::Other,
        _ => return Err(Malformed("a message of a kind that was not asked for")),
    })
}

/// The subtransaction a message inside of a streamed part belongs to.
pub(crate) fn streamed_xid(payload: &Bytes) -> Result<Xid, Malformed> {
    let mut c = Cursor::new(payload);
    c.u8()?;
    c.u32()
}

fn commit(c: &mut Cursor<'_>) -> Result<Commit, Malformed> {
    c.u64()?;
    Ok(Commit { end: c.u64()?, time: c.i64()? })
}

fn relation(c: &mut Cursor<'_>) -> Result<Relation, Malformed> {
    let oid = c.u32()?;
    let namespace = c.text()?;
    let name = c.text()?;
    let identity = c.u8()?;
    let count = c.u16()?;
    let mut column = || {
        let key = c.u8()? & 1 == 1;
        let name = c.text()?;
        let ty = c.u32()?;
        c.i32()?;
        Ok(RelationColumn { key, name, ty })
    };
    let columns = (0..count).map(|_| column()).collect::<Result<_, Malformed>>()?;
    Ok(Relation { oid, namespace, name, identity, columns })
}

fn update(c: &mut Cursor<'_>, payload: &Bytes) -> Result<Message, Malformed> {
    let oid = c.u32()?;
    let kind = c.u8()?;
    if kind == b'N' {
        return Ok(Message::Update(oid, None, tuple(c, payload)?));
    }
    let before = old(kind, tuple(c, payload)?)?;
    expect(c, b'N')?;
    Ok(Message::Update(oid, Some(Box::new(before)), tuple(c, payload)?))
}

fn old(kind: u8, tuple: Tuple) -> Result<Old, Malformed> {
    match kind {
        b'K' => Ok(Old::Key(tuple)),
        b'O' => Ok(Old::Row(tuple)),
        _ => Err(Malformed("a row is neither old, key nor new")),
    }
}

fn expect(c: &mut Cursor<'_>, kind: u8) -> Result<(), Malformed> {
    (c.u8()? == kind).then_some(()).ok_or(Malformed("a new row is missing"))
}

fn tuple(c: &mut Cursor<'_>, payload: &Bytes) -> Result<Tuple, Malformed> {
    let count = usize::from(c.u16()?);
    let mut cells = SmallVec::with_capacity(count.min(c.remaining()));
    for _ in 0..count {
        let kind = c.u8()?;
        let length = match kind {
            b'n' | b'u' => 0,
            b't' | b'b' => c.u32()?,
            _ => return Err(Malformed("a column of an unknown kind")),
        };
        let start = u32::try_from(c.position()).map_err(|_| Malformed("a message over 4 GiB"))?;
        c.slice(length as usize)?;
        cells.push(Cell { kind, start, length });
    }
    Ok(Tuple { raw: payload.clone(), cells })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(hex: &str) -> Vec<Bytes> {
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        hex.lines().map(|line| line.trim().as_bytes().chunks(2).map(byte).collect::<Vec<_>>().into()).collect()
    }

    #[test]
    fn a_recorded_transaction_is_decoded() {
        let messages = sample(include_str!("../testdata/transaction.hex"));
        let kinds: String = messages
            .iter()
            .map(|m| match decode(m, false).unwrap() {
                Message::Begin => 'B',
                Message::Relation(r) => {
                    assert_eq!((&*r.namespace, &*r.name), ("public", "sample"));
                    assert_eq!(r.columns.len(), 3);
                    'R'
                }
                Message::Insert(_, t) => {
                    assert_eq!(t.len(), 3);
                    'I'
                }
                Message::Update(_, _, t) => {
                    assert_eq!(t.column(2), Column::Unchanged);
                    'U'
                }
                Message::Delete(_, Old::Key(_)) => 'D',
                Message::Other => 'M',
                Message::Commit(c) => {
                    assert!(c.end > 0);
                    'C'
                }
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(kinds, "BMRIUDC");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), streamed: bool) {
            let _ = decode(&bytes.into(), streamed);
        }

        #[test]
        fn a_damaged_message_never_makes_the_decoder_panic(at in 0usize..400, to: u8, cut in 0usize..400) {
            for message in sample(include_str!("../testdata/transaction.hex")) {
                let mut bytes = message.to_vec();
                let length = bytes.len();
                bytes[at % length] = to;
                bytes.truncate(cut);
                if let Ok(Message::Insert(_, tuple)) = decode(&bytes.into(), false) {
                    (0..tuple.len()).for_each(|i| drop(tuple.column(i)));
                }
            }
        }
    }
}
