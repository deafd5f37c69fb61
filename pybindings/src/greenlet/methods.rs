//! What Python sees of a greenlet: the type, its methods and attributes.

use std::{
    ffi::{c_int, c_uint, c_void},
    ptr::{self, NonNull},
};

use pyo3::{
    exceptions::{PyAttributeError, PyRuntimeError, PyTypeError, PyValueError},
    ffi,
    ffi::PyObject,
    prelude::*,
};
use rgevent_runtime::coroutine::prefetch_stack;

use super::{
    lifetime::{clear, dealloc, is_gc, traverse},
    object::{GreenletRef, Object, Phase, allocate, is_greenlet},
    switch::{check_thread, go, jump},
};
use crate::{
    config, errors,
    globals::Globals,
    thread::{Payload, PyThread, finalizing},
    tstate,
};

/// The token of the GIL, which is held in every slot function.
fn attached<'py>() -> Python<'py> {
    // SAFETY: the interpreter calls slots with the GIL held, and the token does not leave the slot.
    unsafe { Python::assume_attached() }
}

/// The current thread's greenlets; NULL with an error when there can be none.
macro_rules! this_thread {
    ($failure:expr) => {
        match PyThread::current_or_new(attached()) {
            Ok(thread) => thread,
            Err(error) => {
                errors::raise(error);
                return $failure;
            }
        }
    };
}

/// Makes `greenlet.greenlet`: a new reference.
pub(crate) fn make_type(py: Python<'_>) -> PyResult<*mut ffi::PyTypeObject> {
    fn slot(id: c_int, function: *mut c_void) -> ffi::PyType_Slot {
        ffi::PyType_Slot {
            slot: id,
            pfunc: function,
        }
    }
    let methods = Box::leak(Box::new([
        method_with_keywords(c"switch", switch, SWITCH_DOC),
        method(c"throw", throw, THROW_DOC),
        plain_method(
            c"__getstate__",
            getstate,
            c"Greenlets cannot be pickled or copied.",
        ),
        END_OF_METHODS,
    ]));
    let getset = Box::leak(Box::new([
        attribute(
            c"run",
            get_run,
            Some(set_run),
            c"The function to run, until the start.",
        ),
        attribute(
            c"parent",
            get_parent,
            Some(set_parent),
            c"Where control goes at the end.",
        ),
        attribute(c"dead", get_dead, None, c"Whether it has come to its end."),
        attribute(
            c"gr_frame",
            get_frame,
            None,
            c"The innermost frame while suspended.",
        ),
        attribute(
            c"gr_context",
            get_context,
            Some(set_context),
            c"Its contextvars.Context, or None.",
        ),
        attribute(
            c"_stack_saved",
            get_stack_saved,
            None,
            c"Bytes of C stack in use while suspended.",
        ),
        attribute(
            c"__dict__",
            get_dict,
            Some(set_dict),
            c"Attributes of the instance.",
        ),
        END_OF_ATTRIBUTES,
    ]));
    let members = Box::leak(Box::new([
        offset_member(c"__dictoffset__", std::mem::offset_of!(Object, dict)),
        offset_member(
            c"__weaklistoffset__",
            std::mem::offset_of!(Object, weakrefs),
        ),
        END_OF_MEMBERS,
    ]));
    let slots = Box::leak(Box::new([
        slot(ffi::Py_tp_doc, TYPE_DOC.as_ptr().cast_mut().cast()),
        slot(ffi::Py_tp_new, new as *mut c_void),
        slot(ffi::Py_tp_init, init as *mut c_void),
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, clear as *mut c_void),
        slot(ffi::Py_tp_is_gc, is_gc as *mut c_void),
        slot(ffi::Py_tp_repr, repr as *mut c_void),
        slot(ffi::Py_nb_bool, is_true as *mut c_void),
        slot(ffi::Py_tp_methods, methods.as_mut_ptr().cast()),
        slot(ffi::Py_tp_getset, getset.as_mut_ptr().cast()),
        slot(ffi::Py_tp_members, members.as_mut_ptr().cast()),
        slot(0, ptr::null_mut()),
    ]));
    let flags = ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_BASETYPE | ffi::Py_TPFLAGS_HAVE_GC;
    let spec = Box::leak(Box::new(ffi::PyType_Spec {
        name: c"greenlet.greenlet".as_ptr(),
        basicsize: size_of::<Object>() as c_int,
        itemsize: 0,
        flags: flags as c_uint,
        slots: slots.as_mut_ptr(),
    }));
    // SAFETY: a spec that lives for ever, with functions of the types their slots ask for.
    let class = unsafe { ffi::PyType_FromSpec(spec) };
    let Some(class) = NonNull::new(class.cast::<ffi::PyTypeObject>()) else {
        return Err(PyErr::fetch(py));
    };
    // Calls of the type itself go there; subclasses do not inherit it.
    // SAFETY: a type that nobody else knows yet.
    unsafe { (*class.as_ptr()).tp_vectorcall = Some(call_type) };
    Ok(class.as_ptr())
}

