//! Doors only open inward: who may import whom, which crate may be used where, and that no module
//! lies around unused. The tables themselves stand at the top of `tests/tidy.rs`.

use super::source::{File, mod_lines, module_of, parts, paths, uses_crate};
use super::{Ban, LAYERS, Layer, PURE};
use std::collections::BTreeMap;

/// The connector folders that exist.
pub(crate) fn connectors(files: &[File]) -> Vec<String> {
    let folder = |file: &File| {
        let (name, _) = file.path.strip_prefix("src/connectors/")?.split_once('/')?;
        // The suite all connectors run is none of them.
        (name != "conformance").then(|| name.to_owned())
    };
    let mut names: Vec<String> = files.iter().filter_map(folder).collect();
    names.dedup();
    names
}

/// Files that exist for tests only, because the line that declares them, or their parent, says so.
/// The second list holds files that no `mod` line reaches.
pub(crate) fn reach(files: &[File]) -> (Vec<String>, Vec<String>) {
    let sources: BTreeMap<&str, &str> =
        files.iter().filter(|file| file.is_source()).map(|file| (file.path.as_str(), file.text.as_str())).collect();
    let mut seen: BTreeMap<String, bool> = BTreeMap::new();
    let mut open: Vec<(String, bool)> = vec![("src/lib.rs".into(), false), ("src/main.rs".into(), false)];
    while let Some((path, test_only)) = open.pop() {
        let Some(text) = sources.get(path.as_str()) else { continue };
        if seen.insert(path.clone(), test_only).is_some() {
            continue;
        }
        let folder = match path.strip_suffix("/mod.rs") {
            Some(folder) => folder.to_owned(),
            None if path == "src/lib.rs" || path == "src/main.rs" => "src".into(),
            None => path.trim_end_matches(".rs").to_owned(),
        };
        for line in mod_lines(text) {
            let test = test_only || line.test_only;
            open.push((format!("{folder}/{}.rs", line.name), test));
            open.push((format!("{folder}/{}/mod.rs", line.name), test));
        }
    }
    let tests = seen.iter().filter(|(_, test)| **test).map(|(path, _)| path.clone()).collect();
    let lost = sources.keys().filter(|path| !seen.contains_key(**path)).map(|path| (*path).to_owned()).collect();
    (tests, lost)
}

/// The row of the table for a module: the longest that fits; `*` stands for a connector's name.
fn layer_of(module: &[String], connectors: &[String]) -> Option<&'static Layer> {
    let fits = |layer: &&Layer| {
        let wanted: Vec<&str> = layer.module.split("::").collect();
        wanted.len() <= module.len()
            && wanted
                .iter()
                .zip(module)
                .all(|(want, have)| *want == have || (*want == "*" && connectors.contains(have)))
    };
    LAYERS.iter().filter(fits).max_by_key(|layer| layer.module.split("::").count())
}

fn under(path: &[String], prefix: &str) -> bool {
    let wanted: Vec<&str> = prefix.split("::").collect();
    wanted.len() <= path.len() && wanted.iter().zip(path).all(|(want, have)| want == have)
}

pub(crate) fn check_imports(files: &[File]) -> Vec<String> {
    let connectors = connectors(files);
    let (test_only, _) = reach(files);
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.is_source() && !test_only.contains(&file.path)) {
        let module = module_of(&file.path);
        if module.is_empty() {
            continue;
        }
        let Some(layer) = layer_of(&module, &connectors) else {
            wrong.push(format!("{}: no layer is known for it; add a row to LAYERS in tests/tidy.rs", file.path));
            continue;
        };
        let own: Vec<String> = module[..layer.module.split("::").count()].to_vec();
        for path in paths(&parts(&file.text).code, &module) {
            if path.is_empty() || !is_module(&path[0]) || path.starts_with(&own) {
                continue;
            }
            let sibling = path[0] == "connectors" && path.get(1).is_some_and(|name| connectors.contains(name));
            let list = own == ["connectors"];
            if (sibling && !list) || !layer.may.iter().any(|prefix| under(&path, prefix)) {
                wrong.push(format!(
                    "{}: may not import crate::{}; `{}` (layer {}) may import {} and itself. Move the code to the layer \
                     that may, or hand the value in as a parameter",
                    file.path,
                    path.join("::"),
                    layer.module,
                    layer.level,
                    if layer.may.is_empty() { "nothing".into() } else { layer.may.join(", ") },
                ));
            }
        }
    }
    wrong.sort();
    wrong.dedup();
    wrong
}

/// `crate::Something` at the root is an item, not a layer.
fn is_module(name: &str) -> bool {
    name.chars().next().is_some_and(char::is_lowercase)
}

