//! The memory of a greenlet object, and a pointer type to reach it.
//!
//! The layout of [`Object`] is part of the binary interface of the greenlet package (compiled
//! subclasses put their fields right behind it) and must not change: header, weak reference list,
//! dict, one pointer.

use std::{
    cell::{Cell, UnsafeCell},
    ptr::{self, NonNull},
};

use pyo3::{ffi, ffi::PyObject, prelude::*};
use rgevent_runtime::coroutine::Coroutine;

use crate::{globals::globals, thread::PyThread, tstate::Saved};

/// A greenlet as the interpreter sees it.
#[repr(C)]
pub(crate) struct Object {
    pub(crate) base: PyObject,
    pub(crate) weakrefs: *mut PyObject,
    pub(crate) dict: *mut PyObject,
    pub(crate) state: *mut State,
}

const _: () = assert!(size_of::<Object>() == size_of::<PyObject>() + 3 * size_of::<usize>());

/// How far a greenlet has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Unstarted,
    /// Started and not finished, running or suspended. Main greenlets too.
    Active,
    Dead,
}

/// What we know of a greenlet. Every field is used with the GIL held.
pub(crate) struct State {
    pub(crate) phase: Cell<Phase>,
    pub(crate) is_main: Cell<bool>,
    /// It holds a reference to itself: it runs, or is parked in the hub or queued there.
    pub(crate) running_ref: Cell<bool>,
    /// Its thread ended before it did.
    pub(crate) thread_exited: Cell<bool>,
    /// Present while active, and in one that is queued to start.
    pub(crate) coroutine: Cell<Option<Coroutine>>,
    /// The thread it runs on while active.
    pub(crate) thread: Cell<Option<&'static PyThread>>,
    /// The interpreter's part of the same.
    pub(crate) ts: Cell<*mut ffi::PyThreadState>,
    /// Owned; NULL for main greenlets and collected ones.
    pub(crate) parent: Cell<*mut PyObject>,
    /// Owned; NULL when not given, and after the end.
    pub(crate) run: Cell<*mut PyObject>,
    pub(crate) saved: UnsafeCell<Saved>,
}

impl State {
    fn new() -> Self {
        Self {
            phase: Cell::new(Phase::Unstarted),
            is_main: Cell::new(false),
            running_ref: Cell::new(false),
            thread_exited: Cell::new(false),
            coroutine: Cell::new(None),
            thread: Cell::new(None),
            ts: Cell::new(ptr::null_mut()),
            parent: Cell::new(ptr::null_mut()),
            run: Cell::new(ptr::null_mut()),
            saved: UnsafeCell::new(Saved::new()),
        }
    }

    /// The thread it runs on, unless that has ended.
    #[inline]
    pub(crate) fn live_thread(&self) -> Option<&'static PyThread> {
        self.thread.get().filter(|thread| !thread.is_gone())
    }

    /// Started and not finished, on a thread that still runs.
    #[inline]
    pub(crate) fn is_active(&self) -> bool {
        self.phase.get() == Phase::Active && self.live_thread().is_some()
    }

    /// Finished, or never to run again.
    pub(crate) fn is_dead(&self) -> bool {
        match self.phase.get() {
            Phase::Unstarted => false,
            Phase::Active => self.live_thread().is_none(),
            Phase::Dead => true,
        }
    }

    /// Bytes of C stack in use while suspended, roughly: where it was left is not recorded.
    pub(crate) fn stack_used(&self) -> usize {
        match self.coroutine.get().and_then(Coroutine::slot) {
            Some(slot) if self.is_active() => slot.high - slot.base,
            _ => 0,
        }
    }

    /// What of the thread state belongs to it. The reference must not be kept.
    #[inline]
    #[allow(clippy::mut_from_ref)]
    pub(crate) fn saved(&self) -> &mut Saved {
        // SAFETY: the GIL is held, and no caller keeps the reference over a call that could come
        // back here: `Saved`'s own functions run no Python code.
        unsafe { &mut *self.saved.get() }
    }
}

/// A greenlet object that somebody else keeps alive. Valid while the GIL is held; a plain pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GreenletRef(NonNull<Object>);

