//! Sockets: the type under `rgevent.socket.socket`.
//!
//! It is a subclass of the standard library's own `socket.socket`, made natively, so that everything
//! about addresses, options and files is inherited, and objects are what libraries test for. The
//! file descriptor is non-blocking from the start; the timeout the user sees is kept here. Each
//! operation tries the call and parks in the hub when it would block; no exception is made for that.

mod buffer;
mod io;

use std::{
    ffi::{c_int, c_void},
    os::fd::RawFd,
    ptr,
    sync::OnceLock,
    time::Duration,
};

use pyo3::{
    exceptions::{PyOSError, PyTimeoutError, PyTypeError, PyValueError},
    ffi,
    ffi::PyObject,
    prelude::*,
    types::{PyTuple, PyType},
};
use rgevent_runtime::{
    WaitError,
    coroutine::Thread,
    hub::{Deadline, Hub, Interest, SourceId, WaitFdError},
};

use crate::{hub, thread::PyThread, wait};

/// Operations of one thread that may succeed one after the other before others get a turn.
const OPERATIONS_UNTIL_YIELD: u32 = 128;

/// What a socket object has beyond the standard one, right behind it. Plain data, zero at first:
/// the inherited deallocation knows nothing of it.
#[repr(C)]
struct Extra {
    /// The file descriptor plus one; 0 when there is none.
    fd_plus_one: c_int,
    has_timeout: bool,
    timeout_seconds: f64,
    /// The thread in whose hub `source` is; NULL for none.
    thread: *const Thread,
    source: Option<SourceId>,
}

/// Where `Extra` begins: the size of the class above.
static EXTRA_OFFSET: OnceLock<usize> = OnceLock::new();

/// `tp_finalize` of the class above.
static BASE_FINALIZER: OnceLock<Option<ffi::destructor>> = OnceLock::new();

/// A socket object, alive during a call.
#[derive(Clone, Copy)]
struct Socket(*mut PyObject);

impl Socket {
    fn extra(self) -> *mut Extra {
        let offset = *EXTRA_OFFSET.get().expect("the type exists");
        self.0.wrapping_byte_add(offset).cast()
    }

    /// Reads a field.
    fn get<T>(self, field: impl FnOnce(&Extra) -> T) -> T {
        // SAFETY: the object is of our type, so its `Extra` is there; the GIL is held.
        field(unsafe { &*self.extra() })
    }

    /// Writes a field.
    fn set(self, change: impl FnOnce(&mut Extra)) {
        // SAFETY: as above, and `change` runs no other code.
        change(unsafe { &mut *self.extra() });
    }

    /// The file descriptor.
    ///
    /// # Errors
    /// `EBADF` for a closed socket.
    fn fd(self) -> PyResult<RawFd> {
        match self.get(|extra| extra.fd_plus_one) {
            0 => Err(os_error(libc::EBADF)),
            fd => Ok(fd - 1),
        }
    }

    /// Takes it out of its hub; whoever waits for it fails.
    fn forget(self) {
        let (thread, source) = self.get(|extra| (extra.thread, extra.source));
        self.set(|extra| {
            extra.fd_plus_one = 0;
            extra.source = None;
        });
        // SAFETY: runtime threads are never freed.
        let thread = unsafe { thread.as_ref() };
        if let (Some(thread), Some(source)) = (thread, source)
            && let Some(hub) = thread.try_hub()
        {
            // Also from another thread: the GIL keeps that hub from running, and whoever waits
            // there is woken through its inbox.
            hub.remove_source(source);
        }
    }

    fn timeout(self) -> Option<f64> {
        self.get(|extra| extra.has_timeout.then_some(extra.timeout_seconds))
    }

    /// Its entry in the hub, made on first use. None in a thread other than the first one's.
    fn source(self, hub: &'static Hub, fd: RawFd) -> Option<SourceId> {
        let thread: *const Thread = hub.thread();
        let (home, source) = self.get(|extra| (extra.thread, extra.source));
        if source.is_some() {
            return source.filter(|_| ptr::eq(home, thread));
        }
        let source = hub.add_source(fd);
        self.set(|extra| {
            extra.thread = thread;
            extra.source = Some(source);
        });
        Some(source)
    }
}

/// An `OSError`, of the subclass that belongs to the number.
pub(crate) fn os_error(number: c_int) -> PyErr {
    let text = std::io::Error::from_raw_os_error(number).to_string();
    let text = text
        .split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned();
    PyOSError::new_err((number, text))
}

