//! Documentation of the public face: what a function's first word is, and which types show an
//! example.

use std::sync::LazyLock;

use regex::Regex;

use crate::source::{rust_files, violations};

/// First words that end in `s` and are no verbs.
const NOT_VERBS: [&str; 18] = [
    "As",
    "Its",
    "Is",
    "Does",
    "Has",
    "Was",
    "Bytes",
    "Pages",
    "Records",
    "Files",
    "Pieces",
    "Those",
    "Statistics",
    "Options",
    "Always",
    "Times",
    "Others",
    "This",
];

/// The types that a reader meets first. Each shows an example in its documentation.
const MAIN_TYPES: [&str; 35] = [
    "MappingCache",
    "CacheOptions",
    "CachedFile",
    "Pin",
    "Group",
    "GroupBuilder",
    "Span",
    "SpanMut",
    "Layout",
    "Cursor",
    "Pieces",
    "HashOptions",
    "PieceAssembler",
    "PieceHasher",
    "ZeroCopySender",
    "Store",
    "StoreOptions",
    "Transaction",
    "WriteGuard",
    "StoreReader",
    "Image",
    "Region",
    "PageSet",
    "StorageBackend",
    "DirectoryBackend",
    "DirtyTracker",
    "Memfd",
    "ListenFds",
    "FdPassing",
    "Notify",
    "Freezer",
    "TransparentHost",
    "Client",
    "Update",
    "QueueHost",
];

#[test]
fn public_functions_start_with_a_verb() {
    let planted = "impl S {\n    /// The length.\n    pub fn len(&self) {}\n}";
    assert_eq!(without_verb(planted).len(), 1);
    assert_eq!(without_verb("/// Is it so?\npub fn f() {}").len(), 1);
    assert_eq!(
        without_verb("/// Pages of it.\npub const fn f() {}").len(),
        1
    );
    assert_eq!(
        without_verb("pub trait T {\n    /// A thing.\n    fn f();\n}").len(),
        1
    );
    for clean in [
        "/// Returns the length.\n#[must_use]\npub fn len() {}",
        "/// A noun.\npub(crate) fn f() {}",
        "pub trait T {\n    /// Reads bytes.\n    fn f();\n}",
        "/// A field.\npub x: u8,",
    ] {
        assert!(without_verb(clean).is_empty(), "{clean}");
    }

    let found = violations(&library_files(), |_, text| without_verb(text));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn main_types_have_an_example() {
    let shown = "/// A.\n///\n/// ```\n/// f();\n/// ```\n#[derive(Debug)]\npub struct Group;";
    assert_eq!(with_example(shown), ["Group"]);
    assert_eq!(
        with_example("/// See the [example](x).\npub trait T {}"),
        ["T"]
    );
    assert!(with_example("/// A.\npub struct Group;").is_empty());

    let mut shown = Vec::new();
    for path in library_files() {
        shown.extend(with_example(&crate::source::read(&path)));
    }
    let missing: Vec<_> = MAIN_TYPES
        .iter()
        .filter(|name| !shown.iter().any(|shown| shown == *name))
        .collect();
    assert!(missing.is_empty(), "no example at {missing:?}");
}

fn library_files() -> Vec<std::path::PathBuf> {
    let mut files = rust_files("src");
    files.retain(|path| !path.components().any(|part| part.as_os_str() == "bin"));
    files
}

/// Blocks of documentation: (first line number, documentation lines, the item's line).
fn documented(source: &str) -> Vec<(usize, Vec<&str>, &str)> {
    let mut found = Vec::new();
    let mut docs = Vec::new();
    let mut start = 0;
    let mut depth = 0_usize;
    for (index, line) in source.lines().enumerate() {
        let text = line.trim_start();
        if let Some(doc) = text.strip_prefix("///") {
            if docs.is_empty() {
                start = index + 1;
            }
            docs.push(doc.trim_start());
        } else if !docs.is_empty() && (depth > 0 || text.starts_with("#[")) {
            // An attribute, on one line or several.
            let opened = line.matches('[').count();
            depth = (depth + opened).saturating_sub(line.matches(']').count());
        } else if !docs.is_empty() {
            found.push((start, std::mem::take(&mut docs), line));
        }
    }
    found
}

fn without_verb(source: &str) -> Vec<String> {
    static FUNCTION: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^\s*pub (const |async |unsafe )*fn (\w+)").expect("a valid pattern")
    });
    static METHOD: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^    (unsafe )?fn (\w+)").expect("a valid pattern"));
    static VERB: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^[A-Z][a-z]+s$").expect("a valid pattern"));
    let in_trait = trait_lines(source);
    let mut found = Vec::new();
    for (number, docs, item) in documented(source) {
        let is_method =
            METHOD.is_match(item) && in_trait.iter().any(|lines| lines.contains(&number));
        if !FUNCTION.is_match(item) && !is_method {
            continue;
        }
        let first = docs[0].split_whitespace().next().unwrap_or_default();
        if !VERB.is_match(first) || NOT_VERBS.contains(&first) {
            found.push(format!("{number}: `{first}` starts the documentation"));
        }
    }
    found
}

/// Line ranges of public traits.
fn trait_lines(source: &str) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = None;
    for (index, line) in source.lines().enumerate() {
        if line.starts_with("pub trait ") || line.starts_with("pub unsafe trait ") {
            start = Some(index + 1);
        } else if line == "}"
            && let Some(start) = start.take()
        {
            ranges.push(start..index + 1);
        }
    }
    ranges
}

fn with_example(source: &str) -> Vec<String> {
    static TYPE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"^\s*pub (unsafe )?(struct|enum|trait) (\w+)").expect("a valid pattern")
    });
    let shows = |docs: &[&str]| {
        docs.iter()
            .any(|line| line.starts_with("```") || line.contains("[example]("))
    };
    documented(source)
        .into_iter()
        .filter(|(_, docs, _)| shows(docs))
        .filter_map(|(_, _, item)| TYPE.captures(item).map(|found| found[3].to_owned()))
        .collect()
}
