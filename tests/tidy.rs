//! House rules that hold without building. Every check is a function of text, and is shown to find what
//! it looks for before the tree is looked at.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use walkdir::WalkDir;

/// The layers and which others each may use. A layer may always use itself.
const LAYERS: [(&str, &[&str]); 7] = [
    ("program", &["state"]),
    ("state", &["snapshot"]),
    ("shm", &["snapshot", "sys"]),
    ("snapshot", &["span", "sys"]),
    ("span", &["mapping_cache"]),
    ("mapping_cache", &["sys"]),
    ("sys", &[]),
];

/// Layers skipped with a reason: (from, to). docs/architecture.md gives it, in words that contain
/// `from -> to`.
const EXCEPTIONS: [(&str, &str); 1] = [("snapshot", "mapping_cache")];

/// The hazards that the code so far must have a test for, named after them: `h04_...`.
const HAZARDS: [&str; 26] = [
    "h01", "h02", "h03", "h04", "h08", "h09", "h10", "h11", "h12", "h13", "h14", "h17", "h19",
    "h20", "h21", "h22", "h24", "h25", "h27", "h33", "h34", "h35", "h36", "h37", "h38", "h39",
];

#[test]
fn layers_use_only_what_lies_below() {
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
        "what lib.rs exports has a layer too"
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
fn unsafe_stays_in_fenced_files() {
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
        .flat_map(|folder| rust_files(folder))
        .collect();
    let found = violations(&files, |_, text| loose_ends(text));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_hazard_has_a_test_named_after_it() {
    let source = "#[test]\nfn h04_x() {}\n#[test]\n#[cfg(unix)]\nfn h34_y() {}\nfn h35_helper() {}\n// #[test]\n// fn h37_x() {}";
    assert_eq!(hazards_tested(source), ["h04", "h34"]);
    let in_proptest = "proptest! {\n    #[test]\n    fn h38_z(x in 0..1) {}\n}";
    assert_eq!(hazards_tested(in_proptest), ["h38"]);

    let mut tested: BTreeMap<String, PathBuf> = BTreeMap::new();
    for path in ["src", "tests"]
        .iter()
        .flat_map(|folder| rust_files(folder))
    {
        // This file plants some.
        if path.ends_with("tests/tidy.rs") {
            continue;
        }
        for hazard in hazards_tested(&read(&path)) {
            tested.insert(hazard, path.clone());
        }
    }
    let missing: Vec<_> = HAZARDS
        .iter()
        .filter(|hazard| !tested.contains_key(**hazard))
        .collect();
    assert!(missing.is_empty(), "no test is named after {missing:?}");
}

#[test]
fn source_is_looked_at_without_comments_and_strings() {
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

// The rules

/// What a file of `layer` uses that it must not.
fn forbidden_uses(layer: &str, source: &str, exceptions: &[(&str, &str)]) -> Vec<String> {
    let code = code_of(source);
    let tokens = tokens(&code);
    let mut found = Vec::new();
    for (place, token) in tokens.iter().enumerate() {
        let used = match *token {
            "crate" | "flatspan" if tokens.get(place + 1) == Some(&"::") => {
                heads(&tokens[place + 2..])
            }
            // Climbing out of the layer: from `super` on, the first name that is a layer.
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

/// The first names of the paths behind `crate::`: one, or those of a braced list.
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
        let is_use = item.iter().take(6).any(|token| *token == "use");
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

/// Where `unsafe` stands outside a file that is fenced and says why it is sound.
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

/// Lint exceptions without a reason, open ends, ignored tests.
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

/// The hazards after which tests in this source are named, like `h04`.
fn hazards_tested(source: &str) -> Vec<String> {
    let code = code_of(source);
    let tokens = tokens(&code);
    let mut found = Vec::new();
    for place in 0..tokens.len() {
        if !tokens[place..].starts_with(&["#", "[", "test", "]"]) {
            continue;
        }
        let rest = &tokens[place..];
        let name = rest
            .iter()
            .position(|token| *token == "fn")
            .and_then(|function| rest.get(function + 1));
        if let Some((hazard, _)) = name.and_then(|name| name.split_once('_'))
            && hazard.len() == 3
            && hazard.starts_with('h')
            && hazard[1..].bytes().all(|byte| byte.is_ascii_digit())
        {
            found.push(hazard.to_owned());
        }
    }
    found
}

// Reading Rust, as far as the rules need it

/// The source without comments, and with empty strings and characters.
fn code_of(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let in_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if rest.starts_with("//") {
            rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
        } else if rest.starts_with("/*") {
            rest = &rest[comment_bytes(rest)..];
        } else if let Some(length) = (!in_word).then(|| raw_string_bytes(rest)).flatten() {
            code.push_str("\"\"");
            rest = &rest[length..];
        } else if first == '"' {
            code.push_str("\"\"");
            rest = &rest[string_bytes(rest)..];
        } else if let Some(length) = character_bytes(rest) {
            code.push_str("' '");
            rest = &rest[length..];
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    code
}

fn comment_bytes(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

fn raw_string_bytes(rest: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        let behind = rest.strip_prefix(prefix);
        behind.is_some_and(|behind| behind.trim_start_matches('#').starts_with('"'))
    })?;
    let behind = &rest[prefix.len()..];
    let hashes = behind.len() - behind.trim_start_matches('#').len();
    let end = format!("\"{}", "#".repeat(hashes));
    let body = &behind[hashes + 1..];
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(prefix.len() + hashes + 1 + length)
}

fn string_bytes(rest: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in rest.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A character literal; a lifetime is none.
fn character_bytes(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    let mut characters = body.chars();
    let first = characters.next()?;
    if first == '\\' {
        return body[2..].find('\'').map(|at| 1 + 2 + at + 1);
    }
    (characters.next()? == '\'').then(|| 1 + first.len_utf8() + 1)
}

/// Words, `::`, and everything else sign by sign.
fn tokens(code: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = code.trim_start();
    while let Some(first) = rest.chars().next() {
        let word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if word(first) {
            rest.find(|c| !word(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        tokens.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    tokens
}

/// What stands between the brackets of each attribute.
fn attributes<'t, 's>(tokens: &'t [&'s str]) -> Vec<&'t [&'s str]> {
    let starts = (0..tokens.len()).filter_map(|place| attribute_at(tokens, place));
    starts.map(|(inside, end)| &tokens[inside..end]).collect()
}

/// Where the inside of an attribute that starts at `place` begins and ends.
fn attribute_at(tokens: &[&str], place: usize) -> Option<(usize, usize)> {
    let inside = match tokens[place..] {
        ["#", "[", ..] => place + 2,
        ["#", "!", "[", ..] => place + 3,
        _ => return None,
    };
    let mut depth = 1;
    for (offset, token) in tokens[inside..].iter().enumerate() {
        match *token {
            "[" => depth += 1,
            "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((inside, inside + offset));
        }
    }
    None
}

fn without_attributes<'s>(tokens: &[&'s str]) -> Vec<&'s str> {
    let mut kept = Vec::new();
    let mut place = 0;
    while place < tokens.len() {
        if let Some((_, end)) = attribute_at(tokens, place) {
            place = end + 1;
        } else {
            kept.push(tokens[place]);
            place += 1;
        }
    }
    kept
}

// The tree

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = WalkDir::new(root().join(folder))
        .into_iter()
        .filter_map(Result::ok)
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    files.sort();
    files
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn violations(files: &[PathBuf], check: impl Fn(&Path, &str) -> Vec<String>) -> Vec<String> {
    let mut found = Vec::new();
    for path in files {
        let name = path.strip_prefix(root()).unwrap_or(path).display();
        let here = check(path, &read(path));
        found.extend(here.into_iter().map(|what| format!("{name}: {what}")));
    }
    found
}
