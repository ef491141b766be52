//! Properties of the filesystem of a directory, tested on temporary files there.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, ioctl_ficlone, seek, statfs};

use crate::finding::{Finding, Status};
use crate::format::BinaryBytes;

const BLOCK_BYTES: u64 = 64 << 10;

/// Kinds of filesystems, by their effect on stores.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Local,
    CopyOnWrite,
    Network,
    Memory,
    Unknown,
}

/// Filesystems by `f_type` of statfs(2), from `linux/magic.h` and the filesystems' own headers.
const KINDS: [(i64, &str, Kind); 19] = [
    (0xEF53, "ext2/3/4", Kind::Local),
    (0x5846_5342, "xfs", Kind::Local),
    (0xF2F5_2010, "f2fs", Kind::Local),
    (0x4D44, "vfat", Kind::Local),
    (0x2011_BAB0, "exfat", Kind::Local),
    (0x794C_7630, "overlayfs", Kind::Unknown),
    (0x9123_683E, "btrfs", Kind::CopyOnWrite),
    (0xCA45_1A4E, "bcachefs", Kind::CopyOnWrite),
    (0x2FC1_2FC1, "zfs", Kind::CopyOnWrite),
    (0x0102_1994, "tmpfs", Kind::Memory),
    (0x8584_58F6, "ramfs", Kind::Memory),
    (0x6969, "nfs", Kind::Network),
    (0xFF53_4D42, "cifs", Kind::Network),
    (0xFE53_4D42, "smb2", Kind::Network),
    (0x517B, "smb", Kind::Network),
    (0x0102_1997, "9p", Kind::Network),
    (0x00C3_6400, "ceph", Kind::Network),
    (0x5346_414F, "afs", Kind::Network),
    (0x6573_5546, "fuse", Kind::Unknown),
];

/// A temporary file, removed on drop.
struct Scratch {
    path: PathBuf,
    file: File,
}

impl Scratch {
    fn new(directory: &Path, name: &str) -> io::Result<Self> {
        let path = directory.join(format!(".flatspan-doctor-{}-{name}", std::process::id()));
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        Ok(Self { path, file })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.path));
    }
}

pub(crate) fn findings(directory: &Path) -> Vec<Finding> {
    let mut findings = vec![filesystem(directory)];
    findings.extend(free_space(directory));
    match (Scratch::new(directory, "a"), Scratch::new(directory, "b")) {
        (Ok(one), Ok(other)) => findings.extend(probe_all(&one, &other)),
        (Err(error), _) | (_, Err(error)) => findings.push(Finding::new(
            "writing in DIR",
            error.to_string(),
            Status::Unavailable,
            "stores cannot be created or opened here; existing ones can be read",
        )),
    }
    findings
}

fn filesystem(directory: &Path) -> Finding {
    let name = "filesystem of DIR";
    let found = match statfs(directory) {
        Ok(found) => found,
        Err(error) => return Finding::new(name, error.to_string(), Status::Warning, "unknown"),
    };
    let magic = found.f_type as u32;
    let known = KINDS
        .iter()
        .find(|(number, ..)| *number == i64::from(magic));
    let (value, kind) = match known {
        Some((_, name, kind)) => ((*name).to_owned(), *kind),
        None => (format!("number {magic:#x}"), Kind::Unknown),
    };
    let (status, explanation) = match kind {
        Kind::Local => (
            Status::Ok,
            "writes in place: preallocated storage can always be written",
        ),
        Kind::CopyOnWrite => (
            Status::Warning,
            "copy-on-write: preallocation covers only the first write of a block, so a full disk may be detected late; \
             copies of a store share storage",
        ),
        Kind::Network => (
            Status::Warning,
            "network: locks and syncs are as reliable as the server; a writer on another machine may go unnoticed",
        ),
        Kind::Memory => (
            Status::Warning,
            "in memory: stores do not survive a power failure",
        ),
        Kind::Unknown => (
            Status::Warning,
            "the underlying storage is unknown: rely on the tests below",
        ),
    };
    Finding::new(name, value, status, explanation)
}

