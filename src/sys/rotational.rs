//! Does the file lie on a disk that has to move its head?

/// True when the kernel says that the block device of these numbers rotates; unknown devices do not.
pub(crate) fn is_rotational((major, minor): (u32, u32)) -> bool {
    let device = format!("/sys/dev/block/{major}:{minor}");
    // A partition has no queue of its own: its disk is the folder above.
    ["queue/rotational", "../queue/rotational"]
        .iter()
        .find_map(|queue| std::fs::read_to_string(format!("{device}/{queue}")).ok())
        .is_some_and(|flag| flag.trim() == "1")
}
