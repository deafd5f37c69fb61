//! Moving control and values between greenlets.
//!
//! What is handed over travels in the thread's `payload`, filled just before the jump and emptied
//! just after it, with no Python code in between, so that nothing stale is ever found there.
//!
//! Ownership of the running greenlet: whoever runs holds a reference to itself (the *running
//! reference*). It is given back by the side that is switched to, since giving it back may be the
//! end of the greenlet, and its stack must not be in use then.

use std::{mem::MaybeUninit, ptr};

use pyo3::{
    exceptions::{PyMemoryError, PySystemError},
    ffi,
    ffi::PyObject,
    prelude::*,
};
use rgevent_runtime::coroutine::{self, Coroutine, Signal};

use super::{
    object::{GreenletRef, Phase, State},
    trace,
};
use crate::{
    call, errors,
    globals::{globals, greenlet_error},
    thread::{Payload, PyThread},
    tstate,
};

/// The rules of `switch` and `throw`: control goes to `target`, or to its first living ancestor.
///
/// Takes over the payload's references. Answers a new reference, or NULL with an error set.
pub(super) fn go(
    thread: &'static PyThread,
    target: GreenletRef,
    payload: Payload,
) -> *mut PyObject {
    if thread.attention.get() {
        thread.unwind_deferred();
    }
    if let Err(error) = check_thread(thread, target) {
        payload.drop_refs();
        return errors::raise(error);
    }
    let current = thread.current();
    let mut target = target;
    // Only one that was dead to begin with swallows a `GreenletExit`.
    let payload = match target.state().phase.get() {
        Phase::Dead => exit_to_value(payload),
        Phase::Unstarted | Phase::Active => payload,
    };
    loop {
        let state = target.state();
        match state.phase.get() {
            Phase::Active if target == current => return deliver(thread, current, payload),
            Phase::Active => return jump(thread, target, payload),
            Phase::Unstarted => match start(thread, target) {
                Ok(true) => return jump(thread, target, into_call(payload)),
                Ok(false) => {}
                Err(()) => {
                    payload.drop_refs();
                    return ptr::null_mut();
                }
            },
            Phase::Dead => match target.parent() {
                Some(parent) => target = parent,
                None => {
                    payload.drop_refs();
                    return errors::raise(collected());
                }
            },
        }
    }
}

/// A greenlet of another thread, or of none, cannot be switched to.
pub(super) fn check_thread(thread: &'static PyThread, target: GreenletRef) -> PyResult<()> {
    let state = target.state();
    if let Some(home) = state.thread.get()
        && ptr::eq(home, thread)
    {
        return Ok(());
    }
    check_main_thread(thread, target)
}

#[inline]
fn check_main_thread(thread: &'static PyThread, target: GreenletRef) -> PyResult<()> {
    let mut main = target;
    while !main.state().is_main.get() {
        main = main.parent().ok_or_else(collected)?;
    }
    if main == thread.main && !thread.is_gone() {
        return Ok(());
    }
    refuse_thread(thread, main)
}

#[cold]
fn refuse_thread(thread: &'static PyThread, main: GreenletRef) -> PyResult<()> {
    match main.state().live_thread() {
        Some(home) if ptr::eq(home, thread) => Ok(()),
        Some(_) => {
            // SAFETY: the GIL is held.
            let py = unsafe { Python::assume_attached() };
            Err(greenlet_error(
                py,
                format!(
                    "Cannot switch to a different thread\n\tCurrent:  {}\n\tExpected: {}",
                    thread.main.bound(py).repr()?,
                    main.bound(py).repr()?,
                ),
            ))
        }
        None => {
            // SAFETY: as above.
            let py = unsafe { Python::assume_attached() };
            Err(greenlet_error(
                py,
                "cannot switch to a different thread (which happens to have exited)".to_owned(),
            ))
        }
    }
}

