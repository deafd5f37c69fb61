//! A value that comes once, and those who wait for it.

#![forbid(unsafe_code)]

use std::cell::OnceCell;

use super::WaitQueue;
use crate::{
    WaitError,
    hub::{Deadline, Hub},
};

/// A place for one value. It is set once and stays; everyone who waits sees it.
#[derive(Debug)]
pub struct AsyncResult<T> {
    value: OnceCell<T>,
    waiters: WaitQueue,
}

impl<T> Default for AsyncResult<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> AsyncResult<T> {
    /// A place without its value.
    pub fn new() -> Self {
        Self {
            value: OnceCell::new(),
            waiters: WaitQueue::new(),
        }
    }

    /// How many are waiting.
    pub fn parked(&self) -> usize {
        self.waiters.parked()
    }

    /// Puts the value in place and wakes everyone who waits.
    ///
    /// # Errors
    /// The value back, when there is one already.
    pub fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        self.waiters.wake_all();
        Ok(())
    }

    /// The value, if it has come.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        self.value.get()
    }

    /// Waits for the value.
    ///
    /// # Errors
    /// As [`Hub::park`].
    pub fn wait(&self, hub: &'static Hub, deadline: Option<Deadline>) -> Result<&T, WaitError> {
        if self.value.get().is_none() {
            self.waiters.wait(hub, deadline, || ())?;
        }
        let value = self.value.get();
        Ok(value.expect("waiters are woken by the value alone"))
    }

    /// The value, out of its place.
    pub fn into_inner(self) -> Option<T> {
        self.value.into_inner()
    }
}
