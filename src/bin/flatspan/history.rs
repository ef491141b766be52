//! `flatspan history`.

use anyhow::{Error, Result};
use flatspan::snapshot::{History, Image, Kept, StoreReader};
use serde_json::json;

use crate::cli::StoreArgs;
use crate::text::{BinaryBytes, count, nanoseconds, time};
use crate::{exit, output};

pub(crate) fn run(args: &StoreArgs) -> Result<u8> {
    // A place without a store has no history either.
    output::reader(&args.store)?;
    let all = History::of(&args.store).list()?;
    let mut code = exit::OK;
    for kept in &all {
        let image = StoreReader::open(kept.directory()).and_then(|reader| reader.newest());
        code = code.max(print(args, kept, image.map_err(Error::from))?);
    }
    if !args.json {
        output::line(&count(all.len() as u64, "kept state"))?;
    }
    Ok(code)
}

/// What cannot be looked at is a line, too.
fn print(args: &StoreArgs, kept: &Kept, image: Result<Image>) -> Result<u8> {
    let code = image.as_ref().err().map_or(exit::OK, output::exit_code);
    if args.json {
        let image = image.as_ref();
        output::json(&json!({
            "name": kept.name(),
            "directory": kept.directory().to_string_lossy(),
            "generation": kept.generation(),
            "sequence": image.ok().map(Image::sequence),
            "bytes": image.ok().map(Image::len),
            "kept_at": image.ok().map(|image| nanoseconds(image.metadata().committed_at)),
            "error": image.err().map(|error| format!("{error:#}")),
        }))?;
        return Ok(code);
    }
    let what = match &image {
        Ok(image) => format!(
            "kept {}, region of {}",
            time(nanoseconds(image.metadata().committed_at)),
            BinaryBytes(image.len())
        ),
        Err(error) => format!("{error:#}"),
    };
    output::line(&format!("{:<12} {what}", kept.name()))?;
    Ok(code)
}
