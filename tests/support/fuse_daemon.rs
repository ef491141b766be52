//! Filesystem that the daemon serves: files and directories in memory, never freed.

use std::{
    collections::{BTreeMap, HashMap},
    ffi::{OsStr, OsString},
    fmt::Write as _,
    io,
    path::Path,
    sync::{Mutex, MutexGuard},
    time::SystemTime,
};

use fuser::{
    BackgroundSession, BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate,
    ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request,
    TimeOrNow, WriteFlags,
};

use super::{
    fuse::Mode,
    fuse_replies::{self, TIME_TO_LIVE, answer, answer_attr, answer_entry, answer_statfs},
};

/// File in the root that holds the log. Directory listings omit it.
pub(crate) const LOG_NAME: &str = ".log";

const LOG_INODE: u64 = 2;
const LOG_BYTES_MAX: usize = 16 << 20;
const BLOCK_BYTES: u64 = 64 << 10;

/// Mounts the filesystem and serves it on a separate thread.
pub(crate) fn mount(mode: Mode, path: &Path) -> io::Result<BackgroundSession> {
    let options = [MountOption::DefaultPermissions];
    fuse_replies::mount(MemoryFs::new(mode), "flatspan-test-fuse", &options, path)
}

struct MemoryFs {
    mode: Mode,
    state: Mutex<State>,
}

struct State {
    nodes: HashMap<u64, Node>,
    inode_next: u64,
    sync_has_failed: bool,
    log: String,
}

struct Node {
    name: OsString,
    attr: FileAttr,
    /// Entries of a directory.
    children: BTreeMap<OsString, u64>,
    /// Content of a file; an absent block is zero.
    blocks: BTreeMap<u64, Vec<u8>>,
}

impl Node {
    fn new(inode: u64, name: &OsStr, kind: FileType, perm: u32, owner: (u32, u32)) -> Self {
        let now = SystemTime::now();
        let attr = FileAttr {
            ino: INodeNo(inode),
            size: 0,
            blocks: 0,
            atime: now,
            mtime: now,
            ctime: now,
            crtime: now,
            kind,
            perm: u16::try_from(perm & 0o7777).expect("twelve bits"),
            nlink: if kind == FileType::Directory { 2 } else { 1 },
            uid: owner.0,
            gid: owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        };
        Self {
            name: name.to_owned(),
            attr,
            children: BTreeMap::new(),
            blocks: BTreeMap::new(),
        }
    }

    fn read(&self, offset: u64, length: u64) -> Vec<u8> {
        let end = offset.saturating_add(length).min(self.attr.size);
        let mut bytes = Vec::new();
        let mut at = offset;
        while at < end {
            let (block, within, step) = in_block(at, end);
            match self.blocks.get(&block) {
                Some(found) => bytes.extend_from_slice(&found[within..within + step]),
                None => bytes.resize(bytes.len() + step, 0),
            }
            at += step as u64;
        }
        bytes
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        let mut at = offset;
        while at < end {
            let (block, within, step) = in_block(at, end);
            let from = (at - offset) as usize;
            let block = self.blocks.entry(block).or_insert_with(empty_block);
            block[within..within + step].copy_from_slice(&bytes[from..from + step]);
            at += step as u64;
        }
        self.set_size(self.attr.size.max(end));
    }

    fn truncate(&mut self, size: u64) {
        if size < self.attr.size {
            let (block, within, _) = in_block(size, u64::MAX);
            let _removed = self.blocks.split_off(&(block + 1));
            if let Some(last) = self.blocks.get_mut(&block) {
                last[within..].fill(0);
            }
        }
        self.set_size(size);
    }

    fn set_size(&mut self, size: u64) {
        self.attr.size = size;
        self.attr.blocks = self.blocks.len() as u64 * BLOCK_BYTES / 512;
        self.attr.mtime = SystemTime::now();
        self.attr.ctime = self.attr.mtime;
    }
}

fn empty_block() -> Vec<u8> {
    vec![0; BLOCK_BYTES as usize]
}

/// Returns the block of `at`, the offset in it, and the number of bytes up to `end` in that block.
fn in_block(at: u64, end: u64) -> (u64, usize, usize) {
    let within = at % BLOCK_BYTES;
    let step = (BLOCK_BYTES - within).min(end - at);
    (at / BLOCK_BYTES, within as usize, step as usize)
}

impl State {
    fn note(&mut self, line: &str) {
        if self.log.len() < LOG_BYTES_MAX {
            writeln!(self.log, "{line}").expect("memory");
        }
    }