impl GreenletRef {
    /// From a pointer that is known to be a greenlet.
    #[inline]
    pub(crate) fn new(object: *mut PyObject) -> Self {
        debug_assert!(is_greenlet(object));
        Self(NonNull::new(object.cast()).expect("a greenlet is not NULL"))
    }

    /// From the word a coroutine carries.
    #[inline]
    pub(crate) fn from_word(word: *mut ()) -> Option<Self> {
        NonNull::new(word.cast()).map(Self)
    }

    #[inline]
    pub(crate) fn word(self) -> *mut () {
        self.0.as_ptr().cast()
    }

    #[inline]
    pub(crate) fn as_ptr(self) -> *mut PyObject {
        self.0.as_ptr().cast()
    }

    #[inline]
    pub(crate) fn state<'a>(self) -> &'a State {
        // SAFETY: a greenlet object is alive as long as somebody uses its pointer; its state is
        // allocated with it, and freed with it.
        let state = unsafe { (*self.0.as_ptr()).state };
        // SAFETY: as above; only shared references to it are ever made.
        unsafe { &*state }
    }

    #[inline]
    pub(crate) fn incref(self) {
        // SAFETY: the object is alive and the GIL is held.
        unsafe { ffi::Py_INCREF(self.as_ptr()) };
    }

    /// Gives a reference back. May run Python code, and switch.
    #[inline]
    pub(crate) fn decref(self) {
        // SAFETY: the caller owns the reference; the GIL is held.
        unsafe { ffi::Py_DECREF(self.as_ptr()) };
    }

    /// Owns itself while it runs, is parked or queued.
    #[inline]
    pub(crate) fn take_running_ref(self) {
        if !self.state().running_ref.replace(true) {
            self.incref();
        }
    }

    /// Ends [`take_running_ref`](Self::take_running_ref). May run Python code, and switch.
    #[inline]
    pub(crate) fn drop_running_ref(self) {
        if self.state().running_ref.replace(false) {
            self.decref();
        }
    }

    /// The parent, borrowed.
    #[inline]
    pub(crate) fn parent(self) -> Option<GreenletRef> {
        GreenletRef::from_word(self.state().parent.get().cast())
    }

    /// Whether the running greenlet is this one.
    pub(crate) fn is_current(self) -> bool {
        PyThread::try_current().is_some_and(|thread| thread.current() == self)
    }

    pub(crate) fn bound(self, py: Python<'_>) -> Bound<'_, PyAny> {
        // SAFETY: a live object.
        unsafe { Bound::from_borrowed_ptr(py, self.as_ptr()) }
    }
}

/// Whether `object` is a greenlet or of a subclass.
#[inline]
pub(crate) fn is_greenlet(object: *mut PyObject) -> bool {
    if object.is_null() {
        return false;
    }
    // SAFETY: the GIL is held and the object is alive.
    unsafe { ffi::PyObject_TypeCheck(object, globals().greenlet_type) != 0 }
}

/// States kept for reuse: creating greenlets is a hot path, and an allocation is a third of it.
const STATES_KEPT_MAX: usize = 4096;

struct FreeStates(UnsafeCell<Vec<*mut State>>);

// SAFETY: used with the GIL held only.
unsafe impl Sync for FreeStates {}

static FREE_STATES: FreeStates = FreeStates(UnsafeCell::new(Vec::new()));

fn free_states() -> *mut Vec<*mut State> {
    FREE_STATES.0.get()
}

/// A state for a new object.
#[inline]
pub(super) fn new_state() -> *mut State {
    // SAFETY: the GIL is held, and `pop` runs no other code.
    let recycled = unsafe { &mut *free_states() }.pop();
    recycled.unwrap_or_else(|| Box::into_raw(Box::new(State::new())))
}

/// Takes the state of a dying object, whose references have been given back.
///
/// # Safety
/// `state` came from [`new_state`] and nobody uses it any more.
#[inline]
pub(super) unsafe fn free_state(state: *mut State) {
    // SAFETY: the GIL is held, and nothing below runs other code.
    let free = unsafe { &mut *free_states() };
    if free.len() < STATES_KEPT_MAX {
        // SAFETY: the caller's promise; a state holds nothing that has to be dropped.
        unsafe { state.write(State::new()) };
        free.push(state);
    } else {
        // SAFETY: the caller's promise; allocated by `new_state`.
        drop(unsafe { Box::from_raw(state) });
    }
}
