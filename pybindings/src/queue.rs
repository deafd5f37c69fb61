//! Queues: items handed from greenlet to greenlet, of one native thread or of several.
//!
//! An item that is put while somebody waits is *promised* to the first in line: it stays in the
//! store until that greenlet runs, and nobody else can have it. A place that becomes free is
//! promised in the same way. A wait that is killed after the promise passes it on, so no item is
//! ever lost and no one is overtaken.
//!
//! Invariant: while getters wait every item is promised, while putters wait so is every place.

use std::cell::Cell;

use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::PyValueError,
    intern,
    prelude::*,
    types::{PyString, PyTuple, PyType},
};
use rgevent_runtime::sync::WaitQueue;

use crate::{
    gil_cell::GilCell,
    hub,
    store::{Order, Store},
    wait,
};

/// A queue of items. It counts no tasks and cannot be shut down; Queue does both.
#[pyclass(frozen, subclass, weakref, module = "rgevent.queue")]
pub(crate) struct SimpleQueue {
    inner: GilCell<Inner>,
}

struct Inner {
    store: Store,
    /// 0: unbounded.
    maxsize: Cell<usize>,
    /// A Python class replaces `_put`, `_get` or `_qsize`.
    overridden: Cell<bool>,
    getters: WaitQueue,
    putters: WaitQueue,
    /// Those who wait for an item without taking it.
    watchers: WaitQueue,
    promised_items: Cell<usize>,
    promised_places: Cell<usize>,
    unfinished: Cell<usize>,
    joiners: WaitQueue,
    shut_down: Cell<bool>,
}

/// The classes of `queue` that say why not.
fn refusal(py: Python<'_>, name: &str) -> PyErr {
    let class = py
        .import("rgevent.queue")
        .and_then(|queue| queue.getattr(name));
    match class.and_then(|class| class.call0()) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

impl SimpleQueue {
    fn ordered(order: Order) -> Self {
        Self {
            inner: GilCell::new(Inner {
                store: Store::new(order),
                maxsize: Cell::new(0),
                overridden: Cell::new(false),
                getters: WaitQueue::new(),
                putters: WaitQueue::new(),
                watchers: WaitQueue::new(),
                promised_items: Cell::new(0),
                promised_places: Cell::new(0),
                unfinished: Cell::new(0),
                joiners: WaitQueue::new(),
                shut_down: Cell::new(false),
            }),
        }
    }
}

fn add(cell: &Cell<usize>, number: usize) {
    cell.set(cell.get() + number);
}

fn take_one(cell: &Cell<usize>) {
    cell.set(cell.get() - 1);
}

/// How many items are in the store, promised or not.
#[inline]
fn stored(slf: &Bound<'_, SimpleQueue>) -> PyResult<usize> {
    let inner = &slf.get().inner;
    if inner.overridden.get() {
        return slf.call_method0(intern!(slf.py(), "_qsize"))?.extract();
    }
    inner.store.len(slf.py())
}

/// How many items can be had at once.
#[inline]
fn available(slf: &Bound<'_, SimpleQueue>) -> PyResult<usize> {
    Ok(stored(slf)?.saturating_sub(slf.get().inner.promised_items.get()))
}

/// Whether an item can be put at once.
#[inline]
fn has_place(slf: &Bound<'_, SimpleQueue>) -> PyResult<bool> {
    let inner = &slf.get().inner;
    let maxsize = inner.maxsize.get();
    Ok(maxsize == 0 || available(slf)? + inner.promised_places.get() < maxsize)
}

/// Promises free items and places to those who wait for them.
#[inline]
fn settle(slf: &Bound<'_, SimpleQueue>) -> PyResult<()> {
    let inner = &slf.get().inner;
    if inner.getters.is_empty() && inner.putters.is_empty() && inner.watchers.is_empty() {
        return Ok(());
    }
    settle_slow(slf)
}

fn settle_slow(slf: &Bound<'_, SimpleQueue>) -> PyResult<()> {
    let inner = &slf.get().inner;
    loop {
        if !inner.getters.is_empty() && available(slf)? > 0 && inner.getters.wake_one() {
            add(&inner.promised_items, 1);
        } else if !inner.putters.is_empty() && has_place(slf)? && inner.putters.wake_one() {
            add(&inner.promised_places, 1);
        } else {
            break;
        }
    }
    if !inner.watchers.is_empty() && available(slf)? > 0 {
        inner.watchers.wake_all();
    }
    Ok(())
}

/// As [`settle`], where an error of a Python subclass has nobody to go to.
fn settle_quietly(slf: &Bound<'_, SimpleQueue>) {
    if let Err(error) = settle(slf) {
        error.write_unraisable(slf.py(), Some(slf.as_any()));
    }
}

/// Puts an item into a place that was promised to the caller.
#[inline]
fn fill(slf: &Bound<'_, SimpleQueue>, item: Bound<'_, PyAny>) -> PyResult<()> {
    let inner = &slf.get().inner;
    let result = if inner.overridden.get() {
        slf.call_method1(intern!(slf.py(), "_put"), (item,))
            .map(drop)
    } else {
        inner.store.push(item)
    };
    take_one(&inner.promised_places);
    if result.is_ok() {
        add(&inner.unfinished, 1);
    }
    settle(slf)?;
    result
}

/// Takes an item that was promised to the caller.
#[inline]
fn fetch<'py>(slf: &Bound<'py, SimpleQueue>) -> PyResult<Bound<'py, PyAny>> {
    let inner = &slf.get().inner;
    let result = if inner.overridden.get() {
        slf.call_method0(intern!(slf.py(), "_get"))
    } else {
        inner.store.pop(slf.py())
    };
    take_one(&inner.promised_items);
    settle(slf)?;
    result
}