    fn node(&mut self, inode: INodeNo) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&inode.0).ok_or(Errno::ENOENT)
    }

    fn name(&self, inode: INodeNo) -> String {
        let found = self.nodes.get(&inode.0);
        found.map_or_else(String::new, |node| node.name.to_string_lossy().into_owned())
    }

    fn child(&mut self, parent: INodeNo, name: &OsStr) -> Result<u64, Errno> {
        let found = self.node(parent)?.children.get(name).copied();
        found.ok_or(Errno::ENOENT)
    }

    fn add(
        &mut self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        kind: FileType,
        perm: u32,
    ) -> Result<FileAttr, Errno> {
        if self.child(parent, name).is_ok() {
            return Err(Errno::EEXIST);
        }
        let inode = self.inode_next;
        self.inode_next += 1;
        self.node(parent)?.children.insert(name.to_owned(), inode);
        let node = Node::new(inode, name, kind, perm, (request.uid(), request.gid()));
        let attr = node.attr;
        self.nodes.insert(inode, node);
        Ok(attr)
    }

    fn remove(&mut self, parent: INodeNo, name: &OsStr) -> Result<(), Errno> {
        let inode = self.child(parent, name)?;
        let node = self.node(INodeNo(inode))?;
        if !node.children.is_empty() {
            return Err(Errno::ENOTEMPTY);
        }
        node.attr.nlink = 0;
        self.node(parent)?.children.remove(name);
        Ok(())
    }

    fn rename(&mut self, from: (INodeNo, &OsStr), to: (INodeNo, &OsStr)) -> Result<(), Errno> {
        let inode = self.child(from.0, from.1)?;
        match self.child(to.0, to.1) {
            Ok(same) if same == inode => return Ok(()),
            Ok(_) => self.remove(to.0, to.1)?,
            Err(_) => {}
        }
        self.node(from.0)?.children.remove(from.1);
        self.node(to.0)?.children.insert(to.1.to_owned(), inode);
        to.1.clone_into(&mut self.node(INodeNo(inode))?.name);
        Ok(())
    }

    /// Names and kinds in a stable order.
    fn list(&mut self, inode: INodeNo) -> Result<Vec<(u64, FileType, OsString)>, Errno> {
        let children = self.node(inode)?.children.clone();
        let kind_of = |inode: &u64| self.nodes[inode].attr.kind;
        let listed = children
            .iter()
            .map(|(name, inode)| (*inode, kind_of(inode), name.clone()));
        let dots = [".", ".."].map(|name| (inode.0, FileType::Directory, OsString::from(name)));
        Ok(dots.into_iter().chain(listed).collect())
    }
}

