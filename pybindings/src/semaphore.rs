//! `Semaphore` and `BoundedSemaphore`: permits with links, and a wait that takes nothing.

use std::cell::Cell;

use pyo3::{PyTraverseError, PyVisit, exceptions::PyValueError, prelude::*};
use rgevent_runtime::sync::WaitQueue;

use crate::{
    gil_cell::GilCell,
    hub,
    links::{self, Linkable, Links},
    permits::{Limit, Permits},
    wait,
};

/// A number of permits. Who waits for one gets it in the order of arrival.
#[pyclass(frozen, subclass, weakref, module = "rgevent.lock")]
pub(crate) struct Semaphore {
    inner: GilCell<Inner>,
}

struct Inner {
    permits: Permits,
    /// Those who wait for a free permit without taking it.
    watchers: WaitQueue,
    links: Links,
    bounded: bool,
    /// How many there are in all, when bounded.
    limit: Cell<usize>,
}

impl Semaphore {
    fn with_bound(bounded: bool) -> Self {
        Self {
            inner: GilCell::new(Inner {
                permits: Permits::new(1),
                watchers: WaitQueue::new(),
                links: Links::default(),
                bounded,
                limit: Cell::new(1),
            }),
        }
    }
}

impl Linkable for Semaphore {
    fn links(&self) -> &Links {
        &self.inner.links
    }

    fn still_ready(&self) -> bool {
        self.inner.permits.free() > 0
    }
}

/// Gives one permit back.
#[inline]
fn give(semaphore: &Bound<'_, Semaphore>) -> PyResult<()> {
    let inner = &semaphore.get().inner;
    if inner.bounded && inner.permits.free() >= inner.limit.get() {
        return Err(PyValueError::new_err("Semaphore released too many times"));
    }
    if inner.permits.give() {
        tell(semaphore);
    }
    Ok(())
}

/// A permit is free: tells those who only want to know.
#[inline]
fn tell(semaphore: &Bound<'_, Semaphore>) {
    let inner = &semaphore.get().inner;
    if !inner.watchers.is_empty() {
        inner.watchers.wake_all();
    }
    links::notify(semaphore, &inner.links);
}

#[pymethods]
impl Semaphore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self::with_bound(false)
    }

    #[pyo3(signature = (value=1, hub=None))]
    fn __init__(&self, value: isize, hub: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let _ = hub;
        let Ok(value) = usize::try_from(value) else {
            return Err(PyValueError::new_err(
                "semaphore initial value must be >= 0",
            ));
        };
        self.inner.permits.set_free(value);
        self.inner.limit.set(value);
        Ok(())
    }

    /// Take a permit, waiting at most `timeout` seconds (None: without limit) if `blocking`.
    ///
    /// Return whether one was taken.
    #[pyo3(signature = (blocking=None, timeout=None), text_signature = "($self, blocking=True, timeout=None)")]
    fn acquire(
        &self,
        py: Python<'_>,
        blocking: Option<&Bound<'_, PyAny>>,
        timeout: Option<f64>,
    ) -> PyResult<bool> {
        let limit = Limit::of_semaphore(blocking, timeout)?;
        self.inner.permits.take(py, limit)
    }

    /// Give `n` permits back, to those who wait first. Return how many are free.
    ///
    /// Raises ValueError when n is less than one, or when a bounded semaphore would get more
    /// permits than it began with.
    #[pyo3(signature = (n=1))]
    fn release(slf: &Bound<'_, Self>, n: usize) -> PyResult<usize> {
        if n == 0 {
            return Err(PyValueError::new_err("n must be one or more"));
        }
        for _ in 0..n {
            give(slf)?;
        }
        Ok(slf.get().inner.permits.free())
    }

    /// Whether no permit is free.
    fn locked(&self) -> bool {
        self.inner.permits.free() == 0
    }

    /// Whether a permit is free.
    fn ready(&self) -> bool {
        !self.locked()
    }

    /// How many permits are free.
    #[getter]
    fn counter(&self) -> usize {
        self.inner.permits.free()
    }

    #[setter]
    fn set_counter(slf: &Bound<'_, Self>, value: usize) {
        slf.get().inner.permits.set_free(value);
        if slf.get().ready() {
            tell(slf);
        }
    }

    /// Wait until a permit is free, at most `timeout` seconds, and do not take it.
    ///
    /// Return how many are free.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<usize> {
        let inner = &self.inner;
        if inner.permits.free() == 0 {
            let hub = hub::current(py)?;
            let deadline = wait::deadline(hub, timeout)?;
            while inner.permits.free() == 0 {
                let result = inner.watchers.wait(hub, deadline, || ());
                if !wait::outcome(py, result)? {
                    break;
                }
            }
        }
        Ok(inner.permits.free())
    }

    /// Have `callback(semaphore)` called in the hub, once, when a permit is free.
    fn rawlink(slf: &Bound<'_, Self>, callback: Bound<'_, PyAny>) -> PyResult<()> {
        links::add(slf, &slf.get().inner.links, callback, slf.get().ready())
    }

    /// Undo rawlink(); nothing happens when it was called or never linked.
    fn unlink(&self, callback: &Bound<'_, PyAny>) -> PyResult<()> {
        self.inner.links.remove(callback)
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.inner.permits.take(py, Limit::Forever)
    }

    fn __exit__(
        slf: &Bound<'_, Self>,
        _kind: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        give(slf)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let inner = &slf.get().inner;
        let class = slf.get_type().fully_qualified_name()?;
        Ok(format!(
            "<{class} at {:p} counter={} links={}>",
            slf.as_ptr(),
            inner.permits.free(),
            inner.links.len()
        ))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.inner.links.traverse(&visit)
    }

    fn __clear__(&self) {
        self.inner.links.clear();
    }
}

/// A semaphore that refuses to get more permits than it began with.
#[pyclass(frozen, subclass, weakref, extends = Semaphore, module = "rgevent.lock")]
pub(crate) struct BoundedSemaphore {}

#[pymethods]
impl BoundedSemaphore {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(
        _args: &Bound<'_, PyAny>,
        _kwargs: Option<&Bound<'_, PyAny>>,
    ) -> PyClassInitializer<Self> {
        PyClassInitializer::from(Semaphore::with_bound(true)).add_subclass(Self {})
    }
}
