//! Rules of the source tree that hold without building it. Every check is a function of text. Each
//! test first shows that the check finds a planted violation, then reads the tree.

use std::path::{Path, PathBuf};

use source::{
    attributes, code_of, read, root, rust_files, tokens, violations, without_attributes,
    without_test_code,
};

#[path = "tidy/directions.rs"]
mod directions;
#[path = "tidy/docs.rs"]
mod docs;
#[path = "tidy/file_graph.rs"]
mod file_graph;
#[path = "tidy/prose.rs"]
mod prose;
#[path = "tidy/source.rs"]
mod source;
#[path = "tidy/words.rs"]
mod words;

/// The layers and which others each may use. A layer may always use itself.
const LAYERS: [(&str, &[&str]); 8] = [
    ("program", &["state"]),
    ("state", &["snapshot"]),
    ("shm", &["snapshot", "sys", "numbers"]),
    ("snapshot", &["span", "sys", "numbers"]),
    ("span", &["mapping_cache"]),
    ("mapping_cache", &["sys"]),
    ("sys", &[]),
    ("numbers", &[]),
];

/// Layers skipped with a reason: (from, to). docs/architecture.md has the reason, in a paragraph
/// that contains `from -> to`.
const EXCEPTIONS: [(&str, &str); 1] = [("snapshot", "mapping_cache")];

