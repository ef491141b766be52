//! `flatspan diff`.

use std::ops::{ControlFlow, Range};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use flatspan::snapshot::{HeapName, Image, StoreError};
use serde_json::{Value, json};

use crate::cli::DiffArgs;
use crate::format::{BinaryBytes, count, range};
use crate::progress::Bar;
use crate::signals::{Cancel, Interrupted};
use crate::{exit_code, output};

pub(crate) fn run(args: &DiffArgs) -> Result<u8> {
    match compare(args) {
        // Exit code 1 means "different", so corruption is a failure here.
        Err(error) if output::exit_code(&error) == exit_code::FOUND => {
            eprintln!("flatspan: {error:#}");
            Ok(exit_code::FAILED)
        }
        code => code,
    }
}

fn compare(args: &DiffArgs) -> Result<u8> {
    let cancel = Cancel::on_signal()?;
    let [a, b] = sides(args)?;
    let ranges = differences(&a, &b, &cancel)?;
    let is_identical = ranges.is_empty() && a.len() == b.len();
    if args.json {
        output::json(&object(args, [&a, &b], &ranges))?;
    } else {
        print(args, [&a, &b], &ranges)?;
    }
    Ok(if is_identical {
        exit_code::OK
    } else {
        exit_code::FOUND
    })
}

fn differences(a: &Image, b: &Image, cancel: &Cancel) -> Result<Vec<Range<u64>>> {
    let pages = a.len().max(b.len()) / 4096;
    let bar = Bar::new("comparing", pages * 4096);
    let mut ranges = Vec::new();
    let compared = a.diff(
        b,
        |range| ranges.push(range),
        |done_pages| {
            bar.set(done_pages * 4096);
            if cancel.is_requested() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        },
    )?;
    if compared.is_break() {
        return Err(Interrupted.into());
    }
    Ok(ranges)
}

fn sides(args: &DiffArgs) -> Result<[Image; 2]> {
    let newest = |path: &Path| {
        let image = output::reader(path)?.newest();
        image.with_context(|| format!("store {}", path.display()))
    };
    if let Some(b) = &args.b {
        return Ok([newest(&args.a)?, newest(b)?]);
    }
    let reader = output::reader(&args.a)?;
    reader.inspect()?.selection.map_err(StoreError::from)?;
    match [reader.heap(HeapName::A)?, reader.heap(HeapName::B)?] {
        [Some(a), Some(b)] => Ok([a, b]),
        _ => bail!("store {}: only one heap is complete", args.a.display()),
    }
}

fn total(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

fn print(args: &DiffArgs, images: [&Image; 2], ranges: &[Range<u64>]) -> Result<()> {
    for ((path, image), side) in paths(args).into_iter().zip(images).zip(["a", "b"]) {
        output::line(&format!(
            "{side}: {}, heap {}, generation {}, region of {}",
            path.display(),
            image.metadata().heap,
            image.generation(),
            BinaryBytes(image.len()),
        ))?;
    }
    for pages in ranges {
        let bytes = pages.start * 4096..pages.end * 4096;
        output::line(&format!(
            "pages {} (bytes {}) differ",
            range(pages),
            range(&bytes)
        ))?;
    }
    let [a, b] = images;
    if a.len() != b.len() {
        output::line(&format!(
            "lengths differ: {} and {} bytes",
            a.len(),
            b.len()
        ))?;
    }
    output::line(&format!("{} differ", count(total(ranges), "page")))
}

fn object(args: &DiffArgs, images: [&Image; 2], ranges: &[Range<u64>]) -> Value {
    let [a, b] = images;
    let [path_a, path_b] = paths(args);
    let pages: Vec<_> = ranges
        .iter()
        .map(|range| [range.start, range.end - 1])
        .collect();
    json!({
        "a": side(path_a, a),
        "b": side(path_b, b),
        "identical": ranges.is_empty() && a.len() == b.len(),
        "differing_pages": total(ranges),
        "differing_page_ranges": pages,
    })
}

fn side(path: &Path, image: &Image) -> Value {
    json!({
        "store": path.to_string_lossy(),
        "heap": image.metadata().heap.to_string(),
        "generation": image.generation().get(),
        "region_bytes": image.len(),
    })
}

fn paths(args: &DiffArgs) -> [&Path; 2] {
    [&args.a, args.b.as_ref().unwrap_or(&args.a)]
}
