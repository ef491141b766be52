//! Shared memory through its public interface, and the programs that pass it on.

#[path = "../support/mod.rs"]
mod support;

mod client;
mod crashed;
mod ending;
mod files;
mod freezing;
mod handing;
mod inheriting;
mod injected;
mod keeping;
mod large;
mod left;
mod manager;
mod notifying;
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
mod stopping;
mod storm;
mod storm_programs;
mod telling;
mod unseen;
mod watching;
