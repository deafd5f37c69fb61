//! What can be asked of a greenlet, and set: `run`, `parent`, `dead`, frames, context, dict, repr.

use std::{
    ffi::{c_int, c_void},
    ptr,
};

use pyo3::{
    exceptions::{PyAttributeError, PyTypeError, PyValueError},
    ffi,
    ffi::PyObject,
    prelude::*,
};

use super::{
    methods::attached,
    object::{GreenletRef, Object, Phase, is_greenlet},
    switch::check_thread,
};
use crate::{errors, tstate};

pub(super) unsafe extern "C" fn is_true(object: *mut PyObject) -> c_int {
    c_int::from(GreenletRef::new(object).state().is_active())
}

/// The text of `repr`.
pub(crate) fn repr_text(py: Python<'_>, greenlet: GreenletRef) -> PyResult<String> {
    let state = greenlet.state();
    let class = greenlet.bound(py).get_type();
    let mut text = format!(
        "<{} object at {:p} (otid=",
        class.fully_qualified_name()?,
        greenlet.as_ptr()
    );
    match state.thread.get() {
        Some(thread) => text.push_str(&format!("{:p})", ptr::from_ref(thread))),
        None => text.push_str("0x0)"),
    }
    if state.is_dead() {
        if state.thread_exited.get() || state.phase.get() == Phase::Active {
            text.push_str(" (thread exited)");
        }
        text.push_str(" dead");
    } else if state.phase.get() == Phase::Active {
        text.push_str(if greenlet.is_current() {
            " current active started"
        } else {
            " suspended active started"
        });
    } else {
        text.push_str(" pending");
    }
    if state.is_main.get() && !state.is_dead() {
        text.push_str(" main");
    }
    text.push('>');
    Ok(text)
}

pub(super) unsafe extern "C" fn repr(object: *mut PyObject) -> *mut PyObject {
    let py = attached();
    let text = repr_text(py, GreenletRef::new(object));
    match text {
        Ok(text) => pyo3::types::PyString::new(py, &text).into_ptr(),
        Err(error) => errors::raise(error),
    }
}

/// A new reference to `object`, or to None for NULL.
fn or_none(object: *mut PyObject) -> *mut PyObject {
    let object = if object.is_null() {
        // SAFETY: the GIL is held.
        unsafe { ffi::Py_None() }
    } else {
        object
    };
    // SAFETY: a live object.
    unsafe { ffi::Py_INCREF(object) };
    object
}

pub(super) unsafe extern "C" fn get_run(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    let state = GreenletRef::new(object).state();
    let run = state.run.get();
    if state.is_main.get() {
        return errors::raise(PyAttributeError::new_err(
            "Main greenlets do not have a run attribute.",
        ));
    }
    if state.phase.get() != Phase::Unstarted || run.is_null() {
        return errors::raise(PyAttributeError::new_err("run"));
    }
    or_none(run)
}

pub(super) unsafe extern "C" fn set_run(
    object: *mut PyObject,
    value: *mut PyObject,
    _: *mut c_void,
) -> c_int {
    let state = GreenletRef::new(object).state();
    if state.is_main.get() {
        errors::raise(PyAttributeError::new_err(
            "Main greenlets do not have a run attribute.",
        ));
        return -1;
    }
    if state.phase.get() != Phase::Unstarted {
        errors::raise(PyAttributeError::new_err(
            "run cannot be set after the start of the greenlet",
        ));
        return -1;
    }
    if value.is_null() && state.run.get().is_null() {
        errors::raise(PyAttributeError::new_err("run"));
        return -1;
    }
    // SAFETY: a live object or NULL.
    unsafe { ffi::Py_XINCREF(value) };
    let old = state.run.replace(value);
    // SAFETY: owned by the state until now, or NULL.
    unsafe { ffi::Py_XDECREF(old) };
    0
}

pub(super) unsafe extern "C" fn get_parent(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    or_none(GreenletRef::new(object).state().parent.get())
}

pub(super) unsafe extern "C" fn set_parent(
    object: *mut PyObject,
    value: *mut PyObject,
    _: *mut c_void,
) -> c_int {
    match new_parent(GreenletRef::new(object), value) {
        Ok(()) => 0,
        Err(error) => {
            errors::raise(error);
            -1
        }
    }
}

fn new_parent(greenlet: GreenletRef, value: *mut PyObject) -> PyResult<()> {
    if value.is_null() {
        return Err(PyAttributeError::new_err("can't delete attribute"));
    }
    let state = greenlet.state();
    if state.is_main.get() {
        return Err(PyAttributeError::new_err(
            "cannot set the parent of a main greenlet",
        ));
    }
    if !is_greenlet(value) {
        // SAFETY: a live object.
        let value = unsafe { Bound::from_borrowed_ptr(attached(), value) };
        return Err(PyTypeError::new_err(format!(
            "GreenletChecker: Expected any type of greenlet, not {}",
            value.get_type().name()?
        )));
    }
    let parent = GreenletRef::new(value);
    let mut ancestor = parent;
    while !ancestor.state().is_main.get() {
        if ancestor == greenlet {
            return Err(PyValueError::new_err("cyclic parent chain"));
        }
        ancestor = ancestor
            .parent()
            .ok_or_else(|| PyValueError::new_err("parent must not be garbage collected"))?;
    }
    if state.phase.get() == Phase::Active
        && let Some(thread) = state.thread.get()
        && check_thread(thread, ancestor).is_err()
    {
        return Err(PyValueError::new_err(
            "parent cannot be on a different thread",
        ));
    }
    parent.incref();
    let old = state.parent.replace(parent.as_ptr());
    // SAFETY: owned by the state until now, or NULL.
    unsafe { ffi::Py_XDECREF(old) };
    Ok(())
}

