//! Extracts prose from sources: comments, messages, help texts, Markdown outside code fences.

use std::{path::PathBuf, sync::LazyLock};

use regex::Regex;
use walkdir::WalkDir;

use crate::source::{root, rust_files};

/// One line of prose: its line number and its text without inline code, links and URLs.
pub(crate) type Line = (usize, String);

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).expect("the pattern is valid")
}

/// Removes inline code, link targets and URLs.
pub(crate) fn without_code(text: &str) -> String {
    static CODE: LazyLock<Regex> = LazyLock::new(|| regex("`[^`]*`"));
    static TARGET: LazyLock<Regex> = LazyLock::new(|| regex(r"\]\([^)]*\)"));
    static URL: LazyLock<Regex> = LazyLock::new(|| regex(r"https?://\S+"));
    let text = CODE.replace_all(text, "`x`");
    let text = TARGET.replace_all(&text, "]");
    URL.replace_all(&text, "").into_owned()
}

/// Returns the prose of a Rust file. Strings count in programs and examples, and in `#[error]`.
pub(crate) fn of_rust(source: &str, strings_count: bool) -> Vec<Line> {
    static COMMENT: LazyLock<Regex> = LazyLock::new(|| regex(r"^\s*(//[/!]?)(.*)$"));
    static TRAILING: LazyLock<Regex> = LazyLock::new(|| regex(r"[;{,)] // (.*)$"));
    static STRING: LazyLock<Regex> = LazyLock::new(|| regex(r#""((?:[^"\\]|\\.)*)""#));
    let mut lines = Vec::new();
    let mut in_fence = false;
    let mut after_error = false;
    for (index, line) in source.lines().enumerate() {
        let number = index + 1;
        if let Some(found) = COMMENT.captures(line) {
            let text = &found[2];
            let is_doc = &found[1] != "//";
            if is_doc && text.trim_start().starts_with("```") {
                in_fence = !in_fence;
            } else if !(is_doc && in_fence) {
                lines.push((number, without_code(text)));
            } else if let Some(inner) = COMMENT.captures(text.trim_start_matches([' ', '#'])) {
                lines.push((number, without_code(&inner[2])));
            }
            continue;
        }
        in_fence = false;
        if let Some(found) = TRAILING.captures(line) {
            lines.push((number, without_code(&found[1])));
        }
        let is_error = line.contains("#[error(");
        if is_error || after_error || strings_count {
            let strings = STRING.captures_iter(line).map(|found| found[1].to_owned());
            let sentences = strings.filter(|string| string.contains(' '));
            lines.extend(sentences.map(|string| (number, without_code(&string))));
        }
        after_error = line.trim_end().ends_with("#[error(");
    }
    lines.extend(of_help_texts(source));
    lines
}

/// Returns the lines of `const NAME: &str = "\` texts, as the programs keep their help in.
fn of_help_texts(source: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut inside = false;
    for (index, line) in source.lines().enumerate() {
        if inside {
            lines.push((index + 1, without_code(line)));
            inside = !line.ends_with("\";");
        } else {
            inside = line.contains("const ") && line.ends_with(": &str = \"\\");
        }
    }
    lines
}

/// Returns the prose of a Markdown file.
pub(crate) fn of_markdown(text: &str) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut in_fence = false;
    for (index, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            in_fence = !in_fence;
        } else if !in_fence {
            lines.push((index + 1, without_code(line)));
        }
    }
    lines
}

/// Returns the prose of a file of the tree.
pub(crate) fn of_file(path: &std::path::Path, text: &str) -> Vec<Line> {
    if path.extension().is_some_and(|extension| extension == "md") {
        return of_markdown(text);
    }
    let inside = path.strip_prefix(root()).unwrap_or(path);
    of_rust(
        text,
        inside.starts_with("src/bin") || inside.starts_with("examples"),
    )
}

/// Paragraphs of documentation and Markdown: the line where each starts, and its text.
pub(crate) fn paragraphs(path: &std::path::Path, text: &str) -> Vec<Line> {
    let is_markdown = path.extension().is_some_and(|extension| extension == "md");
    let mut paragraphs: Vec<Line> = Vec::new();
    let mut in_fence = false;
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        let Some(line) = doc_text(line, is_markdown) else {
            (open, in_fence) = (false, false);
            continue;
        };
        let trimmed = line.trim();
        if trimmed.starts_with("```") {
            in_fence = !in_fence;
        }
        if in_fence || trimmed.is_empty() || trimmed.starts_with(['#', '|', '`', '<']) && !open {
            open = false;
            if in_fence || trimmed.is_empty() || trimmed.starts_with(['#', '|', '<']) {
                continue;
            }
        }
        if trimmed.starts_with('|') {
            open = false;
            continue;
        }
        let starts_item = trimmed.starts_with("- ")
            || trimmed.starts_with("* ")
            || trimmed.split_once(". ").is_some_and(|(number, _)| {
                !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
            });
        match paragraphs.last_mut() {
            Some((_, paragraph)) if open && !starts_item => {
                paragraph.push(' ');
                paragraph.push_str(trimmed);
            }
            _ => paragraphs.push((index + 1, trimmed.to_owned())),
        }
        open = true;
    }
    let plain = |(number, text): Line| (number, without_code(&text));
    paragraphs.into_iter().map(plain).collect()
}

fn doc_text(line: &str, is_markdown: bool) -> Option<&str> {
    if is_markdown {
        return Some(line);
    }
    let line = line.trim_start();
    line.strip_prefix("//!").or_else(|| {
        let doc = line.strip_prefix("///")?;
        (!doc.starts_with('/')).then_some(doc)
    })
}

/// Every file whose prose is checked. The files of these checks plant what they look for.
pub(crate) fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = ["src", "examples", "benches", "tests", "fuzz"]
        .into_iter()
        .flat_map(rust_files)
        .filter(|path| {
            let inside = path.strip_prefix(root()).unwrap_or(path);
            !inside.starts_with("tests/tidy")
                && inside != std::path::Path::new("tests/tidy.rs")
                && !inside.components().any(|part| part.as_os_str() == "target")
        })
        .collect();
    files.extend(markdown());
    files
}

/// The Markdown files at the top and in docs.
pub(crate) fn markdown() -> Vec<PathBuf> {
    let top = WalkDir::new(root()).max_depth(1);
    let docs = WalkDir::new(root().join("docs"));
    let mut files: Vec<PathBuf> = top
        .into_iter()
        .chain(docs)
        .filter_map(Result::ok)
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    files.sort();
    files
}
