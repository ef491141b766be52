//! Snapshots as their callers see them.

#[path = "../support/mod.rs"]
mod support;

mod background;
mod blind_spots;
mod crash;
#[path = "crash/toy.rs"]
mod crash_toy;
mod crashes;
mod disk;
mod disk_failing;
mod disk_places;
mod falling_back;
mod fixture;
mod found_by_storms;
mod gated_disk;
mod given_up;
mod golden;
mod history;
mod isolation;
mod lazy_rot;
mod moving_memory;
mod on_the_array;
mod ordinary_user;
mod page_set;
mod part_lengths;
#[cfg(target_os = "linux")]
mod power;
mod region;
mod restored;
mod rot;
mod rot_files;
mod second_heap;
mod shadow;
mod shared_memory;
mod stamps;
mod stores;
mod tables;
mod trackers;
mod transaction_guard;
mod unprivileged;
mod watched_disk;
