//! Arithmetic of windows: which one, and where in it. No I/O.

/// A step of a copy: a part of a request that lies in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) window: u64,
    /// Offset in the window, in bytes.
    pub(super) within: usize,
    pub(super) len: usize,
}

impl Step {
    /// End of the step in its window.
    pub(super) fn end(&self) -> usize {
        self.within + self.len
    }
}

/// Windows of one size, a power of two.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    shift: u32,
}

impl Windows {
    pub(super) fn new(window_bytes: usize) -> Self {
        assert!(window_bytes.is_power_of_two(), "checked by the options");
        Self {
            shift: window_bytes.trailing_zeros(),
        }
    }

    pub(super) fn bytes(self) -> usize {
        1 << self.shift
    }

    /// Offset in the file at which a window starts.
    pub(super) fn start(self, window: u64) -> u64 {
        window << self.shift
    }

    pub(super) fn of(self, offset: u64) -> u64 {
        offset >> self.shift
    }

    /// Which window a request of `len` bytes, not zero, at `offset` lies in, and where; `None` if in several.
    #[inline(always)]
    pub(super) fn only(self, offset: u64, len: usize) -> Option<(u64, usize)> {
        // Lossless: smaller than a window, whose size is a usize.
        let within = (offset & (self.bytes() as u64 - 1)) as usize;
        (len <= self.bytes() - within).then_some((self.of(offset), within))
    }

    /// The first step of a request of `len` bytes at `offset`.
    #[inline(always)]
    pub(super) fn step(self, offset: u64, len: usize) -> Step {
        let mask = self.bytes() as u64 - 1;
        // Lossless: smaller than a window, whose size is a usize.
        let within = (offset & mask) as usize;
        Step {
            window: self.of(offset),
            within,
            len: len.min(self.bytes() - within),
        }
    }

    /// All steps of a request.
    pub(super) fn steps(self, offset: u64, len: u64) -> impl Iterator<Item = Step> {
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
    fn the_last_window_of_the_largest_file() {
        let windows = Windows::new(4096);
        let offset = i64::MAX as u64;
        let step = windows.step(offset, 100);
        assert_eq!(windows.start(step.window) + step.within as u64, offset);
        assert_eq!((step.within, step.len), (4095, 1));
    }
}
