//! Reading Rust source without a parser: enough to find paths, functions and test code.
//! It knows comments, strings and braces; it does not know types or macros.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// A file of the repository: its path from the root, with `/`, and its text (empty if binary).
pub(crate) struct File {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        File { path: path.into(), text: text.into() }
    }

    pub(crate) fn is_source(&self) -> bool {
        self.path.starts_with("src/") && self.path.ends_with(".rs")
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(crate) fn is_document(&self) -> bool {
        self.path.ends_with(".md")
    }
}

/// What git tracks or would track, so that a new file is checked before it is committed.
pub(crate) fn repository() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .expect("git must be installed: tidy looks at the files that git knows");
    assert!(listed.status.success(), "git ls-files failed: run the tests inside a clone of the repository");
    let paths: BTreeSet<String> = String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect();
    let read = |path: String| {
        let bytes = std::fs::read(root.join(&path)).ok()?;
        let text = if bytes.contains(&0) { String::new() } else { String::from_utf8_lossy(&bytes).into_owned() };
        Some(File { path, text })
    };
    paths.into_iter().filter_map(read).collect()
}

/// Which parts of the text are blanked out; lines keep their numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blank {
    Comments,
    CommentsAndStrings,
}

/// The text with comments (and the contents of strings) replaced by spaces.
pub(crate) fn blank(text: &str, what: Blank) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => line_end(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => block_end(&chars, at),
            '"' => string_end(&chars, at),
            'r' if !follows_word(&chars, at) && raw_hashes(&chars, at).is_some() => raw_end(&chars, at),
            '\'' => char_end(&chars, at),
            _ => at + 1,
        };
        let comment = chars[at] == '/' && end > at + 1;
        let string = !comment && end > at + 1;
        let hide = comment || (string && what == Blank::CommentsAndStrings);
        out.extend(chars[at..end].iter().map(|&c| if hide && c != '\n' { ' ' } else { c }));
        at = end;
    }
    out
}

fn follows_word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_') && chars[at - 1] != 'b'
}

fn line_end(chars: &[char], at: usize) -> usize {
    (at..chars.len()).find(|&i| chars[i] == '\n').unwrap_or(chars.len())
}

fn block_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0usize, at);
    while i + 1 < chars.len() {
        match (chars[i], chars[i + 1]) {
            ('/', '*') => (depth, i) = (depth + 1, i + 2),
            ('*', '/') if depth == 1 => return i + 2,
            ('*', '/') => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
    }
    chars.len()
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

fn raw_hashes(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
    (chars.get(at + 1 + hashes) == Some(&'"')).then_some(hashes)
}

fn raw_end(chars: &[char], at: usize) -> usize {
    let hashes = raw_hashes(chars, at).unwrap_or(0);
    let start = at + hashes + 2;
    let closes = |i: usize| chars[i] == '"' && chars[i + 1..].iter().take_while(|&&c| c == '#').count() >= hashes;
    (start..chars.len()).find(|&i| closes(i)).map_or(chars.len(), |i| i + 1 + hashes)
}

/// A character literal ends at its quote; a lifetime is only the quote.
fn char_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            let from = at + 3;
            (from..chars.len().min(at + 14)).find(|&i| chars[i] == '\'').map_or(at + 1, |i| i + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}

/// Splits code into production and test code: an item behind `#[cfg(test)]` (or `cfg(all(test, …))`)
/// is test code. Both keep their line breaks, so that lines can be counted. `code` must be without
/// comments and strings; the same cut can be made in the text it came from.
pub(crate) fn test_ranges(code: &str) -> Vec<(usize, usize)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    let marks = ["#[cfg(test)]", "#[cfg(all(test"];
    let mut from = 0;
    while let Some(start) = marks.iter().filter_map(|mark| code[from..].find(mark)).min().map(|i| from + i) {
        let end = item_end(code, start);
        ranges.push((start, end));
        from = end;
    }
    ranges
}

/// Where the item (with its attributes) that starts at `start` ends: behind its `}` or `;`.
fn item_end(code: &str, start: usize) -> usize {
    let (mut round, mut curly) = (0i32, 0i32);
    for (i, c) in code[start..].char_indices() {
        match c {
            '(' | '[' => round += 1,
            ')' | ']' => round -= 1,
            '{' => curly += 1,
            '}' if curly == 1 => return start + i + 1,
            '}' => curly -= 1,
            ';' if round == 0 && curly == 0 => return start + i + 1,
            _ => {}
        }
    }
    code.len()
}

/// A Rust file, cut into what it says in production and in tests.
pub(crate) struct Parts {
    /// Production code without comments and strings.
    pub(crate) code: String,
    /// Production code with strings, without comments.
    pub(crate) said: String,
    /// Production text with comments.
    pub(crate) text: String,
    /// Test text with comments.
    pub(crate) tests: String,
    /// Lines of the production part.
    pub(crate) lines: usize,
}

