//! `Lock` and `RLock`: what `threading` gives out when it is patched.
//!
//! They belong to greenlets, not to native threads, and may be shared by both. Free ones cost a
//! few loads and stores: the hub is not asked for before somebody has to wait.

use std::{cell::Cell, ptr};

use pyo3::{exceptions::PyRuntimeError, prelude::*};

use crate::{
    gil_cell::GilCell,
    permits::{Limit, Permits},
    thread::PyThread,
};

type Argument<'a, 'py> = Option<&'a Bound<'py, PyAny>>;

/// A lock that any greenlet of any thread may release.
#[pyclass(frozen, weakref, module = "rgevent.lock")]
pub(crate) struct Lock {
    permits: GilCell<Permits>,
}

impl Lock {
    #[inline]
    fn unlock(&self) -> PyResult<()> {
        if self.permits.free() > 0 {
            return Err(PyRuntimeError::new_err("release unlocked lock"));
        }
        self.permits.give();
        Ok(())
    }
}

#[pymethods]
impl Lock {
    #[new]
    fn new() -> Self {
        Self {
            permits: GilCell::new(Permits::new(1)),
        }
    }

    /// Take the lock, waiting at most `timeout` seconds (-1: without limit) if `blocking`.
    ///
    /// Return whether it was taken. Raises ValueError for a negative timeout, or for one given to
    /// a call that does not block; OverflowError for one beyond threading.TIMEOUT_MAX.
    #[pyo3(signature = (blocking=None, timeout=None), text_signature = "($self, blocking=True, timeout=-1)")]
    fn acquire(
        &self,
        py: Python<'_>,
        blocking: Argument<'_, '_>,
        timeout: Argument<'_, '_>,
    ) -> PyResult<bool> {
        self.permits.take(py, Limit::of_lock(blocking, timeout)?)
    }

    /// The same as acquire().
    #[pyo3(signature = (blocking=None, timeout=None), text_signature = "($self, blocking=True, timeout=-1)")]
    fn acquire_lock(
        &self,
        py: Python<'_>,
        blocking: Argument<'_, '_>,
        timeout: Argument<'_, '_>,
    ) -> PyResult<bool> {
        self.acquire(py, blocking, timeout)
    }

    /// Give the lock to the first who waits, or nobody. Raises RuntimeError when it is not locked.
    fn release(&self) -> PyResult<()> {
        self.unlock()
    }

    /// The same as release().
    fn release_lock(&self) -> PyResult<()> {
        self.unlock()
    }

    /// Whether somebody has it.
    fn locked(&self) -> bool {
        self.permits.free() == 0
    }

    /// The same as locked().
    fn locked_lock(&self) -> bool {
        self.locked()
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.permits.take(py, Limit::Forever)
    }

    fn __exit__(
        &self,
        _kind: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.unlock()
    }

    /// Unlock it in a forked child, where its holder may not exist.
    fn _at_fork_reinit(&self) {
        self.permits.forget_other_threads();
        if self.locked() {
            self.permits.give();
        }
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let state = if slf.get().locked() {
            "locked"
        } else {
            "unlocked"
        };
        let class = slf.get_type().fully_qualified_name()?;
        Ok(format!("<{state} {class} object at {:p}>", slf.as_ptr()))
    }
}

/// A lock that its owner may take again. The owner is a greenlet.
#[pyclass(frozen, subclass, weakref, module = "rgevent.lock")]
pub(crate) struct RLock {
    inner: GilCell<Recursive>,
}

struct Recursive {
    permits: Permits,
    /// The greenlet that has it, or null. Compared, never followed.
    owner: Cell<*mut ()>,
    count: Cell<usize>,
}

/// The running greenlet, as an owner.
#[inline]
fn me(py: Python<'_>) -> PyResult<*mut ()> {
    Ok(PyThread::current_or_new(py)?.current().word())
}

impl Recursive {
    #[inline]
    fn own(&self, owner: *mut (), count: usize) {
        self.owner.set(owner);
        self.count.set(count);
    }

