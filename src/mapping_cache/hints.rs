//! Hints and questions about what is in memory.

use std::ops::Range;

use super::entry::FileEntry;
use super::error::MappingError;
use super::file::CachedFile;
use super::options::Access;
use super::pin::Pin;
use super::window::Step;
use crate::sys::sync_file_range;

/// What to tell the kernel about a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Advice {
    /// No special pattern. Holds for mapped windows of the range and for later mappings of the file.
    Normal,
    /// Expect reads at random: no read-ahead. Holds as for [`Normal`](Self::Normal).
    Random,
    /// Expect reads in order. Holds as for [`Normal`](Self::Normal).
    Sequential,
    /// Read the range soon.
    WillNeed,
    /// The range will not be read soon: clean pages may leave memory.
    DontNeed,
    /// Use huge pages where the filesystem can. Holds as for [`Normal`](Self::Normal).
    HugePages,
    /// Keep the range in memory (`mlock`). Its windows stay mapped, and pinned, until
    /// [`Unlock`](Self::Unlock).
    Lock,
    /// Undo [`Lock`](Self::Lock), window by window.
    Unlock,
}

impl CachedFile {
    /// Tells the kernel what to expect of a range. Hints that this kernel or filesystem does not know
    /// are not errors.
    ///
    /// # Errors
    ///
    /// Those of opening the file; [`MappingError::Io`] when memory cannot be locked, by
    /// `RLIMIT_MEMLOCK` for instance.
    pub fn advise(&self, range: Range<u64>, advice: Advice) -> Result<(), MappingError> {
        use rustix::mm::Advice as Kernel;
        if range.is_empty() {
            // To the kernel no length is all that follows.
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
                let _ = sync_file_range::drop_cached(&file, range.start, len);
                Ok(())
            }
            Advice::Lock => self.lock(range),
            Advice::Unlock => self.unlock(range),
        }
    }

    /// Asks the kernel to read the range soon; does not wait.
    ///
    /// # Errors
    ///
    /// Those of opening the file.
    pub fn prefetch(&self, range: Range<u64>) -> Result<(), MappingError> {
        let (file, _) = self.descriptor(Access::ReadOnly)?;
        let len = range.end.saturating_sub(range.start);
        // A hint: a filesystem without read-ahead reads when it is asked to.
        let _ = sync_file_range::read_ahead(&file, range.start, len);
        Ok(())
    }

    /// Is all of the range in memory? A range the file does not reach is not. For files this user may
    /// not write the kernel always says yes.
    ///
    /// # Errors
    ///
    /// Those of opening and mapping the file.
    pub fn is_resident(&self, range: Range<u64>) -> Result<bool, MappingError> {
        // The rest of a file's last page is mapped too.
        if self.present_bytes()? < range.end {
            return Ok(false);
        }
        for step in self.steps(&range) {
            let pin = match self.pin_covering(step.window, step.end(), Access::ReadOnly) {
                Ok(pin) => pin,
                Err(MappingError::ShortFile { .. }) => return Ok(false),
                Err(error) => return Err(error),
            };
            let resident = pin.is_resident(step.within, step.len);
            if !resident.map_err(|source| self.io("ask what is in memory", source))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Unmaps the windows that the range touches and nobody pins; returns how many bytes were
    /// unmapped.
    ///
    /// # Errors
    ///
    /// None today; a file that was never opened has nothing mapped.
    pub fn evict(&self, range: Range<u64>) -> Result<u64, MappingError> {
        let Some(entry) = self.opened_entry() else {
            return Ok(0);
        };
        let mut bytes = 0;
        if range.is_empty() {
            return Ok(bytes);
        }
        let windows = self.core.windows;
        let touched = windows.of(range.start)..=windows.of(range.end - 1);
        for (window, slots) in entry.slots.iter() {
            if !touched.contains(&window) {
                continue;
            }
            for access in [Access::ReadOnly, Access::ReadWrite] {
                let key = entry.key(window, access);
                let slot = slots.slot(access);
                let gone = self.core.ledger.evict(key, slot, &self.core.parking);
                bytes += gone.unwrap_or(0);
            }
        }
        Ok(bytes)
    }

    /// Remembers the pattern for mappings to come and tells the present ones.
    fn set_pattern(
        &self,
        range: Range<u64>,
        pattern: rustix::mm::Advice,
    ) -> Result<(), MappingError> {
        let entry = self.entry()?;
        remember(entry, pattern);
        for step in self.steps(&range) {
            if let Some(pin) = self.pin_if_mapped(step.window, step.end()) {
                let _ = pin.advise(step.within, step.len, pattern);
            }
        }
        Ok(())
    }

    fn lock(&self, range: Range<u64>) -> Result<(), MappingError> {
        let entry = self.entry()?;
        for step in self.steps(&range) {
            let pin = self.pin_covering(step.window, step.end(), Access::ReadOnly)?;
            pin.lock(entry, step.within, step.len)
                .map_err(|source| self.io("lock it in memory", source))?;
        }
        Ok(())
    }

    fn unlock(&self, range: Range<u64>) -> Result<(), MappingError> {
        for step in self.steps(&range) {
            for access in [Access::ReadOnly, Access::ReadWrite] {
                if let Some(pin) = self.locked(step.window, access) {
                    let unlocked = pin.unlock();
                    unlocked.map_err(|source| self.io("unlock it", source))?;
                }
            }
        }
        Ok(())
    }

    fn steps(&self, range: &Range<u64>) -> impl Iterator<Item = Step> + use<> {
        let len = range.end.saturating_sub(range.start);
        self.core.windows.steps(range.start, len)
    }
}

/// Gives the remembered patterns to a mapping that was just made.
pub(super) fn apply_patterns(entry: &FileEntry, pin: &Pin<'_>) {
    let patterns = entry.patterns().clone();
    for pattern in patterns {
        let _ = pin.advise(0, pin.len(), pattern);
    }
}

fn remember(entry: &FileEntry, pattern: rustix::mm::Advice) {
    use rustix::mm::Advice as Kernel;
    let mut patterns = entry.patterns();
    // Huge pages go with any access pattern; the patterns replace each other.
    let is_huge = |advice: &Kernel| matches!(advice, Kernel::LinuxHugepage);
    patterns.retain(|known| is_huge(known) != is_huge(&pattern));
    patterns.push(pattern);
}