/// Gives the type what is made after it, and makes it as immutable as greenlet's static type is, so
/// that nobody expects a changed `__init__` to be called.
pub(crate) fn finish_type(py: Python<'_>, globals: &Globals) -> PyResult<()> {
    let class = globals.greenlet_class(py);
    class.setattr("error", globals.error_class(py))?;
    class.setattr("GreenletExit", globals.exit_class(py))?;
    // SAFETY: a type that Python code does not know yet.
    let flags = unsafe { &raw mut (*globals.greenlet_type).tp_flags };
    // SAFETY: a field of that type; nobody looks at it meanwhile, the GIL is held.
    unsafe { *flags |= ffi::Py_TPFLAGS_IMMUTABLETYPE };
    Ok(())
}

const TYPE_DOC: &std::ffi::CStr = c"greenlet(run=None, parent=None, *, stack_size=None)\n--\n\n\
A function that runs on its own stack, and is switched to and from explicitly.\n\n\
run: what the first switch calls; it may also be set, or defined by a subclass, until then.\n\
parent: the greenlet that goes on at the end; by default the one that runs now.\n\
stack_size: bytes of stack, if not rgevent.config.stack_size. Raises ValueError for an absurd one.";
const SWITCH_DOC: &std::ffi::CStr = c"switch($self, /, *args, **kwargs)\n--\n\n\
Run this greenlet until something switches back, and return what that passes.\n\n\
The first switch calls run(*args, **kwargs). Later ones make the pending switch() there return the\n\
arguments: one argument as itself, several as a tuple, keywords as a dict, both as a pair.\n\
Raises greenlet.error for a greenlet of another thread.";
const THROW_DOC: &std::ffi::CStr = c"throw($self, typ=GreenletExit, val=None, tb=None, /)\n--\n\n\
Switch to this greenlet and raise an exception there.";

type FastWithKeywords = unsafe extern "C" fn(
    *mut PyObject,
    *const *mut PyObject,
    ffi::Py_ssize_t,
    *mut PyObject,
) -> *mut PyObject;
type Fast =
    unsafe extern "C" fn(*mut PyObject, *mut *mut PyObject, ffi::Py_ssize_t) -> *mut PyObject;
type NoArgs = unsafe extern "C" fn(*mut PyObject, *mut PyObject) -> *mut PyObject;

pub(crate) fn method_with_keywords(
    name: &'static std::ffi::CStr,
    function: FastWithKeywords,
    doc: &'static std::ffi::CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunctionFastWithKeywords: function,
        },
        ml_flags: ffi::METH_FASTCALL | ffi::METH_KEYWORDS,
        ml_doc: doc.as_ptr(),
    }
}

pub(crate) fn method(
    name: &'static std::ffi::CStr,
    function: Fast,
    doc: &'static std::ffi::CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunctionFast: function,
        },
        ml_flags: ffi::METH_FASTCALL,
        ml_doc: doc.as_ptr(),
    }
}

pub(crate) fn plain_method(
    name: &'static std::ffi::CStr,
    function: NoArgs,
    doc: &'static std::ffi::CStr,
) -> ffi::PyMethodDef {
    ffi::PyMethodDef {
        ml_name: name.as_ptr(),
        ml_meth: ffi::PyMethodDefPointer {
            PyCFunction: function,
        },
        ml_flags: ffi::METH_NOARGS,
        ml_doc: doc.as_ptr(),
    }
}

pub(crate) const END_OF_METHODS: ffi::PyMethodDef = ffi::PyMethodDef::zeroed();

