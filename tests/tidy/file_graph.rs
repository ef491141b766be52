//! Graph of the source files: an edge leads from a file to each file whose items it names.
//!
//! Paths in `use` and in code are followed through the re-exports of `mod.rs`, which are no nodes
//! themselves. Test code is left out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use crate::source::{code_of, read, root, rust_files, test_files, tokens, without_test_code};

type Graph = BTreeMap<String, BTreeSet<String>>;

/// Module path without `crate`, or path of an item.
type ItemPath = Vec<String>;

struct Module {
    file: String,
    /// Imported and re-exported names with the paths that they replace.
    names: BTreeMap<String, ItemPath>,
}

#[test]
fn files_of_the_library_form_no_circle() {
    let planted = |files: &[(&str, &str)]| circles(&graph(&owned(files)));
    let exports = (
        "a/mod.rs",
        "mod b;\nmod c;\npub use b::B;\npub use c::{C, D as E};",
    );
    assert_eq!(
        planted(&[
            exports,
            ("a/b.rs", "use super::C;\npub struct B;"),
            ("a/c.rs", "use crate::a::B;"),
        ]),
        ["a/b.rs -> a/c.rs -> a/b.rs"],
        "re-exports lead to the file"
    );
    assert_eq!(
        planted(&[
            exports,
            ("a/b.rs", "fn f() { crate::a::c::g() }"),
            ("a/c.rs", "use super::{b};\nfn g() { b::f() }"),
        ]),
        ["a/b.rs -> a/c.rs -> a/b.rs"],
        "paths in code and imported modules"
    );
    assert_eq!(
        planted(&[
            exports,
            ("a/b.rs", "use super::E;"),
            ("a/c.rs", "use crate::x;"),
            ("x/mod.rs", "mod y;\npub use self::y::Y;"),
            ("x/y.rs", "mod inner { use super::super::super::a::B; }"),
            ("lib.rs", "mod a;\nmod x;"),
        ]),
        [""; 0],
        "`x` alone is no use of `x::y`"
    );
    assert_eq!(
        planted(&[
            exports,
            ("a/b.rs", "use super::E;"),
            ("a/c.rs", "use crate::x;\nfn f() { x::Y }"),
            ("x/mod.rs", "mod y;\npub use self::y::Y;"),
            ("x/y.rs", "mod inner { use super::super::super::a::B; }"),
        ]),
        ["a/b.rs -> a/c.rs -> x/y.rs -> a/b.rs"],
        "a circle of three files, with a module inside of a file"
    );
    assert_eq!(
        planted(&[
            exports,
            ("a/b.rs", "use super::C; // circle"),
            (
                "a/c.rs",
                "#[cfg(test)]\nmod tests { use super::super::B; }\nuse super::C;"
            ),
        ]),
        [""; 0],
        "test code and the file itself are left out"
    );

    let files = rust_files("src");
    let sources = files.iter().filter_map(|path| {
        let inside = path.strip_prefix(root().join("src")).ok()?;
        (!inside.starts_with("bin")).then(|| (inside.display().to_string(), read(path)))
    });
    let mut sources: BTreeMap<String, String> = sources.collect();
    let found = circles(&graph(&sources));
    assert!(found.is_empty(), "{}", found.join("\n"));

    let lowest = sources.entry("snapshot/page_set.rs".to_owned());
    lowest
        .or_default()
        .push_str("use crate::snapshot::Transaction;");
    let found = circles(&graph(&sources));
    assert!(
        found.contains(
            &"snapshot/page_set.rs -> snapshot/store/transaction.rs -> snapshot/page_set.rs"
                .to_owned()
        ),
        "a circle in the tree itself is found: {found:?}"
    );
}

fn owned(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = files.iter();
    pairs
        .map(|(file, source)| ((*file).to_owned(), (*source).to_owned()))
        .collect()
}

