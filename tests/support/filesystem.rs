//! Small filesystems of real kinds, to be filled to the brim.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use rustix::{
    fs::{FallocateFlags, fallocate, statvfs, syncfs},
    io::Errno,
};

use super::{
    cleaner::Cleaner,
    need::{Need, program, skip},
    temp_dir, user,
};

/// A kind of filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tmpfs,
    Ext4,
    Xfs,
    Btrfs,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Self; 4] = [Self::Tmpfs, Self::Ext4, Self::Xfs, Self::Btrfs];

    /// The kernel's name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tmpfs => "tmpfs",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// The smallest that its mkfs makes.
    pub(crate) fn bytes_min(self) -> u64 {
        match self {
            Self::Tmpfs => 64 << 10,
            Self::Ext4 => 8 << 20,
            Self::Xfs => 300 << 20,
            Self::Btrfs => 128 << 20,
        }
    }

    /// The program that makes one and its arguments; nothing for a filesystem without a device.
    fn maker(self) -> Option<(&'static str, &'static [&'static str])> {
        match self {
            Self::Tmpfs => None,
            // Nothing kept back for root: what statvfs calls free can be had.
            Self::Ext4 => Some(("mkfs.ext4", &["-q", "-F", "-m", "0", "-E", "nodiscard"])),
            Self::Xfs => Some(("mkfs.xfs", &["-q", "-f", "-K"])),
            Self::Btrfs => Some(("mkfs.btrfs", &["-q", "-f", "-K"])),
        }
    }
}

/// A mounted filesystem; dropping it unmounts it, and detaches and removes its image.
///
/// Declare it before the files on it. One that is still busy is unmounted lazily: its loop device goes
/// with the last reference.
#[derive(Debug)]
pub(crate) struct SmallFs {
    path: PathBuf,
    _cleaner: Cleaner,
}

/// Images are made one at a time: mkfs is fast, and two cores are all there may be.
static MAKING: Mutex<()> = Mutex::new(());

impl SmallFs {
    /// Makes and mounts one of about `bytes`, or records a skip.
    #[track_caller]
    pub(crate) fn new(kind: Kind, bytes: u64) -> Option<Self> {
        match Self::make(kind, bytes.max(kind.bytes_min())) {
            Ok(made) => Some(made),
            Err(why) => {
                skip(Need::Tools, &format!("no {} here: {why}", kind.name()));
                None
            }
        }
    }

    fn make(kind: Kind, bytes: u64) -> Result<Self, String> {
        if !user::is_root() {
            return Err("only root mounts".to_owned());
        }
        let _one_at_a_time = MAKING
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let folder = temp_dir();
        let path = folder.path().join("mount");
        fs::create_dir(&path).map_err(|error| error.to_string())?;
        // From here on the cleaner removes the folder, after unmounting what is mounted in it.
        let folder = folder.keep();
        let cleaner = Cleaner::watch(&path, &folder);
        let image = folder.join("image");
        let mut mount = Command::new("mount");
        match kind.maker() {
            None => mount
                .args(["-t", "tmpfs", "-o", &format!("size={bytes}")])
                .arg(folder.file_name().expect("a name")),
            Some((maker, arguments)) => {
                make_image(&image, bytes, maker, arguments)?;
                mount.args(["-t", kind.name(), "-o", "loop"]).arg(&image)
            }
        };
        run(mount.arg(&path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1777))
            .map_err(|error| error.to_string())?;
        Ok(Self {
            path,
            _cleaner: cleaner,
        })
    }

    /// The root of the filesystem, open to everyone.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes that an ordinary user may still take.
    pub(crate) fn free(&self) -> u64 {
        let found = statvfs(&self.path).expect("statvfs");
        found.f_bavail * found.f_frsize
    }

    /// Fills the filesystem until about `bytes` remain, and says what does. Zero leaves nothing: also
    /// plain writes then find it full.
    pub(crate) fn fill_leaving(&self, bytes: u64) -> u64 {
        let mut filler = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.filler())
            .expect("a filler");
        self.reserve_leaving(&filler, bytes);
        if bytes == 0 {
            write_until_full(&mut filler);
        }
        // Delayed allocation settles here; a full disk is what we are after.
        let _full = filler.sync_all();
        let _full = syncfs(&filler);
        self.free()
    }

    /// Gives back what [`Self::fill_leaving`] took.
    pub(crate) fn unfill(&self) {
        fs::remove_file(self.filler()).expect("the filler");
        let root = File::open(&self.path).expect("the root");
        syncfs(&root).expect("syncfs");
    }

    fn reserve_leaving(&self, filler: &File, bytes: u64) {
        let mut step_max = u64::MAX;
        loop {
            let surplus = self.free().saturating_sub(bytes).min(step_max);
            if surplus < 4096 {
                return;
            }
            let end = filler.metadata().expect("metadata").len();
            match fallocate(filler, FallocateFlags::empty(), end, surplus) {
                Ok(()) => {}
                Err(Errno::INTR) => {}
                // Metadata wants room too, and free space is not one piece.
                Err(Errno::NOSPC) => step_max = surplus / 2,
                Err(error) => panic!("fallocate of the filler: {error}"),
            }
        }
    }

    fn filler(&self) -> PathBuf {
        self.path.join(".filler")
    }
}

fn write_until_full(filler: &mut File) {
    for step in [64 << 10, 4096, 1] {
        let block = vec![0xF1; step];
        while filler.write_all(&block).is_ok() {}
    }
}

fn make_image(image: &Path, bytes: u64, maker: &str, arguments: &[&str]) -> Result<(), String> {
    let maker = program(maker).ok_or_else(|| format!("`{maker}` is not installed"))?;
    let file = File::create(image).map_err(|error| error.to_string())?;
    file.set_len(bytes).map_err(|error| error.to_string())?;
    run(Command::new(maker).args(arguments).arg(image))
}

/// Runs a program to its end; its standard error when it fails.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    output.status.success().then_some(()).ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("{}: {}", command.get_program().display(), said.trim())
    })
}
