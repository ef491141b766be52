//! Descriptors from a service manager (`sd_listen_fds(3)`): lists them by name and counts runs in a
//! memfd.
//!
//! ```text
//! shm-fd target/debug/examples/listen_fds
//! ```
//!
//! `shm-fd` passes a memfd named `SHM_SHARED_FD`. A service manager that keeps the memfd passes the
//! same one to the next run. Started alone, the program reports that it got no descriptors.

use std::error::Error;
use std::sync::atomic::Ordering;

use flatspan::shm::{ListenFds, Memfd, SHARED_FD_NAME};

fn main() -> Result<(), Box<dyn Error>> {
    // A process can receive its descriptors once, and should do so before it opens other files.
    let mut fds = ListenFds::from_env()?;
    if let Some(reason) = fds.absence() {
        println!("no descriptors: {reason}");
        return Ok(());
    }
    for name in fds.names() {
        println!("received: {name}");
    }

    let memfd = Memfd::from_fd(fds.take(SHARED_FD_NAME)?)?;
    memfd.grow_to(4096)?;
    let map = memfd.map_mut(0..4096)?;
    let runs = 1 + map.words()[0].fetch_add(1, Ordering::Relaxed);
    println!("run {runs} with this memfd");
    Ok(())
}
