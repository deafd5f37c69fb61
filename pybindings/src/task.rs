//! gevent's `Greenlet`: a greenlet that the hub runs, with a result, joiners and links.
//!
//! A spawned greenlet is a queue entry until its turn comes: no stack, no hub callback object. It
//! owns itself (the running reference) from then to its end. At the end control goes on to
//! whatever is ready next, not to the parent, so nothing has to be passed.

use std::{
    cell::{Cell, RefCell},
    ffi::{c_int, c_void},
    mem::MaybeUninit,
    ptr,
};

use pyo3::{
    exceptions::PyTypeError,
    ffi,
    ffi::PyObject,
    prelude::*,
    types::{PyDict, PyTuple, PyType},
};
use rgevent_runtime::{
    coroutine::{Coroutine, Signal, State as Stage},
    hub::Hub,
    sync::WaitQueue,
};

use crate::{
    call, errors,
    globals::globals,
    greenlet::{self, GreenletRef, Object, Phase},
    hub,
    thread::{Payload, PyThread},
    tstate, wait,
};

/// The memory of a `Greenlet`.
#[repr(C)]
pub(crate) struct TaskObject {
    base: Object,
    fields: *mut Fields,
}

/// What a `Greenlet` has beyond a greenlet. References are owned or NULL.
pub(crate) struct Fields {
    pub(crate) function: Cell<*mut PyObject>,
    pub(crate) args: Cell<*mut PyObject>,
    pub(crate) kwargs: Cell<*mut PyObject>,
    /// The result, once it has ended well.
    pub(crate) value: Cell<*mut PyObject>,
    /// The exception that ended it.
    pub(crate) exception: Cell<*mut PyObject>,
    /// In the run queue, or past it.
    pub(crate) scheduled: Cell<bool>,
    pub(crate) ended: Cell<bool>,
    pub(crate) joiners: WaitQueue,
    /// Callables to be called in the hub with the greenlet at its end.
    pub(crate) links: RefCell<Vec<Py<PyAny>>>,
}

impl Fields {
    fn new() -> Self {
        Self {
            function: Cell::new(ptr::null_mut()),
            args: Cell::new(ptr::null_mut()),
            kwargs: Cell::new(ptr::null_mut()),
            value: Cell::new(ptr::null_mut()),
            exception: Cell::new(ptr::null_mut()),
            scheduled: Cell::new(false),
            ended: Cell::new(false),
            joiners: WaitQueue::new(),
            links: RefCell::new(Vec::new()),
        }
    }

    fn held(&self) -> [&Cell<*mut PyObject>; 5] {
        [
            &self.function,
            &self.args,
            &self.kwargs,
            &self.value,
            &self.exception,
        ]
    }
}

/// The fields of a greenlet that is known to be a `Greenlet`.
#[inline]
pub(crate) fn fields<'a>(greenlet: GreenletRef) -> &'a Fields {
    let object = greenlet.as_ptr().cast::<TaskObject>();
    // SAFETY: the type was checked by whoever made the reference; fields live with their object.
    let fields = unsafe { (*object).fields };
    // SAFETY: as above; only shared references are made.
    unsafe { &*fields }
}

