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
mod far_offsets;
mod fixture;
mod full_disk;
mod hints;
mod identity;
mod injected;
mod map_limit;
mod not_files;
mod options;
mod ordinary_user;
mod recency;
mod relocation;
mod reservation;
mod resizing;
mod rollback;
mod truncation;
mod unmappable;
mod unsynced;