impl MemoryFs {
    fn new(mode: Mode) -> Self {
        let root = Node::new(1, OsStr::new(""), FileType::Directory, 0o1777, (0, 0));
        Self {
            mode,
            state: Mutex::new(State {
                nodes: HashMap::from([(1, root)]),
                inode_next: LOG_INODE + 1,
                sync_has_failed: false,
                log: String::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no request panics")
    }

    fn open_flags(&self) -> FopenFlags {
        match self.mode {
            Mode::DirectIo | Mode::DirectIoSyncFailsOnce | Mode::NoMmap => {
                FopenFlags::FOPEN_DIRECT_IO
            }
            Mode::Plain | Mode::NoFallocate | Mode::SyncFailsOnce => FopenFlags::empty(),
        }
    }

    fn sync(&self, inode: INodeNo) -> Result<(), Errno> {
        let mut state = self.state();
        let name = state.name(inode);
        state.note(&format!("fsync {name}"));
        let fails_once = [Mode::SyncFailsOnce, Mode::DirectIoSyncFailsOnce].contains(&self.mode);
        if fails_once && !state.sync_has_failed {
            state.sync_has_failed = true;
            return Err(Errno::EIO);
        }
        Ok(())
    }

    fn allocate(&self, inode: INodeNo, offset: u64, length: u64, mode: i32) -> Result<(), Errno> {
        let mut state = self.state();
        let name = state.name(inode);
        state.note(&format!("fallocate {name} {offset} {length}"));
        let keeps_size = mode == libc::FALLOC_FL_KEEP_SIZE;
        if self.mode == Mode::NoFallocate || !(mode == 0 || keeps_size) {
            return Err(Errno::EOPNOTSUPP);
        }
        let node = state.node(inode)?;
        if !keeps_size && offset + length > node.attr.size {
            node.truncate(offset + length);
        }
        Ok(())
    }
}

fn log_attr() -> FileAttr {
    Node::new(
        LOG_INODE,
        OsStr::new(LOG_NAME),
        FileType::RegularFile,
        0o444,
        (0, 0),
    )
    .attr
}

impl Filesystem for MemoryFs {
    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent.0 == 1 && name == LOG_NAME {
            return answer_entry(reply, Ok(log_attr()));
        }
        let mut state = self.state();
        let found = state.child(parent, name);
        let result = found.and_then(|inode| state.node(INodeNo(inode)).map(|node| node.attr));
        answer_entry(reply, result);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        if ino.0 == LOG_INODE {
            return answer_attr(reply, Ok(log_attr()));
        }
        answer_attr(reply, self.state().node(ino).map(|node| node.attr));
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut state = self.state();
        if let Some(size) = size {
            let name = state.name(ino);
            state.note(&format!("truncate {name} {size}"));
        }
        let result = state.node(ino).map(|node| {
            if let Some(size) = size {
                node.truncate(size);
            }
            let perm = mode.map(|mode| u16::try_from(mode & 0o7777).expect("twelve bits"));
            node.attr.perm = perm.unwrap_or(node.attr.perm);
            node.attr.uid = uid.unwrap_or(node.attr.uid);
            node.attr.gid = gid.unwrap_or(node.attr.gid);
            match mtime {
                Some(TimeOrNow::SpecificTime(time)) => node.attr.mtime = time,
                Some(TimeOrNow::Now) => node.attr.mtime = SystemTime::now(),
                None => {}
            }
            node.attr
        });
        answer_attr(reply, result);
    }

    fn mkdir(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let mut state = self.state();
        state.note(&format!("mkdir {}", name.to_string_lossy()));
        let made = state.add(req, parent, name, FileType::Directory, mode & !umask);
        answer_entry(reply, made);
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut state = self.state();
        state.note(&format!("create {}", name.to_string_lossy()));
        match state.add(req, parent, name, FileType::RegularFile, mode & !umask) {
            Ok(attr) => {
                let flags = self.open_flags();
                reply.created(&TIME_TO_LIVE, &attr, Generation(0), FileHandle(0), flags);
            }
            Err(error) => reply.error(error),
        }
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut state = self.state();
        state.note(&format!("unlink {}", name.to_string_lossy()));
        answer(reply, state.remove(parent, name));
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let mut state = self.state();
        state.note(&format!("rmdir {}", name.to_string_lossy()));
        answer(reply, state.remove(parent, name));
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let mut state = self.state();
        let (old, new) = (name.to_string_lossy(), newname.to_string_lossy());
        state.note(&format!("rename {old} {new}"));
        answer(reply, state.rename((parent, name), (newparent, newname)));
    }

    fn open(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let flags = match ino.0 {
            LOG_INODE => FopenFlags::FOPEN_DIRECT_IO,
            _ => self.open_flags(),
        };
        reply.opened(FileHandle(0), flags);
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut state = self.state();
        if ino.0 == LOG_INODE {
            let bytes = state.log.as_bytes();
            let from = bytes.len().min(offset as usize);
            let end = bytes.len().min(from + size as usize);
            return reply.data(&bytes[from..end]);
        }
        // Only a read of a process has an owner; a read that fills the page cache has none.
        if self.mode == Mode::NoMmap && lock_owner.is_none() {
            return reply.error(Errno::EIO);
        }
        match state.node(ino) {
            Ok(node) => reply.data(&node.read(offset, u64::from(size))),
            Err(error) => reply.error(error),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut state = self.state();
        let name = state.name(ino);
        state.note(&format!("write {name} {offset} {}", data.len()));
        match state.node(ino) {
            Ok(node) => {
                node.write(offset, data);
                reply.written(u32::try_from(data.len()).expect("the kernel's own bound"));
            }
            Err(error) => reply.error(error),
        }
    }

    fn flush(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        reply.ok();
    }

    fn fsync(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        answer(reply, self.sync(ino));
    }

    fn fsyncdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let mut state = self.state();
        let name = state.name(ino);
        state.note(&format!("fsyncdir {name}"));
        reply.ok();
    }

    fn readdir(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = match self.state().list(ino) {
            Ok(listed) => listed,
            Err(error) => return reply.error(error),
        };
        for (place, (inode, kind, name)) in listed.into_iter().enumerate().skip(offset as usize) {
            if reply.add(INodeNo(inode), place as u64 + 1, kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        answer_statfs(reply);
    }

    fn fallocate(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        answer(reply, self.allocate(ino, offset, length, mode));
    }
}
