//! Reading a `.torrent` file.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::metainfo::{Metainfo, TORRENT_BYTES_MAX};
use crate::paths::printable;
use crate::reading::Reading;

/// The path that means standard input, or standard output.
pub(crate) const STANDARD_STREAM: &str = "-";

/// Reads the torrent at `path`, or from standard input for `-`. Stops after the maximum size.
pub(crate) fn read(path: &Path) -> Result<Reading> {
    let read = |file: &mut dyn Read| {
        let mut torrent = Vec::new();
        file.take(TORRENT_BYTES_MAX + 1).read_to_end(&mut torrent)?;
        io::Result::Ok(torrent)
    };
    let torrent = if path == Path::new(STANDARD_STREAM) {
        read(&mut io::stdin().lock())
    } else {
        File::open(path).and_then(|mut file| read(&mut file))
    };
    let torrent = torrent.with_context(|| format!("cannot read {}", name(path)))?;
    Reading::of(&torrent).with_context(|| name(path))
}

/// Reads the torrent at `path` and refuses it unless all of it is valid.
pub(crate) fn load(path: &Path) -> Result<Metainfo> {
    read(path)?.checked().with_context(|| name(path))
}

/// The torrent's path for messages.
pub(crate) fn name(path: &Path) -> String {
    if path == Path::new(STANDARD_STREAM) {
        "standard input".to_owned()
    } else {
        printable(&path.to_string_lossy())
    }
}
