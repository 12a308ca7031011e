//! The documents are true: what they name exists, what is called enforced is, every error has its
//! page, decisions are numbered; and the repository speaks of itself alone.

use super::source::{File, has_word, parts};
use super::{DOCUMENTED_FOLDERS, HOSTS, RULE_FAMILIES};
use std::collections::BTreeSet;

fn find<'a>(files: &'a [File], path: &str) -> Option<&'a File> {
    files.iter().find(|file| file.path == path)
}

/// What stands between single backticks, outside of code blocks.
fn spans(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// The targets of relative links.
fn links(text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains(':')).map(str::to_owned).collect()
}

fn plain(path: &str) -> bool {
    path.chars().all(|c| c.is_ascii_alphanumeric() || "./_-".contains(c)) && !path.starts_with('/')
}

/// The path from the root that `target` means when it stands in the document `from`.
fn resolve(from: &str, target: &str) -> String {
    let mut path: Vec<&str> = from.split('/').collect();
    path.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(path.pop()),
            part => path.push(part),
        }
    }
    path.join("/")
}

pub(crate) fn check_paths(files: &[File]) -> Vec<String> {
    let exists = |path: &str| {
        let path = path.trim_end_matches('/');
        files.iter().any(|file| file.path == path || file.path.starts_with(&format!("{path}/")))
    };
    let targets = make_targets(files);
    let mut wrong = Vec::new();
    for document in files.iter().filter(|file| file.is_document() && file.path != "CHANGELOG.md") {
        for span in spans(&document.text) {
            let is_path = DOCUMENTED_FOLDERS.iter().any(|folder| span.starts_with(folder)) && plain(&span);
            if is_path && !exists(&span) && !exists(&resolve(&document.path, &span)) {
                wrong.push(format!("{}: names `{span}`, which does not exist; correct the document", document.path));
            }
            let target = span.strip_prefix("make ").and_then(|rest| rest.split_whitespace().next());
            if let Some(target) = target.filter(|target| plain(target) && !targets.contains(*target)) {
                wrong.push(format!("{}: names `make {target}`, which the Makefile does not have", document.path));
            }
        }
        for link in links(&document.text).iter().filter(|link| plain(link)) {
            if !exists(&resolve(&document.path, link)) {
                wrong.push(format!("{}: links to {link}, which does not exist; correct the link", document.path));
            }
        }
    }
    wrong
}

fn make_targets(files: &[File]) -> BTreeSet<String> {
    let text = find(files, "Makefile").map_or("", |file| file.text.as_str());
    let target = |line: &str| {
        let (names, _) = line.split_once(':').filter(|_| !line.starts_with(['\t', '#', '.', ' ']))?;
        Some(names.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    };
    text.lines().filter_map(target).flatten().collect()
}

/// A Makefile is a table of contents: what is longer than five lines belongs into a script.
pub(crate) fn check_makefile(files: &[File]) -> Vec<String> {
    let Some(makefile) = find(files, "Makefile") else { return vec!["Makefile is missing".into()] };
    let mut wrong = Vec::new();
    let (mut target, mut lines) = ("", 0);
    for line in makefile.text.lines() {
        lines = if line.starts_with('\t') { lines + 1 } else { 0 };
        if lines == 0 && line.contains(':') {
            target = line.split(':').next().unwrap_or_default();
        }
        if lines == 6 {
            wrong.push(format!("Makefile: the recipe of `{target}` has more than 5 lines; move it into scripts/"));
        }
    }
    wrong
}

/// Each error code has a page and each page a code.
pub(crate) fn check_errors(files: &[File], codes: &[&str]) -> Vec<String> {
    let pages: BTreeSet<&str> = files
        .iter()
        .filter_map(|file| file.path.strip_prefix("docs/errors/")?.strip_suffix(".md"))
        .filter(|name| *name != "README")
        .collect();
    let codes: BTreeSet<&str> = codes.iter().copied().collect();
    let mut wrong: Vec<String> = Vec::new();
    for code in codes.difference(&pages) {
        wrong.push(format!("docs/errors/{code}.md is missing: write its cause, what driftless did, and what to do"));
    }
    for page in pages.difference(&codes) {
        wrong.push(format!("docs/errors/{page}.md: there is no such error code; delete the page or add the code"));
    }
    for page in pages.intersection(&codes) {
        let text = find(files, &format!("docs/errors/{page}.md")).map_or("", |file| file.text.as_str());
        for part in ["## Cause", "## What driftless did", "## What to do"] {
            if !text.contains(part) {
                wrong.push(format!("docs/errors/{page}.md: the part `{part}` is missing"));
            }
        }
    }
    wrong
}

/// A row of docs/INVARIANTS.md: an id and the marks in its second column.
struct Rule {
    id: String,
    marks: String,
}

/// Rows are checked up to the heading that says what is due later.
fn rules(text: &str) -> Vec<Rule> {
    let row = |line: &str| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let (id, marks) = (cells.next()?, cells.next()?);
        is_rule_id(id).then(|| Rule { id: id.into(), marks: marks.into() })
    };
    text.lines().filter_map(row).collect()
}

