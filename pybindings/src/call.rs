//! Calls into Python from a coroutine's base, and from native threads of ours.
//!
//! Up to CPython 3.13 a daemon thread that asks for the GIL while the interpreter goes down is
//! ended by `pthread_exit`, which unwinds its stack by force. Ours cannot be unwound: frames below
//! belong to other greenlets, and Rust frames would drop references without the GIL. So whatever
//! may wait for the GIL at the base of a stack of ours is called through a frame that tells the
//! unwinder, by a personality routine of its own, that it goes no further: the thread stops there for
//! good. CPython 3.14 stops such threads by itself.
//!
//! The same frame ends the search of a C++ exception for somebody to catch it, before it looks on
//! the stack of another greenlet. Nobody does, so the process ends with the exception's own words.

use std::{
    ffi::{c_int, c_void},
    mem,
};

use pyo3::{ffi, ffi::PyObject, prelude::*};

use crate::thread::finalizing;

/// What is called: up to three words in, one word out.
type Function = *const c_void;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
std::arch::global_asm!(
    ".pushsection .text.rgevent_call_at_base, \"ax\", @progbits",
    ".p2align 4",
    ".globl rgevent_call_at_base",
    ".hidden rgevent_call_at_base",
    ".type rgevent_call_at_base, @function",
    "rgevent_call_at_base:",
    ".cfi_startproc",
    // 0x1b: the address is relative to this place, four bytes.
    ".cfi_personality 0x1b, {personality}",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    "call rcx",
    "pop rbp",
    ".cfi_def_cfa rsp, 8",
    "ret",
    ".cfi_endproc",
    ".size rgevent_call_at_base, . - rgevent_call_at_base",
    ".popsection",
    personality = sym personality,
);

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
std::arch::global_asm!(
    ".pushsection .text.rgevent_call_at_base, \"ax\", @progbits",
    ".p2align 4",
    ".globl rgevent_call_at_base",
    ".hidden rgevent_call_at_base",
    ".type rgevent_call_at_base, @function",
    "rgevent_call_at_base:",
    ".cfi_startproc",
    // 0x1b: the address is relative to this place, four bytes.
    ".cfi_personality 0x1b, {personality}",
    "stp x29, x30, [sp, #-16]!",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset x29, -16",
    ".cfi_offset x30, -8",
    "mov x29, sp",
    ".cfi_def_cfa x29, 16",
    "blr x3",
    "ldp x29, x30, [sp], #16",
    ".cfi_restore x29",
    ".cfi_restore x30",
    ".cfi_def_cfa sp, 0",
    "ret",
    ".cfi_endproc",
    ".size rgevent_call_at_base, . - rgevent_call_at_base",
    ".popsection",
    personality = sym personality,
);

#[cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
unsafe extern "C" {
    /// Calls `function(first, second, third)` in a frame with our personality.
    fn rgevent_call_at_base(
        first: *mut c_void,
        second: *mut c_void,
        third: *mut c_void,
        function: Function,
    ) -> *mut c_void;
}

/// Elsewhere nothing unwinds a thread that ends.
#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
unsafe fn rgevent_call_at_base(
    first: *mut c_void,
    second: *mut c_void,
    third: *mut c_void,
    function: Function,
) -> *mut c_void {
    type Call = unsafe extern "C" fn(*mut c_void, *mut c_void, *mut c_void) -> *mut c_void;
    // SAFETY: the caller gives a function that can be called so.
    let function: Call = unsafe { mem::transmute(function) };
    // SAFETY: as above.
    unsafe { function(first, second, third) }
}

/// What the unwinder asks of our frame; see the Itanium C++ ABI, exception handling.
#[allow(dead_code)] // only Linux has the frame
extern "C" fn personality(
    _version: c_int,
    actions: c_int,
    _class: u64,
    _exception: *mut c_void,
    _context: *mut c_void,
) -> c_int {
    const FORCED_UNWIND: c_int = 8;
    const FATAL_ERROR_IN_SEARCH: c_int = 3;
    if actions & FORCED_UNWIND == 0 {
        // Nobody here or below will catch it: whoever threw it is told so.
        return FATAL_ERROR_IN_SEARCH;
    }
    if !finalizing() {
        eprintln!("greenlet: a native thread was ended by force in the middle of a greenlet");
        std::process::abort();
    }
    loop {
        std::thread::park();
    }
}

/// `callable(*args, **kwargs)`: a new reference, or NULL with an error set. `kwargs` may be NULL.
pub(crate) fn object(
    callable: *mut PyObject,
    args: *mut PyObject,
    kwargs: *mut PyObject,
) -> *mut PyObject {
    let function = ffi::PyObject_Call as Function;
    // SAFETY: live objects, a tuple, and a dict or NULL; the GIL is held.
    let result =
        unsafe { rgevent_call_at_base(callable.cast(), args.cast(), kwargs.cast(), function) };
    result.cast()
}

/// Takes the GIL again.
///
/// # Safety
/// `ts` is what `PyEval_SaveThread` gave on this thread.
pub(crate) unsafe fn restore_thread(ts: *mut ffi::PyThreadState) {
    let none = std::ptr::null_mut();
    let function = ffi::PyEval_RestoreThread as Function;
    // SAFETY: the caller's promise; what is in the result's place is not looked at.
    unsafe { rgevent_call_at_base(ts.cast(), none, none, function) };
}

/// Runs `body` with the GIL, on a native thread that Python did not start.
///
/// Python code in it is to be called by [`object`].
pub(crate) fn attached<R>(body: impl FnOnce(Python<'_>) -> R) -> R {
    let none = std::ptr::null_mut();
    let function = ffi::PyGILState_Ensure as Function;
    // SAFETY: the interpreter was initialised, else nobody could have asked for this; the thread
    // does not return from here once it is finalised.
    let state = unsafe { rgevent_call_at_base(none, none, none, function) };
    // SAFETY: an enum of the size of an int, which is what the function returned.
    let state: ffi::PyGILState_STATE = unsafe { mem::transmute(state.addr() as c_int) };
    let result = Python::attach(body);
    // SAFETY: the counterpart of the call above.
    unsafe { ffi::PyGILState_Release(state) };
    result
}
