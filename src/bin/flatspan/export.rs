//! `flatspan export`.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Error, Result, bail};
use flatspan::snapshot::{Image, SnapshotError, StoreReader};

use crate::cancel::Cancel;
use crate::cli::ExportArgs;
use crate::out_file::OutFile;
use crate::progress::Bar;
use crate::{exit, output};

/// Blocks of zeros become holes.
const BLOCK_BYTES: usize = 4096;
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

pub(crate) fn run(args: &ExportArgs) -> Result<u8> {
    let cancel = Cancel::on_signal()?;
    let reader = output::reader(&args.store)?;
    if args.out == Path::new("-") {
        if io::stdout().is_terminal() {
            bail!("bytes do not go to a terminal");
        }
        let image = good_image(&reader, &cancel)?;
        to_stdout(&image, &cancel)?;
        return Ok(exit::OK);
    }
    let write = |image: &Image| to_file(image, args, &cancel);
    let done = reader
        .newest()
        .map_err(Error::from)
        .and_then(|image| write(&image));
    if let Err(error) = done {
        write(&second_chance(&reader, error)?)?;
    }
    Ok(exit::OK)
}

/// What can be read to its end.
fn good_image(reader: &StoreReader, cancel: &Cancel) -> Result<Image> {
    let read = |image: &Image| {
        let bar = Bar::new("verifying", image.len());
        image.read(|offset, _| {
            bar.set(offset);
            Ok::<_, Error>(cancel.check()?)
        })
    };
    let first = reader.newest().map_err(Error::from);
    match first.and_then(|image| read(&image).map(|()| image)) {
        Ok(image) => Ok(image),
        Err(error) => {
            let image = second_chance(reader, error)?;
            read(&image).map(|()| image)
        }
    }
}

/// As opening does: the older heap, if the newer one is damaged.
fn second_chance(reader: &StoreReader, error: Error) -> Result<Image> {
    if !error
        .downcast_ref::<SnapshotError>()
        .is_some_and(output::is_damage)
    {
        return Err(error);
    }
    match reader.second_chance() {
        Ok(Some(image)) => {
            eprintln!(
                "flatspan: {error:#}; going on from heap {}, generation {}",
                image.metadata().heap,
                image.metadata().generation
            );
            Ok(image)
        }
        _ => Err(error),
    }
}

fn to_file(image: &Image, args: &ExportArgs, cancel: &Cancel) -> Result<()> {
    let out = OutFile::create(&args.out, args.force)?;
    let context = || format!("cannot write {}", args.out.display());
    let bar = Bar::new(&args.out.display().to_string(), image.len());
    out.file.set_len(image.len()).with_context(context)?;
    image.read(|offset, bytes| {
        cancel.check()?;
        bar.set(offset);
        write_sparse(&out, offset, bytes).with_context(context)
    })?;
    out.finish()
}

/// Runs of blocks that are not zeros, each in one write.
fn write_sparse(out: &OutFile, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let mut start = 0;
    // Blocks of the file: bytes need not begin with one.
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

fn to_stdout(image: &Image, cancel: &Cancel) -> Result<()> {
    let mut out = io::stdout().lock();
    let bar = Bar::new("standard output", image.len());
    let mut done = 0;
    image.read(|offset, bytes| {
        while done < offset {
            cancel.check()?;
            let len = (offset - done).min(ZEROS.len() as u64);
            out.write_all(&ZEROS[..len as usize])?;
            done += len;
        }
        out.write_all(bytes)?;
        done += bytes.len() as u64;
        bar.set(done);
        Ok::<_, Error>(cancel.check()?)
    })?;
    Ok(out.flush()?)
}