pub(crate) fn check_bans(files: &[File], bans: &[Ban]) -> Vec<String> {
    let (test_only, _) = reach(files);
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.is_source() && !test_only.contains(&file.path)) {
        let code = parts(&file.text).code;
        for ban in bans {
            if uses_crate(&code, ban.name) && !ban.only.iter().any(|place| file.path.starts_with(place)) {
                let only = ban.only.join(", ");
                wrong.push(format!("{}: `{}` may be used in {only} only: {}", file.path, ban.name, ban.instead));
            }
        }
    }
    wrong
}

/// What decides must not wait: no async, no runtime, no clock.
pub(crate) fn check_pure(files: &[File]) -> Vec<String> {
    let (test_only, _) = reach(files);
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.is_source() && !test_only.contains(&file.path)) {
        let module = module_of(&file.path);
        if !PURE.iter().any(|pure| under(&module, pure)) {
            continue;
        }
        let code = parts(&file.text).code;
        let waits = ["async fn", ".await", "async move", "async {", "async_trait"];
        for found in waits.iter().filter(|word| code.contains(**word)) {
            wrong.push(format!(
                "{}: `{found}` in a pure module; return what is to be done, the caller does it",
                file.path
            ));
        }
        for name in ["tokio", "std::fs", "std::net", "std::time::Instant", "std::time::SystemTime", "std::thread"] {
            if uses_crate(&code, name) {
                wrong.push(format!("{}: `{name}` in a pure module; take what it gives as a parameter", file.path));
            }
        }
    }
    wrong
}

pub(crate) fn check_reach(files: &[File]) -> Vec<String> {
    let lost = reach(files).1;
    lost.iter().map(|path| format!("{path}: no `mod` line reaches it; declare it or delete it")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Vec<File> {
        files.iter().map(|(path, text)| File::new(path, text)).collect()
    }

    #[test]
    fn an_import_from_above_is_refused_and_one_from_below_is_not() {
        let files = tree(&[
            ("src/lib.rs", "mod event; mod topic;"),
            ("src/event/mod.rs", "use crate::runtime::error::Error;\nuse crate::topic::Log;"),
            ("src/topic/mod.rs", "use crate::event::Key;"),
        ]);
        let wrong = check_imports(&files);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].starts_with("src/event/mod.rs: may not import crate::topic::Log"));
    }

    #[test]
    fn a_connector_may_not_know_its_sibling_even_through_super() {
        let files = tree(&[
            ("src/connectors/mod.rs", "pub mod a; pub mod b; use crate::connectors::a::X;"),
            ("src/connectors/a/mod.rs", "use super::contract::Reader; use super::b::Y;"),
            ("src/connectors/b/mod.rs", "use crate::event::Key;"),
        ]);
        let wrong = check_imports(&files);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].contains("crate::connectors::b::Y"));
    }

    #[test]
    fn a_decision_inside_a_stage_has_its_own_row() {
        let decide = ("src/apply/decide.rs", "use crate::topic::Partition; use crate::event::Key;");
        let wrong = check_imports(&tree(&[decide, ("src/apply/mod.rs", "use crate::topic::Partition;")]));
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].contains("apply::decide"));
    }

    #[test]
    fn tests_may_import_what_they_like() {
        let files = tree(&[
            ("src/lib.rs", "mod event;"),
            ("src/event/mod.rs", "#[cfg(test)]\nmod tests;\n#[cfg(test)]\nmod more { use crate::cli::X; }"),
            ("src/event/tests.rs", "use crate::flow::run;"),
        ]);
        assert!(check_imports(&files).is_empty());
    }

    #[test]
    fn a_module_without_a_layer_is_refused() {
        assert!(check_imports(&tree(&[("src/misc.rs", "")]))[0].contains("no layer is known"));
    }

    #[test]
    fn a_banned_crate_is_found_outside_its_place_only() {
        let bans = [Ban { name: "fjall", only: &["src/topic/embedded"], instead: "x" }];
        let files = tree(&[
            ("src/topic/embedded/mod.rs", "use fjall::Database;"),
            ("src/state/mod.rs", "fn f() { fjall::open() }"),
        ]);
        let wrong = check_bans(&files, &bans);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
        assert!(wrong[0].starts_with("src/state/mod.rs"));
    }

    #[test]
    fn a_pure_module_may_not_wait() {
        let files = tree(&[
            ("src/resolve/mod.rs", "async fn f() { tokio::spawn(x) }"),
            ("src/topic/memory.rs", "async fn f() {}"),
        ]);
        let wrong = check_pure(&files);
        assert_eq!(wrong.len(), 2, "{wrong:?}");
    }

    #[test]
    fn a_file_without_a_mod_line_is_found() {
        let files =
            tree(&[("src/lib.rs", "mod a;"), ("src/a.rs", "mod b;"), ("src/a/b.rs", ""), ("src/a/lost.rs", "")]);
        assert_eq!(check_reach(&files).len(), 1);
        assert!(check_reach(&files)[0].starts_with("src/a/lost.rs"));
    }
}