pub(crate) fn parts(text: &str) -> Parts {
    let ascii: String = text.chars().map(|c| if c.is_ascii() { c } else { '?' }).collect();
    let bare = blank(&ascii, Blank::CommentsAndStrings);
    let ranges = test_ranges(&bare);
    let inside = |at: usize| ranges.iter().any(|&(a, b)| (a..b).contains(&at));
    let cut = |from: &str, tests: bool| -> String {
        from.char_indices().map(|(i, c)| if inside(i) == tests || c == '\n' { c } else { ' ' }).collect()
    };
    let count = |range: &(usize, usize)| bare[range.0..range.1].matches('\n').count() + 1;
    let production = ascii.trim_end().lines().count();
    Parts {
        code: cut(&bare, false),
        said: cut(&blank(&ascii, Blank::Comments), false),
        text: cut(&ascii, false),
        tests: cut(&ascii, true),
        lines: production.saturating_sub(ranges.iter().map(count).sum()),
    }
}

/// A `mod` line of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ModLine {
    pub(crate) name: String,
    pub(crate) test_only: bool,
}

/// The modules a file declares in files of their own.
pub(crate) fn mod_lines(text: &str) -> Vec<ModLine> {
    let code = blank(text, Blank::CommentsAndStrings);
    let mut found = Vec::new();
    let mut attributes = String::new();
    for line in code.lines().map(str::trim) {
        if line.starts_with("#[") && !line.ends_with(';') {
            attributes.push_str(line);
            continue;
        }
        let declaration = line.rsplit(']').next().unwrap_or(line).trim();
        // `pub(in some::path)` is a visibility like the others.
        let bare = match declaration.strip_prefix("pub(").and_then(|rest| rest.split_once(')')) {
            Some((_, rest)) => rest,
            None => declaration.trim_start_matches("pub"),
        }
        .trim();
        if let Some(name) = bare.strip_prefix("mod ").and_then(|rest| rest.strip_suffix(';')) {
            let all = format!("{attributes}{line}");
            found.push(ModLine {
                name: name.trim().into(),
                test_only: all.contains("cfg(test)") || all.contains("cfg(all(test"),
            });
        }
        if !line.is_empty() {
            attributes.clear();
        }
    }
    found
}

/// The module path of a source file: `src/a/b.rs` and `src/a/b/mod.rs` are `a::b`, the roots are empty.
pub(crate) fn module_of(path: &str) -> Vec<String> {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    let inner = inner.strip_suffix("/mod").unwrap_or(inner);
    match inner {
        "lib" | "main" | "mod" => Vec::new(),
        inner => inner.split('/').map(str::to_owned).collect(),
    }
}

/// Every path that production code names inside the crate, as segments: `crate::a::{b, c::d}` gives
/// `a b` and `a c d`; `super` is resolved from `module`.
pub(crate) fn paths(code: &str, module: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for (root, base) in [("crate", 0), ("driftless", 0), ("super", 1)] {
        for (at, _) in code.match_indices(&format!("{root}::")) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let mut up = base;
            let mut rest = &code[at + root.len() + 2..];
            while root == "super" && rest.starts_with("super::") {
                up += 1;
                rest = &rest[7..];
            }
            let keep = if root == "super" { module.len().saturating_sub(up) } else { 0 };
            let mut tail = rest.chars().peekable();
            tree(&mut tail, &module[..keep], &mut found);
        }
    }
    found
}

/// One node of a use tree behind its `::`.
fn tree(tail: &mut std::iter::Peekable<std::str::Chars<'_>>, prefix: &[String], found: &mut Vec<Vec<String>>) {
    let mut path = prefix.to_vec();
    loop {
        while tail.next_if(|c| c.is_whitespace()).is_some() {}
        if tail.next_if_eq(&'{').is_some() {
            loop {
                tree(tail, &path, found);
                let mut closed = true;
                for c in tail.by_ref() {
                    if c == ',' || c == '}' {
                        closed = c == '}';
                        break;
                    }
                }
                while tail.next_if(|c| c.is_whitespace()).is_some() {}
                if closed || tail.peek().is_none() {
                    return;
                }
                if tail.next_if_eq(&'}').is_some() {
                    return;
                }
            }
        }
        let mut name = String::new();
        while let Some(c) = tail.next_if(|c| c.is_alphanumeric() || *c == '_' || *c == '*') {
            name.push(c);
        }
        if name.is_empty() {
            break;
        }
        if name != "self" && name != "*" {
            path.push(name);
        }
        if tail.next_if_eq(&':').is_none() {
            break;
        }
        if tail.next_if_eq(&':').is_none() {
            break;
        }
        if tail.peek() == Some(&'<') {
            break;
        }
    }
    found.push(path);
}

/// A function of production code and how many lines it has from `fn` to its closing brace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) lines: usize,
}

