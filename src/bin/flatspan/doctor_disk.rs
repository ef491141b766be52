//! What the filesystem of a directory offers, by trying it on a file there.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, SeekFrom, fallocate, ioctl_ficlone, seek, statfs};

use crate::doctor::{Finding, Verdict};
use crate::text::BinaryBytes;

const BLOCK_BYTES: u64 = 64 << 10;

/// What kind of filesystem it is, as far as that matters.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Local,
    CopyOnWrite,
    Network,
    Memory,
    Unknown,
}

/// The numbers are those of `linux/magic.h` and of the filesystems' own headers.
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

/// A file to try things on, removed on drop.
struct Scratch {
    path: PathBuf,
    file: File,
}

impl Scratch {
    fn new(dir: &Path, name: &str) -> io::Result<Self> {
        let path = dir.join(format!(".flatspan-doctor-{}-{name}", std::process::id()));
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
        let _ = fs::remove_file(&self.path);
    }
}

pub(crate) fn look(dir: &Path) -> Vec<Finding> {
    let mut findings = vec![filesystem(dir)];
    findings.extend(room(dir));
    match (Scratch::new(dir, "a"), Scratch::new(dir, "b")) {
        (Ok(one), Ok(other)) => findings.extend(try_all(&one, &other)),
        (Err(error), _) | (_, Err(error)) => findings.push(Finding::new(
            "writing in DIR",
            error.to_string(),
            Verdict::Missing,
            "no store can be made or opened here; one that is there can be looked at",
        )),
    }
    findings
}

fn filesystem(dir: &Path) -> Finding {
    let name = "filesystem of DIR";
    let found = match statfs(dir) {
        Ok(found) => found,
        Err(error) => return Finding::new(name, error.to_string(), Verdict::Note, "unknown"),
    };
    let magic = found.f_type as u32;
    let known = KINDS
        .iter()
        .find(|(number, ..)| *number == i64::from(magic));
    let (text, kind) = match known {
        Some((_, text, kind)) => ((*text).to_owned(), *kind),
        None => (format!("number {magic:#x}"), Kind::Unknown),
    };
    let (verdict, meaning) = match kind {
        Kind::Local => (
            Verdict::Good,
            "written in place: what is reserved can be written",
        ),
        Kind::CopyOnWrite => (
            Verdict::Note,
            "copy-on-write: a reservation holds for the first write of a block only, so a full disk can be met late; \
             clones of a store share storage",
        ),
        Kind::Network => (
            Verdict::Note,
            "network: locks and syncs are as good as the server; one that another machine has open may not be noticed",
        ),
        Kind::Memory => (
            Verdict::Note,
            "in memory: nothing here survives a power cut",
        ),
        Kind::Unknown => (
            Verdict::Note,
            "what lies beneath is not known from here: what is tried below counts",
        ),
    };
    Finding::new(name, text, verdict, meaning)
}

fn room(dir: &Path) -> Option<Finding> {
    let found = rustix::fs::statvfs(dir).ok()?;
    let bytes = found.f_bavail.saturating_mul(found.f_frsize);
    Some(Finding::new(
        "room in DIR",
        BinaryBytes(bytes).to_string(),
        Verdict::Note,
        "a store takes twice its region, and its journal, at the most",
    ))
}

fn try_all(one: &Scratch, other: &Scratch) -> Vec<Finding> {
    vec![
        tried(
            "fallocate",
            reserve(one),
            Verdict::Note,
            [
                "a full disk is known before a record is written",
                "room cannot be reserved: a full disk is met when the journal is written, and poisons the store",
            ],
        ),
        tried(
            "punch hole",
            punch(one),
            Verdict::Note,
            [
                "pages of zeros give their storage back",
                "pages that become zeros keep their storage",
            ],
        ),
        tried(
            "holes",
            holes(one),
            Verdict::Note,
            [
                "sparse stores are read and verified without reading their zeros",
                "all of a sparse store is read, zeros too",
            ],
        ),
        tried(
            "reflink",
            reflink(one, other),
            Verdict::Note,
            [
                "copies of a store can share storage with it",
                "copies of a store take their full size",
            ],
        ),
        tried(
            "flock",
            lock(one),
            Verdict::Missing,
            [
                "two writers keep out of each other's way",
                "two writers would not notice each other",
            ],
        ),
        tried(
            "sync",
            one.file.sync_all(),
            Verdict::Missing,
            [
                "what is acknowledged is on the disk, as far as the disk tells the truth",
                "nothing is durable here",
            ],
        ),
    ]
}

fn tried(
    name: &'static str,
    outcome: io::Result<()>,
    otherwise: Verdict,
    [good, bad]: [&str; 2],
) -> Finding {
    match outcome {
        Ok(()) => Finding::new(name, "works", Verdict::Good, good),
        Err(error) => Finding::new(name, error.to_string(), otherwise, bad),
    }
}

fn reserve(scratch: &Scratch) -> io::Result<()> {
    Ok(fallocate(
        &scratch.file,
        FallocateFlags::KEEP_SIZE,
        0,
        BLOCK_BYTES,
    )?)
}

fn punch(scratch: &Scratch) -> io::Result<()> {
    // Lossless: a constant.
    scratch
        .file
        .write_all_at(&[1; 2 * BLOCK_BYTES as usize], 0)?;
    scratch.file.sync_all()?;
    let before = scratch.file.metadata()?.blocks();
    let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&scratch.file, how, 0, BLOCK_BYTES)?;
    scratch.file.sync_all()?;
    if scratch.file.metadata()?.blocks() < before {
        Ok(())
    } else {
        Err(io::Error::other("gives no storage back"))
    }
}

fn holes(scratch: &Scratch) -> io::Result<()> {
    scratch.file.set_len(0)?;
    scratch.file.set_len(64 * BLOCK_BYTES)?;
    scratch.file.write_all_at(&[1; 4096], 32 * BLOCK_BYTES)?;
    match seek(&scratch.file, SeekFrom::Data(0))? {
        0 => Err(io::Error::other("are not told from data")),
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
        Ok(()) => Err(io::Error::other("has no effect")),
    }
}
