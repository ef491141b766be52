//! Changes of a recorder while no store uses it: reopening, corruption, loss of files.

use std::sync::Arc;

use flatspan::snapshot::LogicalFile;

use super::{model::State, op::FileId, recorder::Recorder};

impl Recorder {
    /// Returns a backend with the present visible content as durable content, and the same marks.
    pub(crate) fn durable_copy(&self) -> Self {
        let image = self.lock().model.visible.found();
        Self::of_image(image, self.part_bytes_of_store(), self.marks())
    }

    /// Returns the same backend for another process: calls succeed again, and data of a failed sync
    /// stays in doubt.
    pub(crate) fn reopened(&self) -> Self {
        let mut state = self.lock().clone();
        state.failed.clear();
        state.faults = super::faults::Faults::default();
        Self::of_state(state, self.part_bytes_of_store())
    }

    /// From now on journals can be extended only within explicitly preallocated ranges.
    pub(crate) fn nearly_full(&self) {
        self.lock().reserved = Some(std::collections::BTreeMap::new());
    }

    /// Returns a value that is equal for backends on which recovery finds the same state.
    pub(crate) fn fingerprint(&self) -> (u128, Vec<u64>) {
        let hash = self.lock().model.visible.hash();
        (hash, self.marks())
    }

    /// Returns the files and their lengths.
    pub(crate) fn files(&self) -> Vec<(FileId, u64)> {
        let inner = self.lock();
        let visible = &inner.model.visible;
        let names = visible.names.iter();
        names
            .map(|(file, inode)| (*file, visible.file(*inode).len))
            .collect()
    }

    /// Replaces bytes, as if the file had always had the new ones.
    pub(crate) fn overwrite(&self, file: FileId, offset: u64, bytes: &[u8]) {
        self.alter(|state| {
            let inode = state.names[&file];
            let mut content = state.file(inode);
            content.put(offset, bytes);
            state.files.insert(inode, Arc::new(content));
        });
    }

    /// Flips one bit.
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

    /// Removes a logical file, as if it had never existed.
    pub(crate) fn lose(&self, array: LogicalFile) {
        self.alter(|state| state.names.retain(|(of, _), _| *of != array));
    }

    /// Changes the state of a backend that has recorded nothing yet.
    fn alter(&self, change: impl Fn(&mut State)) {
        let mut inner = self.lock();
        assert!(
            inner.log.is_empty(),
            "call `durable_copy` before changing the state"
        );
        change(&mut inner.base);
        inner.model = super::model::Model::new(inner.base.clone());
    }
}
