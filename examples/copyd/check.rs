//! `copyd check`: compares the content on disk, piece by piece.

use std::io::Write as _;
use std::ops::Range;

use anyhow::{Context as _, Result};
use flatspan::span::{HashOptions, PieceHash, PieceHasher as _, Pieces, Sha1, Sha1Digest};
use serde_json::json;

use crate::cli::CheckArgs;
use crate::{content, exit};

/// The expected content is generated in steps of this length.
const STEP_BYTES: u64 = 64 << 10;

pub(crate) fn run(args: &CheckArgs) -> Result<u8> {
    let (builder, _) = args.group.builder()?;
    let group = builder.open()?;
    let pieces = Pieces::new(&group, args.piece_length.get())?;
    let (mut mismatched, mut unreadable) = (Vec::new(), Vec::new());
    for (piece, outcome) in pieces
        .hash_all(&HashOptions::new())?
        .into_iter()
        .enumerate()
    {
        let range = pieces.range(piece).context("a piece outside the group")?;
        match outcome {
            PieceHash::Hashed(digest) if digest == expected(args.seed, range) => {}
            PieceHash::Hashed(_) => mismatched.push(piece),
            PieceHash::Failed(error) => unreadable.push((piece, error.to_string())),
            _ => unreadable.push((piece, "not checked".to_owned())),
        }
    }
    let bad = mismatched.len() + unreadable.len();
    let mut stdout = std::io::stdout();
    if args.json {
        let unreadable: Vec<_> = unreadable
            .iter()
            .map(|(piece, error)| json!({ "piece": piece, "error": error }))
            .collect();
        let object = json!({
            "total_bytes": group.len(),
            "piece_bytes": pieces.piece_bytes(),
            "pieces": pieces.count(),
            "ok": pieces.count() - bad,
            "mismatched": mismatched,
            "unreadable": unreadable,
        });
        writeln!(stdout, "{object}")?;
    } else {
        for piece in &mismatched {
            writeln!(stdout, "piece {piece}: wrong content")?;
        }
        for (piece, error) in &unreadable {
            writeln!(stdout, "piece {piece}: {error}")?;
        }
        writeln!(
            stdout,
            "{} of {} pieces are correct",
            pieces.count() - bad,
            pieces.count()
        )?;
    }
    Ok(match bad {
        0 => exit::OK,
        _ => exit::WRONG_CONTENT,
    })
}

/// The hash of the expected content.
fn expected(seed: u64, range: Range<u64>) -> Sha1Digest {
    let mut hasher = Sha1::default();
    let mut step = Vec::new();
    for start in range.clone().step_by(STEP_BYTES as usize) {
        // Lossless: at most one step.
        step.resize((range.end - start).min(STEP_BYTES) as usize, 0);
        content::fill(seed, start, &mut step);
        hasher.update(&step);
    }
    hasher.finish()
}