pub(crate) fn attribute(
    name: &'static std::ffi::CStr,
    get: ffi::getter,
    set: Option<ffi::setter>,
    doc: &'static std::ffi::CStr,
) -> ffi::PyGetSetDef {
    ffi::PyGetSetDef {
        name: name.as_ptr(),
        get: Some(get),
        set,
        doc: doc.as_ptr(),
        closure: ptr::null_mut(),
    }
}

pub(crate) const END_OF_ATTRIBUTES: ffi::PyGetSetDef = ffi::PyGetSetDef {
    name: ptr::null(),
    get: None,
    set: None,
    doc: ptr::null(),
    closure: ptr::null_mut(),
};

fn offset_member(name: &'static std::ffi::CStr, offset: usize) -> ffi::PyMemberDef {
    ffi::PyMemberDef {
        name: name.as_ptr(),
        type_code: ffi::Py_T_PYSSIZET,
        offset: offset as ffi::Py_ssize_t,
        flags: ffi::Py_READONLY,
        doc: ptr::null(),
    }
}

const END_OF_MEMBERS: ffi::PyMemberDef = ffi::PyMemberDef {
    name: ptr::null(),
    type_code: 0,
    offset: 0,
    flags: 0,
    doc: ptr::null(),
};

/// The running greenlet: a new reference.
pub(crate) fn getcurrent(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    if finalizing() {
        return Err(PyRuntimeError::new_err("greenlet is being finalized"));
    }
    let thread = PyThread::current_or_new(py)?;
    if thread.attention.get() {
        thread.unwind_deferred();
    }
    Ok(thread.current().bound(py))
}

unsafe extern "C" fn new(
    class: *mut ffi::PyTypeObject,
    _args: *mut PyObject,
    _kwargs: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: a live type.
    if unsafe { ffi::PyType_HasFeature(class, ffi::Py_TPFLAGS_IS_ABSTRACT) } != 0 {
        return refuse_abstract(class);
    }
    let thread = this_thread!(ptr::null_mut());
    if thread.attention.get() {
        thread.unwind_deferred();
    }
    let object = allocate(class);
    if !object.is_null() {
        let parent = thread.current();
        parent.incref();
        GreenletRef::new(object).state().parent.set(parent.as_ptr());
    }
    object
}

/// The error for a class with abstract methods, as `object` words it.
#[cold]
fn refuse_abstract(class: *mut ffi::PyTypeObject) -> *mut PyObject {
    // SAFETY: the type of all types' instances, which is never freed.
    let object_new = unsafe { ffi::PyBaseObject_Type.tp_new };
    let object_new = object_new.expect("object has tp_new");
    // SAFETY: the GIL is held; the shared empty tuple.
    let args = unsafe { ffi::PyTuple_New(0) };
    // SAFETY: an abstract type, for which it makes nothing; a tuple, and no keywords.
    let made = unsafe { object_new(class, args, ptr::null_mut()) };
    debug_assert!(
        made.is_null(),
        "object made an instance of an abstract class"
    );
    let _aside = errors::Aside::new();
    // SAFETY: owned.
    unsafe { ffi::Py_DECREF(args) };
    ptr::null_mut()
}

/// `greenlet(...)`: what `new` and `init` do, without making a tuple of the arguments.
unsafe extern "C" fn call_type(
    class: *mut PyObject,
    args: *const *mut PyObject,
    count: usize,
    names: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: only clears a flag bit.
    let count = unsafe { ffi::PyVectorcall_NARGS(count) };
    if names.is_null() && count <= 2 {
        let argument = |index: ffi::Py_ssize_t| {
            // SAFETY: `args` has `count` items.
            (index < count).then(|| unsafe { args.wrapping_offset(index).read() })
        };
        // SAFETY: the type this is installed in, and live objects.
        return unsafe { make(class.cast(), argument(0), argument(1)) };
    }
    // SAFETY: as the interpreter passed them.
    let Some((args, kwargs)) = (unsafe { collect_arguments(args, count, names) }) else {
        return ptr::null_mut();
    };
    // SAFETY: what is not given to `new` is not looked at.
    let object = unsafe { new(class.cast(), ptr::null_mut(), ptr::null_mut()) };
    let made = if object.is_null() {
        object
    } else {
        // SAFETY: a new object, a tuple, and a dict or NULL.
        let done = unsafe { init(object, args, kwargs) };
        if_set_up(object, done)
    };
    let _aside = errors::Aside::new();
    Payload::Call(args, kwargs).drop_refs();
    made
}

