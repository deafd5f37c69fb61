//! The methods of sockets that wait.

use std::{ffi::CStr, ptr};

use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    ffi,
    ffi::PyObject,
    prelude::*,
    types::PyTuple,
};
use rgevent_runtime::hub::Interest;

use super::{
    Socket, Waits, address, arguments,
    buffer::{FreshBytes, View},
    parse_timeout, repeat,
};
use crate::errors;

type Fast =
    unsafe extern "C" fn(*mut PyObject, *mut *mut PyObject, ffi::Py_ssize_t) -> *mut PyObject;

/// Receives of at most this size read straight into the result; larger ones through a buffer on
/// the stack first, so that a short answer does not cost a large allocation.
const DIRECT_RECV_MAX: usize = 16 * 1024;

/// The table of methods, for the type.
pub(super) fn methods() -> *mut ffi::PyMethodDef {
    fn method(name: &'static CStr, function: Fast, doc: &'static CStr) -> ffi::PyMethodDef {
        ffi::PyMethodDef {
            ml_name: name.as_ptr(),
            ml_meth: ffi::PyMethodDefPointer {
                PyCFunctionFast: function,
            },
            ml_flags: ffi::METH_FASTCALL,
            ml_doc: doc.as_ptr(),
        }
    }
    Box::leak(Box::new([
        method(
            c"recv",
            recv,
            c"recv(bufsize, flags=0, /) -> bytes, empty at the end",
        ),
        method(
            c"recv_into",
            recv_into,
            c"recv_into(buffer, nbytes=0, flags=0, /) -> count, 0 at the end",
        ),
        method(
            c"send",
            send,
            c"send(data, flags=0, /) -> count of bytes taken",
        ),
        method(
            c"sendall",
            sendall,
            c"sendall(data, flags=0, /): send all of it",
        ),
        method(c"_accept", accept, c"_accept() -> (fd, address)"),
        method(
            c"settimeout",
            settimeout,
            c"settimeout(seconds, /): None waits without limit",
        ),
        method(
            c"gettimeout",
            gettimeout,
            c"gettimeout() -> seconds, or None",
        ),
        method(
            c"setblocking",
            setblocking,
            c"setblocking(flag, /): settimeout(None or 0.0)",
        ),
        method(
            c"getblocking",
            getblocking,
            c"getblocking() -> whether operations may wait",
        ),
        method(c"_attach", attach, c"_attach(fd): the socket is open"),
        method(
            c"_forget",
            forget,
            c"_forget(): the socket is about to be closed or given away",
        ),
        method(
            c"_wait",
            wait,
            c"_wait(events): 1 for reading, 2 for writing; after EAGAIN only",
        ),
        ffi::PyMethodDef::zeroed(),
    ]))
    .as_mut_ptr()
}

/// Runs the body of a method and raises its error.
fn answer(body: impl FnOnce(Python<'_>) -> PyResult<*mut PyObject>) -> *mut PyObject {
    // SAFETY: the interpreter calls methods with the GIL held.
    let py = unsafe { Python::assume_attached() };
    match body(py) {
        Ok(object) => object,
        Err(error) => errors::raise(error),
    }
}

fn none(py: Python<'_>) -> *mut PyObject {
    py.None().into_ptr()
}

fn number(py: Python<'_>, value: usize) -> *mut PyObject {
    // SAFETY: the GIL is held.
    let object = unsafe { ffi::PyLong_FromSize_t(value) };
    let _ = py;
    object
}

/// `args[index]` as an integer, or `default`.
fn integer(args: &Bound<'_, PyTuple>, index: usize, default: i64) -> PyResult<i64> {
    match args.get_item(index) {
        Ok(value) => value.extract(),
        Err(_) => Ok(default),
    }
}

fn expect(args: &Bound<'_, PyTuple>, name: &str, least: usize, most: usize) -> PyResult<()> {
    if (least..=most).contains(&args.len()) {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!(
        "{name}() takes {least} to {most} positional arguments but {} were given",
        args.len()
    )))
}