fn collected() -> PyErr {
    // SAFETY: the GIL is held.
    let py = unsafe { Python::assume_attached() };
    greenlet_error(
        py,
        "cannot switch to a garbage collected greenlet".to_owned(),
    )
}

/// The `run` of an unstarted greenlet: a new reference, or NULL with an error set. May run any code.
#[inline]
fn look_up_run(target: GreenletRef) -> *mut PyObject {
    let object = target.as_ptr();
    let run = target.state().run.get();
    // SAFETY: a live object.
    if !run.is_null() && unsafe { ffi::Py_TYPE(object) } == globals().greenlet_type {
        // No subclass can have a say: this is what the look-up would find.
        // SAFETY: a live object.
        unsafe { ffi::Py_INCREF(run) };
        return run;
    }
    // SAFETY: a live object and an interned string.
    unsafe { ffi::PyObject_GetAttr(object, globals().str_run) }
}

/// Gets an unstarted greenlet its function and its stack, so that it can be jumped to.
///
/// False when it was started by somebody else meanwhile: looking up `run` may run any code.
fn start(thread: &'static PyThread, target: GreenletRef) -> Result<bool, ()> {
    let state = target.state();
    let run = look_up_run(target);
    if run.is_null() {
        return Err(());
    }
    let mut outcome = check_thread(thread, target).map(|()| state.phase.get() == Phase::Unstarted);
    if let Ok(true) = outcome {
        outcome = match reserve(thread, target) {
            Ok(()) => {
                // It is given back in the greenlet itself: it may be the last reference, and run code.
                state.unused_run.set(state.run.replace(run));
                return Ok(true);
            }
            Err(error) => Err(error),
        };
    }
    // SAFETY: a new reference from above.
    unsafe { ffi::Py_DECREF(run) };
    outcome.map_err(|error| {
        errors::raise(error);
    })
}

/// A stack for a greenlet that is about to start.
fn reserve(thread: &'static PyThread, target: GreenletRef) -> PyResult<()> {
    if let Some(queued) = target.state().coroutine.take() {
        // It was to be run by the hub; being switched to by hand comes first.
        queued.set_user(ptr::null_mut());
        if let Some(hub) = queued.thread().try_hub() {
            hub.unschedule(queued);
        }
        queued.release();
    }
    let coroutine = Coroutine::new(thread.runtime, main_function, target.word());
    coroutine.set_user(target.word());
    let state = target.state();
    let started = match state.stack_bytes.get() {
        0 => coroutine.start(),
        slot_bytes => coroutine.start_sized(slot_bytes),
    };
    if let Err(error) = started {
        coroutine.set_user(ptr::null_mut());
        coroutine.release();
        return Err(no_stack(error));
    }
    state.coroutine.set(Some(coroutine));
    state.ts.set(thread.ts);
    state.thread.set(Some(thread));
    state.phase.set(Phase::Active);
    Ok(())
}

/// The error for a greenlet that cannot have a stack.
pub(crate) fn no_stack(error: std::io::Error) -> PyErr {
    PyMemoryError::new_err(format!(
        "no memory for a greenlet stack of {} bytes: {error}",
        crate::config::stack_bytes()
    ))
}

/// Switches to an active greenlet other than the current one.
#[inline(always)]
pub(super) fn jump(
    thread: &'static PyThread,
    target: GreenletRef,
    payload: Payload,
) -> *mut PyObject {
    let current = thread.current();
    debug_assert!(!errors::pending(), "a switch with an error pending");
    target.take_running_ref();
    thread.payload.set(payload);
    thread.origin.set(Some(current));
    let coroutine = target.state().coroutine.get();
    let coroutine = coroutine.expect("an active greenlet has a coroutine");
    coroutine::switch(thread.runtime, coroutine, Signal::Explicit);
    take_result(thread)
}

