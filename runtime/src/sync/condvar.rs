//! Waiting for a change of a value behind a mutex.

#![forbid(unsafe_code)]

use super::{MutexGuard, WaitQueue};
use crate::{
    WaitError,
    hub::{Deadline, Hub},
};

/// Lets holders of a [`Mutex`](super::Mutex) wait for each other's changes.
#[derive(Debug, Default)]
pub struct Condvar {
    waiters: WaitQueue,
}

impl Condvar {
    /// A condition nobody waits for.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many are waiting to be notified.
    pub fn parked(&self) -> usize {
        self.waiters.parked()
    }

    /// Unlocks, waits to be notified, and locks again; the flag is false when the deadline passed
    /// first. Locking again is not bounded by the deadline.
    ///
    /// # Errors
    /// As [`Hub::park`], but never `TimedOut`. The mutex is not held then, and a notification
    /// that had come goes to the next in line.
    pub fn wait<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        hub: &'static Hub,
        deadline: Option<Deadline>,
    ) -> Result<(MutexGuard<'a, T>, bool), WaitError> {
        let mutex = guard.mutex();
        drop(guard);
        let notified = match self.waiters.wait(hub, deadline, || self.pass_on()) {
            Ok(()) => true,
            Err(WaitError::TimedOut) => false,
            Err(error) => return Err(error),
        };
        match mutex.lock(hub, None) {
            Ok(guard) => Ok((guard, notified)),
            Err(error) => {
                if notified {
                    self.pass_on();
                }
                Err(error)
            }
        }
    }

    /// Wakes the first in line; false when nobody waits.
    pub fn notify_one(&self) -> bool {
        self.waiters.wake_one()
    }

    /// Wakes everyone who waits; says how many.
    pub fn notify_all(&self) -> usize {
        self.waiters.wake_all()
    }

    fn pass_on(&self) {
        self.waiters.wake_one();
    }
}
