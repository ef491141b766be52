//! Reading a `.torrent` file.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::metainfo::{Metainfo, TORRENT_BYTES_MAX};
use crate::paths::printable;

/// Reads and checks the torrent at `path`. Stops reading after the maximum size.
pub(crate) fn load(path: &Path) -> Result<Metainfo> {
    let read = || {
        let mut torrent = Vec::new();
        File::open(path)?
            .take(TORRENT_BYTES_MAX + 1)
            .read_to_end(&mut torrent)?;
        std::io::Result::Ok(torrent)
    };
    let name = || printable(&path.to_string_lossy());
    let torrent = read().with_context(|| format!("cannot read {}", name()))?;
    Metainfo::parse(&torrent).with_context(name)
}
