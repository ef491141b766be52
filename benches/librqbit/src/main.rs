//! Download time of librqbit with its storage over a group of files, compared with librqbit's own
//! filesystem storage.
//!
//! A seeder and a leecher in one process are connected through 127.0.0.1, without DHT, trackers or
//! local discovery. Only one side uses the group, so the figures of downloads and uploads are
//! separate. Both storages run alternately, and each download is compared with the source.
//!
//! The torrent has a total of `FLATSPAN_BENCH_BYTES` (defaults to 1 GiB), in files of uneven
//! length. `FLATSPAN_BENCH_PAIRS` sets the number of pairs (defaults to 9). `TMPDIR` selects the
//! filesystem.

mod storage;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use librqbit::spawn_utils::BlockingSpawner;
use librqbit::storage::StorageFactoryExt as _;
use librqbit::{
    AddTorrent, AddTorrentOptions, CreateTorrentOptions, ListenerMode, ListenerOptions,
    ManagedTorrent, Session, SessionOptions, create_torrent,
};
use tempfile::TempDir;

use crate::storage::GroupStorageFactory;

const PIECE_BYTES: u32 = 1 << 20;
const FILES: u64 = 16;
const TIME_LIMIT: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storage {
    Librqbit,
    Group,
}

fn setting(name: &str, default: u64) -> anyhow::Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is a number")),
        Err(_) => Ok(default),
    }
}

/// Writes files of pseudo-random bytes. Their lengths are uneven, so pieces cross from one file to
/// the next.
fn write_source(dir: &Path, total: u64) -> anyhow::Result<()> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut block = vec![0; 1 << 20];
    let mut left = total;
    for number in 0..FILES {
        let len = match number + 1 {
            FILES => left,
            _ => (total / FILES + number * 1237).min(left),
        };
        left -= len;
        let mut file = File::create(dir.join(format!("file-{number:02}")))?;
        let mut to_write = len as usize;
        while to_write > 0 {
            for word in block.chunks_exact_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_le_bytes());
            }
            let part = to_write.min(block.len());
            file.write_all(&block[..part])?;
            to_write -= part;
        }
    }
    Ok(())
}

/// Compares all files of two directories.
fn compare(source: &Path, copy: &Path) -> anyhow::Result<()> {
    let (mut ours, mut theirs) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    for entry in fs::read_dir(source)? {
        let name = entry?.file_name();
        let (mut from, mut to) = (File::open(source.join(&name))?, File::open(copy.join(&name))?);
        let len = from.metadata()?.len();
        ensure!(len == to.metadata()?.len(), "{} differs in length", name.display());
        let mut left = len as usize;
        while left > 0 {
            let part = left.min(ours.len());
            from.read_exact(&mut ours[..part])?;
            to.read_exact(&mut theirs[..part])?;
            ensure!(ours[..part] == theirs[..part], "{} differs", name.display());
            left -= part;
        }
    }
    Ok(())
}

/// Starts a session that talks to nobody but the peers that it is told.
async fn session(dir: &Path, listens: bool) -> anyhow::Result<Arc<Session>> {
    let listen = listens.then(|| ListenerOptions {
        mode: ListenerMode::TcpOnly,
        listen_addr: (Ipv4Addr::LOCALHOST, 0).into(),
        ipv4_only: true,
        ..Default::default()
    });
    let options = SessionOptions {
        dht: None,
        disable_trackers: true,
        disable_local_service_discovery: true,
        ipv4_only: true,
        listen,
        ..Default::default()
    };
    Session::new_with_opts(dir.to_owned(), options).await
}

struct Swarm {
    source: TempDir,
    torrent: Vec<u8>,
}

impl Swarm {
    async fn add(
        &self,
        session: &Arc<Session>,
        storage: Storage,
        dir: &Path,
        peer: Option<SocketAddr>,
    ) -> anyhow::Result<Arc<ManagedTorrent>> {
        // Only the seeder finds files.
        let overwrite = peer.is_none();
        let factory = GroupStorageFactory {
            root: dir.to_owned(),
            overwrite,
        };
        let options = AddTorrentOptions {
            overwrite,
            output_folder: Some(dir.to_str().context("a path in UTF-8")?.to_owned()),
            initial_peers: peer.map(|peer| vec![peer]),
            disable_trackers: true,
            storage_factory: (storage == Storage::Group).then(|| factory.boxed()),
            ..Default::default()
        };
        let torrent = AddTorrent::TorrentFileBytes(self.torrent.clone().into());
        let added = session.add_torrent(torrent, Some(options)).await?;
        added.into_handle().context("a torrent")
    }