/// Makes the type `Greenlet`'s native base: a new reference.
pub(crate) fn make_type(
    py: Python<'_>,
    base: *mut ffi::PyTypeObject,
) -> PyResult<*mut ffi::PyTypeObject> {
    fn slot(id: c_int, function: *mut c_void) -> ffi::PyType_Slot {
        ffi::PyType_Slot {
            slot: id,
            pfunc: function,
        }
    }
    const DOC: &std::ffi::CStr = c"Base of Greenlet: a greenlet that the hub runs.";
    let slots = Box::leak(Box::new([
        slot(ffi::Py_tp_doc, DOC.as_ptr().cast_mut().cast()),
        slot(ffi::Py_tp_new, new as *mut c_void),
        slot(ffi::Py_tp_init, init as *mut c_void),
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, clear as *mut c_void),
        slot(0, ptr::null_mut()),
    ]));
    let flags = ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_BASETYPE | ffi::Py_TPFLAGS_HAVE_GC;
    let spec = Box::leak(Box::new(ffi::PyType_Spec {
        name: c"rgevent._rgevent.GreenletBase".as_ptr(),
        basicsize: size_of::<TaskObject>() as c_int,
        itemsize: 0,
        flags: flags as std::ffi::c_uint,
        slots: slots.as_mut_ptr(),
    }));
    // SAFETY: a spec that lives for ever, and a ready base type whose layout ours begins with.
    let class = unsafe { ffi::PyType_FromSpecWithBases(spec, base.cast()) };
    if class.is_null() {
        return Err(PyErr::fetch(py));
    }
    Ok(class.cast())
}

/// A new `Greenlet` object of `class`, unscheduled.
fn allocate(class: *mut ffi::PyTypeObject) -> *mut PyObject {
    let object = greenlet::allocate(class);
    if !object.is_null() {
        let fields = Box::into_raw(Box::new(Fields::new()));
        // SAFETY: just allocated with at least the size of `TaskObject`.
        unsafe { (*object.cast::<TaskObject>()).fields = fields };
    }
    object
}

unsafe extern "C" fn new(
    class: *mut ffi::PyTypeObject,
    _args: *mut PyObject,
    _kwargs: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: the GIL is held.
    let py = unsafe { Python::assume_attached() };
    match hub::get_hub(py) {
        Ok(hub) => {
            let object = allocate(class);
            if !object.is_null() {
                GreenletRef::new(object).state().parent.set(hub.into_ptr());
            }
            object
        }
        Err(error) => errors::raise(error),
    }
}

/// `Greenlet(run=None, *args, **kwargs)`.
unsafe extern "C" fn init(
    object: *mut PyObject,
    args: *mut PyObject,
    kwargs: *mut PyObject,
) -> c_int {
    // SAFETY: the GIL is held.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: a tuple from the interpreter.
    let args = unsafe { Bound::from_borrowed_ptr(py, args) };
    let args = args.cast_into::<PyTuple>().expect("arguments are a tuple");
    // SAFETY: a dict or NULL.
    let kwargs = unsafe { Bound::from_borrowed_ptr_or_opt(py, kwargs) };
    let kwargs = kwargs.map(|kwargs| kwargs.cast_into::<PyDict>().expect("keywords are a dict"));
    match set_function(GreenletRef::new(object), &args, kwargs.as_ref()) {
        Ok(()) => 0,
        Err(error) => {
            errors::raise(error);
            -1
        }
    }
}

fn set_function(
    greenlet: GreenletRef,
    args: &Bound<'_, PyTuple>,
    kwargs: Option<&Bound<'_, PyDict>>,
) -> PyResult<()> {
    let py = args.py();
    let fields = fields(greenlet);
    let mut function = args.get_item(0).ok();
    let mut kwargs = kwargs.cloned();
    if function.is_none()
        && let Some(given) = &kwargs
        && let Some(run) = given.get_item("run")?
    {
        let rest = given.copy()?;
        rest.del_item("run")?;
        function = Some(run);
        kwargs = Some(rest);
    }
    if let Some(function) = function.filter(|function| !function.is_none()) {
        if !function.is_callable() {
            return Err(PyTypeError::new_err(format!(
                "The run argument or self._run must be callable, not {}",
                function.get_type().name()?
            )));
        }
        replace(&fields.function, function.into_ptr());
    }
    let rest = args.get_slice(1.min(args.len()), args.len());
    replace(&fields.args, rest.into_ptr());
    let kwargs = kwargs.filter(|kwargs| !kwargs.is_empty());
    replace(
        &fields.kwargs,
        kwargs.map_or(ptr::null_mut(), Bound::into_ptr),
    );
    let _ = py;
    Ok(())
}

