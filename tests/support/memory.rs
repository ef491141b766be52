//! Measures of this process, in bytes. Other tests share it: measure in a [child](super::child).

use std::fs;

/// The most that ever was resident.
pub(crate) fn peak_rss() -> u64 {
    status("VmHWM")
}

/// What is resident.
pub(crate) fn rss() -> u64 {
    status("VmRSS")
}

/// What is resident of files, their mappings that is.
pub(crate) fn rss_file() -> u64 {
    status("RssFile")
}

/// What is resident of private memory.
pub(crate) fn rss_anon() -> u64 {
    status("RssAnon")
}

/// What is resident of tmpfs files and shared memory.
pub(crate) fn rss_shmem() -> u64 {
    status("RssShmem")
}

/// Address space in use.
pub(crate) fn virtual_size() -> u64 {
    status("VmSize")
}

/// How many mappings there are.
pub(crate) fn mappings() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    maps.lines().count()
}

/// How many descriptors are open; the one that looks is not counted.
pub(crate) fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("fd").count() - 1
}

fn status(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    in_bytes(&status, field).unwrap_or_else(|| panic!("no {field} in /proc/self/status"))
}

/// A field of `/proc/PID/status`, which are in KiB.
pub(crate) fn in_bytes(status: &str, field: &str) -> Option<u64> {
    let (_, value) = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| *name == field)?;
    let kibibytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}
