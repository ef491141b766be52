//! `torrent create`.

use std::env;
use std::io::{self, Write as _};
use std::time::SystemTime;

use anyhow::{Context as _, Result, anyhow, bail};
use flatspan::span::{Group, HashOptions, PieceHash, Sha1Digest};
use indicatif::BinaryBytes;
use serde_json::json;

use crate::cli::CreateArgs;
use crate::engine::Engine;
use crate::metainfo::{FileEntry, FileKind, Metainfo, TORRENT_BYTES_MAX};
use crate::output::Output;
use crate::paths::{is_bitcomet_padding, joined, printable};
use crate::piece_length;
use crate::progress::Bar;
use crate::scan::Scan;
use crate::torrent_file;
use crate::{exit, message};

const CREATED_BY: &str = concat!("flatspan torrent/", env!("CARGO_PKG_VERSION"));
/// The directory of padding files, as suggested by BEP 47.
const PADDING_DIRECTORY: &str = ".pad";

pub(crate) fn run(args: &CreateArgs) -> Result<u8> {
    let engine = Engine::new(&args.engine)?;
    let output = Output::new(&args.out, args.force)?;
    let scan = scan(args, &output)?;
    let total_bytes = scan.total_bytes()?;
    if total_bytes == 0 {
        let content = printable(&args.content.to_string_lossy());
        bail!("{content} has 0 bytes; a torrent needs at least one byte of content");
    }
    let piece_bytes = piece_bytes(args, total_bytes);
    let files = entries(&scan, args.pad.then_some(piece_bytes))?;
    let Some(pieces) = hash(&scan, &files, piece_bytes, &engine)? else {
        message::print("interrupted; no torrent was written");
        return Ok(exit::INTERRUPTED);
    };
    scan.check_unchanged()?;

    let torrent = describe(args, scan, files, piece_bytes, pieces)?.encode();
    if torrent.len() as u64 > TORRENT_BYTES_MAX {
        bail!(
            "the torrent would have {} bytes; choose a larger --piece-length",
            torrent.len()
        );
    }
    // The new torrent passes the same checks as a foreign one.
    let metainfo = Metainfo::parse(&torrent)
        .map_err(|refused| anyhow!("the torrent would be invalid: {refused}"))?;
    output.write(&torrent)?;
    report(args, &metainfo, &output).context("the torrent was written, but not the report")?;
    Ok(exit::OK)
}

fn scan(args: &CreateArgs, output: &Output) -> Result<Scan> {
    let mut scan = Scan::new(&args.content, &output.excluded()?)?;
    report_skipped("symbolic links", &scan.skipped.symlinks, args.verbose);
    report_skipped("special files", &scan.skipped.special_files, args.verbose);
    if scan.files.is_empty() {
        bail!("{} has no files", args.content.display());
    }
    if let Some(model) = &args.order_from {
        scan.order_like(&torrent_file::load(model)?)?;
    }
    Ok(scan)
}

fn report_skipped(what: &str, paths: &[String], all: bool) {
    if paths.is_empty() {
        return;
    }
    let hint = if all { "" } else { " (-v lists them)" };
    message::print(format_args!("{what} skipped: {}{hint}", paths.len()));
    for path in paths.iter().filter(|_| all) {
        message::print(format_args!("skipped: {path}"));
    }
}

fn piece_bytes(args: &CreateArgs, total_bytes: u64) -> u64 {
    args.piece_length.unwrap_or_else(|| {
        let choice = piece_length::choose(total_bytes);
        message::print(format_args!(
            "piece length {}, {}: {} pieces for {}",
            BinaryBytes(choice.piece_bytes),
            choice.reason,
            total_bytes.div_ceil(choice.piece_bytes),
            BinaryBytes(total_bytes),
        ));
        choice.piece_bytes
    })
}

/// The files. If `pad_to` is set, padding to a whole piece follows each file except the last one.
fn entries(scan: &Scan, pad_to: Option<u64>) -> Result<Vec<FileEntry>> {
    let mut entries = Vec::with_capacity(scan.files.len());
    let mut missing = 0;
    for file in &scan.files {
        if pad_to.is_some()
            && file
                .path
                .first()
                .is_some_and(|directory| directory == PADDING_DIRECTORY)
        {
            bail!(
                "--pad needs the directory name {PADDING_DIRECTORY}, but the content has such a directory"
            );
        }
        if is_bitcomet_padding(&file.path) {
            let path = printable(&joined(&file.path));
            bail!("{path}: clients take a file of this name for padding; rename or remove it");
        }
        if missing > 0 && file.bytes > 0 {
            let path = vec![PADDING_DIRECTORY.into(), missing.to_string().into()];
            entries.push(FileEntry {
                path,
                bytes: missing,
                kind: FileKind::Padding,
            });
            missing = 0;
        }
        if let Some(piece_bytes) = pad_to.filter(|_| file.bytes > 0) {
            missing = file.bytes.next_multiple_of(piece_bytes) - file.bytes;
        }
        entries.push(FileEntry {
            path: file.path.clone(),
            bytes: file.bytes,
            kind: FileKind::Regular,
        });
    }
    Ok(entries)
}

