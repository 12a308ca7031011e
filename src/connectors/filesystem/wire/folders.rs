//! The stage folders of one partition: `stage/<dataset>.<collection>.<partition>.<epoch>` of its
//! owner, and those of earlier owners in `old/`, renamed there so that nothing can be exchanged out
//! of them any more (agent-1). The names hold no dot but those that part them.

use super::super::failure::failed;
use super::files::Dir;
use super::stage::{Entry, HOME, State};
use crate::runtime::error::{Code, Error, Result};
use rustix::fs::FileType;

/// The folders of a partition, as an owner sees them.
pub(crate) struct Folders {
    prefix: String,
    epoch: u64,
}

impl Folders {
    /// Of a partition of a collection, for the owner of `epoch`.
    pub(crate) fn new(dataset: &str, collection: &str, partition: u32, epoch: u64) -> Folders {
        Folders { prefix: format!("{dataset}.{collection}.{partition}"), epoch }
    }

    /// The owner's own folder.
    pub(crate) fn own(&self) -> String {
        format!("{HOME}/stage/{}.{}", self.prefix, self.epoch)
    }

    /// All folders in which an entry of the partition can be.
    pub(crate) fn all(&self, root: &Dir) -> Result<Vec<String>> {
        let mut folders = self.below(root, "stage")?;
        folders.extend(self.below(root, "old")?);
        Ok(folders.into_iter().map(|f| f.0).collect())
    }

    /// The entry of an intent.
    pub(crate) fn find(&self, root: &Dir, iid: u64) -> Result<Option<Entry>> {
        for folder in self.all(root)? {
            if let Some(entry) = Entry::find(root, &folder, iid)? {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// The entries whose content is an edit that must be reported.
    pub(crate) fn waiting(&self, root: &Dir) -> Result<Vec<Entry>> {
        let mut waiting = Vec::new();
        for folder in self.all(root)? {
            let entries = Entry::all(root, &folder)?.0;
            waiting.extend(entries.into_iter().filter(|e| matches!(e.state, State::Aside | State::Late)));
        }
        Ok(waiting)
    }

    /// Renames the folders of earlier owners away and makes the owner's own; returns all old ones.
    pub(crate) fn fence(&self, root: &Dir) -> Result<Vec<String>> {
        let (stage, old) = (format!("{HOME}/stage"), format!("{HOME}/old"));
        root.make_dirs(&old)?;
        root.make_dirs(&stage)?;
        for (path, epoch) in self.below(root, "stage")? {
            if epoch > self.epoch {
                let text = "another owner has taken over this partition";
                return Err(Error::new(Code::ClaimLost, text).at("folder", path));
            }
            if epoch < self.epoch {
                let away = format!("{old}/{}.{epoch}", self.prefix);
                root.put(&path, &away).map_err(|e| failed(e, "fence an older owner", &path))?;
            }
        }
        root.make_dirs(&self.own())?;
        root.sync(&old)?;
        root.sync(&stage)?;
        Ok(self.below(root, "old")?.into_iter().map(|f| f.0).collect())
    }

    fn below(&self, root: &Dir, kind: &str) -> Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        root.names(&format!("{HOME}/{kind}"), |name, file_type| {
            let rest = std::str::from_utf8(name).ok().and_then(|n| n.strip_prefix(&self.prefix)?.strip_prefix('.'));
            if let (Some(Ok(epoch)), FileType::Directory | FileType::Unknown) = (rest.map(str::parse), file_type) {
                found.push((format!("{HOME}/{kind}/{}.{epoch}", self.prefix), epoch));
            }
        })?;
        found.sort_by_key(|f| f.1);
        Ok(found)
    }
}
