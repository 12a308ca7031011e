//! Looks at the store's journals before the store does. The store takes whatever it cannot read at
//! the end of a journal for a write that was cut off by a crash, and drops it. That is right for the
//! end of the last group only: here, a place that cannot be read and has a whole group behind it is
//! damage and is reported; a torn end is cut off, also where the store would refuse to open.
//!
//! Each group is synced before the next is begun, so at most one can be torn. Damage inside the very
//! last group cannot be told from a torn write.

use super::store::io_error;
use crate::runtime::error::{Code, Error, Result};
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use xxhash_rust::xxh3::Xxh3;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
/// What ends each group: the store's name and format version.
const TRAILER: &[u8] = b"FJL\x03";
/// Bytes of an item before its key: tag, kind, compression, keyspace, three lengths.
const ITEM_HEAD: usize = 3 + 8 + 2 + 4 + 4;

/// Checks all journals in the store's directory.
pub(super) fn check(dir: &Path) -> Result<()> {
    let mut journals = journals(dir).map_err(|e| io_error("the log's directory could not be listed", e))?;
    journals.sort_unstable();
    let last = journals.pop();
    for (_, path) in &journals {
        check_one(path, false)?;
    }
    last.map_or(Ok(()), |(_, path)| check_one(&path, true))
}

fn journals(dir: &Path) -> std::io::Result<Vec<(u64, PathBuf)>> {
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let is_journal = path.extension().is_some_and(|e| e == "jnl");
        if let Some(number) = path.file_stem().and_then(|s| s.to_str()?.parse().ok()).filter(|_| is_journal) {
            found.push((number, path));
        }
    }
    Ok(found)
}

fn check_one(path: &Path, is_last: bool) -> Result<()> {
    let failed = |e| io_error("a journal of the log could not be read", e).at("file", path.display());
    let data = fs::read(path).map_err(failed)?;
    let mut end = 0;
    while let Some(next) = group(&data, end) {
        end = next;
    }
    let rest = data.get(end..).unwrap_or_default();
    // What was reserved and not written yet.
    if rest.iter().all(|&b| b == 0) {
        return Ok(());
    }
    let behind = (end + 1..data.len()).find(|&at| data.get(at) == Some(&START) && group(&data, at).is_some());
    if !is_last || behind.is_some() {
        let text = "a journal of the log is damaged in its middle; restore the log's directory from a copy";
        return Err(Error::new(Code::LogCorrupt, text).at("file", path.display()).at("byte", end));
    }
    let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
    file.set_len(end as u64).and_then(|()| file.sync_all()).map_err(failed)
}

/// Where the whole and intact group that starts at `at` ends.
fn group(data: &[u8], at: usize) -> Option<usize> {
    let mut rest = data.get(at..)?;
    (tag(&mut rest)? == START).then_some(())?;
    let items = word(&mut rest)?;
    take(&mut rest, 8)?;
    let body = rest;
    for _ in 0..items {
        item(&mut rest)?;
    }
    let body = body.get(..body.len() - rest.len())?;
    (tag(&mut rest)? == END).then_some(())?;
    let checksum = u64::from_le_bytes(take(&mut rest, 8)?.try_into().ok()?);
    (take(&mut rest, TRAILER.len())? == TRAILER).then_some(())?;
    let mut hasher = Xxh3::new();
    hasher.update(body);
    (hasher.digest() == checksum).then_some(data.len() - rest.len())
}

fn item(rest: &mut &[u8]) -> Option<()> {
    match *rest.first()? {
        CLEAR => take(rest, 9).map(drop),
        ITEM => {
            let head = take(rest, ITEM_HEAD)?;
            let key_len = u16::from_le_bytes(head.get(11..13)?.try_into().ok()?);
            let value_len = u32::from_le_bytes(head.get(17..21)?.try_into().ok()?);
            take(rest, usize::from(key_len) + value_len as usize).map(drop)
        }
        _ => None,
    }
}

fn tag(rest: &mut &[u8]) -> Option<u8> {
    take(rest, 1)?.first().copied()
}

fn word(rest: &mut &[u8]) -> Option<u32> {
    take(rest, 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(len)?;
    *rest = left;
    Some(taken)
}