/// What an explicit switch brought to the greenlet that runs again: a new reference, or NULL with
/// an error set.
#[inline(always)]
pub(crate) fn take_result(thread: &'static PyThread) -> *mut PyObject {
    let payload = thread.payload.replace(Payload::Nothing);
    let origin = thread.origin.take();
    match payload {
        Payload::Value(object) if !thread.attention.get() => {
            if let Some(origin) = origin {
                origin.drop_running_ref();
            }
            object
        }
        payload => result_of(arrive(thread, origin, payload)),
    }
}

/// What is done after a switch before anything else: the origin's running reference is given back,
/// what other threads left is unwound, the tracer is told. Answers what goes on from there.
#[inline]
fn arrive(thread: &'static PyThread, origin: Option<GreenletRef>, payload: Payload) -> Payload {
    let Some(origin) = origin else {
        if thread.attention.get() {
            thread.unwind_deferred();
        }
        return payload;
    };
    if !thread.attention.get() {
        origin.drop_running_ref();
        return payload;
    }
    // The tracer sees it, and may bring it back to life.
    origin.incref();
    origin.drop_running_ref();
    thread.unwind_deferred();
    let payload = trace::tell(thread, origin, payload);
    let _aside = errors::Aside::new();
    origin.decref();
    payload
}

/// A switch to oneself.
fn deliver(thread: &'static PyThread, current: GreenletRef, payload: Payload) -> *mut PyObject {
    result_of(trace::tell(thread, current, payload))
}

/// What `switch()` returns for a payload, by the rules of S1 in greenlet: no keywords, the
/// arguments; no arguments, the keywords; a tuple of one is unwrapped once.
fn result_of(payload: Payload) -> *mut PyObject {
    match payload {
        Payload::Nothing => errors::raise(PySystemError::new_err(
            "a greenlet was resumed with nothing to return",
        )),
        Payload::Value(object) | Payload::Exit(object) => object,
        Payload::Throw(exception) => {
            errors::put(exception);
            ptr::null_mut()
        }
        Payload::Call(args, kwargs) => {
            // SAFETY: an owned tuple, and an owned dict or NULL.
            unsafe { unwrap_arguments(args, kwargs) }
        }
    }
}

/// See [`result_of`]. Steals both.
unsafe fn unwrap_arguments(args: *mut PyObject, kwargs: *mut PyObject) -> *mut PyObject {
    if !kwargs.is_null() {
        // SAFETY: a dict, by the caller's promise.
        if unsafe { ffi::PyDict_Size(kwargs) } > 0 {
            // SAFETY: a tuple, by the caller's promise.
            if unsafe { ffi::PyTuple_Size(args) } == 0 {
                // SAFETY: owned.
                unsafe { ffi::Py_DECREF(args) };
                return kwargs;
            }
            // SAFETY: two live objects.
            let both = unsafe { ffi::PyTuple_Pack(2, args, kwargs) };
            // SAFETY: owned.
            unsafe { ffi::Py_DECREF(args) };
            // SAFETY: owned.
            unsafe { ffi::Py_DECREF(kwargs) };
            return both;
        }
        // SAFETY: owned.
        unsafe { ffi::Py_DECREF(kwargs) };
    }
    // SAFETY: a tuple, by the caller's promise.
    if unsafe { ffi::PyTuple_Size(args) } != 1 {
        return args;
    }
    // SAFETY: it has one item; borrowed.
    let only = unsafe { ffi::PyTuple_GetItem(args, 0) };
    // SAFETY: a live object.
    unsafe { ffi::Py_INCREF(only) };
    // SAFETY: owned.
    unsafe { ffi::Py_DECREF(args) };
    only
}

