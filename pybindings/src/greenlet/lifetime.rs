//! How greenlets come to be, are unwound, and are collected.
//!
//! A suspended greenlet whose last reference goes is *unwound*: `GreenletExit` is raised at its
//! `switch()`, so that its `finally` blocks run. That happens in its own thread only; from another
//! thread it is left for the owner, and once the interpreter goes down it does not happen at all.
//!
//! `tp_dealloc` does this by hand (bring the object back to life, throw, look again), since a
//! finalizer proper runs only once per object.

use std::{
    cell::{Cell, UnsafeCell},
    ffi::{c_int, c_void},
    mem, ptr,
};

use pyo3::{ffi, ffi::PyObject, prelude::*};

use super::{
    attributes,
    object::{self, GreenletRef, Object, Phase},
    switch::jump,
};
use crate::{
    errors,
    globals::globals,
    thread::{Payload, PyThread, finalizing},
};

/// Greenlets of a thread that is being buried, to be given back when that is over; owned.
struct Corpses(UnsafeCell<Vec<GreenletRef>>);

// SAFETY: used with the GIL held only.
unsafe impl Sync for Corpses {}

static CORPSES: Corpses = Corpses(UnsafeCell::new(Vec::new()));

/// The main greenlet of a thread that begins to use greenlets; the caller owns it.
pub(crate) fn new_main(py: Python<'_>) -> PyResult<GreenletRef> {
    let object = object::allocate(globals().greenlet_type);
    if object.is_null() {
        return Err(PyErr::fetch(py));
    }
    let main = GreenletRef::new(object);
    let state = main.state();
    state.phase.set(Phase::Active);
    state.is_main.set(true);
    Ok(main)
}

/// Called for each coroutine of a thread that is being buried. True when its stack may be freed.
pub(crate) fn abandoned(greenlet: GreenletRef) -> bool {
    let state = greenlet.state();
    let end = state.frames_end();
    // SAFETY: the GIL is held, and the thread that could resume it is gone.
    let unreachable = unsafe { state.saved().abandon(end) };
    state.phase.set(Phase::Dead);
    state.thread_exited.set(true);
    state.coroutine.set(None);
    state.thread.set(None);
    if state.running_ref.replace(false) {
        // SAFETY: the GIL is held, and `push` runs no other code.
        unsafe { &mut *CORPSES.0.get() }.push(greenlet);
    }
    unreachable
}

/// Takes the greenlets that [`abandoned`] has collected.
pub(crate) fn take_corpses() -> Vec<GreenletRef> {
    // SAFETY: the GIL is held, and `take` runs no other code.
    mem::take(unsafe { &mut *CORPSES.0.get() })
}

/// `tp_dealloc` of the greenlet type.
pub(super) unsafe extern "C" fn dealloc(object: *mut PyObject) {
    // SAFETY: passed on.
    unsafe { dealloc_with(object, |_| ()) };
}

/// What `tp_dealloc` does; `free_rest` is called when the object is really over, for what a native
/// subclass has of its own.
///
/// # Safety
/// Called by `tp_dealloc` of `object`'s native type.
pub(crate) unsafe fn dealloc_with(object: *mut PyObject, free_rest: impl FnOnce(*mut PyObject)) {
    // SAFETY: a GC object in its `tp_dealloc`. Subclasses may have done so already.
    unsafe { ffi::PyObject_GC_UnTrack(object.cast()) };
    let greenlet = GreenletRef::new(object);
    let state = greenlet.state();
    // While a thread's last objects die its thread state has ended for others, but not for them.
    let can_run = |home: &PyThread| !home.is_gone() || home.is_ending();
    if state.phase.get() == Phase::Active
        && state.thread.get().is_some_and(can_run)
        && !unwind(greenlet)
    {
        return;
    }
    // SAFETY: no references are left, and it is not running.
    unsafe { free(object, free_rest) };
}

