//! `torrent create`.

use std::env;
use std::io::Write as _;
use std::time::SystemTime;

use anyhow::{Context as _, Result, anyhow, bail};
use flatspan::span::{Group, HashOptions, PieceHash, Sha1Digest};
use indicatif::BinaryBytes;
use serde_json::json;

use crate::cli::CreateArgs;
use crate::engine::Engine;
use crate::exit;
use crate::metainfo::{FileEntry, FileKind, Metainfo, TORRENT_BYTES_MAX};
use crate::output_file::OutputFile;
use crate::paths::printable;
use crate::piece_length;
use crate::progress::Bar;
use crate::scan::Scan;
use crate::torrent_file;

const CREATED_BY: &str = concat!("flatspan torrent/", env!("CARGO_PKG_VERSION"));
/// The directory of padding files, as suggested by BEP 47.
const PADDING_DIRECTORY: &str = ".pad";

pub(crate) fn run(args: &CreateArgs) -> Result<u8> {
    let engine = Engine::new(&args.engine)?;
    let output = OutputFile::new(&args.out, args.force)?;
    let scan = scan(args, &output)?;
    let piece_bytes = piece_bytes(args, scan.total_bytes()?);
    let files = entries(&scan, args.pad.then_some(piece_bytes))?;
    let Some(pieces) = hash(&scan, &files, piece_bytes, &engine)? else {
        eprintln!("torrent: interrupted; no torrent was written");
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
    report(args, &metainfo)?;
    Ok(exit::OK)
}

fn scan(args: &CreateArgs, output: &OutputFile) -> Result<Scan> {
    let warn = |warning| eprintln!("torrent: {warning}");
    let mut scan = Scan::new(&args.content, &output.canonical_path()?, warn)?;
    if scan.files.is_empty() {
        bail!("{} has no files", args.content.display());
    }
    if let Some(model) = &args.order_from {
        scan.order_like(&torrent_file::load(model)?)?;
    }
    Ok(scan)
}

fn piece_bytes(args: &CreateArgs, total_bytes: u64) -> u64 {
    args.piece_length.unwrap_or_else(|| {
        let choice = piece_length::choose(total_bytes);
        eprintln!(
            "torrent: piece length {}, {}: {} pieces for {}",
            BinaryBytes(choice.piece_bytes),
            choice.reason,
            total_bytes.div_ceil(choice.piece_bytes),
            BinaryBytes(total_bytes),
        );
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
        if missing > 0 && file.bytes > 0 {
            let path = vec![PADDING_DIRECTORY.to_owned(), missing.to_string()];
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
    let bar = Bar::new(&printable(&scan.name), group.len());
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
    let tier = |urls: &String| {
        urls.split(',')
            .map(str::trim)
            .filter(|url| !url.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let tiers = args
        .tracker
        .iter()
        .map(tier)
        .filter(|urls: &Vec<_>| !urls.is_empty());
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
        tracker_tiers: tiers.collect(),
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

fn report(args: &CreateArgs, metainfo: &Metainfo) -> Result<()> {
    let (files, padding_files) = (
        metainfo.count(FileKind::Regular),
        metainfo.count(FileKind::Padding),
    );
    let out = args.out.to_string_lossy();
    let mut stdout = std::io::stdout().lock();
    if args.json {
        let object = json!({
            "torrent": out,
            "name": metainfo.name,
            "info_hash": metainfo.info_hash_hex(),
            "piece_bytes": metainfo.piece_bytes,
            "pieces": metainfo.pieces.len(),
            "files": files,
            "padding_files": padding_files,
            "total_bytes": metainfo.total_bytes,
        });
        writeln!(stdout, "{object}")?;
    } else {
        writeln!(
            stdout,
            "{}: {files} files, {}, {} pieces of {}, info-hash {}",
            printable(&out),
            BinaryBytes(metainfo.total_bytes),
            metainfo.pieces.len(),
            BinaryBytes(metainfo.piece_bytes),
            metainfo.info_hash_hex(),
        )?;
    }
    Ok(())
}
