//! Mounting and answers that both filesystems in memory share.

use std::{io, path::Path, time::Duration};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, Filesystem, Generation, MountOption, ReplyAttr,
    ReplyEmpty, ReplyEntry, ReplyStatfs, SessionACL,
};

use super::user;

const CAPACITY_BYTES: u64 = 1 << 30;
pub(crate) const TIME_TO_LIVE: Duration = Duration::from_secs(1);

/// Mounts a filesystem under a name and serves it on a separate thread.
pub(crate) fn mount(
    filesystem: impl Filesystem,
    name: &str,
    options: &[MountOption],
    path: &Path,
) -> io::Result<BackgroundSession> {
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName(name.to_owned())];
    config.mount_options.extend_from_slice(options);
    // For an ordinary user this needs a line in /etc/fuse.conf.
    if user::is_root() {
        config.acl = SessionACL::All;
    }
    fuser::spawn_mount(filesystem, path, &config)
}

pub(crate) fn answer(reply: ReplyEmpty, result: Result<(), Errno>) {
    match result {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(error),
    }
}

pub(crate) fn answer_entry(reply: ReplyEntry, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attr) => reply.entry(&TIME_TO_LIVE, &attr, Generation(0)),
        Err(error) => reply.error(error),
    }
}

pub(crate) fn answer_attr(reply: ReplyAttr, result: Result<FileAttr, Errno>) {
    match result {
        Ok(attr) => reply.attr(&TIME_TO_LIVE, &attr),
        Err(error) => reply.error(error),
    }
}

/// Answers statfs(2) for a filesystem that is always empty.
pub(crate) fn answer_statfs(reply: ReplyStatfs) {
    let blocks = CAPACITY_BYTES / 4096;
    reply.statfs(blocks, blocks, blocks, 1 << 20, 1 << 20, 4096, 255, 4096);
}