unsafe extern "C" fn recv(
    object: *mut PyObject,
    args: *mut *mut PyObject,
    count: ffi::Py_ssize_t,
) -> *mut PyObject {
    answer(|py| {
        let args = arguments(py, args, count)?;
        expect(&args, "recv", 1, 2)?;
        let size = usize::try_from(integer(&args, 0, 0)?)
            .map_err(|_| PyValueError::new_err("negative buffersize in recv"))?;
        let flags = integer(&args, 1, 0)? as i32;
        let socket = Socket(object);
        let mut waits = Waits::new();
        if size <= DIRECT_RECV_MAX {
            let bytes = FreshBytes::new(py, size)?;
            let got = repeat(py, socket, Interest::READ, &mut waits, |fd| {
                // SAFETY: `size` bytes of a fresh object.
                unsafe { libc::recv(fd, bytes.start().cast(), size, flags) }
            })?;
            return Ok(bytes.finish(size, got));
        }
        // Wait for something with an empty look, then read what is there into the result.
        let mut first = [0u8; DIRECT_RECV_MAX];
        let got = repeat(py, socket, Interest::READ, &mut waits, |fd| {
            // SAFETY: a buffer of ours of this size.
            unsafe { libc::recv(fd, first.as_mut_ptr().cast(), first.len(), flags) }
        })?;
        let keeps = flags & (libc::MSG_PEEK | libc::MSG_WAITALL) != 0;
        if got < first.len() && !keeps {
            // SAFETY: `got` bytes were read.
            let bytes = unsafe {
                ffi::PyBytes_FromStringAndSize(first.as_ptr().cast(), got as ffi::Py_ssize_t)
            };
            return Ok(bytes);
        }
        let bytes = FreshBytes::new(py, size)?;
        let mut filled = 0;
        if !keeps {
            // SAFETY: the result is larger than the buffer.
            unsafe { ptr::copy_nonoverlapping(first.as_ptr(), bytes.start(), got) };
            filled = got;
        }
        let rest = if keeps {
            repeat(py, socket, Interest::READ, &mut waits, |fd| {
                // SAFETY: `size` bytes of a fresh object.
                unsafe { libc::recv(fd, bytes.start().cast(), size, flags) }
            })?
        } else {
            let start = bytes.start().wrapping_add(filled);
            let fd = socket.fd()?;
            // SAFETY: what is left of a fresh object. A failure leaves what was read before.
            let more = unsafe { libc::recv(fd, start.cast(), size - filled, flags) };
            usize::try_from(more).unwrap_or(0)
        };
        filled += rest;
        Ok(bytes.finish(size, filled))
    })
}

unsafe extern "C" fn recv_into(
    object: *mut PyObject,
    args: *mut *mut PyObject,
    count: ffi::Py_ssize_t,
) -> *mut PyObject {
    answer(|py| {
        let args = arguments(py, args, count)?;
        expect(&args, "recv_into", 1, 3)?;
        let view = View::writable(py, args.get_item(0)?.as_ptr())?;
        let wanted = usize::try_from(integer(&args, 1, 0)?)
            .map_err(|_| PyValueError::new_err("negative buffersize in recv_into"))?;
        let flags = integer(&args, 2, 0)? as i32;
        if wanted > view.len() {
            return Err(PyValueError::new_err(
                "buffer too small for requested bytes",
            ));
        }
        let size = if wanted == 0 { view.len() } else { wanted };
        let got = repeat(
            py,
            Socket(object),
            Interest::READ,
            &mut Waits::new(),
            |fd| {
                // SAFETY: the view keeps at least `size` writable bytes in place.
                unsafe { libc::recv(fd, view.start().cast(), size, flags) }
            },
        )?;
        Ok(number(py, got))
    })
}

unsafe extern "C" fn send(
    object: *mut PyObject,
    args: *mut *mut PyObject,
    count: ffi::Py_ssize_t,
) -> *mut PyObject {
    answer(|py| {
        let args = arguments(py, args, count)?;
        expect(&args, "send", 1, 2)?;
        let view = View::readable(py, args.get_item(0)?.as_ptr())?;
        let flags = integer(&args, 1, 0)? as i32 | libc::MSG_NOSIGNAL;
        let sent = repeat(
            py,
            Socket(object),
            Interest::WRITE,
            &mut Waits::new(),
            |fd| {
                // SAFETY: the view keeps its bytes in place.
                unsafe { libc::send(fd, view.start().cast(), view.len(), flags) }
            },
        )?;
        Ok(number(py, sent))
    })
}

unsafe extern "C" fn sendall(
    object: *mut PyObject,
    args: *mut *mut PyObject,
    count: ffi::Py_ssize_t,
) -> *mut PyObject {
    answer(|py| {
        let args = arguments(py, args, count)?;
        expect(&args, "sendall", 1, 2)?;
        let view = View::readable(py, args.get_item(0)?.as_ptr())?;
        let flags = integer(&args, 1, 0)? as i32 | libc::MSG_NOSIGNAL;
        // One deadline for the whole of it, as the standard library has it.
        let mut waits = Waits::new();
        let mut done = 0;
        while done < view.len() {
            done += repeat(py, Socket(object), Interest::WRITE, &mut waits, |fd| {
                let start = view.start().wrapping_add(done);
                // SAFETY: what is left of the view's bytes.
                unsafe { libc::send(fd, start.cast(), view.len() - done, flags) }
            })?;
        }
        Ok(none(py))
    })
}

unsafe extern "C" fn accept(
    object: *mut PyObject,
    _args: *mut *mut PyObject,
    _count: ffi::Py_ssize_t,
) -> *mut PyObject {
    answer(|py| {
        let mut storage = std::mem::MaybeUninit::<libc::sockaddr_storage>::zeroed();
        let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        let fd = repeat(
            py,
            Socket(object),
            Interest::READ,
            &mut Waits::new(),
            |fd| {
                length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
                // SAFETY: memory of this length for the address.
                unsafe { accept_closing_on_exec(fd, storage.as_mut_ptr().cast(), &mut length) }
            },
        )?;
        // SAFETY: zeroed at first, and filled in by the call.
        let storage = unsafe { storage.assume_init() };
        let address = match address(py, &storage, length)? {
            Some(address) => address,
            None => match address_by_name(py, fd) {
                Ok(address) => address,
                Err(error) => {
                    // SAFETY: accepted above, and nobody else knows it.
                    unsafe { libc::close(fd as i32) };
                    return Err(error);
                }
            },
        };
        Ok((fd, address).into_pyobject(py)?.into_ptr())
    })
}