/// The limit of a wait: None inside when the caller must not wait at all.
fn limit(
    py: Python<'_>,
    block: bool,
    timeout: Option<f64>,
) -> PyResult<
    Option<(
        &'static rgevent_runtime::hub::Hub,
        Option<rgevent_runtime::hub::Deadline>,
    )>,
> {
    if !block {
        return Ok(None);
    }
    if timeout.is_some_and(|seconds| seconds < 0.0) {
        return Err(PyValueError::new_err(
            "'timeout' must be a non-negative number",
        ));
    }
    let hub = hub::current(py)?;
    if hub.thread().current() == hub.coroutine() {
        return Ok(None);
    }
    Ok(Some((hub, wait::deadline(hub, timeout)?)))
}

fn put(
    slf: &Bound<'_, SimpleQueue>,
    item: Bound<'_, PyAny>,
    block: bool,
    timeout: Option<f64>,
) -> PyResult<()> {
    let inner = &slf.get().inner;
    if inner.shut_down.get() {
        return Err(refusal(slf.py(), "ShutDown"));
    }
    if has_place(slf)? {
        add(&inner.promised_places, 1);
        return fill(slf, item);
    }
    put_waiting(slf, item, block, timeout)
}

#[cold]
fn put_waiting(
    slf: &Bound<'_, SimpleQueue>,
    item: Bound<'_, PyAny>,
    block: bool,
    timeout: Option<f64>,
) -> PyResult<()> {
    let py = slf.py();
    let inner = &slf.get().inner;
    let Some((hub, deadline)) = limit(py, block, timeout)? else {
        return Err(refusal(py, "Full"));
    };
    let result = inner.putters.wait(hub, deadline, || {
        take_one(&inner.promised_places);
        settle_quietly(slf);
    });
    if !wait::outcome(py, result)? {
        return Err(refusal(py, "Full"));
    }
    if inner.shut_down.get() {
        take_one(&inner.promised_places);
        return Err(refusal(py, "ShutDown"));
    }
    fill(slf, item)
}

fn get<'py>(
    slf: &Bound<'py, SimpleQueue>,
    block: bool,
    timeout: Option<f64>,
) -> PyResult<Bound<'py, PyAny>> {
    if available(slf)? > 0 {
        add(&slf.get().inner.promised_items, 1);
        return fetch(slf);
    }
    get_waiting(slf, block, timeout)
}