/// A new greenlet: a new reference, or NULL with an error set.
///
/// # Safety
/// The greenlet type, and live objects.
pub(super) unsafe fn make(
    class: *mut ffi::PyTypeObject,
    run: Option<*mut PyObject>,
    parent: Option<*mut PyObject>,
) -> *mut PyObject {
    // SAFETY: what is not given to `new` is not looked at.
    let object = unsafe { new(class, ptr::null_mut(), ptr::null_mut()) };
    if object.is_null() {
        return object;
    }
    // SAFETY: a new greenlet and live objects.
    let done = unsafe { set_up(object, run, parent) };
    if_set_up(object, done)
}

/// The object, or NULL if its constructor failed.
fn if_set_up(object: *mut PyObject, done: c_int) -> *mut PyObject {
    if done == 0 {
        return object;
    }
    let _aside = errors::Aside::new();
    // SAFETY: a new reference.
    unsafe { ffi::Py_DECREF(object) };
    ptr::null_mut()
}

unsafe extern "C" fn init(
    object: *mut PyObject,
    args: *mut PyObject,
    kwargs: *mut PyObject,
) -> c_int {
    let mut run = ptr::null_mut::<PyObject>();
    let mut parent = ptr::null_mut::<PyObject>();
    let mut stack_size = ptr::null_mut::<PyObject>();
    let mut names = [
        c"run".as_ptr().cast_mut(),
        c"parent".as_ptr().cast_mut(),
        c"stack_size".as_ptr().cast_mut(),
        ptr::null_mut(),
    ];
    // SAFETY: a tuple, a dict or NULL; names that end in NULL; places for borrowed references.
    let parsed = unsafe {
        ffi::PyArg_ParseTupleAndKeywords(
            args,
            kwargs,
            c"|OO$O:greenlet".as_ptr(),
            names.as_mut_ptr().cast(),
            &raw mut run,
            &raw mut parent,
            &raw mut stack_size,
        )
    };
    if parsed == 0 {
        return -1;
    }
    if !stack_size.is_null() {
        // SAFETY: a live object.
        let stack_size = unsafe { Bound::from_borrowed_ptr(attached(), stack_size) };
        match config::stack_bytes_from(&stack_size) {
            Ok(bytes) => GreenletRef::new(object)
                .state()
                .stack_bytes
                .set(bytes.unwrap_or(0)),
            Err(error) => {
                errors::raise(error);
                return -1;
            }
        }
    }
    let given = |object: *mut PyObject| (!object.is_null()).then_some(object);
    // SAFETY: live objects.
    unsafe { set_up(object, given(run), given(parent)) }
}

/// Gives a new greenlet what its constructor was called with; -1 with an error set.
///
/// # Safety
/// A greenlet and live objects.
unsafe fn set_up(
    object: *mut PyObject,
    run: Option<*mut PyObject>,
    parent: Option<*mut PyObject>,
) -> c_int {
    if let Some(run) = run
        // SAFETY: live objects.
        && unsafe { set_run(object, run, ptr::null_mut()) } != 0
    {
        return -1;
    }
    match parent {
        // SAFETY: the GIL is held; None is never freed.
        Some(parent) if parent != unsafe { ffi::Py_None() } => {
            // SAFETY: live objects.
            unsafe { set_parent(object, parent, ptr::null_mut()) }
        }
        _ => 0,
    }
}

unsafe extern "C" fn switch(
    object: *mut PyObject,
    args: *const *mut PyObject,
    count: ffi::Py_ssize_t,
    names: *mut PyObject,
) -> *mut PyObject {
    let target = GreenletRef::new(object);
    let state = target.state();
    prefetch_stack(state.parked_at.get());
    if names.is_null()
        && count <= 1
        && state.phase.get() == Phase::Active
        && let Some(thread) = PyThread::try_current()
        && !thread.attention.get()
        && state.thread.get().is_some_and(|home| ptr::eq(home, thread))
    {
        let value = if count == 0 {
            // SAFETY: the GIL is held; this is the shared empty tuple.
            unsafe { ffi::PyTuple_New(0) }
        } else {
            // SAFETY: `args` has `count` items.
            let only = unsafe { *args };
            // SAFETY: a live object.
            unsafe { ffi::Py_INCREF(only) };
            only
        };
        if thread.current() == target {
            return value;
        }
        return jump(thread, target, Payload::Value(value));
    }
    // SAFETY: as the interpreter passed them.
    let Some((args, kwargs)) = (unsafe { collect_arguments(args, count, names) }) else {
        return ptr::null_mut();
    };
    switch_to(target, Payload::Call(args, kwargs))
}

