//! `AsyncResult`: a value or an exception that one greenlet sets and others wait for.

use std::cell::{Cell, RefCell};

use pyo3::{
    PyTraverseError, PyVisit, intern,
    prelude::*,
    types::{PyTuple, PyType},
};
use rgevent_runtime::sync::WaitQueue;

use crate::{
    gil_cell::GilCell,
    hub,
    links::{self, Linkable, Links},
    wait,
};

/// A result to come. Set it with a value or an exception; it can be set again.
#[pyclass(frozen, subclass, weakref, module = "rgevent.event")]
pub(crate) struct AsyncResult {
    inner: GilCell<Inner>,
}

#[derive(Default)]
struct Inner {
    ready: Cell<bool>,
    outcome: RefCell<Outcome>,
    waiters: WaitQueue,
    links: Links,
}

/// What was set. Both are None before.
#[derive(Default)]
struct Outcome {
    value: Option<Py<PyAny>>,
    exception: Option<Py<PyAny>>,
    /// The exception's traceback when it was set; what raising it adds is not kept.
    trace: Option<Py<PyAny>>,
}

impl Linkable for AsyncResult {
    fn links(&self) -> &Links {
        &self.inner.links
    }

    fn still_ready(&self) -> bool {
        true
    }
}

/// The exception that says a wait of `seconds` was too long.
fn timeout_error(py: Python<'_>, seconds: Option<f64>) -> PyResult<PyErr> {
    let class = py.import("rgevent.timeout")?.getattr("Timeout")?;
    Ok(PyErr::from_value(class.call1((seconds,))?))
}

fn settle(slf: &Bound<'_, AsyncResult>, outcome: Outcome) {
    let inner = &slf.get().inner;
    let old = inner.outcome.replace(outcome);
    inner.ready.set(true);
    inner.waiters.wake_all();
    links::notify(slf, &inner.links);
    drop(old);
}

impl AsyncResult {
    /// Waits until it is set; false when the time was up first.
    fn wait_ready(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<bool> {
        let inner = &self.inner;
        if inner.ready.get() {
            return Ok(true);
        }
        let hub = hub::current(py)?;
        let deadline = wait::deadline(hub, timeout)?;
        if inner.ready.get() {
            return Ok(true);
        }
        let result = inner.waiters.wait(hub, deadline, || ());
        Ok(wait::outcome(py, result)? || inner.ready.get())
    }

    /// The value, or the exception raised.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let outcome = self.inner.outcome.borrow();
        let value = outcome.value.as_ref().map(|value| value.bind(py).clone());
        let exception = outcome.exception.as_ref().map(|e| e.bind(py).clone());
        let trace = outcome.trace.as_ref().map(|trace| trace.bind(py).clone());
        drop(outcome);
        if let Some(exception) = exception {
            exception.setattr(intern!(py, "__traceback__"), trace)?;
            return Err(PyErr::from_value(exception));
        }
        Ok(value.unwrap_or_else(|| py.None().into_bound(py)))
    }

    fn exception_of<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        let outcome = self.inner.outcome.borrow();
        outcome.exception.as_ref().map(|e| e.bind(py).clone())
    }
}