/// Stores an owned reference (or NULL) and gives the old one back. May run Python code.
fn replace(cell: &Cell<*mut PyObject>, new: *mut PyObject) {
    let old = cell.replace(new);
    // SAFETY: owned by the cell until now, or NULL; the GIL is held.
    unsafe { ffi::Py_XDECREF(old) };
}

unsafe extern "C" fn dealloc(object: *mut PyObject) {
    // A suspended one is unwound first, and may survive that.
    // SAFETY: an object in its dealloc.
    unsafe { greenlet::dealloc_with(object, free_fields) };
}

/// Frees what a dead object of ours has beyond a greenlet.
fn free_fields(object: *mut PyObject) {
    // SAFETY: an object of our type, beyond use by others.
    let fields = unsafe { (*object.cast::<TaskObject>()).fields };
    // SAFETY: allocated with the object, and freed once.
    let fields = unsafe { Box::from_raw(fields) };
    for cell in fields.held() {
        replace(cell, ptr::null_mut());
    }
}

unsafe extern "C" fn traverse(
    object: *mut PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: the object is being traversed; its fields exist from its allocation on.
    let fields = unsafe { (*object.cast::<TaskObject>()).fields };
    // SAFETY: as above, or NULL during the allocation itself.
    if let Some(fields) = unsafe { fields.as_ref() } {
        for cell in fields.held() {
            let held = cell.get();
            if !held.is_null() {
                // SAFETY: the collector's visitor; a live object we own a reference to.
                let stop = unsafe { visit(held, arg) };
                if stop != 0 {
                    return stop;
                }
            }
        }
        if let Ok(links) = fields.links.try_borrow() {
            for link in links.iter() {
                // SAFETY: as above.
                let stop = unsafe { visit(link.as_ptr(), arg) };
                if stop != 0 {
                    return stop;
                }
            }
        }
    }
    // SAFETY: passed on.
    unsafe { greenlet::traverse(object, visit, arg) }
}

unsafe extern "C" fn clear(object: *mut PyObject) -> c_int {
    let greenlet = GreenletRef::new(object);
    if greenlet.state().is_active() {
        return 0;
    }
    let fields = fields(greenlet);
    for cell in fields.held() {
        replace(cell, ptr::null_mut());
    }
    let links = fields.links.take();
    drop(links);
    // SAFETY: passed on.
    unsafe { greenlet::clear(object) }
}

/// The object as a `Greenlet`.
///
/// # Errors
/// `TypeError` for anything else.
pub(crate) fn cast(object: &Bound<'_, PyAny>) -> PyResult<GreenletRef> {
    // SAFETY: a live object and a type that is never freed.
    if unsafe { ffi::PyObject_TypeCheck(object.as_ptr(), globals().task_type) } == 0 {
        return Err(PyTypeError::new_err(format!(
            "expected a Greenlet, not {}",
            object.get_type().name()?
        )));
    }
    Ok(GreenletRef::new(object.as_ptr()))
}

/// `Greenlet.start()`: the hub will run it.
#[pyfunction]
pub(crate) fn task_start(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let greenlet = cast(object)?;
    let py = object.py();
    let hub = hub::current(py)?;
    let thread = PyThread::current_or_new(py)?;
    schedule(thread, hub, greenlet);
    Ok(())
}

/// Queues an unstarted greenlet, once.
fn schedule(thread: &'static PyThread, hub: &'static Hub, greenlet: GreenletRef) {
    let fields = fields(greenlet);
    let state = greenlet.state();
    if fields.scheduled.get() || fields.ended.get() || state.phase.get() != Phase::Unstarted {
        return;
    }
    fields.scheduled.set(true);
    let coroutine = Coroutine::new(thread.runtime, main_function, greenlet.word());
    coroutine.set_user(greenlet.word());
    state.coroutine.set(Some(coroutine));
    state.ts.set(thread.ts);
    state.thread.set(Some(thread));
    greenlet.take_running_ref();
    hub.schedule(coroutine);
}

