//! `local`: attributes that each greenlet has for itself.
//!
//! The object's `__dict__` is the running greenlet's. Every access first compares the greenlet
//! with the one that came last; only when it is another, the dicts are exchanged. The rest is the
//! interpreter's generic attribute code.
//!
//! A greenlet's dict goes when the greenlet is freed, which a weak reference tells.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    ffi::{c_int, c_uint, c_void},
    mem::offset_of,
    ptr,
    sync::{Arc, Weak},
};

use pyo3::{
    exceptions::PyTypeError,
    ffi,
    ffi::PyObject,
    prelude::*,
    types::{PyDict, PyTuple, PyWeakrefReference},
};

use crate::{errors, gil_cell::GilCell, thread::PyThread};

/// The memory of a `local`.
#[repr(C)]
struct Object {
    base: PyObject,
    weakrefs: *mut PyObject,
    /// The dict of the greenlet that came last; owned, or NULL.
    dict: *mut PyObject,
    state: *mut State,
}

/// What is known beyond the current dict.
struct State {
    /// Shared with the weak references' callbacks.
    dicts: Arc<GilCell<Dicts>>,
    args: Py<PyTuple>,
    kwargs: Option<Py<PyDict>>,
}

struct Dicts {
    /// The object itself, which outlives this: its `dealloc` drops the one strong reference.
    object: *mut Object,
    /// The greenlet whose dict is in the object, or null. Compared, never followed.
    current: Cell<*mut ()>,
    of: RefCell<HashMap<usize, Own>>,
}

/// What one greenlet has.
struct Own {
    dict: Py<PyDict>,
    /// Calls [`Forget`] when the greenlet is freed.
    _greenlet: Py<PyWeakrefReference>,
}

/// Called as a greenlet is freed: its dict goes.
#[pyclass(frozen)]
struct Forget {
    dicts: Weak<GilCell<Dicts>>,
    greenlet: usize,
}

#[pymethods]
impl Forget {
    fn __call__(&self, _greenlet: &Bound<'_, PyAny>) {
        let Some(dicts) = self.dicts.upgrade() else {
            return;
        };
        if dicts.current.get() as usize == self.greenlet {
            drop_current(&dicts);
        }
        let own = dicts.of.borrow_mut().remove(&self.greenlet);
        drop(own);
    }
}

/// Takes the current dict out of the object. May run Python code.
fn drop_current(dicts: &Dicts) {
    dicts.current.set(ptr::null_mut());
    // SAFETY: the object is alive as long as its `Dicts` can be reached.
    let place = unsafe { &raw mut (*dicts.object).dict };
    // SAFETY: the GIL is held; the place is ours.
    let dict = unsafe { place.replace(ptr::null_mut()) };
    // SAFETY: owned by the object until now, or NULL.
    unsafe { ffi::Py_XDECREF(dict) };
}

const DOC: &std::ffi::CStr = c"local(*args, **kwargs)\n--\n\n\
Attributes set on it are seen by the greenlet that set them, and by no other.\n\n\
A subclass's __init__ is called with the same arguments for each greenlet that uses the object.";

