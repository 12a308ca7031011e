//! Where in the change table: `Position` ↔ (epoch, id). The high bits of the commit carry the
//! *epoch* the change was written in. A new epoch with a random step begins with every reader, and
//! the file keeps a list of them, so that a position of another file, or of a life of this file that
//! a restored copy does not know, is recognised (read-6).

use super::failure::failing;
use crate::event::Position;
use crate::runtime::error::Result;
use rusqlite::Connection;

/// Bits of the commit that hold the change's id: 6.8e10 changes in a file's life.
const ID_BITS: u32 = 36;
/// How many epochs the file remembers: a checkpoint older than these reader starts is refused.
const EPOCHS_KEPT: i64 = 1000;
/// Steps between epochs are random below this, so that two lives of a copied file differ.
const STEP_MAX: i64 = 256;

/// The epochs of a file, each with the first id written in it, ascending.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Epochs(Vec<(i64, i64)>);

impl Epochs {
    /// Reads them.
    pub(super) fn load(conn: &Connection) -> Result<Self> {
        let failing = || failing("reading _driftless_epochs");
        let mut all =
            conn.prepare_cached("SELECT epoch, first FROM _driftless_epochs ORDER BY epoch").map_err(failing())?;
        let rows = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(failing())?;
        Ok(Epochs(rows.collect::<rusqlite::Result<_>>().map_err(failing())?))
    }

    /// The commit of the transaction whose last change is `id`.
    pub(super) fn commit_of(&self, id: i64) -> u64 {
        let at = self.0.partition_point(|&(_, first)| first <= id);
        let epoch = at.checked_sub(1).and_then(|at| self.0.get(at)).map_or(0, |e| e.0);
        (epoch.cast_unsigned() << ID_BITS) | id.cast_unsigned()
    }

    /// Behind everything up to the change `id`.
    pub(super) fn end_of(&self, id: i64) -> Position {
        if id == 0 { Position::START } else { Position::end_of(self.commit_of(id)) }
    }

    /// Whether this file can have given that position.
    pub(super) fn know(&self, position: Position) -> bool {
        let id = id_of(position);
        id == 0 || self.commit_of(id) == position.commit
    }
}

/// The id of the last change of the transaction at `position`; 0 for the start.
pub(super) fn id_of(position: Position) -> i64 {
    (position.commit & ((1 << ID_BITS) - 1)).cast_signed()
}

/// Begins a new epoch behind the newest change (read-6: renewed at each start).
pub(super) fn renew(conn: &Connection) -> Result<()> {
    let begin = "INSERT INTO _driftless_epochs(epoch, first)
        SELECT coalesce((SELECT max(epoch) FROM _driftless_epochs), 0) + 1 + abs(random() % ?1),
               coalesce((SELECT seq FROM sqlite_sequence WHERE name = '_driftless_changes'), 0) + 1";
    // An epoch in which nothing was written has given no position: it need not be remembered.
    let unused = "DELETE FROM _driftless_epochs WHERE first >
        coalesce((SELECT seq FROM sqlite_sequence WHERE name = '_driftless_changes'), 0)";
    let old = "DELETE FROM _driftless_epochs WHERE epoch NOT IN
        (SELECT epoch FROM _driftless_epochs ORDER BY epoch DESC LIMIT ?1)";
    let failing = || failing("renewing the file's token");
    conn.execute(unused, []).map_err(failing())?;
    conn.execute(begin, [STEP_MAX]).map_err(failing())?;
    conn.execute(old, [EPOCHS_KEPT]).map_err(failing())?;
    Ok(())
}

/// The id of the newest change ever committed, released ones included; 0 if none.
pub(super) fn newest(conn: &Connection) -> Result<i64> {
    conn.prepare_cached("SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = '_driftless_changes'), 0)")
        .and_then(|mut newest| newest.query_row([], |row| row.get(0)))
        .map_err(failing("reading the newest change"))
}
