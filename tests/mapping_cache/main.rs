//! The mapping cache as its callers see it: budget, access, descriptors, full disks, files that others
//! cut or replace, filesystems that refuse, and errors put into single system calls.

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
