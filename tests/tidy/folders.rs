//! Connector folders look alike, so that absence means something, and nobody outside knows their
//! names; and nothing grows without an excuse.

use super::layers::{connectors, reach};
use super::source::{File, functions, has_word, parts};
use super::{CONNECTOR_FILES, CONNECTOR_NAMES_ALLOWED, FILE_LINES_MAX, FUNCTION_LINES_MAX, LINES_MAX_BY_FILE};
use std::collections::BTreeMap;

pub(crate) fn check_connector_shape(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for name in connectors(files) {
        let folder = format!("src/connectors/{name}/");
        let inside: Vec<&str> = files.iter().filter_map(|file| file.path.strip_prefix(&folder)).collect();
        for must in ["README.md", "mod.rs"] {
            if !inside.contains(&must) {
                wrong.push(format!("{folder}{must} is missing; src/connectors/filesystem/ is the example to follow"));
            }
        }
        for path in &inside {
            let (top, nested) = path.split_once('/').map_or((*path, false), |(top, _)| (top, true));
            let known = CONNECTOR_FILES.iter().any(|allowed| match nested {
                false => *allowed == top,
                true => allowed.trim_end_matches(".rs") == top,
            });
            if !known {
                let allowed = CONNECTOR_FILES.join(" ");
                wrong.push(format!(
                    "{folder}{path}: a connector folder has these files only: {allowed} (each may become a folder of the \
                     same name). Put the code where a reader of another connector would look for it"
                ));
            }
        }
        wrong.extend(check_abilities(files, &folder, &inside));
    }
    wrong
}

/// What the descriptor promises must be there as a file, and the other way round.
fn check_abilities(files: &[File], folder: &str, inside: &[&str]) -> Vec<String> {
    let Some(entry) = files.iter().find(|file| file.path == format!("{folder}mod.rs")) else { return Vec::new() };
    let code: String = parts(&entry.text).code.split_whitespace().collect();
    let has =
        |name: &str| inside.iter().any(|path| *path == format!("{name}.rs") || path.starts_with(&format!("{name}/")));
    if !code.contains("Abilities{") {
        return vec![format!("{folder}mod.rs: DESCRIPTOR with its Abilities must stand here")];
    }
    let (log, hint) = (code.contains("Capture::Log"), code.contains("Capture::Hint"));
    let apply = code.contains("apply:true");
    let promised = [
        ("reader", log, "capture from a log"),
        ("snapshot", log, "a first copy from a log platform"),
        ("rows", apply && !hint, "to apply to a log platform"),
        ("store", hint, "to observe and write a hint store"),
    ];
    // The reader of a hint store tells which keys to look at; it may do without.
    let free = |name: &str| hint && name == "reader";
    let differs = promised.iter().filter(|(name, wanted, _)| has(name) != *wanted && !free(name));
    differs
        .map(|(name, wanted, what)| match wanted {
            true => format!("{folder}{name}.rs is missing, but the descriptor promises {what}"),
            false => format!("{folder}{name}.rs is there, but the descriptor does not promise {what}"),
        })
        .collect()
}

/// A connector costs two lines outside its folder: the list and its feature.
pub(crate) fn check_connector_names(files: &[File]) -> Vec<String> {
    let names = connectors(files);
    let (test_only, _) = reach(files);
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.is_source() && !test_only.contains(&file.path)) {
        if CONNECTOR_NAMES_ALLOWED.iter().any(|place| file.path.starts_with(place)) {
            continue;
        }
        let said = parts(&file.text).said.to_lowercase();
        for name in names.iter().filter(|name| !file.path.starts_with(&format!("src/connectors/{name}/"))) {
            if has_word(&said, name) {
                wrong.push(format!(
                    "{}: names the connector `{name}`; outside its folder only src/connectors/mod.rs and Cargo.toml may. \
                     Ask its DESCRIPTOR or its Abilities instead",
                    file.path
                ));
            }
        }
    }
    wrong
}

