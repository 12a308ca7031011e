//! The other half of the file layer: builds it, and takes back what was not synced.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

const RECORD: usize = 64;

/// Where a run under the layer keeps its things.
pub(crate) struct Layer {
    /// The directory that is watched.
    pub dir: PathBuf,
    library: PathBuf,
    trace: PathBuf,
    grave: PathBuf,
}

/// What a power cut leaves of the writes that were not synced.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cut {
    /// Nothing.
    Nothing,
    /// The first ones; the last of these is torn in its middle.
    Torn,
    /// Any pages of any of them: a disk writes in an order of its own.
    AnyPages,
}

/// A small generator of numbers; a test names its seed.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit.max(1)
    }
}

struct Note {
    kind: u64,
    file: u64,
    dir: u64,
    offset: u64,
    old_size: u64,
    len: u64,
    mark: u64,
    extra: Vec<u8>,
}

impl Layer {
    /// Builds the layer below `root`.
    pub(crate) fn build(root: &Path) -> Layer {
        let library = root.join("powerloss.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/powerloss/powerloss.c");
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).arg("-lpthread");
        assert!(compiler.status().expect("a C compiler is installed").success(), "the file layer compiles");
        let dir = root.join("data");
        let grave = root.join("grave");
        fs::create_dir_all(&dir).unwrap();
        fs::create_dir_all(&grave).unwrap();
        Layer { dir: dir.canonicalize().unwrap(), library, trace: root.join("trace"), grave }
    }

    /// What a process under the layer needs in its environment.
    pub(crate) fn environment(&self) -> Vec<(&'static str, OsString)> {
        vec![
            ("LD_PRELOAD", self.library.clone().into()),
            ("POWERLOSS_DIR", self.dir.clone().into()),
            ("POWERLOSS_TRACE", self.trace.clone().into()),
            ("POWERLOSS_GRAVE", self.grave.clone().into()),
        ]
    }

    /// Takes up a layer in the process that runs under it.
    pub(crate) fn of_this_process(root: &Path) -> Layer {
        let (library, trace, grave) = (root.join("powerloss.so"), root.join("trace"), root.join("grave"));
        Layer { dir: root.join("data").canonicalize().unwrap(), library, trace, grave }
    }

    /// Switches the layer off in this process while `work` runs.
    pub(crate) fn paused<T>(work: impl FnOnce() -> T) -> T {
        let _ = File::open("/powerloss/pause");
        let done = work();
        let _ = File::open("/powerloss/resume");
        done
    }

    /// Cuts the power: takes back what was not synced, and begins a new trace. Returns how many
    /// changes were taken back.
    pub(crate) fn cut(&self, cut: Cut, random: &mut Random) -> usize {
        let notes = parse(&fs::read(&self.trace).unwrap());
        let mut synced: HashMap<u64, usize> = HashMap::new();
        for note in notes.iter().filter(|n| n.kind == 3) {
            let upto = synced.entry(note.file).or_default();
            *upto = (*upto).max(note.mark as usize);
        }
        let mut lost = HashMap::new();
        let mut count = 0;
        for (number, note) in notes.iter().enumerate().rev() {
            let owner = if note.kind <= 3 { note.file } else { note.dir };
            if note.kind == 3 || synced.get(&owner).is_some_and(|upto| number < *upto) {
                continue;
            }
            count += 1;
            let paths = self.paths();
            match note.kind {
                1 | 2 => {
                    if let Some(path) = paths.get(&note.file) {
                        let new = undo(path, note);
                        lost.entry(note.file).or_insert_with(Vec::new).push((note, new));
                    }
                }
                4 => drop(paths.get(&note.file).map(fs::remove_file)),
                _ => self.restore(note, &paths),
            }
        }
        let paths = self.paths();
        for (file, mut writes) in lost {
            writes.reverse();
            if let Some(path) = paths.get(&file) {
                redo(path, &writes, cut, random);
            }
        }
        fs::write(&self.trace, b"").unwrap();
        fs::remove_dir_all(&self.grave).unwrap();
        fs::create_dir_all(&self.grave).unwrap();
        count
    }

    /// All files by number.
    fn paths(&self) -> HashMap<u64, PathBuf> {
        let mut found = HashMap::new();
        let mut open = vec![self.grave.clone(), self.dir.clone()];
        found.insert(fs::metadata(&self.dir).unwrap().ino(), self.dir.clone());
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                found.insert(entry.metadata().unwrap().ino(), entry.path());
                if entry.file_type().unwrap().is_dir() {
                    open.push(entry.path());
                }
            }
        }
        found
    }

    fn restore(&self, note: &Note, paths: &HashMap<u64, PathBuf>) {
        let tomb = self.grave.join(format!("{}-{}", note.old_size, note.mark));
        if let Some(dir) = paths.get(&note.dir) {
            let name = String::from_utf8(note.extra.clone()).unwrap();
            let _ = fs::hard_link(tomb, dir.join(name));
        }
    }
}

fn parse(mut data: &[u8]) -> Vec<Note> {
    let mut notes = Vec::new();
    while let Some((head, rest)) = data.split_at_checked(RECORD) {
        let field = |n: usize| u64::from_ne_bytes(head[n * 8..n * 8 + 8].try_into().unwrap());
        // The kill may have cut the last note off.
        let Some((extra, rest)) = rest.split_at_checked(field(7) as usize) else { break };
        let (kind, file, dir, offset, old_size) = (field(0), field(1), field(2), field(3), field(4));
        notes.push(Note { kind, file, dir, offset, old_size, len: field(5), mark: field(6), extra: extra.to_vec() });
        data = rest;
    }
    notes
}

/// Takes a change of a file back and returns what it had written.
fn undo(path: &Path, note: &Note) -> Vec<u8> {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let size = file.metadata().unwrap().len();
    let end = if note.kind == 1 { (note.offset + note.len).min(size) } else { note.offset };
    let mut new = vec![0; end.saturating_sub(note.offset) as usize];
    file.read_exact_at(&mut new, note.offset).unwrap();
    file.set_len(note.old_size).unwrap();
    file.write_all_at(&note.extra, note.offset).unwrap();
    file.set_len(note.old_size).unwrap();
    new
}

/// Lets some of the lost writes reach the disk after all.
fn redo(path: &Path, writes: &[(&Note, Vec<u8>)], cut: Cut, random: &mut Random) {
    let file = File::options().write(true).open(path).unwrap();
    let whole = random.below(writes.len() as u64) as usize;
    for (number, (note, new)) in writes.iter().enumerate() {
        match cut {
            Cut::Nothing => {}
            Cut::Torn if note.kind == 2 && number <= whole => file.set_len(note.offset).unwrap(),
            Cut::Torn if number < whole => file.write_all_at(new, note.offset).unwrap(),
            Cut::Torn if number == whole => file.write_all_at(&new[..new.len() / 2], note.offset).unwrap(),
            Cut::Torn => {}
            Cut::AnyPages => {
                for (page, bytes) in new.chunks(4096).enumerate() {
                    if random.below(2) == 0 {
                        file.write_all_at(bytes, note.offset + page as u64 * 4096).unwrap();
                    }
                }
            }
        }
    }
}
