//! A flag to wait for.

#![forbid(unsafe_code)]

use std::cell::Cell;

use super::WaitQueue;
use crate::{
    WaitError,
    hub::{Deadline, Hub},
};

/// A flag that coroutines wait for. Setting it lets every waiter go.
#[derive(Debug, Default)]
pub struct Event {
    set: Cell<bool>,
    waiters: WaitQueue,
}

impl Event {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the flag is set.
    #[inline]
    pub fn is_set(&self) -> bool {
        self.set.get()
    }

    /// How many are waiting.
    pub fn parked(&self) -> usize {
        self.waiters.parked()
    }

    /// Sets the flag and wakes everyone who waits; says how many were woken.
    pub fn set(&self) -> usize {
        self.set.set(true);
        self.waiters.wake_all()
    }

    /// Clears the flag. Waiters that were woken before go on nevertheless.
    pub fn clear(&self) {
        self.set.set(false);
    }

    /// Waits until the flag is set, or was set while waiting.
    ///
    /// # Errors
    /// As [`Hub::park`].
    #[inline]
    pub fn wait(&self, hub: &'static Hub, deadline: Option<Deadline>) -> Result<(), WaitError> {
        if self.set.get() {
            return Ok(());
        }
        self.waiters.wait(hub, deadline, || ())
    }
}
