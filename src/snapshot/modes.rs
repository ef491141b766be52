//! Modes of a store that several layers depend on.

/// How the memory of a store is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum WriteMode {
    /// By [`Store::transaction`](super::Store::transaction) and
    /// [`Store::begin`](super::Store::begin) only. A committed transaction is durable, and a
    /// checkpoint only shortens the journal.
    #[default]
    Transactions,
    /// By threads that hold a guard of [`Store::write_guard`](super::Store::write_guard) and by
    /// other writers of the memory. The state of the last checkpoint is restored.
    Tracked,
}

/// Which failures an acknowledged commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// A power failure.
    #[default]
    Power,
    /// The end of the process, including SIGKILL.
    ///
    /// After a power failure an earlier complete state is restored. Acknowledged commits may be
    /// lost, back to the base checkpoint before the last one. Transactions and delta checkpoints
    /// wait for no sync. A base checkpoint waits for the syncs that keep the two heaps
    /// distinguishable.
    Process,
}

/// How the state gets into memory when a store is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Restore {
    /// The heap is read, and verified while reading.
    #[default]
    Copy,
    /// The files of the heap are mapped privately; see
    /// [`StoreOptions::restore_by_map`](super::StoreOptions::restore_by_map).
    Map,
}

/// How a checkpoint captures the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CaptureMode {
    /// Copies pages while writers run, repeatedly where they change. Writers are paused for the
    /// last few pages only.
    #[default]
    PreCopy,
    /// Pauses writers while all pages are copied.
    StopAndCopy,
}

/// Treatment of the fallback heap when a store is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnClose {
    /// It is kept. The next base checkpoint writes only the pages that changed.
    #[default]
    KeepBoth,
    /// It is removed, which halves the storage. The first base checkpoint of the next run writes
    /// every page, unless the second heap was created before
    /// ([`StoreOptions::create_second_heap`](super::StoreOptions::create_second_heap)).
    RemoveOlder,
}
