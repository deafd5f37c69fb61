//! Calls into Python from a coroutine's base, and from native threads of ours.
//!
//! Up to CPython 3.13 a daemon thread that asks for the GIL while the interpreter goes down is
//! ended by `pthread_exit`, which unwinds its stack by force. Ours cannot be unwound: frames below
//! belong to other greenlets, and Rust frames would drop references without the GIL. So whatever
//! may wait for the GIL at the base of a stack of ours is called through a frame that, when
//! unwound, stops the thread for good. CPython 3.14 stops such threads by itself.

use std::{hint::black_box, mem};

use pyo3::{ffi, ffi::PyObject, prelude::*};

use crate::thread::finalizing;

unsafe extern "C-unwind" {
    fn PyObject_Call(
        callable: *mut PyObject,
        args: *mut PyObject,
        kwargs: *mut PyObject,
    ) -> *mut PyObject;
    fn PyEval_RestoreThread(ts: *mut ffi::PyThreadState);
    fn PyGILState_Ensure() -> ffi::PyGILState_STATE;
}

type Call =
    unsafe extern "C-unwind" fn(*mut PyObject, *mut PyObject, *mut PyObject) -> *mut PyObject;
type RestoreThread = unsafe extern "C-unwind" fn(*mut ffi::PyThreadState);
type Ensure = unsafe extern "C-unwind" fn() -> ffi::PyGILState_STATE;

/// Stops the thread when it is unwound through.
struct StopHere;

impl Drop for StopHere {
    fn drop(&mut self) {
        if !finalizing() {
            // Not the interpreter's doing: an exception of some other language is on its way to
            // somebody on another stack.
            eprintln!("greenlet: a foreign exception was about to leave a greenlet's function");
            std::process::abort();
        }
        loop {
            std::thread::park();
        }
    }
}

/// `callable(*args, **kwargs)`: a new reference, or NULL with an error set. `kwargs` may be NULL.
pub(crate) fn object(
    callable: *mut PyObject,
    args: *mut PyObject,
    kwargs: *mut PyObject,
) -> *mut PyObject {
    let stop = StopHere;
    // The compiler must not recognise the function: it is also declared as one that never unwinds,
    // and then the frame that stops would be optimised away.
    let call = black_box(PyObject_Call as Call);
    // SAFETY: live objects, a tuple, and a dict or NULL; the GIL is held.
    let result = unsafe { call(callable, args, kwargs) };
    mem::forget(stop);
    result
}

/// Takes the GIL again.
///
/// # Safety
/// `ts` is what `PyEval_SaveThread` gave on this thread.
pub(crate) unsafe fn restore_thread(ts: *mut ffi::PyThreadState) {
    let stop = StopHere;
    let restore = black_box(PyEval_RestoreThread as RestoreThread);
    // SAFETY: the caller's promise.
    unsafe { restore(ts) };
    mem::forget(stop);
}

/// Runs `body` with the GIL, on a native thread that Python did not start.
///
/// Python code in it is to be called by [`object`].
pub(crate) fn attached<R>(body: impl FnOnce(Python<'_>) -> R) -> R {
    let stop = StopHere;
    let ensure = black_box(PyGILState_Ensure as Ensure);
    // SAFETY: the interpreter was initialised, else nobody could have asked for this; the thread
    // does not return from here once it is finalised.
    let state = unsafe { ensure() };
    mem::forget(stop);
    let result = Python::attach(body);
    // SAFETY: the counterpart of the call above.
    unsafe { ffi::PyGILState_Release(state) };
    result
}
