//! Files below one directory. No call here follows a symbolic link or leaves the directory, whatever
//! the application does to it meanwhile; special files are never opened. Renames never overwrite.

use super::super::failure::{failed, failed_io, too_large};
use crate::event::Token;
use crate::runtime::error::Result;
use rustix::fs::{self, AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// What tells two states of a file apart without reading it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Stamp {
    inode: u64,
    bytes: i64,
    modified_ns: i128,
    changed_ns: i128,
    /// Milliseconds since 1970 of its last write.
    pub(crate) modified_ms: u64,
}

/// What lies at a path.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Found {
    /// Nothing; with the stamp of the directory it would be in, if that exists.
    Absent(Stamp),
    /// A file.
    File(Vec<u8>, Stamp),
    /// Something that is no record's file, and what.
    Odd(String, Stamp),
}

impl Found {
    /// What this state is named by; `None` for nothing.
    pub(crate) fn token(&self) -> Option<Token> {
        match self {
            Found::Absent(_) => None,
            Found::File(content, _) => Some(token(content)),
            Found::Odd(what, _) => Some(odd_token(what)),
        }
    }
}

/// What the state of a content is named by: its hash and its length.
pub(crate) fn token(content: &[u8]) -> Token {
    let mut hasher = blake3::Hasher::new();
    hasher.update(content);
    finish(&hasher)
}

fn finish(hasher: &blake3::Hasher) -> Token {
    let mut bytes = [0; 24];
    let (hash, length) = bytes.split_at_mut(16);
    hasher.finalize_xof().fill(hash);
    length.copy_from_slice(&hasher.count().to_be_bytes());
    Token(bytes.to_vec().into())
}

/// An opened directory.
#[derive(Debug)]
pub(crate) struct Dir(OwnedFd);

/// Only below the directory, and through no link.
const BELOW: ResolveFlags = ResolveFlags::BENEATH.union(ResolveFlags::NO_SYMLINKS).union(ResolveFlags::NO_MAGICLINKS);

impl Dir {
    /// Opens the root. Opened for each piece of work, so that an unmounted root is noticed.
    pub(crate) fn root(path: &Path) -> Result<Dir> {
        fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map(Dir)
            .map_err(|e| failed(e, "open the directory", &path.to_string_lossy()))
    }

