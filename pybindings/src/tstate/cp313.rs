//! CPython 3.13.
//!
//! Beside what every version moves:
//!
//! * `current_frame`, the innermost Python frame, now in the thread state itself. NULL for a greenlet that
//!   begins;
//! * `c_recursion_remaining`, how many nested C calls are left, a matter of the C stack (see `c_calls`). It also
//!   bounds nested deallocators now.
//!
//! `previous_executor` lives only between leaving one JIT trace and entering the next, where nothing switches.

use std::ffi::{c_int, c_void};
use std::ptr;

use pyo3::ffi::PyThreadState;

use super::Area;
use super::c_calls::{self, C_REMAINING};
use super::check::{self, Check};
use super::layout::{Field, Frame, Ts, header};

pub(super) const FRAMES: Ts<*mut c_void> = Field::new(header::TS_CURRENT_FRAME);

/// Nested C calls per MiB of stack. The greediest known, nested `sorted(key=...)`, takes 1300 bytes for each.
pub(super) const C_CALLS_PER_MIB: usize = 600;

pub(super) const CHECKS: &[Check] = &[
    ("c_recursion_remaining", c_calls::count_down),
    ("current_frame", check::current_frame),
];

/// Nothing needs a fixed address.
pub(super) type OnStack = ();

pub(super) struct Own {
    c_remaining: c_int,
}

impl Own {
    pub(super) const NEW: Self = Self { c_remaining: 0 };

    /// # Safety
    /// `ts` is the current thread state.
    #[inline(always)]
    pub(super) unsafe fn save(&mut self, ts: *mut PyThreadState) {
        // SAFETY: the caller gives the current thread state.
        self.c_remaining = unsafe { C_REMAINING.get(ts) };
    }

    /// # Safety
    /// `ts` is the current thread state.
    #[inline(always)]
    pub(super) unsafe fn restore(&mut self, ts: *mut PyThreadState, _frames: *mut c_void) {
        // SAFETY: the caller gives the current thread state.
        unsafe { C_REMAINING.set(ts, self.c_remaining) };
    }

    /// # Safety
    /// None.
    #[inline(always)]
    pub(super) unsafe fn restored(&mut self) {}

    /// # Safety
    /// None.
    pub(super) unsafe fn abandon(&mut self) {}
}

/// Sets up what only this version has, and returns the first value of `FRAMES`.
///
/// # Safety
/// As for `super::begin`.
pub(super) unsafe fn begin(ts: *mut PyThreadState, _own: *mut OnStack, area: &Area) -> *mut c_void {
    // SAFETY: the caller gives the current thread state.
    unsafe { C_REMAINING.set(ts, c_calls::budget(area)) };
    ptr::null_mut()
}

/// Returns a value of `FRAMES` that does not point to the ending greenlet's frames.
///
/// # Safety
/// None.
pub(super) unsafe fn end(_ts: *mut PyThreadState) -> *mut c_void {
    ptr::null_mut()
}

/// The innermost Python frame, given what `FRAMES` held.
///
/// # Safety
/// None.
pub(super) unsafe fn innermost(frames: *mut c_void) -> *mut Frame {
    frames.cast()
}
