//! `greenlet(run=None, parent=None, *, stack_size=None)`.

use std::{ffi::c_int, ptr};

use pyo3::{ffi, ffi::PyObject, prelude::*};

use super::{
    attributes::{set_parent, set_run},
    methods::{attached, collect_arguments},
    object::{GreenletRef, allocate},
};
use crate::{
    config, errors,
    thread::{Payload, PyThread},
};

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

pub(super) unsafe extern "C" fn new(
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
pub(super) unsafe extern "C" fn call_type(
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

pub(super) unsafe extern "C" fn init(
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