fn is_rule_id(id: &str) -> bool {
    let number = |rest: &str| !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit());
    ["P", "I"].iter().any(|letter| id.strip_prefix(letter).is_some_and(number))
        || id.split_once('-').is_some_and(|(family, rest)| RULE_FAMILIES.contains(&family) && number(rest))
}

/// The rule ids that a text mentions.
fn mentioned(text: &str) -> BTreeSet<String> {
    let joins = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let words = text.split(|c| !joins(c)).filter(|word| word.contains('-') && is_rule_id(word));
    words.map(str::to_owned).collect()
}

#[expect(clippy::print_stdout, reason = "a hint beside the result, seen with --nocapture")]
pub(crate) fn check_invariants(files: &[File]) -> Vec<String> {
    let Some(page) = find(files, "docs/INVARIANTS.md") else { return vec!["docs/INVARIANTS.md is missing".into()] };
    let test_only = super::layers::reach(files).0;
    let (mut source, mut tests) = (Vec::new(), Vec::new());
    for file in files.iter().filter(|file| file.is_rust() && !file.path.starts_with("tests/tidy")) {
        let cut = parts(&file.text);
        if file.is_source() && !test_only.contains(&file.path) {
            source.push((file.path.as_str(), cut.text));
            tests.push(cut.tests);
        } else {
            tests.push(file.text.clone());
        }
    }
    let rules = rules(&page.text);
    let mut wrong = Vec::new();
    let mut ids = BTreeSet::new();
    for rule in &rules {
        if !ids.insert(rule.id.as_str()) {
            wrong.push(format!("docs/INVARIANTS.md: {} stands there twice", rule.id));
        }
        let in_source = source.iter().any(|(_, text)| has_word(text, &rule.id));
        let in_tests = tests.iter().any(|text| has_word(text, &rule.id));
        let (enforced, tested) = (has_word(&rule.marks, "enforced"), has_word(&rule.marks, "tested"));
        if enforced && !in_source {
            wrong.push(format!(
                "{}: called enforced, but its id stands at no line in src; name the line, or the mark is due",
                rule.id
            ));
        }
        if tested && !in_tests {
            wrong.push(format!(
                "{}: called tested, but its id stands in no test; name the test, or the mark is due",
                rule.id
            ));
        }
        if rule.marks == "due" && in_source && in_tests {
            println!(
                "docs/INVARIANTS.md: {} stands in src and in a test; if both hold, mark it `enforced, tested`",
                rule.id
            );
        }
        if !enforced && !tested && rule.marks != "due" {
            wrong.push(format!("docs/INVARIANTS.md: {}: the mark is one of `enforced`, `tested`, `due`", rule.id));
        }
    }
    for (path, text) in &source {
        for id in mentioned(text).iter().filter(|id| !ids.contains(id.as_str())) {
            wrong.push(format!("{path}: names the rule {id}, which docs/INVARIANTS.md does not list"));
        }
    }
    wrong
}

/// Decisions are numbered without gaps and say why the alternatives lost.
pub(crate) fn check_decisions(files: &[File]) -> Vec<String> {
    let mut wrong = Vec::new();
    let decisions =
        files.iter().filter(|file| file.path.starts_with("docs/decisions/") && !file.path.ends_with("README.md"));
    for (index, file) in decisions.enumerate() {
        let name = file.path.trim_start_matches("docs/decisions/");
        if !name.starts_with(&format!("{:04}-", index + 1)) {
            wrong.push(format!("{}: decisions are called NNNN-slug.md, from 0001 on, without gaps", file.path));
        }
        for part in ["## Context", "## Decision", "## Alternatives", "## Consequences"] {
            if !file.text.contains(part) {
                wrong.push(format!("{}: the part `{part}` is missing", file.path));
            }
        }
    }
    wrong
}

pub(crate) fn check_lengths(files: &[File]) -> Vec<String> {
    let limits = [("docs/ARCHITECTURE.md", 400), ("docs/STYLE.md", 150)];
    let long = limits.iter().filter_map(|(path, limit)| {
        let lines = find(files, path)?.text.lines().count();
        (lines > *limit).then(|| format!("{path}: {lines} lines, allowed are {limit}; say less"))
    });
    long.collect()
}

/// The repository speaks of itself alone: no machine it was written on, no host it was fed from.
pub(crate) fn check_words(files: &[File]) -> Vec<String> {
    let words = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/tm", "p/bash")];
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.path != "LICENSE" && file.path != "tests/tidy/documents.rs") {
        for word in words.iter().filter(|word| mentions_path(&file.text, word)) {
            wrong.push(format!(
                "{}: names the machine path {word}; use a path from the root of the repository",
                file.path
            ));
        }
        for host in hosts(&file.text) {
            let known = HOSTS.iter().any(|known| host == *known || host.ends_with(&format!(".{known}")));
            if host.contains('.') && !host.chars().all(|c| c.is_ascii_digit() || c == '.') && !known {
                wrong.push(format!(
                    "{}: names the host {host}; if everybody can reach it, add it to HOSTS in tests/tidy.rs",
                    file.path
                ));
            }
        }
    }
    wrong
}