/// Makes and starts one of `class`: what `spawn` does.
#[pyfunction]
#[pyo3(signature = (class, *args, **kwargs))]
pub(crate) fn task_spawn<'py>(
    class: &Bound<'py, PyType>,
    args: &Bound<'py, PyTuple>,
    kwargs: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let object = class.call(args, kwargs)?;
    let greenlet = cast(&object)?;
    let hub = hub::current(py)?;
    let thread = PyThread::current_or_new(py)?;
    schedule(thread, hub, greenlet);
    Ok(object)
}

/// What its coroutine runs.
fn main_function(word: *mut ()) -> (Coroutine, Signal) {
    let me = GreenletRef::from_word(word).expect("a greenlet's coroutine carries it");
    let state = me.state();
    let mut base = MaybeUninit::uninit();
    state.phase.set(Phase::Active);
    // SAFETY: this is the entry function of the coroutine, and `base` lives to its end.
    unsafe { greenlet::begin_stack(state, base.as_mut_ptr()) };
    let thread = state.thread.get().expect("a running greenlet has a thread");
    thread.reap();
    let result = call_body(me);
    record(thread, me, result);
    // SAFETY: the thread state is this thread's, in the state of this greenlet.
    unsafe { tstate::clear_handled(state.ts.get()) };
    leave(thread, me)
}

/// Calls `self.run()` when a subclass has one, else the function, else `self._run(...)`.
fn call_body(me: GreenletRef) -> *mut PyObject {
    // SAFETY: the GIL is held.
    let py = unsafe { Python::assume_attached() };
    let fields = fields(me);
    let class = me.bound(py).get_type();
    let empty = PyTuple::empty(py).into_ptr();
    let args = match fields.args.get() {
        args if args.is_null() => empty,
        args => args,
    };
    if overrides(&class, "run") {
        return call_method(py, me, "run", empty, ptr::null_mut());
    }
    let function = fields.function.get();
    if function.is_null() {
        return call_method(py, me, "_run", args, fields.kwargs.get());
    }
    call::object(function, args, fields.kwargs.get())
}

fn call_method(
    py: Python<'_>,
    me: GreenletRef,
    name: &str,
    args: *mut PyObject,
    kwargs: *mut PyObject,
) -> *mut PyObject {
    match me.bound(py).getattr(name) {
        Ok(method) => {
            let method = method.into_ptr();
            let result = call::object(method, args, kwargs);
            // SAFETY: a new reference from above.
            unsafe { ffi::Py_DECREF(method) };
            result
        }
        Err(error) => errors::raise(error),
    }
}

/// Whether a class between `class` and our own defines `name`.
fn overrides(class: &Bound<'_, PyType>, name: &str) -> bool {
    let ours: *mut PyObject = globals().task_class.get().cast();
    if class.as_ptr() == ours {
        return false;
    }
    class.mro().iter().any(|ancestor| {
        let Ok(ancestor) = ancestor.cast_into::<PyType>() else {
            return false;
        };
        if ancestor.as_ptr() == ours || ancestor.as_ptr() == globals().greenlet_type.cast() {
            return false;
        }
        // SAFETY: the two classes are alive.
        let below = unsafe {
            ours.is_null() || ffi::PyType_IsSubtype(ancestor.as_ptr().cast(), ours.cast()) != 0
        };
        below && ancestor.dict_has(name)
    })
}

trait DictHas {
    fn dict_has(&self, name: &str) -> bool;
}

impl DictHas for Bound<'_, PyType> {
    fn dict_has(&self, name: &str) -> bool {
        self.getattr("__dict__")
            .and_then(|dict| dict.contains(name))
            .unwrap_or(false)
    }
}

