//! `flatspan import`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use flatspan::snapshot::{Changes, OnClose, SnapshotError, Store, StoreOptions, TrackerChoice};

use crate::cancel::Cancel;
use crate::cli::ImportArgs;
use crate::out_file::{beside, rename_to_new, sync_folder};
use crate::progress::Bar;
use crate::text::BinaryBytes;
use crate::{exit, output};

const CHUNK_BYTES: usize = 1 << 20;
const PAGE_BYTES: u64 = 4096;
/// Of what nobody knows the length of.
const RESERVE_BYTES: u64 = if cfg!(target_pointer_width = "32") {
    1 << 30
} else {
    1 << 40
};

/// A store under a temporary name, removed unless it is published.
struct NewStore(PathBuf);

impl Drop for NewStore {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn run(args: &ImportArgs) -> Result<u8> {
    let cancel = Cancel::on_signal()?;
    refuse_existing(&args.store)?;
    let (mut input, len) = open(&args.file)?;
    let new = NewStore(beside(&args.store, "import")?);
    let store = make(&new.0, args, len)?;
    let bytes = copy(&mut input, &store, len, &cancel)?;
    store.checkpoint_base()?;
    store.close()?;
    cancel.check()?;
    publish(&new, &args.store)?;
    let made = args.store.display();
    output::line(&format!(
        "{made}: made of {bytes} bytes ({})",
        BinaryBytes(bytes)
    ))?;
    Ok(exit::OK)
}

fn refuse_existing(store: &Path) -> Result<()> {
    match fs::read_dir(store) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => bail!("{} exists and is not empty", store.display()),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| store.display().to_string()),
    }
}

/// The length of a file is known, that of a pipe is not.
fn open(path: &Path) -> Result<(Box<dyn Read>, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let context = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(context)?;
    let found = file.metadata().with_context(context)?;
    if found.is_dir() {
        bail!("{} is a directory", path.display());
    }
    Ok((Box::new(file), found.is_file().then_some(found.len())))
}

fn make(directory: &Path, args: &ImportArgs, len: Option<u64>) -> Result<Store> {
    let reserve = len.map_or(RESERVE_BYTES, |len| len.max(1));
    let mut options = StoreOptions::default()
        .changes(Changes::Writers)
        // The other heap would be zeros: no second chance, but a wrong one.
        .on_close(OnClose::DropOlder)
        // The only writer is here, and declares.
        .tracker(TrackerChoice::Declared)
        .reserve_bytes(reserve.next_multiple_of(PAGE_BYTES))
        .initial_bytes(len.unwrap_or(0));
    if let Some(part_bytes) = args.part_bytes {
        options = options.part_bytes(part_bytes);
    }
    Store::open(directory, options)
        .with_context(|| format!("cannot make the store {}", args.store.display()))
}

/// Returns how many bytes there were. A file that changes its length meanwhile is an error.
fn copy(input: &mut impl Read, store: &Store, len: Option<u64>, cancel: &Cancel) -> Result<u64> {
    let bar = Bar::new("reading", len.unwrap_or(0));
    let mut buf = vec![0; CHUNK_BYTES];
    let mut done = 0;
    loop {
        cancel.check()?;
        let read = fill(input, &mut buf).context("cannot read")?;
        if read == 0 {
            break;
        }
        let end = done + read as u64;
        if len.is_some_and(|len| end > len) {
            bail!("the file has become longer meanwhile");
        }
        if end > store.len() {
            store.resize(end)?;
        }
        put(store, done, &buf[..read])?;
        done = end;
        bar.set(done);
    }
    if len.is_some_and(|len| done < len) {
        bail!("the file has become shorter meanwhile: {done} bytes");
    }
    Ok(done)
}

/// Pages of zeros are there already.
fn put(store: &Store, offset: u64, bytes: &[u8]) -> Result<(), SnapshotError> {
    let inside = store.enter()?;
    let pages = bytes.chunks(PAGE_BYTES as usize).enumerate();
    for (index, page) in pages.filter(|(_, page)| page.iter().any(|byte| *byte != 0)) {
        let at = offset + index as u64 * PAGE_BYTES;
        inside.write(at, page)?;
        inside.declare(at..at + page.len() as u64)?;
    }
    Ok(())
}

/// As much as there is, up to all of `buf`.
fn fill(input: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buf.len() {
        match input.read(&mut buf[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

fn publish(new: &NewStore, store: &Path) -> Result<()> {
    let context = || format!("cannot make {}", store.display());
    // Fails where something has been put into it meanwhile.
    if let Err(error) = fs::remove_dir(store)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error).with_context(context);
    }
    rename_to_new(&new.0, store).with_context(context)?;
    sync_folder(store).with_context(context)
}
