//! What one Python thread has of greenlets.
//!
//! A native thread may see several thread states one after the other (`PyGILState_Ensure` makes and
//! deletes them), and a new one often has the address of an old one, so a [`PyThread`] is known by
//! the thread state's unique number.
//!
//! The end comes in two steps. A capsule in the thread state's dict dies with it and marks the
//! `PyThread` as *gone*: its greenlets count as dead from then on. When the native thread has left,
//! its stacks are freed ("buried") by whoever next holds the GIL.

use std::{
    cell::{Cell, RefCell},
    ffi::c_void,
    ptr,
    sync::atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use pyo3::{exceptions::PyRuntimeError, ffi, ffi::PyObject, prelude::*};
use rgevent_runtime::coroutine::{Hooks, Thread};

use crate::{
    config, errors,
    greenlet::{self, GreenletRef, Phase, State},
    tstate,
};

/// What is handed over by a switch. The references are owned.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Payload {
    /// Nothing was handed over: a wake-up of the hub.
    Nothing,
    /// The result of `switch()` on the other side.
    Value(*mut PyObject),
    /// Arguments as they were passed: a tuple, and a dict or NULL.
    Call(*mut PyObject, *mut PyObject),
    /// A `GreenletExit` that ended a greenlet: a value for whoever is started already. One that
    /// begins with it gets no arguments, as in greenlet.
    Exit(*mut PyObject),
    /// An exception to raise on the other side.
    Throw(*mut PyObject),
}

impl Payload {
    /// Gives the references back. May run Python code.
    pub(crate) fn drop_refs(self) {
        let (first, second) = match self {
            Self::Nothing => return,
            Self::Value(object) | Self::Exit(object) | Self::Throw(object) => {
                (object, ptr::null_mut())
            }
            Self::Call(args, kwargs) => (args, kwargs),
        };
        // SAFETY: owned references, and the GIL is held.
        unsafe { ffi::Py_XDECREF(first) };
        // SAFETY: as above.
        unsafe { ffi::Py_XDECREF(second) };
    }
}

/// The greenlets of one Python thread. Freed when it is buried.
pub(crate) struct PyThread {
    pub(crate) runtime: &'static Thread,
    pub(crate) ts: *mut ffi::PyThreadState,
    ts_id: i64,
    /// Owned.
    pub(crate) main: GreenletRef,
    /// Where lists of its frames end; its thread state may be gone by the time this is needed.
    pub(crate) frames_end: *mut c_void,
    /// An address in the native stack, from when this was made.
    pub(crate) main_base: usize,
    /// On its way to the greenlet that is being resumed; empty between switches.
    pub(crate) payload: Cell<Payload>,
    /// Who switched, with its running reference; empty between switches.
    pub(crate) origin: Cell<Option<GreenletRef>>,
    /// The thread state has ended.
    gone: Cell<bool>,
    /// Something beyond a plain switch is to be done: `deferred` is not empty, it is gone, or its
    /// switches are traced.
    pub(crate) attention: Cell<bool>,
    /// What `settrace` has set; owned, or NULL.
    tracer: Cell<*mut PyObject>,
    /// Greenlets whose last reference was dropped in another thread; owned.
    deferred: RefCell<Vec<GreenletRef>>,
    /// Operations in a row that did not have to wait; see `socket`.
    pub(crate) busy: Cell<u32>,
    /// Greenlets that ended without an explicit switch, with their running references.
    pub(crate) finished: RefCell<Vec<GreenletRef>>,
    /// The hub greenlet; owned.
    pub(crate) hub: Cell<Option<GreenletRef>>,
}

