//! The memory of a greenlet object, and a pointer type to reach it.
//!
//! The layout of [`Object`] is part of the binary interface of the greenlet package (compiled
//! subclasses put their fields right behind it) and must not change: header, weak reference list,
//! dict, one pointer.

use std::{
    cell::{Cell, UnsafeCell},
    ffi::c_void,
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
    /// Owned; what `run` was until the look-up at the start found something else, or NULL.
    pub(crate) unused_run: Cell<*mut PyObject>,
    pub(crate) saved: UnsafeCell<Saved>,
    /// Size of the stack slot it asked for, in bytes; 0 for the default.
    pub(crate) stack_bytes: Cell<usize>,
    /// Where its C stack was left when it was last suspended, roughly; 0 before.
    pub(crate) parked_at: Cell<usize>,
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
            unused_run: Cell::new(ptr::null_mut()),
            saved: UnsafeCell::new(Saved::new()),
            stack_bytes: Cell::new(0),
            parked_at: Cell::new(0),
        }
    }

    /// Where the list of its frames ends.
    pub(crate) fn frames_end(&self) -> *mut c_void {
        let thread = self.thread.get();
        thread.map_or(ptr::null_mut(), |thread| thread.frames_end)
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

    /// Bytes of C stack in use while suspended; for a main greenlet since its thread began to use
    /// greenlets, roughly.
    pub(crate) fn stack_used(&self) -> usize {
        let parked_at = self.parked_at.get();
        match (self.live_thread(), self.coroutine.get()) {
            (Some(thread), _) if self.is_main.get() => thread.main_base.abs_diff(parked_at),
            (Some(_), Some(coroutine)) => coroutine.slot().map_or(0, |slot| slot.base - parked_at),
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

/// Objects kept for reuse, with their states: creating greenlets is a hot path, and allocations are
/// a third of it.
const OBJECTS_KEPT_MAX: usize = 4096;

struct FreeObjects(UnsafeCell<Vec<NonNull<Object>>>);

// SAFETY: used with the GIL held only.
unsafe impl Sync for FreeObjects {}

/// Of exactly the greenlet type: no references, untracked, with a fresh state.
static FREE_OBJECTS: FreeObjects = FreeObjects(UnsafeCell::new(Vec::new()));

/// A new object of `class` with a fresh state: a new reference, or NULL with an error set.
#[inline]
pub(crate) fn allocate(class: *mut ffi::PyTypeObject) -> *mut PyObject {
    if class == globals().greenlet_type {
        // SAFETY: the GIL is held, and `pop` runs no other code.
        let recycled = unsafe { &mut *FREE_OBJECTS.0.get() }.pop();
        if let Some(object) = recycled {
            let object = object.as_ptr().cast::<PyObject>();
            // SAFETY: memory of an object of this type that nobody uses.
            unsafe { ffi::PyObject_Init(object, class) };
            // SAFETY: a complete GC object that is not tracked.
            unsafe { ffi::PyObject_GC_Track(object.cast()) };
            return object;
        }
    }
    // SAFETY: a ready type whose instances begin with `Object`; zeroed memory comes back.
    let object = unsafe { ffi::PyType_GenericAlloc(class, 0) };
    if !object.is_null() {
        let state = Box::into_raw(Box::new(State::new()));
        // SAFETY: just allocated with at least the size of `Object`.
        unsafe { (*object.cast::<Object>()).state = state };
    }
    object
}

/// Takes back an object whose references and fields have been given back.
///
/// # Safety
/// Called at the end of `tp_dealloc`, for an object from [`allocate`] that is not tracked.
#[inline]
pub(super) unsafe fn free(object: *mut PyObject) {
    let layout: *mut Object = object.cast();
    // SAFETY: a greenlet object.
    let state = unsafe { (*layout).state };
    // SAFETY: a live object.
    let class = unsafe { ffi::Py_TYPE(object) };
    // SAFETY: the GIL is held, and nothing runs while the reference is used.
    let kept = unsafe { &mut *FREE_OBJECTS.0.get() };
    if class == globals().greenlet_type && kept.len() < OBJECTS_KEPT_MAX {
        // SAFETY: nobody else uses it any more, and a state holds nothing that has to be dropped.
        unsafe { state.write(State::new()) };
        kept.push(NonNull::new(layout).expect("an object is not NULL"));
    } else {
        // SAFETY: allocated by `allocate`, and nobody else uses it any more.
        drop(unsafe { Box::from_raw(state) });
        // SAFETY: a type.
        let release = unsafe { (*class).tp_free }.expect("every type has tp_free");
        // SAFETY: allocated by the type's own allocator.
        unsafe { release(object.cast()) };
    }
    // SAFETY: instances of heap types own a reference to their type.
    unsafe { ffi::Py_DECREF(class.cast()) };
}
