//! How many nested C calls a greenlet's stack allows, on 3.12 and 3.13.
//!
//! These versions count C calls and stop at a number that suits the stack of a thread. A greenlet's stack is
//! smaller, so its count starts at what fits. The main greenlet keeps the count of its thread.

use std::ffi::c_int;

use pyo3::ffi::PyThreadState;

use super::layout::{Field, Ts, header};
use super::{Area, check, version};

pub(super) const C_REMAINING: Ts<c_int> = Field::new(header::TS_C_REMAINING);

/// Deallocators are deferred when fewer than 50 calls remain, and caught up with only above 100.
const C_CALLS_MIN: usize = 200;
const MIB: usize = 1 << 20;

/// What a greenlet on this stack starts with.
pub(super) fn budget(area: &Area) -> c_int {
    let stack_bytes = area.stack_base - area.stack_low;
    let fitting = stack_bytes.saturating_mul(version::C_CALLS_PER_MIB) / MIB;
    let calls = fitting.clamp(C_CALLS_MIN, header::C_CALLS_MAX);
    c_int::try_from(calls).unwrap_or(c_int::MAX)
}

/// # Safety
/// `ts` is the current thread state.
pub(super) unsafe fn count_down(ts: *mut PyThreadState) -> bool {
    // SAFETY: the caller gives the current thread state.
    unsafe { check::recursive_call(ts, C_REMAINING) }
}