#[pymethods]
impl AsyncResult {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self {
            inner: GilCell::default(),
        }
    }

    /// Set it to `value`: all who wait go on, and links are called.
    #[pyo3(signature = (value=None))]
    fn set(slf: &Bound<'_, Self>, value: Option<Py<PyAny>>) {
        let outcome = Outcome {
            value,
            ..Outcome::default()
        };
        settle(slf, outcome);
    }

    /// The same as set().
    #[pyo3(signature = (result=None))]
    fn set_result(slf: &Bound<'_, Self>, result: Option<Py<PyAny>>) {
        Self::set(slf, result);
    }

    /// Set it to an exception, which get() will raise.
    ///
    /// exc_info is a tuple of class, exception and traceback, for the traceback.
    #[pyo3(signature = (exception, exc_info=None))]
    fn set_exception(
        slf: &Bound<'_, Self>,
        exception: Bound<'_, PyAny>,
        exc_info: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let py = slf.py();
        let exception = if exception.is_instance_of::<PyType>() {
            exception.call0()?
        } else {
            exception
        };
        let trace = match exc_info.filter(|info| info.is_truthy().unwrap_or(false)) {
            Some(info) => info.get_item(2)?,
            None => exception.getattr(intern!(py, "__traceback__"))?,
        };
        let outcome = Outcome {
            value: None,
            exception: Some(exception.unbind()),
            trace: (!trace.is_none()).then(|| trace.unbind()),
        };
        settle(slf, outcome);
        Ok(())
    }

    /// Wait for the value, at most `timeout` seconds (None: without limit) if `block`.
    ///
    /// Raises the exception it was set to, or Timeout when it was not set in time.
    #[pyo3(signature = (block=true, timeout=None))]
    fn get<'py>(
        &self,
        py: Python<'py>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if self.inner.ready.get() || (block && self.wait_ready(py, timeout)?) {
            return self.take(py);
        }
        Err(timeout_error(py, if block { timeout } else { None })?)
    }

    /// The value, without waiting. Raises as get().
    fn get_nowait<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.get(py, false, None)
    }

    /// The same as get(timeout=timeout).
    #[pyo3(signature = (timeout=None))]
    fn result<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        self.get(py, true, timeout)
    }

    /// Wait until it is set, at most `timeout` seconds. Return the value, or None.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Py<PyAny>>> {
        self.wait_ready(py, timeout)?;
        Ok(self.value(py))
    }

    /// Whether it is set.
    fn ready(&self) -> bool {
        self.inner.ready.get()
    }

    /// The same as ready().
    fn done(&self) -> bool {
        self.ready()
    }

    /// Whether it is set to a value.
    fn successful(&self) -> bool {
        self.ready() && self.inner.outcome.borrow().exception.is_none()
    }

    /// Always false: a result cannot be cancelled.
    fn cancel(&self) -> bool {
        false
    }

    /// Always false: a result cannot be cancelled.
    fn cancelled(&self) -> bool {
        false
    }

    /// The value it was set to, or None.
    #[getter]
    fn value(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let outcome = self.inner.outcome.borrow();
        outcome.value.as_ref().map(|value| value.clone_ref(py))
    }

    /// The exception it was set to, or None.
    #[getter]
    fn exception<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        self.exception_of(py)
    }

    /// Class, exception and traceback; an empty tuple when there is no exception.
    #[getter]
    fn exc_info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let Some(exception) = self.exception_of(py) else {
            return Ok(PyTuple::empty(py));
        };
        let trace = exception.getattr(intern!(py, "__traceback__"))?;
        let class = exception.get_type().into_any();
        PyTuple::new(py, [class, exception, trace])
    }

    /// Take over the outcome of another: it can be linked to a greenlet.
    fn __call__(slf: &Bound<'_, Self>, source: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        if source
            .call_method0(intern!(py, "successful"))?
            .is_truthy()?
        {
            let value = source.getattr(intern!(py, "value"))?;
            Self::set(slf, Some(value.unbind()));
            return Ok(());
        }
        let exception = source.getattr(intern!(py, "exception"))?;
        let info = source.getattr_opt(intern!(py, "exc_info"))?;
        Self::set_exception(slf, exception, info)
    }

    /// Have `callback(result)` called in the hub, once, when it is set.
    fn rawlink(slf: &Bound<'_, Self>, callback: Bound<'_, PyAny>) -> PyResult<()> {
        links::add(slf, &slf.get().inner.links, callback, slf.get().ready())
    }

    /// Undo rawlink(); nothing happens when it was called or never linked.
    fn unlink(&self, callback: &Bound<'_, PyAny>) -> PyResult<()> {
        self.inner.links.remove(callback)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let py = slf.py();
        let class = slf.get_type().fully_qualified_name()?;
        let place = slf.as_ptr();
        let state = if let Some(exception) = slf.get().exception_of(py) {
            format!(" exception={}", exception.repr()?)
        } else if slf.get().ready() {
            format!(" value={}", slf.get().take(py)?.repr()?)
        } else {
            String::new()
        };
        Ok(format!("<{class} at {place:p}{state}>"))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(outcome) = self.inner.outcome.try_borrow() {
            visit.call(&outcome.value)?;
            visit.call(&outcome.exception)?;
            visit.call(&outcome.trace)?;
        }
        self.inner.links.traverse(&visit)
    }

    fn __clear__(&self) {
        let outcome = self.inner.outcome.take();
        drop(outcome);
        self.inner.links.clear();
    }
}
