//! Typed access to the memory of a store, with the traits of the crate `zerocopy`.
//!
//! Offsets are in bytes, counts are in values. The region starts at a page boundary, so a slice of
//! a type with an alignment of up to 4096 bytes starts at a multiple of that alignment. Single
//! values are copied and may start at any offset.
//!
//! The bytes of a value are stored in the order of the processor. The types of
//! `zerocopy::byteorder` have the same bytes on every machine.

use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::store_handle::Store;
use super::transaction::Transaction;
use crate::snapshot::error::StoreError;

/// Shared view of the memory of a store as values of a type; see [`Store::typed_view`].
#[derive(Clone, Copy, Debug)]
pub struct TypedView<'m> {
    bytes: &'m [u8],
}

impl Store {
    /// Calls `look` with a typed view of the memory.
    ///
    /// This is [`view`](Self::view) for types that implement the traits of the crate `zerocopy`,
    /// usually by deriving them.
    ///
    /// # Errors
    ///
    /// - The error that the closure returns.
    /// - The errors of [`view`](Self::view).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use flatspan::snapshot::{Store, StoreOptions};
    /// use zerocopy::{FromBytes, Immutable, IntoBytes};
    ///
    /// #[derive(Clone, Copy, FromBytes, Immutable, IntoBytes)]
    /// #[repr(C)]
    /// struct Account {
    ///     id: u64,
    ///     balance: i64,
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let options = StoreOptions::default().initial_bytes(1 << 20);
    /// let store = Store::open("/var/lib/accounts", options)?;
    /// store.transaction(|tx| tx.set(0, &Account { id: 1, balance: 100 }))?;
    /// let total = store.typed_view(|view| {
    ///     let accounts = view.as_slice_of::<Account>()?;
    ///     Ok(accounts.iter().map(|account| account.balance).sum::<i64>())
    /// })?;
    /// assert_eq!(total, 100);
    /// # Ok(())
    /// # }
    /// ```
    pub fn typed_view<R>(
        &self,
        look: impl FnOnce(TypedView<'_>) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        self.view(|bytes| look(TypedView { bytes }))?
    }
}

impl<'m> TypedView<'m> {
    /// Returns the memory as bytes.
    #[must_use]
    pub fn bytes(&self) -> &'m [u8] {
        self.bytes
    }

    /// Returns the whole memory as values. Bytes at its end that are too few for a value are left
    /// out.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Unaligned`] if the alignment of the type exceeds that of the memory.
    pub fn as_slice_of<T: FromBytes + Immutable>(&self) -> Result<&'m [T], StoreError> {
        self.slice_of(0, whole_values::<T>(self.bytes))
    }

    /// Returns `count` values that start at `offset`.
    ///
    /// # Errors
    ///
    /// - [`StoreError::OutOfBounds`] if the values are not all in the region.
    /// - [`StoreError::Unaligned`] if `offset` is not a multiple of the alignment of the type.
    pub fn slice_of<T: FromBytes + Immutable>(
        &self,
        offset: u64,
        count: usize,
    ) -> Result<&'m [T], StoreError> {
        slice_of(self.bytes, offset, count)
    }

    /// Returns a copy of the value at `offset`, which may be unaligned.
    ///
    /// # Errors
    ///
    /// - [`StoreError::OutOfBounds`] if the value is not in the region.
    pub fn get<T: FromBytes>(&self, offset: u64) -> Result<T, StoreError> {
        get(self.bytes, offset)
    }
}

