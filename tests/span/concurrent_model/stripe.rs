//! A stripe of a file: bytes that one thread alone changes, and their versions.

use std::sync::{Mutex, MutexGuard};

use super::content::Content;

/// Part of a file. Its owner stores new versions of it, in ascending order.
#[derive(Debug)]
pub(crate) struct Stripe {
    /// The only thread that changes the bytes.
    pub(crate) owner: usize,
    pub(crate) file: usize,
    /// Offset in the file.
    pub(crate) start: u64,
    pub(crate) len: usize,
    history: Mutex<History>,
}

#[derive(Debug)]
struct History {
    versions: Vec<Version>,
    /// The last version whose operation has ended.
    settled: u64,
}

#[derive(Debug)]
struct Version {
    /// Number of the owner's operation.
    number: u64,
    content: Content,
}

impl Stripe {
    /// A stripe of zeros.
    pub(crate) fn new(owner: usize, file: usize, start: u64, len: usize) -> Self {
        let content = Content::zeros(len);
        let history = Mutex::new(History {
            versions: vec![Version { number: 0, content }],
            settled: 0,
        });
        Self {
            owner,
            file,
            start,
            len,
            history,
        }
    }

    pub(crate) fn end(&self) -> u64 {
        self.start + self.len as u64
    }

    /// The number of the last version that an operation which starts now certainly finds.
    pub(crate) fn settled(&self) -> u64 {
        self.lock().settled
    }

    /// The present content, for the owner.
    pub(crate) fn current(&self) -> Content {
        let history = self.lock();
        let settled = |version: &&Version| version.number == history.settled;
        let version = history.versions.iter().find(settled);
        version.expect("settled versions are kept").content.clone()
    }

    /// Records that an operation begins to store a version.
    pub(crate) fn begin(&self, number: u64, content: Content) {
        assert_eq!(content.len(), self.len);
        self.lock().versions.push(Version { number, content });
    }

    /// Records that the operation has stored its version.
    pub(crate) fn settle(&self, number: u64) {
        self.lock().settled = number;
    }

    /// Records that the operation has failed and stored nothing.
    pub(crate) fn withdraw(&self, number: u64) {
        let mut history = self.lock();
        history.versions.retain(|version| version.number != number);
    }

    /// Removes the versions before the present one, while no other thread works.
    pub(crate) fn forget_past(&self) {
        let mut history = self.lock();
        let settled = history.settled;
        history.versions.retain(|version| version.number == settled);
    }

    /// The numbers of the versions since `since` that have these bytes at offset `at`.
    pub(crate) fn matching(&self, since: u64, at: usize, bytes: &[u8]) -> Vec<u64> {
        let history = self.lock();
        let recent = history.versions.iter().rev();
        let recent = recent.take_while(|version| version.number >= since);
        let part = at..at + bytes.len();
        recent
            .filter(|version| version.content.slice(part.clone()).bytes() == bytes)
            .map(|version| version.number)
            .collect()
    }

    /// Whether each byte is that of any version since `since`, for bytes of several reads.
    pub(crate) fn may_be_mixed(&self, since: u64, at: usize, bytes: &[u8]) -> bool {
        let history = self.lock();
        let recent = history.versions.iter().rev();
        let recent = recent.take_while(|version| version.number >= since);
        let part = at..at + bytes.len();
        let versions: Vec<_> = recent
            .map(|version| version.content.slice(part.clone()).bytes())
            .collect();
        let mut numbered = bytes.iter().enumerate();
        numbered.all(|(at, byte)| versions.iter().any(|version| version[at] == *byte))
    }

    /// The newest version that is not newer than this operation of the owner.
    pub(crate) fn last_until(&self, number: u64) -> u64 {
        let history = self.lock();
        let mut versions = history.versions.iter().rev();
        let last = versions.find(|version| version.number <= number);
        last.map_or(0, |version| version.number)
    }

    /// The bytes of the present version, for a message.
    pub(crate) fn describe(&self, at: usize, bytes: &[u8]) -> String {
        let history = self.lock();
        let newest = history.versions.last().expect("never empty");
        let expected = newest.content.slice(at..at + bytes.len()).bytes();
        let differs = |(a, b): (&u8, &u8)| a != b;
        let first = expected.iter().zip(bytes).position(differs).unwrap_or(0);
        let zeros = bytes.iter().filter(|byte| **byte == 0).count();
        format!(
            "file {} bytes {} + {} (owner {}, {} versions, settled {}): from byte {first} the bytes \
             are {:x?} instead of {:x?}; {zeros} of them are zero",
            self.file,
            self.start + at as u64,
            bytes.len(),
            self.owner,
            history.versions.len(),
            history.settled,
            &bytes[first..bytes.len().min(first + 8)],
            &expected[first..expected.len().min(first + 8)],
        )
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("no thread panics under it")
    }
}
