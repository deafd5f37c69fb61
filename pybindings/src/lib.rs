//! The extension module behind the Python package `rgevent`.

mod call;
mod config;
mod errors;
mod event;
mod exceptions;
mod gil_cell;
mod globals;
mod greenlet;
mod hub;
mod ident;
mod links;
mod local;
mod lock;
mod permits;
mod queue;
mod resolver;
mod result;
mod select;
mod semaphore;
mod socket;
mod store;
mod task;
mod thread;
mod threadpool;
mod timer;
mod tstate;
mod wait;

use pyo3::{
    exceptions::{PyImportError, PyValueError},
    ffi,
    prelude::*,
};

/// Refuses interpreters on which the rest would be wrong.
fn check_interpreter() -> PyResult<()> {
    // SAFETY: the GIL is held.
    let here = unsafe { ffi::PyInterpreterState_Get() };
    // SAFETY: as above.
    if here != unsafe { ffi::PyInterpreterState_Main() } {
        return Err(PyImportError::new_err(
            "rgevent does not run in subinterpreters: import it in the main interpreter",
        ));
    }
    // SAFETY: the GIL is held.
    let ts = unsafe { ffi::PyThreadState_Get() };
    // SAFETY: the current thread state.
    unsafe { tstate::check_layout(ts) }.map_err(|why| {
        PyImportError::new_err(format!(
            "rgevent was built for another build of CPython than {}: {why}. Supported are CPython \
             3.11 to 3.15 with the GIL; reinstall rgevent for this interpreter",
            Python::version_str()
        ))
    })?;
    config::read_environment().map_err(PyValueError::new_err)
}

/// Native parts of rgevent; use the modules of the package.
#[pymodule(name = "_rgevent")]
mod module {
    use super::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        check_interpreter()?;
        globals::init(py)?;
        let globals = globals::globals();
        module.add("greenlet", globals.greenlet_class(py))?;
        module.add("GreenletBase", globals.task_base(py))?;
        module.add("local", local::make_type(py)?)?;
        module.add("_C_API", greenlet::make_capsule(py)?)?;
        // The greenlet package has them on its type, too.
        for name in ["getcurrent", "gettrace", "settrace"] {
            globals
                .greenlet_class(py)
                .setattr(name, module.getattr(name)?)?;
        }
        greenlet::finish_type(py, globals)?;
        module.add("error", globals.error_class(py))?;
        module.add("GreenletExit", globals.exit_class(py))?;
        module.add("LoopExit", py.get_type::<exceptions::LoopExit>())?;
        module.add(
            "BlockingSwitchOutError",
            py.get_type::<exceptions::BlockingSwitchOutError>(),
        )?;
        module.add(
            "InvalidSwitchError",
            py.get_type::<exceptions::InvalidSwitchError>(),
        )?;
        module.add(
            "ConcurrentObjectUseError",
            py.get_type::<exceptions::ConcurrentObjectUseError>(),
        )?;
        Ok(())
    }

    #[pymodule_export]
    use super::{
        config::{get_stack_size, set_stack_size, stack_counts},
        event::Event,
        greenlet::{gettrace, settrace},
        hub::{get_hub, get_hub_if_exists, reinit_after_fork, set_hub_class},
        ident::{get_ident, get_native_ident, write_unraisable},
        lock::{Lock, RLock},
        queue::{LifoQueue, PriorityQueue, Queue, SimpleQueue},
        resolver::getaddrinfo,
        result::AsyncResult,
        select::{cancel_fd, wait_fd, wait_fds},
        semaphore::{BoundedSemaphore, Semaphore},
        socket::make_socket_type,
        task::{
            set_greenlet_class, task_get, task_has_links, task_join, task_kill, task_link,
            task_spawn, task_start, task_unlink, task_unlink_all,
        },
        thread::{set_thread_local, thread_counts},
        threadpool::run_in_thread,
        timer::{Timer, call_later, call_soon, throw_later},
        wait::sleep,
    };

    /// How deep deallocations are nested at the moment.
    #[cfg(not(Py_3_13))]
    #[pyfunction]
    fn trash_nesting(_py: Python<'_>) -> i32 {
        // SAFETY: the GIL is held.
        let ts = unsafe { ffi::PyThreadState_Get() };
        // SAFETY: the current thread state, whose layout was checked at import.
        unsafe { tstate::trash_nesting(ts) }
    }

    /// The greenlet that is running.
    #[pyfunction]
    fn getcurrent(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        greenlet::getcurrent(py)
    }
}