static HOOKS: Hooks = Hooks {
    leave: |word| {
        if let Some(greenlet) = GreenletRef::from_word(word) {
            let state = greenlet.state();
            let here = 0u8;
            state.parked_at.set(ptr::from_ref(&here).addr());
            // SAFETY: this greenlet runs on this thread, so the thread state is current and holds
            // its state; the runtime's contract is that no code runs before the other side.
            unsafe { state.saved().save(state.ts.get()) };
            if cfg!(Py_3_14)
                && let Some(thread) = state.thread.get()
                && thread.hands_nothing_over()
            {
                // SAFETY: as above; it was saved just now.
                unsafe { state.saved().park_loop(state.ts.get()) };
            }
        }
    },
    arrive: |word| {
        if let Some(greenlet) = GreenletRef::from_word(word) {
            let state = greenlet.state();
            // SAFETY: as above; it was saved when it left.
            unsafe { state.saved().restore(state.ts.get()) };
            if state.saved().has_parked_loop() {
                bring_loop_back(state);
            }
        }
    },
    start_failed: crate::task::start_failed,
    describe: greenlet::describe,
    overflow_advice: greenlet::OVERFLOW_ADVICE,
    abandon: |word| match GreenletRef::from_word(word) {
        Some(greenlet) => greenlet::abandoned(greenlet),
        None => false,
    },
};

/// A greenlet that parked in a running asyncio loop goes on.
#[cold]
fn bring_loop_back(state: &State) {
    let origin = state.thread.get().and_then(|thread| thread.origin.get());
    if let Some(origin) = origin {
        // It switched here explicitly, from a loop of its own, maybe.
        // SAFETY: the current thread state, which `origin` was just saved from.
        unsafe { origin.state().saved().park_loop(state.ts.get()) };
    }
    // SAFETY: as above, restored for `state` just now; who else leaves a greenlet takes its loop along.
    unsafe { state.saved().unpark_loop(state.ts.get()) };
}

/// Native threads that ended with coroutines of their own, to be buried by somebody with the GIL.
static ENDED: Mutex<Vec<Ended>> = Mutex::new(Vec::new());

struct Ended(*const PyThread);

// SAFETY: the pointer is only followed with the GIL held, after its thread has ended.
unsafe impl Send for Ended {}

thread_local! {
    static END: EndOfThread = const { EndOfThread };
}

