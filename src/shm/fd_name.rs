//! Names of descriptors, and their list in `LISTEN_FDNAMES`.
//!
//! Colons separate the names.
//! [`sd_listen_fds(3)`](https://man7.org/linux/man-pages/man3/sd_listen_fds.3.html) reads a
//! backslash as an escape of the next character, but systemd writes names without escapes. This
//! module reads as systemd does, and escapes colons and backslashes when it writes.

use super::error::ShmError;

/// Default name of the descriptor of shared memory.
pub const SHARED_FD_NAME: &str = "SHM_SHARED_FD";

/// Name of descriptors without a name of their own.
pub(super) const UNKNOWN: &str = "unknown";

/// `FDNAME_MAX` of systemd.
const NAME_BYTES_MAX: usize = 255;

/// Refuses a name that the protocol cannot carry.
pub(super) fn check(name: &str) -> Result<(), ShmError> {
    let refuse = |reason| {
        Err(ShmError::InvalidFdName {
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
        return refuse("it has characters other than printable ASCII");
    }
    Ok(())
}

/// As [`check`], for a service manager, which knows no escapes.
pub(super) fn check_plain(name: &str) -> Result<(), ShmError> {
    check(name)?;
    if name.contains([':', '\\']) {
        return Err(ShmError::InvalidFdName {
            name: name.to_owned(),
            reason: "a service manager accepts no colon or backslash",
        });
    }
    Ok(())
}

/// The names as one list.
pub(super) fn join<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut list = String::new();
    for (index, name) in names.enumerate() {
        if index > 0 {
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

/// The names of a list, at least one. `None` if the list ends inside an escape.
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
    fn lists_are_split_like_systemd_splits_them() {
        let names = |list| split(list).expect("a list");
        assert_eq!(names("a"), ["a"]);
        assert_eq!(names(""), [""]);
        assert_eq!(names("a::b:"), ["a", "", "b", ""]);
        assert_eq!(names(r"a\:b:c\\d:\e"), ["a:b", r"c\d", "e"]);
        assert_eq!(split(r"a:b\"), None);
    }

    #[test]
    fn check_accepts_printable_names_up_to_255_bytes() {
        for name in ["SHM_SHARED_FD", "web.socket", "a b", "a:b", r"a\b"] {
            check(name).expect(name);
        }
        let long = "x".repeat(256);
        for name in ["", "a\nb", "\u{e9}", "a\u{7f}", &long] {
            let refused = check(name).expect_err(name);
            assert!(
                matches!(refused, ShmError::InvalidFdName { .. }),
                "{refused}"
            );
        }
        check(&long[1..]).expect("255 bytes");
        for name in ["a:b", r"a\b"] {
            assert!(check_plain(name).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn split_inverts_join(names in prop::collection::vec("[ -~]{1,20}", 1..6)) {
            let list = join(names.iter().map(String::as_str));
            prop_assert_eq!(split(&list), Some(names));
        }
    }
}