#[test]
fn layers_use_only_layers_below() {
    let planted = |layer, source| !forbidden_uses(layer, source, &[]).is_empty();
    assert!(planted("sys", "use crate::span::Group;"));
    assert!(planted("span", "use crate::sys::page;"));
    assert!(planted(
        "span",
        "use crate::{mapping_cache::Pin, sys::page};"
    ));
    assert!(planted(
        "span",
        "use {\n    crate::{\n        sys,\n    },\n};"
    ));
    assert!(planted(
        "mapping_cache",
        "let x = crate::span::layout::f();"
    ));
    assert!(planted("mapping_cache", "use super::span::Layout;"));
    assert!(planted("mapping_cache", "use super::super::span::Layout;"));
    assert!(planted("sys", "let x = flatspan::span::Group::builder();"));
    assert!(planted("sys", "use crate::*;"));
    assert!(
        planted("sys", "use crate::Group;"),
        "an item that lib.rs re-exports belongs to a layer, too"
    );
    assert!(planted("sys", "use crate::{self as all};"));
    assert!(!planted("span", "use crate::mapping_cache::{Pin, sys::x};"));
    assert!(!planted(
        "span",
        "use crate::span::layout; // crate::sys\n/* crate::sys */"
    ));
    assert!(!planted("span", "let x = \"crate::sys::page\";"));
    assert!(!planted(
        "sys",
        "pub(crate) fn f() {} pub(in crate::sys) fn g() {}"
    ));
    assert!(!planted("span", "use super::layout; use std::{fs, sys};"));
    assert!(forbidden_uses("span", "use crate::sys::page;", &[("span", "sys")]).is_empty());

    let found = violations(&rust_files("src"), |path, text| {
        layer_of(path).map_or_else(Vec::new, |layer| forbidden_uses(layer, text, &EXCEPTIONS))
    });
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn exceptions_have_a_reason_in_the_architecture() {
    assert_eq!(
        unexplained(&[("span", "sys")], "`span -> snapshot`: because"),
        ["span -> sys"]
    );
    assert!(unexplained(&[("span", "sys")], "**`span -> sys`**: because").is_empty());
    if EXCEPTIONS.is_empty() {
        return;
    }
    let found = unexplained(&EXCEPTIONS, &read(&root().join("docs/architecture.md")));
    assert!(
        found.is_empty(),
        "docs/architecture.md is silent about {found:?}"
    );
}

#[test]
fn entry_files_hold_no_logic() {
    for planted in [
        "fn f() {}",
        "mod a;\npub(crate) const X: u8 = 1;",
        "pub struct S { a: u8 }",
        "impl S {}",
        "mod tests { fn f() {} }",
        "pub(crate) use a::b;\nmacro_rules! m { () => {} }",
        "static X: u8 = 0;",
        "#[cfg(test)]\ntype T = u8;",
    ] {
        assert!(!logic(planted).is_empty(), "{planted}");
    }
    for clean in [
        "//! fn main() {}\n#![cfg_attr(docsrs, feature(doc_cfg))]\n",
        "mod a;\npub mod b;\n#[cfg(unix)]\n#[path = \"x.rs\"]\npub(crate) mod c;",
        "pub(in crate::a::b) use c::{D, E};",
        "pub use a::{B, C};\nuse d::*;\npub(crate) use e::{\n    F,\n    g::{H, I},\n};",
        "/// Says fn f() {}.\npub mod b;\n#[doc = include_str!(\"../README.md\")]\nextern crate alloc;\nextern crate self as me;",
    ] {
        assert!(logic(clean).is_empty(), "{clean}: {:?}", logic(clean));
    }

    let entries: Vec<PathBuf> = rust_files("src")
        .into_iter()
        .filter(|path| path.ends_with("mod.rs") || path.ends_with("src/lib.rs"))
        .collect();
    let found = violations(&entries, |_, text| logic(text));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn unsafe_is_only_in_files_that_declare_it() {
    let fence = "#![expect(unsafe_code, reason = \"maps files\")]\n";
    let section = "//! Maps.\n//!\n//! # Safety\n//!\n//! Because.\n";
    assert!(!unfenced("fn f() { unsafe { g() } }").is_empty());
    assert!(
        !unfenced(&format!("{fence}unsafe fn f() {{}}")).is_empty(),
        "no section"
    );
    assert!(
        !unfenced(&format!("{section}unsafe fn f() {{}}")).is_empty(),
        "no fence"
    );
    assert!(!unfenced("#![expect(unsafe_code)]\n//! # Safety\nunsafe fn f() {}").is_empty());
    assert!(!unfenced("#[expect(unsafe_code, reason = \"x\")]\nunsafe fn f() {}").is_empty());
    assert!(unfenced(&format!("{section}{fence}unsafe fn f() {{}}")).is_empty());
    assert!(unfenced("// unsafe\nfn f() { let s = \"unsafe\"; } /* unsafe { } */").is_empty());
    assert!(unfenced("#![deny(unsafe_code)] fn not_unsafe_at_all() {}").is_empty());

    let found = violations(&rust_files("src"), |_, text| unfenced(text));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn nothing_is_allowed_without_a_reason_left_open_or_ignored() {
    // Put together, so that this file passes its own check.
    let [todo, open] = ["todo", "unimplemented"].map(|word| format!("{word}!"));
    let ignored = format!("#[{}]", "ignore");
    for planted in [
        "#[allow(dead_code)]\nfn f() {}".to_owned(),
        "#![allow(dead_code)]".to_owned(),
        "#[expect(\n    dead_code\n)]".to_owned(),
        "#[cfg_attr(test, allow(dead_code))]".to_owned(),
        format!("fn f() {{ {todo}() }}"),
        format!("fn f() {{ {open}(\"later\") }}"),
        format!("#[test]\n{ignored}\nfn f() {{}}"),
        format!("#[{} = \"slow\"]", "ignore"),
    ] {
        assert!(!loose_ends(&planted).is_empty(), "{planted}");
    }
    for clean in [
        "#[allow(dead_code, reason = \"each target uses its part\")]",
        "#[expect(\n    dead_code,\n    reason = \"x [y]\",\n)]",
        "// todo!() and #[allow(x)]",
        "fn allow(x: u8) {} fn f() { self.ignore(); }",
    ] {
        assert!(
            loose_ends(clean).is_empty(),
            "{clean}: {:?}",
            loose_ends(clean)
        );
    }

    let files: Vec<PathBuf> = ["src", "tests", "benches", "examples"]
        .iter()
        .flat_map(|directory| rust_files(directory))
        .collect();
    let found = violations(&files, |_, text| loose_ends(text));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn code_of_source_has_no_comments_and_strings() {
    let cases = [
        ("a // b\nc", "a \nc"),
        ("a /* b /* c */ d */ e", "a  e"),
        ("f(\"x \\\" // y\") + g", "f(\"\") + g"),
        ("r#\"a \" b\"# c", "\"\" c"),
        ("br\"a\\\" c", "\"\" c"),
        ("'\"' 'a '\\'' b", "' ' 'a ' ' b"),
        ("var\"x\"", "var\"\""),
    ];
    for (source, code) in cases {
        assert_eq!(code_of(source), code, "{source}");
    }
    assert_eq!(
        tokens("use a::{b_1, c};"),
        ["use", "a", "::", "{", "b_1", ",", "c", "}", ";"]
    );
}

#[test]
fn test_code_is_left_out_by_its_attribute() {
    let kept = |source: &str| {
        let code = code_of(source);
        let (kept, modules) = without_test_code(&tokens(&code));
        (kept.concat(), modules)
    };
    assert_eq!(
        kept("a;\n#[cfg(test)]\nmod tests { use b::{c, d}; }\ne"),
        ("a;e".to_owned(), vec![])
    );
    assert_eq!(
        kept("#[cfg(all(test, not(loom)))]\n#[expect(x)]\npub(crate) mod f;\ne"),
        ("e".to_owned(), vec!["f".to_owned()])
    );
    assert_eq!(kept("#[cfg(test)] use b::{c, d}; e").0, "e");
    assert_eq!(
        kept("#[cfg(test)] fn f(a: u8) -> [u8; 2] { g(); } e").0,
        "e"
    );
    assert_eq!(
        kept("S { #[cfg(test)] pub a: [u8; 2], b: u8 } e").0,
        "S{b:u8}e"
    );
    assert_eq!(kept("S { #[cfg(test)] a: u8 } e").0, "S{}e");
    for code in [
        "#[cfg(not(test))] mod a;",
        "#[cfg(unix)] mod a;",
        "#[test] fn f() {}",
    ] {
        assert_eq!(kept(code).0, tokens(code).concat());
    }
}

// The rules

/// Returns the forbidden uses in a file of `layer`.
fn forbidden_uses(layer: &str, source: &str, exceptions: &[(&str, &str)]) -> Vec<String> {
    let code = code_of(source);
    let tokens = tokens(&code);
    let mut found = Vec::new();
    for (place, token) in tokens.iter().enumerate() {
        let used = match *token {
            "crate" | "flatspan" if tokens.get(place + 1) == Some(&"::") => {
                heads(&tokens[place + 2..])
            }
            // A path out of the layer: after `super`, the first name that is a layer.
            "super" if tokens.get(place + 1) == Some(&"::") => heads(&tokens[place + 2..])
                .into_iter()
                .filter(|name| is_layer(name))
                .collect(),
            _ => continue,
        };
        for name in used {
            if !may_use(layer, name, exceptions) {
                found.push(format!("{layer} uses {token}::{name}"));
            }
        }
    }
    found
}

fn is_layer(name: &str) -> bool {
    LAYERS.iter().any(|(layer, _)| *layer == name)
}

fn may_use(layer: &str, name: &str, exceptions: &[(&str, &str)]) -> bool {
    let below = LAYERS
        .iter()
        .find(|(known, _)| *known == layer)
        .map_or(&[] as &[&str], |(_, below)| below);
    name == layer || below.contains(&name) || exceptions.contains(&(layer, name))
}

/// The first names of the paths after `crate::`: one, or those of a braced list.
fn heads<'a>(tokens: &[&'a str]) -> Vec<&'a str> {
    if tokens.first() != Some(&"{") {
        return tokens.first().copied().into_iter().collect();
    }
    let mut depth = 0;
    let mut names = Vec::new();
    let mut at_head = false;
    for token in tokens {
        match *token {
            "{" => {
                depth += 1;
                at_head = depth == 1;
            }
            "}" => depth -= 1,
            "," => at_head = depth == 1,
            name if at_head => {
                names.push(name);
                at_head = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn layer_of(path: &Path) -> Option<&'static str> {
    let inside = path.strip_prefix(root().join("src")).ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?;
    let first = first.strip_suffix(".rs").unwrap_or(first);
    LAYERS
        .iter()
        .map(|(layer, _)| *layer)
        .find(|layer| *layer == first)
}

fn unexplained(exceptions: &[(&str, &str)], architecture: &str) -> Vec<String> {
    exceptions
        .iter()
        .map(|(from, to)| format!("{from} -> {to}"))
        .filter(|arrow| !architecture.contains(arrow))
        .collect()
}

/// Items of an entry file other than `mod name;`, `use` and `extern crate`.
fn logic(source: &str) -> Vec<String> {
    let code = code_of(source);
    let tokens = without_attributes(&tokens(&code));
    let mut found = Vec::new();
    let mut item = Vec::new();
    let mut depth = 0;
    for token in tokens {
        item.push(token);
        match token {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        let mut head = item.iter().take_while(|token| **token != "{");
        let is_use = head.any(|token| *token == "use");
        let ends = depth == 0 && (token == ";" || (token == "}" && !is_use));
        if ends {
            if !is_entry(&item) {
                found.push(item.iter().take(8).copied().collect::<Vec<_>>().join(" "));
            }
            item.clear();
        }
    }
    if !item.is_empty() {
        found.push(item.join(" "));
    }
    found
}

fn is_entry(item: &[&str]) -> bool {
    let mut words = item;
    if words.first() == Some(&"pub") {
        words = &words[1..];
        if words.first() == Some(&"(") {
            let end = words.iter().position(|token| *token == ")");
            words = &words[end.map_or(words.len(), |end| end + 1)..];
        }
    }
    match words {
        ["mod", _, ";"] | ["use", ..] | ["extern", "crate", ..] => true,
        [..] => false,
    }
}

/// Returns a message for `unsafe` outside a file that declares it and explains why it is sound.
fn unfenced(source: &str) -> Vec<String> {
    let code = code_of(source);
    let tokens = tokens(&code);
    if !tokens.contains(&"unsafe") {
        return Vec::new();
    }
    let fence = [
        "#",
        "!",
        "[",
        "expect",
        "(",
        "unsafe_code",
        ",",
        "reason",
        "=",
    ];
    let fenced = tokens.windows(fence.len()).any(|window| *window == fence);
    let explained = source.lines().any(|line| line.trim_end() == "//! # Safety");
    let mut found = Vec::new();
    if !fenced {
        found.push("`unsafe` without #![expect(unsafe_code, reason = ...)]".to_owned());
    }
    if !explained {
        found.push("`unsafe` without a `# Safety` section in the `//!` docs".to_owned());
    }
    found
}

/// Returns lint exceptions without a reason, unfinished code and ignored tests.
fn loose_ends(source: &str) -> Vec<String> {
    let code = code_of(source);
    let tokens = tokens(&code);
    let mut found = Vec::new();
    for attribute in attributes(&tokens) {
        let waives = attribute
            .windows(2)
            .any(|pair| matches!(pair, ["allow" | "expect", "("]));
        if waives && !attribute.contains(&"reason") {
            found.push(format!("without a reason: {}", attribute.join(" ")));
        }
        if attribute.first() == Some(&"ignore") {
            found.push("an ignored test".to_owned());
        }
    }
    for pair in tokens.windows(2) {
        if matches!(pair, ["todo" | "unimplemented", "!"]) {
            found.push(format!("{}!", pair[0]));
        }
    }
    found
}
