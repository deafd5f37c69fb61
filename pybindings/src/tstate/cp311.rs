//! CPython 3.11.
//!
//! Beside what every version moves:
//!
//! * `cframe`, a struct on the C stack (see `cframe`). Its `use_tracing` says whether the thread is traced and
//!   is copied along from each struct to the next, so a switch must copy it too, or a greenlet would go on
//!   with the answer of the time it was suspended;
//! * `trash_delete_nesting`, how deep deallocators are nested on this C stack;
//! * `recursion_headroom`, raised while a RecursionError is made, where 3.11 may run the collector.
//!
//! One counter limits Python and C recursion alike, so the C stack has to be big enough for the limit.

use std::ffi::{c_int, c_void};

use pyo3::ffi::PyThreadState;

use super::Area;
use super::cframe::{CFRAME, CFrame};
use super::check::{self, Check};
use super::layout::{Field, PY_REMAINING, Ts, header};

pub(super) use super::cframe::{CFrame as OnStack, FRAMES, innermost};

pub(super) const TRASH_NESTING: Ts<c_int> = Field::new(header::TS_TRASH_NESTING);
const HEADROOM: Ts<c_int> = Field::new(header::TS_HEADROOM);
const USE_TRACING: Field<CFrame, u8> = Field::new(header::CFRAME_USE_TRACING);

pub(super) const CHECKS: &[Check] = &[
    ("recursion_remaining", recursive_calls_count),
    ("trash_delete_nesting", deallocators_count),
    ("cframe", check::cframe),
    ("use_tracing", use_tracing_is_a_flag),
];

pub(super) struct Own {
    trash_nesting: c_int,
    headroom: c_int,
}

impl Own {
    pub(super) const NEW: Self = Self {
        trash_nesting: 0,
        headroom: 0,
    };

    /// # Safety
    /// `ts` is the current thread state.
    #[inline(always)]
    pub(super) unsafe fn save(&mut self, ts: *mut PyThreadState) {
        // SAFETY: the caller gives the current thread state.
        self.trash_nesting = unsafe { TRASH_NESTING.get(ts) };
        // SAFETY: as above.
        self.headroom = unsafe { HEADROOM.get(ts) };
    }

    /// # Safety
    /// `ts` is the current thread state, still with the other greenlet's `FRAMES`; `frames` are the ones that
    /// will follow.
    #[inline(always)]
    pub(super) unsafe fn restore(&mut self, ts: *mut PyThreadState, frames: *mut c_void) {
        // SAFETY: the caller gives the current thread state.
        unsafe { TRASH_NESTING.set(ts, self.trash_nesting) };
        // SAFETY: as above.
        unsafe { HEADROOM.set(ts, self.headroom) };
        // SAFETY: as above; `frames` came from `FRAMES`.
        unsafe { carry_tracing(ts, frames.cast()) };
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
pub(super) unsafe fn begin(ts: *mut PyThreadState, own: *mut OnStack, _area: &Area) -> *mut c_void {
    // SAFETY: the caller gives memory and the current thread state.
    unsafe { super::cframe::lay_out(own, ts) };
    // SAFETY: as above.
    unsafe { carry_tracing(ts, own) };
    // SAFETY: as above.
    unsafe { TRASH_NESTING.set(ts, 0) };
    // SAFETY: as above.
    unsafe { HEADROOM.set(ts, 0) };
    own.cast()
}

/// Returns a value of `FRAMES` that does not point to the ending greenlet's stack.
///
/// # Safety
/// `ts` is the current thread state.
pub(super) unsafe fn end(ts: *mut PyThreadState) -> *mut c_void {
    let root = super::cframe::root(ts);
    // SAFETY: the caller gives the current thread state; the next `restore` reads the flag from here.
    unsafe { carry_tracing(ts, root) };
    root.cast()
}

/// Copies the tracing flag from the running greenlet's struct to `to`.
///
/// # Safety
/// `ts` is the current thread state, `to` a valid struct.
#[inline(always)]
unsafe fn carry_tracing(ts: *mut PyThreadState, to: *mut CFrame) {
    // SAFETY: the caller gives the current thread state.
    let from = unsafe { CFRAME.get(ts) };
    // SAFETY: `cframe` is never NULL and points to a live struct.
    let tracing = unsafe { USE_TRACING.get(from) };
    // SAFETY: the caller gives a valid struct.
    unsafe { USE_TRACING.set(to, tracing) };
}

/// # Safety
/// `ts` is the current thread state.
unsafe fn recursive_calls_count(ts: *mut PyThreadState) -> bool {
    // SAFETY: the caller gives the current thread state.
    unsafe { check::recursive_call(ts, PY_REMAINING) }
}

/// # Safety
/// `ts` is the current thread state.
unsafe fn deallocators_count(ts: *mut PyThreadState) -> bool {
    // SAFETY: the caller gives the current thread state.
    unsafe { check::trashcan(ts, TRASH_NESTING) }
}

/// # Safety
/// `ts` is the current thread state and its `cframe` has been checked.
unsafe fn use_tracing_is_a_flag(ts: *mut PyThreadState) -> bool {
    // SAFETY: the caller gives the current thread state.
    let cframe = unsafe { CFRAME.get(ts) };
    // SAFETY: checked before.
    matches!(unsafe { USE_TRACING.get(cframe) }, 0 | 255)
}
