//! What stands in for native threads needs beyond locks: an ident, and a last word on errors.

use pyo3::{exceptions::PyBaseException, ffi, prelude::*};

use crate::thread::PyThread;

/// The ident of what runs: the native thread's for its main greenlet, else the greenlet's address.
#[pyfunction]
pub(crate) fn get_ident() -> u64 {
    // Where no greenlet was ever made, only a main greenlet can be running.
    let current = PyThread::try_current().map(PyThread::current);
    match current {
        Some(current) if !current.state().is_main.get() => current.as_ptr() as u64,
        _ => get_native_ident(),
    }
}

/// The ident of the native thread, whichever greenlet runs.
#[pyfunction]
pub(crate) fn get_native_ident() -> u64 {
    // SAFETY: may be called at any time.
    unsafe { ffi::PyThread_get_thread_ident() as u64 }
}

/// Reports an error that nobody can catch to sys.unraisablehook, with the object it came from.
#[pyfunction]
pub(crate) fn write_unraisable(
    py: Python<'_>,
    error: Bound<'_, PyBaseException>,
    source: &Bound<'_, PyAny>,
) {
    PyErr::from_value(error.into_any()).write_unraisable(py, Some(source));
}
