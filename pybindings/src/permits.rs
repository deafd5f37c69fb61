//! What locks and semaphores are made of: a count of free permits and a line for them.
//!
//! A permit that is given back while somebody waits goes straight to the first in line; nobody can
//! take it in between. So permits are free only when nobody waits, and order is arrival order.

use std::cell::Cell;

use pyo3::{
    exceptions::{PyOverflowError, PyValueError},
    prelude::*,
};
use rgevent_runtime::sync::WaitQueue;

use crate::{hub, wait};

/// How long to wait for a permit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Limit {
    NotAtAll,
    Seconds(f64),
    Forever,
}

/// The longest time a lock of `_thread` can be told to wait, in seconds.
const TIMEOUT_MAX_SECONDS: f64 = 9_223_372_036.0;

impl Limit {
    /// The arguments of `_thread.lock.acquire`; -1 is without limit.
    #[inline]
    pub(crate) fn of_lock(
        blocking: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        if blocking.is_none() && timeout.is_none() {
            return Ok(Self::Forever);
        }
        Self::of_lock_checked(blocking, timeout)
    }

    fn of_lock_checked(
        blocking: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let blocking = blocking.map_or(Ok(true), |blocking| blocking.is_truthy())?;
        let seconds: f64 = timeout.map_or(Ok(-1.0), |timeout| timeout.extract())?;
        if seconds.is_nan() {
            return Err(PyValueError::new_err("Invalid value NaN (not a number)"));
        }
        if !blocking {
            return if seconds == -1.0 {
                Ok(Self::NotAtAll)
            } else {
                Err(PyValueError::new_err(
                    "can't specify a timeout for a non-blocking call",
                ))
            };
        }
        if seconds == -1.0 {
            return Ok(Self::Forever);
        }
        if seconds < 0.0 {
            return Err(PyValueError::new_err(
                "timeout value must be a non-negative number",
            ));
        }
        if seconds > TIMEOUT_MAX_SECONDS {
            return Err(PyOverflowError::new_err("timeout value is too large"));
        }
        Ok(Self::Seconds(seconds))
    }

    /// The arguments of `Semaphore.acquire`; None is without limit.
    pub(crate) fn of_semaphore(
        blocking: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<Self> {
        Ok(match (blocking, timeout) {
            (Some(blocking), _) if !blocking.is_truthy()? => Self::NotAtAll,
            (_, None) => Self::Forever,
            (_, Some(seconds)) => Self::Seconds(seconds),
        })
    }
}

/// The count and the line.
#[derive(Debug)]
pub(crate) struct Permits {
    free: Cell<usize>,
    line: WaitQueue,
}

impl Permits {
    pub(crate) fn new(free: usize) -> Self {
        Self {
            free: Cell::new(free),
            line: WaitQueue::new(),
        }
    }

    #[inline]
    pub(crate) fn free(&self) -> usize {
        self.free.get()
    }

    /// Takes one if one is free.
    #[inline]
    pub(crate) fn try_take(&self) -> bool {
        let free = self.free.get();
        if free == 0 {
            return false;
        }
        self.free.set(free - 1);
        true
    }

    /// Takes one, waiting for it; false when the time was up first.
    #[inline]
    pub(crate) fn take(&self, py: Python<'_>, limit: Limit) -> PyResult<bool> {
        if self.try_take() {
            return Ok(true);
        }
        self.take_slow(py, limit)
    }

    #[cold]
    fn take_slow(&self, py: Python<'_>, limit: Limit) -> PyResult<bool> {
        let timeout = match limit {
            Limit::NotAtAll => return Ok(false),
            Limit::Forever => None,
            Limit::Seconds(seconds) => Some(seconds),
        };
        let hub = hub::current(py)?;
        let deadline = wait::deadline(hub, timeout)?;
        // Making the hub may have run Python code.
        if self.try_take() {
            return Ok(true);
        }
        let result = self.line.wait(hub, deadline, || {
            self.give();
        });
        wait::outcome(py, result)
    }

    /// Gives one back: to the first in line, or (true) to nobody yet.
    #[inline]
    pub(crate) fn give(&self) -> bool {
        if !self.line.is_empty() && self.line.wake_one() {
            return false;
        }
        self.free.set(self.free.get() + 1);
        true
    }

    /// Changes how many are free, serving the line first.
    pub(crate) fn set_free(&self, free: usize) {
        self.free.set(0);
        for _ in 0..free {
            self.give();
        }
    }

    /// In a forked child: those who wait in threads of the parent are no more.
    pub(crate) fn forget_other_threads(&self) {
        self.line.forget_other_threads();
    }
}