/// Frees a greenlet that is not active, or never will be again.
unsafe fn free(object: *mut PyObject, free_rest: impl FnOnce(*mut PyObject)) {
    let layout = object.cast::<Object>();
    // SAFETY: a greenlet object.
    let weakrefs = unsafe { (*layout).weakrefs };
    if !weakrefs.is_null() {
        // SAFETY: a dying object with a weak reference list. Before the parent is let go: a
        // parent that dies with its child must find the child's weak references cleared.
        unsafe { ffi::PyObject_ClearWeakRefs(object) };
    }
    // It came to its end in the lookup of a parent's `run`, which never returned: that stack stays.
    let hanging = GreenletRef::new(object).state().coroutine.take();
    if let Some(coroutine) = hanging {
        coroutine.set_user(ptr::null_mut());
    }
    free_rest(object);
    // SAFETY: nobody else uses the object any more.
    unsafe { clear(object) };
    // SAFETY: this is the end of `tp_dealloc`.
    unsafe { object::free(object) };
}

/// Ends a suspended greenlet that nobody refers to. False when it lives on.
fn unwind(greenlet: GreenletRef) -> bool {
    let state = greenlet.state();
    if state.is_main.get() {
        return true;
    }
    let object = greenlet.as_ptr();
    // SAFETY: the object is in its dealloc; it gets its one reference back.
    unsafe { set_refcount(object, 1) };
    let here = PyThread::try_current();
    let home = state.thread.get().expect("an active greenlet has a thread");
    if finalizing() {
        // Too late to run anything; it stays as it is, to the end of the process.
        return false;
    }
    let Some(thread) = here.filter(|thread| ptr::eq(*thread, home)) else {
        home.defer(greenlet);
        return false;
    };
    let _aside = errors::Aside::new();
    throw_exit(thread, greenlet);
    // SAFETY: the object is alive: we hold the reference from above.
    if unsafe { ffi::Py_REFCNT(object) } == 1 && state.is_active() {
        report_survivor(greenlet);
        // Its stack still runs: keep it for ever.
        // SAFETY: a live GC object that was untracked.
        unsafe { ffi::PyObject_GC_Track(object.cast()) };
        return false;
    }
    // SAFETY: as above.
    if unsafe { ffi::Py_REFCNT(object) } > 1 {
        // Somebody has stored it: it is an ordinary object again.
        // SAFETY: a live GC object that was untracked; our reference goes.
        unsafe { ffi::PyObject_GC_Track(object.cast()) };
        // SAFETY: as above.
        unsafe { ffi::Py_DECREF(object) };
        return false;
    }
    // SAFETY: the one reference is ours, and given back by hand: we are in the dealloc already.
    unsafe { set_refcount(object, 0) };
    true
}

/// Throws `GreenletExit` into a greenlet whose references have vanished, with the current one as
/// its parent meanwhile.
fn throw_exit(thread: &'static PyThread, greenlet: GreenletRef) {
    let exception = exit_for_unreferenced();
    let state = greenlet.state();
    let current = thread.current();
    current.incref();
    let parent = state.parent.replace(current.as_ptr());
    let result = jump(thread, greenlet, Payload::Throw(exception));
    // Before anything else: what follows may run code, which finds the greenlet as it was.
    let meanwhile = state.parent.replace(parent);
    let aside = errors::Aside::new();
    // SAFETY: owned by the state until now, or NULL.
    unsafe { ffi::Py_XDECREF(meanwhile) };
    drop(aside);
    if result.is_null() {
        // SAFETY: an error is set; a live object.
        unsafe { ffi::PyErr_WriteUnraisable(greenlet.as_ptr()) };
    } else {
        // SAFETY: a new reference.
        unsafe { ffi::Py_DECREF(result) };
    }
}

/// The exception that ends a greenlet nobody refers to: a new reference.
fn exit_for_unreferenced() -> *mut PyObject {
    const WHY: &std::ffi::CStr = c"Killing the greenlet because all references have vanished.";
    // Raised and caught at once, so that what the dropper is handling becomes its context.
    // SAFETY: the GIL is held; an exception class and a text.
    unsafe { ffi::PyErr_SetString(globals().greenlet_exit, WHY.as_ptr()) };
    errors::take()
}

