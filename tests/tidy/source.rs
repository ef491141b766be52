//! Reads Rust source as far as the checks need it, and lists the files of the tree.

use std::{
    fs,
    path::{Path, PathBuf},
};

use walkdir::WalkDir;

/// The source without comments, and with empty strings and characters.
pub(crate) fn code_of(source: &str) -> String {
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
        let quoted = rest.strip_prefix(prefix);
        quoted.is_some_and(|quoted| quoted.trim_start_matches('#').starts_with('"'))
    })?;
    let quoted = &rest[prefix.len()..];
    let hashes = quoted.len() - quoted.trim_start_matches('#').len();
    let end = format!("\"{}", "#".repeat(hashes));
    let body = &quoted[hashes + 1..];
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

/// Returns the length of a character literal. A lifetime is not one.
fn character_bytes(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix('\'')?;
    let mut characters = body.chars();
    let first = characters.next()?;
    if first == '\\' {
        return body[2..].find('\'').map(|at| 1 + 2 + at + 1);
    }
    (characters.next()? == '\'').then(|| 1 + first.len_utf8() + 1)
}

/// Splits code into words, `::`, and single characters for everything else.
pub(crate) fn tokens(code: &str) -> Vec<&str> {
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

/// Returns the tokens between the brackets of each attribute.
pub(crate) fn attributes<'t, 's>(tokens: &'t [&'s str]) -> Vec<&'t [&'s str]> {
    let starts = (0..tokens.len()).filter_map(|place| attribute_at(tokens, place));
    starts.map(|(inside, end)| &tokens[inside..end]).collect()
}

/// Returns the start and end of the tokens inside an attribute that starts at `place`.
pub(crate) fn attribute_at(tokens: &[&str], place: usize) -> Option<(usize, usize)> {
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

pub(crate) fn without_attributes<'s>(tokens: &[&'s str]) -> Vec<&'s str> {
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

/// Returns the tokens without the items that only tests compile, by their `#[cfg(test)]` or
/// `#[cfg(all(test, ..))]`, and the names of the modules among these items that have a file of
/// their own.
pub(crate) fn without_test_code<'s>(tokens: &[&'s str]) -> (Vec<&'s str>, Vec<String>) {
    let mut kept = Vec::new();
    let mut modules = Vec::new();
    let mut place = 0;
    while place < tokens.len() {
        let Some((inside, end)) = attribute_at(tokens, place) else {
            kept.push(tokens[place]);
            place += 1;
            continue;
        };
        let is_test = is_test_only(&tokens[inside..end]);
        if !is_test {
            kept.extend(&tokens[place..=end]);
            place = end + 1;
            continue;
        }
        place = end + 1;
        while let Some((_, end)) = attribute_at(tokens, place) {
            place = end + 1;
        }
        let len = item_len(&tokens[place..]);
        let item = &tokens[place..place + len];
        let module = item.iter().position(|token| *token == "mod");
        if let (Some(module), Some(&";")) = (module, item.last()) {
            modules.extend(item.get(module + 1).map(|name| (*name).to_owned()));
        }
        place += len;
    }
    (kept, modules)
}

/// Returns whether an attribute is `cfg` with a condition that needs `test`.
fn is_test_only(attribute: &[&str]) -> bool {
    match attribute {
        ["cfg", "(", "test", ")"] => true,
        ["cfg", "(", "all", "(", conditions @ ..] => {
            let place = conditions.iter().position(|token| *token == "test");
            place.is_some_and(|place| place == 0 || conditions[place - 1] == ",")
        }
        _ => false,
    }
}

/// Returns the files that a `mod` of test code declares, itself or one of their directories.
pub(crate) fn test_files<'f>(
    files: impl IntoIterator<Item = (&'f Path, &'f str)> + Clone,
) -> Vec<&'f Path> {
    let mut modules = Vec::new();
    for (file, source) in files.clone() {
        let code = code_of(source);
        // With `#[path]` the module is beside the file that declares it.
        let folder = file.parent().unwrap_or(file);
        for name in without_test_code(&tokens(&code)).1 {
            modules.push(folder.join(&name));
            modules.push(file.with_extension("").join(&name));
        }
    }
    let mut found: Vec<&Path> = files.into_iter().map(|(file, _)| file).collect();
    found.retain(|file| {
        let name = file.with_extension("");
        modules.iter().any(|module| name.starts_with(module))
    });
    found
}

/// Returns the number of tokens of the item or field at the start of `tokens`.
fn item_len(tokens: &[&str]) -> usize {
    const KEYWORDS: [&str; 11] = [
        "const", "enum", "extern", "fn", "impl", "mod", "static", "struct", "trait", "type", "use",
    ];
    let head = tokens
        .iter()
        .take_while(|token| !matches!(**token, "{" | "}" | ";" | ","));
    let keyword = head.copied().find(|token| KEYWORDS.contains(token));
    let (is_use, is_item) = (keyword == Some("use"), keyword.is_some());
    let mut depth = 0_usize;
    for (place, token) in tokens.iter().enumerate() {
        match *token {
            "{" | "(" | "[" => depth += 1,
            // The end of the block, of which the item is the last.
            "}" | ")" | "]" if depth == 0 => return place,
            "}" | ")" | "]" => {
                depth -= 1;
                if depth == 0 && *token == "}" && !is_use {
                    return place + 1;
                }
            }
            ";" if depth == 0 => return place + 1,
            "," if depth == 0 && !is_item => return place + 1,
            _ => {}
        }
    }
    tokens.len()
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn rust_files(directory: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = WalkDir::new(root().join(directory))
        .into_iter()
        .filter_map(Result::ok)
        .map(walkdir::DirEntry::into_path)
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect();
    files.sort();
    files
}

pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn violations(
    files: &[PathBuf],
    check: impl Fn(&Path, &str) -> Vec<String>,
) -> Vec<String> {
    let mut found = Vec::new();
    for path in files {
        let name = path.strip_prefix(root()).unwrap_or(path).display();
        let here = check(path, &read(path));
        found.extend(
            here.into_iter()
                .map(|violation| format!("{name}: {violation}")),
        );
    }
    found
}
