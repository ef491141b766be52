//! The resources for hashing: threads, mapping cache, and the flag that a signal sets.
//!
//! # Safety
//!
//! Hashing in place requires that no other process changes the files meanwhile. The user of the
//! program promises this with `--in-place`. The help of that option describes the effect of a
//! broken promise.
#![expect(unsafe_code, reason = "hashing in place is an unsafe API")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use flatspan::mapping_cache::{CacheOptions, MappingCache, install_sigbus_handler};
use flatspan::span::{Group, Pieces};
use rayon::{ThreadPool, ThreadPoolBuilder};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use crate::cli::EngineArgs;
use crate::exit;

/// Shared by all torrents of a run.
pub(crate) struct Engine {
    pub(crate) pool: ThreadPool,
    pub(crate) cache: MappingCache,
    pub(crate) cancel: Arc<AtomicBool>,
    in_place: bool,
}

impl Engine {
    pub(crate) fn new(args: &EngineArgs) -> Result<Self> {
        // With zero threads rayon chooses their number.
        let threads = args.threads.map_or(0, std::num::NonZero::get);
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .context("cannot start threads")?;
        let mut options = CacheOptions::default();
        if let Some(budget_bytes) = args.budget {
            options = options
                .budget_bytes(budget_bytes)
                .window_bytes(window_bytes(budget_bytes));
        }
        let cache = MappingCache::new(options).context("--budget")?;
        if args.in_place {
            install_sigbus_handler().context("cannot handle SIGBUS")?;
        }
        Ok(Self {
            pool,
            cache,
            cancel: cancel_on_signal()?,
            in_place: args.in_place,
        })
    }

    pub(crate) fn pieces<'g>(&self, group: &'g Group, piece_bytes: u64) -> Result<Pieces<'g>> {
        let pieces = Pieces::new(group, piece_bytes)?;
        if !self.in_place {
            return Ok(pieces);
        }
        // SAFETY: the user gave the promise on the command line.
        Ok(unsafe { pieces.hash_in_place() })
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }
}

/// Returns a window size at which even a small budget holds several of them.
fn window_bytes(budget_bytes: u64) -> usize {
    const WINDOW_BYTES_MAX: u64 = 4 << 20;
    const WINDOW_BYTES_MIN: u64 = 64 << 10;
    let quarter = (budget_bytes / 4).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX);
    1 << quarter.ilog2()
}

/// The first signal requests an orderly end, the second one ends the program at once.
fn cancel_on_signal() -> Result<Arc<AtomicBool>> {
    let cancel = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, exit::INTERRUPTED.into(), Arc::clone(&cancel))
            .and_then(|_| flag::register(signal, Arc::clone(&cancel)))
            .context("cannot handle signals")?;
    }
    Ok(cancel)
}