/// A tuple, and a dict or NULL, of a vector call's arguments; None with an error set.
unsafe fn collect_arguments(
    args: *const *mut PyObject,
    count: ffi::Py_ssize_t,
    names: *mut PyObject,
) -> Option<(*mut PyObject, *mut PyObject)> {
    // SAFETY: the GIL is held.
    let tuple = unsafe { ffi::PyTuple_New(count) };
    if tuple.is_null() {
        return None;
    }
    for index in 0..count {
        // SAFETY: `args` has `count` items.
        let item = unsafe { args.wrapping_offset(index).read() };
        // SAFETY: a live object.
        unsafe { ffi::Py_INCREF(item) };
        // SAFETY: a fresh tuple, which takes the reference over.
        unsafe { ffi::PyTuple_SetItem(tuple, index, item) };
    }
    let mut kwargs = ptr::null_mut();
    if !names.is_null() {
        // SAFETY: the GIL is held.
        kwargs = unsafe { ffi::PyDict_New() };
        // SAFETY: a tuple of names.
        let named = unsafe { ffi::PyTuple_Size(names) };
        for index in 0..named {
            // SAFETY: it has `named` items; borrowed.
            let name = unsafe { ffi::PyTuple_GetItem(names, index) };
            // SAFETY: the values follow the positional arguments.
            let value = unsafe { args.wrapping_offset(count + index).read() };
            // SAFETY: a dict (or NULL, which fails) and live objects.
            if kwargs.is_null() || unsafe { ffi::PyDict_SetItem(kwargs, name, value) } != 0 {
                Payload::Call(tuple, kwargs).drop_refs();
                return None;
            }
        }
    }
    Some((tuple, kwargs))
}

unsafe extern "C" fn throw(
    object: *mut PyObject,
    args: *mut *mut PyObject,
    count: ffi::Py_ssize_t,
) -> *mut PyObject {
    if count > 3 {
        return errors::raise(PyTypeError::new_err(format!(
            "throw expected at most 3 arguments, got {count}"
        )));
    }
    let argument = |index: ffi::Py_ssize_t| {
        if index < count {
            // SAFETY: `args` has `count` items.
            unsafe { args.wrapping_offset(index).read() }
        } else {
            ptr::null_mut()
        }
    };
    let kind = match argument(0) {
        kind if kind.is_null() => crate::globals::globals().greenlet_exit,
        kind => kind,
    };
    throw_into(GreenletRef::new(object), kind, argument(1), argument(2))
}

/// `target.throw(kind, value, trace)`, of which the last two may be NULL.
pub(super) fn throw_into(
    target: GreenletRef,
    kind: *mut PyObject,
    value: *mut PyObject,
    trace: *mut PyObject,
) -> *mut PyObject {
    let exception = exception_from(kind, value, trace);
    if exception.is_null() {
        return ptr::null_mut();
    }
    switch_to(target, Payload::Throw(exception))
}

/// Switches by the rules, with a payload whose references are taken over.
pub(super) fn switch_to(target: GreenletRef, payload: Payload) -> *mut PyObject {
    match PyThread::current_or_new(attached()) {
        Ok(thread) => go(thread, target, payload),
        Err(error) => {
            payload.drop_refs();
            errors::raise(error)
        }
    }
}