#[cold]
fn get_waiting<'py>(
    slf: &Bound<'py, SimpleQueue>,
    block: bool,
    timeout: Option<f64>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    let inner = &slf.get().inner;
    if inner.shut_down.get() {
        return Err(refusal(py, "ShutDown"));
    }
    let Some((hub, deadline)) = limit(py, block, timeout)? else {
        return Err(refusal(py, "Empty"));
    };
    loop {
        let result = inner.getters.wait(hub, deadline, || {
            take_one(&inner.promised_items);
            settle_quietly(slf);
        });
        if !wait::outcome(py, result)? {
            return Err(refusal(py, "Empty"));
        }
        if stored(slf)? > 0 {
            return fetch(slf);
        }
        // Shut down, or somebody took the item out of the container by hand.
        take_one(&inner.promised_items);
        if inner.shut_down.get() {
            return Err(refusal(py, "ShutDown"));
        }
    }
}

fn peek<'py>(
    slf: &Bound<'py, SimpleQueue>,
    block: bool,
    timeout: Option<f64>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = slf.py();
    let inner = &slf.get().inner;
    let mut waits = None;
    while available(slf)? == 0 {
        if inner.shut_down.get() {
            return Err(refusal(py, "ShutDown"));
        }
        if waits.is_none() {
            waits = limit(py, block, timeout)?;
        }
        let Some((hub, deadline)) = waits else {
            return Err(refusal(py, "Empty"));
        };
        let result = inner.watchers.wait(hub, deadline, || ());
        if !wait::outcome(py, result)? && available(slf)? == 0 {
            return Err(refusal(py, "Empty"));
        }
    }
    slf.call_method0(intern!(py, "_peek"))
}

