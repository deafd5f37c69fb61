//! Where a queue keeps its items: natively, until Python code asks to see the container.
//!
//! `queue.queue` is a deque or a list that programs change at will. It is made when it is asked
//! for, and used from then on. Heaps live in a list from the start, for `heapq`.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
};

use pyo3::{PyTraverseError, PyVisit, intern, prelude::*, types::PyList};

/// The order in which items come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Fifo,
    Lifo,
    Heap,
}

/// The items of a queue.
pub(crate) struct Store {
    order: Order,
    items: RefCell<VecDeque<Py<PyAny>>>,
    /// Whether `container` is used instead of `items`.
    shown: Cell<bool>,
    container: RefCell<Option<Py<PyAny>>>,
}

impl Store {
    pub(crate) fn new(order: Order) -> Self {
        Self {
            order,
            items: RefCell::default(),
            shown: Cell::new(false),
            container: RefCell::new(None),
        }
    }

    /// The container, for Python code to use as it likes.
    pub(crate) fn show<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(container) = &*self.container.borrow() {
            return Ok(container.bind(py).clone());
        }
        let container = match self.order {
            Order::Fifo => py.import("collections")?.getattr("deque")?.call0()?,
            Order::Lifo | Order::Heap => PyList::empty(py).into_any(),
        };
        for item in self.items.take() {
            container.call_method1(intern!(py, "append"), (item,))?;
        }
        self.replace(container.clone());
        Ok(container)
    }

    /// Uses another container.
    pub(crate) fn replace(&self, container: Bound<'_, PyAny>) {
        self.shown.set(true);
        let old = self.container.replace(Some(container.unbind()));
        let items = self.items.take();
        drop((old, items));
    }

    #[inline]
    pub(crate) fn len(&self, py: Python<'_>) -> PyResult<usize> {
        if self.shown.get() {
            return self.show(py)?.len();
        }
        Ok(self.items.borrow().len())
    }

    #[inline]
    pub(crate) fn push(&self, item: Bound<'_, PyAny>) -> PyResult<()> {
        if self.shown.get() || self.order == Order::Heap {
            return self.push_shown(item);
        }
        self.items.borrow_mut().push_back(item.unbind());
        Ok(())
    }

    #[cold]
    fn push_shown(&self, item: Bound<'_, PyAny>) -> PyResult<()> {
        let py = item.py();
        let container = self.show(py)?;
        if self.order == Order::Heap {
            let heapq = py.import(intern!(py, "heapq"))?;
            heapq.call_method1(intern!(py, "heappush"), (container, item))?;
        } else {
            container.call_method1(intern!(py, "append"), (item,))?;
        }
        Ok(())
    }

    /// Takes the next item out. There must be one.
    #[inline]
    pub(crate) fn pop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if !self.shown.get() {
            let mut items = self.items.borrow_mut();
            let item = match self.order {
                Order::Fifo => items.pop_front(),
                Order::Lifo | Order::Heap => items.pop_back(),
            };
            if let Some(item) = item {
                return Ok(item.into_bound(py));
            }
        }
        self.pop_shown(py)
    }

    #[cold]
    fn pop_shown<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let container = self.show(py)?;
        match self.order {
            Order::Fifo => container.call_method0(intern!(py, "popleft")),
            Order::Lifo => container.call_method0(intern!(py, "pop")),
            Order::Heap => {
                let heapq = py.import(intern!(py, "heapq"))?;
                heapq.call_method1(intern!(py, "heappop"), (container,))
            }
        }
    }

    /// The next item, left where it is. There must be one.
    pub(crate) fn peek<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if !self.shown.get() {
            let items = self.items.borrow();
            let item = match self.order {
                Order::Fifo => items.front(),
                Order::Lifo | Order::Heap => items.back(),
            };
            if let Some(item) = item {
                return Ok(item.bind(py).clone());
            }
        }
        let container = self.show(py)?;
        container.get_item(if self.order == Order::Lifo { -1 } else { 0 })
    }

    pub(crate) fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        if let Ok(items) = self.items.try_borrow() {
            items.iter().try_for_each(|item| visit.call(item))?;
        }
        match self.container.try_borrow() {
            Ok(container) => visit.call(&*container),
            Err(_) => Ok(()),
        }
    }

    pub(crate) fn clear(&self) {
        let items = self.items.take();
        let container = self.container.take();
        self.shown.set(false);
        drop((items, container));
    }
}
