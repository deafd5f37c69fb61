//! A number of units to take and give back.
//!
//! A unit that is given back goes straight to the first in line, so nobody who comes later can
//! take it first. Invariant: there are free units, or there are waiters, never both.

#![forbid(unsafe_code)]

use std::cell::Cell;

use super::WaitQueue;
use crate::{
    WaitError,
    hub::{Deadline, Hub},
};

/// A number of units that coroutines take and give back, first come, first served.
#[derive(Debug)]
pub struct Semaphore {
    free: Cell<usize>,
    waiters: WaitQueue,
}

impl Semaphore {
    /// A semaphore with `units` to take.
    pub fn new(units: usize) -> Self {
        Self {
            free: Cell::new(units),
            waiters: WaitQueue::new(),
        }
    }

    /// How many units are free.
    #[inline]
    pub fn free(&self) -> usize {
        self.free.get()
    }

    /// How many are waiting.
    pub fn parked(&self) -> usize {
        self.waiters.parked()
    }

    /// Takes a unit if one is free.
    #[inline]
    pub fn try_acquire(&self) -> bool {
        match self.free.get().checked_sub(1) {
            Some(rest) => {
                self.free.set(rest);
                true
            }
            None => false,
        }
    }

    /// Takes a unit, waiting for it if need be.
    ///
    /// # Errors
    /// As [`Hub::park`]; then no unit was taken.
    #[inline]
    pub fn acquire(&self, hub: &'static Hub, deadline: Option<Deadline>) -> Result<(), WaitError> {
        if self.try_acquire() {
            return Ok(());
        }
        self.waiters.wait(hub, deadline, || self.release())
    }

    /// Gives a unit back, or adds one.
    #[inline]
    pub fn release(&self) {
        if self.waiters.is_empty() || !self.waiters.wake_one() {
            self.free.set(self.free.get() + 1);
        }
    }
}
