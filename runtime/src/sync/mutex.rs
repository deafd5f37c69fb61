//! A value that one coroutine at a time works on.
//!
//! Coroutines of one thread need this only where they wait while they hold the value; short of that
//! a `RefCell` does. Its `RefCell` is borrowed across switches by intent: the semaphore lets nobody
//! else come near.

#![forbid(unsafe_code)]

use std::{
    cell::{RefCell, RefMut},
    fmt,
    ops::{Deref, DerefMut},
};

use super::Semaphore;
use crate::{
    WaitError,
    hub::{Deadline, Hub},
};

/// A value behind a lock that parks. Waiters get it in the order in which they came.
pub struct Mutex<T> {
    unlocked: Semaphore,
    value: RefCell<T>,
}

impl<T> Mutex<T> {
    /// An unlocked value.
    pub fn new(value: T) -> Self {
        Self {
            unlocked: Semaphore::new(1),
            value: RefCell::new(value),
        }
    }

    /// Whether somebody holds it.
    pub fn is_locked(&self) -> bool {
        self.unlocked.free() == 0
    }

    /// How many are waiting.
    pub fn parked(&self) -> usize {
        self.unlocked.parked()
    }

    /// Locks it if nobody holds it.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.unlocked.try_acquire().then(|| self.guard())
    }

    /// Locks it, waiting for the holder if need be. A coroutine that holds it already waits for
    /// itself.
    ///
    /// # Errors
    /// As [`Hub::park`].
    pub fn lock(
        &self,
        hub: &'static Hub,
        deadline: Option<Deadline>,
    ) -> Result<MutexGuard<'_, T>, WaitError> {
        self.unlocked.acquire(hub, deadline)?;
        Ok(self.guard())
    }

    /// The value, out of a lock that nobody can hold.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }

    fn guard(&self) -> MutexGuard<'_, T> {
        MutexGuard {
            value: self.value.borrow_mut(),
            unlock: Unlock { mutex: self },
        }
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mutex")
            .field("locked", &self.is_locked())
            .field("parked", &self.parked())
            .finish_non_exhaustive()
    }
}

/// The right to the value of a locked [`Mutex`]; dropping it unlocks.
#[must_use = "the lock is given up when the guard is dropped"]
pub struct MutexGuard<'a, T> {
    // In this order: the borrow ends before the next in line is woken.
    value: RefMut<'a, T>,
    unlock: Unlock<'a, T>,
}

impl<'a, T> MutexGuard<'a, T> {
    pub(super) fn mutex(&self) -> &'a Mutex<T> {
        self.unlock.mutex
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.value
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

struct Unlock<'a, T> {
    mutex: &'a Mutex<T>,
}

impl<T> Drop for Unlock<'_, T> {
    fn drop(&mut self) {
        self.mutex.unlocked.release();
    }
}