/// Keeps the result, wakes the joiners and calls the links; reports an unexpected exception.
fn record(thread: &'static PyThread, me: GreenletRef, result: *mut PyObject) {
    // SAFETY: the GIL is held.
    let py = unsafe { Python::assume_attached() };
    let fields = fields(me);
    let mut failure = None;
    if result.is_null() {
        let exception = errors::take();
        // SAFETY: two live objects.
        let exit =
            unsafe { ffi::PyErr_GivenExceptionMatches(exception, globals().greenlet_exit) != 0 };
        if exit {
            replace(&fields.value, exception);
        } else {
            // SAFETY: a live object.
            unsafe { ffi::Py_INCREF(exception) };
            replace(&fields.exception, exception);
            // SAFETY: the reference taken above.
            failure = Some(unsafe { Bound::from_owned_ptr(py, exception) });
        }
    } else {
        replace(&fields.value, result);
    }
    notify(py, me);
    if let Some(exception) = failure {
        hub::report(
            py,
            thread,
            Some(&me.bound(py)),
            PyErr::from_value(exception),
        );
    }
    for cell in [&fields.function, &fields.args, &fields.kwargs] {
        replace(cell, ptr::null_mut());
    }
}

/// It is over: joiners wake, links are called in the hub.
fn notify(py: Python<'_>, me: GreenletRef) {
    let fields = fields(me);
    fields.ended.set(true);
    fields.joiners.wake_all();
    if !fields.links.borrow().is_empty() {
        queue_links(py, me);
    }
}

/// Has the links called in the hub.
fn queue_links(py: Python<'_>, me: GreenletRef) {
    fn call_links(word: *mut ()) {
        let Some(me) = GreenletRef::from_word(word) else {
            return;
        };
        // SAFETY: the GIL is held.
        let py = unsafe { Python::assume_attached() };
        // SAFETY: `queue_links` took this reference.
        let object = unsafe { Bound::from_owned_ptr(py, me.as_ptr()) };
        let Ok(thread) = PyThread::current_or_new(py) else {
            return;
        };
        loop {
            let mut links = fields(me).links.borrow_mut();
            if links.is_empty() {
                return;
            }
            let link = links.remove(0);
            drop(links);
            if let Err(error) = link.bind(py).call1((&object,)) {
                let context = (link.bind(py), &object).into_pyobject(py);
                let context = context.ok().map(Bound::into_any);
                hub::report(py, thread, context.as_ref(), error);
            }
        }
    }
    if let Ok(hub) = hub::current(py) {
        me.incref();
        hub.call_soon((call_links, me.word()));
    }
}

/// The end of the coroutine: on to whatever is ready.
fn leave(thread: &'static PyThread, me: GreenletRef) -> (Coroutine, Signal) {
    let state = me.state();
    state.phase.set(Phase::Dead);
    let next = thread.runtime.try_hub().map(Hub::after_end);
    let next = next.expect("a spawned greenlet has a hub");
    // SAFETY: nothing below runs Python code.
    unsafe { greenlet::end_stack(state) };
    state.thread.set(None);
    if let Some(coroutine) = state.coroutine.take() {
        coroutine.set_user(ptr::null_mut());
        coroutine.release();
    }
    thread.finished.borrow_mut().push(me);
    next
}

/// A queued greenlet could not be started: it ends with a `MemoryError`.
pub(crate) fn start_failed(word: *mut (), error: std::io::Error) {
    let Some(me) = GreenletRef::from_word(word) else {
        return;
    };
    let state = me.state();
    let Some(thread) = state.thread.get() else {
        return;
    };
    errors::raise(greenlet::no_stack(error));
    drop_coroutine(me);
    state.phase.set(Phase::Dead);
    record(thread, me, ptr::null_mut());
    thread.finished.borrow_mut().push(me);
}

