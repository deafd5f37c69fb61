//! `switch` and `throw` as Python calls them: from arguments to payloads.

use std::ptr;

use pyo3::{
    exceptions::{PyRuntimeError, PyTypeError},
    ffi,
    ffi::PyObject,
    prelude::*,
};
use rgevent_runtime::coroutine::prefetch_stack;

use super::{
    object::{GreenletRef, Phase},
    switch::{go, jump},
};
use crate::{
    errors,
    thread::{Payload, PyThread, finalizing},
};

/// The token of the GIL, which is held in every slot function.
pub(super) fn attached<'py>() -> Python<'py> {
    // SAFETY: the interpreter calls slots with the GIL held, and the token does not leave the slot.
    unsafe { Python::assume_attached() }
}

/// The running greenlet: a new reference.
pub(crate) fn getcurrent(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    if finalizing() {
        return Err(PyRuntimeError::new_err("greenlet is being finalized"));
    }
    let thread = PyThread::current_or_new(py)?;
    if thread.attention.get() {
        thread.unwind_deferred();
    }
    Ok(thread.current().bound(py))
}

pub(super) unsafe extern "C" fn switch(
    object: *mut PyObject,
    args: *const *mut PyObject,
    count: ffi::Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    let target = GreenletRef::new(object);
    let state = target.state();
    prefetch_stack(state.parked_at.get());
    if names.is_null()
        && count <= 1
        && state.phase.get() == Phase::Active
        && let Some(thread) = PyThread::try_current()
        && !thread.attention.get()
        && state.thread.get().is_some_and(|home| ptr::eq(home, thread))
    {
        let value = if count == 0 {
            // SAFETY: the GIL is held; this is the shared empty tuple.
            unsafe { ffi::PyTuple_New(0) }
        } else {
            // SAFETY: `args` has `count` items.
            let only = unsafe { *args };
            // SAFETY: a live object.
            unsafe { ffi::Py_INCREF(only) };
            only
        };
        if thread.current() == target {
            return value;
        }
        return jump(thread, target, Payload::Value(value));
    }
    // SAFETY: as the interpreter passed them.
    let Some((args, kwargs)) = (unsafe { collect_arguments(args, count, names) }) else {
        return ptr::null_mut();
    };
    switch_to(target, Payload::Call(args, kwargs))
}

/// A tuple, and a dict or NULL, of a vector call's arguments; None with an error set.
pub(super) unsafe fn collect_arguments(
    args: *const *mut PyObject,
    count: ffi::Py_ssize_t,
    names: *mut PyObject,
) -> Option<(*mut PyObject, *mut PyObject)> {
    // SAFETY: the GIL is held.
    let tuple = unsafe { ffi::PyTuple_New(count) };
    if tuple.is_null() {
        return None;
    }
    for index in 0..count {
        // SAFETY: `args` has `count` items.
        let item = unsafe { args.wrapping_offset(index).read() };
        // SAFETY: a live object.
        unsafe { ffi::Py_INCREF(item) };
        // SAFETY: a fresh tuple, which takes the reference over.
        unsafe { ffi::PyTuple_SetItem(tuple, index, item) };
    }
    let mut kwargs = ptr::null_mut();
    if !names.is_null() {
        // SAFETY: the GIL is held.
        kwargs = unsafe { ffi::PyDict_New() };
        // SAFETY: a tuple of names.
        let named = unsafe { ffi::PyTuple_Size(names) };
        for index in 0..named {
            // SAFETY: it has `named` items; borrowed.
            let name = unsafe { ffi::PyTuple_GetItem(names, index) };
            // SAFETY: the values follow the positional arguments.
            let value = unsafe { args.wrapping_offset(count + index).read() };
            // SAFETY: a dict (or NULL, which fails) and live objects.
            if kwargs.is_null() || unsafe { ffi::PyDict_SetItem(kwargs, name, value) } != 0 {
                Payload::Call(tuple, kwargs).drop_refs();
                return None;
            }
        }
    }
    Some((tuple, kwargs))
}

pub(super) unsafe extern "C" fn throw(
    object: *mut PyObject,
    args: *mut *mut PyObject,
    count: ffi::Py_ssize_t,
) -> *mut PyObject {
    if count > 3 {
        return errors::raise(PyTypeError::new_err(format!(
            "throw expected at most 3 arguments, got {count}"
        )));
    }
    let argument = |index: ffi::Py_ssize_t| {
        if index < count {
            // SAFETY: `args` has `count` items.
            unsafe { args.wrapping_offset(index).read() }
        } else {
            ptr::null_mut()
        }
    };
    let kind = match argument(0) {
        kind if kind.is_null() => crate::globals::globals().greenlet_exit,
        kind => kind,
    };
    throw_into(GreenletRef::new(object), kind, argument(1), argument(2))
}

