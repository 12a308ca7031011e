//! The node's name in its groups: kept in the data folder, so that a node that was killed and started
//! again is known by its groups and gets its partitions back at once. Only one process can have a name;
//! a second one on the same folder goes without, which only makes its restarts slower.

use crate::runtime::clock::Clock;
use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

/// The longest name that is taken from a file.
const NAME_BYTES_MAX: u64 = 100;

/// A name, and the lock that makes it this process' own.
#[derive(Debug)]
pub struct Identity {
    /// The name.
    pub name: String,
    _lock: File,
}

impl Identity {
    /// The name of the node whose data folder this is; made now if there is none. `None` if another
    /// process uses it, or the folder cannot be written.
    #[must_use]
    pub fn of(data_dir: &Path, clock: &dyn Clock) -> Option<Identity> {
        match Self::try_of(data_dir, clock) {
            Ok(identity) => identity,
            Err(error) => {
                tracing::debug!(%error, folder = %data_dir.display(), "the node has no name of its own");
                None
            }
        }
    }

    fn try_of(data_dir: &Path, clock: &dyn Clock) -> std::io::Result<Option<Identity>> {
        std::fs::create_dir_all(data_dir)?;
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(data_dir.join("node-id"))?;
        if file.try_lock().is_err() {
            return Ok(None);
        }
        let mut name = String::new();
        (&file).take(NAME_BYTES_MAX).read_to_string(&mut name)?;
        let mut name = name.trim().to_owned();
        if name.is_empty() {
            name = format!("driftless-{:032x}", clock.fresh_id());
            file.rewind()?;
            file.write_all(name.as_bytes())?;
            file.sync_all()?;
        }
        Ok(Some(Identity { name, _lock: file }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::clock::SystemClock;

    #[test]
    fn a_name_is_kept_and_only_one_process_has_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = Identity::of(folder.path(), &SystemClock).unwrap();
        assert!(Identity::of(folder.path(), &SystemClock).is_none(), "it is taken");
        let name = first.name.clone();
        drop(first);
        assert_eq!(Identity::of(folder.path(), &SystemClock).unwrap().name, name);
        let other = tempfile::tempdir().unwrap();
        assert_ne!(Identity::of(other.path(), &SystemClock).unwrap().name, name);
    }
}
