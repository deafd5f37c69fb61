//! The interpreter's error indicator, one exception at a time.
//!
//! Across a switch an exception travels as one object that carries its own traceback. CPython 3.12
//! stores it that way; 3.11 keeps three parts, which are put together here.

use std::ptr;

use pyo3::{PyErr, ffi, ffi::PyObject};

/// Takes the pending exception out of the indicator: a new reference, or NULL when there is none.
pub(crate) fn take() -> *mut PyObject {
    #[cfg(Py_3_12)]
    {
        // SAFETY: the GIL is held by every caller of this module.
        unsafe { ffi::PyErr_GetRaisedException() }
    }
    #[cfg(not(Py_3_12))]
    {
        let mut kind = ptr::null_mut();
        let mut value = ptr::null_mut();
        let mut trace = ptr::null_mut();
        // SAFETY: as above; three places of our own.
        unsafe { ffi::PyErr_Fetch(&mut kind, &mut value, &mut trace) };
        if kind.is_null() {
            return ptr::null_mut();
        }
        // SAFETY: as above; the three parts are ours now.
        unsafe { ffi::PyErr_NormalizeException(&mut kind, &mut value, &mut trace) };
        if !trace.is_null() {
            // SAFETY: after normalization the value is an exception.
            unsafe { ffi::PyException_SetTraceback(value, trace) };
        }
        // SAFETY: we own the references.
        unsafe { ffi::Py_XDECREF(kind) };
        // SAFETY: as above.
        unsafe { ffi::Py_XDECREF(trace) };
        value
    }
}

/// Makes `exception` (a stolen reference, not NULL) the pending one, with its own traceback.
///
/// Unlike a `raise` this sets no `__context__`: the exception is passed on, not raised here.
pub(crate) fn put(exception: *mut PyObject) {
    #[cfg(Py_3_12)]
    {
        // SAFETY: the GIL is held; the reference is the callee's from now.
        unsafe { ffi::PyErr_SetRaisedException(exception) };
    }
    #[cfg(not(Py_3_12))]
    {
        // SAFETY: the GIL is held, and the object is an exception.
        let kind = unsafe { ffi::Py_TYPE(exception) }.cast::<PyObject>();
        // SAFETY: as above.
        unsafe { ffi::Py_INCREF(kind) };
        // SAFETY: as above; a new reference or NULL.
        let trace = unsafe { ffi::PyException_GetTraceback(exception) };
        // SAFETY: all three references are the callee's from now.
        unsafe { ffi::PyErr_Restore(kind, exception, trace) };
    }
}

/// Whether an exception is pending.
pub(crate) fn pending() -> bool {
    // SAFETY: the GIL is held.
    !unsafe { ffi::PyErr_Occurred() }.is_null()
}

/// Sets the pending exception aside while it lives, for code that must not be disturbed by it.
pub(crate) struct Aside(*mut PyObject);

impl Aside {
    pub(crate) fn new() -> Self {
        Self(take())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.0.is_null() {
            put(self.0);
            self.0 = ptr::null_mut();
        }
    }
}

/// Raises `error` and answers NULL, as a slot function does.
pub(crate) fn raise(error: PyErr) -> *mut PyObject {
    // SAFETY: the GIL is held.
    error.restore(unsafe { pyo3::Python::assume_attached() });
    ptr::null_mut()
}
