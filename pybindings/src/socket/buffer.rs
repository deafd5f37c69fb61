//! Memory of Python objects, for system calls to read from and write to.

use std::ptr;

use pyo3::{ffi, ffi::PyObject, prelude::*};

unsafe extern "C" {
    fn _PyBytes_Resize(bytes: *mut *mut PyObject, size: ffi::Py_ssize_t) -> std::ffi::c_int;
}

/// A view of an object's memory. Holds the object's export until dropped, so that the memory
/// cannot move or go, even while the greenlet is parked.
pub(super) struct View(ffi::Py_buffer);

impl View {
    /// Of anything with a buffer, for reading.
    pub(super) fn readable(py: Python<'_>, object: *mut PyObject) -> PyResult<Self> {
        Self::new(py, object, ffi::PyBUF_SIMPLE)
    }

    /// Of a writable buffer.
    pub(super) fn writable(py: Python<'_>, object: *mut PyObject) -> PyResult<Self> {
        Self::new(py, object, ffi::PyBUF_WRITABLE)
    }

    fn new(py: Python<'_>, object: *mut PyObject, flags: std::ffi::c_int) -> PyResult<Self> {
        let mut view = std::mem::MaybeUninit::<ffi::Py_buffer>::zeroed();
        // SAFETY: a live object, and memory for the view.
        if unsafe { ffi::PyObject_GetBuffer(object, view.as_mut_ptr(), flags) } != 0 {
            return Err(PyErr::fetch(py));
        }
        // SAFETY: the call filled it in.
        Ok(Self(unsafe { view.assume_init() }))
    }

    pub(super) fn start(&self) -> *mut u8 {
        self.0.buf.cast()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len as usize
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: filled in by `new`, released once; the GIL is held.
        unsafe { ffi::PyBuffer_Release(&mut self.0) };
    }
}

/// Bytes that are filled in after they were made.
pub(super) struct FreshBytes(*mut PyObject);

impl FreshBytes {
    pub(super) fn new(py: Python<'_>, size: usize) -> PyResult<Self> {
        // SAFETY: the GIL is held; NULL asks for uninitialised content.
        let object =
            unsafe { ffi::PyBytes_FromStringAndSize(ptr::null(), size as ffi::Py_ssize_t) };
        if object.is_null() {
            return Err(PyErr::fetch(py));
        }
        Ok(Self(object))
    }

    pub(super) fn start(&self) -> *mut u8 {
        // SAFETY: a bytes object of ours that nobody else has seen.
        unsafe { ffi::PyBytes_AsString(self.0).cast() }
    }

    /// The object, cut to what was filled in. NULL with an error set when out of memory.
    pub(super) fn finish(mut self, size: usize, filled: usize) -> *mut PyObject {
        let mut object = std::mem::replace(&mut self.0, ptr::null_mut());
        if filled != size {
            // SAFETY: nobody else has the object; it is replaced, or set to NULL on failure.
            unsafe { _PyBytes_Resize(&mut object, filled as ffi::Py_ssize_t) };
        }
        object
    }
}

impl Drop for FreshBytes {
    fn drop(&mut self) {
        // SAFETY: owned, or NULL; the GIL is held.
        unsafe { ffi::Py_XDECREF(self.0) };
    }
}
