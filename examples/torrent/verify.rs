//! `torrent verify`.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use flatspan::span::{Group, HashOptions};

use crate::cli::VerifyArgs;
use crate::engine::Engine;
use crate::location::Location;
use crate::metainfo::FileKind;
use crate::paths::printable;
use crate::progress::Bar;
use crate::report::Report;
use crate::torrent_file;
use crate::{exit, exit_code, message, report_json, report_text};

pub(crate) fn run(args: &VerifyArgs) -> Result<u8> {
    let engine = Engine::new(&args.engine)?;
    if args.content.is_none() {
        // Otherwise a mistyped root would look like missing files.
        std::fs::read_dir(&args.root).with_context(|| format!("--root {}", args.root.display()))?;
    }
    let mut worst = exit::OK;
    for torrent in &args.torrents {
        let code = match verify(torrent, args, &engine) {
            Ok(report) => {
                print(&report, args)?;
                code_of(&report)
            }
            Err(error) => {
                let code = exit_code(&error);
                print_failure(torrent, &error, code, args)?;
                code
            }
        };
        worst = worst.max(code);
        if engine.is_cancelled() {
            return Ok(exit::INTERRUPTED);
        }
    }
    Ok(worst)
}

fn verify(torrent: &Path, args: &VerifyArgs, engine: &Engine) -> Result<Report> {
    let reading = torrent_file::read(torrent)?;
    let (warnings, has_version_two) = (reading.warnings.clone(), reading.has_version_two);
    let (metainfo, location) = Location::of(torrent, reading, args)?;
    let mut builder = Group::builder(&location.root)
        .cache(&engine.cache)
        .allow_outside_root(args.follow_symlinks);
    let mut paths = Vec::with_capacity(metainfo.files.len());
    for (i, file) in metainfo.files.iter().enumerate() {
        let path = location.path(&metainfo, i);
        builder = match file.kind {
            FileKind::Regular => builder.file(&path, file.bytes),
            FileKind::Padding => builder.padding(file.bytes),
            FileKind::Symlink => continue,
        };
        paths.push(path);
    }
    let group = builder.open()?;
    let pieces = engine.pieces(&group, metainfo.piece_bytes)?;
    let bar = Bar::new(&printable(&metainfo.shown_name()), group.len());
    let advance = |progress| bar.advance(progress);
    let run = HashOptions::new()
        .pool(&engine.pool)
        .progress(&advance)
        .cancel(&engine.cancel);
    let verification = pieces.verify(&metainfo.pieces, &run)?;
    Ok(Report {
        torrent: torrent.to_owned(),
        directory_problem: location.directory_problem(&metainfo),
        root: location.root,
        metainfo,
        warnings,
        has_version_two,
        paths,
        follow_symlinks: args.follow_symlinks,
        strict: args.strict,
        verification,
    })
}

fn code_of(report: &Report) -> u8 {
    match (report.verification.complete, report.is_ok()) {
        (false, _) => exit::INTERRUPTED,
        (true, true) => exit::OK,
        (true, false) => exit::PROBLEMS,
    }
}

fn print(report: &Report, args: &VerifyArgs) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    if args.json {
        writeln!(stdout, "{}", report_json::report(report))?;
    } else {
        report_text::write(report, args.verbose, &mut stdout)?;
    }
    Ok(stdout.flush()?)
}

/// The run continues with the next torrent, so the error is reported here.
fn print_failure(torrent: &Path, error: &anyhow::Error, code: u8, args: &VerifyArgs) -> Result<()> {
    message::print(format_args!("{error:#}"));
    if args.json {
        writeln!(
            std::io::stdout().lock(),
            "{}",
            report_json::failure(torrent, error, code)
        )?;
    }
    Ok(())
}
