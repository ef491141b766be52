//! Bencode as it is found in torrents: keys in any order and more than once, and any bytes.

use std::path::{Path, PathBuf};

use serde_json::Value;
use sha1::{Digest as _, Sha1};
use tempfile::TempDir;

use crate::program::{expect, json, put};
use crate::support;

/// The piece length of all these torrents.
pub(crate) const PIECE_BYTES: usize = 16_384;

pub(crate) fn int(value: i64) -> Vec<u8> {
    format!("i{value}e").into_bytes()
}

pub(crate) fn text(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [format!("{}:", bytes.len()).as_bytes(), bytes].concat()
}

pub(crate) fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [b"l", &items.concat()[..], b"e"].concat()
}

pub(crate) fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries = entries
        .iter()
        .map(|(key, value)| [text(key), value.clone()].concat());
    [b"d", &entries.collect::<Vec<_>>().concat()[..], b"e"].concat()
}

/// A path of components.
pub(crate) fn path(components: &[&str]) -> Vec<u8> {
    list(&components.iter().map(text).collect::<Vec<_>>())
}

/// An entry of `files`.
pub(crate) fn file(components: &[&str], bytes: usize) -> Vec<u8> {
    dict(&[("length", length(bytes)), ("path", path(components))])
}

pub(crate) fn length(bytes: usize) -> Vec<u8> {
    int(i64::try_from(bytes).expect("a small length"))
}

/// The digests of the pieces of `content`.
pub(crate) fn digests(content: &[u8]) -> Vec<u8> {
    let pieces = content.chunks(PIECE_BYTES);
    text(pieces.flat_map(Sha1::digest).collect::<Vec<_>>())
}

/// `info` called "d", with `more` first and pieces that are the digests of `content`.
pub(crate) fn info(more: &[(&str, Vec<u8>)], content: &[u8]) -> Vec<u8> {
    let rest = [
        ("name", text("d")),
        ("piece length", length(PIECE_BYTES)),
        ("pieces", digests(content)),
    ];
    let missing = |(key, _): &(&str, _)| !more.iter().any(|(other, _)| other == key);
    dict(&[more, &rest.into_iter().filter(missing).collect::<Vec<_>>()].concat())
}

/// A torrent with this `info`.
pub(crate) fn torrent(info: Vec<u8>) -> Vec<u8> {
    dict(&[("info", info)])
}

/// A torrent of `files`, whose concatenation is `content`.
pub(crate) fn multi(files: &[Vec<u8>], content: &[u8]) -> Vec<u8> {
    torrent(info(&[("files", list(files))], content))
}

/// A directory with a torrent and with files.
pub(crate) struct Scene {
    pub(crate) directory: TempDir,
    pub(crate) torrent: PathBuf,
}

impl Scene {
    pub(crate) fn new(torrent: &[u8]) -> Self {
        let directory = support::temp_dir();
        let path = directory.path().join("x.torrent");
        put(&path, torrent);
        Self {
            directory,
            torrent: path,
        }
    }

    /// Adds a file.
    pub(crate) fn with(self, path: impl AsRef<Path>, content: &[u8]) -> Self {
        put(&self.directory.path().join(path), content);
        self
    }

    /// The object that `show --json` prints.
    pub(crate) fn show(&self) -> Value {
        json(&expect(
            0,
            &[Path::new("show"), &self.torrent, Path::new("--json")],
        ))
    }

    /// Runs `verify` below this directory with further arguments.
    pub(crate) fn run_verify(&self, code: i32, more: &[&str]) -> std::process::Output {
        let root = self.directory.path();
        let mut args = vec![
            Path::new("verify"),
            &self.torrent,
            Path::new("--root"),
            root,
        ];
        args.extend(more.iter().map(Path::new));
        expect(code, &args)
    }

    /// The object that `verify --json` prints.
    pub(crate) fn verify(&self, code: i32) -> Value {
        json(&self.run_verify(code, &["--json"]))
    }

    /// Expects that the torrent is shown and verifies, with a warning that contains `warning`.
    #[track_caller]
    pub(crate) fn assert_accepted(&self, warning: &str) -> Value {
        let shown = self.show();
        assert_eq!(self.verify(0)["ok"], true);
        assert!(
            shown["warnings"].to_string().contains(warning),
            "{warning:?} is not in {shown}"
        );
        shown
    }
}

/// The SHA-1 of bytes, in hexadecimal.
pub(crate) fn sha1_hex(bytes: &[u8]) -> String {
    let digest = Sha1::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The paths of the files that `show` or `verify` reports.
pub(crate) fn paths(object: &Value) -> Vec<&str> {
    let files = object["files"].as_array().expect("files");
    files
        .iter()
        .map(|file| file["path"].as_str().expect("a path"))
        .collect()
}