/// Waits of one operation: the deadline is set at the first.
struct Waits {
    deadline: Option<Deadline>,
    begun: bool,
}

impl Waits {
    fn new() -> Self {
        Self {
            deadline: None,
            begun: false,
        }
    }

    /// Parks until the socket may be ready; the operation has just said `EAGAIN`.
    ///
    /// # Errors
    /// `BlockingIOError` for a socket that must not block, `TimeoutError`, `EBADF` when it was
    /// closed meanwhile, or what else ended the wait.
    fn wait(&mut self, py: Python<'_>, socket: Socket, interest: Interest) -> PyResult<()> {
        let timeout = socket.timeout();
        if timeout == Some(0.0) {
            return Err(os_error(libc::EAGAIN));
        }
        let fd = socket.fd()?;
        let hub = hub::current(py)?;
        if !self.begun {
            self.begun = true;
            self.deadline = wait::deadline(hub, timeout)?;
        }
        let result = match socket.source(hub, fd) {
            Some(source) => hub.wait_source(source, interest, self.deadline),
            None => hub.wait_fd(fd, interest, self.deadline),
        };
        finish_wait(py, result)
    }
}

/// What the end of a wait for an fd means to Python.
pub(crate) fn finish_wait(py: Python<'_>, result: Result<(), WaitFdError>) -> PyResult<()> {
    let result = match result {
        Err(WaitFdError::Io(error)) => {
            return Err(os_error(error.raw_os_error().unwrap_or(libc::EIO)));
        }
        Err(WaitFdError::Wait(WaitError::Closed)) => {
            wait::outcome(py, Ok(()))?;
            return Err(PyOSError::new_err((
                libc::EBADF,
                "File descriptor was closed in another greenlet",
            )));
        }
        Err(WaitFdError::Wait(error)) => Err(error),
        Ok(()) => Ok(()),
    };
    if wait::outcome(py, result)? {
        Ok(())
    } else {
        Err(PyTimeoutError::new_err("timed out"))
    }
}

/// Counts an operation that did not block.
fn count_operation() {
    if let Some(thread) = PyThread::try_current() {
        thread.busy.set(thread.busy.get() + 1);
    }
}

/// Gives others a turn after many operations that did not block. Comes before an operation, never
/// after one: a greenlet that is killed here has not received anything that would be lost.
fn be_fair(py: Python<'_>) -> PyResult<()> {
    let thread = PyThread::try_current();
    let Some(thread) = thread.filter(|thread| thread.busy.get() >= OPERATIONS_UNTIL_YIELD) else {
        return Ok(());
    };
    thread.busy.set(0);
    let hub = hub::current(py)?;
    if hub.thread().current() == hub.coroutine() {
        return Ok(());
    }
    wait::outcome(py, hub.yield_now()).map(drop)
}

/// Repeats a system call until it does not fail with `EINTR` or `EAGAIN`; answers what it returned.
fn repeat(
    py: Python<'_>,
    socket: Socket,
    interest: Interest,
    waits: &mut Waits,
    mut call: impl FnMut(RawFd) -> isize,
) -> PyResult<usize> {
    let may_wait = socket.timeout() != Some(0.0);
    if may_wait {
        be_fair(py)?;
    }
    loop {
        let result = call(socket.fd()?);
        if let Ok(count) = usize::try_from(result) {
            if may_wait && !waits.begun {
                count_operation();
            }
            return Ok(count);
        }
        match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::EINTR) => py.check_signals()?,
            Some(libc::EAGAIN) => waits.wait(py, socket, interest)?,
            number => return Err(os_error(number.unwrap_or(libc::EIO))),
        }
    }
}

