//! Proof, at import, that the compiled-in offsets fit the interpreter that runs.
//!
//! An extension built for one patch release is loaded by others. Every offset that a switch uses is therefore
//! tried: a value that a public function also gives, or one that changes as a public function says. All is put
//! back as it was. A wrong layout ends in an ImportError, never in a switch.

#[cfg(any(cp311, cp312, cp313))]
use std::ffi::c_int;

use pyo3::ffi;
use pyo3::ffi::{PyObject, PyThreadState};

#[cfg(any(cp311, cp312, cp313))]
use super::layout::Ts;
use super::layout::{
    CHUNK, CHUNK_LIMIT, CHUNK_TOP, CONTEXT, CONTEXT_VER, EXC_INFO, EXC_STATE, FRAME_OBJECT,
    FRAME_OBJECT_FRAME, Frame, ID, INTERP, PY_LIMIT, PY_REMAINING, THREAD_ID, header,
};
use super::{chunk, version};

/// What is checked, and the function that says whether it is as expected. All take the current thread state.
pub(super) type Check = (&'static str, unsafe fn(*mut PyThreadState) -> bool);

/// In this order: a check may rely on those before it.
const CHECKS: &[Check] = &[
    ("the version", is_version),
    ("interp", is_interp),
    ("thread_id", is_thread_id),
    ("id", is_id),
    ("recursion_limit", is_limit),
    ("the recursion counter", limit_moves_remaining),
    ("exc_info", exceptions_end_in_exc_state),
    ("exc_value", handled_exception_shows),
    ("context", entered_context_shows),
    ("datastack_chunk", chunk_has_its_size),
    ("__qualname__ of a function", function_knows_its_name),
];

/// Nested generators that handle exceptions, far more than any stack holds.
const EXC_ITEMS_MAX: usize = 1 << 20;
const CHUNK_BYTES_MIN: usize = 1 << 12;
const CHUNK_BYTES_MAX: usize = 1 << 32;

/// Verifies every compiled-in offset against the running interpreter, and finds those that are not compiled in.
/// To be called at import, before anything else here; the error is a clause that names what did not fit. If all
/// fits, frame memory in stack slots is shielded from CPython's exit (see `chunk`).
///
/// # Safety
/// `ts` is the current thread state and the GIL is held; no error is set.
pub(crate) unsafe fn check_layout(ts: *mut PyThreadState) -> Result<(), String> {
    for (what, holds) in CHECKS.iter().chain(version::CHECKS) {
        // SAFETY: the caller gives the current thread state; earlier checks held.
        if !unsafe { holds(ts) } {
            // SAFETY: the GIL is held; a check that could not be made may have left an error.
            unsafe { ffi::PyErr_Clear() };
            return Err(format!(
                "{what} of the thread state is not where the headers of CPython 3.{} have it",
                header::PY_MINOR,
            ));
        }
    }
    // SAFETY: the caller holds the GIL.
    unsafe { chunk::guard_slots() };
    Ok(())
}

unsafe fn is_version(_ts: *mut PyThreadState) -> bool {
    // SAFETY: a constant of the interpreter.
    usize::try_from(unsafe { ffi::Py_Version } >> 16) == Ok(0x300 + header::PY_MINOR)
}

/// Not of the thread state, but compiled in as well.
unsafe fn function_knows_its_name(_ts: *mut PyThreadState) -> bool {
    // SAFETY: (this and the calls below) the GIL is held; objects are new or NULL, as checked.
    let code = unsafe { ffi::PyCode_NewEmpty(c"".as_ptr(), c"name".as_ptr(), 1) };
    // SAFETY: as above.
    let globals = unsafe { ffi::PyDict_New() };
    if code.is_null() || globals.is_null() {
        return false;
    }
    // SAFETY: as above.
    let function = unsafe { ffi::PyFunction_New(code.cast(), globals) };
    if function.is_null() {
        return false;
    }
    // SAFETY: as above.
    let name = unsafe { ffi::PyObject_GetAttrString(function, c"__qualname__".as_ptr()) };
    // SAFETY: a live function.
    let found = unsafe { super::function_qualname(function) };
    for object in [name, function, globals, code.cast()] {
        // SAFETY: owned, or NULL.
        unsafe { ffi::Py_XDECREF(object) };
    }
    found == name
}

unsafe fn is_interp(ts: *mut PyThreadState) -> bool {
    // SAFETY: the current thread state.
    let interp = unsafe { ffi::PyThreadState_GetInterpreter(ts) };
    // SAFETY: as above.
    interp == unsafe { INTERP.get(ts) }
}

unsafe fn is_thread_id(ts: *mut PyThreadState) -> bool {
    // SAFETY: always callable.
    let thread = unsafe { ffi::PyThread_get_thread_ident() };
    // SAFETY: the current thread state.
    thread == unsafe { THREAD_ID.get(ts) }
}

unsafe fn is_id(ts: *mut PyThreadState) -> bool {
    // SAFETY: the current thread state.
    let id = unsafe { ffi::PyThreadState_GetID(ts) };
    // SAFETY: as above.
    u64::try_from(id) == Ok(unsafe { ID.get(ts) })
}

unsafe fn is_limit(ts: *mut PyThreadState) -> bool {
    // SAFETY: the GIL is held.
    let limit = unsafe { ffi::Py_GetRecursionLimit() };
    // SAFETY: the current thread state.
    limit == unsafe { PY_LIMIT.get(ts) }
}

/// Raising the limit by one raises what remains by one.
unsafe fn limit_moves_remaining(ts: *mut PyThreadState) -> bool {
    // SAFETY: (all accesses) the current thread state, GIL held.
    let limit = unsafe { PY_LIMIT.get(ts) };
    // SAFETY: as above.
    let before = unsafe { PY_REMAINING.get(ts) };
    // SAFETY: as above.
    unsafe { ffi::Py_SetRecursionLimit(limit + 1) };
    // SAFETY: as above.
    let after = unsafe { PY_REMAINING.get(ts) };
    // SAFETY: as above.
    unsafe { ffi::Py_SetRecursionLimit(limit) };
    (0..=limit).contains(&(limit - before)) && after == before + 1
}

unsafe fn exceptions_end_in_exc_state(ts: *mut PyThreadState) -> bool {
    // SAFETY: the current thread state.
    let mut item = unsafe { EXC_INFO.get(ts) };
    for _ in 0..EXC_ITEMS_MAX {
        if item.is_null() || !item.is_aligned() {
            return false;
        }
        if item == EXC_STATE.address(ts) {
            return true;
        }
        // SAFETY: the list of items; its head is in a field between others that have been checked.
        item = unsafe { (*item).previous };
    }
    false
}

/// An exception marked as handled appears in the first item.
unsafe fn handled_exception_shows(ts: *mut PyThreadState) -> bool {
    // SAFETY: (all calls) GIL held; references are given back below.
    let old = unsafe { ffi::PyErr_GetHandledException() };
    // SAFETY: as above.
    let class = unsafe { ffi::PyExc_Exception };
    // SAFETY: as above.
    let marker = unsafe { ffi::PyObject_CallNoArgs(class) };
    if marker.is_null() {
        return false;
    }
    // SAFETY: as above.
    unsafe { ffi::PyErr_SetHandledException(marker) };
    // SAFETY: the current thread state.
    let item = unsafe { EXC_INFO.get(ts) };
    // SAFETY: checked before.
    let shown = unsafe { (*item).value };
    // SAFETY: as above.
    unsafe { ffi::PyErr_SetHandledException(old) };
    // SAFETY: as above.
    unsafe { ffi::Py_DECREF(marker) };
    // SAFETY: as above.
    unsafe { ffi::Py_XDECREF(old) };
    shown == marker
}

/// Entering a context sets it and counts.
unsafe fn entered_context_shows(ts: *mut PyThreadState) -> bool {
    // SAFETY: (all calls and accesses) the current thread state, GIL held.
    let context = unsafe { ffi::PyContext_New() };
    if context.is_null() {
        return false;
    }
    // SAFETY: as above.
    let old = unsafe { CONTEXT.get(ts) };
    // SAFETY: as above.
    let version = unsafe { CONTEXT_VER.get(ts) };
    // SAFETY: as above.
    let entered = unsafe { ffi::PyContext_Enter(context) } == 0;
    // SAFETY: as above.
    let inside = unsafe { CONTEXT.get(ts) };
    // SAFETY: as above.
    let inside_version = unsafe { CONTEXT_VER.get(ts) };
    // SAFETY: as above.
    let left = entered && unsafe { ffi::PyContext_Exit(context) } == 0;
    // SAFETY: as above.
    let after = unsafe { CONTEXT.get(ts) };
    // SAFETY: as above.
    unsafe { ffi::Py_DECREF(context) };
    left && inside == context && inside_version == version.wrapping_add(1) && after == old
}

unsafe fn chunk_has_its_size(ts: *mut PyThreadState) -> bool {
    // SAFETY: (all accesses) the current thread state.
    let chunk = unsafe { CHUNK.get(ts) };
    // SAFETY: as above.
    let top = unsafe { CHUNK_TOP.get(ts) }.addr();
    // SAFETY: as above.
    let limit = unsafe { CHUNK_LIMIT.get(ts) }.addr();
    if chunk.is_null() {
        return top == 0 && limit == 0;
    }
    let bytes = limit.wrapping_sub(chunk.addr());
    chunk.is_aligned()
        && (CHUNK_BYTES_MIN..=CHUNK_BYTES_MAX).contains(&bytes)
        && (chunk.addr()..=limit).contains(&top)
        // SAFETY: an aligned address that starts a block of the right size.
        && unsafe { (*chunk).size } == bytes
}

/// Whether `Py_EnterRecursiveCall` counts down `counter`.
///
/// # Safety
/// `ts` is the current thread state and the GIL is held.
#[cfg(any(cp311, cp312, cp313))]
pub(super) unsafe fn recursive_call(ts: *mut PyThreadState, counter: Ts<c_int>) -> bool {
    // SAFETY: (all) the current thread state, GIL held.
    let before = unsafe { counter.get(ts) };
    // SAFETY: as above.
    if unsafe { ffi::Py_EnterRecursiveCall(c"".as_ptr()) } != 0 {
        return false;
    }
    // SAFETY: as above.
    let inside = unsafe { counter.get(ts) };
    // SAFETY: as above.
    unsafe { ffi::Py_LeaveRecursiveCall() };
    inside == before - 1
}

/// Whether entering a deallocator counts up `nesting`.
///
/// # Safety
/// `ts` is the current thread state and the GIL is held.
#[cfg(any(cp311, cp312))]
pub(super) unsafe fn trashcan(ts: *mut PyThreadState, nesting: Ts<c_int>) -> bool {
    unsafe extern "C" {
        fn _PyTrash_begin(ts: *mut PyThreadState, op: *mut PyObject) -> c_int;
        fn _PyTrash_end(ts: *mut PyThreadState);
    }
    // The count at which the trashcan would keep the object.
    const UNWIND_LEVEL: c_int = 50;
    // SAFETY: (all) the current thread state, GIL held.
    let before = unsafe { nesting.get(ts) };
    // An import from within that many deallocators cannot be told from a wrong offset.
    if !(0..UNWIND_LEVEL).contains(&before) {
        return false;
    }
    // SAFETY: as above; below the limit, so the object is not touched.
    if unsafe { _PyTrash_begin(ts, std::ptr::null_mut()) } != 0 {
        return false;
    }
    // SAFETY: as above.
    let inside = unsafe { nesting.get(ts) };
    // SAFETY: as above, in pair with the call above.
    unsafe { _PyTrash_end(ts) };
    inside == before + 1
}

/// Whether `tstate->cframe` points to a struct on the C stack, or to the root, that leads to the running frame.
///
/// # Safety
/// `ts` is the current thread state and the GIL is held.
#[cfg(any(cp311, cp312))]
pub(super) unsafe fn cframe(ts: *mut PyThreadState) -> bool {
    use super::cframe::{CFRAME, CURRENT_FRAME, root};
    /// Larger than any stack.
    const STACK_BYTES_MAX: usize = 1 << 36;
    // SAFETY: the current thread state.
    let cframe = unsafe { CFRAME.get(ts) };
    let here = (&raw const cframe).addr();
    if !cframe.is_aligned() || cframe != root(ts) && cframe.addr().abs_diff(here) > STACK_BYTES_MAX
    {
        return false;
    }
    // SAFETY: an aligned address on a stack of this process, or in the thread state.
    let running = unsafe { CURRENT_FRAME.get(cframe) };
    // SAFETY: the caller's promises.
    unsafe { is_running(ts, running) }
}

/// Whether `tstate->current_frame` is the running frame.
///
/// # Safety
/// `ts` is the current thread state and the GIL is held.
#[cfg(not(any(cp311, cp312)))]
pub(super) unsafe fn current_frame(ts: *mut PyThreadState) -> bool {
    // SAFETY: the current thread state.
    let running = unsafe { version::FRAMES.get(ts) }.cast();
    // SAFETY: the caller's promises.
    unsafe { is_running(ts, running) }
}

/// Compares `running` with the frame that the object from `PyThreadState_GetFrame` stands for. An import is
/// always called by Python code, so that object exists, unless a program embeds Python and has no code running.
///
/// # Safety
/// `ts` is the current thread state and the GIL is held.
unsafe fn is_running(ts: *mut PyThreadState, running: *mut Frame) -> bool {
    // SAFETY: the current thread state, GIL held.
    let object: *mut PyObject = unsafe { ffi::PyThreadState_GetFrame(ts) }.cast();
    if object.is_null() {
        return true;
    }
    // SAFETY: a frame object; the field is within the part that all releases share.
    let holds = unsafe { FRAME_OBJECT_FRAME.get(object) } == running
        // SAFETY: just seen to be a running frame.
        && unsafe { FRAME_OBJECT.get(running) } == object;
    // SAFETY: our reference, GIL held.
    unsafe { ffi::Py_DECREF(object) };
    holds
}
