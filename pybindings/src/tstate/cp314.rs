//! CPython 3.14. 3.15 uses all of this but the first frame.
//!
//! Beside what every version moves:
//!
//! * `current_frame`, the innermost Python frame. NULL for a greenlet that begins;
//! * the limits of the C stack, which replaced the count of C calls (see `c_stack`);
//! * `current_executor`, the JIT trace being run. The thread state does not own it: CPython keeps an executor
//!   that nobody refers to any more only as long as some thread state names it, so a suspended greenlet has to
//!   hold a reference. Always NULL without the JIT;
//! * the running asyncio loop, with a greenlet that parks in the hub (see `running_loop`).

use std::ffi::c_void;
use std::ptr;

use pyo3::ffi;
use pyo3::ffi::{PyObject, PyThreadState};

use super::Area;
use super::c_stack::{self, CStack};
use super::check::{self, Check};
use super::layout::{Field, Frame, Ts, header};
use super::running_loop::{self, RunningLoop};

pub(super) const FRAMES: Ts<*mut c_void> = Field::new(header::TS_CURRENT_FRAME);
const CURRENT_EXECUTOR: Ts<*mut PyObject> = Field::new(header::TS_CURRENT_EXECUTOR);

pub(super) const CHECKS: &[Check] = &[
    ("current_frame", check::current_frame),
    ("the C stack limits", c_stack::find),
    ("asyncio_running_loop", running_loop::is_followed_by_tasks),
];

/// Nothing needs a fixed address.
pub(super) type OnStack = ();

pub(super) struct Own {
    stack: CStack,
    /// Owned while suspended.
    executor: *mut PyObject,
    /// Set while parked, if a loop runs.
    pub(super) running_loop: RunningLoop,
}

impl Own {
    pub(super) const NEW: Self = Self {
        stack: CStack::UNKNOWN,
        executor: ptr::null_mut(),
        running_loop: RunningLoop::NONE,
    };

    /// # Safety
    /// `ts` is the current thread state.
    #[inline(always)]
    pub(super) unsafe fn save(&mut self, ts: *mut PyThreadState) {
        // SAFETY: the caller gives the current thread state.
        self.stack = unsafe { CStack::read(ts) };
        // SAFETY: as above.
        self.executor = unsafe { CURRENT_EXECUTOR.get(ts) };
        // SAFETY: NULL, or alive because the thread state names it.
        unsafe { ffi::Py_XINCREF(self.executor) };
    }

    /// # Safety
    /// `ts` is the current thread state, `self` was saved from it.
    #[inline(always)]
    pub(super) unsafe fn restore(&mut self, ts: *mut PyThreadState, _frames: *mut c_void) {
        // SAFETY: the caller gives the current thread state.
        unsafe { self.stack.write(ts) };
        // SAFETY: as above.
        unsafe { CURRENT_EXECUTOR.set(ts, self.executor) };
    }

    /// Lets go of the executor once the thread state names it again. An executor's deallocation runs no Python
    /// code.
    ///
    /// # Safety
    /// `restore` was called just before.
    #[inline(always)]
    pub(super) unsafe fn restored(&mut self) {
        // SAFETY: NULL, or a reference that `save` took.
        unsafe { ffi::Py_XDECREF(self.executor) };
    }

    /// The running loop's references are leaked, as those in the frames are.
    ///
    /// # Safety
    /// The GIL is held, and `self` was saved and not restored.
    pub(super) unsafe fn abandon(&mut self) {
        // SAFETY: NULL, or a reference that `save` took.
        unsafe { ffi::Py_XDECREF(self.executor) };
    }
}

/// Sets up what these versions have, and returns the first value of `FRAMES`.
///
/// # Safety
/// As for `super::begin`.
pub(super) unsafe fn begin(ts: *mut PyThreadState, _own: *mut OnStack, area: &Area) -> *mut c_void {
    // SAFETY: the caller gives the current thread state and the bounds of the stack that runs.
    unsafe { CStack::of(area).write(ts) };
    // SAFETY: as above.
    unsafe { CURRENT_EXECUTOR.set(ts, ptr::null_mut()) };
    ptr::null_mut()
}

/// Returns a value of `FRAMES` that does not point to the ending greenlet's frames.
///
/// # Safety
/// `ts` is the current thread state.
pub(super) unsafe fn end(ts: *mut PyThreadState) -> *mut c_void {
    // SAFETY: the caller gives the current thread state.
    unsafe { CURRENT_EXECUTOR.set(ts, ptr::null_mut()) };
    ptr::null_mut()
}

/// The innermost Python frame, given what `FRAMES` held.
///
/// # Safety
/// None.
pub(super) unsafe fn innermost(frames: *mut c_void) -> *mut Frame {
    frames.cast()
}

/// No public function shows the executor, but it directly follows a field whose place is checked at import.
const _: () = assert!(
    header::TS_CURRENT_EXECUTOR == header::TS_EXC_STATE + size_of::<super::layout::ExcItem>()
);
