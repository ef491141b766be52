//! Numbers and ids that name states, records, pages and files of a store.
//!
//! Each has a type of its own, so that one kind cannot be passed for another. The file formats
//! store plain integers.

use std::cmp::Ordering;
use std::fmt;
use std::num::{NonZeroU64, TryFromIntError};

/// Number of a committed state. Generations start at 1, increase, and are never reused.
///
/// # Examples
///
/// ```
/// use flatspan::snapshot::Generation;
///
/// let generation = Generation::new(7).expect("above 0");
/// assert_eq!(generation.get(), 7);
/// assert_eq!(generation.to_string(), "7");
/// assert_eq!(Generation::new(0), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(NonZeroU64);

/// Sequence number of a journal record; 0 means "no record yet".
///
/// # Examples
///
/// ```
/// use flatspan::snapshot::Sequence;
///
/// assert!(Sequence::new(3) < Sequence::new(4));
/// assert_eq!(Sequence::new(3).get(), 3);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sequence(u64);

/// Number of a page of 4096 bytes in a region; the first page is 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PageIndex(u64);

/// Number of a journal file. It is shown in 16 hexadecimal digits, as in the name of the file.
///
/// # Examples
///
/// ```
/// use flatspan::snapshot::JournalNumber;
///
/// let number = JournalNumber::new(26).expect("above 0");
/// assert_eq!(number.to_string(), "000000000000001a");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JournalNumber(NonZeroU64);

/// Implements construction from a number above 0.
macro_rules! nonzero_number {
    ($name:ident) => {
        impl $name {
            /// First number, 1.
            pub const FIRST: Self = Self(NonZeroU64::MIN);

            /// Creates it from its number. Returns `None` for 0.
            #[must_use]
            pub const fn new(number: u64) -> Option<Self> {
                match NonZeroU64::new(number) {
                    Some(number) => Some(Self(number)),
                    None => None,
                }
            }

            /// Returns the number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0.get()
            }

            /// The next number.
            pub(crate) fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl From<NonZeroU64> for $name {
            fn from(number: NonZeroU64) -> Self {
                Self(number)
            }
        }

        impl TryFrom<u64> for $name {
            type Error = TryFromIntError;

            fn try_from(number: u64) -> Result<Self, Self::Error> {
                NonZeroU64::try_from(number).map(Self)
            }
        }
    };
}

/// Implements construction from any number.
macro_rules! plain_number {
    ($name:ident) => {
        impl $name {
            /// Creates it from its number.
            #[must_use]
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// Returns the number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl From<u64> for $name {
            fn from(number: u64) -> Self {
                Self(number)
            }
        }
    };
}

/// Implements comparison with `u64`, conversion to it, and a `Debug` in one line.
macro_rules! like_u64 {
    ($name:ident) => {
        impl From<$name> for u64 {
            fn from(number: $name) -> Self {
                number.get()
            }
        }

        impl PartialEq<u64> for $name {
            fn eq(&self, other: &u64) -> bool {
                self.get() == *other
            }
        }

        impl PartialOrd<u64> for $name {
            fn partial_cmp(&self, other: &u64) -> Option<Ordering> {
                self.get().partial_cmp(other)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

/// Implements a decimal `Display` that honours width and alignment.
macro_rules! decimal {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

nonzero_number!(Generation);
like_u64!(Generation);
decimal!(Generation);

plain_number!(Sequence);
like_u64!(Sequence);
decimal!(Sequence);

plain_number!(PageIndex);
like_u64!(PageIndex);
decimal!(PageIndex);

nonzero_number!(JournalNumber);
like_u64!(JournalNumber);

impl fmt::Display for JournalNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_and_debugged_in_one_short_line() {
        let generation = Generation::new(7).expect("above 0");
        assert_eq!(format!("{generation} {generation:>3}|"), "7   7|");
        assert_eq!(format!("{generation:#?}"), "Generation(7)");
        assert_eq!(format!("{:<4}|", Sequence::new(12)), "12  |");
        assert_eq!(format!("{:?}", PageIndex::new(3)), "PageIndex(3)");
        let journal = JournalNumber::new(0x1a).expect("above 0");
        assert_eq!(journal.to_string(), "000000000000001a");
        assert_eq!(format!("{journal:?}"), "JournalNumber(000000000000001a)");
    }

    #[test]
    fn zero_is_no_generation_and_no_journal_number() {
        assert_eq!(Generation::new(0), None);
        assert!(Generation::try_from(0).is_err());
        assert_eq!(JournalNumber::new(0), None);
        assert!(JournalNumber::try_from(0).is_err());
        assert_eq!(Sequence::default(), 0);
    }

    #[test]
    fn numbers_convert_to_and_compare_with_u64() {
        let generation = Generation::try_from(7).expect("above 0");
        assert!(generation == 7 && generation < 8 && generation > Generation::FIRST);
        assert_eq!(u64::from(generation), 7);
        assert_eq!(generation.next(), 8);
        let last = Generation::new(u64::MAX).expect("above 0");
        assert_eq!(last.next(), last);
        assert!(Sequence::from(3) < Sequence::new(4));
    }
}