/// Says that a greenlet refused to die.
fn report_survivor(greenlet: GreenletRef) {
    // SAFETY: the GIL is held.
    let py = unsafe { Python::assume_attached() };
    let text = attributes::repr_text(py, greenlet)
        .map(|repr| format!("GreenletExit did not kill {repr}\n"))
        .unwrap_or_default();
    let written = py
        .import("sys")
        .and_then(|sys| sys.getattr("stderr"))
        .and_then(|stderr| stderr.call_method1("write", (text,)));
    if let Err(error) = written {
        error.write_unraisable(py, None);
    }
}

/// Sets the count of an object that nobody else refers to.
unsafe fn set_refcount(object: *mut PyObject, count: u32) {
    #[cfg(Py_3_14)]
    {
        // The count is 32 bits wide there; the other half of the word holds flags.
        // SAFETY: a dying object; its count is ours to set.
        unsafe { object.cast::<u32>().write(count) };
    }
    #[cfg(not(Py_3_14))]
    {
        // SAFETY: as above.
        unsafe {
            object
                .cast::<ffi::Py_ssize_t>()
                .write(count as ffi::Py_ssize_t)
        };
    }
}

/// `tp_is_gc`: up to CPython 3.14 an active greenlet is none of the collector's business. Its frames
/// hold references that cannot be shown there. From 3.15 on they are; see `tstate`.
pub(super) unsafe extern "C" fn is_gc(object: *mut PyObject) -> c_int {
    let layout = object.cast::<Object>();
    // SAFETY: a greenlet object.
    let state = unsafe { (*layout).state };
    // SAFETY: a live state, or NULL while the object is being allocated.
    let state = unsafe { state.as_ref() };
    c_int::from(cfg!(cp315) || !state.is_some_and(|state| state.is_active()))
}

/// `tp_traverse`: what the object refers to.
pub(crate) unsafe extern "C" fn traverse(
    object: *mut PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: a greenlet object.
    let state = unsafe { (*object.cast::<Object>()).state };
    // SAFETY: a live state, or NULL while the object is being allocated.
    let Some(state) = (unsafe { state.as_ref() }) else {
        return 0;
    };
    // SAFETY: a live object and its type.
    let class = unsafe { ffi::Py_TYPE(object) }.cast::<PyObject>();
    // SAFETY: a greenlet object.
    let dict = unsafe { (*object.cast::<Object>()).dict };
    let [parent, run, unused_run] = [&state.parent, &state.run, &state.unused_run].map(Cell::get);
    for held in [class, dict, parent, run, unused_run] {
        if !held.is_null() {
            // SAFETY: the collector's own visitor; a live object that we own a reference to.
            let stop = unsafe { visit(held, arg) };
            if stop != 0 {
                return stop;
            }
        }
    }
    if state.phase.get() == Phase::Active && state.live_thread().is_none() {
        return 0;
    }
    let end = state.frames_end();
    // SAFETY: the collector's visitor; if suspended, its thread has not ended, so its stack exists.
    unsafe { state.saved().traverse(end, visit, arg) }
}

/// `tp_clear`: lets go of everything that may run Python code when it dies.
pub(crate) unsafe extern "C" fn clear(object: *mut PyObject) -> c_int {
    let layout = object.cast::<Object>();
    let state = GreenletRef::new(object).state();
    if state.is_active() {
        return 0;
    }
    // SAFETY: a greenlet object; its dict is ours to take.
    let dict = unsafe { mem::replace(&mut (*layout).dict, ptr::null_mut()) };
    let context = state.saved().replace_context(ptr::null_mut());
    let held = [
        state.run.replace(ptr::null_mut()),
        state.unused_run.replace(ptr::null_mut()),
        context,
        dict,
        state.parent.replace(ptr::null_mut()),
    ];
    for reference in held {
        // SAFETY: owned by the object until now, or NULL.
        unsafe { ffi::Py_XDECREF(reference) };
    }
    0
}
