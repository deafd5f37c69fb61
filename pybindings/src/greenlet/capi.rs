//! The C interface of the greenlet package: twelve pointers in a capsule named `greenlet._C_API`.
//!
//! Order, signatures and error conventions are frozen: extensions compiled against greenlet's header use
//! them as they are. So is the layout of the object (see `object`).

use std::{
    ffi::{c_int, c_void},
    ptr,
};

use pyo3::{ffi, ffi::PyObject, prelude::*};

use super::{
    attributes, construct, methods,
    object::{GreenletRef, Phase, is_greenlet},
};
use crate::{errors, globals::globals, thread::Payload};

/// The name that `PyCapsule_Import` is called with.
const CAPSULE_NAME: &std::ffi::CStr = c"greenlet._C_API";
const SLOTS: usize = 12;

/// Makes the capsule; its table lives for ever.
pub(crate) fn make_capsule(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let globals = globals();
    let table: [*mut c_void; SLOTS] = [
        globals.greenlet_type.cast(),
        globals.error.cast(),
        globals.greenlet_exit.cast(),
        new as *mut c_void,
        get_current as *mut c_void,
        throw as *mut c_void,
        switch as *mut c_void,
        set_parent as *mut c_void,
        is_main as *mut c_void,
        is_started as *mut c_void,
        is_active as *mut c_void,
        get_parent as *mut c_void,
    ];
    let table = Box::leak(Box::new(table)).as_mut_ptr().cast();
    // SAFETY: a pointer that stays valid, a static name, nothing to be done at the end.
    let capsule = unsafe { ffi::PyCapsule_New(table, CAPSULE_NAME.as_ptr(), None) };
    // SAFETY: a new reference, or NULL with an error set.
    unsafe { Bound::from_owned_ptr_or_err(py, capsule) }
}

/// The greenlet behind an argument; None with the error of a C function that was misused.
fn checked(object: *mut PyObject) -> Option<GreenletRef> {
    if is_greenlet(object) {
        return Some(GreenletRef::new(object));
    }
    // SAFETY: the GIL is held.
    unsafe { ffi::PyErr_BadArgument() };
    None
}

/// `PyGreenlet_New(run, parent)`: a new reference. Either may be NULL.
unsafe extern "C" fn new(run: *mut PyObject, parent: *mut PyObject) -> *mut PyObject {
    let given = |object: *mut PyObject| (!object.is_null()).then_some(object);
    // SAFETY: live objects.
    unsafe { construct::make(globals().greenlet_type, given(run), given(parent)) }
}

/// `PyGreenlet_GetCurrent()`: a new reference; NULL with an error once the interpreter goes down.
unsafe extern "C" fn get_current() -> *mut PyObject {
    // SAFETY: callers hold the GIL.
    match methods::getcurrent(unsafe { Python::assume_attached() }) {
        Ok(current) => current.into_ptr(),
        Err(error) => errors::raise(error),
    }
}

/// `PyGreenlet_Throw(g, type, value, traceback)`: what `g.throw(...)` returns.
unsafe extern "C" fn throw(
    object: *mut PyObject,
    kind: *mut PyObject,
    value: *mut PyObject,
    trace: *mut PyObject,
) -> *mut PyObject {
    match checked(object) {
        Some(target) => methods::throw_into(target, kind, value, trace),
        None => ptr::null_mut(),
    }
}

/// `PyGreenlet_Switch(g, args, kwargs)`: what `g.switch(*args, **kwargs)` returns. `args` may be NULL;
/// `kwargs` counts only if it is a dict.
unsafe extern "C" fn switch(
    object: *mut PyObject,
    args: *mut PyObject,
    kwargs: *mut PyObject,
) -> *mut PyObject {
    let Some(target) = checked(object) else {
        return ptr::null_mut();
    };
    let args = if args.is_null() {
        // SAFETY: the GIL is held.
        unsafe { ffi::PyTuple_New(0) }
    } else {
        // SAFETY: a live object.
        unsafe { ffi::Py_INCREF(args) };
        args
    };
    // SAFETY: a live object, if it is one.
    let kwargs = if !kwargs.is_null() && unsafe { ffi::PyDict_Check(kwargs) } != 0 {
        // SAFETY: a live object.
        unsafe { ffi::Py_INCREF(kwargs) };
        kwargs
    } else {
        ptr::null_mut()
    };
    methods::switch_to(target, Payload::Call(args, kwargs))
}

/// `PyGreenlet_SetParent(g, parent)`: 0, or -1 with an error. As in greenlet `g` is not checked.
unsafe extern "C" fn set_parent(object: *mut PyObject, parent: *mut PyObject) -> c_int {
    // SAFETY: a greenlet, by the caller's promise, and a live object.
    unsafe { attributes::set_parent(object, parent, ptr::null_mut()) }
}

/// `PyGreenlet_MAIN(g)`.
unsafe extern "C" fn is_main(object: *mut PyObject) -> c_int {
    checked(object).map_or(-1, |greenlet| greenlet.state().is_main.get().into())
}

/// `PyGreenlet_STARTED(g)`: also for one that has ended.
unsafe extern "C" fn is_started(object: *mut PyObject) -> c_int {
    checked(object).map_or(-1, |greenlet| {
        (greenlet.state().phase.get() != Phase::Unstarted).into()
    })
}

/// `PyGreenlet_ACTIVE(g)`.
unsafe extern "C" fn is_active(object: *mut PyObject) -> c_int {
    checked(object).map_or(-1, |greenlet| greenlet.state().is_active().into())
}

/// `PyGreenlet_GET_PARENT(g)`: a new reference; NULL without an error for a main greenlet.
unsafe extern "C" fn get_parent(object: *mut PyObject) -> *mut PyObject {
    let Some(greenlet) = checked(object) else {
        return ptr::null_mut();
    };
    match greenlet.parent() {
        Some(parent) => {
            parent.incref();
            parent.as_ptr()
        }
        None => ptr::null_mut(),
    }
}
