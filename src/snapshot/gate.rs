//! The gate: where writers stand while a capture takes its instant, and what keeps readers and writers apart.
//!
//! Many may be inside for sharing, or one exclusively. Who wants to be alone is let in before those who come to share later.
//! What each door takes:
//!
//! | memory is changed by | many at once | one alone |
//! | --- | --- | --- |
//! | transactions | views, the instant of a capture | a transaction |
//! | writers | writers | the instant of a capture |
//!
//! A thread that is inside may share once more, and nothing else: everything else would wait for itself, and is an
//! error (hazard 24). No I/O is waited for inside, but for the storage of a record that is longer than what is reserved ahead.

use std::collections::HashMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread, ThreadId};
use std::time::{Duration, Instant};

use super::error::SnapshotError;

#[derive(Debug, Default)]
pub(crate) struct Gate {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    sharing: HashMap<ThreadId, (Thread, u32)>,
    alone: Option<Thread>,
    /// So many want to be alone.
    waiting: usize,
}

/// Inside, with others.
#[derive(Debug)]
pub(crate) struct Sharing<'a>(&'a Gate, ThreadId);

/// Inside, alone.
#[derive(Debug)]
pub(crate) struct Alone<'a>(&'a Gate);

impl Gate {
    /// Goes in beside others.
    pub(crate) fn share(
        &self,
        door: &'static str,
        timeout: Option<Duration>,
    ) -> Result<Sharing<'_>, SnapshotError> {
        let me = thread::current();
        let mut state = self.lock();
        if let Some((_, count)) = state.sharing.get_mut(&me.id()) {
            *count += 1;
            return Ok(Sharing(self, me.id()));
        }
        state.refuse_nested(&me, door)?;
        let state = self.wait(state, timeout, |state| {
            state.alone.is_none() && state.waiting == 0
        });
        let mut state = state?;
        state.sharing.insert(me.id(), (me.clone(), 1));
        Ok(Sharing(self, me.id()))
    }

    /// Goes in alone.
    pub(crate) fn enter_alone(
        &self,
        door: &'static str,
        timeout: Option<Duration>,
    ) -> Result<Alone<'_>, SnapshotError> {
        let me = thread::current();
        let mut state = self.lock();
        state.refuse_nested(&me, door)?;
        state.waiting += 1;
        let waited = self.wait(state, timeout, |state| {
            state.alone.is_none() && state.sharing.is_empty()
        });
        let mut state = match waited {
            Ok(state) => state,
            Err(error) => {
                self.lock().waiting -= 1;
                self.changed.notify_all();
                return Err(error);
            }
        };
        state.waiting -= 1;
        state.alone = Some(me);
        Ok(Alone(self))
    }

    /// Is the calling thread inside?
    pub(crate) fn refuse_inside(&self, door: &'static str) -> Result<(), SnapshotError> {
        self.lock().refuse_nested(&thread::current(), door)
    }

    fn wait<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        timeout: Option<Duration>,
        free: impl Fn(&State) -> bool,
    ) -> Result<MutexGuard<'a, State>, SnapshotError> {
        let begun = Instant::now();
        while !free(&state) {
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
                return Err(SnapshotError::GateTimeout { waited, holder });
            };
            let result = self.changed.wait_timeout(state, left);
            state = result.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn refuse_nested(&self, me: &Thread, door: &'static str) -> Result<(), SnapshotError> {
        let alone = self.alone.as_ref().is_some_and(|one| one.id() == me.id());
        match alone || self.sharing.contains_key(&me.id()) {
            true => Err(SnapshotError::Nested { door }),
            false => Ok(()),
        }
    }

    /// Who keeps others waiting.
    fn holder(&self) -> String {
        let inside = self.sharing.values().map(|(thread, _)| thread);
        let thread = self.alone.as_ref().or(inside.into_iter().next());
        thread.map_or_else(
            || "another".to_owned(),
            |thread| match thread.name() {
                Some(name) => format!("`{name}`"),
                None => format!("{:?}", thread.id()),
            },
        )
    }
}

impl Drop for Sharing<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        let (_, count) = state.sharing.get_mut(&self.1).expect("entered by `share`");
        *count -= 1;
        if *count == 0 {
            state.sharing.remove(&self.1);
            drop(state);
            self.0.changed.notify_all();
        }
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.0.lock().alone = None;
        self.0.changed.notify_all();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SOON: Option<Duration> = Some(Duration::from_millis(20));

    #[test]
    fn h24_a_thread_inside_does_not_wait_for_itself() {
        let gate = Gate::default();
        let shared = gate.share("view", None).expect("free");
        let again = gate.share("view", None).expect("sharing twice is fine");
        for refused in [
            gate.enter_alone("transaction", None).map(drop),
            gate.refuse_inside("checkpoint"),
        ] {
            assert!(matches!(refused, Err(SnapshotError::Nested { .. })));
        }
        drop((shared, again));
        let alone = gate.enter_alone("transaction", None).expect("free");
        for refused in [
            gate.enter_alone("transaction", None).map(drop),
            gate.share("view", None).map(drop),
            gate.refuse_inside("checkpoint"),
        ] {
            assert!(matches!(refused, Err(SnapshotError::Nested { .. })));
        }
        drop(alone);
        gate.refuse_inside("checkpoint").expect("nobody is inside");
    }

    #[test]
    fn h24_who_waits_too_long_is_told_for_whom() {
        let gate = &Gate::default();
        thread::scope(|scope| {
            let (inside, entered) = mpsc::channel();
            let (leave, left) = mpsc::channel::<()>();
            let holder = thread::Builder::new().name("the holder".to_owned());
            holder
                .spawn_scoped(scope, move || {
                    let _view = gate.share("view", None).expect("free");
                    inside.send(()).expect("the test waits");
                    let _ = left.recv();
                })
                .expect("a thread");
            entered.recv().expect("it enters");
            let error = gate.enter_alone("transaction", SOON).expect_err("taken");
            assert!(error.to_string().contains("`the holder`"), "{error}");
            // Who gave up does not keep others out.
            drop(gate.share("view", SOON).expect("only shared"));
            leave.send(()).expect("it listens");
        });
        drop(gate.enter_alone("transaction", SOON).expect("it has left"));
    }

    #[test]
    fn who_wants_to_be_alone_comes_before_later_sharers() {
        let gate = Gate::default();
        let first = gate.share("view", None).expect("free");
        thread::scope(|scope| {
            let alone =
                scope.spawn(|| drop(gate.enter_alone("transaction", None).expect("in time")));
            while gate.lock().waiting == 0 {
                thread::yield_now();
            }
            let late = scope.spawn(|| gate.share("view", SOON).map(drop));
            let late = late.join().expect("no panic");
            assert!(matches!(late, Err(SnapshotError::GateTimeout { .. })));
            drop(first);
            alone.join().expect("it got in");
        });
    }
}
