//! `Event`: one greenlet says when, others wait.

use std::cell::Cell;

use pyo3::{PyTraverseError, PyVisit, prelude::*};
use rgevent_runtime::sync::WaitQueue;

use crate::{
    gil_cell::GilCell,
    hub,
    links::{self, Linkable, Links},
    wait,
};

/// A flag that can be waited for, by greenlets of any thread. It begins unset.
#[pyclass(frozen, subclass, weakref, module = "rgevent.event")]
pub(crate) struct Event {
    inner: GilCell<Inner>,
}

#[derive(Default)]
struct Inner {
    flag: Cell<bool>,
    waiters: WaitQueue,
    links: Links,
}

impl Linkable for Event {
    fn links(&self) -> &Links {
        &self.inner.links
    }

    /// Whoever was linked when it was set is called, even if it has been cleared since.
    fn still_ready(&self) -> bool {
        true
    }
}

#[pymethods]
impl Event {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self {
            inner: GilCell::default(),
        }
    }

    /// Whether it is set.
    fn is_set(&self) -> bool {
        self.inner.flag.get()
    }

    /// The same as is_set().
    #[pyo3(name = "isSet")]
    fn is_set_old(&self) -> bool {
        self.is_set()
    }

    /// The same as is_set().
    fn ready(&self) -> bool {
        self.is_set()
    }

    /// Set it: all who wait go on, and links are called.
    fn set(slf: &Bound<'_, Self>) {
        let inner = &slf.get().inner;
        inner.flag.set(true);
        inner.waiters.wake_all();
        links::notify(slf, &inner.links);
    }

    /// Unset it: who waits from now on waits for the next set().
    fn clear(&self) {
        self.inner.flag.set(false);
    }

    /// Wait until it is set, at most `timeout` seconds (None: without limit).
    ///
    /// Return whether that happened in time.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        if self.is_set() {
            return Ok(true);
        }
        let hub = hub::current(py)?;
        let deadline = wait::deadline(hub, timeout)?;
        if self.is_set() {
            return Ok(true);
        }
        let result = self.inner.waiters.wait(hub, deadline, || ());
        Ok(wait::outcome(py, result)? || self.is_set())
    }

    /// Have `callback(event)` called in the hub, once, when it is set.
    fn rawlink(slf: &Bound<'_, Self>, callback: Bound<'_, PyAny>) -> PyResult<()> {
        links::add(slf, &slf.get().inner.links, callback, slf.get().is_set())
    }

    /// Undo rawlink(); nothing happens when it was called or never linked.
    fn unlink(&self, callback: &Bound<'_, PyAny>) -> PyResult<()> {
        self.inner.links.remove(callback)
    }

    /// In a forked child: those who waited in other threads are no more.
    fn _at_fork_reinit(&self) {
        self.inner.waiters.forget_other_threads();
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let state = if slf.get().is_set() { "set" } else { "unset" };
        let class = slf.get_type().fully_qualified_name()?;
        Ok(format!("<{class} at {:p}: {state}>", slf.as_ptr()))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.inner.links.traverse(&visit)
    }

    fn __clear__(&self) {
        self.inner.links.clear();
    }
}
