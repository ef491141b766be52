//! Crashes of stores: after each one, the restored state existed before, and no acknowledged state
//! is lost.

use crate::crash;

mod corruption;
mod every;
mod faults;
mod injected;
pub(crate) mod judge;
pub(crate) mod model;
mod process;
mod second_heap;
pub(crate) mod workloads;
