//! Assertions at compile time: which public types are `Send` and `Sync`.
//!
//! A field can take these traits away without a change of any signature, so every public type is
//! listed here.

use std::net::TcpStream;
use std::sync::Arc;

use crate::{mapping_cache, shm, snapshot, span};

/// Compiles for a type that threads may pass on.
const fn assert_send<T: Send + ?Sized>() {}

/// Compiles for a type that threads may share and pass on.
const fn assert_send_sync<T: Send + Sync + ?Sized>() {}

/// Asserts that each type is `Send` and `Sync`.
macro_rules! assert_send_sync {
    ($($type:ty),* $(,)?) => {
        const _: () = {
            $(assert_send_sync::<$type>();)*
        };
    };
}

/// Asserts that each type is `Send`.
macro_rules! assert_send {
    ($($type:ty),* $(,)?) => {
        const _: () = {
            $(assert_send::<$type>();)*
        };
    };
}

/// Asserts that a type is not `Send`: two implementations fit a type that is, and the call of the
/// trait's function is then ambiguous.
macro_rules! assert_not_send {
    ($($type:ty),* $(,)?) => {
        $(const _: fn() = || {
            trait AmbiguousIfSend<Marker> {
                fn function() {}
            }
            struct IsSend;
            impl<T: ?Sized> AmbiguousIfSend<()> for T {}
            impl<T: ?Sized + Send> AmbiguousIfSend<IsSend> for T {}
            <$type as AmbiguousIfSend<_>>::function();
        };)*
    };
}

assert_send_sync!(
    mapping_cache::Access,
    mapping_cache::Advice,
    mapping_cache::BudgetPolicy,
    mapping_cache::CacheOptions,
    mapping_cache::CacheStats,
    mapping_cache::CachedFile,
    mapping_cache::CopyMethod,
    mapping_cache::FileOptions,
    mapping_cache::FlushMode,
    mapping_cache::Location,
    mapping_cache::MappingCache,
    mapping_cache::MappingError,
    mapping_cache::Pin,
    mapping_cache::Preallocation,
    mapping_cache::PreallocationFallback,
    mapping_cache::PreallocationStatus,
);

assert_send_sync!(
    span::Cursor<Arc<span::Group>>,
    span::Entry,
    span::EntryInfo<'static>,
    span::EntryKind,
    span::Extent,
    span::Extents<'static>,
    span::Group,
    span::GroupBuilder,
    span::GroupError,
    span::Layout,
    span::PieceAssembler,
    span::Pieces,
    span::Sha1,
    span::Sha1Digest,
    span::Sha1DigestParseError,
    span::Span<&'static span::Group>,
    span::Span<Arc<span::Group>>,
    span::SpanMut<&'static span::Group>,
    span::SpanMut<Arc<span::Group>>,
    span::ZeroCopySender<TcpStream>,
);

#[cfg(feature = "rayon")]
assert_send_sync!(
    span::FileReport,
    span::FileStatus,
    span::HashOptions<'static>,
    span::HashProgress,
    span::PieceHash,
    span::PieceState,
    span::VerifyReport,
);

#[cfg(feature = "bytes")]
assert_send_sync!(span::SpanBuf<'static>, span::SpanBufMut<'static>);

#[cfg(feature = "tokio")]
assert_send_sync!(span::AsyncCursor);

#[cfg(any(feature = "stream", feature = "http-body"))]
assert_send_sync!(span::SpanStream);

assert_send_sync!(
    snapshot::CaptureMode,
    snapshot::Change,
    snapshot::CheckpointKind,
    snapshot::CheckpointReport,
    snapshot::CorruptionCause,
    snapshot::CurrentState,
    snapshot::DirectoryBackend,
    snapshot::DirtyMarks,
    snapshot::Durability,
    snapshot::ExplicitTracker,
    snapshot::FilePart,
    snapshot::HashCompareTracker,
    snapshot::HeaderError,
    snapshot::HeapChoice,
    snapshot::HeapInfo,
    snapshot::HeapName,
    snapshot::HeapSelection,
    snapshot::HeapSelectionError,
    snapshot::HeapState,
    snapshot::HeapUnusable,
    snapshot::History,
    snapshot::HistorySnapshot,
    snapshot::IgnoredTail,
    snapshot::Image,
    snapshot::JournalFileInfo,
    snapshot::LogicalFile,
    snapshot::MemorySource,
    snapshot::Metadata,
    snapshot::OnClose,
    snapshot::OpenReport,
    snapshot::PageSet,
    snapshot::PayloadFile,
    snapshot::PrivateFilePart,
    snapshot::PrivatePagesTracker,
    snapshot::Problem,
    snapshot::ProblemKind,
    snapshot::RecordInfo,
    snapshot::RecordKind,
    snapshot::Region,
    snapshot::RegionError,
    snapshot::RegionKind,
    snapshot::RegionOptions,
    snapshot::Rollback,
    snapshot::Runs<'static>,
    snapshot::Store,
    snapshot::StoreError,
    snapshot::StoreId,
    snapshot::StoreInfo,
    snapshot::StoreOptions,
    snapshot::StoreReader,
    snapshot::StoreVerifyReport,
    snapshot::TrackerChoice,
    snapshot::TrackerError,
    snapshot::TrackerKind,
    snapshot::TrackerProbe,
    snapshot::TrackerProbes,
    snapshot::VerifyProgress,
    snapshot::WpAsyncTracker,
    snapshot::WriteGuard<'static>,
    snapshot::WriteMode,
    snapshot::WriterScope,
    dyn snapshot::Quiesce,
    dyn snapshot::StorageBackend,
);

#[cfg(feature = "zerocopy")]
assert_send_sync!(snapshot::TypedView<'static>);

assert_send_sync!(
    shm::Absence,
    shm::FdPassing,
    shm::FreezeError,
    shm::Freezer,
    shm::Frozen,
    shm::ListenFds,
    shm::Memfd,
    shm::MemfdMap,
    shm::MemfdMapMut,
    shm::Notify,
    shm::PlacedFds,
    shm::ShmError,
    shm::TransparentHost,
    shm::TransparentHostError,
    shm::TransparentHostOptions,
    shm::queue::Client,
    shm::queue::QueueError,
    shm::queue::QueueHost,
    shm::queue::QueueHostOptions,
    shm::queue::QueueOptions,
    shm::queue::SnapshotOutcome,
    shm::queue::Update<'static>,
);

// One thread at a time uses a tracker, and drops the guard of a quiesce.
assert_send!(
    dyn snapshot::DirtyTracker,
    snapshot::QuiesceGuard,
    snapshot::SelectedTracker,
);

// The access lock records the thread that began the transaction.
assert_not_send!(snapshot::Transaction<'static>);