/// Whether a Python class between `class` and ours defines one of the methods that a queue may
/// replace.
fn overrides(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let ours = class.py().get_type::<SimpleQueue>();
    for name in ["_put", "_get", "_qsize"] {
        if !class.getattr(name)?.is(&ours.getattr(name)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[pymethods]
impl SimpleQueue {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self::ordered(Order::Fifo)
    }

    #[pyo3(signature = (maxsize=None, items=None, unfinished_tasks=None))]
    fn __init__(
        slf: &Bound<'_, Self>,
        maxsize: Option<isize>,
        items: Option<&Bound<'_, PyAny>>,
        unfinished_tasks: Option<usize>,
    ) -> PyResult<()> {
        let py = slf.py();
        let inner = &slf.get().inner;
        let maxsize = usize::try_from(maxsize.unwrap_or(0)).unwrap_or(0);
        inner.maxsize.set(maxsize);
        inner.overridden.set(overrides(&slf.get_type())?);
        slf.call_method1(intern!(py, "_init"), (maxsize,))?;
        for item in items
            .map(|items| items.try_iter())
            .transpose()?
            .into_iter()
            .flatten()
        {
            add(&inner.promised_places, 1);
            fill(slf, item?)?;
        }
        if let Some(unfinished) = unfinished_tasks.filter(|&unfinished| unfinished > 0) {
            inner.unfinished.set(unfinished);
        }
        Ok(())
    }

    /// Put an item in, waiting for a place at most `timeout` seconds (None: without limit) if
    /// `block`.
    ///
    /// Raises Full when there was none in time, ShutDown when the queue was shut down.
    #[pyo3(signature = (item, block=true, timeout=None))]
    fn put(
        slf: &Bound<'_, Self>,
        item: Bound<'_, PyAny>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<()> {
        put(slf, item, block, timeout)
    }

    /// Put an item in without waiting. Raises as put().
    fn put_nowait(slf: &Bound<'_, Self>, item: Bound<'_, PyAny>) -> PyResult<()> {
        put(slf, item, false, None)
    }

    /// Take an item out, waiting for one at most `timeout` seconds (None: without limit) if
    /// `block`.
    ///
    /// Raises Empty when there was none in time, ShutDown when the queue was shut down.
    #[pyo3(signature = (block=true, timeout=None))]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        get(slf, block, timeout)
    }

    /// Take an item out without waiting. Raises as get().
    fn get_nowait<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        get(slf, false, None)
    }

    /// The item that get() would take; it stays. Waits and raises as get().
    #[pyo3(signature = (block=true, timeout=None))]
    fn peek<'py>(
        slf: &Bound<'py, Self>,
        block: bool,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        peek(slf, block, timeout)
    }

    /// The item that get() would take, without waiting. Raises as get().
    fn peek_nowait<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        peek(slf, false, None)
    }

    /// How many items there are, without those on their way to a greenlet.
    fn qsize(slf: &Bound<'_, Self>) -> PyResult<usize> {
        available(slf)
    }

    /// Whether there is no item.
    fn empty(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Ok(available(slf)? == 0)
    }

    /// Whether there is no place for an item.
    fn full(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Ok(!has_place(slf)?)
    }

    /// How many items there can be; None: any number.
    #[getter]
    fn maxsize(&self) -> Option<usize> {
        Some(self.inner.maxsize.get()).filter(|&maxsize| maxsize > 0)
    }

    #[setter]
    fn set_maxsize(slf: &Bound<'_, Self>, maxsize: Option<isize>) -> PyResult<()> {
        let maxsize = usize::try_from(maxsize.unwrap_or(0)).unwrap_or(0);
        slf.get().inner.maxsize.set(maxsize);
        settle(slf)
    }

    /// The container of the items: a deque, or a list. Changes to it count.
    #[getter]
    fn queue<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.inner.store.show(py)
    }

    #[setter]
    fn set_queue(&self, container: Bound<'_, PyAny>) {
        self.inner.store.replace(container);
    }

    /// Make the container. To be overridden, like the next four.
    fn _init(&self, maxsize: usize) {
        let _ = maxsize;
    }

    /// Store an item.
    fn _put(&self, item: Bound<'_, PyAny>) -> PyResult<()> {
        self.inner.store.push(item)
    }

    /// Take an item out of the store.
    fn _get<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.inner.store.pop(py)
    }

    /// Look at the item that _get() would take.
    fn _peek<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.inner.store.peek(py)
    }

    /// How many items are stored.
    fn _qsize(&self, py: Python<'_>) -> PyResult<usize> {
        self.inner.store.len(py)
    }

    fn __len__(slf: &Bound<'_, Self>) -> PyResult<usize> {
        available(slf)
    }

    fn __bool__(&self) -> bool {
        true
    }

    fn __iter__<'py>(slf: Bound<'py, Self>) -> Bound<'py, Self> {
        slf
    }

    /// The next item; the class StopIteration as an item ends the iteration.
    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let item = slf.call_method0(intern!(slf.py(), "get"))?;
        let stop = slf.py().get_type::<pyo3::exceptions::PyStopIteration>();
        Ok((!item.is(&stop)).then_some(item))
    }

    #[classmethod]
    fn __class_getitem__<'py>(
        class: &Bound<'py, PyType>,
        item: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let alias = class.py().import("types")?.getattr("GenericAlias")?;
        alias.call1((class, item))
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let inner = &slf.get().inner;
        let class = slf.get_type().fully_qualified_name()?;
        let class: &Bound<'_, PyString> = &class;
        let mut text = format!("<{class} at {:p} items={}", slf.as_ptr(), available(slf)?);
        if inner.maxsize.get() > 0 {
            text += &format!(" maxsize={}", inner.maxsize.get());
        }
        if inner.unfinished.get() > 0 && slf.is_instance_of::<Queue>() {
            text += &format!(" tasks={}", inner.unfinished.get());
        }
        for (name, line) in [("getters", &inner.getters), ("putters", &inner.putters)] {
            if !line.is_empty() {
                text += &format!(" {name}={}", line.parked());
            }
        }
        Ok(text + ">")
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.inner.store.traverse(&visit)
    }

    fn __clear__(&self) {
        self.inner.store.clear();
    }
}