impl PyThread {
    /// The current thread's greenlets, if it has any and its thread state is the one they know.
    #[inline]
    pub(crate) fn try_current() -> Option<&'static PyThread> {
        let word = Thread::try_current()?.user().cast::<PyThread>();
        // SAFETY: NULL, or the leaked `PyThread` of this native thread; it is freed only after it
        // was taken out of the runtime's thread.
        let thread = unsafe { word.as_ref() }?;
        (!thread.is_gone() || thread.is_ending()).then_some(thread)
    }

    /// The current thread's greenlets, set up on first use.
    #[inline]
    pub(crate) fn current_or_new(py: Python<'_>) -> PyResult<&'static PyThread> {
        match Self::try_current() {
            Some(thread) => Ok(thread),
            None => Self::attach(py),
        }
    }

    #[cold]
    fn attach(py: Python<'_>) -> PyResult<&'static PyThread> {
        if finalizing() {
            return Err(PyRuntimeError::new_err("greenlet is being finalized"));
        }
        bury_ended();
        if let Some(old) = Thread::try_current() {
            // The native thread lives on, under a new thread state.
            let record = old.user().cast::<PyThread>();
            old.detach();
            bury(record);
        }
        let runtime = Thread::attach();
        runtime.set_hooks(&HOOKS);
        runtime.set_stack_sizes(config::stack_sizes());
        // SAFETY: the GIL is held.
        let ts = unsafe { ffi::PyThreadState_Get() };
        // SAFETY: the current thread state.
        let ts_id = unsafe { ffi::PyThreadState_GetID(ts) };
        let main = greenlet::new_main(py)?;
        let thread: &'static PyThread = Box::leak(Box::new(PyThread {
            runtime,
            ts,
            ts_id,
            main,
            // SAFETY: the current thread state.
            frames_end: unsafe { tstate::end_of_frames(ts) },
            main_base: ptr::from_ref(&ts).addr(),
            payload: Cell::new(Payload::Nothing),
            origin: Cell::new(None),
            gone: Cell::new(false),
            attention: Cell::new(false),
            tracer: Cell::new(ptr::null_mut()),
            deferred: RefCell::new(Vec::new()),
            busy: Cell::new(0),
            finished: RefCell::new(Vec::new()),
            hub: Cell::new(None),
        }));
        let state = main.state();
        state.thread.set(Some(thread));
        state.ts.set(ts);
        state.coroutine.set(Some(runtime.main()));
        runtime.main().set_user(main.word());
        runtime.set_user(ptr::from_ref(thread).cast_mut().cast());
        // Fails only while the thread is ending already.
        let _ = END.try_with(|_| ());
        THREADS.fetch_add(1, Ordering::Relaxed);
        thread.watch_thread_state(py)?;
        Ok(thread)
    }

    /// Has us told when the thread state ends.
    fn watch_thread_state(&'static self, py: Python<'_>) -> PyResult<()> {
        unsafe extern "C" fn ended(capsule: *mut PyObject) {
            // SAFETY: a capsule of ours with this name.
            let word = unsafe { ffi::PyCapsule_GetPointer(capsule, c"rgevent.thread".as_ptr()) };
            // SAFETY: a leaked `PyThread` is freed only after its thread state ended.
            if let Some(thread) = unsafe { word.cast::<PyThread>().as_ref() } {
                if thread.is_ending() {
                    // The last moment at which their `finally` blocks can run.
                    thread.unwind_deferred();
                }
                thread.gone.set(true);
                thread.attention.set(true);
                thread.runtime.retire();
            }
        }
        let word = ptr::from_ref(self).cast_mut().cast::<c_void>();
        // SAFETY: a pointer, a static name, a function of the right type.
        let capsule = unsafe { ffi::PyCapsule_New(word, c"rgevent.thread".as_ptr(), Some(ended)) };
        // SAFETY: a new reference or NULL with an error set.
        let capsule = unsafe { Bound::from_owned_ptr_or_err(py, capsule)? };
        // SAFETY: the GIL is held; a borrowed dict or NULL.
        let dict = unsafe { ffi::PyThreadState_GetDict() };
        // SAFETY: as above.
        let dict = unsafe { Bound::from_borrowed_ptr_or_err(py, dict)? };
        dict.set_item(("rgevent.thread", self.ts_id), capsule)
    }

    /// The switch that is under way hands nothing over: somebody parks in the hub, or is woken there.
    #[inline(always)]
    fn hands_nothing_over(&self) -> bool {
        matches!(self.payload.get(), Payload::Nothing)
    }

    /// The greenlet that runs.
    #[inline]
    pub(crate) fn current(&self) -> GreenletRef {
        GreenletRef::from_word(self.runtime.current().user())
            .expect("every coroutine of a Python thread belongs to a greenlet")
    }

    /// Its thread state has ended.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// Its thread state is just being cleared, by this very thread.
    #[cold]
    pub(crate) fn is_ending(&self) -> bool {
        if !self.runtime.is_current() || finalizing() {
            return false;
        }
        // SAFETY: the GIL is held.
        let ts = unsafe { ffi::PyThreadState_Get() };
        // SAFETY: the current thread state.
        ts == self.ts && unsafe { ffi::PyThreadState_GetID(ts) } == self.ts_id
    }

    /// Takes over a greenlet whose last reference was dropped in another thread.
    pub(crate) fn defer(&self, greenlet: GreenletRef) {
        self.deferred.borrow_mut().push(greenlet);
        self.attention.set(true);
    }

    /// Unwinds what other threads left. The pending exception is kept out of it.
    #[cold]
    pub(crate) fn unwind_deferred(&self) {
        if self.deferred.borrow().is_empty() {
            return;
        }
        let _aside = errors::Aside::new();
        loop {
            let greenlet = self.deferred.borrow_mut().pop();
            match greenlet {
                Some(greenlet) => greenlet.decref(),
                None => break,
            }
        }
        self.see_attention();
    }

    fn see_attention(&self) {
        let deferred = !self.deferred.borrow().is_empty();
        self.attention
            .set(deferred || self.is_gone() || !self.tracer().is_null());
    }

    /// What is told of switches, borrowed, or NULL.
    pub(crate) fn tracer(&self) -> *mut PyObject {
        self.tracer.get()
    }

    /// Takes over a reference (or NULL) to the new one, and gives the old one's back.
    pub(crate) fn replace_tracer(&self, new: *mut PyObject) -> *mut PyObject {
        let old = self.tracer.replace(new);
        self.see_attention();
        old
    }

    /// Gives back the running references of greenlets that have ended. May run Python code.
    #[inline]
    pub(crate) fn reap(&self) {
        if !self.finished.borrow().is_empty() {
            self.reap_now();
        }
    }

    #[cold]
    fn reap_now(&self) {
        let _aside = errors::Aside::new();
        loop {
            let greenlet = self.finished.borrow_mut().pop();
            match greenlet {
                Some(greenlet) => greenlet.drop_running_ref(),
                None => return,
            }
        }
    }
}

