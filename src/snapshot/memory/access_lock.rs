//! Access lock: a reader-writer lock over the memory of a store.
//!
//! An exclusive request takes precedence over shared requests that arrive after it.
//!
//! | store | shared | exclusive |
//! | --- | --- | --- |
//! | transactional | views, the end of a capture | a transaction |
//! | tracked | writers | the end of a capture |
//!
//! A thread that holds shared access can take shared access again. Every other nested request would
//! wait for its own thread and is an error [I24]. No I/O happens under the lock, except for
//! reserving storage for a record that is longer than the storage reserved in advance.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread, ThreadId};
use std::time::{Duration, Instant};

use crate::snapshot::error::StoreError;

/// Reader-writer lock that knows the threads that hold it.
#[derive(Debug, Default)]
pub(crate) struct AccessLock {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Threads with shared access, and how often each has it.
    shared: HashMap<ThreadId, (Thread, u32)>,
    exclusive: Option<Thread>,
    /// Number of waiting exclusive requests.
    exclusive_waiters: usize,
}

/// Guard of shared access.
#[derive(Debug)]
pub(crate) struct SharedAccess<'a>(&'a AccessLock, ThreadId);

/// Guard of exclusive access.
#[derive(Debug)]
pub(crate) struct ExclusiveAccess<'a>(&'a AccessLock);

impl AccessLock {
    /// Waits for shared access. `method` is the public method that needs it.
    pub(crate) fn lock_shared(
        &self,
        method: &'static str,
        timeout: Option<Duration>,
    ) -> Result<SharedAccess<'_>, StoreError> {
        let thread = thread::current();
        let mut state = self.state();
        if let Some((_, count)) = state.shared.get_mut(&thread.id()) {
            *count += 1;
            return Ok(SharedAccess(self, thread.id()));
        }
        state.refuse_nested(&thread, method)?;
        let mut state = self.wait(state, timeout, |state| {
            state.exclusive.is_none() && state.exclusive_waiters == 0
        })?;
        state.shared.insert(thread.id(), (thread.clone(), 1));
        Ok(SharedAccess(self, thread.id()))
    }

    /// Waits for exclusive access. `method` is the public method that needs it.
    pub(crate) fn lock_exclusive(
        &self,
        method: &'static str,
        timeout: Option<Duration>,
    ) -> Result<ExclusiveAccess<'_>, StoreError> {
        let thread = thread::current();
        let mut state = self.state();
        state.refuse_nested(&thread, method)?;
        state.exclusive_waiters += 1;
        let waited = self.wait(state, timeout, |state| {
            state.exclusive.is_none() && state.shared.is_empty()
        });
        let mut state = match waited {
            Ok(state) => state,
            Err(error) => {
                self.state().exclusive_waiters -= 1;
                self.changed.notify_all();
                return Err(error);
            }
        };
        state.exclusive_waiters -= 1;
        state.exclusive = Some(thread);
        Ok(ExclusiveAccess(self))
    }

    /// Fails if the calling thread has access already.
    pub(crate) fn refuse_nested(&self, method: &'static str) -> Result<(), StoreError> {
        self.state().refuse_nested(&thread::current(), method)
    }

    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        timeout: Option<Duration>,
        is_free: impl Fn(&State) -> bool,
    ) -> Result<MutexGuard<'a, State>, StoreError> {
        let begun = Instant::now();
        while !is_free(&state) {
            let Some(timeout) = timeout else {
                state = self
                    .changed
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = begun.elapsed();
            let Some(left) = timeout.checked_sub(waited).filter(|left| !left.is_zero()) else {
                let holder = state.holder();
                return Err(StoreError::LockTimeout { waited, holder });
            };
            let result = self.changed.wait_timeout(state, left);
            state = result.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(state)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn refuse_nested(&self, thread: &Thread, method: &'static str) -> Result<(), StoreError> {
        let exclusive = self.exclusive.as_ref().map(Thread::id);
        if exclusive == Some(thread.id()) || self.shared.contains_key(&thread.id()) {
            return Err(StoreError::WouldDeadlock { method });
        }
        Ok(())
    }

    /// Returns the name or the id of a thread with access.
    fn holder(&self) -> String {
        let mut shared = self.shared.values().map(|(thread, _)| thread);
        let Some(thread) = self.exclusive.as_ref().or_else(|| shared.next()) else {
            return "that is waiting for exclusive access".to_owned();
        };
        match thread.name() {
            Some(name) => format!("`{name}`"),
            None => format!("{:?}", thread.id()),
        }
    }
}

impl Drop for SharedAccess<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        let entry = state.shared.get_mut(&self.1);
        let (_, count) = entry.expect("`lock_shared` counted the thread");
        *count -= 1;
        if *count == 0 {
            state.shared.remove(&self.1);
            drop(state);
            self.0.changed.notify_all();
        }
    }
}