/// What is larger than allowed, by what the exception list calls it: a path, or `path fn name`.
fn large(files: &[File]) -> BTreeMap<String, (usize, usize)> {
    let (test_only, _) = reach(files);
    let mut found = BTreeMap::new();
    for file in files.iter().filter(|file| file.is_source() && !test_only.contains(&file.path)) {
        let cut = parts(&file.text);
        let limit = LINES_MAX_BY_FILE.iter().find(|(path, _)| *path == file.path).map_or(FILE_LINES_MAX, |row| row.1);
        if cut.lines > limit {
            found.insert(file.path.clone(), (cut.lines, limit));
        }
        for function in functions(&cut.code).into_iter().filter(|function| function.lines > FUNCTION_LINES_MAX) {
            let entry = found.entry(format!("{} fn {}", file.path, function.name)).or_insert((0, FUNCTION_LINES_MAX));
            entry.0 = entry.0.max(function.lines);
        }
    }
    found
}

/// The exception list carries sizes and may only shrink.
pub(crate) fn check_sizes(files: &[File], exceptions: &str) -> Vec<String> {
    let mut excused: BTreeMap<String, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for line in exceptions.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        match line.rsplit_once(' ').map(|(what, size)| (what, size.parse())) {
            Some((what, Ok(size))) => drop(excused.insert(what.to_owned(), size)),
            _ => wrong.push(format!("tests/tidy_exceptions.txt: `{line}` should read `<path> [fn <name>] <lines>`")),
        }
    }
    let found = large(files);
    for (what, (lines, limit)) in &found {
        match excused.get(what) {
            None => wrong.push(format!("{what}: {lines} production lines, allowed are {limit}; split it by what it does")),
            Some(size) if lines > size => wrong.push(format!(
                "{what}: grew to {lines} lines; its exception of {size} may only shrink. Split it instead"
            )),
            Some(size) if lines < size => wrong.push(format!(
                "{what}: shrank to {lines} lines (well done); write {lines} instead of {size} in tests/tidy_exceptions.txt"
            )),
            Some(_) => {}
        }
    }
    for what in excused.keys().filter(|what| !found.contains_key(*what)) {
        wrong.push(format!("tests/tidy_exceptions.txt: `{what}` is within the limit or gone; delete its line"));
    }
    wrong
}

/// Every file says first what it is for; no file is called by a name that fits everything.
pub(crate) fn check_heads(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.is_source()) {
        if !file.text.starts_with("//!") {
            wrong.push(format!(
                "{}: must begin with `//!` lines: what it is for, what it guarantees, what it does not do",
                file.path
            ));
        }
        let name = file.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
        if ["util", "utils", "common", "helper", "helpers", "manager", "misc"].contains(&name) {
            wrong.push(format!("{}: `{name}` says nothing; name the file after what it does", file.path));
        }
    }
    wrong
}