/// `accept` with the new fd non-blocking and not inherited.
///
/// # Safety
/// As `accept`: `storage` has room for `length` bytes.
unsafe fn accept_closing_on_exec(
    fd: i32,
    storage: *mut libc::sockaddr,
    length: &mut libc::socklen_t,
) -> isize {
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    {
        // SAFETY: the caller's promise.
        let new = unsafe {
            libc::accept4(
                fd,
                storage,
                length,
                libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            )
        };
        new as isize
    }
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    {
        // SAFETY: the caller's promise.
        let new = unsafe { libc::accept(fd, storage, length) };
        if new >= 0 {
            // SAFETY: an fd of ours.
            unsafe { libc::fcntl(new, libc::F_SETFD, libc::FD_CLOEXEC) };
            // SAFETY: as above.
            unsafe { libc::fcntl(new, libc::F_SETFL, libc::O_NONBLOCK) };
        }
        new as isize
    }
}

/// Asks the standard library for a peer's address, for the rarer families.
fn address_by_name(py: Python<'_>, fd: usize) -> PyResult<Bound<'_, PyAny>> {
    let kwargs = pyo3::types::PyDict::new(py);
    kwargs.set_item("fileno", fd)?;
    let socket = py
        .import("_socket")?
        .getattr("socket")?
        .call((), Some(&kwargs))?;
    let address = socket.call_method0("getpeername");
    socket.call_method0("detach")?;
    address
}

unsafe extern "C" fn settimeout(
    object: *mut PyObject,
    args: *mut *mut PyObject,
    count: ffi::Py_ssize_t,
) -> *mut PyObject {
    answer(|py| {
        let args = arguments(py, args, count)?;
        expect(&args, "settimeout", 1, 1)?;
        let timeout = parse_timeout(&args.get_item(0)?)?;
        set_timeout(Socket(object), timeout);
        Ok(none(py))
    })
}

fn set_timeout(socket: Socket, timeout: Option<f64>) {
    socket.set(|extra| {
        extra.has_timeout = timeout.is_some();
        extra.timeout_seconds = timeout.unwrap_or(0.0);
    });
}

unsafe extern "C" fn gettimeout(
    object: *mut PyObject,
    _args: *mut *mut PyObject,
    _count: ffi::Py_ssize_t,
) -> *mut PyObject {
    answer(|py| Ok(Socket(object).timeout().into_pyobject(py)?.into_ptr()))
}

unsafe extern "C" fn setblocking(
    object: *mut PyObject,
    args: *mut *mut PyObject,
    count: ffi::Py_ssize_t,
) -> *mut PyObject {
    answer(|py| {
        let args = arguments(py, args, count)?;
        expect(&args, "setblocking", 1, 1)?;
        let blocking = args.get_item(0)?.is_truthy()?;
        set_timeout(Socket(object), if blocking { None } else { Some(0.0) });
        Ok(none(py))
    })
}

unsafe extern "C" fn getblocking(
    object: *mut PyObject,
    _args: *mut *mut PyObject,
    _count: ffi::Py_ssize_t,
) -> *mut PyObject {
    answer(|py| {
        let blocking = Socket(object).timeout() != Some(0.0);
        Ok(blocking.into_pyobject(py)?.to_owned().into_any().into_ptr())
    })
}

unsafe extern "C" fn attach(
    object: *mut PyObject,
    args: *mut *mut PyObject,
    count: ffi::Py_ssize_t,
) -> *mut PyObject {
    answer(|py| {
        let args = arguments(py, args, count)?;
        expect(&args, "_attach", 1, 1)?;
        let fd = integer(&args, 0, -1)? as i32;
        Socket(object).set(|extra| {
            extra.fd_plus_one = fd + 1;
            extra.source = None;
        });
        Ok(none(py))
    })
}

unsafe extern "C" fn forget(
    object: *mut PyObject,
    _args: *mut *mut PyObject,
    _count: ffi::Py_ssize_t,
) -> *mut PyObject {
    answer(|py| {
        Socket(object).forget();
        Ok(none(py))
    })
}

unsafe extern "C" fn wait(
    object: *mut PyObject,
    args: *mut *mut PyObject,
    count: ffi::Py_ssize_t,
) -> *mut PyObject {
    answer(|py| {
        let args = arguments(py, args, count)?;
        expect(&args, "_wait", 1, 1)?;
        let events = integer(&args, 0, 0)?;
        let interest = Interest {
            read: events & 1 != 0,
            write: events & 2 != 0,
        };
        Waits::new().wait(py, Socket(object), interest)?;
        Ok(none(py))
    })
}