/// Takes the coroutine away from a greenlet that has not begun.
fn drop_coroutine(me: GreenletRef) {
    me.state().thread.set(None);
    if let Some(coroutine) = me.state().coroutine.take() {
        debug_assert_eq!(coroutine.state(), Stage::Unstarted);
        if let Some(hub) = coroutine.thread().try_hub() {
            hub.unschedule(coroutine);
        }
        coroutine.set_user(ptr::null_mut());
        coroutine.release();
    }
}

/// Ends a greenlet that has not begun, with `exception` (stolen) as if it had been raised in it.
fn end_unstarted(py: Python<'_>, me: GreenletRef, exception: *mut PyObject) -> PyResult<()> {
    let thread = PyThread::current_or_new(py)?;
    drop_coroutine(me);
    me.state().phase.set(Phase::Dead);
    // SAFETY: two live objects.
    let exit = unsafe { ffi::PyErr_GivenExceptionMatches(exception, globals().greenlet_exit) != 0 };
    let fields = fields(me);
    replace(
        if exit {
            &fields.value
        } else {
            &fields.exception
        },
        exception,
    );
    notify(py, me);
    for cell in [&fields.function, &fields.args, &fields.kwargs] {
        replace(cell, ptr::null_mut());
    }
    if me.state().running_ref.get() {
        thread.finished.borrow_mut().push(me);
    }
    Ok(())
}

/// A kill on its way to the hub.
struct Kill {
    target: GreenletRef,
    exception: *mut PyObject,
}

/// Has `exception` thrown into any greenlet by the hub, soon. Ends one that has not begun at once.
#[pyfunction]
pub(crate) fn task_kill(
    py: Python<'_>,
    target: &Bound<'_, PyAny>,
    exception: &Bound<'_, PyAny>,
) -> PyResult<()> {
    fn deliver(word: *mut ()) {
        // SAFETY: the box leaked below; a callback is called once.
        let kill = unsafe { Box::from_raw(word.cast::<Kill>()) };
        let Some(thread) = PyThread::try_current() else {
            return;
        };
        hub::throw_from_hub(thread, kill.target, kill.exception);
        kill.target.decref();
        thread.reap();
    }
    if !greenlet::is_greenlet(target.as_ptr()) {
        return Err(PyTypeError::new_err(format!(
            "expected a greenlet to kill, not {}",
            target.get_type().name()?
        )));
    }
    let greenlet = GreenletRef::new(target.as_ptr());
    let state = greenlet.state();
    let made = greenlet::exception_from(exception.as_ptr(), ptr::null_mut(), ptr::null_mut());
    if made.is_null() {
        return Err(PyErr::fetch(py));
    }
    if state.phase.get() == Phase::Unstarted && cast(target).is_ok() {
        return end_unstarted(py, greenlet, made);
    }
    if !state.is_active() {
        Payload::Throw(made).drop_refs();
        return Ok(());
    }
    let home = state.thread.get().expect("an active greenlet has a thread");
    greenlet.incref();
    let kill = Box::into_raw(Box::new(Kill {
        target: greenlet,
        exception: made,
    }));
    let word = kill as usize;
    if home.runtime.is_current() {
        hub::current(py)?.call_soon((deliver, word as *mut ()));
    } else {
        Hub::post(home.runtime, Box::new(move || deliver(word as *mut ())));
    }
    Ok(())
}