/// Makes the type `local`: a new reference.
pub(crate) fn make_type(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    fn slot(id: c_int, function: *mut c_void) -> ffi::PyType_Slot {
        ffi::PyType_Slot {
            slot: id,
            pfunc: function,
        }
    }
    fn offset(name: &'static std::ffi::CStr, offset: usize) -> ffi::PyMemberDef {
        ffi::PyMemberDef {
            name: name.as_ptr(),
            type_code: ffi::Py_T_PYSSIZET,
            offset: offset as ffi::Py_ssize_t,
            flags: ffi::Py_READONLY,
            doc: ptr::null(),
        }
    }
    let members = Box::leak(Box::new([
        offset(c"__dictoffset__", offset_of!(Object, dict)),
        offset(c"__weaklistoffset__", offset_of!(Object, weakrefs)),
        // SAFETY: all zeros end the table.
        unsafe { std::mem::zeroed() },
    ]));
    let getset = Box::leak(Box::new([
        ffi::PyGetSetDef {
            name: c"__dict__".as_ptr(),
            get: Some(get_dict),
            set: None,
            doc: c"The attributes of the running greenlet.".as_ptr(),
            closure: ptr::null_mut(),
        },
        ffi::PyGetSetDef::default(),
    ]));
    let slots = Box::leak(Box::new([
        slot(ffi::Py_tp_doc, DOC.as_ptr().cast_mut().cast()),
        slot(ffi::Py_tp_new, new as *mut c_void),
        slot(ffi::Py_tp_dealloc, dealloc as *mut c_void),
        slot(ffi::Py_tp_traverse, traverse as *mut c_void),
        slot(ffi::Py_tp_clear, clear as *mut c_void),
        slot(ffi::Py_tp_getattro, getattro as *mut c_void),
        slot(ffi::Py_tp_setattro, setattro as *mut c_void),
        slot(ffi::Py_tp_members, members.as_mut_ptr().cast()),
        slot(ffi::Py_tp_getset, getset.as_mut_ptr().cast()),
        slot(0, ptr::null_mut()),
    ]));
    let flags = ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_BASETYPE | ffi::Py_TPFLAGS_HAVE_GC;
    let spec = Box::leak(Box::new(ffi::PyType_Spec {
        name: c"rgevent.local.local".as_ptr(),
        basicsize: size_of::<Object>() as c_int,
        itemsize: 0,
        flags: flags as c_uint,
        slots: slots.as_mut_ptr(),
    }));
    // SAFETY: a spec that lives for ever, with functions of the types their slots ask for.
    let class = unsafe { ffi::PyType_FromSpec(spec) };
    // SAFETY: a new reference, or NULL with an error set.
    unsafe { Bound::from_owned_ptr_or_err(py, class) }
}

/// The state of a `local`; None while it is being made, and after it was freed.
fn state<'a>(object: *mut PyObject) -> Option<&'a State> {
    // SAFETY: the slots of this type are called with its instances.
    let state = unsafe { (*object.cast::<Object>()).state };
    // SAFETY: NULL, or the box of the object, which lives as long as somebody uses the object.
    unsafe { state.as_ref() }
}

unsafe extern "C" fn new(
    class: *mut ffi::PyTypeObject,
    args: *mut PyObject,
    kwargs: *mut PyObject,
) -> *mut PyObject {
    // SAFETY: the GIL is held.
    let py = unsafe { Python::assume_attached() };
    // SAFETY: a tuple from the interpreter.
    let args = unsafe { Bound::from_borrowed_ptr(py, args) };
    // SAFETY: a dict or NULL.
    let kwargs = unsafe { Bound::from_borrowed_ptr_or_opt(py, kwargs) };
    match make(py, class, args, kwargs) {
        Ok(object) => object.into_ptr(),
        Err(error) => errors::raise(error),
    }
}

fn make<'py>(
    py: Python<'py>,
    class: *mut ffi::PyTypeObject,
    args: Bound<'py, PyAny>,
    kwargs: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let args = args.cast_into::<PyTuple>()?;
    let kwargs = kwargs
        .map(|kwargs| kwargs.cast_into::<PyDict>())
        .transpose()?;
    let kwargs = kwargs.filter(|kwargs| !kwargs.is_empty());
    if (!args.is_empty() || kwargs.is_some()) && !has_init(class) {
        return Err(PyTypeError::new_err(
            "Initialization arguments are not supported",
        ));
    }
    // SAFETY: a ready type whose instances begin with `Object`; zeroed memory comes back.
    let object = unsafe { ffi::PyType_GenericAlloc(class, 0) };
    // SAFETY: a new reference, or NULL with an error set.
    let object = unsafe { Bound::from_owned_ptr_or_err(py, object)? };
    let state = Box::new(State {
        dicts: Arc::new(GilCell::new(Dicts {
            object: object.as_ptr().cast(),
            current: Cell::new(ptr::null_mut()),
            of: RefCell::default(),
        })),
        args: args.unbind(),
        kwargs: kwargs.map(Bound::unbind),
    });
    let place = object.as_ptr().cast::<Object>();
    // SAFETY: just allocated; nobody else knows it.
    unsafe { (*place).state = Box::into_raw(state) };
    // The interpreter calls `__init__` for the greenlet that makes the object.
    enter(py, object.as_ptr(), false)?;
    Ok(object)
}

