//! CPython 3.12.
//!
//! Beside what every version moves:
//!
//! * `cframe`, a struct on the C stack (see `cframe`); it no longer says whether the thread is traced;
//! * `c_recursion_remaining`, how many nested C calls are left, a matter of the C stack (see `c_calls`);
//! * `trash.delete_nesting`, how deep deallocators are nested on this C stack.

use std::ffi::{c_int, c_void};

use pyo3::ffi::PyThreadState;

use super::Area;
use super::c_calls::{self, C_REMAINING};
use super::check::{self, Check};
use super::layout::{Field, Ts, header};

pub(super) use super::cframe::{CFrame as OnStack, FRAMES, innermost};

pub(super) const TRASH_NESTING: Ts<c_int> = Field::new(header::TS_TRASH_NESTING);

/// Nested C calls per MiB of stack. The greediest known, nested `sorted(key=...)`, takes 1670 bytes for each.
pub(super) const C_CALLS_PER_MIB: usize = 500;

pub(super) const CHECKS: &[Check] = &[
    ("c_recursion_remaining", c_calls::count_down),
    ("trash.delete_nesting", deallocators_count),
    ("cframe", check::cframe),
];

pub(super) struct Own {
    c_remaining: c_int,
    trash_nesting: c_int,
}

impl Own {
    pub(super) const NEW: Self = Self {
        c_remaining: 0,
        trash_nesting: 0,
    };

    /// # Safety
    /// `ts` is the current thread state.
    #[inline(always)]
    pub(super) unsafe fn save(&mut self, ts: *mut PyThreadState) {
        // SAFETY: the caller gives the current thread state.
        self.c_remaining = unsafe { C_REMAINING.get(ts) };
        // SAFETY: as above.
        self.trash_nesting = unsafe { TRASH_NESTING.get(ts) };
    }

    /// # Safety
    /// `ts` is the current thread state.
    #[inline(always)]
    pub(super) unsafe fn restore(&mut self, ts: *mut PyThreadState, _frames: *mut c_void) {
        // SAFETY: the caller gives the current thread state.
        unsafe { C_REMAINING.set(ts, self.c_remaining) };
        // SAFETY: as above.
        unsafe { TRASH_NESTING.set(ts, self.trash_nesting) };
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
pub(super) unsafe fn begin(ts: *mut PyThreadState, own: *mut OnStack, area: &Area) -> *mut c_void {
    // SAFETY: the caller gives memory and the current thread state.
    unsafe { super::cframe::lay_out(own, ts) };
    // SAFETY: as above.
    unsafe { C_REMAINING.set(ts, c_calls::budget(area)) };
    // SAFETY: as above.
    unsafe { TRASH_NESTING.set(ts, 0) };
    own.cast()
}

/// Returns a value of `FRAMES` that does not point to the ending greenlet's stack.
///
/// # Safety
/// None.
pub(super) unsafe fn end(ts: *mut PyThreadState) -> *mut c_void {
    super::cframe::root(ts).cast()
}

/// # Safety
/// `ts` is the current thread state.
unsafe fn deallocators_count(ts: *mut PyThreadState) -> bool {
    // SAFETY: the caller gives the current thread state.
    unsafe { check::trashcan(ts, TRASH_NESTING) }
}