/// `src/x/` is no machine path: something stands before the slash.
fn mentions_path(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        !text[..at].chars().next_back().is_some_and(|c| c.is_ascii_alphanumeric() || "._-}$)*".contains(c))
    })
}

fn hosts(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for scheme in ["http://", "https://"] {
        for rest in text.split(scheme).skip(1) {
            let host: String =
                rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '.' || *c == '-').collect();
            found.insert(host.trim_end_matches('.').to_owned());
        }
    }
    found
}

/// Crates come from the public registry only.
pub(crate) fn check_lock(files: &[File]) -> Vec<String> {
    let text = find(files, "Cargo.lock").map_or("", |file| file.text.as_str());
    let sources = text.lines().filter(|line| line.starts_with("source = "));
    let strange = sources.filter(|line| !line.contains("\"registry+https://github.com/rust-lang/crates.io-index\""));
    strange.map(|line| format!("Cargo.lock: {line}: crates come from crates.io only")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Vec<File> {
        files.iter().map(|(path, text)| File::new(path, text)).collect()
    }

    #[test]
    fn a_path_a_link_and_a_make_target_must_exist() {
        let files = tree(&[
            ("Makefile", "CARGO := x\ntest: setup\n\tcargo test\n"),
            ("src/flow.rs", ""),
            (
                "docs/A.md",
                "`src/flow.rs` `src/gone.rs` `make test` `make tea` [b](B.md) [c](../src/flow.rs#x) `src/<x>`",
            ),
        ]);
        let wrong = check_paths(&files);
        assert_eq!(wrong.len(), 3, "{wrong:?}");
    }

    #[test]
    fn code_blocks_are_not_read() {
        assert_eq!(spans("a `b` c\n```\n`d`\n```\n`e`"), ["b", "e"]);
    }

    #[test]
    fn codes_and_pages_must_agree() {
        let page = "## Cause\n## What driftless did\n## What to do\n";
        let files = tree(&[("docs/errors/a.md", page), ("docs/errors/b.md", page), ("docs/errors/c.md", "## Cause")]);
        assert_eq!(check_errors(&files, &["a", "c", "d"]).len(), 4);
        assert!(check_errors(&files[..1], &["a"]).is_empty());
    }

    #[test]
    fn a_rule_called_enforced_and_tested_must_stand_in_both() {
        let page = "| id | mark | x |\n|---|---|---|\n| P1 | enforced, tested | x |\n| sink-1 | enforced | x |\n| I3 | due | x |";
        let source = "// P1\n#[cfg(test)]\nmod tests { // P1\n}";
        let files = |text: &str| tree(&[("docs/INVARIANTS.md", page), ("src/lib.rs", text)]);
        let wrong = check_invariants(&files(source));
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].starts_with("sink-1: called enforced"));
        assert!(check_invariants(&files(&format!("// sink-1\n{source}"))).is_empty());
        assert!(check_invariants(&files("// sink-1 P1"))[0].starts_with("P1: called tested"));
    }

    #[test]
    fn a_rule_that_is_not_listed_is_found() {
        let files = tree(&[("docs/INVARIANTS.md", "| read-1 | due | x |"), ("src/lib.rs", "// read-1 read-99 sha-2")]);
        let wrong = check_invariants(&files);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].contains("read-99"));
    }

    #[test]
    fn decisions_are_numbered() {
        let text = "## Context\n## Decision\n## Alternatives\n## Consequences\n";
        let files = tree(&[("docs/decisions/0001-a.md", text), ("docs/decisions/0003-b.md", text)]);
        assert_eq!(check_decisions(&files).len(), 1);
    }

    #[test]
    fn machine_paths_and_strange_hosts_are_found() {
        let path = format!("see {}x", concat!("/ro", "ot/"));
        let files = tree(&[
            ("a.md", &path),
            (
                "b.md",
                "https://mirror.corp.example-host.zz/x http://127.0.0.1:80 http://kafka:9092 https://www.apache.org/",
            ),
            ("c.md", "src/ro ot/ .cache/x my/root/x"),
        ]);
        let wrong = check_words(&files);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
    }

    #[test]
    fn a_long_recipe_and_a_strange_registry_are_found() {
        let files = tree(&[
            ("Makefile", "a:\n\t1\n\t2\n\t3\n\t4\n\t5\nb:\n\t1\n\t2\n\t3\n\t4\n\t5\n\t6\n"),
            (
                "Cargo.lock",
                "source = \"git+https://x\"\nsource = \"registry+https://github.com/rust-lang/crates.io-index\"",
            ),
        ]);
        assert_eq!(check_makefile(&files).len(), 1);
        assert_eq!(check_lock(&files).len(), 1);
    }
}