/// Returns the edges between the files, given as path under `src` and source.
fn graph(files: &BTreeMap<String, String>) -> Graph {
    let codes: BTreeMap<&String, String> = files
        .iter()
        .map(|(file, source)| (file, code_of(source)))
        .collect();
    let mut modules = BTreeMap::new();
    for file in files.keys() {
        let module = Module {
            file: file.clone(),
            names: BTreeMap::new(),
        };
        modules.insert(module_of(file), module);
    }
    for (file, code) in &codes {
        let at = module_of(file);
        let (kept, _) = without_test_code(&tokens(code));
        let names = imports(&kept, &at, &modules);
        if let Some(module) = modules.get_mut(&at) {
            module.names = names;
        }
    }

    let test_files = test_files(
        files
            .iter()
            .map(|(file, source)| (Path::new(file), source.as_str())),
    );
    let mut graph = Graph::new();
    for (file, code) in &codes {
        if is_entry(file) || test_files.contains(&Path::new(file.as_str())) {
            continue;
        }
        let (kept, _) = without_test_code(&tokens(code));
        let mut used = BTreeSet::new();
        for path in named_paths(&kept, &module_of(file), &modules) {
            used.extend(file_of(&path, &modules, 0).filter(|to| to != *file && !is_entry(to)));
        }
        graph.insert((*file).clone(), used);
    }
    graph
}

fn is_entry(file: &str) -> bool {
    file == "lib.rs" || file.ends_with("mod.rs")
}

fn module_of(file: &str) -> ItemPath {
    let mut path: ItemPath = file
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    if path
        .last()
        .is_some_and(|last| last == "mod" || last == "lib")
    {
        path.pop();
    }
    path
}

/// Returns the names that the `use` items of a module bring in.
fn imports(
    tokens: &[&str],
    module: &ItemPath,
    modules: &BTreeMap<ItemPath, Module>,
) -> BTreeMap<String, ItemPath> {
    let mut names = BTreeMap::new();
    for (place, depth) in with_depth(tokens) {
        if tokens[place] != "use" || depth > 0 {
            continue;
        }
        let mut trees = Vec::new();
        expand(tokens, place + 1, &[], &mut trees);
        for (path, name) in trees {
            if let Some(path) = absolute(&path, module, modules) {
                names.insert(name, path);
            }
        }
    }
    names
}

/// Returns the paths that a file names, in `use` and elsewhere, from the crate's root.
fn named_paths(
    tokens: &[&str],
    module: &ItemPath,
    modules: &BTreeMap<ItemPath, Module>,
) -> Vec<ItemPath> {
    let names = &modules[module].names;
    let mut found: Vec<ItemPath> = names.values().cloned().collect();
    for (place, depth) in with_depth(tokens) {
        if place > 0 && tokens[place - 1] == "::" || tokens.get(place + 1) != Some(&"::") {
            continue;
        }
        let mut trees = Vec::new();
        expand(tokens, place, &[], &mut trees);
        for (path, _) in trees {
            if let Some(imported) = names.get(&path[0]) {
                found.push([imported, &path[1..]].concat());
                continue;
            }
            // `super` in a module inside of the file leads to the file.
            let supers = path.iter().take_while(|name| *name == "super").count();
            if supers > 0 && supers <= depth {
                continue;
            }
            let outer = if supers > 0 {
                &path[depth..]
            } else {
                &path[..]
            };
            if matches!(outer[0].as_str(), "crate" | "super" | "self") {
                found.extend(absolute(outer, module, modules));
            }
        }
    }
    found
}

/// Returns the place of each token with the number of modules inside of the file around it.
fn with_depth(tokens: &[&str]) -> Vec<(usize, usize)> {
    let mut braces = 0_usize;
    let mut inner = Vec::new();
    let mut places = Vec::new();
    for (place, token) in tokens.iter().enumerate() {
        match *token {
            "{" => {
                braces += 1;
                if place >= 2 && tokens[place - 2] == "mod" {
                    inner.push(braces);
                }
            }
            "}" => {
                if inner.last() == Some(&braces) {
                    inner.pop();
                }
                braces = braces.saturating_sub(1);
            }
            _ => {}
        }
        places.push((place, inner.len()));
    }
    places
}

