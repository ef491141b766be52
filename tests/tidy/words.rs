//! Words: private terms that no reader knows, identifiers outside the glossary, long lines and
//! long sentences.

use std::{path::Path, sync::LazyLock};

use regex::Regex;

use crate::{
    prose,
    source::{code_of, read, root, rust_files, tokens, violations},
};

/// Words of an earlier, private vocabulary, and the term that replaces each.
const PRIVATE_WORDS: [(&str, &str); 17] = [
    (r"\bdoors?\b", "method, API"),
    (r"\bgates?\b", "access lock"),
    (r"\b[Cc]laim(s|ed|ing)?\b", "range lock"),
    (r"\b(rot|rots|rotted|rotten)\b", "corruption"),
    (
        r"\b(WRITE_LOCK|[Hh]eaps?|METADATA)\b[^.;]{0,30}\b(taken|released)\b|\btaken or released\b",
        "incomplete, complete",
    ),
    (r"\b[Ss]tandstills?\b", "quiesce, freeze"),
    (r"\b[Uu]naware\b", "unmodified program"),
    (r"\bfor good\b", "permanently"),
    (
        r"\b(if|where|unless) (not|nothing( else)?)( is| was)? said\b",
        "Defaults to",
    ),
    (r"\bvouch\w*", "guarantees"),
    (r"\b[Ww]recks?\b", "crash file, crashed memory"),
    (r"\b[Ss]torms?\b", "crash test"),
    (r"\bsecond chance\b", "fallback heap"),
    (r"\b(closed|end(ed|s)?) in order\b", "clean shutdown"),
    (r"\b[Hh]eal(s|ed|ing)?\b", "repair"),
    (r"\b(saved|put|moved) aside\b", "saved to a crash file"),
    (
        r"\b([Hh]azards?|unminded|[Mm]inded)\b",
        "[I<n>] of docs/invariants.md",
    ),
];

/// Ordinary uses of the same words.
const LEGITIMATE: &str =
    r"[Dd]isclaim\w*|[Rr]eclaim\w*|[Pp]roclaim\w*|(feature|cfg)-gat\w+|\d+(\.\d+)? us\b";

/// Parts of identifiers that are not terms of this project.
const FOREIGN_PARTS: [&str; 30] = [
    "door",
    "doors",
    "gate",
    "gates",
    "claim",
    "claims",
    "claimed",
    "standstill",
    "standing",
    "unaware",
    "cut",
    "cuts",
    "rot",
    "twins",
    "strangers",
    "unfit",
    "nobody",
    "anybody",
    "who",
    "told",
    "tells",
    "books",
    "mercy",
    "patience",
    "keeper",
    "settle",
    "folder",
    "folders",
    "healed",
    "survey",
];

const MAX_COLUMNS: usize = 100;
const MAX_WORDS: usize = 30;

#[test]
fn prose_uses_no_private_words() {
    let planted = [
        "// the safe door",
        "/// Waits at the gate.",
        "//! who claims a range",
        "// it rots",
        "// a heap whose lock is taken",
        "// at a standstill",
        "// an unaware program",
        "// it stays for good",
        "// a minute if not said",
        "// it vouches for it",
        "// the wreck",
        "// a storm of kills",
        "// the second chance",
        "// it was closed in order",
        "// it heals",
        "// saved aside",
        "// hazard 7",
        concat!("f(); /", "/ a door"),
        concat!("#[err", "or(\"the gate is shut\")]"),
    ];
    for line in planted {
        assert!(!private_words(Path::new("x.rs"), line).is_empty(), "{line}");
    }
    for line in [
        "// reclaims memory, feature-gated, in 12 us",
        "/// `door` is code\nfn door() {}",
        "/// ```\n/// let door = 1;\n/// ```",
    ] {
        let found = private_words(Path::new("x.rs"), line);
        assert!(found.is_empty(), "{line}: {found:?}");
    }
    assert!(!private_words(Path::new("x.md"), "A door.").is_empty());
    assert!(private_words(Path::new("x.md"), "```\nA door.\n```").is_empty());

    let found = violations(&prose::files(), private_words);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn private_words(path: &Path, text: &str) -> Vec<String> {
    static WORDS: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
        let compile = |(word, term)| (Regex::new(word).expect("a valid pattern"), term);
        PRIVATE_WORDS.into_iter().map(compile).collect()
    });
    static ORDINARY: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(LEGITIMATE).expect("a valid pattern"));
    let mut found = Vec::new();
    for (number, line) in prose::of_file(path, text) {
        let line = ORDINARY.replace_all(&line, "");
        for (word, term) in WORDS.iter() {
            if let Some(hit) = word.find(&line) {
                found.push(format!("{number}: `{}`: say {term}", hit.as_str()));
            }
        }
    }
    found
}

