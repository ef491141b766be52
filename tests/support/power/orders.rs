//! Daemon side: mounts, cuts the power and mounts again, as ordered on its standard input.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard},
};

use fuser::BackgroundSession;

use super::super::fuse;
use super::{Lie, Plan, Progress, medium::Medium, server};

/// State that the server and the orders share.
pub(super) type Shared = Arc<Mutex<Medium>>;

pub(super) fn locked(medium: &Shared) -> MutexGuard<'_, Medium> {
    medium.lock().expect("no request panics")
}

/// Mounts, reports readiness, and executes orders until the input ends.
pub(in crate::support) fn serve(path: &Path, ready: impl FnOnce()) -> BackgroundSession {
    let medium = Arc::new(Mutex::new(Medium::empty()));
    let mut session = server::mount(&medium, path).expect("mount");
    ready();
    for order in io::stdin().lines().map_while(Result::ok) {
        let (what, rest) = order.split_once(' ').unwrap_or((&order, ""));
        if what == "progress" {
            let progress = locked(&medium).progress().clone();
            let Progress {
                operations,
                is_cut,
                last,
            } = progress;
            println!("{operations} {is_cut} {last}");
            continue;
        }
        // A file may still be open between fork and exec in another thread of the parent.
        if session.umount_and_join().is_err() {
            fuse::unmount(path);
        }
        if what == "empty" {
            *locked(&medium) = Medium::empty();
        }
        locked(&medium).restart(plan(rest).expect("a plan"));
        session = server::mount(&medium, path).expect("mount");
        println!("mounted");
    }
    session
}

fn plan(words: &str) -> Option<Plan> {
    let mut words = words.split(' ');
    let operations_max = words.next()?.parse().ok()?;
    let survivors_seed = words.next()?.parse().ok()?;
    let lie = match words.next()? {
        "Never" => Lie::Never,
        "Always" => Lie::Always,
        "OfJournals" => Lie::OfJournals,
        "OfHeaps" => Lie::OfHeaps,
        "OfDirectories" => Lie::OfDirectories,
        _ => return None,
    };
    Some(Plan {
        operations_max,
        survivors_seed,
        lie,
    })
}