/// Adds the paths of a `use` tree or of a path in code, each with the name it is imported as.
/// Returns the place after the tree.
fn expand(
    tokens: &[&str],
    mut place: usize,
    prefix: &[String],
    found: &mut Vec<(ItemPath, String)>,
) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(place) {
            Some(&"{") => {
                place += 1;
                while !matches!(tokens.get(place), Some(&"}") | None) {
                    let next = expand(tokens, place, &path, found);
                    place = next
                        + usize::from(tokens.get(next) == Some(&","))
                            .max(usize::from(next == place));
                }
                return place + 1;
            }
            Some(name) if name.starts_with(|first: char| first.is_alphabetic() || first == '_') => {
                if *name != "self" || path.is_empty() {
                    path.push((*name).to_owned());
                }
            }
            _ => break,
        }
        place += 1;
        if tokens.get(place) != Some(&"::") {
            break;
        }
        place += 1;
    }
    let mut name = path.last().cloned().unwrap_or_default();
    if let (Some(&"as"), Some(alias)) = (tokens.get(place), tokens.get(place + 1)) {
        name = (*alias).to_owned();
        place += 2;
    }
    if !path.is_empty() {
        found.push((path, name));
    }
    place
}

/// Returns a path from the crate's root, or `None` for a path into another crate.
fn absolute(
    path: &[String],
    module: &ItemPath,
    modules: &BTreeMap<ItemPath, Module>,
) -> Option<ItemPath> {
    let (first, rest) = path.split_first()?;
    let mut at = module.clone();
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([&at[..], rest].concat()),
        "super" => {
            at.pop();
            match rest.first() {
                Some(next) if next == "super" => absolute(rest, &at, modules),
                _ => Some([&at[..], rest].concat()),
            }
        }
        _ => {
            at.push(first.clone());
            let is_child = modules.contains_key(&at);
            is_child.then(|| [&at[..], rest].concat())
        }
    }
}

/// Returns the file that defines the item at `path`.
fn file_of(path: &[String], modules: &BTreeMap<ItemPath, Module>, followed: u8) -> Option<String> {
    let mut at = ItemPath::new();
    for (place, name) in path.iter().enumerate() {
        at.push(name.clone());
        if modules.contains_key(&at) {
            continue;
        }
        at.pop();
        let module = modules.get(&at);
        let target = module.and_then(|module| module.names.get(name));
        if let Some(target) = target.filter(|_| followed < 8) {
            let whole = [&target[..], &path[place + 1..]].concat();
            return file_of(&whole, modules, followed + 1);
        }
        break;
    }
    modules.get(&at).map(|module| module.file.clone())
}

/// Returns the shortest circle through each file, each circle once.
fn circles(graph: &Graph) -> Vec<String> {
    let mut found = BTreeMap::new();
    for start in graph.keys() {
        if let Some(circle) = shortest_circle(graph, start) {
            let members: BTreeSet<&String> = circle.iter().copied().collect();
            let names: Vec<&str> = circle.iter().map(|file| file.as_str()).collect();
            found
                .entry(members)
                .or_insert_with(|| format!("{} -> {start}", names.join(" -> ")));
        }
    }
    found.into_values().collect()
}

fn shortest_circle<'g>(graph: &'g Graph, start: &'g String) -> Option<Vec<&'g String>> {
    let mut reached_from: BTreeMap<&String, &String> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(file) = queue.pop_front() {
        for next in graph.get(file)? {
            if next == start {
                let mut circle = vec![file];
                while let Some(before) = reached_from.get(circle[circle.len() - 1]) {
                    circle.push(before);
                }
                circle.reverse();
                return Some(circle);
            }
            if graph.contains_key(next) && !reached_from.contains_key(next) {
                reached_from.insert(next, file);
                queue.push_back(next);
            }
        }
    }
    None
}