pub(crate) fn functions(code: &str) -> Vec<Function> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let end = item_end(code, at);
        if !name.is_empty() && code[..end].ends_with('}') {
            found.push(Function { name, lines: code[at..end].matches('\n').count() + 1 });
        }
    }
    found
}

/// Whether `word` stands in `text` as a word of its own; `-` joins words (`sink-1` is not `sink-12`).
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        !before.is_some_and(|c| joins(c) || c == '-') && !after.is_some_and(joins)
    })
}

/// Whether code uses an external crate: `name::…`, `use name;`, but not `crate::name::…`.
pub(crate) fn uses_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].trim_end();
        let own = code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '.');
        let after = &code[at + name.len()..];
        let inner = before.strip_suffix("::").and_then(|rest| rest.chars().next_back());
        let root = !before.ends_with("::") || !inner.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '>');
        let path = after.starts_with("::") || (before.ends_with("use") && after.starts_with([';', ' ']));
        !own && root && path
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(code: &str, module: &[&str]) -> Vec<String> {
        let module: Vec<String> = module.iter().map(|&s| s.into()).collect();
        let mut all: Vec<String> = paths(code, &module).iter().map(|path| path.join("::")).collect();
        all.sort();
        all
    }

    #[test]
    fn comments_and_strings_are_blanked_and_lines_stay() {
        let text = "a /* x /* y */ */ b // c\n\"d\\\" e\" 'f' '\\n' r#\"g\"h\"# <'i> j";
        let bare = blank(text, Blank::CommentsAndStrings);
        assert_eq!(bare.split_whitespace().collect::<String>(), "ab<'i>j");
        assert_eq!(bare.len(), text.len());
        assert_eq!(bare.lines().count(), 2);
        assert!(blank(text, Blank::Comments).contains("g\"h") && !blank(text, Blank::Comments).contains("// c"));
    }

    #[test]
    fn use_trees_and_paths_are_found() {
        let code = "use crate::{a::{b, c::D}, e};\nfn f() { crate::g::h::<T>(); x::crate_::z; }";
        assert_eq!(named(code, &["m"]), ["a::b", "a::c::D", "e", "g::h"]);
    }

    #[test]
    fn nested_use_trees_with_trailing_commas_are_found() {
        assert_eq!(
            named("use crate::a::{\n    b,\n    c::{d, e},\n};\nuse crate::f::*;", &[]),
            ["a::b", "a::c::d", "a::c::e", "f"]
        );
    }

    #[test]
    fn super_is_resolved() {
        assert_eq!(named("use super::x::Y; use super::super::z;", &["a", "b", "c"]), ["a::b::x::Y", "a::z"]);
    }

    #[test]
    fn test_items_are_cut_out_and_the_rest_stays() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests;\nfn b() {}\n#[cfg(test)]\nmod more {\n    fn c() {}\n}\n";
        let cut = parts(text);
        assert!(cut.code.contains("fn a") && cut.code.contains("fn b") && !cut.code.contains("fn c"));
        assert!(cut.tests.contains("fn c"));
        assert_eq!(cut.lines, 2);
    }

    #[test]
    fn mod_lines_know_what_is_for_tests_only() {
        let lines = mod_lines(
            "pub mod a;\n#[cfg(test)]\nmod tests;\n// mod no;\n#[cfg(feature = \"x\")] mod b;\npub(in a::b) mod d;\nmod c {}",
        );
        let told: Vec<(&str, bool)> = lines.iter().map(|line| (line.name.as_str(), line.test_only)).collect();
        assert_eq!(told, [("a", false), ("tests", true), ("b", false), ("d", false)]);
    }

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let code = "trait T { fn no(&self); }\nfn two(a: [u8; 3])\n{ if x { y } }\nfn one() {}";
        let told: Vec<(String, usize)> = functions(code).into_iter().map(|f| (f.name, f.lines)).collect();
        assert_eq!(told, [("two".into(), 2), ("one".into(), 1)]);
    }

    #[test]
    fn a_word_is_a_whole_word() {
        assert!(has_word("see sink-1.", "sink-1") && has_word("P2: x", "P2") && has_word("(P2)", "P2"));
        assert!(!has_word("sink-12", "sink-1") && !has_word("x-P2", "P2") && !has_word("P21", "P2"));
    }

    #[test]
    fn the_use_of_a_crate_is_told_from_a_module_of_its_name() {
        assert!(uses_crate("use fjall::Keyspace;", "fjall") && uses_crate("let x = ::fjall::open();", "fjall"));
        assert!(!uses_crate("use crate::topic::fjall::X; mod fjall; let fjall = 1; my_fjall::x()", "fjall"));
    }

    #[test]
    fn files_know_their_modules() {
        assert_eq!(module_of("src/a/b.rs"), ["a", "b"]);
        assert_eq!(module_of("src/a/mod.rs"), ["a"]);
        assert!(module_of("src/lib.rs").is_empty());
    }
}
