//! The conditional write of a directory, exchange then verify (correctness.md §3.4), and its witness
//! (§3.5). The new content is made durable in a stage folder, exchanged with what lies in place, and
//! what came out is looked at: the expected content means it took effect, anything else is an edit
//! nobody has seen and goes back. **Nothing the application wrote is ever overwritten or removed
//! unseen**: it is in its place, or in the stage folder and reported. The README has the table of
//! crash points.
//!
//! Files of an entry: `<iid>` is the content, `<iid>.<state>` the note that says what was intended.

use super::super::failure::failed;
use super::files::{Dir, parent};
use crate::event::Token;
use crate::runtime::error::{Code, Error, Result};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Where everything of ours lies below the root.
pub(crate) const HOME: &str = ".driftless";
/// How often a restored content is exchanged again for a newer one.
const RESTORES_MAX: usize = 16;

/// What is known of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Sent or about to be: the files tell.
    Note,
    /// It took effect; the content is what it replaced.
    Done,
    /// It did not; the content is the one that was to be written.
    Back,
    /// It did not; the content is the application's and has no place.
    Aside,
    /// It took effect; the content was changed afterwards through an open file.
    Late,
}

impl State {
    const ALL: [State; 5] = [State::Note, State::Done, State::Back, State::Aside, State::Late];

    const fn ending(self) -> &'static str {
        match self {
            State::Note => "note",
            State::Done => "done",
            State::Back => "back",
            State::Aside => "aside",
            State::Late => "late",
        }
    }

    /// Whether the write took effect.
    pub(crate) const fn landed(self) -> bool {
        matches!(self, State::Done | State::Late)
    }
}

/// What was intended: enough to finish the work after a crash.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Note {
    /// The target's path below the root.
    pub(crate) path: String,
    /// Token of the new content; none for a deletion.
    new: Option<Vec<u8>>,
    /// Token of the content it may replace; none for a new file.
    expect: Option<Vec<u8>>,
}

/// Points between which a crash makes a difference; tests stop there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// The new content is durable in the stage folder.
    Staged,
    /// The note is too: from here on the write may take effect.
    Noted,
    /// The rename was done.
    Renamed,
    /// What came out is known to be not what was expected.
    Unexpected,
    /// It was exchanged back.
    Restored,
    /// The state is written down.
    Marked,
}

/// Called at each step; an error stops the work there.
pub(crate) type Hook<'a> = &'a dyn Fn(Step) -> Result<()>;

/// An entry of a stage folder.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// The folder's path below the root.
    pub(crate) folder: String,
    /// The intent's id.
    pub(crate) iid: u64,
    /// What is known of it.
    pub(crate) state: State,
}

impl Entry {
    /// The path of its content.
    pub(crate) fn content(&self) -> String {
        format!("{}/{:016x}", self.folder, self.iid)
    }

    /// The path of its note.
    pub(crate) fn note(&self) -> String {
        format!("{}.{}", self.content(), self.state.ending())
    }

