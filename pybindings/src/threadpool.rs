//! Python calls on native threads, for what blocks and cannot be made to wait in the hub.

use std::ptr;

use pyo3::{
    exceptions::PyOSError,
    prelude::*,
    types::{PyDict, PyTuple},
};
use rgevent_runtime::{
    WaitError,
    blocking::{self, RunError},
};

use crate::{call, hub, wait};

/// Calls function(*args, **kwargs) on a native thread; other greenlets run meanwhile.
///
/// Returns or raises what the call does. The call cannot be stopped: when the waiting greenlet is
/// killed, it goes on and its result is dropped.
#[pyfunction]
#[pyo3(signature = (function, *args, **kwargs))]
pub(crate) fn run_in_thread(
    py: Python<'_>,
    function: Bound<'_, PyAny>,
    args: Bound<'_, PyTuple>,
    kwargs: Option<Bound<'_, PyDict>>,
) -> PyResult<Py<PyAny>> {
    let hub = hub::current(py)?;
    let function = function.unbind();
    let args = args.unbind();
    let kwargs = kwargs.map(Bound::unbind);
    let job = move || {
        call::attached(|py| {
            let kwargs_or_null = kwargs.as_ref().map_or(ptr::null_mut(), Py::as_ptr);
            let result = call::object(function.as_ptr(), args.as_ptr(), kwargs_or_null);
            // SAFETY: a new reference, or NULL with an error set.
            let result = unsafe { Bound::from_owned_ptr_or_err(py, result) };
            // The last references must go while the GIL is held.
            drop((function, args, kwargs));
            result.map(Bound::unbind)
        })
    };
    finish(py, blocking::run(hub, job))?
}

/// What the end of a call on a native thread means to Python.
pub(crate) fn finish<T>(py: Python<'_>, result: Result<T, RunError>) -> PyResult<T> {
    match result {
        Ok(result) => {
            wait::outcome(py, Ok(()))?;
            Ok(result)
        }
        Err(RunError::Wait(error)) => {
            wait::outcome(py, Err(error))?;
            Err(PyOSError::new_err(WaitError::TimedOut.to_string()))
        }
        Err(RunError::Io(error)) => Err(PyOSError::new_err(format!(
            "cannot start a native thread: {error}"
        ))),
    }
}
