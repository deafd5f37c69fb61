//! Timers of the hub as Python objects: throw into a greenlet later, or call something later.

use std::{cell::Cell, time::Duration};

use pyo3::{exceptions::PyTypeError, prelude::*, types::PyTuple};
use rgevent_runtime::hub::{Hub, TimerId};

use crate::{
    greenlet::{self, GreenletRef},
    hub,
    thread::PyThread,
    wait,
};

/// What a timer will do. References are owned.
enum Action {
    Throw {
        target: GreenletRef,
        exception: Py<PyAny>,
    },
    Call {
        function: Py<PyAny>,
        args: Py<PyTuple>,
    },
}

/// Shared by the hub's timer and the Python object.
struct Armed {
    action: Cell<Option<Action>>,
    /// The Python object and the hub's timer, as far as they still refer to this.
    holders: Cell<u8>,
}

/// Something the hub will do once, unless it is cancelled before.
#[pyclass(frozen, module = "rgevent._rgevent")]
pub(crate) struct Timer {
    armed: *const Armed,
    id: TimerId,
    hub: &'static Hub,
}

// SAFETY: used with the GIL held only.
unsafe impl Send for Timer {}
// SAFETY: as above.
unsafe impl Sync for Timer {}

impl Timer {
    fn armed(&self) -> &Armed {
        // SAFETY: freed when both holders have let go, and this is one of them.
        unsafe { &*self.armed }
    }
}

/// One holder lets go.
fn release(armed: *const Armed) {
    // SAFETY: the caller is a holder.
    let holders = unsafe { &(*armed).holders };
    holders.set(holders.get() - 1);
    if holders.get() == 0 {
        // SAFETY: it was the last holder of the leaked box.
        drop(unsafe { Box::from_raw(armed.cast_mut()) });
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        release(self.armed);
    }
}

fn arm(py: Python<'_>, seconds: f64, action: Action) -> PyResult<Timer> {
    let hub = hub::current(py)?;
    let delay = wait::duration(Some(seconds))?.unwrap_or(Duration::MAX);
    let armed: *const Armed = Box::into_raw(Box::new(Armed {
        action: Cell::new(Some(action)),
        holders: Cell::new(2),
    }));
    let id = hub.set_timer(delay, (fire, armed.cast_mut().cast()));
    Ok(Timer { armed, id, hub })
}

/// Called by the hub when the time has come.
fn fire(word: *mut ()) {
    let armed = word.cast::<Armed>().cast_const();
    // SAFETY: the hub's timer is one of the holders.
    let action = unsafe { (*armed).action.take() };
    release(armed);
    // SAFETY: the GIL is held in the hub.
    let py = unsafe { Python::assume_attached() };
    let Some(thread) = PyThread::try_current() else {
        return;
    };
    match action {
        None => {}
        Some(Action::Throw { target, exception }) => {
            hub::throw_from_hub(thread, target, exception.into_ptr());
            target.decref();
        }
        Some(Action::Call { function, args }) => {
            if let Err(error) = function.bind(py).call1(args.bind(py)) {
                hub::report(py, thread, Some(function.bind(py)), error);
            }
        }
    }
    thread.reap();
}

/// Throws `exception` into `target` in `seconds`.
#[pyfunction]
pub(crate) fn throw_later(
    py: Python<'_>,
    seconds: f64,
    target: &Bound<'_, PyAny>,
    exception: Bound<'_, PyAny>,
) -> PyResult<Timer> {
    if !greenlet::is_greenlet(target.as_ptr()) {
        return Err(PyTypeError::new_err(format!(
            "expected a greenlet, not {}",
            target.get_type().name()?
        )));
    }
    let made = greenlet::exception_from(
        exception.as_ptr(),
        std::ptr::null_mut(),
        std::ptr::null_mut(),
    );
    // SAFETY: a new reference, or NULL with an error set.
    let exception = unsafe { Bound::from_owned_ptr_or_err(py, made)? };
    let target = GreenletRef::new(target.as_ptr());
    target.incref();
    let action = Action::Throw {
        target,
        exception: exception.unbind(),
    };
    arm(py, seconds, action)
}

/// Calls `function(*args)` in the hub in `seconds`.
#[pyfunction]
#[pyo3(signature = (seconds, function, *args))]
pub(crate) fn call_later(
    py: Python<'_>,
    seconds: f64,
    function: Bound<'_, PyAny>,
    args: Bound<'_, PyTuple>,
) -> PyResult<Timer> {
    let action = Action::Call {
        function: function.unbind(),
        args: args.unbind(),
    };
    arm(py, seconds, action)
}

/// Calls `function(*args)` in the hub of this thread, in its next turn.
#[pyfunction]
#[pyo3(signature = (function, *args))]
pub(crate) fn call_soon(
    py: Python<'_>,
    function: Bound<'_, PyAny>,
    args: Bound<'_, PyTuple>,
) -> PyResult<()> {
    let armed = Box::into_raw(Box::new(Armed {
        action: Cell::new(Some(Action::Call {
            function: function.unbind(),
            args: args.unbind(),
        })),
        holders: Cell::new(1),
    }));
    hub::current(py)?.call_soon((fire, armed.cast()));
    Ok(())
}

#[pymethods]
impl Timer {
    /// Whether it has neither fired nor been cancelled.
    #[getter]
    fn pending(&self) -> bool {
        let armed = self.armed();
        let action = armed.action.take();
        let pending = action.is_some();
        armed.action.set(action);
        pending
    }

    /// Keeps it from firing; False when it has fired or was cancelled before.
    fn cancel(&self) -> bool {
        let action = self.armed().action.take();
        if action.is_none() {
            return false;
        }
        if self.hub.cancel_timer(self.id) {
            release(self.armed);
        }
        if let Some(Action::Throw { target, .. }) = &action {
            target.decref();
        }
        drop(action);
        true
    }
}