/// Threads that have greenlets and are not buried yet.
static THREADS: AtomicUsize = AtomicUsize::new(0);

/// How many main greenlets there are, and how many ended threads wait to be cleaned up after.
#[pyfunction]
pub(crate) fn thread_counts() -> (usize, usize) {
    (THREADS.load(Ordering::Relaxed), ENDED.lock().len())
}

/// Puts a value into the dict of the thread state.
#[pyfunction]
pub(crate) fn set_thread_local(key: &Bound<'_, PyAny>, value: &Bound<'_, PyAny>) -> PyResult<()> {
    // SAFETY: the GIL is held; a borrowed dict or NULL.
    let dict = unsafe { ffi::PyThreadState_GetDict() };
    // SAFETY: as above.
    let dict = unsafe { Bound::from_borrowed_ptr_or_err(key.py(), dict)? };
    dict.set_item(key, value)
}

/// Whether the interpreter is going down.
pub(crate) fn finalizing() -> bool {
    #[cfg(Py_3_13)]
    {
        // SAFETY: may be called at any time.
        unsafe { ffi::Py_IsFinalizing() != 0 }
    }
    #[cfg(not(Py_3_13))]
    {
        unsafe extern "C" {
            fn _Py_IsFinalizing() -> std::ffi::c_int;
        }
        // SAFETY: may be called at any time; exported by 3.11 and 3.12.
        unsafe { _Py_IsFinalizing() != 0 }
    }
}

/// Frees what the greenlets of an ended thread had.
fn bury(record: *const PyThread) {
    // SAFETY: leaked by `attach`, and buried once: it was taken out of its runtime thread, or out
    // of the list of ended threads.
    let Some(thread) = (unsafe { record.as_ref() }) else {
        return;
    };
    thread.gone.set(true);
    THREADS.fetch_sub(1, Ordering::Relaxed);
    let main = thread.main;
    // SAFETY: the native thread has ended or has left these coroutines for good, and the GIL keeps
    // everybody else away.
    unsafe { thread.runtime.bury() };
    let state = main.state();
    state.phase.set(Phase::Dead);
    state.thread_exited.set(true);
    state.coroutine.set(None);
    let hub = thread.hub.take();
    let tracer = thread.tracer.get();
    let deferred = thread.deferred.take();
    let corpses = greenlet::take_corpses();
    state.thread.set(None);
    // SAFETY: nothing refers to it any more: greenlets were told by the `abandon` hook.
    drop(unsafe { Box::from_raw(record.cast_mut()) });
    // From here on Python code may run.
    let _aside = errors::Aside::new();
    for greenlet in corpses.into_iter().chain(deferred).chain(hub) {
        greenlet.decref();
    }
    main.drop_running_ref();
    main.decref();
    // SAFETY: the thread owned it, or NULL.
    unsafe { ffi::Py_XDECREF(tracer) };
}

/// Buries all threads that ended. The GIL is held.
#[cold]
fn bury_ended() {
    loop {
        let ended = ENDED.lock().pop();
        match ended {
            Some(Ended(record)) => bury(record),
            None => return,
        }
    }
}

/// Its destructor runs as the native thread ends, without the GIL.
struct EndOfThread;

impl Drop for EndOfThread {
    fn drop(&mut self) {
        let Some(runtime) = Thread::try_current() else {
            return;
        };
        let record = runtime.user().cast::<PyThread>().cast_const();
        runtime.detach();
        // SAFETY: may be called at any time.
        let running = unsafe { ffi::Py_IsInitialized() != 0 };
        if record.is_null() || !running || finalizing() {
            return;
        }
        extern "C" fn bury_them(_: *mut c_void) -> std::ffi::c_int {
            if !finalizing() {
                bury_ended();
            }
            0
        }
        ENDED.lock().push(Ended(record));
        // Full is fine: the next thread that begins to use greenlets buries them too.
        // SAFETY: may be called without the GIL.
        unsafe { ffi::Py_AddPendingCall(Some(bury_them), ptr::null_mut()) };
    }
}
