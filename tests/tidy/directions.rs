//! Directions between the directories of a layer: which may use which.

use std::{collections::BTreeMap, path::Path};

use crate::source::{code_of, read, root, rust_files, test_files, tokens, without_test_code};

/// For each layer its parts, lowest first. A part is a directory, or a file beside them. A part
/// uses itself and parts above its own line in this list, never one below. Parts in one line are
/// equals that do not use each other. Test code is left out.
const ORDER: [(&str, &[&[&str]]); 3] = [
    (
        "snapshot",
        &[
            &["page_set", "random", "modes", "failpoint", "format"],
            &["file_names", "region"],
            &["tracker"],
            &["error"],
            &["poison", "backend"],
            &["heap", "journal", "memory"],
            &["options", "store_files", "capture"],
            &["checkpoint", "reader"],
            &["history"],
            &["store"],
            &["testing"],
        ],
    ),
    (
        "mapping_cache",
        &[
            &["stripe", "sync", "error"],
            &["location", "options", "stats"],
            &["range_lock", "window"],
            &["file"],
            &["cache", "pinning"],
            &["io"],
        ],
    ),
    ("span", &[&["error"], &["group"], &["guard"], &["pieces"]]),
];

#[test]
fn folders_of_a_layer_use_only_lower_ones() {
    let planted = BTreeMap::from([("Store".to_owned(), "store".to_owned())]);
    let used = |source| parts_used("snapshot", &["capture", "pre_copy"], source, &planted);
    assert_eq!(used("use crate::snapshot::store::Store;"), ["store"]);
    assert_eq!(
        used("use crate::snapshot::{heap::A, Store};"),
        ["heap", "store"]
    );
    assert_eq!(used("use super::super::journal::x;"), ["journal"]);
    assert_eq!(used("use super::page_buffer;"), [""; 0]);
    assert_eq!(used("let x = super::super::Store::open();"), ["store"]);
    assert_eq!(
        used("use crate::span::Group; // crate::snapshot::store"),
        [""; 0]
    );

    assert_eq!(
        used("#[cfg(test)]\nmod tests { use crate::snapshot::store::Store; }"),
        [""; 0]
    );

    let order: &[&[&str]] = &[&["error"], &["heap", "journal"], &["store"]];
    assert!(allowed(order, "store", "heap"));
    assert!(allowed(order, "heap", "error"));
    assert!(allowed(order, "heap", "heap"));
    assert!(!allowed(order, "heap", "journal"));
    assert!(!allowed(order, "heap", "store"));
    assert!(!allowed(order, "error", "heap"));
    assert!(!allowed(order, "unknown", "heap"), "every part has a line");

    let mut found = Vec::new();
    for (layer, order) in ORDER {
        let folder = format!("src/{layer}");
        let exports = exports(&read(&root().join(&folder).join("mod.rs")));
        let files: Vec<_> = rust_files(&folder)
            .into_iter()
            .map(|path| (read(&path), path))
            .collect();
        let pairs = files
            .iter()
            .map(|(source, path)| (path.as_path(), source.as_str()));
        let test_files = test_files(pairs.clone());
        for (path, source) in pairs {
            if test_files.contains(&path) {
                continue;
            }
            let inside = path.strip_prefix(root().join(&folder)).unwrap_or(path);
            let modules = module_path(inside);
            let Some(from) = modules.first() else {
                continue;
            };
            let modules: Vec<&str> = modules.iter().map(String::as_str).collect();
            for to in parts_used(layer, &modules, source, &exports) {
                if !allowed(order, from, &to) {
                    found.push(format!("{}: {from} uses {to}", inside.display()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn allowed(order: &[&[&str]], from: &str, to: &str) -> bool {
    let line = |part: &str| order.iter().position(|parts| parts.contains(&part));
    match (line(from), line(to)) {
        (Some(from_line), Some(to_line)) => to_line < from_line || from == to,
        _ => false,
    }
}

/// The modules of a file under its layer: `capture/pre_copy.rs` is `[capture, pre_copy]`.
fn module_path(inside: &Path) -> Vec<String> {
    let mut modules: Vec<String> = inside
        .with_extension("")
        .components()
        .map(|part| part.as_os_str().to_string_lossy().into_owned())
        .collect();
    if modules.last().is_some_and(|last| last == "mod") {
        modules.pop();
    }
    modules
}

/// Items that a layer's mod.rs re-exports, and the part each is from.
fn exports(source: &str) -> BTreeMap<String, String> {
    let code = code_of(source);
    let tokens = tokens(&code);
    let mut exports = BTreeMap::new();
    for place in 0..tokens.len() {
        if tokens[place] != "use" {
            continue;
        }
        let Some(part) = tokens.get(place + 1) else {
            continue;
        };
        for name in tokens[place + 2..]
            .iter()
            .take_while(|token| **token != ";")
        {
            if name.starts_with(|first: char| first.is_alphabetic()) {
                exports.insert((*name).to_owned(), (*part).to_owned());
            }
        }
    }
    exports
}

/// The parts of `layer` that a file with the module path `modules` uses, without its own.
fn parts_used(
    layer: &str,
    modules: &[&str],
    source: &str,
    exports: &BTreeMap<String, String>,
) -> Vec<String> {
    let code = code_of(source);
    let (tokens, _) = without_test_code(&tokens(&code));
    let mut found = Vec::new();
    let mut place = 0;
    while place < tokens.len() {
        let start = place;
        place += 1;
        if start > 0 && tokens[start - 1] == "::" {
            continue;
        }
        let rest = match tokens[start] {
            "crate" => tokens[start..].strip_prefix(&["crate", "::", layer, "::"]),
            "super" => climbed(&tokens[start..], modules.len()),
            _ => continue,
        };
        let Some(rest) = rest else {
            continue;
        };
        for name in crate::heads(rest) {
            let part = exports.get(name).map_or(name, String::as_str);
            if modules.first() != Some(&part) && !matches!(part, "self" | "super") {
                found.push(part.to_owned());
            }
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The tokens after `super::` repeated until the layer itself is reached.
fn climbed<'t, 's>(tokens: &'t [&'s str], depth: usize) -> Option<&'t [&'s str]> {
    let mut rest = tokens;
    for _ in 0..depth {
        rest = rest.strip_prefix(&["super", "::"])?;
    }
    Some(rest)
}