/// Whether instances are initialised by something other than `object.__init__`.
fn has_init(class: *mut ffi::PyTypeObject) -> bool {
    // SAFETY: a live type.
    let init = unsafe { (*class).tp_init };
    let object = ptr::addr_of!(ffi::PyBaseObject_Type);
    // SAFETY: a type that is never freed, and is not changed.
    let plain = unsafe { (*object).tp_init };
    init.map(|init| init as usize) != plain.map(|init| init as usize)
}

/// Sees to it that the object's dict is the running greenlet's.
#[inline]
fn sync(object: *mut PyObject) -> PyResult<()> {
    if let (Some(thread), Some(state)) = (PyThread::try_current(), state(object))
        && state.dicts.current.get() == thread.current().word()
    {
        return Ok(());
    }
    // SAFETY: the GIL is held.
    enter(unsafe { Python::assume_attached() }, object, true)
}

/// Exchanges the dict. A greenlet that comes for the first time gets a new one, and `__init__` is
/// called unless the caller does so.
#[cold]
fn enter(py: Python<'_>, object: *mut PyObject, initialise: bool) -> PyResult<()> {
    let Some(state) = state(object) else {
        return Ok(());
    };
    let greenlet = PyThread::current_or_new(py)?.current();
    let word = greenlet.word();
    let key = word as usize;
    let known = {
        let of = state.dicts.of.borrow();
        of.get(&key).map(|own| own.dict.clone_ref(py))
    };
    if let Some(dict) = known {
        exchange(state, word, dict);
        // What the old dict took along may have run code that used the object elsewhere.
        return sync(object);
    }
    let forget = Forget {
        dicts: Arc::downgrade(&state.dicts),
        greenlet: key,
    };
    let forget = Bound::new(py, forget)?;
    let weak = PyWeakrefReference::new_with(&greenlet.bound(py), forget)?;
    let dict = PyDict::new(py).unbind();
    let own = Own {
        dict: dict.clone_ref(py),
        _greenlet: weak.unbind(),
    };
    state.dicts.of.borrow_mut().insert(key, own);
    exchange(state, word, dict);
    // SAFETY: a live object.
    let class = unsafe { ffi::Py_TYPE(object) };
    if !initialise || !has_init(class) {
        return if initialise { sync(object) } else { Ok(()) };
    }
    // SAFETY: a live object.
    let bound = unsafe { Bound::from_borrowed_ptr(py, object) };
    let args = state.args.bind(py).clone();
    let kwargs = state.kwargs.as_ref().map(|kwargs| kwargs.bind(py).clone());
    let called = bound
        .get_type()
        .getattr("__init__")
        .and_then(|init| init.call(with_self(&bound, &args)?, kwargs.as_ref()));
    if let Err(error) = called {
        // It is tried again at the next access.
        if state.dicts.current.get() == word {
            drop_current(&state.dicts);
        }
        let own = state.dicts.of.borrow_mut().remove(&key);
        drop(own);
        return Err(error);
    }
    // `__init__` may have waited, and others may have used the object meanwhile.
    sync(object)
}

fn with_self<'py>(
    object: &Bound<'py, PyAny>,
    args: &Bound<'py, PyTuple>,
) -> PyResult<Bound<'py, PyTuple>> {
    let all = std::iter::once(object.clone()).chain(args.iter());
    PyTuple::new(object.py(), all.collect::<Vec<_>>())
}

fn exchange(state: &State, word: *mut (), dict: Py<PyDict>) {
    // SAFETY: the object is alive as long as its state.
    let place = unsafe { &raw mut (*state.dicts.object).dict };
    // SAFETY: the GIL is held; the place is ours.
    let old = unsafe { place.replace(dict.into_ptr()) };
    state.dicts.current.set(word);
    // SAFETY: owned by the object until now, or NULL.
    unsafe { ffi::Py_XDECREF(old) };
}

