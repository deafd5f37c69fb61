//! CPython 3.15.
//!
//! As 3.14, but the list of Python frames ends in a marker inside the thread state, `base_frame`, and a
//! greenlet's list ends there too: sampling profilers take any other end for a broken read.
//!
//! The frames of a suspended greenlet are shown to the collector, as greenlet does there, so that it finds
//! cycles through them. They are never cleared: the objects in them live until the greenlet is unwound, and C
//! code that is suspended with it finds what it had.

use std::ffi::{c_int, c_void};

use pyo3::ffi;
use pyo3::ffi::{PyObject, PyThreadState};

use super::Area;
use super::check::Check;
use super::cp314;
use super::layout::{
    EXC_STATE, ExcItem, FRAME_OBJECT, FRAME_OWNER, FRAME_PREVIOUS, Field, Frame, Ts, header,
};

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

const FRAME_LOCALS: Field<Frame, *mut PyObject> = Field::new(header::FRAME_LOCALS);
/// Tagged references: the lowest bits say that it is not owned, or no object at all.
const FRAME_FUNCTION: Field<Frame, usize> = Field::new(header::FRAME_FUNCTION);
const FRAME_EXECUTABLE: Field<Frame, usize> = Field::new(header::FRAME_EXECUTABLE);
const TAG_BITS: usize = 3;
/// The owner of frames on the interpreter's own stack; generators show theirs themselves.
const OWNER_THREAD: u8 = 0;

unsafe extern "C" {
    fn _PyGC_VisitFrameStack(frame: *mut Frame, visit: ffi::visitproc, arg: *mut c_void) -> c_int;
}

/// Shows the collector what the frames from `frame` outwards hold.
///
/// # Safety
/// `visit` and `arg` are those of a `tp_traverse` call; the frames are those of a suspended greenlet and end in
/// `end`.
pub(super) unsafe fn traverse_frames(
    mut frame: *mut Frame,
    end: *mut Frame,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    while frame != end && !frame.is_null() {
        // SAFETY: (this and the reads below) the caller gives intact frames.
        if unsafe { FRAME_OWNER.get(frame) } == OWNER_THREAD {
            let owned = |tagged: usize| match tagged & TAG_BITS {
                0 => tagged as *mut PyObject,
                _ => std::ptr::null_mut(),
            };
            // SAFETY: as above.
            let function = unsafe { FRAME_FUNCTION.get(frame) };
            // SAFETY: as above.
            let executable = unsafe { FRAME_EXECUTABLE.get(frame) };
            // SAFETY: as above.
            let object = unsafe { FRAME_OBJECT.get(frame) };
            // SAFETY: as above.
            let locals = unsafe { FRAME_LOCALS.get(frame) };
            for held in [object, locals, owned(function), owned(executable)] {
                // SAFETY: the collector's visitor; the frame owns a reference, or it is NULL.
                let stop = unsafe { super::visit_one(held, visit, arg) };
                if stop != 0 {
                    return stop;
                }
            }
            // SAFETY: an intact frame whose stack pointer was stored when it called out.
            let stop = unsafe { _PyGC_VisitFrameStack(frame, visit, arg) };
            if stop != 0 {
                return stop;
            }
        }
        // SAFETY: as above.
        frame = unsafe { FRAME_PREVIOUS.get(frame) };
    }
    0
}
