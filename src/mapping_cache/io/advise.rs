//! Advice to the kernel, and queries of the page cache.

use std::ops::Range;

use crate::mapping_cache::error::MappingError;
use crate::mapping_cache::file::CachedFile;
use crate::mapping_cache::options::Access;
use crate::mapping_cache::window::Step;
use crate::sys::sync_file_range;

/// Advice about a range, see `madvise(2)` and `posix_fadvise(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// No special access pattern. Applies to mapped windows of the range and to later mappings of
    /// the file.
    Normal,
    /// Reads at random offsets: no read-ahead. Scope as for [`Normal`](Self::Normal).
    Random,
    /// Sequential reads. Scope as for [`Normal`](Self::Normal).
    Sequential,
    /// The range will be read soon.
    WillNeed,
    /// The range will not be read soon: the kernel may drop clean pages.
    DontNeed,
    /// Huge pages, where the filesystem supports them. Scope as for [`Normal`](Self::Normal).
    HugePages,
    /// Locks the range in memory (`mlock(2)`). Its windows stay mapped and pinned until
    /// [`Unlock`](Self::Unlock).
    Lock,
    /// Undoes [`Lock`](Self::Lock) for whole windows.
    Unlock,
}

impl CachedFile {
    /// Advises the kernel about a range. Advice that the kernel or the filesystem does not support
    /// is ignored.
    ///
    /// # Errors
    ///
    /// - [`MappingError::Io`] if pages cannot be locked, for example due to `RLIMIT_MEMLOCK`.
    /// - Any other error of opening the file.
    pub fn advise(&self, range: Range<u64>, advice: Advice) -> Result<(), MappingError> {
        use rustix::mm::Advice as Kernel;
        if range.is_empty() {
            // The kernel treats a length of zero as "up to the end".
            return Ok(());
        }
        match advice {
            Advice::Normal => self.set_pattern(range, Kernel::Normal),
            Advice::Random => self.set_pattern(range, Kernel::Random),
            Advice::Sequential => self.set_pattern(range, Kernel::Sequential),
            Advice::HugePages => self.set_pattern(range, Kernel::LinuxHugepage),
            Advice::WillNeed => self.prefetch(range),
            Advice::DontNeed => {
                let (file, _) = self.descriptor(Access::ReadOnly)?;
                self.evict(range.clone())?;
                let len = range.end.saturating_sub(range.start);
                // Advice only, so an error is ignored.
                drop(sync_file_range::drop_cached(&file, range.start, len));
                Ok(())
            }
            Advice::Lock => self.lock(range),
            Advice::Unlock => self.unlock(range),
        }
    }

    /// Requests read-ahead of the range and does not wait for it.
    ///
    /// # Errors
    ///
    /// Returns any error of opening the file.
    pub fn prefetch(&self, range: Range<u64>) -> Result<(), MappingError> {
        let (file, _) = self.descriptor(Access::ReadOnly)?;
        let len = range.end.saturating_sub(range.start);
        // Advice only: a filesystem without read-ahead reads the pages on demand.
        drop(sync_file_range::read_ahead(&file, range.start, len));
        Ok(())
    }

    /// Returns whether all of the range is in the page cache. Returns `false` if the file ends
    /// before the end of the range. For a file that the user may not write, the kernel always
    /// reports that its pages are resident.
    ///
    /// # Errors
    ///
    /// Returns any error of opening or mapping the file.
    pub fn is_resident(&self, range: Range<u64>) -> Result<bool, MappingError> {
        // Bytes past the end in the last page of the file are mapped too.
        if self.actual_bytes()? < range.end {
            return Ok(false);
        }
        for step in self.steps(&range) {
            let pin = match self.pin_covering(step.window, step.end(), Access::ReadOnly) {
                Ok(pin) => pin,
                Err(MappingError::FileTooShort { .. }) => return Ok(false),
                Err(error) => return Err(error),
            };
            let resident = pin.is_resident(step.within, step.len);
            if !resident.map_err(|source| self.io_error("query resident pages", source))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sets the pattern of new mappings and of the mapped windows of the range.
    fn set_pattern(
        &self,
        range: Range<u64>,
        pattern: rustix::mm::Advice,
    ) -> Result<(), MappingError> {
        self.state()?.add_pattern(pattern);
        for step in self.steps(&range) {
            if let Some(pin) = self.pin_if_mapped(step.window, step.end()) {
                // Advice only, so an error is ignored.
                drop(pin.advise(step.within, step.len, pattern));
            }
        }
        Ok(())
    }

    fn lock(&self, range: Range<u64>) -> Result<(), MappingError> {
        let state = self.state()?;
        for step in self.steps(&range) {
            let pin = self.pin_covering(step.window, step.end(), Access::ReadOnly)?;
            if let Err(source) = pin.lock(state, step.within, step.len) {
                // The kernel reports missing pages as missing memory. Another cache may have
                // truncated the file after the window was mapped.
                self.must_reach(self.resources.windows.start(step.window) + step.end() as u64)?;
                return Err(self.io_error("lock pages in memory", source));
            }
        }
        Ok(())
    }

    fn unlock(&self, range: Range<u64>) -> Result<(), MappingError> {
        for step in self.steps(&range) {
            while let Some(pin) = self.locked_pin(step.window) {
                let unlocked = pin.unlock();
                unlocked.map_err(|source| self.io_error("unlock pages", source))?;
            }
        }
        Ok(())
    }

    fn steps(&self, range: &Range<u64>) -> impl Iterator<Item = Step> + use<> {
        let len = range.end.saturating_sub(range.start);
        self.resources.windows.steps(range.start, len)
    }
}