/// Typed access, with the traits of the crate `zerocopy`.
impl Transaction<'_> {
    /// Returns the whole memory as values. Bytes at its end that are too few for a value are left
    /// out.
    ///
    /// # Errors
    ///
    /// - [`StoreError::Unaligned`] if the alignment of the type exceeds that of the memory.
    pub fn as_slice_of<T: FromBytes + Immutable>(&self) -> Result<&[T], StoreError> {
        self.slice_of(0, whole_values::<T>(self.bytes()))
    }

    /// Returns `count` values that start at `offset`.
    ///
    /// # Errors
    ///
    /// - [`StoreError::OutOfBounds`] if the values are not all in the region.
    /// - [`StoreError::Unaligned`] if `offset` is not a multiple of the alignment of the type.
    pub fn slice_of<T: FromBytes + Immutable>(
        &self,
        offset: u64,
        count: usize,
    ) -> Result<&[T], StoreError> {
        slice_of(self.bytes(), offset, count)
    }

    /// Returns `count` values that start at `offset`, for writing. The transaction saves their
    /// bytes and writes them to the journal.
    ///
    /// # Errors
    ///
    /// - [`StoreError::OutOfBounds`] if the values are not all in the region.
    /// - [`StoreError::Unaligned`] if `offset` is not a multiple of the alignment of the type.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use flatspan::snapshot::{Store, StoreOptions};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::open("/var/lib/counters", StoreOptions::default().initial_bytes(4096))?;
    /// store.transaction(|tx| {
    ///     for counter in tx.slice_mut_of::<u64>(64, 8)? {
    ///         *counter += 1;
    ///     }
    ///     Ok(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn slice_mut_of<T: FromBytes + Immutable + IntoBytes>(
        &mut self,
        offset: u64,
        count: usize,
    ) -> Result<&mut [T], StoreError> {
        // Fails before the transaction saves the range.
        self.slice_of::<T>(offset, count)?;
        let len = values_len::<T>(count);
        let bytes = self.bytes_mut(offset..offset.saturating_add(len))?;
        <[T]>::mut_from_bytes_with_elems(bytes, count).map_err(|_error| unaligned::<T>(offset))
    }

    /// Returns a copy of the value at `offset`, which may be unaligned.
    ///
    /// # Errors
    ///
    /// - [`StoreError::OutOfBounds`] if the value is not in the region.
    pub fn get<T: FromBytes>(&self, offset: u64) -> Result<T, StoreError> {
        get(self.bytes(), offset)
    }

    /// Writes a value at `offset`, which may be unaligned.
    ///
    /// # Errors
    ///
    /// - [`StoreError::OutOfBounds`] if the value is not in the region.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use flatspan::snapshot::{Store, StoreOptions};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::open("/var/lib/counter", StoreOptions::default().initial_bytes(4096))?;
    /// store.transaction(|tx| {
    ///     let count: u64 = tx.get(0)?;
    ///     tx.set(0, &(count + 1))
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn set<T: IntoBytes + Immutable>(
        &mut self,
        offset: u64,
        value: &T,
    ) -> Result<(), StoreError> {
        self.write_at(offset, value.as_bytes())
    }
}

/// Returns the number of whole values in `memory`, 0 for a type without bytes.
fn whole_values<T>(memory: &[u8]) -> usize {
    memory.len().checked_div(size_of::<T>()).unwrap_or(0)
}

/// Returns the length of `count` values. A length above `u64::MAX` exceeds every region.
fn values_len<T>(count: usize) -> u64 {
    (count as u64).saturating_mul(size_of::<T>() as u64)
}

fn slice_of<T: FromBytes + Immutable>(
    memory: &[u8],
    offset: u64,
    count: usize,
) -> Result<&[T], StoreError> {
    let bytes = range(memory, offset, values_len::<T>(count))?;
    <[T]>::ref_from_bytes_with_elems(bytes, count).map_err(|_error| unaligned::<T>(offset))
}

fn get<T: FromBytes>(memory: &[u8], offset: u64) -> Result<T, StoreError> {
    let len = values_len::<T>(1);
    let bytes = range(memory, offset, len)?;
    T::read_from_bytes(bytes).map_err(|_error| out_of_bounds(memory, offset, len))
}

fn range(memory: &[u8], offset: u64, len: u64) -> Result<&[u8], StoreError> {
    let end = offset.checked_add(len);
    match end {
        // Lossless: within the memory, whose length is a usize.
        Some(end) if end <= memory.len() as u64 => Ok(&memory[offset as usize..end as usize]),
        _ => Err(out_of_bounds(memory, offset, len)),
    }
}

fn out_of_bounds(memory: &[u8], offset: u64, len: u64) -> StoreError {
    StoreError::OutOfBounds {
        offset,
        len,
        region_bytes: memory.len() as u64,
    }
}

fn unaligned<T>(offset: u64) -> StoreError {
    StoreError::Unaligned {
        offset,
        align: align_of::<T>(),
    }
}