#[test]
fn identifiers_use_the_glossary() {
    for (source, part) in [
        ("fn open_door() {}", "door"),
        ("struct ClaimsTable;", "claims"),
        ("let patience = 1;", "patience"),
        ("enum Unfit { A }", "unfit"),
        ("fn healed_one() {}", "healed"),
    ] {
        assert_eq!(foreign_identifiers(source).len(), 1, "{source}: {part}");
    }
    for clean in [
        "fn reclaim() {}",
        "// a gate\nfn f() {}",
        "let s = \"door\";",
        "fn cutoff() {}",
        "struct Whole;",
    ] {
        assert!(foreign_identifiers(clean).is_empty(), "{clean}");
    }

    let found = violations(&rust_files("src"), |_, text| foreign_identifiers(text));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn foreign_identifiers(source: &str) -> Vec<String> {
    let code = code_of(source);
    let mut found: Vec<String> = tokens(&code)
        .into_iter()
        .filter(|token| {
            identifier_parts(token)
                .iter()
                .any(|part| FOREIGN_PARTS.contains(&part.as_str()))
        })
        .map(str::to_owned)
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Splits `snake_case` and `CamelCase` into lower-case words.
fn identifier_parts(identifier: &str) -> Vec<String> {
    let mut parts = Vec::new();
    for word in identifier.split('_') {
        let mut part = String::new();
        for character in word.chars() {
            let starts_word = character.is_uppercase()
                && part.chars().last().is_some_and(|last| !last.is_uppercase());
            if starts_word {
                parts.push(std::mem::take(&mut part).to_lowercase());
            }
            part.push(character);
        }
        parts.push(part.to_lowercase());
    }
    parts
}

#[test]
fn comments_fit_in_100_columns() {
    let wide = format!("// {}", "x ".repeat(60));
    assert!(!wide_lines(Path::new("x.rs"), &wide).is_empty());
    assert!(wide_lines(Path::new("x.rs"), &wide[..100]).is_empty());
    let code = format!("let x = \"{}\";", "x".repeat(120));
    assert!(wide_lines(Path::new("x.rs"), &code).is_empty());
    let row = format!("| {} |", "x ".repeat(60));
    assert!(wide_lines(Path::new("x.md"), &row).is_empty());
    assert!(!wide_lines(Path::new("x.md"), &wide[3..]).is_empty());

    let found = violations(&prose::files(), wide_lines);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn wide_lines(path: &Path, text: &str) -> Vec<String> {
    let is_markdown = path.extension().is_some_and(|extension| extension == "md");
    let mut in_fence = false;
    let mut found = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let body = line.trim_start();
        let body = body
            .trim_start_matches("///")
            .trim_start_matches("//!")
            .trim_start();
        in_fence ^= body.starts_with("```");
        let counts = if is_markdown {
            !in_fence
        } else {
            line.trim_start().starts_with("//")
        };
        let exempt = body.starts_with('|') || body.contains("http") || body.starts_with("#[");
        if counts && !exempt && line.chars().count() > MAX_COLUMNS {
            found.push(format!("{}: {} columns", index + 1, line.chars().count()));
        }
    }
    found
}

#[test]
fn sentences_are_short() {
    let long = format!("/// It {}is long.", "very ".repeat(30));
    assert_eq!(long_sentences(Path::new("x.rs"), &long).len(), 1);
    let two = format!(
        "/// It {}is. It {}is.",
        "very ".repeat(20),
        "very ".repeat(20)
    );
    assert!(long_sentences(Path::new("x.rs"), &two).is_empty());
    let wrapped = format!(
        "/// It {}\n/// {}is.",
        "very ".repeat(20),
        "very ".repeat(20)
    );
    assert_eq!(long_sentences(Path::new("x.rs"), &wrapped).len(), 1);
    let items = format!(
        "- It {}is.\n- It {}is.",
        "very ".repeat(20),
        "very ".repeat(20)
    );
    assert!(long_sentences(Path::new("x.md"), &items).is_empty());

    let found = violations(&prose::files(), long_sentences);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

fn long_sentences(path: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (number, paragraph) in prose::paragraphs(path, text) {
        for sentence in sentences(&paragraph) {
            let words = sentence.split_whitespace().count();
            if words > MAX_WORDS {
                let start: String = sentence.chars().take(60).collect();
                found.push(format!("{number}: {words} words: {start}"));
            }
        }
    }
    found
}

/// Splits after `.`, `;`, `:`, `!` or `?` where a capital letter or code follows.
fn sentences(paragraph: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    let mut start = 0;
    let bytes = paragraph.as_bytes();
    for (place, pair) in bytes.windows(3).enumerate() {
        if matches!(pair[0], b'.' | b';' | b':' | b'!' | b'?')
            && pair[1] == b' '
            && (pair[2].is_ascii_uppercase() || matches!(pair[2], b'`' | b'['))
        {
            sentences.push(&paragraph[start..=place]);
            start = place + 2;
        }
    }
    sentences.push(&paragraph[start..]);
    sentences
}

#[test]
fn functions_in_src_have_at_most_60_lines() {
    let long = format!("fn f() {{\n{}}}\n", "    g();\n".repeat(59));
    assert_eq!(long_functions(&long), ["1: f has 61 lines"]);
    let fitting = format!("fn f() {{\n{}}}\n", "    g();\n".repeat(58));
    assert!(long_functions(&fitting).is_empty());
    let method = format!(
        "impl S {{\n    pub(crate) async fn f(\n        x: u8,\n    ) {{\n{}    }}\n}}\n",
        "        g();\n".repeat(70)
    );
    assert_eq!(long_functions(&method).len(), 1);

    let found = violations(&rust_files("src"), |_, text| long_functions(text));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Functions by their lines, in formatted source: the end has the indentation of the start.
fn long_functions(source: &str) -> Vec<String> {
    static START: LazyLock<Regex> = LazyLock::new(|| {
        let pattern = r#"^(\s*)(pub(\([^)]*\))? )?((const|async|unsafe|extern "C") )*fn (\w+)"#;
        Regex::new(pattern).expect("a valid pattern")
    });
    let lines: Vec<&str> = source.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(function) = START.captures(line) else {
            continue;
        };
        if line.trim_end().ends_with([';', '}']) {
            continue;
        }
        let closing = format!("{}}}", &function[1]);
        let declaration_end = format!("{});", &function[1]);
        let end = lines[start..]
            .iter()
            .position(|line| *line == closing || line.starts_with(&declaration_end));
        let length = end.map_or(0, |end| end + 1);
        if length > 60 {
            found.push(format!(
                "{}: {} has {length} lines",
                start + 1,
                &function[6]
            ));
        }
    }
    found
}

#[test]
fn citations_of_invariants_have_an_entry_and_a_test() {
    let text = read(&root().join("docs/invariants.md"));
    let entries = invariants(&text);
    assert_eq!(
        invariants("## I3. A\n\n- **Rule.**\n\n## I15. B\n\nNot implemented: c\n"),
        [(3, true), (15, false)]
    );
    assert_eq!(cited("// see [I7] and [I33]"), [7, 33]);
    assert_eq!(tested("#[test]\nfn i04_x() {}\nfn i05_helper() {}"), [4]);
    assert_eq!(
        tested("proptest! {\n    #[test]\n    fn i38_z(x in 0..1) {}\n}"),
        [38]
    );

    let mut files = prose::files();
    files.sort();
    let mut tests = Vec::new();
    for path in &files {
        let text = read(path);
        for number in cited(&text) {
            let known = entries.iter().any(|(entry, _)| *entry == number);
            assert!(known, "{}: [I{number}] has no entry", path.display());
        }
        if path.extension().is_some_and(|extension| extension == "rs") {
            tests.extend(tested(&text));
        }
    }
    let missing: Vec<u32> = entries
        .iter()
        .filter(|(number, implemented)| *implemented && !tests.contains(number))
        .map(|(number, _)| *number)
        .collect();
    assert!(missing.is_empty(), "no test is named after {missing:?}");
    assert_eq!(entries.len(), 42);
}

/// The numbers of the entries, and whether each is implemented.
fn invariants(markdown: &str) -> Vec<(u32, bool)> {
    let mut entries = Vec::new();
    for line in markdown.lines() {
        if let Some((number, _)) = line
            .strip_prefix("## I")
            .and_then(|title| title.split_once('.'))
        {
            entries.push((number.parse().expect("a number"), true));
        } else if line.starts_with("Not implemented")
            && let Some((_, implemented)) = entries.last_mut()
        {
            *implemented = false;
        }
    }
    entries
}

fn cited(text: &str) -> Vec<u32> {
    static CITATION: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"\[I(\d+)\]").expect("a valid pattern"));
    let numbers = CITATION.captures_iter(text);
    numbers.filter_map(|found| found[1].parse().ok()).collect()
}

/// The invariants after which tests in this source are named, like `i04_...`.
fn tested(source: &str) -> Vec<u32> {
    let code = code_of(source);
    let tokens = tokens(&code);
    let mut found = Vec::new();
    for place in 0..tokens.len() {
        if !tokens[place..].starts_with(&["#", "[", "test", "]"]) {
            continue;
        }
        let rest = &tokens[place..];
        let function = rest.iter().position(|token| *token == "fn");
        let Some(name) = function.and_then(|function| rest.get(function + 1)) else {
            continue;
        };
        for part in name.split('_') {
            let Some(number) = part.strip_prefix('i').filter(|digits| digits.len() == 2) else {
                break;
            };
            found.extend(number.parse::<u32>());
        }
    }
    found
}