/// Checks the three arguments of `throw` (the last two may be NULL) and makes the exception: a new
/// reference, or NULL with an error set. An error while the class is called is the exception.
pub(crate) fn exception_from(
    kind: *mut PyObject,
    value: *mut PyObject,
    trace: *mut PyObject,
) -> *mut PyObject {
    let py = attached();
    // SAFETY: a live object or NULL.
    let given = |object: *mut PyObject| !object.is_null() && object != unsafe { ffi::Py_None() };
    // SAFETY: a live object.
    if given(trace) && unsafe { ffi::PyTraceBack_Check(trace) } == 0 {
        return errors::raise(PyTypeError::new_err(
            "throw() third argument must be a traceback object",
        ));
    }
    // SAFETY: a live object.
    let exception = if unsafe { ffi::PyExceptionClass_Check(kind) } != 0 {
        let value = if given(value) { value } else { ptr::null_mut() };
        // SAFETY: a live object or NULL.
        let is_instance = !value.is_null() && unsafe { ffi::PyExceptionInstance_Check(value) } != 0;
        // SAFETY: live objects.
        if is_instance && unsafe { ffi::PyObject_IsInstance(value, kind) } == 1 {
            // SAFETY: a live object.
            unsafe { ffi::Py_INCREF(value) };
            value
        } else {
            instantiate(kind, value)
        }
    // SAFETY: a live object.
    } else if unsafe { ffi::PyExceptionInstance_Check(kind) } != 0 {
        if given(value) {
            return errors::raise(PyTypeError::new_err(
                "instance exception may not have a separate value",
            ));
        }
        // SAFETY: a live object.
        unsafe { ffi::Py_INCREF(kind) };
        kind
    } else {
        // SAFETY: a live object.
        let kind = unsafe { Bound::from_borrowed_ptr(py, kind) };
        let name = kind.get_type().name().map(|name| name.to_string());
        return errors::raise(PyTypeError::new_err(format!(
            "exceptions must be classes, or instances, not {}",
            name.unwrap_or_default()
        )));
    };
    if given(trace) && !exception.is_null() {
        // SAFETY: an exception and a traceback.
        unsafe { ffi::PyException_SetTraceback(exception, trace) };
    }
    exception
}

/// Calls an exception class with no, one or a tuple of arguments, as `raise` does.
fn instantiate(kind: *mut PyObject, value: *mut PyObject) -> *mut PyObject {
    let exception = if value.is_null() {
        // SAFETY: a live object.
        unsafe { ffi::PyObject_CallNoArgs(kind) }
    // SAFETY: a live object.
    } else if unsafe { ffi::PyTuple_Check(value) } != 0 {
        // SAFETY: live objects.
        unsafe { ffi::PyObject_Call(kind, value, ptr::null_mut()) }
    } else {
        // SAFETY: live objects, and the NULL that ends them.
        unsafe { ffi::PyObject_CallFunctionObjArgs(kind, value, ptr::null_mut::<PyObject>()) }
    };
    if exception.is_null() {
        return errors::take();
    }
    // SAFETY: a live object.
    if unsafe { ffi::PyExceptionInstance_Check(exception) } == 0 {
        // SAFETY: a new reference from above.
        unsafe { ffi::Py_DECREF(exception) };
        errors::raise(PyTypeError::new_err(
            "calling an exception class should have returned an instance of BaseException",
        ));
        return errors::take();
    }
    exception
}

unsafe extern "C" fn getstate(object: *mut PyObject, _: *mut PyObject) -> *mut PyObject {
    let name = GreenletRef::new(object)
        .bound(attached())
        .get_type()
        .fully_qualified_name();
    errors::raise(PyTypeError::new_err(format!(
        "cannot serialize '{}' object",
        name.map(|name| name.to_string()).unwrap_or_default()
    )))
}

unsafe extern "C" fn is_true(object: *mut PyObject) -> c_int {
    c_int::from(GreenletRef::new(object).state().is_active())
}

/// The text of `repr`.
pub(crate) fn repr_text(py: Python<'_>, greenlet: GreenletRef) -> PyResult<String> {
    let state = greenlet.state();
    let class = greenlet.bound(py).get_type();
    let mut text = format!(
        "<{} object at {:p} (otid=",
        class.fully_qualified_name()?,
        greenlet.as_ptr()
    );
    match state.thread.get() {
        Some(thread) => text.push_str(&format!("{:p})", ptr::from_ref(thread))),
        None => text.push_str("0x0)"),
    }
    if state.is_dead() {
        if state.thread_exited.get() || state.phase.get() == Phase::Active {
            text.push_str(" (thread exited)");
        }
        text.push_str(" dead");
    } else if state.phase.get() == Phase::Active {
        text.push_str(if greenlet.is_current() {
            " current active started"
        } else {
            " suspended active started"
        });
    } else {
        text.push_str(" pending");
    }
    if state.is_main.get() && !state.is_dead() {
        text.push_str(" main");
    }
    text.push('>');
    Ok(text)
}

unsafe extern "C" fn repr(object: *mut PyObject) -> *mut PyObject {
    let py = attached();
    let text = repr_text(py, GreenletRef::new(object));
    match text {
        Ok(text) => pyo3::types::PyString::new(py, &text).into_ptr(),
        Err(error) => errors::raise(error),
    }
}