/// Makes the type, once, over the standard library's class.
#[pyfunction]
pub(crate) fn make_socket_type<'py>(base: &Bound<'py, PyType>) -> PyResult<Bound<'py, PyType>> {
    let py = base.py();
    let class: *mut ffi::PyTypeObject = base.as_ptr().cast();
    // SAFETY: a live type.
    let base_bytes = unsafe { (*class).tp_basicsize } as usize;
    // SAFETY: as above.
    BASE_FINALIZER.get_or_init(|| unsafe { (*class).tp_finalize });
    let offset = base_bytes.next_multiple_of(align_of::<Extra>());
    if EXTRA_OFFSET.set(offset).is_err() {
        return Err(PyValueError::new_err("the socket type exists already"));
    }
    let slots = Box::leak(Box::new([
        ffi::PyType_Slot {
            slot: ffi::Py_tp_finalize,
            pfunc: finalize as *mut c_void,
        },
        ffi::PyType_Slot {
            slot: ffi::Py_tp_methods,
            pfunc: io::methods().cast::<c_void>(),
        },
        ffi::PyType_Slot {
            slot: 0,
            pfunc: ptr::null_mut(),
        },
    ]));
    let flags = ffi::Py_TPFLAGS_DEFAULT | ffi::Py_TPFLAGS_BASETYPE;
    let spec = Box::leak(Box::new(ffi::PyType_Spec {
        name: c"rgevent._rgevent.Socket".as_ptr(),
        basicsize: (offset + size_of::<Extra>()) as c_int,
        itemsize: 0,
        flags: flags as std::ffi::c_uint,
        slots: slots.as_mut_ptr(),
    }));
    // SAFETY: a spec that lives for ever; a base whose instances ours begin with.
    let made = unsafe { ffi::PyType_FromSpecWithBases(spec, base.as_ptr()) };
    // SAFETY: a new reference, or NULL with an error set.
    let made = unsafe { Bound::from_owned_ptr_or_err(py, made)? };
    Ok(made.cast_into::<PyType>()?)
}

/// A socket that is dropped without being closed: the hub forgets it, then the standard finalizer
/// warns and closes it.
unsafe extern "C" fn finalize(object: *mut PyObject) {
    Socket(object).forget();
    if let Some(Some(base)) = BASE_FINALIZER.get() {
        // SAFETY: the finalizer of the class ours is made from.
        unsafe { base(object) };
    }
}

/// The time a user gave as a timeout: None, or seconds.
fn parse_timeout(value: &Bound<'_, PyAny>) -> PyResult<Option<f64>> {
    if value.is_none() {
        return Ok(None);
    }
    let seconds: f64 = value.extract().map_err(|_| {
        PyTypeError::new_err(format!(
            "timeout must be None or a number of seconds, not {:?}",
            value
                .get_type()
                .name()
                .map(|name| name.to_string())
                .unwrap_or_default()
        ))
    })?;
    if seconds < 0.0 {
        return Err(PyValueError::new_err("Timeout value out of range"));
    }
    Duration::try_from_secs_f64(seconds)
        .map_err(|_| PyValueError::new_err("Timeout value out of range"))?;
    Ok(Some(seconds))
}

/// Address of a peer as Python shows it, for the families whose form is fixed.
fn address<'py>(
    py: Python<'py>,
    storage: &libc::sockaddr_storage,
    length: libc::socklen_t,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let at = ptr::from_ref(storage);
    match c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that this is what the storage holds.
            let inet = unsafe { &*at.cast::<libc::sockaddr_in>() };
            let host = std::net::Ipv4Addr::from(u32::from_be(inet.sin_addr.s_addr));
            let pair = (host.to_string(), u16::from_be(inet.sin_port));
            Ok(Some(pair.into_pyobject(py)?.into_any()))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let inet = unsafe { &*at.cast::<libc::sockaddr_in6>() };
            if inet.sin6_scope_id != 0 {
                return Ok(None);
            }
            let host = std::net::Ipv6Addr::from(inet.sin6_addr.s6_addr);
            let parts = (
                host.to_string(),
                u16::from_be(inet.sin6_port),
                u32::from_be(inet.sin6_flowinfo),
                inet.sin6_scope_id,
            );
            Ok(Some(parts.into_pyobject(py)?.into_any()))
        }
        // An unnamed peer, as nearly all are.
        libc::AF_UNIX if length as usize <= size_of::<libc::sa_family_t>() => {
            Ok(Some("".into_pyobject(py)?.into_any()))
        }
        _ => Ok(None),
    }
}

/// Arguments of a method call.
fn arguments<'py>(
    py: Python<'py>,
    args: *mut *mut PyObject,
    count: ffi::Py_ssize_t,
) -> PyResult<Bound<'py, PyTuple>> {
    let items = (0..count).map(|index| {
        // SAFETY: `args` has `count` items.
        let item = unsafe { args.wrapping_offset(index).read() };
        // SAFETY: a live object.
        unsafe { Bound::from_borrowed_ptr(py, item) }
    });
    PyTuple::new(py, items.collect::<Vec<_>>())
}