/// A queue, first in first out, that knows which of its items have been dealt with.
///
/// maxsize None, zero or negative: any number of items. items: what is in it at the beginning.
#[pyclass(frozen, subclass, weakref, extends = SimpleQueue, module = "rgevent.queue")]
pub(crate) struct Queue {}

/// Counts tasks off; who waits in `join` goes on when none is left.
fn finish(inner: &Inner, number: usize) {
    let left = inner.unfinished.get().saturating_sub(number);
    inner.unfinished.set(left);
    if left == 0 {
        inner.joiners.wake_all();
    }
}

#[pymethods]
impl Queue {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyAny>>,
    ) -> PyClassInitializer<Self> {
        PyClassInitializer::from(SimpleQueue::ordered(Order::Fifo)).add_subclass(Self {})
    }

    /// Say that an item taken out has been dealt with.
    ///
    /// Raises ValueError when called more often than items were put.
    fn task_done(slf: &Bound<'_, Self>) -> PyResult<()> {
        let inner = &slf.as_super().get().inner;
        if inner.unfinished.get() == 0 {
            return Err(PyValueError::new_err("task_done() called too many times"));
        }
        finish(inner, 1);
        Ok(())
    }

    /// Wait until every item has been dealt with, at most `timeout` seconds.
    ///
    /// Return whether that happened in time.
    #[pyo3(signature = (timeout=None))]
    fn join(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<bool> {
        let py = slf.py();
        let inner = &slf.as_super().get().inner;
        if inner.unfinished.get() == 0 {
            return Ok(true);
        }
        let hub = hub::current(py)?;
        let deadline = wait::deadline(hub, timeout)?;
        let result = inner.joiners.wait(hub, deadline, || ());
        Ok(wait::outcome(py, result)? || inner.unfinished.get() == 0)
    }

    /// How many items have been put and not been dealt with.
    #[getter]
    fn unfinished_tasks(slf: &Bound<'_, Self>) -> usize {
        slf.as_super().get().inner.unfinished.get()
    }

    /// Whether it was shut down.
    #[getter]
    fn is_shutdown(slf: &Bound<'_, Self>) -> bool {
        slf.as_super().get().inner.shut_down.get()
    }

    /// Let nothing more in: put() raises ShutDown, and get() does when the queue is empty.
    ///
    /// immediate: drop the items, and count them as dealt with.
    #[pyo3(signature = (immediate=false))]
    fn shutdown(slf: &Bound<'_, Self>, immediate: bool) -> PyResult<()> {
        let queue = slf.as_super();
        let inner = &queue.get().inner;
        inner.shut_down.set(true);
        while immediate && available(queue)? > 0 {
            add(&inner.promised_items, 1);
            fetch(queue)?;
            finish(inner, 1);
        }
        // All find out for themselves, as if something had been promised to them.
        while inner.getters.wake_one() {
            add(&inner.promised_items, 1);
        }
        while inner.putters.wake_one() {
            add(&inner.promised_places, 1);
        }
        inner.watchers.wake_all();
        Ok(())
    }
}

/// A queue that gives out the newest item first.
#[pyclass(frozen, subclass, weakref, extends = Queue, module = "rgevent.queue")]
pub(crate) struct LifoQueue {}

#[pymethods]
impl LifoQueue {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyAny>>,
    ) -> PyClassInitializer<Self> {
        PyClassInitializer::from(SimpleQueue::ordered(Order::Lifo))
            .add_subclass(Queue {})
            .add_subclass(Self {})
    }
}

/// A queue that gives out the smallest item first.
#[pyclass(frozen, subclass, weakref, extends = Queue, module = "rgevent.queue")]
pub(crate) struct PriorityQueue {}

#[pymethods]
impl PriorityQueue {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyAny>>,
    ) -> PyClassInitializer<Self> {
        PyClassInitializer::from(SimpleQueue::ordered(Order::Heap))
            .add_subclass(Queue {})
            .add_subclass(Self {})
    }
}
