//! Small filesystems of several types, which tests can fill completely.

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

/// Type of a filesystem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tmpfs,
    Ext4,
    Xfs,
    Btrfs,
}

/// No blocks are reserved for root: everything that statvfs(3) reports as free is available.
const EXT4_ARGUMENTS: &[&str] = &["-q", "-F", "-m", "0", "-E", "nodiscard"];

impl Kind {
    /// Every type.
    pub(crate) const ALL: [Self; 4] = [Self::Tmpfs, Self::Ext4, Self::Xfs, Self::Btrfs];

    /// Returns the name that the kernel uses.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tmpfs => "tmpfs",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Returns the smallest size that its mkfs accepts.
    pub(crate) fn bytes_min(self) -> u64 {
        match self {
            Self::Tmpfs => 64 << 10,
            Self::Ext4 => 8 << 20,
            Self::Xfs => 300 << 20,
            Self::Btrfs => 128 << 20,
        }
    }

    /// Returns the mkfs program and its arguments; `None` for a filesystem without a device.
    fn maker(self) -> Option<(&'static str, &'static [&'static str])> {
        match self {
            Self::Tmpfs => None,
            Self::Ext4 => Some(("mkfs.ext4", EXT4_ARGUMENTS)),
            Self::Xfs => Some(("mkfs.xfs", &["-q", "-f", "-K"])),
            Self::Btrfs => Some(("mkfs.btrfs", &["-q", "-f", "-K"])),
        }
    }
}

/// Mounted filesystem. Dropping it unmounts it, and detaches and removes its image.
///
/// Declare it before files that are open on it. A filesystem that is still busy is unmounted
/// lazily: its loop device is detached with the last reference.
#[derive(Debug)]
pub(crate) struct SmallFs {
    path: PathBuf,
    _cleaner: Cleaner,
}

/// Allows one mkfs at a time: mkfs is fast, and the machine may have only two cores.
static MAKING: Mutex<()> = Mutex::new(());

impl SmallFs {
    /// Creates and mounts a filesystem of about `bytes`, or records a skip.
    #[track_caller]
    pub(crate) fn new(kind: Kind, bytes: u64) -> Option<Self> {
        match Self::make(kind, bytes.max(kind.bytes_min())) {
            Ok(made) => Some(made),
            Err(why) => {
                skip(Need::Tools, &format!("cannot mount {}: {why}", kind.name()));
                None
            }
        }
    }

    /// Creates and mounts an ext4 filesystem without a journal on a device that has no space for
    /// more data: writeback of file data fails. `tmpfs` holds the device, and is full afterwards.
    #[track_caller]
    pub(crate) fn on_full_device(tmpfs: &Self) -> Option<Self> {
        let image = tmpfs.path().join("image");
        let no_journal = [EXT4_ARGUMENTS, &["-O", "^has_journal"]].concat();
        let made = Self::make_from(
            Kind::Ext4,
            Some(("mkfs.ext4", &no_journal)),
            64 << 20,
            &image,
        );
        match made {
            Ok(made) => {
                tmpfs.fill_leaving(0);
                Some(made)
            }
            Err(why) => {
                skip(Need::Tools, &format!("cannot mount ext4 on tmpfs: {why}"));
                None
            }
        }
    }

    fn make(kind: Kind, bytes: u64) -> Result<Self, String> {
        let images = temp_dir();
        let image = images.path().join("image");
        // The loop device keeps the image after its name is removed.
        Self::make_from(kind, kind.maker(), bytes, &image)
    }

    fn make_from(
        kind: Kind,
        maker: Option<(&str, &[&str])>,
        bytes: u64,
        image: &Path,
    ) -> Result<Self, String> {
        Self::mounted(|mount| {
            match maker {
                None => mount.args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"]),
                Some((maker, arguments)) => {
                    make_image(image, bytes, maker, arguments)?;
                    mount.args(["-t", kind.name(), "-o", "loop"]).arg(image)
                }
            };
            Ok(())
        })
    }

    /// Mounts an overlay whose directories are all on another filesystem, or records a skip.
    #[track_caller]
    pub(crate) fn overlay_on(below: &Self) -> Option<Self> {
        let made = Self::mounted(|mount| {
            let mut options = Vec::new();
            for name in ["lowerdir", "upperdir", "workdir"] {
                let directory = below.path().join(name);
                fs::create_dir(&directory).map_err(|error| error.to_string())?;
                options.push(format!("{name}={}", directory.display()));
            }
            mount.args(["-t", "overlay", "-o", &options.join(","), "overlay"]);
            Ok(())
        });
        match made {
            Ok(made) => Some(made),
            Err(why) => {
                skip(Need::Tools, &format!("cannot mount an overlay: {why}"));
                None
            }
        }
    }

    /// Mounts what `prepare` adds to the arguments of mount(8).
    fn mounted(prepare: impl FnOnce(&mut Command) -> Result<(), String>) -> Result<Self, String> {
        if !user::is_root() {
            return Err("mounting requires root".to_owned());
        }
        let _guard = MAKING
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let directory = temp_dir();
        let path = directory.path().join("mount");
        fs::create_dir(&path).map_err(|error| error.to_string())?;
        // From here on the cleaner removes the directory, after it unmounted everything in it.
        let directory = directory.keep();
        let cleaner = Cleaner::watch(&path, &directory);
        let mut mount = Command::new("mount");
        prepare(&mut mount)?;
        run(mount.arg(&path))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o1777))
            .map_err(|error| error.to_string())?;
        Ok(Self {
            path,
            _cleaner: cleaner,
        })
    }

    /// Returns the root of the filesystem, writable by every user.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the number of bytes that an ordinary user may still allocate.
    pub(crate) fn free(&self) -> u64 {
        let found = statvfs(&self.path).expect("statvfs");
        found.f_bavail * found.f_frsize
    }

    /// Fills the filesystem until about `bytes` remain free, and returns how many do. With zero,
    /// plain writes fail too.
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
        // Settles delayed allocation. Failure is expected: the disk should be full.
        drop(filler.sync_all());
        let _ = syncfs(&filler);
        self.free()
    }

    /// Releases the space that [`Self::fill_leaving`] allocated.
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
                Ok(()) | Err(Errno::INTR) => {}
                // Metadata needs space too, and the free space is fragmented.
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

/// Runs a program to its end. Returns its standard error if it fails.
pub(crate) fn run(command: &mut Command) -> Result<(), String> {
    let output = command
        .output()
        .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    output.status.success().then_some(()).ok_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!("{}: {}", command.get_program().display(), said.trim())
    })
}
