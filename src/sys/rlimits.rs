//! Limits of this process and this kernel.

use rustix::process::{Resource, getrlimit};

/// Size of a page in bytes.
pub(crate) fn page_bytes() -> usize {
    rustix::param::page_size()
}

/// How many descriptors this process may have open (the soft limit of `RLIMIT_NOFILE`).
pub(crate) fn descriptors_max() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX))
}

/// How many mappings a process may have (`vm.max_map_count`); the kernel's default if it does not say.
pub(crate) fn max_map_count() -> usize {
    const KERNEL_DEFAULT: usize = 65_530;
    std::fs::read_to_string("/proc/sys/vm/max_map_count")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(KERNEL_DEFAULT)
}

/// How many mappings this process has now.
pub(crate) fn mappings() -> usize {
    std::fs::read("/proc/self/maps")
        .map_or(0, |maps| maps.iter().filter(|byte| **byte == b'\n').count())
}