impl Drop for ExclusiveAccess<'_> {
    fn drop(&mut self) {
        self.0.state().exclusive = None;
        self.0.changed.notify_all();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SHORT: Option<Duration> = Some(Duration::from_millis(20));

    #[test]
    fn i24_a_nested_request_is_an_error() {
        let lock = AccessLock::default();
        let shared = lock.lock_shared("view", None).expect("lock is free");
        let again = lock.lock_shared("view", None).expect("shared access nests");
        for refused in [
            lock.lock_exclusive("transaction", None).map(drop),
            lock.refuse_nested("checkpoint"),
        ] {
            assert!(matches!(refused, Err(StoreError::WouldDeadlock { .. })));
        }
        drop((shared, again));
        let exclusive = lock
            .lock_exclusive("transaction", None)
            .expect("lock is free");
        for refused in [
            lock.lock_exclusive("transaction", None).map(drop),
            lock.lock_shared("view", None).map(drop),
            lock.refuse_nested("checkpoint"),
        ] {
            assert!(matches!(refused, Err(StoreError::WouldDeadlock { .. })));
        }
        drop(exclusive);
        lock.refuse_nested("checkpoint").expect("lock is free");
    }

    #[test]
    fn i24_lock_timeout_names_the_holder() {
        let lock = &AccessLock::default();
        thread::scope(|scope| {
            let (locked, is_locked) = mpsc::channel();
            let (release, is_released) = mpsc::channel::<()>();
            let holder = thread::Builder::new().name("the holder".to_owned());
            holder
                .spawn_scoped(scope, move || {
                    let _view = lock.lock_shared("view", None).expect("lock is free");
                    locked.send(()).expect("the test waits");
                    let _ = is_released.recv();
                })
                .expect("a thread starts");
            is_locked.recv().expect("the holder locks");
            let error = lock
                .lock_exclusive("transaction", SHORT)
                .expect_err("the holder has shared access");
            assert!(error.to_string().contains("`the holder`"), "{error}");
            // A request that timed out does not block others.
            drop(lock.lock_shared("view", SHORT).expect("lock is shared"));
            release.send(()).expect("the holder waits");
        });
        drop(
            lock.lock_exclusive("transaction", SHORT)
                .expect("lock is free"),
        );
    }

    #[test]
    fn exclusive_requests_precede_later_shared_requests() {
        let lock = AccessLock::default();
        let first = lock.lock_shared("view", None).expect("lock is free");
        thread::scope(|scope| {
            let exclusive = scope.spawn(|| {
                let access = lock.lock_exclusive("transaction", None);
                drop(access.expect("no timeout is set"));
            });
            while lock.state().exclusive_waiters == 0 {
                thread::yield_now();
            }
            let late = scope.spawn(|| lock.lock_shared("view", SHORT).map(drop));
            let late = late.join().expect("no panic");
            assert!(matches!(late, Err(StoreError::LockTimeout { .. })));
            drop(first);
            exclusive.join().expect("no panic");
        });
    }
}
