//! `flatspan import`.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use flatspan::snapshot::{OnClose, Store, StoreError, StoreOptions, TrackerChoice, WriteMode};

use crate::atomic_output::{hidden_sibling, rename_noreplace, sync_parent};
use crate::cli::ImportArgs;
use crate::format::BinaryBytes;
use crate::progress::Bar;
use crate::signals::Cancel;
use crate::{content_length, exit_code, output};

const CHUNK_BYTES: usize = 1 << 20;
const PAGE_BYTES: u64 = 4096;
/// Address reservation for input of unknown length.
const RESERVED_BYTES: u64 = if cfg!(target_pointer_width = "32") {
    1 << 30
} else {
    1 << 40
};

/// A store under a temporary name; dropping it removes the directory unless it was renamed.
struct StagedStore(PathBuf);

impl Drop for StagedStore {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

pub(crate) fn run(args: &ImportArgs) -> Result<u8> {
    let cancel = Cancel::on_signal()?;
    refuse_existing(&args.store)?;
    let (mut input, len) = open(&args.file)?;
    let staged = StagedStore(hidden_sibling(&args.store, "import")?);
    let store = create(&staged.0, args, len)?;
    let bytes = copy(&mut input, &store, len, &cancel)?;
    store.checkpoint_base()?;
    store.close()?;
    let path = args.store.display();
    content_length::write(&staged.0, bytes)
        .with_context(|| format!("cannot record the length of the file in {path}"))?;
    cancel.check()?;
    publish(&staged, &args.store)?;
    output::line(&format!(
        "{path}: created from {bytes} bytes ({})",
        BinaryBytes(bytes)
    ))?;
    Ok(exit_code::OK)
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

/// The input and, for a regular file, its length.
fn open(path: &Path) -> Result<(Box<dyn Read>, Option<u64>)> {
    if path == Path::new("-") {
        return Ok((Box::new(io::stdin().lock()), None));
    }
    let context = || format!("cannot read {}", path.display());
    let file = File::open(path).with_context(context)?;
    let metadata = file.metadata().with_context(context)?;
    if metadata.is_dir() {
        bail!("{} is a directory", path.display());
    }
    let len = metadata.is_file().then_some(metadata.len());
    Ok((Box::new(file), len))
}

fn create(directory: &Path, args: &ImportArgs, len: Option<u64>) -> Result<Store> {
    let reserved_bytes = match len {
        Some(len) => len.max(1),
        None => RESERVED_BYTES,
    };
    let mut options = StoreOptions::default()
        .write_mode(WriteMode::Tracked)
        // The other heap holds zeros, which must never be used as a fallback.
        .on_close(OnClose::RemoveOlder)
        // This process is the only writer and marks its writes.
        .tracker(TrackerChoice::Explicit)
        .reserve_bytes(reserved_bytes.next_multiple_of(PAGE_BYTES))
        .initial_bytes(len.unwrap_or(0));
    if let Some(part_bytes) = args.part_size {
        options = options.part_bytes(part_bytes);
    }
    Store::open(directory, options)
        .with_context(|| format!("cannot create store {}", args.store.display()))
}

/// Returns the number of bytes. A regular file that changes its length meanwhile is an error.
fn copy(input: &mut impl Read, store: &Store, len: Option<u64>, cancel: &Cancel) -> Result<u64> {
    let bar = Bar::new("reading", len.unwrap_or(0));
    let mut buf = vec![0; CHUNK_BYTES];
    let mut done = 0;
    loop {
        cancel.check()?;
        let read = read_full(input, &mut buf).context("cannot read the input")?;
        if read == 0 {
            break;
        }
        let end = done + read as u64;
        if len.is_some_and(|len| end > len) {
            bail!("the file grew while it was read");
        }
        if end > store.len() {
            store.resize(end)?;
        }
        write(store, done, &buf[..read])?;
        done = end;
        bar.set(done);
    }
    if len.is_some_and(|len| done < len) {
        bail!("the file shrank to {done} bytes while it was read");
    }
    Ok(done)
}

/// Writes all pages but those of zeros, which a new region has already.
fn write(store: &Store, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
    let guard = store.write_guard()?;
    let pages = bytes.chunks(PAGE_BYTES as usize).enumerate();
    for (index, page) in pages.filter(|(_, page)| page.iter().any(|byte| *byte != 0)) {
        let start = offset + index as u64 * PAGE_BYTES;
        guard.write_at(start, page)?;
        guard.mark_dirty(start..start + page.len() as u64)?;
    }
    Ok(())
}

/// Reads until `buf` is full or the input ends.
fn read_full(input: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
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

fn publish(staged: &StagedStore, store: &Path) -> Result<()> {
    let context = || format!("cannot create {}", store.display());
    // Fails if the directory is not empty any more.
    if let Err(error) = fs::remove_dir(store)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error).with_context(context);
    }
    rename_noreplace(&staged.0, store).with_context(context)?;
    sync_parent(store).with_context(context)
}
