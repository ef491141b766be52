//! `flatspan export`.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Error, Result, bail};
use flatspan::snapshot::{Image, StoreError, StoreReader};

use crate::atomic_output::AtomicOutput;
use crate::cli::ExportArgs;
use crate::content_length::{self, ExportLength};
use crate::progress::Bar;
use crate::signals::Cancel;
use crate::{exit_code, output};

/// Blocks of zeros of this length become holes of the output.
const BLOCK_BYTES: usize = 4096;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The destination and what is known before the state is read.
struct Export<'a> {
    args: &'a ExportArgs,
    content_bytes: Option<u64>,
    cancel: Cancel,
}

pub(crate) fn run(args: &ExportArgs) -> Result<u8> {
    let cancel = Cancel::on_signal()?;
    let reader = output::reader(&args.store)?;
    let export = Export {
        args,
        content_bytes: content_length::read(&args.store)?,
        cancel,
    };
    if args.out == Path::new("-") {
        if io::stdout().is_terminal() {
            bail!(
                "refusing to write binary data to a terminal; redirect standard output or name a file"
            );
        }
        let (image, length) = export.verified_image(&reader)?;
        export.to_stdout(&image, length)?;
        return Ok(exit_code::OK);
    }
    let newest = reader.newest().map_err(Error::from);
    if let Err(error) = newest.and_then(|image| export.to_file(&image)) {
        export.to_file(&fallback(&reader, error)?)?;
    }
    Ok(exit_code::OK)
}

/// Returns the fallback heap if the error means that the committed heap is corrupt.
fn fallback(reader: &StoreReader, error: Error) -> Result<Image> {
    let cause = error.downcast_ref::<StoreError>();
    if !cause.is_some_and(output::is_corruption) {
        return Err(error);
    }
    match reader.fallback() {
        Ok(Some(image)) => {
            eprintln!(
                "flatspan: {error:#}; using the fallback heap {}, generation {}",
                image.metadata().heap,
                image.metadata().generation
            );
            Ok(image)
        }
        _ => Err(error),
    }
}

impl Export<'_> {
    /// Reads a state completely before any of it is written: standard output cannot be taken back.
    fn verified_image(&self, reader: &StoreReader) -> Result<(Image, u64)> {
        let newest = reader.newest().map_err(Error::from);
        match newest.and_then(|image| self.verify(&image).map(|length| (image, length))) {
            Ok(verified) => Ok(verified),
            Err(error) => {
                let image = fallback(reader, error)?;
                let length = self.verify(&image)?;
                Ok((image, length))
            }
        }
    }

    /// Returns the number of bytes to write.
    fn verify(&self, image: &Image) -> Result<u64> {
        let bar = Bar::new("verifying", image.len());
        let mut length = ExportLength::new(self.content_bytes, image.len());
        image.for_each_data(|offset, bytes| {
            bar.set(offset);
            length.observe(offset, bytes);
            Ok::<_, Error>(self.cancel.check()?)
        })?;
        Ok(length.bytes())
    }

    fn to_file(&self, image: &Image) -> Result<()> {
        let path = &self.args.out;
        let out = AtomicOutput::create(path, self.args.force)?;
        let context = || format!("cannot write {}", path.display());
        let bar = Bar::new(&path.display().to_string(), image.len());
        let mut length = ExportLength::new(self.content_bytes, image.len());
        out.file.set_len(image.len()).with_context(context)?;
        image.for_each_data(|offset, bytes| {
            self.cancel.check()?;
            bar.set(offset);
            length.observe(offset, bytes);
            write_sparse(&out, offset, bytes).with_context(context)
        })?;
        out.file.set_len(length.bytes()).with_context(context)?;
        out.finish()
    }

    fn to_stdout(&self, image: &Image, length: u64) -> Result<()> {
        let mut out = io::stdout().lock();
        let bar = Bar::new("standard output", length);
        let mut done = 0;
        let write_zeros = |out: &mut io::StdoutLock<'_>, done: &mut u64, end: u64| {
            while *done < end {
                self.cancel.check()?;
                let len = (end - *done).min(ZEROS.len() as u64);
                out.write_all(&ZEROS[..len as usize])?;
                *done += len;
            }
            Ok::<_, Error>(())
        };
        image.for_each_data(|offset, bytes| {
            write_zeros(&mut out, &mut done, offset.min(length))?;
            let rest = usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX);
            let bytes = &bytes[..bytes.len().min(rest)];
            out.write_all(bytes)?;
            done += bytes.len() as u64;
            bar.set(done);
            Ok::<_, Error>(self.cancel.check()?)
        })?;
        write_zeros(&mut out, &mut done, length)?;
        Ok(out.flush()?)
    }
}

/// Writes each run of blocks that are not zeros by one call.
fn write_sparse(out: &AtomicOutput, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let mut start = 0;
    // Blocks are aligned in the file; `bytes` may start within one.
    let first = BLOCK_BYTES - (offset % BLOCK_BYTES as u64) as usize;
    let mut end = first.min(bytes.len());
    let mut written = 0;
    while start < bytes.len() {
        if is_zero(&bytes[start..end]) {
            out.file
                .write_all_at(&bytes[written..start], offset + written as u64)?;
            written = end;
        }
        start = end;
        end = (end + BLOCK_BYTES).min(bytes.len());
    }
    out.file
        .write_all_at(&bytes[written..], offset + written as u64)
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes == &ZEROS[..bytes.len()]
}