/// Waits for the end; false when the timeout (seconds) passed first.
#[pyfunction]
#[pyo3(signature = (object, timeout=None))]
pub(crate) fn task_join(object: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<bool> {
    let py = object.py();
    let greenlet = cast(object)?;
    if is_over(greenlet) {
        return Ok(true);
    }
    let hub = hub::current(py)?;
    let deadline = wait::deadline(hub, timeout)?;
    while !is_over(greenlet) {
        let result = fields(greenlet).joiners.wait(hub, deadline, || ());
        if !wait::outcome(py, result)? {
            return Ok(is_over(greenlet));
        }
    }
    Ok(true)
}

/// The function a `Greenlet` was made with, borrowed; NULL for none, and for raw greenlets.
pub(crate) fn function_of(greenlet: GreenletRef) -> *mut PyObject {
    // SAFETY: a live object and a type that is never freed.
    if unsafe { ffi::PyObject_TypeCheck(greenlet.as_ptr(), globals().task_type) } == 0 {
        return ptr::null_mut();
    }
    fields(greenlet).function.get()
}

fn is_over(greenlet: GreenletRef) -> bool {
    fields(greenlet).ended.get() || greenlet.state().is_dead()
}

/// One of the things a `Greenlet` remembers; see the stub.
#[pyfunction]
pub(crate) fn task_get<'py>(object: &Bound<'py, PyAny>, what: &str) -> PyResult<Bound<'py, PyAny>> {
    let py = object.py();
    let greenlet = cast(object)?;
    let fields = fields(greenlet);
    let held = match what {
        "value" => fields.value.get(),
        "exception" => fields.exception.get(),
        "args" => fields.args.get(),
        "kwargs" => fields.kwargs.get(),
        "function" => fields.function.get(),
        "ready" => return bool_object(py, is_over(greenlet)),
        "scheduled" => return bool_object(py, fields.scheduled.get()),
        _ => return Err(PyTypeError::new_err(format!("no such part: {what}"))),
    };
    if held.is_null() {
        return Ok(py.None().into_bound(py));
    }
    // SAFETY: a live object.
    Ok(unsafe { Bound::from_borrowed_ptr(py, held) })
}

fn bool_object(py: Python<'_>, value: bool) -> PyResult<Bound<'_, PyAny>> {
    Ok(value.into_pyobject(py)?.to_owned().into_any())
}

/// Has `callback(greenlet)` called in the hub at the end, or soon if that has come.
#[pyfunction]
pub(crate) fn task_link(object: &Bound<'_, PyAny>, callback: Bound<'_, PyAny>) -> PyResult<()> {
    let greenlet = cast(object)?;
    if !callback.is_callable() {
        return Err(PyTypeError::new_err(format!(
            "Expected callable: {}",
            callback.repr()?
        )));
    }
    let first = fields(greenlet).links.borrow().is_empty();
    fields(greenlet).links.borrow_mut().push(callback.unbind());
    if is_over(greenlet) && first {
        queue_links(object.py(), greenlet);
    }
    Ok(())
}

/// Takes a callback out again; false when it is not there.
#[pyfunction]
pub(crate) fn task_unlink(
    object: &Bound<'_, PyAny>,
    callback: &Bound<'_, PyAny>,
) -> PyResult<bool> {
    let greenlet = cast(object)?;
    let links: Vec<Py<PyAny>> = fields(greenlet)
        .links
        .borrow()
        .iter()
        .map(|link| link.clone_ref(object.py()))
        .collect();
    for link in links {
        if link.bind(object.py()).eq(callback)? {
            let mut links = fields(greenlet).links.borrow_mut();
            if let Some(index) = links.iter().position(|other| other.is(&link)) {
                let removed = links.remove(index);
                drop(links);
                drop(removed);
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Takes all callbacks out.
#[pyfunction]
pub(crate) fn task_unlink_all(object: &Bound<'_, PyAny>) -> PyResult<()> {
    let links = fields(cast(object)?).links.take();
    drop(links);
    Ok(())
}

/// How many callbacks are linked.
#[pyfunction]
pub(crate) fn task_has_links(object: &Bound<'_, PyAny>) -> PyResult<usize> {
    Ok(fields(cast(object)?).links.borrow().len())
}

/// Says which class is `Greenlet`, so that overridden methods can be told from its own.
#[pyfunction]
pub(crate) fn set_greenlet_class(class: Bound<'_, PyType>) {
    globals().task_class.set(class.into_ptr().cast());
}