    /// The entry of an intent in a folder.
    pub(crate) fn find(root: &Dir, folder: &str, iid: u64) -> Result<Option<Entry>> {
        for state in State::ALL {
            let entry = Entry { folder: folder.to_owned(), iid, state };
            if root.kind(&entry.note())?.is_some() {
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// All entries of a folder, and the contents without a note: never sent, or already verified.
    pub(crate) fn all(root: &Dir, folder: &str) -> Result<(Vec<Entry>, Vec<String>)> {
        let (mut entries, mut contents) = (Vec::new(), Vec::new());
        root.names(folder, |name, _| {
            let Ok(name) = std::str::from_utf8(name) else { return };
            let (iid, ending) = name.split_once('.').unwrap_or((name, ""));
            let Ok(iid) = u64::from_str_radix(iid, 16) else { return };
            match State::ALL.into_iter().find(|s| s.ending() == ending) {
                Some(state) => entries.push(Entry { folder: folder.to_owned(), iid, state }),
                None if ending.is_empty() => contents.push(iid),
                None => {}
            }
        })?;
        entries.sort_by_key(|e| e.iid);
        contents.retain(|iid| !entries.iter().any(|e| e.iid == *iid));
        Ok((entries, contents.iter().map(|iid| format!("{folder}/{iid:016x}")).collect()))
    }

    /// What was intended; `None` if the note is torn, so that nothing was sent.
    pub(crate) fn read(&self, root: &Dir) -> Result<Option<Note>> {
        match root.look(&self.note(), u64::MAX)? {
            super::files::Found::File(content, _) => Ok(serde_json::from_slice(&content).ok()),
            _ => Ok(None),
        }
    }

    /// Writes down what became of it. Durable only after the folder's `sync`.
    pub(crate) fn mark(&mut self, root: &Dir, state: State) -> Result<()> {
        let before = self.note();
        self.state = state;
        match root.put(&before, &self.note()) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => Err(fenced(&self.folder)),
            Err(e) => Err(failed(e, "note the outcome of a write", &before)),
        }
    }

    /// Forgets the entry and its content. The note goes first: a content without one is ours to remove.
    pub(crate) fn forget(&self, root: &Dir) -> Result<()> {
        root.remove(&self.note())?;
        root.remove(&self.content())
    }

    /// Whether the content is still what the state says, so that nobody else has changed it.
    pub(crate) fn untouched(&self, root: &Dir, note: &Note) -> Result<bool> {
        let token = root.token_at(&self.content())?.map(|t| t.0.to_vec());
        Ok(token.is_none() || token == if self.state == State::Done { note.expect.clone() } else { note.new.clone() })
    }

    /// Its grace is over: removes a content that is as it was verified, and with `forget` the witness
    /// too; one that was changed meanwhile is an edit that must be reported.
    pub(crate) fn finish(&mut self, root: &Dir, forget: bool) -> Result<()> {
        let note = self.read(root)?;
        let untouched = note.as_ref().map_or(Ok(true), |note| self.untouched(root, note))?;
        match (untouched, self.state) {
            (true, State::Done | State::Back) if forget => self.forget(root),
            (true, State::Done | State::Back) => root.remove(&self.content()),
            (false, State::Done) => self.mark(root, State::Late),
            (false, State::Back) => self.mark(root, State::Aside),
            _ => Ok(()),
        }
    }

    /// Finds out, after the rename or after a crash at any point, what became of the write; puts an
    /// unseen content back. Idempotent. The stage side is always named by its path from the root.
    pub(crate) fn resolve(&mut self, root: &Dir, hook: Hook<'_>) -> Result<State> {
        if self.state != State::Note {
            return Ok(self.state);
        }
        let Some(note) = self.read(root)? else {
            self.mark(root, State::Back)?;
            return Ok(State::Back);
        };
        let ours = self.content();
        let token = root.token_at(&ours)?.map(|t| t.0.to_vec());
        let state = match (&note.new, &note.expect, &token) {
            // Created: the content has left the stage folder.
            (Some(_), None, None) => State::Done,
            (Some(_), None, Some(_)) => State::Back,
            // Deleted: it has come into it.
            (None, _, None) => State::Back,
            (None, expect, token) if token == expect => State::Done,
            (None, ..) => {
                hook(Step::Unexpected)?;
                match root.put(&ours, &note.path) {
                    Ok(()) => State::Back,
                    Err(_) => State::Aside,
                }
            }
            // Replaced: the content is the new one before, the old one after.
            (Some(_), Some(_), None) => State::Back,
            (Some(new), _, Some(token)) if token == new => State::Back,
            (Some(_), Some(expect), Some(token)) if token == expect => State::Done,
            (Some(new), Some(_), Some(token)) => restore(root, &ours, &note.path, new, token, hook)?,
        };
        if state == State::Back && note.new.is_none() {
            root.sync(parent(&note.path))?;
        }
        self.mark(root, state)?;
        hook(Step::Marked)?;
        Ok(state)
    }
}

/// Puts back what an exchange took out unseen, as long as the place holds what we put there. Each
/// exchange may take out something newer still, which then goes back in its turn. What is left in
/// the stage folder in the end is our own content, or one of the application's that has no place.
fn restore(root: &Dir, ours: &str, target: &str, new: &[u8], taken: &[u8], hook: Hook<'_>) -> Result<State> {
    hook(Step::Unexpected)?;
    let (mut put, mut taken) = (new.to_vec(), taken.to_vec());
    for _ in 0..RESTORES_MAX {
        if root.token_at(target)?.map(|t| t.0.to_vec()) != Some(put.clone()) {
            return Ok(State::Aside); // The application has written on top: it stays.
        }
        match root.exchange(ours, target) {
            Ok(()) => hook(Step::Restored)?,
            Err(Errno::NOENT) => match root.kind(ours)? {
                Some(_) => return Ok(State::Aside),
                None => return Err(fenced(ours)),
            },
            Err(e) => return Err(failed(e, "put an unseen edit back", target)),
        }
        let out = root.token_at(ours)?.map(|t| t.0.to_vec()).unwrap_or_default();
        if out == put {
            return Ok(if put == new { State::Back } else { State::Aside });
        }
        (put, taken) = (taken, out);
    }
    Ok(State::Aside)
}

/// A write to be done.
pub(crate) struct Write<'a> {
    /// The stage folder of the owner's epoch.
    pub(crate) folder: &'a str,
    /// The intent's id.
    pub(crate) iid: u64,
    /// The target.
    pub(crate) path: &'a str,
    /// The new content; `None` deletes.
    pub(crate) content: Option<&'a [u8]>,
    /// The token of what it may replace; `None` for nothing.
    pub(crate) expect: Option<&'a Token>,
}

/// One conditional write; answers with the entry and what became of it.
pub(crate) fn write(root: &Dir, write: &Write<'_>, hook: Hook<'_>) -> Result<Entry> {
    let bytes = |t: &Token| t.0.to_vec();
    let new = write.content.map(super::files::token);
    let note = Note { path: write.path.to_owned(), new: new.as_ref().map(bytes), expect: write.expect.map(bytes) };
    let mut entry = Entry { folder: write.folder.to_owned(), iid: write.iid, state: State::Note };
    if root.kind(write.folder)?.is_none() {
        return Err(fenced(write.folder));
    }
    if let Some(content) = write.content {
        if write.expect.is_none() {
            root.make_dirs(parent(write.path))?;
        }
        root.create(&entry.content(), content, write.expect.map(|_| write.path))
            .map_err(|e| gone(root, write.folder, e))?;
        hook(Step::Staged)?;
    }
    let text =
        serde_json::to_vec(&note).map_err(|e| Error::new(Code::Unexpected, "cannot write a note").caused_by(e))?;
    root.create(&entry.note(), &text, None).map_err(|e| gone(root, write.folder, e))?;
    root.sync(write.folder).map_err(|e| gone(root, write.folder, e))?;
    hook(Step::Noted)?;
    let ours = entry.content();
    let answer = match (write.content, write.expect) {
        (Some(_), Some(_)) => root.exchange(&ours, write.path),
        (Some(_), None) => root.put(&ours, write.path),
        (None, _) => root.take(write.path, &ours),
    };
    hook(Step::Renamed)?;
    if Entry::find(root, write.folder, write.iid)?.is_none() {
        return Err(fenced(write.folder)); // The new owner has the folder, and finds out.
    }
    let state = entry.resolve(root, hook)?;
    root.sync(write.folder).map_err(|e| gone(root, write.folder, e))?;
    if state.landed() {
        root.sync(parent(write.path))?;
        return Ok(entry);
    }
    match answer {
        // Nothing there, or something there already, or something in between that is no directory.
        Ok(()) | Err(Errno::NOENT | Errno::EXIST | Errno::NOTDIR | Errno::LOOP) => Ok(entry),
        Err(e) => Err(failed(e, "replace a file", write.path)),
    }
}

fn gone(root: &Dir, folder: &str, error: Error) -> Error {
    if matches!(root.kind(folder), Ok(None)) { fenced(folder) } else { error }
}

fn fenced(folder: &str) -> Error {
    Error::new(Code::ClaimLost, "another owner has taken over this partition").at("folder", folder)
}