/// A new reference to `object`, or to None for NULL.
fn or_none(object: *mut PyObject) -> *mut PyObject {
    let object = if object.is_null() {
        // SAFETY: the GIL is held.
        unsafe { ffi::Py_None() }
    } else {
        object
    };
    // SAFETY: a live object.
    unsafe { ffi::Py_INCREF(object) };
    object
}

unsafe extern "C" fn get_run(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    let state = GreenletRef::new(object).state();
    let run = state.run.get();
    if state.is_main.get() {
        return errors::raise(PyAttributeError::new_err(
            "Main greenlets do not have a run attribute.",
        ));
    }
    if state.phase.get() != Phase::Unstarted || run.is_null() {
        return errors::raise(PyAttributeError::new_err("run"));
    }
    or_none(run)
}

unsafe extern "C" fn set_run(object: *mut PyObject, value: *mut PyObject, _: *mut c_void) -> c_int {
    let state = GreenletRef::new(object).state();
    if state.is_main.get() {
        errors::raise(PyAttributeError::new_err(
            "Main greenlets do not have a run attribute.",
        ));
        return -1;
    }
    if state.phase.get() != Phase::Unstarted {
        errors::raise(PyAttributeError::new_err(
            "run cannot be set after the start of the greenlet",
        ));
        return -1;
    }
    if value.is_null() && state.run.get().is_null() {
        errors::raise(PyAttributeError::new_err("run"));
        return -1;
    }
    // SAFETY: a live object or NULL.
    unsafe { ffi::Py_XINCREF(value) };
    let old = state.run.replace(value);
    // SAFETY: owned by the state until now, or NULL.
    unsafe { ffi::Py_XDECREF(old) };
    0
}

unsafe extern "C" fn get_parent(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    or_none(GreenletRef::new(object).state().parent.get())
}

pub(super) unsafe extern "C" fn set_parent(
    object: *mut PyObject,
    value: *mut PyObject,
    _: *mut c_void,
) -> c_int {
    match new_parent(GreenletRef::new(object), value) {
        Ok(()) => 0,
        Err(error) => {
            errors::raise(error);
            -1
        }
    }
}

fn new_parent(greenlet: GreenletRef, value: *mut PyObject) -> PyResult<()> {
    if value.is_null() {
        return Err(PyAttributeError::new_err("can't delete attribute"));
    }
    let state = greenlet.state();
    if state.is_main.get() {
        return Err(PyAttributeError::new_err(
            "cannot set the parent of a main greenlet",
        ));
    }
    if !is_greenlet(value) {
        // SAFETY: a live object.
        let value = unsafe { Bound::from_borrowed_ptr(attached(), value) };
        return Err(PyTypeError::new_err(format!(
            "GreenletChecker: Expected any type of greenlet, not {}",
            value.get_type().name()?
        )));
    }
    let parent = GreenletRef::new(value);
    let mut ancestor = parent;
    while !ancestor.state().is_main.get() {
        if ancestor == greenlet {
            return Err(PyValueError::new_err("cyclic parent chain"));
        }
        ancestor = ancestor
            .parent()
            .ok_or_else(|| PyValueError::new_err("parent must not be garbage collected"))?;
    }
    if state.phase.get() == Phase::Active
        && let Some(thread) = state.thread.get()
        && check_thread(thread, ancestor).is_err()
    {
        return Err(PyValueError::new_err(
            "parent cannot be on a different thread",
        ));
    }
    parent.incref();
    let old = state.parent.replace(parent.as_ptr());
    // SAFETY: owned by the state until now, or NULL.
    unsafe { ffi::Py_XDECREF(old) };
    Ok(())
}

unsafe extern "C" fn get_dead(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    let dead = GreenletRef::new(object).state().is_dead();
    // SAFETY: the GIL is held.
    unsafe { ffi::PyBool_FromLong(dead.into()) }
}

unsafe extern "C" fn get_frame(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    let greenlet = GreenletRef::new(object);
    let state = greenlet.state();
    // Once a thread has ended its stacks may go at any time.
    if is_running(greenlet) || state.live_thread().is_none() {
        return or_none(ptr::null_mut());
    }
    // A dead one may have frames too: it hangs where its end led into a parent's `run` lookup.
    // SAFETY: the GIL is held.
    let ts = unsafe { ffi::PyThreadState_Get() };
    // SAFETY: the current thread state; the greenlet does not run, and nothing can resume it meanwhile.
    let frame = unsafe { state.saved().top_frame(ts) };
    if frame.is_null() {
        return or_none(frame);
    }
    frame
}

