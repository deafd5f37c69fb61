//! The greenlet type, put together; and how types of raw slots are written down here.

use std::{
    ffi::{c_int, c_uint, c_void},
    ptr::{self, NonNull},
};

use pyo3::{ffi, ffi::PyObject, prelude::*};

use super::{
    attributes::{
        get_context, get_dead, get_dict, get_frame, get_parent, get_run, get_stack_saved, is_true,
        repr, set_context, set_dict, set_parent, set_run,
    },
    construct::{call_type, init, new},
    lifetime::{clear, dealloc, is_gc, traverse},
    methods::{getstate, switch, throw},
    object::Object,
};
use crate::globals::Globals;

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