    /// Starts a seeder and returns its address.
    async fn seed(&self, storage: Storage) -> anyhow::Result<(Arc<Session>, SocketAddr)> {
        let session = session(self.source.path(), true).await?;
        let torrent = self.add(&session, storage, self.source.path(), None).await?;
        finished(&torrent).await?;
        let address = session.listen_addr().context("a listener")?;
        Ok((session, address))
    }

    /// Downloads the torrent into a new directory and returns the time until all pieces are
    /// verified.
    async fn download(&self, storage: Storage, peer: SocketAddr) -> anyhow::Result<Duration> {
        let dir = TempDir::with_prefix("flatspan-librqbit-")?;
        let session = session(dir.path(), false).await?;
        let begun = Instant::now();
        let torrent = self.add(&session, storage, dir.path(), Some(peer)).await?;
        finished(&torrent).await?;
        let elapsed = begun.elapsed();
        drop(torrent);
        session.stop().await;
        compare(self.source.path(), dir.path())?;
        Ok(elapsed)
    }
}

/// Waits until a torrent is complete. librqbit's own method may notice this a second late.
async fn finished(torrent: &ManagedTorrent) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let stats = torrent.stats();
        if let Some(error) = stats.error {
            anyhow::bail!("librqbit: {error}");
        }
        // The check at the start finishes before the torrent is live.
        if stats.finished && stats.live.is_some() {
            return Ok(());
        }
        ensure!(begun.elapsed() < TIME_LIMIT, "not complete within {TIME_LIMIT:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn median<T: Copy + PartialOrd>(values: &mut [T]) -> T {
    values.sort_unstable_by(|a, b| a.partial_cmp(b).expect("values are ordered"));
    values[values.len() / 2]
}

/// A download: the storage of the leecher and the seeder's address.
type Side = (Storage, SocketAddr);

/// Runs both sides alternately, and prints the median of the ratios of the pairs.
async fn pairs(swarm: &Swarm, name: &str, librqbit: Side, group: Side) -> anyhow::Result<()> {
    let count = setting("FLATSPAN_BENCH_PAIRS", 9)?.max(1);
    let (mut theirs, mut ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    // The first pair warms up.
    for pair in 0..=count {
        let (their_time, our_time);
        if pair % 2 == 0 {
            their_time = swarm.download(librqbit.0, librqbit.1).await?;
            our_time = swarm.download(group.0, group.1).await?;
        } else {
            our_time = swarm.download(group.0, group.1).await?;
            their_time = swarm.download(librqbit.0, librqbit.1).await?;
        }
        println!("{name} {pair}: librqbit {their_time:.3?}, flatspan {our_time:.3?}");
        if pair > 0 {
            theirs.push(their_time);
            ours.push(our_time);
            ratios.push(their_time.as_secs_f64() / our_time.as_secs_f64());
        }
    }
    println!(
        "RATIO {name}, {count} pairs: librqbit {:.3?}, flatspan {:.3?}, {:.3} times as fast",
        median(&mut theirs),
        median(&mut ours),
        median(&mut ratios),
    );
    Ok(())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let source = TempDir::with_prefix("flatspan-librqbit-source-")?;
    write_source(source.path(), setting("FLATSPAN_BENCH_BYTES", 1 << 30)?)?;
    let options = CreateTorrentOptions {
        name: Some("torrent"),
        piece_length: Some(PIECE_BYTES),
        ..Default::default()
    };
    let created = create_torrent(source.path(), options, &BlockingSpawner::new(1)).await?;
    let torrent = created.as_bytes()?.to_vec();
    let swarm = Swarm { source, torrent };

    let (own_session, own) = swarm.seed(Storage::Librqbit).await?;
    let (group_session, group) = swarm.seed(Storage::Group).await?;
    let theirs = (Storage::Librqbit, own);
    pairs(&swarm, "download", theirs, (Storage::Group, own)).await?;
    pairs(&swarm, "upload", theirs, (Storage::Librqbit, group)).await?;
    own_session.stop().await;
    group_session.stop().await;
    Ok(())
}