    /// Opens what lies at `path`.
    fn open(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o666) } else { Mode::empty() };
        let mut tries = 0;
        loop {
            match fs::openat2(&self.0, path, flags | OFlags::CLOEXEC | OFlags::NOFOLLOW, mode, BELOW) {
                // The kernel could not exclude that a concurrent rename led it outside.
                Err(Errno::AGAIN) if tries < 64 => tries += 1,
                answer => return answer,
            }
        }
    }

    /// What kind of thing lies at `path`, links not followed; `None` for nothing.
    pub(crate) fn kind(&self, path: &str) -> Result<Option<(FileType, Stamp)>> {
        match self.open(path, OFlags::PATH).and_then(fs::fstat) {
            Ok(stat) => Ok(Some((FileType::from_raw_mode(stat.st_mode), stamp(&stat)))),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(e) => Err(failed(e, "look at a file", path)),
        }
    }

    /// Reads what lies at `path`, up to `bytes_max`.
    pub(crate) fn look(&self, path: &str, bytes_max: u64) -> Result<Found> {
        let (kind, stamp_before) = match self.open(path, OFlags::PATH).and_then(fs::fstat) {
            Ok(stat) => (FileType::from_raw_mode(stat.st_mode), stamp(&stat)),
            Err(Errno::NOENT | Errno::NOTDIR) => {
                let parent = self.kind(parent(path)).ok().flatten();
                return Ok(Found::Absent(parent.map_or_else(Stamp::default, |(_, stamp)| stamp)));
            }
            Err(Errno::LOOP | Errno::XDEV) => {
                return Ok(Found::Odd("path_escapes: its path leads through a symbolic link".into(), Stamp::default()));
            }
            Err(e) => return Err(failed(e, "look at a file", path)),
        };
        match kind {
            FileType::RegularFile => {}
            FileType::Symlink => return Ok(Found::Odd("path_escapes: it is a symbolic link".into(), stamp_before)),
            FileType::Directory => return Ok(Found::Odd("it is a directory".into(), stamp_before)),
            _ => return Ok(Found::Odd("it is a special file".into(), stamp_before)),
        }
        let Ok(fd) = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) else {
            return self.reopen_failed(path);
        };
        let stat = fs::fstat(&fd).map_err(|e| failed(e, "look at a file", path))?;
        if stat.st_size.cast_unsigned() > bytes_max {
            return Ok(Found::Odd(too_large(bytes_max), stamp(&stat)));
        }
        let mut content = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0));
        File::from(fd).read_to_end(&mut content).map_err(|e| failed_io(&e, "read a file", path))?;
        Ok(Found::File(content, stamp(&stat)))
    }

    /// A file that was there and cannot be opened for reading: gone meanwhile, or denied.
    fn reopen_failed(&self, path: &str) -> Result<Found> {
        match self.open(path, OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(_) | Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(Found::Absent(Stamp::default())),
            Err(e) => Err(failed(e, "read a file", path)),
        }
    }

    /// The token of what lies at `path`; `None` for nothing. What is no file has the token of its kind.
    pub(crate) fn token_at(&self, path: &str) -> Result<Option<Token>> {
        match self.kind(path)? {
            None => Ok(None),
            Some((FileType::RegularFile, _)) => {
                let fd = match self.open(path, OFlags::RDONLY | OFlags::NONBLOCK) {
                    Ok(fd) => fd,
                    Err(Errno::NOENT) => return Ok(None),
                    Err(e) => return Err(failed(e, "read a file", path)),
                };
                let mut hasher = blake3::Hasher::new();
                hasher.update_reader(File::from(fd)).map_err(|e| failed_io(&e, "read a file", path))?;
                Ok(Some(finish(&hasher)))
            }
            Some((kind, stamp)) => Ok(Some(odd_token(&format!("{kind:?} {}", stamp.inode)))),
        }
    }

    /// Writes a new file and makes its content durable. `like` is a file whose rights it gets.
    pub(crate) fn create(&self, path: &str, content: &[u8], like: Option<&str>) -> Result<()> {
        let fail = |e| failed(e, "write a file", path);
        let fd = self.open(path, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL).map_err(fail)?;
        if let Some(Ok(stat)) = like.map(|l| self.open(l, OFlags::PATH).and_then(fs::fstat)) {
            // The owner can be kept only by a privileged process; the rights are set after it,
            // because a change of owner clears some.
            let (owner, group) = (fs::Uid::from_raw(stat.st_uid), fs::Gid::from_raw(stat.st_gid));
            let _ = fs::fchown(&fd, Some(owner), Some(group));
            fs::fchmod(&fd, Mode::from_raw_mode(stat.st_mode & 0o777)).map_err(fail)?;
        }
        let mut file = File::from(fd);
        file.write_all(content).and_then(|()| file.sync_all()).map_err(|e| failed_io(&e, "write a file", path))
    }

    /// Makes a directory and those above it.
    pub(crate) fn make_dirs(&self, path: &str) -> Result<()> {
        if path.is_empty() || self.open(path, OFlags::PATH | OFlags::DIRECTORY).is_ok() {
            return Ok(());
        }
        self.make_dirs(parent(path))?;
        let above = self
            .open(parent(path), OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|e| failed(e, "make a directory", path))?;
        match fs::mkdirat(&above, name(path), Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(e) => return Err(failed(e, "make a directory", path)),
        }
        if self.open(path, OFlags::PATH | OFlags::DIRECTORY).is_err() {
            return Err(failed(Errno::LOOP, "make a directory: something else stands there", path));
        }
        self.sync(parent(path))
    }

    /// Puts what lies at `ours` into the place of what lies at `target`, and the other way round.
    /// `ours` is named by its path from the root, so that a renamed folder makes it fail (agent-1).
    pub(crate) fn exchange(&self, ours: &str, target: &str) -> rustix::io::Result<()> {
        let above = self.open(parent(target), OFlags::PATH | OFlags::DIRECTORY)?;
        fs::renameat_with(&self.0, ours, &above, name(target), RenameFlags::EXCHANGE)
    }

    /// Moves `ours` to `target` if nothing is there.
    pub(crate) fn put(&self, ours: &str, target: &str) -> rustix::io::Result<()> {
        let above = self.open(parent(target), OFlags::PATH | OFlags::DIRECTORY)?;
        fs::renameat_with(&self.0, ours, &above, name(target), RenameFlags::NOREPLACE)
    }

    /// Moves `target` to `ours`, where nothing is.
    pub(crate) fn take(&self, target: &str, ours: &str) -> rustix::io::Result<()> {
        let above = self.open(parent(target), OFlags::PATH | OFlags::DIRECTORY)?;
        fs::renameat_with(&above, name(target), &self.0, ours, RenameFlags::NOREPLACE)
    }

    /// Removes a file of our own; one that is gone is no error.
    pub(crate) fn remove(&self, path: &str) -> Result<()> {
        self.unlink(path, AtFlags::empty())
    }

    /// Removes an empty directory of our own.
    pub(crate) fn remove_dir(&self, path: &str) -> Result<()> {
        self.unlink(path, AtFlags::REMOVEDIR)
    }

    fn unlink(&self, path: &str, flags: AtFlags) -> Result<()> {
        match fs::unlinkat(&self.0, path, flags) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(e) => Err(failed(e, "remove a file", path)),
        }
    }

    /// Makes the names in a directory durable.
    pub(crate) fn sync(&self, path: &str) -> Result<()> {
        let fd =
            self.open(path, OFlags::RDONLY | OFlags::DIRECTORY).map_err(|e| failed(e, "open a directory", path))?;
        fs::fsync(&fd).map_err(|e| failed(e, "make a directory durable", path))
    }

    /// Calls `each` with the names in a directory, in no order; a directory that is gone has none.
    pub(crate) fn names(&self, path: &str, mut each: impl FnMut(&[u8], FileType)) -> Result<()> {
        let fail = |e| failed(e, "list a directory", path);
        let fd = match self.open(path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(fd) => fd,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(e) => return Err(fail(e)),
        };
        for entry in fs::Dir::new(fd).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                each(name, entry.file_type());
            }
        }
        Ok(())
    }
}

/// The token of something that is no file.
fn odd_token(what: &str) -> Token {
    token(format!("\0no file: {what}").as_bytes())
}

/// The directory part of a path.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(above, _)| above)
}

fn name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

fn stamp(stat: &fs::Stat) -> Stamp {
    let nanoseconds = |seconds: i64, nanos: u64| i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    #[expect(clippy::unnecessary_cast, reason = "the widths differ between platforms")]
    let (modified_ns, changed_ns) = (
        nanoseconds(stat.st_mtime as i64, stat.st_mtime_nsec as u64),
        nanoseconds(stat.st_ctime as i64, stat.st_ctime_nsec as u64),
    );
    let modified_ms = u64::try_from(modified_ns / 1_000_000).unwrap_or(0);
    Stamp { inode: stat.st_ino, bytes: stat.st_size, modified_ns, changed_ns, modified_ms }
}
