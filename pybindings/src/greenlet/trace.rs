//! `settrace`: a function that is told of the switches of its thread.
//!
//! It is called in the greenlet that was switched to, before its `switch()` returns or its function
//! begins, as `tracer(event, (origin, target))`. The event is "throw" if an exception is about to be
//! raised there, also when a child died with it, else "switch". `sys.settrace` and `sys.setprofile`
//! functions are not called meanwhile. If it raises, it is removed and its error takes the place of
//! what was handed over. It may switch.

use std::ptr;

use pyo3::{ffi, ffi::PyThreadState, prelude::*};

use super::object::GreenletRef;
use crate::{
    call, errors,
    thread::{Payload, PyThread},
};

unsafe extern "C" {
    fn PyThreadState_EnterTracing(ts: *mut PyThreadState);
    fn PyThreadState_LeaveTracing(ts: *mut PyThreadState);
}

/// Has `tracer(event, (origin, target))` called after each switch of this thread; None ends that.
/// Returns the function that was called so far, or None.
///
/// As greenlet.settrace. The event is "switch" or "throw".
#[pyfunction]
pub(crate) fn settrace(tracer: Bound<'_, PyAny>) -> PyResult<Bound<'_, PyAny>> {
    let py = tracer.py();
    let thread = PyThread::current_or_new(py)?;
    let new = if tracer.is_none() {
        ptr::null_mut()
    } else {
        tracer.into_ptr()
    };
    let old = thread.replace_tracer(new);
    // SAFETY: the thread owned it, or NULL.
    let old = unsafe { Bound::from_owned_ptr_or_opt(py, old) };
    Ok(old.unwrap_or_else(|| py.None().into_bound(py)))
}

/// The function that settrace() has set for this thread, or None.
#[pyfunction]
pub(crate) fn gettrace(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let tracer = PyThread::current_or_new(py)?.tracer();
    // SAFETY: a live object or NULL.
    let tracer = unsafe { Bound::from_borrowed_ptr_or_opt(py, tracer) };
    Ok(tracer.unwrap_or_else(|| py.None().into_bound(py)))
}

/// Tells the thread's tracer, if there is one, of a switch that is over; answers what goes on from
/// there. Runs Python code, which may switch. The caller keeps `origin` alive.
pub(super) fn tell(thread: &'static PyThread, origin: GreenletRef, payload: Payload) -> Payload {
    let tracer = thread.tracer();
    if tracer.is_null() {
        return payload;
    }
    // SAFETY: the GIL is held.
    let py = unsafe { Python::assume_attached() };
    let event = match payload {
        Payload::Throw(_) => "throw",
        _ => "switch",
    };
    let switch = (origin.bound(py), thread.current().bound(py));
    let result = match (event, switch).into_pyobject(py) {
        Ok(arguments) => {
            let arguments = arguments.into_ptr();
            // Kept for the call, which may remove it.
            // SAFETY: a live object.
            unsafe { ffi::Py_INCREF(tracer) };
            // SAFETY: the current thread state.
            unsafe { PyThreadState_EnterTracing(thread.ts) };
            let result = call::object(tracer, arguments, ptr::null_mut());
            // SAFETY: as above; the counterpart.
            unsafe { PyThreadState_LeaveTracing(thread.ts) };
            let _aside = errors::Aside::new();
            Payload::Call(tracer, arguments).drop_refs();
            result
        }
        Err(error) => errors::raise(error),
    };
    if !result.is_null() {
        Payload::Value(result).drop_refs();
        return payload;
    }
    let failure = errors::take();
    payload.drop_refs();
    let old = thread.replace_tracer(ptr::null_mut());
    // SAFETY: the thread owned it, or NULL.
    unsafe { ffi::Py_XDECREF(old) };
    Payload::Throw(failure)
}
