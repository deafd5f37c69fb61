//! Waiting in the hub, for code that answers to Python.

use std::time::Duration;

use pyo3::{exceptions::PyValueError, prelude::*};
use rgevent_runtime::{
    WaitError,
    hub::{Deadline, Hub},
};

use crate::{
    exceptions::{BlockingSwitchOutError, LoopExit},
    greenlet, hub,
    thread::PyThread,
};

/// A timeout in seconds as Python gives it: None is without limit, negative is at once.
pub(crate) fn duration(timeout: Option<f64>) -> PyResult<Option<Duration>> {
    match timeout {
        None => Ok(None),
        Some(seconds) if seconds.is_nan() => Err(PyValueError::new_err(
            "timeout is not a number: pass seconds, or None to wait without limit",
        )),
        Some(seconds) => {
            let seconds = seconds.max(0.0);
            Ok(Duration::try_from_secs_f64(seconds).ok())
        }
    }
}

/// The moment at which a timeout in seconds will have passed.
pub(crate) fn deadline(hub: &Hub, timeout: Option<f64>) -> PyResult<Option<Deadline>> {
    Ok(duration(timeout)?.map(|timeout| hub.deadline_after(timeout)))
}

/// What the end of a wait means to Python: true when it was granted, false when it timed out, else
/// the exception that ended it. To be called after every wait, with nothing borrowed.
#[inline]
pub(crate) fn outcome(py: Python<'_>, result: Result<(), WaitError>) -> PyResult<bool> {
    if let Some(thread) = PyThread::try_current() {
        thread.reap();
    }
    match result {
        Ok(()) => Ok(true),
        Err(WaitError::TimedOut) => Ok(false),
        Err(error) => Err(failure(py, error)),
    }
}

#[cold]
fn failure(py: Python<'_>, error: WaitError) -> PyErr {
    match error {
        WaitError::Interrupted => match PyThread::current_or_new(py) {
            Ok(thread) => greenlet::after_interruption(thread),
            Err(error) => error,
        },
        WaitError::InHub => BlockingSwitchOutError::new_err(
            "Impossible to call blocking function in the event loop callback",
        ),
        WaitError::LoopExit => LoopExit::new_err(error.to_string()),
        WaitError::Closed | WaitError::TimedOut | WaitError::Killed => {
            pyo3::exceptions::PyOSError::new_err(error.to_string())
        }
    }
}

/// Parks the current greenlet for `seconds`; 0 lets everything that is ready run first.
///
/// Raises ValueError for a negative time, as `time.sleep` does.
#[pyfunction]
#[pyo3(signature = (seconds=0.0))]
pub(crate) fn sleep(py: Python<'_>, seconds: f64) -> PyResult<()> {
    if seconds < 0.0 {
        return Err(PyValueError::new_err("sleep length must be non-negative"));
    }
    let hub = hub::current(py)?;
    let time = duration(Some(seconds))?.unwrap_or(Duration::MAX);
    outcome(py, hub.sleep(time)).map(drop)
}
