//! Arithmetic of windows: the window of an offset, and the offset in it. No I/O.

/// The part of a request that is in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mapping_cache) struct Step {
    pub(in crate::mapping_cache) window: u64,
    /// Offset in the window, in bytes.
    pub(in crate::mapping_cache) within: usize,
    pub(in crate::mapping_cache) len: usize,
}

impl Step {
    /// Returns the end of the step in its window.
    pub(in crate::mapping_cache) fn end(&self) -> usize {
        self.within + self.len
    }
}

/// The window size, which is a power of two.
#[derive(Clone, Copy, Debug)]
pub(in crate::mapping_cache) struct Windows {
    shift: u32,
}

impl Windows {
    pub(in crate::mapping_cache) fn new(window_bytes: usize) -> Self {
        assert!(
            window_bytes.is_power_of_two(),
            "the window size is a power of two"
        );
        Self {
            shift: window_bytes.trailing_zeros(),
        }
    }

    pub(in crate::mapping_cache) fn bytes(self) -> usize {
        1 << self.shift
    }

    /// Returns the offset in the file at which a window starts.
    pub(in crate::mapping_cache) fn start(self, window: u64) -> u64 {
        window << self.shift
    }

    pub(in crate::mapping_cache) fn of(self, offset: u64) -> u64 {
        offset >> self.shift
    }

    /// Returns the window of a non-empty request and the offset in it, or `None` if the request
    /// crosses a window boundary.
    #[inline(always)]
    pub(in crate::mapping_cache) fn only(self, offset: u64, len: usize) -> Option<(u64, usize)> {
        // Lossless: smaller than a window, whose size is a usize.
        let within = (offset & (self.bytes() as u64 - 1)) as usize;
        (len <= self.bytes() - within).then_some((self.of(offset), within))
    }

    /// Returns the first step of a request of `len` bytes at `offset`.
    #[inline(always)]
    pub(in crate::mapping_cache) fn step(self, offset: u64, len: usize) -> Step {
        let mask = self.bytes() as u64 - 1;
        // Lossless: smaller than a window, whose size is a usize.
        let within = (offset & mask) as usize;
        Step {
            window: self.of(offset),
            within,
            len: len.min(self.bytes() - within),
        }
    }

    /// Returns all steps of a request.
    pub(in crate::mapping_cache) fn steps(
        self,
        offset: u64,
        len: u64,
    ) -> impl Iterator<Item = Step> {
        let mut at = offset;
        let end = offset.saturating_add(len);
        std::iter::from_fn(move || {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            let step = self.step(at, left);
            at += step.len as u64;
            (step.len > 0).then_some(step)
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn steps_cover_a_request_window_by_window() {
        let windows = Windows::new(4096);
        let steps: Vec<_> = windows
            .steps(4000, 5000)
            .map(|step| (step.window, step.within, step.len))
            .collect();
        assert_eq!(steps, [(0, 4000, 96), (1, 0, 4096), (2, 0, 808)]);
        assert_eq!(windows.steps(8192, 0).count(), 0);
        assert_eq!(windows.only(4000, 96), Some((0, 4000)));
        assert_eq!(windows.only(4000, 97), None);
    }

    #[test]
    fn step_at_the_largest_offset_is_one_byte() {
        let windows = Windows::new(4096);
        let offset = i64::MAX as u64;
        let step = windows.step(offset, 100);
        assert_eq!(windows.start(step.window) + step.within as u64, offset);
        assert_eq!((step.within, step.len), (4095, 1));
    }
}
