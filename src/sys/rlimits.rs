//! Limits of this process and this kernel.
//!
//! See [`getrlimit(2)`](https://man7.org/linux/man-pages/man2/getrlimit.2.html) and
//! [`proc_sys_vm(5)`](https://man7.org/linux/man-pages/man5/proc_sys_vm.5.html).

use rustix::process::{Resource, getrlimit};

/// Returns the size of a page in bytes.
pub(crate) fn page_bytes() -> usize {
    rustix::param::page_size()
}

/// Returns the maximum number of open descriptors (the soft limit of `RLIMIT_NOFILE`).
pub(crate) fn descriptors_max() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// Returns the maximum number of mappings (`vm.max_map_count`), or the kernel's default if it
/// cannot be read.
pub(crate) fn max_map_count() -> usize {
    const KERNEL_DEFAULT: usize = 65_530;
    std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(KERNEL_DEFAULT)
}

/// Returns the current number of mappings of this process.
pub(crate) fn mappings() -> usize {
    std::fs::read("/proc/self/maps")
        .map_or(0, |maps| maps.iter().filter(|byte| **byte == b'\n').count())
}
