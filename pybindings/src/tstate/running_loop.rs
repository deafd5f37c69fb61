//! The running asyncio loop and its current task, on 3.14 and later.
//!
//! From 3.14 on asyncio keeps both in the thread state. Greenlets that switch to each other share them: that is
//! how greenlet works, and bridges between the two worlds rely on it. A greenlet that *parks* in the hub takes
//! them along, so that those that run meanwhile are not taken for code of its loop: a thread that is a
//! greenlet after patching has to wake the loop, as any other thread would, or a loop of its own to run.
//!
//! The words lie behind the limits of the C stack, so their place is found with those (see `c_stack`).

use std::ptr;

use pyo3::ffi::{PyObject, PyThreadState};

use super::c_stack;
use super::layout::{Field, Ts, header};

const WORD_BYTES: usize = size_of::<usize>();

/// `asyncio_running_loop` and `asyncio_running_task`.
type Words = [*mut PyObject; 2];

const _: () = assert!(header::RUNNING_TASK_NEAR == header::RUNNING_LOOP_NEAR + WORD_BYTES);

/// What a parked greenlet has taken along; owned. Nothing if it runs no loop.
pub(super) struct RunningLoop(Words);

fn words() -> Ts<Words> {
    Field::new(c_stack::behind())
}

impl RunningLoop {
    pub(super) const NONE: Self = Self([ptr::null_mut(); 2]);

    #[inline(always)]
    pub(super) fn is_some(&self) -> bool {
        !self.0[0].is_null()
    }

    /// Takes it out of the thread state, if there is one.
    ///
    /// # Safety
    /// `ts` is the current thread state, and its layout was checked.
    #[inline(always)]
    pub(super) unsafe fn park(&mut self, ts: *mut PyThreadState) {
        // SAFETY: the caller gives the current thread state; the offset was found in it.
        let found = unsafe { words().get(ts) };
        if !found[0].is_null() {
            self.0 = found;
            // SAFETY: as above; the references have moved here.
            unsafe { words().set(ts, Self::NONE.0) };
        }
    }

    /// Puts it back; nothing is left here.
    ///
    /// # Safety
    /// As for `park`, and no loop runs.
    pub(super) unsafe fn unpark(&mut self, ts: *mut PyThreadState) {
        let taken = std::mem::replace(self, Self::NONE);
        // SAFETY: the caller gives the current thread state; the references move there.
        unsafe { words().set(ts, taken.0) };
    }
}

/// Whether the words are where they are expected: a list of tasks follows, which is empty and points to itself,
/// or has entries.
///
/// # Safety
/// `ts` is the current thread state, and `c_stack::find` succeeded.
pub(super) unsafe fn is_followed_by_tasks(ts: *mut PyThreadState) -> bool {
    let head = c_stack::behind() + (header::TASKS_HEAD_NEAR - header::RUNNING_LOOP_NEAR);
    // SAFETY: the caller gives the current thread state; these words follow the ones found in it.
    let [next, previous] = unsafe { Ts::<[usize; 2]>::new(head).get(ts) };
    let own = ts.addr() + head;
    let is_pointer = |word: usize| word != 0 && word.is_multiple_of(WORD_BYTES);
    is_pointer(next) && is_pointer(previous) && (next == own) == (previous == own)
}
