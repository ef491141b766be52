//! Crashes of stores: after every one, what comes back is a state that was, and none that was acknowledged is lost.

use crate::crash;

mod every;
mod faults;
mod injected;
pub(crate) mod judge;
pub(crate) mod model;
mod process;
mod rot;
mod second_heap;
pub(crate) mod workloads;