unsafe extern "C" fn get_context(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    let greenlet = GreenletRef::new(object);
    let state = greenlet.state();
    if is_running(greenlet) {
        if !greenlet.is_current() {
            return errors::raise(PyValueError::new_err(
                "cannot get context of a greenlet that is running in a different thread",
            ));
        }
        // SAFETY: it runs here, so this is the current thread state.
        return or_none(unsafe { tstate::running_context(state.ts.get()) });
    }
    or_none(state.saved().context())
}

/// Whether it runs at this moment, in whichever thread.
fn is_running(greenlet: GreenletRef) -> bool {
    let state = greenlet.state();
    state.is_active()
        && state
            .live_thread()
            .is_some_and(|thread| thread.current() == greenlet)
}

unsafe extern "C" fn set_context(
    object: *mut PyObject,
    value: *mut PyObject,
    _: *mut c_void,
) -> c_int {
    let greenlet = GreenletRef::new(object);
    match new_context(greenlet, value) {
        Ok(old) => {
            // SAFETY: an owned reference or NULL.
            unsafe { ffi::Py_XDECREF(old) };
            0
        }
        Err(error) => {
            errors::raise(error);
            -1
        }
    }
}

fn new_context(greenlet: GreenletRef, value: *mut PyObject) -> PyResult<*mut PyObject> {
    if value.is_null() {
        return Err(PyAttributeError::new_err("can't delete context attribute"));
    }
    // SAFETY: the GIL is held.
    let context = if value == unsafe { ffi::Py_None() } {
        ptr::null_mut()
    } else {
        value
    };
    // SAFETY: a live object.
    if !context.is_null() && unsafe { ffi::PyContext_CheckExact(context) } == 0 {
        return Err(PyTypeError::new_err(
            "greenlet context must be a contextvars.Context or None",
        ));
    }
    let state = greenlet.state();
    let running = is_running(greenlet);
    if running && !greenlet.is_current() {
        return Err(PyValueError::new_err(
            "cannot set context of a greenlet that is running in a different thread",
        ));
    }
    // SAFETY: a live object or NULL.
    unsafe { ffi::Py_XINCREF(context) };
    Ok(if running {
        // SAFETY: it runs here, so this is the current thread state; a context or NULL.
        unsafe { tstate::replace_running_context(state.ts.get(), context) }
    } else {
        state.saved().replace_context(context)
    })
}

unsafe extern "C" fn get_stack_saved(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    let greenlet = GreenletRef::new(object);
    let used = if greenlet.is_current() {
        0
    } else {
        greenlet.state().stack_used()
    };
    // SAFETY: the GIL is held.
    unsafe { ffi::PyLong_FromSize_t(used) }
}

unsafe extern "C" fn get_dict(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    // SAFETY: a greenlet object.
    let dict = unsafe { &raw mut (*object.cast::<Object>()).dict };
    // SAFETY: a valid place.
    if unsafe { *dict }.is_null() {
        // SAFETY: the GIL is held.
        let fresh = unsafe { ffi::PyDict_New() };
        // SAFETY: a valid place.
        unsafe { *dict = fresh };
        if fresh.is_null() {
            return fresh;
        }
    }
    // SAFETY: a valid place.
    or_none(unsafe { *dict })
}

unsafe extern "C" fn set_dict(
    object: *mut PyObject,
    value: *mut PyObject,
    _: *mut c_void,
) -> c_int {
    if value.is_null() {
        errors::raise(PyTypeError::new_err("__dict__ may not be deleted"));
        return -1;
    }
    // SAFETY: a live object.
    if unsafe { ffi::PyDict_Check(value) } == 0 {
        errors::raise(PyTypeError::new_err("__dict__ must be set to a dictionary"));
        return -1;
    }
    // SAFETY: a live object.
    unsafe { ffi::Py_INCREF(value) };
    // SAFETY: a greenlet object.
    let old = unsafe { std::mem::replace(&mut (*object.cast::<Object>()).dict, value) };
    // SAFETY: owned until now, or NULL.
    unsafe { ffi::Py_XDECREF(old) };
    0
}