pub(super) unsafe extern "C" fn get_dead(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    let dead = GreenletRef::new(object).state().is_dead();
    // SAFETY: the GIL is held.
    unsafe { ffi::PyBool_FromLong(dead.into()) }
}

pub(super) unsafe extern "C" fn get_frame(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    let greenlet = GreenletRef::new(object);
    let state = greenlet.state();
    // Once a thread has ended its stacks may go at any time.
    if is_running(greenlet) || state.live_thread().is_none() {
        return or_none(ptr::null_mut());
    }
    // A dead one may have frames too: it hangs where its end led into a parent's `run` lookup.
    // SAFETY: the GIL is held.
    let ts = unsafe { ffi::PyThreadState_Get() };
    // SAFETY: the current thread state; the greenlet does not run, and nothing can resume it meanwhile.
    let frame = unsafe { state.saved().top_frame(ts) };
    if frame.is_null() {
        return or_none(frame);
    }
    frame
}

pub(super) unsafe extern "C" fn get_context(
    object: *mut PyObject,
    _: *mut c_void,
) -> *mut PyObject {
    let greenlet = GreenletRef::new(object);
    let state = greenlet.state();
    if is_running(greenlet) {
        if !greenlet.is_current() {
            return errors::raise(PyValueError::new_err(
                "cannot get context of a greenlet that is running in a different thread",
            ));
        }
        // SAFETY: it runs here, so this is the current thread state.
        return or_none(unsafe { tstate::running_context(state.ts.get()) });
    }
    or_none(state.saved().context())
}

/// Whether it runs at this moment, in whichever thread.
fn is_running(greenlet: GreenletRef) -> bool {
    let state = greenlet.state();
    state.is_active()
        && state
            .live_thread()
            .is_some_and(|thread| thread.current() == greenlet)
}

pub(super) unsafe extern "C" fn set_context(
    object: *mut PyObject,
    value: *mut PyObject,
    _: *mut c_void,
) -> c_int {
    let greenlet = GreenletRef::new(object);
    match new_context(greenlet, value) {
        Ok(old) => {
            // SAFETY: an owned reference or NULL.
            unsafe { ffi::Py_XDECREF(old) };
            0
        }
        Err(error) => {
            errors::raise(error);
            -1
        }
    }
}

fn new_context(greenlet: GreenletRef, value: *mut PyObject) -> PyResult<*mut PyObject> {
    if value.is_null() {
        return Err(PyAttributeError::new_err("can't delete context attribute"));
    }
    // SAFETY: the GIL is held.
    let context = if value == unsafe { ffi::Py_None() } {
        ptr::null_mut()
    } else {
        value
    };
    // SAFETY: a live object.
    if !context.is_null() && unsafe { ffi::PyContext_CheckExact(context) } == 0 {
        return Err(PyTypeError::new_err(
            "greenlet context must be a contextvars.Context or None",
        ));
    }
    let state = greenlet.state();
    let running = is_running(greenlet);
    if running && !greenlet.is_current() {
        return Err(PyValueError::new_err(
            "cannot set context of a greenlet that is running in a different thread",
        ));
    }
    // SAFETY: a live object or NULL.
    unsafe { ffi::Py_XINCREF(context) };
    Ok(if running {
        // SAFETY: it runs here, so this is the current thread state; a context or NULL.
        unsafe { tstate::replace_running_context(state.ts.get(), context) }
    } else {
        state.saved().replace_context(context)
    })
}

pub(super) unsafe extern "C" fn get_stack_saved(
    object: *mut PyObject,
    _: *mut c_void,
) -> *mut PyObject {
    let greenlet = GreenletRef::new(object);
    let used = if greenlet.is_current() {
        0
    } else {
        greenlet.state().stack_used()
    };
    // SAFETY: the GIL is held.
    unsafe { ffi::PyLong_FromSize_t(used) }
}

pub(super) unsafe extern "C" fn get_dict(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: a greenlet object.
    let dict = unsafe { &raw mut (*object.cast::<Object>()).dict };
    // SAFETY: a valid place.
    if unsafe { *dict }.is_null() {
        // SAFETY: the GIL is held.
        let fresh = unsafe { ffi::PyDict_New() };
        // SAFETY: a valid place.
        unsafe { *dict = fresh };
        if fresh.is_null() {
            return fresh;
        }
    }
    // SAFETY: a valid place.
    or_none(unsafe { *dict })
}

pub(super) unsafe extern "C" fn set_dict(
    object: *mut PyObject,
    value: *mut PyObject,
    _: *mut c_void,
) -> c_int {
    if value.is_null() {
        errors::raise(PyTypeError::new_err("__dict__ may not be deleted"));
        return -1;
    }
    // SAFETY: a live object.
    if unsafe { ffi::PyDict_Check(value) } == 0 {
        errors::raise(PyTypeError::new_err("__dict__ must be set to a dictionary"));
        return -1;
    }
    // SAFETY: a live object.
    unsafe { ffi::Py_INCREF(value) };
    // SAFETY: a greenlet object.
    let old = unsafe { std::mem::replace(&mut (*object.cast::<Object>()).dict, value) };
    // SAFETY: owned until now, or NULL.
    unsafe { ffi::Py_XDECREF(old) };
    0
}