/// The digests of all pieces, or `None` if interrupted.
fn hash(
    scan: &Scan,
    entries: &[FileEntry],
    piece_bytes: u64,
    engine: &Engine,
) -> Result<Option<Vec<Sha1Digest>>> {
    let mut builder = Group::builder(&scan.root).cache(&engine.cache);
    let mut on_disk = scan.files.iter().map(|file| &file.on_disk);
    for entry in entries {
        builder = if entry.kind == FileKind::Regular {
            builder.file(
                on_disk.next().context("a file has no path on disk")?,
                entry.bytes,
            )
        } else {
            builder.padding(entry.bytes)
        };
    }
    let group = builder.open()?;
    let pieces = engine.pieces(&group, piece_bytes)?;
    let bar = Bar::new(&printable(&scan.name.to_string_lossy()), group.len());
    let advance = |progress| bar.advance(progress);
    let run = HashOptions::new()
        .pool(&engine.pool)
        .progress(&advance)
        .cancel(&engine.cancel);

    let mut digests = Vec::with_capacity(pieces.count());
    for (i, outcome) in pieces.hash_all(&run).into_iter().enumerate() {
        match outcome {
            PieceHash::Hashed(digest) => digests.push(digest),
            PieceHash::Failed(error) => return Err(error).with_context(|| format!("piece {i}")),
            _ => return Ok(None),
        }
    }
    Ok((!engine.is_cancelled()).then_some(digests))
}

fn describe(
    args: &CreateArgs,
    scan: Scan,
    files: Vec<FileEntry>,
    piece_bytes: u64,
    pieces: Vec<Sha1Digest>,
) -> Result<Metainfo> {
    Ok(Metainfo {
        info_hash: Sha1Digest::new([0; 20]),
        name: scan.name,
        piece_bytes,
        pieces,
        private: args.private,
        source: args.source.clone(),
        multi_file: scan.multi_file,
        total_bytes: 0,
        files,
        tracker_tiers: args.tracker.iter().map(|tier| tier.0.clone()).collect(),
        comment: args.comment.clone(),
        created_by: Some(CREATED_BY.to_owned()),
        creation_date: if args.no_creation_date {
            None
        } else {
            Some(creation_date()?)
        },
    })
}

/// The current time, or `SOURCE_DATE_EPOCH` if it is set (reproducible-builds.org).
fn creation_date() -> Result<i64> {
    if let Ok(epoch) = env::var("SOURCE_DATE_EPOCH") {
        return epoch
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH is not a number: {epoch:?}"));
    }
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Ok(i64::try_from(now.as_secs())?)
}

/// The report is on standard error if the torrent is on standard output.
fn report(args: &CreateArgs, metainfo: &Metainfo, output: &Output) -> io::Result<()> {
    let line = if args.json {
        json_report(args, metainfo)
    } else {
        text_report(args, metainfo)
    };
    if matches!(output, Output::Stdout) {
        // Nothing may stop the program after the torrent was written.
        drop(writeln!(io::stderr().lock(), "{line}"));
        return Ok(());
    }
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

fn json_report(args: &CreateArgs, metainfo: &Metainfo) -> String {
    let object = json!({
        "torrent": args.out.to_string_lossy(),
        "name": metainfo.shown_name(),
        "info_hash": metainfo.info_hash_hex(),
        "piece_bytes": metainfo.piece_bytes,
        "pieces": metainfo.pieces.len(),
        "files": metainfo.count(FileKind::Regular),
        "padding_files": metainfo.count(FileKind::Padding),
        "total_bytes": metainfo.total_bytes,
    });
    object.to_string()
}

fn text_report(args: &CreateArgs, metainfo: &Metainfo) -> String {
    format!(
        "{}: {} files, {}, {} pieces of {}, info-hash {}",
        printable(&args.out.to_string_lossy()),
        metainfo.count(FileKind::Regular),
        BinaryBytes(metainfo.total_bytes),
        metainfo.pieces.len(),
        BinaryBytes(metainfo.piece_bytes),
        metainfo.info_hash_hex(),
    )
}