/// Nothing pretends to be finished, and no test is switched off.
pub(crate) fn check_unfinished(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let cut = parts(&file.text);
        let tests = super::source::blank(&cut.tests, super::source::Blank::CommentsAndStrings);
        let code = format!("{}\n{tests}", cut.code);
        let bans = [
            ("#[ignore", "a test that does not run proves nothing: make it run, or delete it"),
            ("todo!(", "leave it out until it works, and return an error that says so"),
            ("unimplemented!(", "leave it out until it works, and return an error that says so"),
            ("dbg!(", "remove it; a lasting message goes through tracing"),
        ];
        for (what, instead) in bans.iter().filter(|(what, _)| code.contains(what)) {
            wrong.push(format!("{}: `{what}`: {instead}", file.path));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "//! x\npub const D: Descriptor = Descriptor { abilities: Abilities { capture: \
                       Some(Capture::Log), apply: true } };";

    fn tree(files: &[(&str, &str)]) -> Vec<File> {
        files.iter().map(|(path, text)| File::new(path, text)).collect()
    }

    #[test]
    fn a_connector_folder_with_the_known_names_passes() {
        let files = tree(&[
            ("src/connectors/db/README.md", ""),
            ("src/connectors/db/mod.rs", LOG),
            ("src/connectors/db/reader.rs", ""),
            ("src/connectors/db/snapshot.rs", ""),
            ("src/connectors/db/rows/batch.rs", ""),
            ("src/connectors/db/testdata/a.bin", ""),
        ]);
        assert_eq!(check_connector_shape(&files), Vec::<String>::new());
    }

    #[test]
    fn a_strange_file_a_missing_readme_and_a_broken_promise_are_found() {
        let files = tree(&[
            ("src/connectors/db/mod.rs", LOG),
            ("src/connectors/db/reader.rs", ""),
            ("src/connectors/db/rows.rs", ""),
            ("src/connectors/db/stuff.rs", ""),
        ]);
        let wrong = check_connector_shape(&files);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
        assert!(wrong[0].contains("README.md is missing") && wrong[1].contains("stuff.rs"));
        assert!(wrong[2].contains("snapshot.rs is missing"));
    }

    #[test]
    fn a_connector_s_name_in_code_is_found_and_in_a_comment_or_test_is_not() {
        let files = tree(&[
            ("src/connectors/acme/mod.rs", "const NAME: &str = \"acme\";"),
            ("src/connectors/mod.rs", "pub mod acme;"),
            ("src/flow.rs", "fn f() { if name == \"acme\" {} }"),
            ("src/partition.rs", "// acme does this\n#[cfg(test)]\nmod tests { const N: &str = \"acme\"; }"),
        ]);
        let wrong = check_connector_names(&files);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].starts_with("src/flow.rs"));
    }

    fn long(lines: usize) -> String {
        format!("//! x\n{}", "const A: u8 = 0;\n".repeat(lines - 1))
    }

    #[test]
    fn a_large_file_needs_an_exception_that_fits_exactly() {
        let files = |lines| tree(&[("src/a.rs", &long(lines))]);
        assert!(check_sizes(&files(400), "").is_empty());
        assert!(check_sizes(&files(401), "")[0].contains("split it"));
        assert!(check_sizes(&files(450), "src/a.rs 450").is_empty());
        assert!(check_sizes(&files(451), "src/a.rs 450")[0].contains("may only shrink"));
        assert!(check_sizes(&files(449), "src/a.rs 450")[0].contains("write 449"));
        assert!(check_sizes(&files(400), "src/a.rs 450")[0].contains("delete its line"));
    }

    #[test]
    fn tests_do_not_count_and_functions_do() {
        let body = format!("//! x\nfn f() {{\n{}}}\n", "x();\n".repeat(60));
        let text = format!("{body}#[cfg(test)]\nmod tests {{\n{}}}\n", "fn x() {}\n".repeat(500));
        let wrong = check_sizes(&tree(&[("src/a.rs", &text)]), "");
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].starts_with("src/a.rs fn f: 62"));
        assert!(check_sizes(&tree(&[("src/a.rs", &text)]), "src/a.rs fn f 62").is_empty());
    }

    #[test]
    fn a_file_without_a_head_and_an_empty_name_are_found() {
        let wrong = check_heads(&tree(&[("src/a.rs", "//! a"), ("src/b.rs", "mod x;"), ("src/utils.rs", "//! u")]));
        assert_eq!(wrong.len(), 2, "{wrong:?}");
    }

    #[test]
    fn what_pretends_is_found_in_tests_too_but_not_in_strings() {
        let text = "fn f() { \"todo!()\"; } #[cfg(test)] mod t { #[ignore] fn g() { unimplemented!() } }";
        assert_eq!(check_unfinished(&tree(&[("src/a.rs", text)])).len(), 2);
    }
}
