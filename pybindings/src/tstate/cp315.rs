//! CPython 3.15.
//!
//! As 3.14, but the list of Python frames ends in a marker inside the thread state, `base_frame`, and a
//! greenlet's list ends there too: sampling profilers take any other end for a broken read.

use std::ffi::c_void;

use pyo3::ffi::PyThreadState;

use super::Area;
use super::check::Check;
use super::cp314;
use super::layout::{EXC_STATE, ExcItem, Field, Ts, header};

pub(super) use super::cp314::{FRAMES, OnStack, Own, innermost};

pub(super) const BASE_FRAME: Ts<*mut c_void> = Field::new(header::TS_BASE_FRAME);
/// How far behind the public part of the thread state the marker is looked for.
const BASE_FRAME_AFTER_MAX: usize = 1024;

pub(super) const CHECKS: &[Check] = &[
    cp314::CHECKS[0],
    cp314::CHECKS[1],
    cp314::CHECKS[2],
    ("base_frame", base_frame_is_in_the_thread_state),
];

/// Sets up what this version has, and returns the first value of `FRAMES`.
///
/// # Safety
/// As for `super::begin`.
pub(super) unsafe fn begin(ts: *mut PyThreadState, own: *mut OnStack, area: &Area) -> *mut c_void {
    // SAFETY: the caller's promises are the same.
    unsafe { cp314::begin(ts, own, area) };
    // SAFETY: the caller gives the current thread state.
    unsafe { BASE_FRAME.get(ts) }
}

/// Returns a value of `FRAMES` that does not point to the ending greenlet's frames.
///
/// # Safety
/// `ts` is the current thread state.
pub(super) unsafe fn end(ts: *mut PyThreadState) -> *mut c_void {
    // SAFETY: the caller's promises are the same.
    unsafe { cp314::end(ts) };
    // SAFETY: the caller gives the current thread state.
    unsafe { BASE_FRAME.get(ts) }
}

/// # Safety
/// `ts` is the current thread state.
unsafe fn base_frame_is_in_the_thread_state(ts: *mut PyThreadState) -> bool {
    // SAFETY: the caller gives the current thread state.
    let base = unsafe { BASE_FRAME.get(ts) }.addr();
    let behind = EXC_STATE.address(ts).wrapping_add(1).addr();
    base.is_multiple_of(align_of::<ExcItem>())
        && (behind..behind + BASE_FRAME_AFTER_MAX).contains(&base)
}
