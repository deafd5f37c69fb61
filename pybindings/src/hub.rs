//! The hub as a greenlet: what the runtime's event loop needs from the interpreter.

use std::{cell::Cell, mem::MaybeUninit, ptr, sync::OnceLock};

use pyo3::{exceptions::PyOSError, ffi, prelude::*, types::PyType};
use rgevent_runtime::{
    Host,
    coroutine::{self, Coroutine, Signal},
    hub::{Hub, HubOptions},
};

use crate::{
    call, errors,
    exceptions::LoopExit,
    greenlet::{self, GreenletRef, Phase},
    thread::{Payload, PyThread},
};

/// The class of new hubs; the package sets it to a Python subclass of `HubBase`.
static HUB_CLASS: OnceLock<Py<PyType>> = OnceLock::new();

/// Chooses the class of hubs made from now on. Called once, by the package.
#[pyfunction]
pub(crate) fn set_hub_class(class: Bound<'_, PyType>) {
    let _ = HUB_CLASS.set(class.unbind());
}

/// The current thread's hub, made on first use.
#[inline]
pub(crate) fn current(py: Python<'_>) -> PyResult<&'static Hub> {
    let thread = PyThread::current_or_new(py)?;
    match thread.runtime.try_hub() {
        Some(hub) => Ok(hub),
        None => make(py, thread),
    }
}

/// The current thread's hub greenlet.
#[pyfunction]
pub(crate) fn get_hub(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    current(py)?;
    let thread = PyThread::current_or_new(py)?;
    let hub = thread.hub.get().expect("the hub was just made");
    Ok(hub.bound(py))
}

/// The current thread's hub greenlet if there is one, else None.
#[pyfunction]
pub(crate) fn get_hub_if_exists(py: Python<'_>) -> Option<Bound<'_, PyAny>> {
    PyThread::try_current()?.hub.get().map(|hub| hub.bound(py))
}

#[cold]
fn make(py: Python<'_>, thread: &'static PyThread) -> PyResult<&'static Hub> {
    let class = match HUB_CLASS.get() {
        Some(class) => class.bind(py).clone(),
        None => crate::globals::globals().greenlet_class(py),
    };
    let object = class.call0()?;
    let greenlet = GreenletRef::new(object.as_ptr());
    object.setattr("parent", thread.main.bound(py))?;
    let coroutine = Coroutine::new(thread.runtime, hub_function, greenlet.word());
    coroutine.set_user(greenlet.word());
    let installed = coroutine.start().and_then(|()| {
        let options = HubOptions {
            host: Box::new(PyHost {
                detached: Cell::new(ptr::null_mut()),
                thread,
            }),
            coroutine: Some(coroutine),
            ..HubOptions::default()
        };
        Hub::install(thread.runtime, options)
    });
    let hub = installed.map_err(|error| {
        coroutine.set_user(ptr::null_mut());
        thread.runtime.abandon(coroutine);
        coroutine.release();
        PyOSError::new_err(format!("cannot make an event loop: {error}"))
    })?;
    let state = greenlet.state();
    state.coroutine.set(Some(coroutine));
    state.ts.set(thread.ts);
    state.thread.set(Some(thread));
    state.phase.set(Phase::Active);
    greenlet.incref();
    thread.hub.set(Some(greenlet));
    Ok(hub)
}

/// What the hub's coroutine runs.
fn hub_function(word: *mut ()) -> (Coroutine, Signal) {
    let me = GreenletRef::from_word(word).expect("a greenlet's coroutine carries it");
    let state = me.state();
    let mut base = MaybeUninit::uninit();
    // SAFETY: this is the entry function of the coroutine, which never returns.
    unsafe { greenlet::begin_stack(state, base.as_mut_ptr()) };
    let thread = state.thread.get().expect("a running greenlet has a thread");
    take_switch(thread);
    let hub = thread.runtime.try_hub();
    hub.expect("a hub is installed before it runs").run()
}

/// Somebody switched to the hub by hand: nobody wants the value, an exception is reported.
fn take_switch(thread: &'static PyThread) {
    if matches!(thread.payload.get(), Payload::Nothing) && thread.origin.get().is_none() {
        return;
    }
    if matches!(thread.payload.get(), Payload::Nothing) {
        if let Some(origin) = thread.origin.take() {
            origin.drop_running_ref();
        }
        return;
    }
    let result = greenlet::take_result(thread);
    // SAFETY: the GIL is held.
    let py = unsafe { Python::assume_attached() };
    if result.is_null() {
        report(py, thread, None, PyErr::fetch(py));
    } else {
        // SAFETY: a new reference.
        unsafe { ffi::Py_DECREF(result) };
    }
}

/// Hands an error to the hub's `handle_error(context, type, value, traceback)`.
pub(crate) fn report(
    py: Python<'_>,
    thread: &'static PyThread,
    context: Option<&Bound<'_, PyAny>>,
    error: PyErr,
) {
    let Some(hub) = thread.hub.get() else {
        error.write_unraisable(py, context);
        return;
    };
    let parts = (
        context,
        error.get_type(py),
        error.value(py),
        error.traceback(py),
    );
    if let Err(failure) = hub.bound(py).call_method1("handle_error", parts) {
        error.write_unraisable(py, context);
        failure.write_unraisable(py, context);
    }
}

/// Throws into a greenlet from the hub. Returns when the hub runs again.
pub(crate) fn throw_from_hub(
    thread: &'static PyThread,
    target: GreenletRef,
    exception: *mut ffi::PyObject,
) {
    let state = target.state();
    if !state.is_active() || Some(target) == thread.hub.get() {
        Payload::Throw(exception).drop_refs();
        return;
    }
    target.take_running_ref();
    thread.payload.set(Payload::Throw(exception));
    thread.origin.set(None);
    let coroutine = state.coroutine.get();
    let coroutine = coroutine.expect("an active greenlet has a coroutine");
    let signal = coroutine::switch(thread.runtime, coroutine, Signal::Explicit);
    after_resume(thread, signal);
}

fn after_resume(thread: &'static PyThread, signal: Signal) {
    if signal == Signal::Explicit {
        take_switch(thread);
    }
    thread.reap();
    debug_assert!(!errors::pending(), "an error is pending in the hub");
}

/// The interpreter's side of the event loop.
struct PyHost {
    thread: &'static PyThread,
    /// The thread state while the GIL is released.
    detached: Cell<*mut ffi::PyThreadState>,
}

impl Host for PyHost {
    fn before_poll(&self) {
        // SAFETY: the GIL is held, and nothing here touches Python before `after_poll`.
        self.detached.set(unsafe { ffi::PyEval_SaveThread() });
    }

    fn after_poll(&self) {
        // SAFETY: what `before_poll` got on this thread.
        unsafe { call::restore_thread(self.detached.get()) };
    }

    fn interrupted(&self) {
        // SAFETY: the GIL is held.
        if unsafe { ffi::PyErr_CheckSignals() } != 0 {
            throw_from_hub(self.thread, self.thread.main, errors::take());
        }
    }

    fn resumed(&self, signal: Signal) {
        after_resume(self.thread, signal);
    }

    fn expects_outside_wakeup(&self) -> bool {
        // Another Python thread may release a lock or set an event that is waited for here.
        // SAFETY: the GIL is held.
        let interpreter = unsafe { ffi::PyInterpreterState_Get() };
        // SAFETY: as above; every interpreter has a thread state.
        let first = unsafe { ffi::PyInterpreterState_ThreadHead(interpreter) };
        // SAFETY: as above.
        !unsafe { ffi::PyThreadState_Next(first) }.is_null()
    }

    fn loop_exit(&self) -> bool {
        let error = LoopExit::new_err(
            "This operation would block forever: nothing is left that could wake any greenlet",
        );
        // SAFETY: the GIL is held.
        let py = unsafe { Python::assume_attached() };
        throw_from_hub(
            self.thread,
            self.thread.main,
            error.into_value(py).into_ptr(),
        );
        true
    }
}

/// Makes this thread's hub independent of the parent process's, in a forked child.
#[pyfunction]
pub(crate) fn reinit_after_fork(py: Python<'_>) -> PyResult<()> {
    rgevent_runtime::blocking::reset_after_fork();
    match PyThread::try_current().and_then(|thread| thread.runtime.try_hub()) {
        Some(hub) => Ok(hub.reinit_after_fork()?),
        None => {
            let _ = py;
            Ok(())
        }
    }
}
