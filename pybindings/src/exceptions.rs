//! Exceptions that gevent's users know by name.

use pyo3::{create_exception, exceptions::PyException, prelude::*};

create_exception!(
    rgevent.exceptions,
    LoopExit,
    PyException,
    "The hub has nothing left to wait for, so a wait would never end."
);
create_exception!(
    rgevent.exceptions,
    BlockingSwitchOutError,
    pyo3::exceptions::PyAssertionError,
    "A callback of the event loop tried to wait."
);
create_exception!(
    rgevent.exceptions,
    InvalidSwitchError,
    pyo3::exceptions::PyAssertionError,
    "A greenlet that waits in the hub was switched to by hand."
);
create_exception!(
    rgevent.exceptions,
    ConcurrentObjectUseError,
    pyo3::exceptions::PyAssertionError,
    "Two greenlets used an object that allows one at a time."
);

/// The error for a value that arrives at a greenlet which waits for something else.
pub(crate) fn invalid_switch(py: Python<'_>, value: &Bound<'_, PyAny>) -> PyErr {
    match value.repr() {
        Ok(repr) => InvalidSwitchError::new_err(format!(
            "a greenlet that was waiting in the hub was switched to with {repr}; \
             only the hub may resume it (use throw() or kill() to interrupt it)"
        )),
        Err(_) => PyErr::fetch(py),
    }
}
