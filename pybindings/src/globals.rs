//! Objects made once when the module is imported, and kept for the life of the process.

use std::{cell::Cell, sync::OnceLock};

use pyo3::{
    exceptions::{PyBaseException, PyException},
    ffi,
    ffi::PyObject,
    prelude::*,
    types::{PyString, PyType},
};

use crate::{greenlet, task};

/// Borrowed for ever: each holds a reference that is never given back.
#[derive(Debug)]
pub(crate) struct Globals {
    pub(crate) greenlet_type: *mut ffi::PyTypeObject,
    pub(crate) error: *mut PyObject,
    pub(crate) greenlet_exit: *mut PyObject,
    /// Native base of `Greenlet`.
    pub(crate) task_type: *mut ffi::PyTypeObject,
    /// `Greenlet` itself, which is defined in Python; NULL before that.
    pub(crate) task_class: Cell<*mut ffi::PyTypeObject>,
    /// The interned string "run".
    pub(crate) str_run: *mut PyObject,
}

// SAFETY: the fields are read and written with the GIL held.
unsafe impl Send for Globals {}
// SAFETY: as above.
unsafe impl Sync for Globals {}

static GLOBALS: OnceLock<Globals> = OnceLock::new();

/// The objects. Nothing that needs them exists before the module was initialised.
#[inline]
pub(crate) fn globals() -> &'static Globals {
    GLOBALS.get().expect("the module is initialised")
}

/// Makes them, once per process.
pub(crate) fn init(py: Python<'_>) -> PyResult<()> {
    if GLOBALS.get().is_some() {
        return Ok(());
    }
    let error = PyErr::new_type(
        py,
        c"greenlet.error",
        Some(c"A greenlet was used in a way that cannot work, such as from another thread."),
        Some(&py.get_type::<PyException>()),
        None,
    )?;
    let exit = PyErr::new_type(
        py,
        c"greenlet.GreenletExit",
        Some(c"Ends the greenlet it is raised in; the parent gets the instance as a result."),
        Some(&py.get_type::<PyBaseException>()),
        None,
    )?;
    let greenlet_type = greenlet::make_type(py)?;
    let globals = Globals {
        greenlet_type,
        task_type: task::make_type(py, greenlet_type)?,
        task_class: Cell::new(std::ptr::null_mut()),
        error: error.into_ptr(),
        greenlet_exit: exit.into_ptr(),
        str_run: PyString::intern(py, "run").into_ptr(),
    };
    // A second initialiser cannot come in between: the GIL is held.
    let _ = GLOBALS.set(globals);
    Ok(())
}

impl Globals {
    /// The base type of all greenlets.
    pub(crate) fn greenlet_class<'py>(&self, py: Python<'py>) -> Bound<'py, PyType> {
        // SAFETY: a type object that is never freed.
        let object = unsafe { Bound::from_borrowed_ptr(py, self.greenlet_type.cast()) };
        // SAFETY: it is a type.
        unsafe { object.cast_into_unchecked() }
    }

    /// Native base of `Greenlet`.
    pub(crate) fn task_base<'py>(&self, py: Python<'py>) -> Bound<'py, PyType> {
        // SAFETY: a type object that is never freed.
        let object = unsafe { Bound::from_borrowed_ptr(py, self.task_type.cast()) };
        // SAFETY: it is a type.
        unsafe { object.cast_into_unchecked() }
    }

    /// `greenlet.error`.
    pub(crate) fn error_class<'py>(&self, py: Python<'py>) -> Bound<'py, PyType> {
        // SAFETY: an exception type that is never freed.
        let object = unsafe { Bound::from_borrowed_ptr(py, self.error) };
        // SAFETY: it is a type.
        unsafe { object.cast_into_unchecked() }
    }

    /// `GreenletExit`.
    pub(crate) fn exit_class<'py>(&self, py: Python<'py>) -> Bound<'py, PyType> {
        // SAFETY: an exception type that is never freed.
        let object = unsafe { Bound::from_borrowed_ptr(py, self.greenlet_exit) };
        // SAFETY: it is a type.
        unsafe { object.cast_into_unchecked() }
    }
}

/// An instance of `greenlet.error`.
pub(crate) fn greenlet_error(py: Python<'_>, text: String) -> PyErr {
    PyErr::from_type(globals().error_class(py), text)
}