unsafe extern "C" fn getattro(object: *mut PyObject, name: *mut PyObject) -> *mut PyObject {
    if let Err(error) = sync(object) {
        return errors::raise(error);
    }
    // SAFETY: the slot's own arguments.
    unsafe { ffi::PyObject_GenericGetAttr(object, name) }
}

unsafe extern "C" fn setattro(
    object: *mut PyObject,
    name: *mut PyObject,
    value: *mut PyObject,
) -> c_int {
    if let Err(error) = sync(object) {
        errors::raise(error);
        return -1;
    }
    // SAFETY: the slot's own arguments; a NULL value deletes.
    unsafe { ffi::PyObject_GenericSetAttr(object, name, value) }
}

unsafe extern "C" fn get_dict(object: *mut PyObject, _: *mut c_void) -> *mut PyObject {
    if let Err(error) = sync(object) {
        return errors::raise(error);
    }
    // SAFETY: a live `local`; its dict is there after `sync`.
    let dict = unsafe { (*object.cast::<Object>()).dict };
    // SAFETY: a live object.
    unsafe { ffi::Py_INCREF(dict) };
    dict
}

unsafe extern "C" fn traverse(
    object: *mut PyObject,
    visit: ffi::visitproc,
    arg: *mut c_void,
) -> c_int {
    // SAFETY: a live object and its type.
    let class = unsafe { ffi::Py_TYPE(object) }.cast::<PyObject>();
    // SAFETY: a `local`.
    let dict = unsafe { (*object.cast::<Object>()).dict };
    let mut held = vec![class, dict];
    if let Some(state) = state(object) {
        held.push(state.args.as_ptr());
        held.extend(state.kwargs.as_ref().map(Py::as_ptr));
        if let Ok(of) = state.dicts.of.try_borrow() {
            for own in of.values() {
                held.extend([own.dict.as_ptr(), own._greenlet.as_ptr()]);
            }
        }
    }
    for object in held {
        if object.is_null() {
            continue;
        }
        // SAFETY: the collector's own visitor; a live object that we own a reference to.
        let stop = unsafe { visit(object, arg) };
        if stop != 0 {
            return stop;
        }
    }
    0
}

unsafe extern "C" fn clear(object: *mut PyObject) -> c_int {
    if let Some(state) = state(object) {
        let of = state.dicts.of.take();
        drop_current(&state.dicts);
        drop(of);
    }
    0
}

unsafe extern "C" fn dealloc(object: *mut PyObject) {
    // SAFETY: a GC object in its `tp_dealloc`.
    unsafe { ffi::PyObject_GC_UnTrack(object.cast()) };
    // SAFETY: a `local`.
    let weakrefs = unsafe { (*object.cast::<Object>()).weakrefs };
    if !weakrefs.is_null() {
        // SAFETY: a dying object with a weak reference list.
        unsafe { ffi::PyObject_ClearWeakRefs(object) };
    }
    // SAFETY: nobody else uses the object any more.
    unsafe { clear(object) };
    // SAFETY: a `local`.
    let place = unsafe { &raw mut (*object.cast::<Object>()).state };
    // SAFETY: as above; nobody finds the state any more.
    let state = unsafe { place.replace(ptr::null_mut()) };
    if !state.is_null() {
        // SAFETY: the box leaked by `make`, taken once.
        drop(unsafe { Box::from_raw(state) });
    }
    // SAFETY: a live object.
    let class = unsafe { ffi::Py_TYPE(object) };
    // SAFETY: a heap type with a `tp_free`.
    let free = unsafe { (*class).tp_free }.expect("every type has tp_free");
    // SAFETY: allocated by the type's own allocator.
    unsafe { free(object.cast()) };
    // SAFETY: instances of heap types own a reference to their type.
    unsafe { ffi::Py_DECREF(class.cast()) };
}