fn free_space(directory: &Path) -> Option<Finding> {
    let found = rustix::fs::statvfs(directory).ok()?;
    let bytes = found.f_bavail.saturating_mul(found.f_frsize);
    Some(Finding::new(
        "free space in DIR",
        BinaryBytes(bytes).to_string(),
        Status::Warning,
        "a store needs at most twice its region plus its journal",
    ))
}

fn probe_all(one: &Scratch, other: &Scratch) -> Vec<Finding> {
    let probe = |name, outcome, explanations| finding(name, outcome, Status::Warning, explanations);
    let require =
        |name, outcome, explanations| finding(name, outcome, Status::Unavailable, explanations);
    vec![
        probe(
            "fallocate",
            preallocate(one),
            [
                "a full disk is detected before a record is written",
                "storage cannot be preallocated: a full disk is detected while the journal is written, and poisons the store",
            ],
        ),
        probe(
            "punch hole",
            punch_hole(one),
            [
                "pages of zeros free their storage",
                "pages that become zeros keep their storage",
            ],
        ),
        probe(
            "holes",
            find_holes(one),
            [
                "zeros of sparse stores are skipped when they are read and verified",
                "sparse stores are read completely, including their zeros",
            ],
        ),
        probe(
            "reflink",
            reflink(one, other),
            [
                "copies of a store can share its storage",
                "copies of a store need their full size",
            ],
        ),
        require(
            "flock",
            lock(one),
            [
                "two writers exclude each other",
                "two writers would not exclude each other",
            ],
        ),
        require(
            "sync",
            one.file.sync_all(),
            [
                "acknowledged data is on the disk, as far as the disk reports the truth",
                "nothing is durable here",
            ],
        ),
    ]
}

fn finding(
    name: &'static str,
    outcome: io::Result<()>,
    otherwise: Status,
    [works, fails]: [&str; 2],
) -> Finding {
    match outcome {
        Ok(()) => Finding::new(name, "works", Status::Ok, works),
        Err(error) => Finding::new(name, error.to_string(), otherwise, fails),
    }
}

fn preallocate(scratch: &Scratch) -> io::Result<()> {
    Ok(fallocate(
        &scratch.file,
        FallocateFlags::KEEP_SIZE,
        0,
        BLOCK_BYTES,
    )?)
}

fn punch_hole(scratch: &Scratch) -> io::Result<()> {
    scratch
        .file
        .write_all_at(&[1; 2 * BLOCK_BYTES as usize], 0)?;
    scratch.file.sync_all()?;
    let before = scratch.file.metadata()?.blocks();
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&scratch.file, flags, 0, BLOCK_BYTES)?;
    scratch.file.sync_all()?;
    if scratch.file.metadata()?.blocks() < before {
        Ok(())
    } else {
        Err(io::Error::other("frees no storage"))
    }
}

fn find_holes(scratch: &Scratch) -> io::Result<()> {
    scratch.file.set_len(0)?;
    scratch.file.set_len(64 * BLOCK_BYTES)?;
    scratch.file.write_all_at(&[1; 4096], 32 * BLOCK_BYTES)?;
    match seek(&scratch.file, SeekFrom::Data(0))? {
        0 => Err(io::Error::other("holes are reported as data")),
        _ => Ok(()),
    }
}

fn reflink(one: &Scratch, other: &Scratch) -> io::Result<()> {
    Ok(ioctl_ficlone(&other.file, &one.file)?)
}

fn lock(scratch: &Scratch) -> io::Result<()> {
    scratch.file.try_lock()?;
    let second = File::open(&scratch.path)?;
    match second.try_lock_shared() {
        Err(fs::TryLockError::WouldBlock) => Ok(()),
        Err(fs::TryLockError::Error(error)) => Err(error),
        Ok(()) => Err(io::Error::other("locks do not conflict")),
    }
}
