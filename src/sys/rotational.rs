//! Rotational storage devices.
//!
//! See [`sysfs(5)`](https://man7.org/linux/man-pages/man5/sysfs.5.html).

/// Returns whether the block device with these numbers is rotational (sysfs `queue/rotational`).
/// Returns `false` for unknown devices.
pub(crate) fn is_rotational((major, minor): (u32, u32)) -> bool {
    let device = format!("/sys/dev/block/{major}:{minor}");
    // A partition has no queue of its own: its disk is the parent directory.
    ["queue/rotational", "../queue/rotational"]
        .iter()
        .find_map(|queue| std::fs::read_to_string(format!("{device}/{queue}")).ok())
        .is_some_and(|flag| flag.trim() == "1")
}
