//! What befalls a disk while nobody uses it: it is found again, and bits of it rot.

use std::sync::Arc;

use flatspan::snapshot::Array;

use super::{model::State, op::FileId, recorder::Recorder};

impl Recorder {
    /// The disk as it is read now, all of it durable, with its marks.
    pub(crate) fn settled(&self) -> Self {
        let image = self.lock().model.visible.found();
        Self::of_image(image, self.part_bytes_of_store(), self.marks())
    }

    /// The same disk for another process: calls work again, what a failed sync left is still in doubt.
    pub(crate) fn reopened(&self) -> Self {
        let mut books = self.lock().clone();
        books.failed.clear();
        books.faults = super::faults::Faults::default();
        Self::of_books(books, self.part_bytes_of_store())
    }

    /// From now on there is room in journals for what is reserved exactly, and for nothing else.
    pub(crate) fn nearly_full(&self) {
        self.lock().reserved = Some(std::collections::BTreeMap::new());
    }

    /// Equal for disks on which recovery finds the same.
    pub(crate) fn fingerprint(&self) -> (u128, Vec<u64>) {
        let hash = self.lock().model.visible.hash();
        (hash, self.marks())
    }

    /// The files, and how long they are.
    pub(crate) fn files(&self) -> Vec<(FileId, u64)> {
        let inner = self.lock();
        let visible = &inner.model.visible;
        let names = visible.names.iter();
        names
            .map(|(file, inode)| (*file, visible.file(*inode).len))
            .collect()
    }

    /// Puts other bytes there, as if they had always been.
    pub(crate) fn overwrite(&self, file: FileId, offset: u64, bytes: &[u8]) {
        self.alter(|state| {
            let inode = state.names[&file];
            let mut content = state.file(inode);
            content.put(offset, bytes);
            state.files.insert(inode, Arc::new(content));
        });
    }

    /// Turns one bit over.
    pub(crate) fn flip(&self, file: FileId, bit: u64) {
        let mut byte = [0];
        let content = {
            let inner = self.lock();
            inner.model.visible.file(inner.inode(file))
        };
        content.read(bit / 8, &mut byte);
        byte[0] ^= 1 << (bit % 8);
        self.overwrite(file, bit / 8, &byte);
    }

    /// As if an array had never been.
    pub(crate) fn lose(&self, array: Array) {
        self.alter(|state| state.names.retain(|(of, _), _| *of != array));
    }

    /// Of a disk on which nothing was done yet.
    fn alter(&self, change: impl Fn(&mut State)) {
        let mut inner = self.lock();
        assert!(inner.log.is_empty(), "settled before it is altered");
        change(&mut inner.base);
        inner.model = super::model::Model::new(inner.base.clone());
    }
}
