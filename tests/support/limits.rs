//! Limits of a child: resource limits by prlimit(1) of util-linux, memory by a control group.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use super::temporary::PREFIX;

/// Limits of a child. Defaults to those of its parent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Open descriptors: `ulimit -n`.
    pub(crate) nofile: Option<u64>,
    /// Address space: `ulimit -v`.
    pub(crate) address_space_bytes: Option<u64>,
    /// The longest file that it may write: `ulimit -f`.
    pub(crate) file_size_bytes: Option<u64>,
    /// Resident memory including page cache, by a control group.
    pub(crate) cgroup_memory_bytes: Option<u64>,
}

impl Limits {
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// Returns the words before a command that set the resource limits.
    pub(crate) fn prefix(&self) -> Vec<OsString> {
        let flags: Vec<OsString> = [
            ("nofile", self.nofile),
            ("as", self.address_space_bytes),
            ("fsize", self.file_size_bytes),
        ]
        .into_iter()
        .filter_map(|(name, limit)| limit.map(|limit| format!("--{name}={limit}:{limit}").into()))
        .collect();
        if flags.is_empty() {
            return flags;
        }
        [OsString::from("prlimit")]
            .into_iter()
            .chain(flags)
            .collect()
    }
}

/// Control group that holds one child. Removed on drop.
#[derive(Debug)]
pub(crate) struct MemoryGroup {
    path: PathBuf,
}

impl MemoryGroup {
    /// Creates a control group of version 2 or 1, depending on which one controls memory on this
    /// machine.
    pub(crate) fn new(bytes: u64) -> Result<Self, String> {
        let unified = Path::new("/sys/fs/cgroup");
        let controllers = fs::read_to_string(unified.join("cgroup.controllers"));
        let (parent, limit) = if controllers.is_ok_and(|list| list.contains("memory")) {
            // Already enabled, or refused; in the second case writing the limit fails below.
            drop(fs::write(unified.join("cgroup.subtree_control"), "+memory"));
            (unified.to_owned(), "memory.max")
        } else {
            (unified.join("memory"), "memory.limit_in_bytes")
        };
        Self::make(&parent, limit, bytes)
    }

    fn make(parent: &Path, limit: &str, bytes: u64) -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{PREFIX}{}-{count}", process::id()));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let group = Self { path };
        let file = group.path.join(limit);
        fs::write(&file, bytes.to_string())
            .map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(group)
    }

    /// Returns the words before a command that put the command into the group.
    pub(crate) fn prefix(&self) -> Vec<OsString> {
        let script = r#"echo $$ >"$0" && exec "$@""#;
        let members = self.path.join("cgroup.procs");
        vec!["sh".into(), "-c".into(), script.into(), members.into()]
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        // The last process leaves the group a moment after it was reaped.
        for _ in 0..100 {
            if fs::remove_dir(&self.path).is_ok() || !self.path.exists() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
