//! Holds the messages of a transaction until it is committed (read-3): in memory first, in an unnamed
//! file when they become many. What a subtransaction wrote can be dropped. Messages come out once, in
//! the order they went in; a spool that is dropped leaves nothing behind.

use super::pgoutput::Xid;
use crate::runtime::error::{Code, Error, Result};
use bytes::Bytes;
use std::collections::{HashSet, VecDeque};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Seek as _, Write as _};
use std::path::PathBuf;

/// The messages of one transaction.
#[derive(Debug)]
pub(crate) struct Spool {
    limit_bytes: usize,
    folder: PathBuf,
    memory: VecDeque<(Xid, Bytes)>,
    memory_bytes: usize,
    file: Option<BufWriter<File>>,
    aborted: HashSet<Xid>,
}

impl Spool {
    /// Empty; more than `limit_bytes` go to a file in `folder`.
    #[must_use]
    pub(crate) fn new(limit_bytes: usize, folder: PathBuf) -> Self {
        Spool { limit_bytes, folder, memory: VecDeque::new(), memory_bytes: 0, file: None, aborted: HashSet::new() }
    }

    /// Adds a message of the (sub)transaction `xid`.
    pub(crate) fn push(&mut self, xid: Xid, message: Bytes) -> Result<()> {
        self.memory_bytes += message.len();
        self.memory.push_back((xid, message));
        if self.memory_bytes > self.limit_bytes { self.spill() } else { Ok(()) }
    }

    /// Forgets what the subtransaction `xid` wrote. Descriptions of tables stay: the server sends each
    /// once per transaction.
    pub(crate) fn abort(&mut self, xid: Xid) {
        self.aborted.insert(xid);
    }

    /// Ready to be read.
    pub(crate) fn finish(self) -> Result<Replay> {
        let file = match self.file {
            None => None,
            Some(writer) => {
                let mut file = writer.into_inner().map_err(|e| full(e.into_error()))?;
                file.rewind().map_err(full)?;
                Some(BufReader::with_capacity(1 << 18, file))
            }
        };
        Ok(Replay { file, memory: self.memory, aborted: self.aborted })
    }

    fn spill(&mut self) -> Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => self.file.insert(BufWriter::with_capacity(1 << 18, unnamed(&self.folder).map_err(full)?)),
        };
        for (xid, message) in self.memory.drain(..) {
            let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
            file.write_all(&xid.to_be_bytes()).map_err(full)?;
            file.write_all(&length.to_be_bytes()).map_err(full)?;
            file.write_all(&message).map_err(full)?;
        }
        self.memory_bytes = 0;
        Ok(())
    }
}

/// Reads a spool.
#[derive(Debug)]
pub(crate) struct Replay {
    file: Option<BufReader<File>>,
    memory: VecDeque<(Xid, Bytes)>,
    aborted: HashSet<Xid>,
}

impl Replay {
    /// The next message that was not aborted.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            let Some((xid, message)) = self.any()? else { return Ok(None) };
            let description = matches!(message.first(), Some(b'R' | b'Y'));
            if description || self.aborted.is_empty() || !self.aborted.contains(&xid) {
                return Ok(Some(message));
            }
        }
    }

    fn any(&mut self) -> Result<Option<(Xid, Bytes)>> {
        let Some(file) = &mut self.file else { return Ok(self.memory.pop_front()) };
        let mut head = [0; 8];
        match file.read_exact(&mut head) {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => {
                self.file = None;
                return Ok(self.memory.pop_front());
            }
            other => other.map_err(full)?,
        }
        let [a, b, c, d, e, f, g, h] = head;
        let mut message = vec![0; u32::from_be_bytes([e, f, g, h]) as usize];
        file.read_exact(&mut message).map_err(full)?;
        Ok(Some((u32::from_be_bytes([a, b, c, d]), message.into())))
    }
}

/// A file that has no name any more: it is gone with the process, however that ends.
fn unnamed(folder: &std::path::Path) -> std::io::Result<File> {
    let path = folder.join(format!("driftless-spool-{}", uuid::Uuid::new_v4()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

fn full(e: std::io::Error) -> Error {
    Error::new(Code::DiskFull, "a large transaction cannot be spooled to disk; make room, or set spool-dir")
        .caused_by(e)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in_without_the_aborted(
            messages in proptest::collection::vec((0u32..4, proptest::collection::vec(b'a'..=b'z', 1..40)), 0..60),
            limit in 0usize..400,
            aborted in 0u32..4,
        ) {
            let mut spool = Spool::new(limit, std::env::temp_dir());
            for (xid, message) in &messages {
                spool.push(*xid, message.clone().into()).unwrap();
            }
            spool.abort(aborted);
            let mut replay = spool.finish().unwrap();
            let mut found = Vec::new();
            while let Some(message) = replay.next().unwrap() {
                found.push(message.to_vec());
            }
            let wanted: Vec<_> = messages.into_iter().filter(|m| m.0 != aborted).map(|m| m.1).collect();
            prop_assert_eq!(found, wanted);
        }
    }
}