/// `target.throw(kind, value, trace)`, of which the last two may be NULL.
pub(super) fn throw_into(
    target: GreenletRef,
    kind: *mut PyObject,
    value: *mut PyObject,
    trace: *mut PyObject,
) -> *mut PyObject {
    let exception = exception_from(kind, value, trace);
    if exception.is_null() {
        return ptr::null_mut();
    }
    switch_to(target, Payload::Throw(exception))
}

/// Switches by the rules, with a payload whose references are taken over.
pub(super) fn switch_to(target: GreenletRef, payload: Payload) -> *mut PyObject {
    match PyThread::current_or_new(attached()) {
        Ok(thread) => go(thread, target, payload),
        Err(error) => {
            payload.drop_refs();
            errors::raise(error)
        }
    }
}

/// Checks the three arguments of `throw` (the last two may be NULL) and makes the exception: a new
/// reference, or NULL with an error set. An error while the class is called is the exception.
pub(crate) fn exception_from(
    kind: *mut PyObject,
    value: *mut PyObject,
    trace: *mut PyObject,
) -> *mut PyObject {
    let py = attached();
    // SAFETY: a live object or NULL.
    let given = |object: *mut PyObject| !object.is_null() && object != unsafe { ffi::Py_None() };
    // SAFETY: a live object.
    if given(trace) && unsafe { ffi::PyTraceBack_Check(trace) } == 0 {
        return errors::raise(PyTypeError::new_err(
            "throw() third argument must be a traceback object",
        ));
    }
    // SAFETY: a live object.
    let exception = if unsafe { ffi::PyExceptionClass_Check(kind) } != 0 {
        let value = if given(value) { value } else { ptr::null_mut() };
        // SAFETY: a live object or NULL.
        let is_instance = !value.is_null() && unsafe { ffi::PyExceptionInstance_Check(value) } != 0;
        // SAFETY: live objects.
        if is_instance && unsafe { ffi::PyObject_IsInstance(value, kind) } == 1 {
            // SAFETY: a live object.
            unsafe { ffi::Py_INCREF(value) };
            value
        } else {
            instantiate(kind, value)
        }
    // SAFETY: a live object.
    } else if unsafe { ffi::PyExceptionInstance_Check(kind) } != 0 {
        if given(value) {
            return errors::raise(PyTypeError::new_err(
                "instance exception may not have a separate value",
            ));
        }
        // SAFETY: a live object.
        unsafe { ffi::Py_INCREF(kind) };
        kind
    } else {
        // SAFETY: a live object.
        let kind = unsafe { Bound::from_borrowed_ptr(py, kind) };
        let name = kind.get_type().name().map(|name| name.to_string());
        return errors::raise(PyTypeError::new_err(format!(
            "exceptions must be classes, or instances, not {}",
            name.unwrap_or_default()
        )));
    };
    if given(trace) && !exception.is_null() {
        // SAFETY: an exception and a traceback.
        unsafe { ffi::PyException_SetTraceback(exception, trace) };
    }
    exception
}

/// Calls an exception class with no, one or a tuple of arguments, as `raise` does.
fn instantiate(kind: *mut PyObject, value: *mut PyObject) -> *mut PyObject {
    let exception = if value.is_null() {
        // SAFETY: a live object.
        unsafe { ffi::PyObject_CallNoArgs(kind) }
    // SAFETY: a live object.
    } else if unsafe { ffi::PyTuple_Check(value) } != 0 {
        // SAFETY: live objects.
        unsafe { ffi::PyObject_Call(kind, value, ptr::null_mut()) }
    } else {
        // SAFETY: live objects, and the NULL that ends them.
        unsafe { ffi::PyObject_CallFunctionObjArgs(kind, value, ptr::null_mut::<PyObject>()) }
    };
    if exception.is_null() {
        return errors::take();
    }
    // SAFETY: a live object.
    if unsafe { ffi::PyExceptionInstance_Check(exception) } == 0 {
        // SAFETY: a new reference from above.
        unsafe { ffi::Py_DECREF(exception) };
        errors::raise(PyTypeError::new_err(
            "calling an exception class should have returned an instance of BaseException",
        ));
        return errors::take();
    }
    exception
}

pub(super) unsafe extern "C" fn getstate(object: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    let name = GreenletRef::new(object)
        .bound(attached())
        .get_type()
        .fully_qualified_name();
    errors::raise(PyTypeError::new_err(format!(
        "cannot serialize '{}' object",
        name.map(|name| name.to_string()).unwrap_or_default()
    )))
}