    #[inline]
    fn lock(&self, py: Python<'_>, limit: Limit) -> PyResult<bool> {
        let me = me(py)?;
        if self.owner.get() == me {
            self.count.set(self.count.get() + 1);
            return Ok(true);
        }
        let taken = self.permits.take(py, limit)?;
        if taken {
            self.own(me, 1);
        }
        Ok(taken)
    }

    #[inline]
    fn unlock(&self, py: Python<'_>) -> PyResult<()> {
        if self.owner.get() != me(py)? {
            return Err(PyRuntimeError::new_err("cannot release un-acquired lock"));
        }
        let count = self.count.get() - 1;
        self.count.set(count);
        if count == 0 {
            self.owner.set(ptr::null_mut());
            self.permits.give();
        }
        Ok(())
    }
}

#[pymethods]
impl RLock {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Self {
            inner: GilCell::new(Recursive {
                permits: Permits::new(1),
                owner: Cell::new(ptr::null_mut()),
                count: Cell::new(0),
            }),
        }
    }

    /// Take the lock, again if this greenlet has it, waiting at most `timeout` seconds
    /// (-1: without limit) if `blocking`. Return whether it was taken.
    ///
    /// Raises ValueError for a negative timeout, or for one given to a call that does not block;
    /// OverflowError for one beyond threading.TIMEOUT_MAX.
    #[pyo3(signature = (blocking=None, timeout=None), text_signature = "($self, blocking=True, timeout=-1)")]
    fn acquire(
        &self,
        py: Python<'_>,
        blocking: Argument<'_, '_>,
        timeout: Argument<'_, '_>,
    ) -> PyResult<bool> {
        self.inner.lock(py, Limit::of_lock(blocking, timeout)?)
    }

    /// Undo one acquire(). Raises RuntimeError when another greenlet, or none, has the lock.
    fn release(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.unlock(py)
    }

    /// Whether somebody has it.
    fn locked(&self) -> bool {
        self.inner.permits.free() == 0
    }

    fn __enter__(&self, py: Python<'_>) -> PyResult<bool> {
        self.inner.lock(py, Limit::Forever)
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        self.inner.unlock(py)
    }

    /// Whether the running greenlet has it.
    fn _is_owned(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.inner.owner.get() == me(py)?)
    }

    /// How often the running greenlet has taken it.
    fn _recursion_count(&self, py: Python<'_>) -> PyResult<usize> {
        Ok(if self._is_owned(py)? {
            self.inner.count.get()
        } else {
            0
        })
    }

    /// Release it whatever its count, and return what _acquire_restore() needs; for Condition.
    fn _release_save(&self) -> PyResult<(usize, usize)> {
        let count = self.inner.count.get();
        if count == 0 {
            return Err(PyRuntimeError::new_err("cannot release un-acquired lock"));
        }
        let owner = self.inner.owner.get();
        self.inner.own(ptr::null_mut(), 0);
        self.inner.permits.give();
        Ok((count, owner as usize))
    }

    /// Take it as it was before _release_save(); for Condition.
    fn _acquire_restore(&self, py: Python<'_>, state: (usize, usize)) -> PyResult<()> {
        self.inner.permits.take(py, Limit::Forever)?;
        self.inner.own(state.1 as *mut (), state.0);
        Ok(())
    }

    /// Unlock it in a forked child, where its holder may not exist.
    fn _at_fork_reinit(&self) {
        self.inner.permits.forget_other_threads();
        self.inner.own(ptr::null_mut(), 0);
        if self.locked() {
            self.inner.permits.give();
        }
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let inner = &slf.get().inner;
        let state = if slf.get().locked() {
            "locked"
        } else {
            "unlocked"
        };
        let class = slf.get_type().fully_qualified_name()?;
        Ok(format!(
            "<{state} {class} object owner={} count={} at {:p}>",
            inner.owner.get() as usize,
            inner.count.get(),
            slf.as_ptr()
        ))
    }
}
