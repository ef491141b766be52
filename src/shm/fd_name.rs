//! Names of descriptors, and the list of them in `LISTEN_FDNAMES`.
//!
//! Names stand between colons. systemd sends them as they are and reads a backslash as "take the next character as it is";
//! so do we read, and write what it reads back.

use super::error::ShmError;

/// The name of the descriptor of shared memory, where nothing else is said.
pub const SHARED_FD_NAME: &str = "SHM_SHARED_FD";

/// Descriptors that nobody named have this name.
pub(super) const UNKNOWN: &str = "unknown";

/// systemd's `FDNAME_MAX`.
const NAME_BYTES_MAX: usize = 255;

/// Can the protocol carry this name?
pub(super) fn check(name: &str) -> Result<(), ShmError> {
    let refuse = |reason| {
        Err(ShmError::Name {
            name: name.to_owned(),
            reason,
        })
    };
    if name.is_empty() {
        return refuse("it is empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return refuse("it has more than 255 bytes");
    }
    if !name.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return refuse("it has other characters than printable ASCII");
    }
    Ok(())
}

/// As [`check`], and for a service manager, which knows no escapes.
pub(super) fn check_plain(name: &str) -> Result<(), ShmError> {
    check(name)?;
    match name.contains([':', '\\']) {
        false => Ok(()),
        true => Err(ShmError::Name {
            name: name.to_owned(),
            reason: "a colon or backslash is not allowed here",
        }),
    }
}

/// The list of names.
pub(super) fn join<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut list = String::new();
    for (place, name) in names.enumerate() {
        if place > 0 {
            list.push(':');
        }
        for character in name.chars() {
            if matches!(character, ':' | '\\') {
                list.push('\\');
            }
            list.push(character);
        }
    }
    list
}

/// The names of a list, at least one; `None` when it ends inside an escape.
pub(super) fn split(list: &str) -> Option<Vec<String>> {
    let mut names = vec![];
    let mut name = String::new();
    let mut characters = list.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => name.push(characters.next()?),
            ':' => names.push(std::mem::take(&mut name)),
            _ => name.push(character),
        }
    }
    names.push(name);
    Some(names)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lists_are_read_as_systemd_reads_them() {
        let names = |list| split(list).expect("a list");
        assert_eq!(names("a"), ["a"]);
        assert_eq!(names(""), [""]);
        assert_eq!(names("a::b:"), ["a", "", "b", ""]);
        assert_eq!(names(r"a\:b:c\\d:\e"), ["a:b", r"c\d", "e"]);
        assert_eq!(split(r"a:b\"), None);
    }

    #[test]
    fn names_are_printable_and_not_too_long() {
        for name in ["SHM_SHARED_FD", "web.socket", "a b", "a:b", r"a\b"] {
            check(name).expect(name);
        }
        let long = "x".repeat(256);
        for name in ["", "a\nb", "\u{e9}", "a\u{7f}", &long] {
            let refused = check(name).expect_err(name);
            assert!(matches!(refused, ShmError::Name { .. }), "{refused}");
        }
        check(&long[1..]).expect("255 bytes");
        for name in ["a:b", r"a\b"] {
            assert!(check_plain(name).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn what_is_joined_is_split_again(names in prop::collection::vec("[ -~]{1,20}", 1..6)) {
            let list = join(names.iter().map(String::as_str));
            prop_assert_eq!(split(&list), Some(names));
        }
    }
}
