//! Shared memory as its callers see it, and the programs that hand it over.

#[path = "../support/mod.rs"]
mod support;

mod files;
mod handing;
mod inheriting;
mod left;
mod manager;
mod notifying;
mod primes;
mod programs;
mod queue;
mod receiving;
mod service;
mod storm;
mod storm_programs;
mod watching;
