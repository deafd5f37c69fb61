//! `_PyCFrame`, which 3.11 and 3.12 thread through the C stack.
//!
//! Each run of the interpreter loop has one on the C stack, linked to the one before; `tstate->cframe` is the
//! newest, and it points to the innermost Python frame. With a C stack per greenlet the list stays where it
//! is: moving `tstate->cframe` moves all. A greenlet begins with a struct of its own, linked to the thread
//! state's `root_cframe` as every list of them is.

use std::ffi::c_void;
use std::mem::size_of;

use pyo3::ffi::PyThreadState;

use super::layout::{Field, Frame, Ts, header};

/// Opaque but for the fields below.
#[repr(C)]
pub(crate) struct CFrame([usize; header::CFRAME_SIZE / size_of::<usize>()]);

pub(super) const CFRAME: Ts<*mut CFrame> = Field::new(header::TS_CFRAME);
/// The same field as the common code sees it.
pub(super) const FRAMES: Ts<*mut c_void> = Field::new(header::TS_CFRAME);
pub(super) const ROOT_CFRAME: Field<PyThreadState, [usize; 2]> = Field::new(header::TS_ROOT_CFRAME);
pub(super) const CURRENT_FRAME: Field<CFrame, *mut Frame> =
    Field::new(header::CFRAME_CURRENT_FRAME);
pub(super) const PREVIOUS: Field<CFrame, *mut CFrame> = Field::new(header::CFRAME_PREVIOUS);

/// The list's end, which is part of the thread state.
pub(super) fn root(ts: *mut PyThreadState) -> *mut CFrame {
    ROOT_CFRAME.address(ts).cast()
}

/// Makes `cframe` the only one of a greenlet that begins, without Python frames.
///
/// # Safety
/// `cframe` is valid for writes, `ts` is the current thread state.
pub(super) unsafe fn lay_out(cframe: *mut CFrame, ts: *mut PyThreadState) {
    // SAFETY: the caller gives memory for one.
    unsafe { cframe.write_bytes(0, 1) };
    // SAFETY: as above.
    unsafe { PREVIOUS.set(cframe, root(ts)) };
}

/// The innermost Python frame, given what `FRAMES` held.
///
/// # Safety
/// `frames` was read from `FRAMES` and its greenlet has not gone on since.
pub(super) unsafe fn innermost(frames: *mut c_void) -> *mut Frame {
    // SAFETY: the greenlet's stack, on which the struct lies, has not been touched.
    unsafe { CURRENT_FRAME.get(frames.cast()) }
}
