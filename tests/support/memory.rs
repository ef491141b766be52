//! Measurements of this process, in bytes. Other tests share it: measure in a
//! [child](super::child).

use std::fs;

/// Returns the peak resident size.
pub(crate) fn peak_rss() -> u64 {
    status("VmHWM")
}

/// Returns the resident size.
pub(crate) fn rss() -> u64 {
    status("VmRSS")
}

/// Returns the resident size of file mappings.
pub(crate) fn rss_file() -> u64 {
    status("RssFile")
}

/// Returns the resident size of private memory.
pub(crate) fn rss_anon() -> u64 {
    status("RssAnon")
}

/// Returns the resident size of tmpfs files and shared memory.
pub(crate) fn rss_shmem() -> u64 {
    status("RssShmem")
}

/// Returns the size of the address space.
pub(crate) fn virtual_size() -> u64 {
    status("VmSize")
}

/// Returns the number of mappings.
pub(crate) fn mappings() -> usize {
    let maps = fs::read_to_string("/proc/self/maps").expect("maps");
    maps.lines().count()
}

/// Returns the number of open descriptors, without the one that lists them.
pub(crate) fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("fd").count() - 1
}

fn status(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("status");
    in_bytes(&status, field).unwrap_or_else(|| panic!("no {field} in /proc/self/status"))
}

/// Returns a field of `/proc/PID/status` (which is in KiB) in bytes.
pub(crate) fn in_bytes(status: &str, field: &str) -> Option<u64> {
    let (_, value) = status
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| *name == field)?;
    let kibibytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}