/// The payload for a greenlet that starts: a value becomes its one argument.
fn into_call(payload: Payload) -> Payload {
    let Payload::Value(value) = payload else {
        return payload;
    };
    // SAFETY: the GIL is held.
    let args = unsafe { ffi::PyTuple_New(1) };
    if args.is_null() {
        // SAFETY: owned.
        unsafe { ffi::Py_DECREF(value) };
        return Payload::Throw(errors::take());
    }
    // SAFETY: a fresh tuple of one, which takes the reference over.
    unsafe { ffi::PyTuple_SetItem(args, 0, value) };
    Payload::Call(args, ptr::null_mut())
}

/// A `GreenletExit` that meets a dead greenlet is a plain value for its parent.
fn exit_to_value(payload: Payload) -> Payload {
    match payload {
        Payload::Throw(exception) if is_exit(exception) => Payload::Exit(exception),
        payload => payload,
    }
}

fn is_exit(exception: *mut PyObject) -> bool {
    // SAFETY: two live objects.
    unsafe { ffi::PyErr_GivenExceptionMatches(exception, globals().greenlet_exit) != 0 }
}

/// Points the thread state at an empty state on the new stack. The first thing on it.
///
/// # Safety
/// Runs on the coroutine of `state`, whose stack frame holds `base` until [`end_stack`].
#[inline]
pub(crate) unsafe fn begin_stack(state: &State, base: *mut tstate::Base) {
    let coroutine = state.coroutine.get();
    let slot = coroutine
        .and_then(Coroutine::slot)
        .expect("a running greenlet has a stack");
    let area = tstate::Area {
        stack_low: slot.low,
        stack_base: slot.base,
        chunk: slot.base as *mut u8,
        chunk_bytes: slot.high - slot.base,
    };
    // SAFETY:
    // 1. `ts` is this thread's; the runtime saved what was in it before it came here.
    // 2. `base` is in the frame of the entry function, by the caller's promise.
    // 3. The slot is the running coroutine's own.
    unsafe { tstate::begin(state.ts.get(), base, &area, state.saved()) };
}

/// The greenlet is over: nothing of it stays in the thread state. No Python code may run until
/// another greenlet runs.
///
/// # Safety
/// As [`begin_stack`], which was called before; the Python code has returned.
#[inline]
pub(crate) unsafe fn end_stack(state: &State) {
    // SAFETY: the caller's promise.
    unsafe { tstate::end(state.ts.get(), state.saved()) };
}

/// What a greenlet's coroutine runs.
fn main_function(word: *mut ()) -> (Coroutine, Signal) {
    let me = GreenletRef::from_word(word).expect("a greenlet's coroutine carries it");
    let state = me.state();
    let mut base = MaybeUninit::uninit();
    // SAFETY: this is the entry function of the coroutine, and `base` lives to its end.
    unsafe { begin_stack(state, base.as_mut_ptr()) };
    let thread = state.thread.get().expect("a running greenlet has a thread");
    let payload = thread.payload.replace(Payload::Nothing);
    let origin = thread.origin.take();
    let payload = arrive(thread, origin, payload);
    let outcome = run_body(me, payload);
    // SAFETY: the thread state is this thread's, in the state of this greenlet.
    unsafe { tstate::clear_handled(state.ts.get()) };
    finish(thread, me, outcome)
}

/// Calls `run` and makes a payload for the parent of what comes out.
fn run_body(me: GreenletRef, payload: Payload) -> Payload {
    let state = me.state();
    let unused = state.unused_run.replace(ptr::null_mut());
    // SAFETY: the state owned it, or NULL.
    unsafe { ffi::Py_XDECREF(unused) };
    let result = match payload {
        Payload::Call(args, kwargs) => {
            let result = call::object(state.run.get(), args, kwargs);
            Payload::Call(args, kwargs).drop_refs();
            result
        }
        Payload::Throw(exception) => {
            errors::put(exception);
            ptr::null_mut()
        }
        Payload::Exit(_) => {
            // SAFETY: the GIL is held; the shared empty tuple.
            let args = unsafe { ffi::PyTuple_New(0) };
            let result = call::object(state.run.get(), args, ptr::null_mut());
            // SAFETY: owned.
            unsafe { ffi::Py_DECREF(args) };
            payload.drop_refs();
            result
        }
        Payload::Value(_) | Payload::Nothing => errors::raise(PySystemError::new_err(
            "a greenlet was started without arguments",
        )),
    };
    let outcome = outcome_of(result);
    let run = state.run.replace(ptr::null_mut());
    // SAFETY: the state owned it. This may run Python code, which finds the greenlet without `run`.
    unsafe { ffi::Py_XDECREF(run) };
    outcome
}

