//! The mapping cache through its public interface: budget, access, descriptors, full disks, files
//! that another process truncates or replaces, filesystems with missing features, and errors
//! injected into single system calls.

#[path = "../support/mod.rs"]
mod support;

mod access;
mod budget;
mod concurrency;
mod copy_on_write;
mod descriptors;
mod dirty_files;
mod eviction;
mod far_offsets;
mod fixture;
mod full_disk;
mod hints;
mod identity;
mod injected;
mod map_limit;
mod moving;
mod not_mappable;
mod not_regular_files;
mod options;
mod ordinary_user;
mod preallocation;
mod replaced_mappings;
mod resizing;
mod rollback;
mod truncation;
