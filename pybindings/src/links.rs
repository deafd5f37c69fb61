//! Callables to be called in the hub when an object becomes ready: `rawlink` and `unlink`.
//!
//! A link is called once, in the hub of the thread that linked it, with the object as argument.
//! It stays in the list until then, so `unlink` works up to the last moment.

use std::cell::{Cell, RefCell};

use pyo3::{
    PyClass, PyTraverseError, PyVisit, exceptions::PyTypeError, prelude::*,
    pyclass::boolean_struct::True, types::PyTuple,
};
use rgevent_runtime::{coroutine::Thread, hub::Hub};

use crate::{hub, thread::PyThread};

/// One callable.
struct Link {
    callback: Py<PyAny>,
    thread: &'static Thread,
    /// A call is on its way to the hub.
    queued: Cell<bool>,
}

/// The callables of one object.
#[derive(Default)]
pub(crate) struct Links(RefCell<Vec<Link>>);

/// A Python class that has links.
pub(crate) trait Linkable: PyClass<Frozen = True> + Sync {
    fn links(&self) -> &Links;

    /// Whether a queued call still stands when its turn comes.
    fn still_ready(&self) -> bool;
}

/// `object.rawlink(callback)`. When it is `ready`, the call is queued at once.
pub(crate) fn add<T: Linkable>(
    object: &Bound<'_, T>,
    links: &Links,
    callback: Bound<'_, PyAny>,
    ready: bool,
) -> PyResult<()> {
    if !callback.is_callable() {
        return Err(PyTypeError::new_err(format!(
            "Expected callable: {}",
            callback.repr()?
        )));
    }
    let thread = hub::current(object.py())?.thread();
    links.0.borrow_mut().push(Link {
        callback: callback.unbind(),
        thread,
        queued: Cell::new(false),
    });
    if ready {
        notify(object, links);
    }
    Ok(())
}

/// The object is ready: queues the calls that are not queued yet.
#[inline]
pub(crate) fn notify<T: Linkable>(object: &Bound<'_, T>, links: &Links) {
    if !links.0.borrow().is_empty() {
        queue_calls(object, links);
    }
}

#[cold]
fn queue_calls<T: Linkable>(object: &Bound<'_, T>, links: &Links) {
    for link in links.0.borrow().iter() {
        if link.queued.replace(true) {
            continue;
        }
        let word = Box::into_raw(Box::new(object.clone().unbind())) as usize;
        if let Some(hub) = this_hub(link.thread) {
            hub.call_soon((call_next::<T>, word as _));
        } else {
            let call = move || call_next::<T>(word as *mut ());
            Hub::post(link.thread, Box::new(call));
        }
    }
}

/// The hub of `thread` if that is the calling one.
fn this_hub(thread: &'static Thread) -> Option<&'static Hub> {
    if thread.is_current() {
        thread.try_hub()
    } else {
        None
    }
}

/// Calls the first queued link of this thread.
fn call_next<T: Linkable>(word: *mut ()) {
    // SAFETY: the box leaked by `queue_calls`; each is called once.
    let object = unsafe { Box::from_raw(word.cast::<Py<T>>()) };
    // SAFETY: the hub runs callbacks with the GIL held.
    let py = unsafe { Python::assume_attached() };
    let object = object.bind(py);
    let Some(thread) = PyThread::try_current() else {
        return;
    };
    let Some(callback) = take_next(object.get(), thread.runtime) else {
        return;
    };
    let callback = callback.bind(py);
    if let Err(error) = callback.call1((object,)) {
        let context = PyTuple::new(py, [callback, object.as_any()]).ok();
        hub::report(
            py,
            thread,
            context.as_ref().map(|context| context.as_any()),
            error,
        );
    }
}

fn take_next<T: Linkable>(object: &T, here: &'static Thread) -> Option<Py<PyAny>> {
    let mut links = object.links().0.borrow_mut();
    let is_next = |link: &Link| link.queued.get() && std::ptr::eq(link.thread, here);
    let index = links.iter().position(is_next)?;
    if object.still_ready() {
        return Some(links.remove(index).callback);
    }
    links[index].queued.set(false);
    None
}

impl Links {
    /// `object.unlink(callback)`: takes out the first that is equal, if there is one.
    pub(crate) fn remove(&self, callback: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = callback.py();
        let candidates: Vec<Py<PyAny>> = {
            let links = self.0.borrow();
            links
                .iter()
                .map(|link| link.callback.clone_ref(py))
                .collect()
        };
        for candidate in candidates {
            if !candidate.bind(py).eq(callback)? {
                continue;
            }
            let mut links = self.0.borrow_mut();
            let index = links.iter().position(|link| link.callback.is(&candidate));
            let removed = index.map(|index| links.remove(index));
            drop(links);
            drop(removed);
            break;
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.0.borrow().len()
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        match self.0.try_borrow() {
            Ok(links) => links.iter().try_for_each(|link| visit.call(&link.callback)),
            Err(_) => Ok(()),
        }
    }

    pub(crate) fn clear(&self) {
        let links = self.0.take();
        drop(links);
    }
}