/// A value, or an exception for the parent; `GreenletExit` is a value.
fn outcome_of(result: *mut PyObject) -> Payload {
    if !result.is_null() {
        return Payload::Value(result);
    }
    let exception = errors::take();
    if exception.is_null() {
        errors::raise(PySystemError::new_err(
            "a greenlet's function failed without saying why",
        ));
        return Payload::Throw(errors::take());
    }
    exit_to_value(Payload::Throw(exception))
}

/// The end: dead before the parent runs, and control and outcome to the parent.
fn finish(thread: &'static PyThread, me: GreenletRef, outcome: Payload) -> (Coroutine, Signal) {
    let state = me.state();
    let mut payload = outcome;
    let mut ancestor = me.parent();
    // Starting a parent may run Python code, so this comes before the greenlet counts as dead.
    state.phase.set(Phase::Dead);
    let target = loop {
        let Some(next) = ancestor else {
            fatal("a greenlet has come to its end and has no living ancestor");
        };
        // As a switch to `next` would go. If it fails, one to the parent of `next` is tried: that may
        // lead to the same living one again, and fail again.
        let living = first_living(next);
        match living.map(|living| (living, living.state().phase.get())) {
            Some((living, Phase::Active)) => break living,
            Some((living, _)) => match start(thread, living) {
                Ok(true) => {
                    payload = into_call(payload);
                    break living;
                }
                Ok(false) => {}
                Err(()) => {
                    payload.drop_refs();
                    payload = Payload::Throw(errors::take());
                    ancestor = next.parent();
                }
            },
            None => ancestor = next.parent(),
        }
    };
    target.take_running_ref();
    // SAFETY: nothing below runs Python code.
    unsafe { end_stack(state) };
    thread.payload.set(payload);
    thread.origin.set(Some(me));
    state.thread.set(None);
    if let Some(coroutine) = state.coroutine.take() {
        coroutine.set_user(ptr::null_mut());
        coroutine.release();
    }
    let coroutine = target.state().coroutine.get();
    (
        coroutine.expect("an active greenlet has a coroutine"),
        Signal::Explicit,
    )
}

/// `greenlet`, or its first ancestor that is not dead.
fn first_living(greenlet: GreenletRef) -> Option<GreenletRef> {
    let mut living = greenlet;
    while living.state().phase.get() == Phase::Dead {
        living = living.parent()?;
    }
    Some(living)
}

/// Ends the process the way the interpreter does when it cannot go on.
fn fatal(text: &str) -> ! {
    let mut message = [0u8; 160];
    let length = text.len().min(message.len() - 1);
    message[..length].copy_from_slice(&text.as_bytes()[..length]);
    // SAFETY: a NUL-terminated text; the call does not return.
    unsafe { ffi::Py_FatalError(message.as_ptr().cast()) }
}

/// What ended a wait by an explicit switch instead of a wake-up: the thrown exception, or an error
/// about the value that nobody expects here.
pub(crate) fn after_interruption(thread: &'static PyThread) -> PyErr {
    // SAFETY: the GIL is held.
    let py = unsafe { Python::assume_attached() };
    let result = take_result(thread);
    if result.is_null() {
        return PyErr::fetch(py);
    }
    // SAFETY: a new reference.
    let value = unsafe { Bound::from_owned_ptr(py, result) };
    crate::exceptions::invalid_switch(py, &value)
}
