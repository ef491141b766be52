//! Behaviour of the snapshot layer through its public API.

#[path = "../support/mod.rs"]
mod support;

mod backend;
mod backend_failures;
mod backend_paths;
mod background;
mod blind_spots;
mod blocking_backend;
mod changing_memory;
mod checksum_tree;
mod corruption;
mod crash;
mod crash_test_findings;
#[path = "crash/toy.rs"]
mod crash_toy;
mod crashes;
mod failed_delta;
mod fallback;
mod file_corruption;
mod fixture;
mod golden;
mod heap_as_group;
mod history;
mod isolation;
mod lazy_verification;
mod lock_lifetime;
mod ordinary_user;
mod page_set;
mod part_lengths;
#[cfg(target_os = "linux")]
mod power;
mod region;
mod restored;
mod second_heap;
mod shadow;
mod shared_memory;
mod stamps;
mod stores;
mod trackers;
mod transaction_guard;
#[cfg(feature = "zerocopy")]
mod typed;
mod unprivileged;
mod watched_backend;
