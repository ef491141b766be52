//! Shared memory through its public interface, and the programs that pass it on.

#[path = "../support/mod.rs"]
mod support;

mod client;
mod crash_test;
mod crash_test_programs;
mod crashed;
mod ending;
mod event_names;
mod files;
mod freeze_mode;
mod freezing;
mod history;
mod inherited_fds;
mod inheriting;
mod injected;
mod large;
mod manager;
mod notifying;
mod passing_fds;
mod primes;
mod programs;
mod queue;
mod receiving;
mod refusing;
mod renaming;
mod restoring;
mod service;
mod showing;
mod signalling;
mod states;
mod unobserved_end;
mod watching;
